#include "engine/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/size.h"
#include "engine/json_read.h"
#include "engine/weights_synthetic.h"
#include "kernels/convert.h"

enum {
    WEIGHTS_MAX_SHARDS = 256,
    WEIGHTS_MAX_PATH = 4096,
    WEIGHTS_MAX_FILE_NAME = 255,
    INDEX_MAX_BYTES = 16 << 20,
    INDEX_MAX_VALUES = 200 * 1000,
};

struct item {
    struct safetensors_entry entry; /* its name is without the prefix; borrows from the file */
    bool taken;
};

struct weights {
    char *dir;                  /* owned */
    char *prefix;               /* owned; "" for none */
    struct safetensors **files; /* owned */
    size_t n_files;
    struct item *items;    /* owned; in file order */
    struct item **by_name; /* owned; sorted */
    size_t count;
    struct weights_synthetic *synthetic; /* owned; instead of all the above */
};

static int join(char path[WEIGHTS_MAX_PATH], const char *dir, const char *name, struct err *err)
{
    const int n = snprintf(path, WEIGHTS_MAX_PATH, "%s/%s", dir, name);

    if (n < 0 || n >= WEIGHTS_MAX_PATH) {
        return err_set(err, ERR_INVALID, "path of more than %d bytes: %.100s...", WEIGHTS_MAX_PATH,
                       dir);
    }
    return ERR_OK;
}

static const char *without_prefix(const struct weights *w, const char *name)
{
    const size_t n = strlen(w->prefix);

    return strncmp(name, w->prefix, n) == 0 ? name + n : name;
}

/* A name in an index may only mean a file beside the index. */
static bool is_shard_name(const char *name)
{
    static const char suffix[] = ".safetensors";
    const size_t n = strlen(name);

    if (n <= strlen(suffix) || n > WEIGHTS_MAX_FILE_NAME || name[0] == '.' ||
        strcmp(name + n - strlen(suffix), suffix) != 0) {
        return false;
    }
    for (; *name; name++) {
        if (*name <= ' ' || *name > '~' || *name == '/' || *name == '\\') {
            return false;
        }
    }
    return true;
}

/* Which of the shards is that? Writers list tensors shard by shard, so the last one is tried first. */
static size_t shard_of(const char *const *shards, size_t n, const char *name)
{
    if (n > 0 && strcmp(shards[n - 1], name) == 0) {
        return n - 1;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(shards[i], name) == 0) {
            return i;
        }
    }
    return n;
}

/* The distinct files of a weight map, in order of first mention. */
static int list_shards(const cJSON *map, const char *index_path,
                       const char *shards[WEIGHTS_MAX_SHARDS], size_t *ret_n, struct err *err)
{
    size_t n = 0;
    char name[128];
    char value[128];

    for (const cJSON *t = map->child; t; t = t->next) {
        size_t i;

        if (!cJSON_IsString(t) || !is_shard_name(t->valuestring)) {
            return err_set(
                err, ERR_FORMAT,
                "%s: weight_map: tensor %s: '%s' is not the name of a "
                ".safetensors file beside the index",
                index_path, json_printable(name, sizeof(name), t->string),
                json_printable(value, sizeof(value), cJSON_IsString(t) ? t->valuestring : ""));
        }
        i = shard_of(shards, n, t->valuestring);
        if (i == n) {
            if (n == WEIGHTS_MAX_SHARDS) {
                return err_set(err, ERR_FORMAT, "%s: more than %d shards", index_path,
                               WEIGHTS_MAX_SHARDS);
            }
            shards[n++] = t->valuestring;
        }
    }
    if (n == 0) {
        return err_set(err, ERR_FORMAT, "%s: weight_map is empty", index_path);
    }
    *ret_n = n;
    return ERR_OK;
}

static int open_files(struct weights *w, const char *const *names, size_t n, struct err *err)
{
    char path[WEIGHTS_MAX_PATH];

    CHECK_BUG(n > 0);
    w->files = calloc(n, sizeof(struct safetensors *));
    if (!w->files) {
        return err_set(err, ERR_NO_MEMORY, "%s: %zu files", w->dir, n);
    }
    for (size_t i = 0; i < n; i++) {
        int rc = join(path, w->dir, names[i], err);

        if (rc == ERR_OK) {
            rc = safetensors_open(&w->files[i], path, err);
        }
        if (rc != ERR_OK) {
            return rc;
        }
        w->n_files++;
    }
    return ERR_OK;
}

