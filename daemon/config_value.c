#include "daemon/config_value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum {
    UNIX_PATH_MAX = 107, /* sockaddr_un.sun_path without its NUL */
};

/* From the largest down. */
struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit time_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0},
};

static const struct unit byte_units[] = {
    {"TiB", INT64_C(1) << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20},
    {"KiB", 1 << 10},          {"", 1},          {NULL, 0},
};

/* ---- text to values ---- */

bool config_value_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Length of the UTF-8 character at s, 0 if there is none: no overlong forms, no surrogates. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    const size_t len = s[0] < 0x80                   ? 1
                       : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                       : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                       : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                     : 0;

    if (len > n) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) {
        return 0;
    }
    return len;
}

bool config_value_is_text(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        const unsigned char *s = (const unsigned char *)text + i;
        const size_t len = utf8_length(s, n - i);

        if (len == 0 || (*s < 0x20 && *s != '\t') || *s == 0x7f) {
            return false;
        }
        i += len;
    }
    return true;
}

/* strtoll, which would also take leading blanks and a plus. */
static bool parse_digits(int64_t *ret, const char *text, char **ret_end)
{
    const char *digits = text[0] == '-' ? text + 1 : text;

    errno = 0;
    *ret = strtoll(text, ret_end, 10);
    return isdigit((unsigned char)*digits) && errno == 0;
}

static bool parse_units(int64_t *ret, const char *text, const struct unit *units, int64_t plain)
{
    int64_t n;
    char *end;

    if (!parse_digits(&n, text, &end)) {
        return false;
    }
    if (*end == '\0') {
        return count_mul(ret, n, plain);
    }
    for (; units->name; units++) {
        if (strcmp(end, units->name) == 0) {
            return count_mul(ret, n, units->factor);
        }
    }
    return false;
}

static bool set_whole(int64_t *field, const struct config_row *r, const char *text)
{
    int64_t v = 0;
    char *end;
    bool ok;

    if (r->type == CONFIG_DURATION) {
        ok = parse_units(&v, text, time_units, 1000);
    } else if (r->type == CONFIG_BYTES) {
        ok = parse_units(&v, text, byte_units, 1);
    } else {
        ok = parse_digits(&v, text, &end) && *end == '\0';
    }
    if (!ok || (double)v < r->min || (double)v > r->max) {
        return false;
    }
    *field = v;
    return true;
}

static bool set_number(double *field, const struct config_row *r, const char *text)
{
    char *end;
    double v;

    if (text[0] == '\0' || text[strspn(text, "-.0123456789")] != '\0') { /* no inf, nan, hex */
        return false;
    }
    v = strtod(text, &end);
    if (*end != '\0' || !(v >= r->min && v <= r->max)) {
        return false;
    }
    *field = v;
    return true;
}

static bool set_bool(bool *field, const char *text)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        return false;
    }
    *field = text[0] == 't';
    return true;
}

static bool set_choice(int *field, const struct config_row *r, const char *text)
{
    const size_t len = strlen(text);
    const char *choice = r->unit;

    for (int i = 0;; i++) {
        const size_t n = strcspn(choice, "|");

        if (n == len && strncmp(choice, text, n) == 0) {
            *field = i;
            return true;
        }
        if (choice[n] == '\0') {
            return false;
        }
        choice += n + 1;
    }
}

/* Bytes behind the end are zero, so that fields can be compared as bytes. */
static bool set_text(char *field, const struct config_row *r, const char *text)
{
    const size_t len = strlen(text);

    if ((double)len < r->min || (double)len > r->max) {
        return false;
    }
    memset(field, 0, r->size);
    memcpy(field, text, len + 1);
    return true;
}

static bool is_port(const char *text)
{
    int64_t port;
    char *end;

    return isdigit((unsigned char)text[0]) && parse_digits(&port, text, &end) && *end == '\0' &&
           port <= 65535;
}

/* text: up to the closing bracket. A zone, as in "fe80::1%eth0", is a matter of the machine. */
static bool is_ipv6(const char *text, size_t len)
{
    const char *zone = memchr(text, '%', len);
    const size_t n = zone ? (size_t)(zone - text) : len;
    struct in6_addr address;
    char plain[INET6_ADDRSTRLEN];

    if (n >= sizeof(plain) || (zone && n + 1 == len)) {
        return false;
    }
    memcpy(plain, text, n);
    plain[n] = '\0';
    return inet_pton(AF_INET6, plain, &address) == 1;
}

static bool is_address(const char *text)
{
    static const char host_chars[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
    const char *end;

    if (strncmp(text, "unix:", 5) == 0 && text[5] == '/') {
        return strlen(text + 5) <= UNIX_PATH_MAX;
    }
    if (text[0] == '[') {
        end = strchr(text, ']');
        return end && is_ipv6(text + 1, (size_t)(end - text - 1)) && end[1] == ':' &&
               is_port(end + 2);
    }
    end = text + strspn(text, host_chars);
    return end > text && *end == ':' && is_port(end + 1);
}

/* Adds each of a comma-separated list. */
static bool add_addresses(struct config_addresses *field, const struct config_row *r,
                          const char *text)
{
    for (;;) {
        const size_t n = strcspn(text, ",");
        const char *first = text;
        const char *end = text + n;
        char *to = field->text[field->n];

        while (first < end && config_value_is_blank(*first)) {
            first++;
        }
        while (end > first && config_value_is_blank(end[-1])) {
            end--;
        }
        if (field->n >= (int)r->max || end - first >= CONFIG_ADDRESS_SIZE) {
            return false;
        }
        memcpy(to, first, (size_t)(end - first));
        to[end - first] = '\0';
        if (!is_address(to)) {
            return false;
        }
        field->n++;
        if (text[n] == '\0') {
            return true;
        }
        text += n + 1;
    }
}

bool config_value_set(void *field, const struct config_row *r, const char *text)
{
    switch (r->type) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
        return set_text(field, r, text);
    case CONFIG_INT:
    case CONFIG_DURATION:
    case CONFIG_BYTES:
        return set_whole(field, r, text);
    case CONFIG_NUMBER:
        return set_number(field, r, text);
    case CONFIG_BOOL:
        return set_bool(field, text);
    case CONFIG_CHOICE:
        return set_choice(field, r, text);
    case CONFIG_ADDRESSES:
        return add_addresses(field, r, text);
    }
    return false;
}

