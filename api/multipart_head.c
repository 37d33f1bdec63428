#include <string.h>
#include <strings.h>

#include "api/multipart_internal.h"

bool multipart_next_param(const char **p, char *name, char *value, size_t size)
{
    const char *s = *p + strspn(*p, " \t");
    size_t n;

    *p = s;
    if (*s != ';') {
        return false;
    }
    s += 1 + strspn(s + 1, " \t");
    n = strcspn(s, "=; \t\"");
    if (n == 0 || n >= size || s[n] != '=') {
        return false;
    }
    memcpy(name, s, n);
    name[n] = '\0';
    s += n + 1;
    n = 0;
    if (*s == '"') {
        for (s++; *s != '"'; s++) {
            s += s[0] == '\\' && (s[1] == '"' || s[1] == '\\'); /* else a backslash is one */
            if (*s == '\0' || n + 1 >= size) {
                return false;
            }
            value[n++] = *s;
        }
        s++;
    } else {
        for (; *s != '\0' && !strchr("; \t\"", *s); s++) {
            if (n + 1 >= size) {
                return false;
            }
            value[n++] = *s;
        }
    }
    value[n] = '\0';
    *p = s;
    return true;
}

/* Browsers write a quote, CR and LF in a name as %22, %0D and %0A. */
static void unescape_name(char *name)
{
    static const char *const escaped[] = {"%22", "%0D", "%0A"};
    char *to = name;

    while (*name != '\0') {
        char c = *name++;

        for (size_t i = 0; c == '%' && i < ARRAY_LEN(escaped); i++) {
            if (strncasecmp(name - 1, escaped[i], 3) == 0) {
                c = "\"\r\n"[i];
                name += 2;
            }
        }
        *to++ = c;
    }
    *to = '\0';
}

static const char *take_disposition(struct multipart_part *part, const char *p)
{
    char name[MULTIPART_HEAD_MAX]; /* a header line always fits */
    char value[sizeof(name)] = {0};
    bool named = false;

    p += strspn(p, " \t");
    if (strncasecmp(p, "form-data", 9) != 0 || (p[9] != '\0' && !strchr("; \t", p[9]))) {
        return "is not form-data";
    }
    p += 9;
    while (multipart_next_param(&p, name, value, sizeof(name))) {
        if (strcasecmp(name, "name") == 0) {
            unescape_name(value);
            if (named || strlen(value) >= sizeof(part->name)) {
                return "has two names, or one that is too long";
            }
            named = value[0] != '\0';
            memcpy(part->name, value, strlen(value) + 1);
        } else if (strcasecmp(name, "filename") == 0 || strcasecmp(name, "filename*") == 0) {
            part->is_file = true;
            part->unnamed_file = value[0] == '\0';
        }
    }
    if (*p != '\0') {
        return "has a malformed Content-Disposition";
    }
    return named ? NULL : "has no name";
}

static const char *take_header(struct multipart_part *part, char *line, bool *has_disposition)
{
    char *colon = strchr(line, ':');
    const char *value;

    if (!colon || colon == line || strcspn(line, " \t") < (size_t)(colon - line)) {
        return "has a malformed header line";
    }
    *colon = '\0';
    value = colon + 1 + strspn(colon + 1, " \t");
    if (strcasecmp(line, "Content-Disposition") == 0) {
        if (*has_disposition) {
            return "has two Content-Dispositions";
        }
        *has_disposition = true;
        return take_disposition(part, value);
    }
    if (strcasecmp(line, "Content-Transfer-Encoding") == 0 && strcasecmp(value, "binary") != 0 &&
        strcasecmp(value, "8bit") != 0 && strcasecmp(value, "7bit") != 0) {
        return "has a Content-Transfer-Encoding other than binary";
    }
    return NULL; /* charset and type are not looked at: text is UTF-8, and pictures tell what they are */
}

const char *multipart_parse_head(struct multipart_part *ret, char *head, size_t len)
{
    struct multipart_part part = {0};
    bool has_disposition = false;
    const char *why = NULL;

    head[len - 2] = '\0'; /* the empty line */
    if (strlen(head) != len - 2) {
        return "has a NUL character in its header";
    }
    while (!why && *head != '\0') {
        char *end = head + strcspn(head, "\r\n");

        if (end[0] != '\r' || end[1] != '\n') {
            return "has a header line that does not end with CR LF";
        }
        *end = '\0';
        why = take_header(&part, head, &has_disposition);
        head = end + 2;
    }
    if (!why && !has_disposition) {
        why = "has no Content-Disposition";
    }
    *ret = part;
    return why;
}