/* Every tensor of the index must be where the index says. */
static int check_map(const struct weights *w, const cJSON *map, const char *const *shards,
                     struct err *err)
{
    char name[256];

    for (const cJSON *t = map->child; t; t = t->next) {
        const size_t i = shard_of(shards, w->n_files, t->valuestring);

        if (!safetensors_find(w->files[i], t->string)) {
            return err_set(err, ERR_FORMAT, "%s: tensor %s is not in it, but the index says so",
                           safetensors_path(w->files[i]),
                           json_printable(name, sizeof(name), t->string));
        }
    }
    return ERR_OK;
}

static int open_index(struct weights *w, const char *path, struct err *err)
{
    const char *shards[WEIGHTS_MAX_SHARDS];
    const cJSON *map;
    cJSON *root = NULL;
    char *text = NULL;
    size_t len = 0;
    size_t n = 0;
    int rc = json_read_file(&text, &len, path, INDEX_MAX_BYTES, err);

    if (rc == ERR_OK) {
        rc = json_parse_object(&root, text, len, INDEX_MAX_VALUES, path, err);
    }
    if (rc != ERR_OK) {
        goto out;
    }
    map = cJSON_GetObjectItemCaseSensitive(root, "weight_map");
    if (!cJSON_IsObject(map)) {
        rc = err_set(err, ERR_FORMAT, "%s: weight_map is missing", path);
        goto out;
    }
    rc = list_shards(map, path, shards, &n, err);
    if (rc == ERR_OK) {
        rc = open_files(w, shards, n, err);
        if (rc == ERR_NOT_FOUND) {
            err_prefix(err, "shard named in the index");
        }
    }
    if (rc == ERR_OK) {
        rc = check_map(w, map, shards, err);
    }
out:
    cJSON_Delete(root);
    free(text);
    return rc;
}

/* The first of the names a component's weights may have. */
static int open_component(struct weights *w, const char *stem, struct err *err)
{
    static const struct {
        const char *suffix;
        bool index;
    } kinds[] = {
        {".safetensors", false},
        {".fp16.safetensors", false},
        {".bf16.safetensors", false},
        {".safetensors.index.json", true},
        {".safetensors.index.fp16.json", true},
        {".safetensors.index.bf16.json", true},
    };
    char name[WEIGHTS_MAX_FILE_NAME + 1];
    const char *const names[] = {name};
    char path[WEIGHTS_MAX_PATH];

    if (access(w->dir, F_OK) != 0) {
        return err_set(err, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "%s: %m",
                       w->dir);
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        int rc;

        CHECK_BUG(strlen(stem) + strlen(kinds[i].suffix) < sizeof(name));
        snprintf(name, sizeof(name), "%s%s", stem, kinds[i].suffix);
        rc = join(path, w->dir, name, err);
        if (rc != ERR_OK) {
            return rc;
        }
        if (access(path, F_OK) == 0) {
            return kinds[i].index ? open_index(w, path, err) : open_files(w, names, 1, err);
        }
    }
    return err_set(err, ERR_NOT_FOUND, "%s: neither %s.safetensors nor %s.safetensors.index.json",
                   w->dir, stem, stem);
}

static int compare_items(const void *a, const void *b)
{
    const struct item *const *x = a;
    const struct item *const *y = b;

    return strcmp((*x)->entry.name, (*y)->entry.name);
}

static int build_index(struct weights *w, struct err *err)
{
    size_t n = 0;

    for (size_t f = 0; f < w->n_files; f++) {
        n += safetensors_count(w->files[f]);
    }
    w->items = calloc(n + 1, sizeof(*w->items));
    w->by_name = calloc(n + 1, sizeof(struct item *));
    if (!w->items || !w->by_name) {
        return err_set(err, ERR_NO_MEMORY, "%s: index of %zu tensors", w->dir, n);
    }
    for (size_t f = 0; f < w->n_files; f++) {
        for (size_t i = 0; i < safetensors_count(w->files[f]); i++) {
            struct item *item = &w->items[w->count];

            item->entry = *safetensors_at(w->files[f], i);
            item->entry.name = without_prefix(w, item->entry.name);
            w->by_name[w->count++] = item;
        }
    }
    qsort(w->by_name, w->count, sizeof(struct item *), compare_items);
    for (size_t i = 1; i < w->count; i++) {
        if (compare_items(&w->by_name[i - 1], &w->by_name[i]) == 0) {
            return err_set(err, ERR_FORMAT, "%s: tensor %.200s is there twice", w->dir,
                           w->by_name[i]->entry.name);
        }
    }
    return ERR_OK;
}

