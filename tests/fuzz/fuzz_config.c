/*
 * fuzz_config.c - one configuration file. What is accepted is within its ranges, and printed and read again
 * it is the same.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_value(const struct config *c, const struct config_row *r)
{
    const void *field = (const char *)c + r->offset;

    switch (r->type) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
        CHECK_BUG(memchr(field, '\0', r->size));
        CHECK_BUG(config_value_is_text(field, strlen(field)));
        return;
    case CONFIG_INT:
    case CONFIG_DURATION:
    case CONFIG_BYTES:
        CHECK_BUG((double)*(const int64_t *)field >= r->min);
        CHECK_BUG((double)*(const int64_t *)field <= r->max);
        return;
    case CONFIG_NUMBER:
        CHECK_BUG(*(const double *)field >= r->min && *(const double *)field <= r->max);
        return;
    case CONFIG_CHOICE:
        CHECK_BUG(*(const int *)field >= 0 && *(const int *)field < (int)strlen(r->unit));
        return;
    case CONFIG_ADDRESSES:
        CHECK_BUG(((const struct config_addresses *)field)->n >= 1);
        CHECK_BUG(((const struct config_addresses *)field)->n <= CONFIG_MAX_ADDRESSES);
        return;
    case CONFIG_BOOL:
        return;
    }
}

static void check_printed(const struct config *c)
{
    static struct config again;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct err err;

    CHECK_BUG(out);
    config_print(c, out);
    CHECK_BUG(fclose(out) == 0);
    config_init(&again);
    CHECK_BUG(config_parse(&again, text, len, "printed", &err) == ERR_OK);
    CHECK_BUG(memcmp(c, &again, offsetof(struct config, origin)) == 0);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    struct err err;

    config_init(&config);
    if (config_parse(&config, (const char *)data, size, "fuzz", &err) == ERR_OK) {
        for (int i = 0; i < CONFIG_N_ROWS; i++) {
            check_value(&config, &config_rows[i]);
        }
        check_printed(&config);
    } else {
        CHECK_BUG(err.code == ERR_INVALID && strncmp(err.msg, "fuzz:", 5) == 0);
    }
    return 0;
}