/* ---- values to text ---- */

static void format_units(char *to, size_t size, int64_t v, const struct unit *units)
{
    if (v == 0) {
        snprintf(to, size, "0");
        return;
    }
    while (v % units->factor != 0) {
        units++;
    }
    snprintf(to, size, "%lld%s", (long long)(v / units->factor), units->name);
}

static void format_whole(char *to, size_t size, const struct config_row *r, int64_t v)
{
    if (r->type == CONFIG_DURATION) {
        format_units(to, size, v, time_units);
    } else if (r->type == CONFIG_BYTES) {
        format_units(to, size, v, byte_units);
    } else {
        snprintf(to, size, "%lld", (long long)v);
    }
}

/* As few digits as give the same number again; never an exponent within the rows' ranges. */
static void format_number(char *to, size_t size, double v)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(to, size, "%.*g", digits, v);
        if (strtod(to, NULL) == v) {
            return;
        }
    }
}

void config_value_range(char to[CONFIG_RANGE_SIZE], const struct config_row *r)
{
    char min[32];
    char max[32];

    switch (r->type) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
        snprintf(to, CONFIG_RANGE_SIZE, "at most %.0f bytes", r->max);
        return;
    case CONFIG_BOOL:
        snprintf(to, CONFIG_RANGE_SIZE, "true or false");
        return;
    case CONFIG_CHOICE:
        snprintf(to, CONFIG_RANGE_SIZE, "%s", r->unit);
        return;
    case CONFIG_ADDRESSES:
        snprintf(to, CONFIG_RANGE_SIZE,
                 "HOST:PORT, [IPV6]:PORT or unix:/PATH; at most %.0f of them", r->max);
        return;
    case CONFIG_NUMBER:
        format_number(min, sizeof(min), r->min);
        format_number(max, sizeof(max), r->max);
        break;
    case CONFIG_INT:
    case CONFIG_DURATION:
    case CONFIG_BYTES:
        format_whole(min, sizeof(min), r, (int64_t)r->min);
        format_whole(max, sizeof(max), r, (int64_t)r->max);
        break;
    }
    snprintf(to, CONFIG_RANGE_SIZE, "%s..%s%s%s", min, max, r->unit[0] ? " " : "", r->unit);
}

int config_value_refuse(const struct config_row *r, const char *text, struct err *err)
{
    static const struct {
        const char *before, *behind;
    } words[] = {
        [CONFIG_TEXT] = {"a text of ", ""},
        [CONFIG_PATH] = {"a path of ", ""},
        [CONFIG_INT] = {"a whole number in ", ""},
        [CONFIG_NUMBER] = {"a number in ", ""},
        [CONFIG_BOOL] = {"", ""},
        [CONFIG_CHOICE] = {"one of ", ""},
        [CONFIG_DURATION] = {"a time in ", " (units ms, s, m, h, d; none: seconds)"},
        [CONFIG_BYTES] = {"a size in ", " (units KiB, MiB, GiB, TiB; none: bytes)"},
        [CONFIG_ADDRESSES] = {"an address or a list of them: ", ""},
    };
    char range[CONFIG_RANGE_SIZE];

    config_value_range(range, r);
    return err_set(err, ERR_INVALID, "'%.80s' is not %s%s%s", text, words[r->type].before, range,
                   words[r->type].behind);
}

void config_value_print_text(const char *text, FILE *out)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+,~[]-";

    if (text[0] != '\0' && text[strspn(text, plain)] == '\0') {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        fputc(*text, out);
    }
    fputc('"', out);
}

void config_value_print(const void *field, const struct config_row *r, int index, FILE *out)
{
    const char *choice = r->unit;
    char text[32];

    switch (r->type) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
        config_value_print_text(field, out);
        return;
    case CONFIG_ADDRESSES:
        config_value_print_text(((const struct config_addresses *)field)->text[index], out);
        return;
    case CONFIG_BOOL:
        fputs(*(const bool *)field ? "true" : "false", out);
        return;
    case CONFIG_CHOICE:
        for (int i = 0; i < *(const int *)field; i++) {
            choice += strcspn(choice, "|") + 1;
        }
        fprintf(out, "%.*s", (int)strcspn(choice, "|"), choice);
        return;
    case CONFIG_NUMBER:
        format_number(text, sizeof(text), *(const double *)field);
        break;
    case CONFIG_INT:
    case CONFIG_DURATION:
    case CONFIG_BYTES:
        format_whole(text, sizeof(text), r, *(const int64_t *)field);
        break;
    }
    fputs(text, out);
}