int weights_open(struct weights **ret, const char *dir, const char *stem, const char *prefix,
                 struct err *err)
{
    struct weights *w = calloc(1, sizeof(*w));
    int rc;

    if (!w) {
        return err_set(err, ERR_NO_MEMORY, "%s", dir);
    }
    w->dir = strdup(dir);
    w->prefix = strdup(prefix ? prefix : "");
    if (!w->dir || !w->prefix) {
        rc = err_set(err, ERR_NO_MEMORY, "%s", dir);
        goto out;
    }
    rc = open_component(w, stem, err);
    if (rc == ERR_OK) {
        rc = build_index(w, err);
    }
    if (rc != ERR_OK) {
        goto out;
    }
    *ret = w;
    w = NULL; /* the caller owns it now */
out:
    weights_close(w);
    return rc;
}

int weights_open_synthetic(struct weights **ret, struct err *err)
{
    struct weights *w = calloc(1, sizeof(*w));
    int rc;

    if (!w) {
        return err_set(err, ERR_NO_MEMORY, "synthetic weights");
    }
    w->dir = strdup("synthetic weights");
    w->prefix = strdup("");
    rc = w->dir && w->prefix ? weights_synthetic_create(&w->synthetic, err)
                             : err_set(err, ERR_NO_MEMORY, "synthetic weights");
    if (rc != ERR_OK) {
        weights_close(w);
        return rc;
    }
    *ret = w;
    return ERR_OK;
}

void weights_close(struct weights *w)
{
    if (!w) {
        return;
    }
    for (size_t i = 0; i < w->n_files; i++) {
        safetensors_close(w->files[i]);
    }
    weights_synthetic_free(w->synthetic);
    free(w->by_name);
    free(w->items);
    free(w->files);
    free(w->prefix);
    free(w->dir);
    free(w);
}

const char *weights_dir(const struct weights *w)
{
    return w->dir;
}

static struct item *find(const struct weights *w, const char *name)
{
    struct item key = {.entry = {.name = without_prefix(w, name)}};
    struct item *key_ptr = &key;
    struct item **found = NULL;

    if (w->count > 0) {
        found = bsearch(&key_ptr, w->by_name, w->count, sizeof(struct item *), compare_items);
    }
    return found ? *found : NULL;
}

int weights_get(struct weights *w, const char *name, int rank, const int64_t *dims,
                struct tensor *ret, struct err *err)
{
    struct item *item;
    const struct tensor *t;

    if (w->synthetic) {
        return weights_synthetic_get(w->synthetic, name, rank, dims, ret, err);
    }
    item = find(w, name);
    if (!item) {
        return err_set(err, ERR_FORMAT, "%s: tensor %s is missing", w->dir, name);
    }
    t = &item->entry.tensor;
    if (t->dtype != DTYPE_F32 && t->dtype != DTYPE_BF16 && t->dtype != DTYPE_F16) {
        return err_set(err, ERR_FORMAT, "%s: tensor %s is %s, expected F32, BF16 or F16", w->dir,
                       name, dtype_name(t->dtype));
    }
    if (!tensor_is(t, t->dtype, rank, dims)) {
        const struct tensor want = tensor_make(NULL, t->dtype, rank, dims);
        char has[TENSOR_TEXT_MAX];
        char expected[TENSOR_TEXT_MAX];

        return err_set(err, ERR_FORMAT, "%s: tensor %s is %s, expected %s", w->dir, name,
                       tensor_describe(t, has), tensor_describe(&want, expected));
    }
    item->taken = true;
    *ret = *t;
    return ERR_OK;
}

bool weights_has(const struct weights *w, const char *name)
{
    return find(w, name) != NULL;
}

void weights_ignore(struct weights *w, const char *name)
{
    struct item *item = find(w, name);

    if (item) {
        item->taken = true;
    }
}

size_t weights_unused(const struct weights *w, const char **names, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < w->count; i++) {
        if (w->items[i].taken) {
            continue;
        }
        if (n < max) {
            names[n] = w->items[i].entry.name;
        }
        n++;
    }
    return n;
}

int64_t weights_parameter_count(const struct weights *w)
{
    int64_t n = 0;

    for (size_t i = 0; i < w->count; i++) {
        n += tensor_count(&w->items[i].entry.tensor);
    }
    return n;
}

