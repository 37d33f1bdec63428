#include "api/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

size_t json_utf8_length(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t n;

    if (len == 0) {
        return 0;
    }
    if (s[0] < 0x80) {
        return 1;
    }
    n = s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (s[0] < 0xc2 || n == 0 || n > len) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90)) {
        return 0; /* overlong, surrogate, above U+10FFFF */
    }
    return n;
}

bool json_utf8_valid(const char *text, size_t len)
{
    size_t i = 0;

    while (i < len) {
        const size_t n = text[i] == '\0' ? 0 : json_utf8_length(text + i, len - i);

        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

size_t json_code_points(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

/* ---- the scanner: RFC 8259, and our limits ---- */

struct scan {
    const char *start;
    const char *p;
    const char *end;
    int depth;
    size_t values;
    const char *why; /* it failed */
};

static bool scan_value(struct scan *s);

static bool bad(struct scan *s, const char *why)
{
    s->why = why;
    return false;
}

static char peek(const struct scan *s)
{
    return (char)(s->p < s->end ? *s->p : '\0');
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) {
        s->p++;
    }
}

static bool scan_word(struct scan *s, const char *word)
{
    const size_t n = strlen(word);

    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0) {
        return bad(s, "a value is expected");
    }
    s->p += n;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool scan_digits(struct scan *s)
{
    if (!is_digit(peek(s))) {
        return bad(s, "a digit is expected");
    }
    while (is_digit(peek(s))) {
        s->p++;
    }
    return true;
}

static bool scan_number(struct scan *s)
{
    const char *start = s->p;

    s->p += peek(s) == '-';
    if (!is_digit(peek(s))) {
        return bad(s, "a value is expected");
    }
    if (peek(s) == '0') {
        s->p++;
    } else if (!scan_digits(s)) {
        return false;
    }
    if (peek(s) == '.') {
        s->p++;
        if (!scan_digits(s)) {
            return false;
        }
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->p++;
        s->p += peek(s) == '+' || peek(s) == '-';
        if (!scan_digits(s)) {
            return false;
        }
    }
    return s->p - start <= JSON_MAX_NUMBER ? true : bad(s, "a number is too long");
}

/* The four digits behind \u, or -1. */
static int hex4(const struct scan *s)
{
    int value = 0;

    if (s->end - s->p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        const char c = s->p[i];
        const int digit = is_digit(c)              ? c - '0'
                          : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                          : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                                   : -1;

        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

static bool scan_unicode(struct scan *s)
{
    int c = hex4(s);

    if (c < 0) {
        return bad(s, "\\u needs four hexadecimal digits");
    }
    if (c == 0) {
        return bad(s, "NUL characters are not allowed");
    }
    s->p += 4;
    if (c < 0xd800 || c > 0xdfff) {
        return true;
    }
    if (c > 0xdbff || s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u') {
        return bad(s, "half of a surrogate pair");
    }
    s->p += 2;
    c = hex4(s);
    if (c < 0xdc00 || c > 0xdfff) {
        return bad(s, "half of a surrogate pair");
    }
    s->p += 4;
    return true;
}

static bool scan_escape(struct scan *s)
{
    const char c = peek(s);

    if (c == '\0' || !strchr("\"\\/bfnrtu", c)) {
        return bad(s, "an unknown escape in a string");
    }
    s->p++;
    return c == 'u' ? scan_unicode(s) : true;
}

static bool scan_string(struct scan *s)
{
    if (peek(s) != '"') {
        return bad(s, "a string is expected");
    }
    s->p++;
    while (s->p < s->end && *s->p != '"') {
        const size_t n = json_utf8_length(s->p, (size_t)(s->end - s->p));

        if (n == 0) {
            return bad(s, "it is not valid UTF-8");
        }
        if ((unsigned char)*s->p < 0x20) {
            return bad(s, "a control character in a string");
        }
        if (*s->p == '\\') {
            s->p++;
            if (!scan_escape(s)) {
                return false;
            }
        } else {
            s->p += n;
        }
    }
    if (s->p == s->end) {
        return bad(s, "a string does not end");
    }
    s->p++;
    return true;
}

static bool scan_member(struct scan *s)
{
    const char *name;

    skip_space(s);
    name = s->p;
    if (!scan_string(s)) {
        return false;
    }
    if (s->p - name > JSON_MAX_NAME) {
        return bad(s, "a name is too long");
    }
    skip_space(s);
    if (peek(s) != ':') {
        return bad(s, "':' is expected");
    }
    s->p++;
    return scan_value(s);
}

/* An object or an array, whose opening bracket is at hand. */
static bool scan_list(struct scan *s, char close)
{
    size_t n = 0;

    s->p++;
    skip_space(s);
    if (peek(s) == close) {
        s->p++;
        return true;
    }
    for (;;) {
        if (close == '}' && ++n > JSON_MAX_MEMBERS) {
            return bad(s, "an object has too many members");
        }
        if (!(close == '}' ? scan_member(s) : scan_value(s))) {
            return false;
        }
        skip_space(s);
        if (peek(s) == close) {
            s->p++;
            return true;
        }
        if (peek(s) != ',') {
            return bad(s, "',' or a closing bracket is expected");
        }
        s->p++;
    }
}

/* Recursion: bounded by the allowed depth. */
static bool scan_value(struct scan *s)
{
    bool ok;

    skip_space(s);
    if (++s->values > JSON_MAX_VALUES) {
        return bad(s, "too many values");
    }
    switch (peek(s)) {
    case '{':
    case '[':
        if (s->depth == 0) {
            return bad(s, "it is nested too deeply");
        }
        s->depth--;
        ok = scan_list(s, (char)(*s->p == '{' ? '}' : ']'));
        s->depth++;
        return ok;
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return scan_number(s);
    }
}

static const cJSON *find_twice(const cJSON *object)
{
    for (const cJSON *a = object->child; a; a = a->next) {
        for (const cJSON *b = object->child; b != a; b = b->next) {
            if (strcmp(a->string, b->string) == 0) {
                return a;
            }
        }
    }
    return NULL;
}

/* What only shows in the tree. */
static int check_tree(const cJSON *value, struct err *err)
{
    const cJSON *twice = cJSON_IsObject(value) ? find_twice(value) : NULL;

    if (twice) {
        return err_set(err, ERR_FORMAT, "'%.64s' is given twice", twice->string);
    }
    if (cJSON_IsNumber(value) && !isfinite(value->valuedouble)) {
        return err_set(err, ERR_FORMAT, "a number is too large");
    }
    for (const cJSON *child = value->child; child; child = child->next) {
        const int rc = check_tree(child, err);

        if (rc != ERR_OK) {
            return rc;
        }
    }
    return ERR_OK;
}

int json_parse(cJSON **ret, const char *text, size_t len, int max_depth, struct err *err)
{
    struct scan s = {.start = text, .p = text, .end = text + len, .depth = max_depth};
    cJSON *root;
    int rc;

    if (scan_value(&s)) {
        skip_space(&s);
        if (s.p < s.end) {
            bad(&s, "there is more behind the value");
        }
    }
    if (s.why) {
        return err_set(err, ERR_FORMAT, "%s (at byte %zu)", s.why, (size_t)(s.p - s.start));
    }
    root = cJSON_ParseWithLength(text, len);
    if (!root) { /* the text is in order, so it was memory */
        return err_set(err, ERR_NO_MEMORY, "JSON of %zu bytes", len);
    }
    rc = check_tree(root, err);
    if (rc != ERR_OK) {
        cJSON_Delete(root);
        return rc;
    }
    *ret = root;
    return ERR_OK;
}

/* ---- values ---- */

/* -?digits(.digits)?, at most 20 and 20. */
static bool is_decimal(const char *text, bool fraction)
{
    size_t n;

    text += *text == '-';
    n = strspn(text, "0123456789");
    if (n == 0 || n > 20) {
        return false;
    }
    text += n;
    if (fraction && *text == '.') {
        n = strspn(text + 1, "0123456789");
        if (n == 0 || n > 20) {
            return false;
        }
        text += 1 + n;
    }
    return *text == '\0';
}

bool json_to_real(const cJSON *value, double *ret)
{
    if (cJSON_IsNumber(value)) {
        *ret = value->valuedouble;
        return true;
    }
    if (cJSON_IsString(value) && is_decimal(value->valuestring, true)) {
        *ret = strtod(value->valuestring, NULL);
        return true;
    }
    return false;
}

bool json_to_int(const cJSON *value, int64_t *ret)
{
    double real;

    if (cJSON_IsString(value) && !is_decimal(value->valuestring, false)) {
        return false;
    }
    if (!json_to_real(value, &real) || real != trunc(real) || fabs(real) > (double)JSON_MAX_SAFE) {
        return false;
    }
    *ret = (int64_t)real;
    return true;
}

bool json_to_bool(const cJSON *value, bool *ret)
{
    const char *text = json_to_text(value);

    if (cJSON_IsBool(value)) {
        *ret = cJSON_IsTrue(value);
        return true;
    }
    if (cJSON_IsNumber(value) && (value->valuedouble == 0 || value->valuedouble == 1)) {
        *ret = value->valuedouble == 1;
        return true;
    }
    if (text && (strcmp(text, "true") == 0 || strcmp(text, "1") == 0)) {
        *ret = true;
        return true;
    }
    if (text && (strcmp(text, "false") == 0 || strcmp(text, "0") == 0)) {
        *ret = false;
        return true;
    }
    return false;
}

const char *json_to_text(const cJSON *value)
{
    return cJSON_IsString(value) ? value->valuestring : NULL;
}

/* Not cJSON_Compare: it compares every member of nested objects twice, 2^depth times in all. Names are not
 * given twice, so as many members, each of which is found, are the same ones. */
static bool same_list(const cJSON *a, const cJSON *b)
{
    const bool object = cJSON_IsObject(a);
    const cJSON *v = a->child;
    const cJSON *w = b->child;

    for (; v && w; v = v->next, w = w->next) {
        const cJSON *other = object ? cJSON_GetObjectItemCaseSensitive(b, v->string) : w;

        if (!other || !json_same(v, other)) {
            return false;
        }
    }
    return !v && !w;
}

bool json_same(const cJSON *a, const cJSON *b)
{
    double real[2];
    bool flag[2];

    if (json_to_real(a, &real[0]) && json_to_real(b, &real[1])) {
        return real[0] == real[1];
    }
    if (json_to_bool(a, &flag[0]) && json_to_bool(b, &flag[1])) {
        return flag[0] == flag[1];
    }
    if (cJSON_IsString(a) && cJSON_IsString(b)) {
        return strcmp(a->valuestring, b->valuestring) == 0;
    }
    if ((cJSON_IsObject(a) && cJSON_IsObject(b)) || (cJSON_IsArray(a) && cJSON_IsArray(b))) {
        return same_list(a, b);
    }
    return cJSON_IsNull(a) && cJSON_IsNull(b);
}
