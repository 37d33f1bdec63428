#include "engine/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/size.h"
#include "engine/json_read.h"

/* The format's own limit on the header [huggingface/safetensors, MAX_HEADER_SIZE], and ours on what
 * it may hold: about a hundred thousand tensors; published files have at most 1300. */
enum {
    LENGTH_BYTES = 8,
    HEADER_MAX = 100 * 1000 * 1000,
    HEADER_MAX_VALUES = 1 << 20
};

struct range {
    uint64_t begin; /* relative to the first data byte */
    uint64_t end;
    const struct safetensors_entry *entry;
};

struct safetensors {
    char *path;        /* owned */
    char *base;        /* the whole file; owned if mapped. Never written to. */
    size_t size;       /* of the file */
    size_t data_start; /* offset of the first data byte */
    bool mapped;
    char *names;                              /* owned; all names, each NUL-terminated */
    struct safetensors_entry *entries;        /* owned; in the header's order */
    const struct safetensors_entry **by_name; /* owned; sorted */
    struct range *ranges;                     /* owned; only while opening */
    size_t count;
};

static const struct {
    const char *name;
    enum dtype dtype;
} dtypes[] = {
    {"F32", DTYPE_F32}, {"BF16", DTYPE_BF16}, {"F16", DTYPE_F16},
    {"I32", DTYPE_I32}, {"I64", DTYPE_I64},   {"U8", DTYPE_U8},
};

static int tensor_err(const struct safetensors *st, const char *name, const char *what,
                      struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: tensor %.200s: %s", st->path, name, what);
}

static int read_dtype(const struct safetensors *st, const cJSON *item, enum dtype *ret,
                      struct err *err)
{
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    char text[17];

    if (!cJSON_IsString(dtype)) {
        return tensor_err(st, item->string, "no dtype", err);
    }
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++) {
        if (strcmp(dtype->valuestring, dtypes[i].name) == 0) {
            *ret = dtypes[i].dtype;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: tensor %.200s: dtype %s; known are F32, BF16, F16, I32, I64, U8", st->path,
                   item->string, json_printable(text, sizeof(text), dtype->valuestring));
}

/* Shape and bytes; no product can overflow afterwards. */
static int read_shape(const struct safetensors *st, const cJSON *item, struct tensor *t,
                      uint64_t *ret_bytes, struct err *err)
{
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    int64_t dims[TENSOR_MAX_RANK];
    int64_t bytes = (int64_t)dtype_size(t->dtype);
    int rank = 0;

    if (!cJSON_IsArray(shape)) {
        return tensor_err(st, item->string, "no shape", err);
    }
    for (const cJSON *d = shape->child; d; d = d->next) {
        if (rank == TENSOR_MAX_RANK) {
            return tensor_err(st, item->string, "more than 6 dimensions", err);
        }
        if (!json_is_int(d, 0, JSON_MAX_INT, &dims[rank])) {
            return tensor_err(st, item->string, "a dimension is not a count", err);
        }
        if (!count_mul(&bytes, bytes, dims[rank])) {
            return tensor_err(st, item->string, "the shape's size overflows", err);
        }
        rank++;
    }
    *t = tensor_make(NULL, t->dtype, rank, dims);
    *ret_bytes = (uint64_t)bytes;
    return ERR_OK;
}

static int read_range(const struct safetensors *st, const cJSON *item, uint64_t bytes,
                      struct range *ret, struct err *err)
{
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    const uint64_t available = st->size - st->data_start;
    int64_t at[2];
    int n = 0;

    if (!cJSON_IsArray(offsets)) {
        return tensor_err(st, item->string, "no data_offsets", err);
    }
    for (const cJSON *o = offsets->child; o; o = o->next) {
        if (n == 2 || !json_is_int(o, 0, JSON_MAX_INT, &at[n])) {
            return tensor_err(st, item->string, "data_offsets are not two offsets", err);
        }
        n++;
    }
    if (n != 2) {
        return tensor_err(st, item->string, "data_offsets are not two offsets", err);
    }
    if (at[0] > at[1] || (uint64_t)(at[1] - at[0]) != bytes) {
        return err_set(
            err, ERR_FORMAT,
            "%s: tensor %.200s: data_offsets [%lld, %lld], but dtype and shape need %llu "
            "bytes",
            st->path, item->string, (long long)at[0], (long long)at[1], (unsigned long long)bytes);
    }
    if ((uint64_t)at[1] > available) {
        return err_set(err, ERR_FORMAT,
                       "%s: tensor %.200s ends at byte %lld of the data, but the file holds %llu "
                       "(truncated?)",
                       st->path, item->string, (long long)at[1], (unsigned long long)available);
    }
    *ret = (struct range){.begin = (uint64_t)at[0], .end = (uint64_t)at[1]};
    return ERR_OK;
}