size_t weights_total_bytes(const struct weights *w)
{
    size_t n = 0;

    for (size_t i = 0; i < w->count; i++) {
        n += tensor_bytes(&w->items[i].entry.tensor);
    }
    return n;
}

size_t weights_tensor_count(const struct weights *w)
{
    return w->count;
}

const struct safetensors_entry *weights_at(const struct weights *w, size_t i)
{
    CHECK_BUG(i < w->count);
    return &w->items[i].entry;
}

void weight_pool_init(struct weight_pool *pool, struct device *dev)
{
    *pool = (struct weight_pool){.dev = dev};
}

void weight_pool_done(struct weight_pool *pool)
{
    while (pool->n_blocks > 0) {
        device_free(pool->dev, pool->blocks[--pool->n_blocks]);
    }
    free(pool->blocks);
    *pool = (struct weight_pool){.dev = pool->dev};
}

/* Can the device read the mapped file as it lies? */
static bool can_borrow(const struct weight_pool *pool, const struct tensor *t)
{
    return pool->dev->kind == DEVICE_CPU && (uintptr_t)t->data % dtype_size(t->dtype) == 0;
}

/* Device memory for a tensor of that type and shape, owned by the pool. */
static int add_block(struct weight_pool *pool, enum dtype dtype, int rank, const int64_t *dims,
                     struct tensor *ret, struct err *err)
{
    struct tensor t = tensor_make(NULL, dtype, rank, dims);
    size_t bytes = dtype_size(dtype);
    int rc;

    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0 || !size_mul(&bytes, bytes, (size_t)dims[i])) {
            return err_set(err, ERR_INVALID, "a tensor whose size overflows");
        }
    }
    if (pool->n_blocks == pool->capacity) {
        const size_t capacity = pool->capacity ? 2 * pool->capacity : 64;
        void **blocks = realloc(pool->blocks, capacity * sizeof(void *));

        if (!blocks) {
            return err_set(err, ERR_NO_MEMORY, "list of %zu weights", capacity);
        }
        pool->blocks = blocks;
        pool->capacity = capacity;
    }
    rc = device_alloc(pool->dev, bytes, &t.data, err);
    if (rc != ERR_OK) {
        return rc;
    }
    pool->blocks[pool->n_blocks++] = t.data;
    pool->bytes += bytes;
    *ret = t;
    return ERR_OK;
}

/* A copy of `from` as dtype, on the device. */
static int add_copy(struct weight_pool *pool, enum dtype dtype, const struct tensor *from,
                    struct tensor *ret, struct err *err)
{
    struct tensor t;
    int rc = add_block(pool, dtype, from->rank, from->dim, &t, err);

    if (rc == ERR_OK) {
        rc = device_upload_as(pool->dev, &t, from->data, from->dtype, err);
    }
    if (rc == ERR_OK) {
        *ret = t;
    }
    return rc;
}

int weight_pool_keep(struct weight_pool *pool, const struct tensor *from, struct tensor *ret,
                     struct err *err)
{
    const bool cpu = pool->dev->kind == DEVICE_CPU;

    if (can_borrow(pool, from)) {
        *ret = *from;
        return ERR_OK;
    }
    return add_copy(pool, cpu ? from->dtype : pool->dev->act, from, ret, err);
}

static int as_type(struct weight_pool *pool, enum dtype dtype, const struct tensor *from,
                   struct tensor *ret, struct err *err)
{
    if (from->dtype == dtype && can_borrow(pool, from)) {
        *ret = *from;
        return ERR_OK;
    }
    return add_copy(pool, dtype, from, ret, err);
}

int weight_pool_f32(struct weight_pool *pool, const struct tensor *from, struct tensor *ret,
                    struct err *err)
{
    return as_type(pool, DTYPE_F32, from, ret, err);
}

int weight_pool_act(struct weight_pool *pool, const struct tensor *from, struct tensor *ret,
                    struct err *err)
{
    return as_type(pool, pool->dev->act, from, ret, err);
}

int weight_pool_copy(struct weight_pool *pool, enum dtype dtype, int rank, const int64_t *dims,
                     const float *host, struct tensor *ret, struct err *err)
{
    const struct tensor from = tensor_make((void *)(uintptr_t)host, DTYPE_F32, rank, dims);

    return add_copy(pool, dtype, &from, ret, err);
}
