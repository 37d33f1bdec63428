/*
 * fuzz_multipart.c - a form from anybody; the boundary is "B". The first byte is the size of the pieces. In
 * which pieces it comes must make no difference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/fields.h"
#include "api/json.h"

enum {
    MAX_FILE = 4096
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char spool[] = "/tmp/sanad-fuzz-XXXXXX";

static void remove_spool(void)
{
    CHECK_BUG(rmdir(spool) == 0); /* no file was left there */
}

static bool parse(struct fields *ret, const uint8_t *data, size_t size, size_t piece,
                  struct api_error *e)
{
    struct multipart *m = NULL;
    bool ok;

    CHECK_BUG(multipart_open(&m, "multipart/form-data; boundary=B", spool, MAX_FILE, e));
    for (size_t i = 0; i < size; i += piece) {
        if (!multipart_feed(m, data + i, size - i < piece ? size - i : piece)) {
            break;
        }
    }
    ok = multipart_finish(m, ret, e);
    multipart_free(m);
    return ok;
}

static void check(const struct fields *f)
{
    char *text = cJSON_PrintUnformatted(f->root);

    CHECK_BUG(text && json_utf8_valid(text, strlen(text)) && cJSON_IsObject(f->root));
    cJSON_free(text);
    for (int i = 0; i < f->n_files; i++) {
        struct stat st;

        CHECK_BUG(stat(f->files[i].path, &st) == 0 && st.st_size == f->files[i].bytes);
        CHECK_BUG(st.st_size <= MAX_FILE && strlen(f->files[i].sha256) == 64);
    }
}

static void check_same(const struct fields *a, const struct fields *b)
{
    CHECK_BUG(json_same(a->root, b->root));
    CHECK_BUG(a->n_files == b->n_files);
    for (int i = 0; i < a->n_files; i++) {
        CHECK_BUG(strcmp(a->files[i].sha256, b->files[i].sha256) == 0);
    }
}

static void check_error(const struct api_error *a, const struct api_error *b)
{
    CHECK_BUG(a->code == b->code);
    CHECK_BUG(strcmp(a->message, b->message) == 0);
    CHECK_BUG(json_utf8_valid(a->message, strlen(a->message)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fields f[2] = {0};
    struct api_error e[2];
    bool ok[2];

    if (spool[strlen(spool) - 1] == 'X') {
        CHECK_BUG(mkdtemp(spool) && atexit(remove_spool) == 0);
    }
    if (size == 0) {
        return 0;
    }
    ok[0] = parse(&f[0], data + 1, size - 1, size, &e[0]);
    ok[1] = parse(&f[1], data + 1, size - 1, 1 + data[0] % 64, &e[1]);
    CHECK_BUG(ok[0] == ok[1]);
    if (ok[0]) {
        check(&f[0]);
        check_same(&f[0], &f[1]);
    } else {
        check_error(&e[0], &e[1]);
    }
    fields_done(&f[0]);
    fields_done(&f[1]);
    return 0;
}