/* Names go into messages, logs and JSON, and every published one is plain ASCII. */
static bool is_plain_name(const char *name)
{
    if (*name == '\0') {
        return false;
    }
    for (; *name; name++) {
        if (*name < ' ' || *name > '~') {
            return false;
        }
    }
    return true;
}

static int read_entry(struct safetensors *st, const cJSON *item, char *name, struct err *err)
{
    struct safetensors_entry *e = &st->entries[st->count];
    struct range *range = &st->ranges[st->count];
    uint64_t bytes = 0;
    int rc;

    if (!is_plain_name(item->string)) {
        return err_set(err, ERR_FORMAT, "%s: the name of tensor %zu is not printable ASCII",
                       st->path, st->count);
    }
    if (!cJSON_IsObject(item)) {
        return tensor_err(st, item->string, "not an object", err);
    }
    rc = read_dtype(st, item, &e->tensor.dtype, err);
    if (rc == ERR_OK) {
        rc = read_shape(st, item, &e->tensor, &bytes, err);
    }
    if (rc == ERR_OK) {
        rc = read_range(st, item, bytes, range, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    memcpy(name, item->string, strlen(item->string) + 1);
    e->name = name;
    e->tensor.data = st->base + st->data_start + range->begin;
    range->entry = e;
    st->by_name[st->count] = e;
    st->count++;
    return ERR_OK;
}

static int read_entries(struct safetensors *st, const cJSON *root, struct err *err)
{
    size_t n = 0;
    size_t name_bytes = 0;
    char *name;

    for (const cJSON *item = root->child; item; item = item->next) {
        n++;
        name_bytes += strlen(item->string) + 1;
    }
    st->names = malloc(name_bytes + 1);
    st->entries = calloc(n + 1, sizeof(*st->entries));
    st->by_name = calloc(n + 1, sizeof(struct safetensors_entry *));
    st->ranges = calloc(n + 1, sizeof(*st->ranges));
    if (!st->names || !st->entries || !st->by_name || !st->ranges) {
        return err_set(err, ERR_NO_MEMORY, "%s: index of %zu tensors", st->path, n);
    }
    name = st->names;
    for (const cJSON *item = root->child; item; item = item->next) {
        int rc;

        if (strcmp(item->string, "__metadata__") == 0) {
            if (!cJSON_IsObject(item)) {
                return err_set(err, ERR_FORMAT, "%s: __metadata__ is not an object", st->path);
            }
            continue;
        }
        rc = read_entry(st, item, name, err);
        if (rc != ERR_OK) {
            return rc;
        }
        name += strlen(name) + 1;
    }
    return ERR_OK;
}

static int compare_names(const void *a, const void *b)
{
    const struct safetensors_entry *const *x = a;
    const struct safetensors_entry *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a;
    const struct range *y = b;

    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Sorts by name and by place, and looks at neighbours. Empty tensors overlap nothing. */
static int check_unique(struct safetensors *st, struct err *err)
{
    const struct range *last = NULL;

    qsort(st->by_name, st->count, sizeof(struct safetensors_entry *), compare_names);
    for (size_t i = 1; i < st->count; i++) {
        if (strcmp(st->by_name[i - 1]->name, st->by_name[i]->name) == 0) {
            return tensor_err(st, st->by_name[i]->name, "listed twice", err);
        }
    }
    qsort(st->ranges, st->count, sizeof(*st->ranges), compare_ranges);
    for (size_t i = 0; i < st->count; i++) {
        const struct range *r = &st->ranges[i];

        if (r->begin == r->end) {
            continue;
        }
        if (last && r->begin < last->end) {
            return err_set(err, ERR_FORMAT, "%s: tensors %.150s and %.150s overlap", st->path,
                           last->entry->name, r->entry->name);
        }
        last = r;
    }
    return ERR_OK;
}

static int read_header(struct safetensors *st, struct err *err)
{
    uint64_t len = 0;
    cJSON *root = NULL;
    int rc;

    if (st->size < LENGTH_BYTES) {
        return err_set(err, ERR_FORMAT, "%s: %zu bytes is too short for a safetensors file",
                       st->path, st->size);
    }
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) {
        len = len << 8 | (unsigned char)st->base[i];
    }
    if (len > st->size - LENGTH_BYTES || len > HEADER_MAX) {
        return err_set(err, ERR_FORMAT,
                       "%s: header of %llu bytes in a file of %zu (limit %d; truncated, or not a "
                       "safetensors file?)",
                       st->path, (unsigned long long)len, st->size, HEADER_MAX);
    }
    st->data_start = LENGTH_BYTES + (size_t)len;
    rc = json_parse_object(&root, st->base + LENGTH_BYTES, (size_t)len, HEADER_MAX_VALUES, st->path,
                           err);
    if (rc != ERR_OK) {
        return rc;
    }
    rc = read_entries(st, root, err);
    cJSON_Delete(root);
    if (rc == ERR_OK) {
        rc = check_unique(st, err);
    }
    free(st->ranges);
    st->ranges = NULL;
    return rc;
}

/* NULL and an error when there is no memory. */
static struct safetensors *create(const char *path, struct err *err)
{
    struct safetensors *st = calloc(1, sizeof(*st));

    if (st) {
        st->path = strdup(path);
    }
    if (!st || !st->path) {
        free(st);
        err_set(err, ERR_NO_MEMORY, "%s", path);
        return NULL;
    }
    return st;
}

static int map_file(struct safetensors *st, struct err *err)
{
    const int fd = open(st->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
    struct stat s;
    void *p;
    int rc = ERR_OK;

    if (fd < 0) {
        return err_set(err, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "%s: %m",
                       st->path);
    }
    if (fstat(fd, &s) != 0) {
        rc = err_set(err, ERR_IO, "%s: %m", st->path);
    } else if (!S_ISREG(s.st_mode)) {
        rc = err_set(err, ERR_FORMAT, "%s: not a regular file", st->path);
    } else if (s.st_size < LENGTH_BYTES) {
        rc = err_set(err, ERR_FORMAT, "%s: %lld bytes is too short for a safetensors file",
                     st->path, (long long)s.st_size);
    }
    if (rc == ERR_OK) {
        p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            rc = err_set(err, ERR_IO, "%s: mmap: %m", st->path);
        } else {
            st->base = p;
            st->size = (size_t)s.st_size;
            st->mapped = true;
        }
    }
    close(fd);
    return rc;
}

int safetensors_open(struct safetensors **ret, const char *path, struct err *err)
{
    struct safetensors *st = create(path, err);
    int rc;

    if (!st) {
        return err->code;
    }
    rc = map_file(st, err);
    if (rc == ERR_OK) {
        rc = read_header(st, err);
    }
    if (rc != ERR_OK) {
        safetensors_close(st);
        return rc;
    }
    *ret = st;
    return ERR_OK;
}

int safetensors_open_memory(struct safetensors **ret, const void *data, size_t size,
                            const char *name, struct err *err)
{
    struct safetensors *st = create(name, err);
    int rc;

    if (!st) {
        return err->code;
    }
    st->base = (char *)(uintptr_t)data; /* tensors are read through `void *`, never written */
    st->size = size;
    rc = read_header(st, err);
    if (rc != ERR_OK) {
        safetensors_close(st);
        return rc;
    }
    *ret = st;
    return ERR_OK;
}

void safetensors_close(struct safetensors *st)
{
    if (!st) {
        return;
    }
    if (st->mapped) {
        munmap(st->base, st->size);
    }
    free(st->ranges);
    free(st->by_name);
    free(st->entries);
    free(st->names);
    free(st->path);
    free(st);
}

size_t safetensors_count(const struct safetensors *st)
{
    return st->count;
}

const struct safetensors_entry *safetensors_at(const struct safetensors *st, size_t i)
{
    CHECK_BUG(i < st->count);
    return &st->entries[i];
}

const struct safetensors_entry *safetensors_find(const struct safetensors *st, const char *name)
{
    const struct safetensors_entry key = {.name = name};
    const struct safetensors_entry *const key_ptr = &key;
    const struct safetensors_entry *const *found = bsearch(
        &key_ptr, st->by_name, st->count, sizeof(struct safetensors_entry *), compare_names);

    return found ? *found : NULL;
}

const char *safetensors_path(const struct safetensors *st)
{
    return st->path;
}
