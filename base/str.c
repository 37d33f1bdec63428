#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void str_init(struct str *s, size_t max)
{
    *s = (struct str){.max = max};
}

void str_done(struct str *s)
{
    free(s->data);
    *s = (struct str){.max = s->max};
}

static bool reserve(struct str *s, size_t more)
{
    size_t capacity = s->capacity ? s->capacity : 64;
    char *data;

    if (s->failed || more > s->max || s->len > s->max - more) {
        s->failed = true;
        return false;
    }
    while (capacity < s->len + more + 1) {
        capacity *= 2;
    }
    if (capacity == s->capacity) {
        return true;
    }
    data = realloc(s->data, capacity);
    if (!data) {
        s->failed = true;
        return false;
    }
    s->data = data;
    s->capacity = capacity;
    return true;
}

bool str_append(struct str *s, const void *data, size_t len)
{
    if (!reserve(s, len)) {
        return false;
    }
    if (len > 0) {
        memcpy(s->data + s->len, data, len);
    }
    s->len += len;
    s->data[s->len] = '\0';
    return true;
}

bool str_add(struct str *s, const char *text)
{
    return str_append(s, text, strlen(text));
}

bool str_addf(struct str *s, const char *format, ...)
{
    va_list args;
    va_list again;
    int n;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || !reserve(s, (size_t)n)) {
        s->failed = true;
        va_end(again);
        return false;
    }
    vsnprintf(s->data + s->len, (size_t)n + 1, format, again);
    va_end(again);
    s->len += (size_t)n;
    return true;
}

const char *str_get(const struct str *s)
{
    return s->data ? s->data : "";
}
