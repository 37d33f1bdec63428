#include "api/header.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "media/sha256.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static const char *skip_blanks(const char *s)
{
    while (is_blank(*s)) {
        s++;
    }
    return s;
}

/* Length of s[0, len) without blanks at its end. */
static size_t trim_end(const char *s, size_t len)
{
    while (len > 0 && is_blank(s[len - 1])) {
        len--;
    }
    return len;
}

/* s[0, len) equals text, whatever the case. */
static bool equals(const char *s, size_t len, const char *text)
{
    return strlen(text) == len && strncasecmp(s, text, len) == 0;
}

bool header_etag_matches(const char *list, const char *etag)
{
    const size_t len = strlen(etag);

    if (!list) {
        return false;
    }
    for (const char *s = skip_blanks(list); *s != '\0';) {
        const char *end;

        if (*s == '*') {
            return true;
        }
        if (strncmp(s, "W/", 2) == 0) {
            s += 2;
        }
        end = *s == '"' ? strchr(s + 1, '"') : NULL;
        if (!end) {
            return false;
        }
        end++;
        if ((size_t)(end - s) == len && memcmp(s, etag, len) == 0) {
            return true;
        }
        s = skip_blanks(end);
        if (*s == ',') {
            s = skip_blanks(s + 1);
        }
    }
    return false;
}

/* ---- Accept ---- */

/* How specific s[0, len), "type/subtype" or with asterisks, names it: 0 not at all, 3 exactly. */
static int specificity(const char *s, size_t len, const char *type, const char *subtype)
{
    const char *slash = memchr(s, '/', len);
    size_t type_len;

    if (!slash) {
        return 0;
    }
    type_len = (size_t)(slash - s);
    len -= type_len + 1;
    if (equals(s, type_len, "*") && equals(slash + 1, len, "*")) {
        return 1;
    }
    if (!equals(s, type_len, type)) {
        return 0;
    }
    if (equals(slash + 1, len, "*")) {
        return 2;
    }
    return equals(slash + 1, len, subtype) ? 3 : 0;
}

/* Is there a parameter q that is zero among s[0, len), which begins with ';' or is empty? */
static bool is_refused(const char *s, size_t len)
{
    const char *const end = s + len;

    while (s < end && *s == ';') {
        const char *next = memchr(s + 1, ';', (size_t)(end - s - 1));

        s = skip_blanks(s + 1);
        if ((*s == 'q' || *s == 'Q') && s[1] == '=') {
            return strtod(s + 2, NULL) <= 0;
        }
        s = next ? next : end;
    }
    return false;
}

bool header_accepts(const char *accept, const char *type, const char *subtype)
{
    int best = 0;
    bool ret = false;

    if (!accept || *skip_blanks(accept) == '\0') {
        return true;
    }
    for (const char *s = accept; *s != '\0';) {
        size_t name;
        int how;

        while (is_blank(*s)) {
            s++;
        }
        name = strcspn(s, ",;");
        how = specificity(s, trim_end(s, name), type, subtype);
        if (how > best) {
            best = how;
            ret = !is_refused(s + name, strcspn(s + name, ","));
        }
        s += strcspn(s, ",");
        s += *s == ',';
    }
    return ret;
}

bool header_is_type(const char *content_type, const char *media_type)
{
    if (!content_type) {
        return false;
    }
    content_type = skip_blanks(content_type);
    return equals(content_type, trim_end(content_type, strcspn(content_type, ";")), media_type);
}

/* ---- Prefer ---- */

/* The value of a preference in "a=1, b; c=2"; NULL if there is none. It ends at the next of ",; ". */
static const char *preference(const char *prefer, const char *name)
{
    const size_t len = strlen(name);

    for (const char *s = prefer; s && *s != '\0';) {
        s += strspn(s, " \t,;");
        if (strncasecmp(s, name, len) == 0 && *skip_blanks(s + len) == '=') {
            s = skip_blanks(skip_blanks(s + len) + 1);
            return s + (*s == '"');
        }
        s += strcspn(s, ",;");
    }
    return NULL;
}

int header_prefer_wait(const char *prefer)
{
    const char *value = preference(prefer, "wait");
    int ret = 0;

    if (!value || *value < '0' || *value > '9') {
        return -1;
    }
    for (; *value >= '0' && *value <= '9' && ret < 100000; value++) {
        ret = ret * 10 + (*value - '0');
    }
    return ret;
}

bool header_prefer_lenient(const char *prefer)
{
    const char *value = preference(prefer, "handling");

    return value && equals(value, strcspn(value, ",; \t\""), "lenient");
}

/* ---- others ---- */

bool header_number(const char *text, int64_t *ret)
{
    int64_t value = 0;

    if (!text || text[0] == '\0' || strlen(text) > 18) {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        value = value * 10 + (*text - '0');
    }
    *ret = value;
    return true;
}

bool header_key_valid(const char *key)
{
    const size_t len = strlen(key);

    for (size_t i = 0; i < len; i++) {
        if (key[i] < 0x20 || key[i] > 0x7e) {
            return false;
        }
    }
    return len >= 1 && len <= HEADER_KEY_MAX;
}

void header_date(int64_t unix_s, char ret[HEADER_DATE_SIZE])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const time_t t = (time_t)unix_s;
    struct tm tm = {0};

    gmtime_r(&t, &tm);
    snprintf(ret, HEADER_DATE_SIZE, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[tm.tm_wday % 7],
             (unsigned)tm.tm_mday % 100, months[tm.tm_mon % 12],
             ((unsigned)tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
             (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

/* Behind "Bearer " or "Key "; NULL: neither. */
static const char *token_of(const char *authorization)
{
    static const char *const schemes[] = {"Bearer ", "Key "};

    for (size_t i = 0; authorization && i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        const size_t len = strlen(schemes[i]);

        if (strncasecmp(authorization, schemes[i], len) == 0) {
            return skip_blanks(authorization + len);
        }
    }
    return NULL;
}

bool header_client(const char *authorization, const char *api_key, char ret[HEADER_CLIENT_SIZE])
{
    const char *token = token_of(authorization);
    char hex[SHA256_HEX];
    struct sha256 *hash;

    if (!token) {
        token = api_key;
    }
    ret[0] = '\0';
    if (!token || token[0] == '\0') {
        return true;
    }
    hash = sha256_create();
    if (!hash) {
        return false;
    }
    sha256_update(hash, token, strlen(token));
    sha256_final(hash, hex);
    sha256_free(hash);
    snprintf(ret, HEADER_CLIENT_SIZE, "%.16s", hex);
    return true;
}
