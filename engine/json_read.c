#include "engine/json_read.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What cJSON is about to allocate and how deep it will recurse, known before it starts. */
static int check_limits(const char *text, size_t len, size_t max_values, const char *file,
                        struct err *err)
{
    size_t values = 1;
    int depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        const char c = text[i];

        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
            continue;
        }
        in_string = c == '"';
        if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        }
        values += c == ',' || c == '{' || c == '[';
        if (depth > JSON_MAX_DEPTH) {
            return err_set(err, ERR_FORMAT, "%s: JSON nested deeper than %d", file, JSON_MAX_DEPTH);
        }
        if (values > max_values) {
            return err_set(err, ERR_FORMAT, "%s: JSON of more than %zu values", file, max_values);
        }
    }
    return ERR_OK;
}

static bool only_space(const char *text, const char *end)
{
    while (text < end && (*text == ' ' || *text == '\t' || *text == '\n' || *text == '\r')) {
        text++;
    }
    return text == end;
}

int json_parse_object(cJSON **ret, const char *text, size_t len, size_t max_values,
                      const char *file, struct err *err)
{
    const char *end = NULL;
    cJSON *root = NULL;
    char *copy;
    int rc = check_limits(text, len, max_values, file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    /* A copy with a NUL behind it: cJSON up to 1.7.17 looks one byte past the end of an object that
     * stops after a comma (CVE-2023-53154). */
    copy = malloc(len + 1);
    if (!copy) {
        return err_set(err, ERR_NO_MEMORY, "%s: JSON of %zu bytes", file, len);
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    errno = 0;
    root = cJSON_ParseWithLengthOpts(copy, len, &end, 0);
    if (!root) {
        /* cJSON does not say why it failed, malloc does. */
        rc = errno == ENOMEM ? err_set(err, ERR_NO_MEMORY, "%s: JSON of %zu bytes", file, len)
                             : err_set(err, ERR_FORMAT, "%s: not valid JSON near byte %zu", file,
                                       end ? (size_t)(end - copy) : 0);
        goto out;
    }
    if (!only_space(end, copy + len)) {
        rc = err_set(err, ERR_FORMAT, "%s: bytes after the JSON document", file);
        goto out;
    }
    if (!cJSON_IsObject(root)) {
        rc = err_set(err, ERR_FORMAT, "%s: not a JSON object", file);
        goto out;
    }
    *ret = root;
    root = NULL; /* the caller owns it now */
out:
    cJSON_Delete(root);
    free(copy);
    return rc;
}

static int read_all(int fd, char *data, size_t size, const char *path, struct err *err)
{
    size_t done = 0;

    while (done < size) {
        const ssize_t n = read(fd, data + done, size - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_set(err, ERR_IO, "%s: read: %m", path);
        }
        if (n == 0) {
            return err_set(err, ERR_IO, "%s: became shorter while it was read", path);
        }
        done += (size_t)n;
    }
    return ERR_OK;
}

int json_read_file(char **ret, size_t *ret_len, const char *path, size_t max, struct err *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
    char *data = NULL;
    struct stat st;
    int rc;

    if (fd < 0) {
        return err_set(err, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "%s: %m",
                       path);
    }
    if (fstat(fd, &st) != 0) {
        rc = err_set(err, ERR_IO, "%s: %m", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = err_set(err, ERR_FORMAT, "%s: not a regular file", path);
        goto out;
    }
    if ((uint64_t)st.st_size > max) {
        rc = err_set(err, ERR_FORMAT, "%s: %lld bytes, the limit is %zu", path,
                     (long long)st.st_size, max);
        goto out;
    }
    data = malloc((size_t)st.st_size + 1);
    if (!data) {
        rc = err_set(err, ERR_NO_MEMORY, "%s: %lld bytes", path, (long long)st.st_size);
        goto out;
    }
    rc = read_all(fd, data, (size_t)st.st_size, path, err);
    if (rc != ERR_OK) {
        goto out;
    }
    data[st.st_size] = '\0';
    *ret_len = (size_t)st.st_size;
    *ret = data;
    data = NULL;
out:
    free(data);
    close(fd);
    return rc;
}

const char *json_printable(char *to, size_t size, const char *text)
{
    size_t n = 0;

    for (; n + 1 < size && text[n] != '\0'; n++) {
        to[n] = (char)(text[n] >= ' ' && text[n] <= '~' ? text[n] : '?');
    }
    to[n] = '\0';
    return to;
}

bool json_is_int(const cJSON *item, int64_t min, int64_t max, int64_t *ret)
{
    if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= (double)JSON_MAX_INT) ||
        item->valuedouble != trunc(item->valuedouble) || (int64_t)item->valuedouble < min ||
        (int64_t)item->valuedouble > max) {
        return false;
    }
    *ret = (int64_t)item->valuedouble;
    return true;
}

void json_fields_init(struct json_fields *f, const cJSON *object, const char *file, struct err *err)
{
    enum {
        MAX_KEYS = 1024
    }; /* the check below is quadratic */
    int n = 0;

    *f = (struct json_fields){.object = object, .file = file, .err = err};
    for (const cJSON *a = object->child; a; a = a->next) {
        if (++n > MAX_KEYS) {
            json_fields_fail(f, ERR_FORMAT, a->string, "more than %d keys", MAX_KEYS);
            return;
        }
        for (const cJSON *b = object->child; b != a; b = b->next) {
            if (strcmp(a->string, b->string) == 0) {
                json_fields_fail(f, ERR_FORMAT, a->string, "given twice");
                return;
            }
        }
    }
}

void json_fields_fail(struct json_fields *f, enum err_code code, const char *key,
                      const char *format, ...)
{
    char text[256];
    char plain[256];
    char plain_key[64];
    va_list args;

    if (f->rc != ERR_OK) {
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    f->rc = err_set(f->err, code, "%s: %s: %s", f->file,
                    json_printable(plain_key, sizeof(plain_key), key),
                    json_printable(plain, sizeof(plain), text));
}

const cJSON *json_find(const struct json_fields *f, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(f->object, key);

    return !item || cJSON_IsNull(item) ? NULL : item;
}

static const cJSON *must_find(struct json_fields *f, const char *key)
{
    const cJSON *item = json_find(f, key);

    if (!item) {
        json_fields_fail(f, ERR_FORMAT, key, "missing");
    }
    return item;
}

/* The value, or a sentence about why it is none. */
static int64_t take_int(struct json_fields *f, const char *key, const cJSON *item, int64_t min,
                        int64_t max)
{
    int64_t value = min;

    if (!json_is_int(item, min, max, &value)) {
        if (cJSON_IsNumber(item)) {
            json_fields_fail(f, ERR_FORMAT, key, "%g is not an integer in %lld..%lld",
                             item->valuedouble, (long long)min, (long long)max);
        } else {
            json_fields_fail(f, ERR_FORMAT, key, "not an integer");
        }
    }
    return value;
}

static double take_real(struct json_fields *f, const char *key, const cJSON *item, double min,
                        double max)
{
    if (!cJSON_IsNumber(item)) {
        json_fields_fail(f, ERR_FORMAT, key, "not a number");
        return min;
    }
    if (!(item->valuedouble >= min && item->valuedouble <= max)) {
        json_fields_fail(f, ERR_FORMAT, key, "%g is not in %g..%g", item->valuedouble, min, max);
        return min;
    }
    return item->valuedouble;
}

static bool take_bool(struct json_fields *f, const char *key, const cJSON *item)
{
    if (!cJSON_IsBool(item)) {
        json_fields_fail(f, ERR_FORMAT, key, "not true or false");
        return false;
    }
    return cJSON_IsTrue(item);
}

static const char *take_text(struct json_fields *f, const char *key, const cJSON *item)
{
    if (!cJSON_IsString(item)) {
        json_fields_fail(f, ERR_FORMAT, key, "not a string");
        return "";
    }
    return item->valuestring;
}

int64_t json_int(struct json_fields *f, const char *key, int64_t min, int64_t max)
{
    const cJSON *item = must_find(f, key);

    return item ? take_int(f, key, item, min, max) : min;
}

int64_t json_int_or(struct json_fields *f, const char *key, int64_t min, int64_t max, int64_t def)
{
    const cJSON *item = json_find(f, key);

    return item ? take_int(f, key, item, min, max) : def;
}

double json_real(struct json_fields *f, const char *key, double min, double max)
{
    const cJSON *item = must_find(f, key);

    return item ? take_real(f, key, item, min, max) : min;
}

double json_real_or(struct json_fields *f, const char *key, double min, double max, double def)
{
    const cJSON *item = json_find(f, key);

    return item ? take_real(f, key, item, min, max) : def;
}

bool json_bool(struct json_fields *f, const char *key)
{
    const cJSON *item = must_find(f, key);

    return item ? take_bool(f, key, item) : false;
}

bool json_bool_or(struct json_fields *f, const char *key, bool def)
{
    const cJSON *item = json_find(f, key);

    return item ? take_bool(f, key, item) : def;
}

const char *json_text(struct json_fields *f, const char *key)
{
    const cJSON *item = must_find(f, key);

    return item ? take_text(f, key, item) : "";
}

const char *json_text_or(struct json_fields *f, const char *key, const char *def)
{
    const cJSON *item = json_find(f, key);

    return item ? take_text(f, key, item) : def;
}

/* The first entry of a list of allowed length, and that length; NULL and min_n after an error. */
static const cJSON *list_start(struct json_fields *f, const char *key,
                               const struct json_list *limits, int *ret_n)
{
    const cJSON *item = must_find(f, key);
    int n = 0;

    *ret_n = limits->min_n;
    if (!item) {
        return NULL;
    }
    if (!cJSON_IsArray(item)) {
        json_fields_fail(f, ERR_FORMAT, key, "not a list");
        return NULL;
    }
    for (const cJSON *e = item->child; e && n <= limits->max_n; e = e->next) {
        n++;
    }
    if (n < limits->min_n || n > limits->max_n) {
        json_fields_fail(f, ERR_FORMAT, key, "a list of %s%d entries, expected %d..%d",
                         n > limits->max_n ? "more than " : "",
                         n > limits->max_n ? limits->max_n : n, limits->min_n, limits->max_n);
        return NULL;
    }
    *ret_n = n;
    return item->child;
}

int json_int_list(struct json_fields *f, const char *key, const struct json_list *limits,
                  int64_t *ret)
{
    int n;
    const cJSON *e = list_start(f, key, limits, &n);

    for (int i = 0; i < n; i++) {
        ret[i] = e ? take_int(f, key, e, (int64_t)limits->min, (int64_t)limits->max)
                   : (int64_t)limits->min;
        e = e ? e->next : NULL;
    }
    return n;
}

int json_real_list(struct json_fields *f, const char *key, const struct json_list *limits,
                   double *ret)
{
    int n;
    const cJSON *e = list_start(f, key, limits, &n);

    for (int i = 0; i < n; i++) {
        ret[i] = e ? take_real(f, key, e, limits->min, limits->max) : limits->min;
        e = e ? e->next : NULL;
    }
    return n;
}

int json_bool_list(struct json_fields *f, const char *key, const struct json_list *limits,
                   bool *ret)
{
    int n;
    const cJSON *e = list_start(f, key, limits, &n);

    for (int i = 0; i < n; i++) {
        ret[i] = e ? take_bool(f, key, e) : false;
        e = e ? e->next : NULL;
    }
    return n;
}
