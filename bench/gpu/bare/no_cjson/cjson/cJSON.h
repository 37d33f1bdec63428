/*
 * cJSON.h - where cJSON is missing: no text is JSON, so no model directory can be read. What is measured with
 * synthetic weights needs none.
 */
#ifndef BENCH_GPU_BARE_CJSON_H
#define BENCH_GPU_BARE_CJSON_H

#include <stddef.h>

typedef int cJSON_bool;

typedef struct cJSON {
    struct cJSON *next, *child;
    char *valuestring;
    double valuedouble;
    char *string;
} cJSON;

static inline cJSON *cJSON_ParseWithLengthOpts(const char *text, size_t n, const char **end,
                                               cJSON_bool terminated)
{
    (void)n;
    (void)terminated;
    if (end) {
        *end = text;
    }
    return NULL;
}

static inline void cJSON_Delete(cJSON *item)
{
    (void)item;
}

static inline cJSON *cJSON_GetObjectItemCaseSensitive(const cJSON *o, const char *key)
{
    (void)o;
    (void)key;
    return NULL;
}

static inline cJSON_bool cJSON_has_type(const cJSON *item)
{
    (void)item;
    return 0;
}

#define cJSON_HasObjectItem(o, key) (cJSON_GetObjectItemCaseSensitive((o), (key)) != NULL)
#define cJSON_IsArray               cJSON_has_type
#define cJSON_IsBool                cJSON_has_type
#define cJSON_IsFalse               cJSON_has_type
#define cJSON_IsNull                cJSON_has_type
#define cJSON_IsNumber              cJSON_has_type
#define cJSON_IsObject              cJSON_has_type
#define cJSON_IsString              cJSON_has_type
#define cJSON_IsTrue                cJSON_has_type
#define cJSON_ArrayForEach(item, array)                                                            \
    for ((item) = (array) ? (array)->child : NULL; (item); (item) = (item)->next)

#endif
