#include "tests/support/model_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/test.h"

enum {
    PATH_BYTES = 1024,
    HEADER_BYTES = 4 << 20
};

/* Paths live as long as the program: they are kept in a list. */
struct kept_path {
    struct kept_path *next;
    char text[PATH_BYTES];
};

const char *files_path(const char *dir, const char *name)
{
    static struct kept_path *kept;
    struct kept_path *p = test_alloc(sizeof(*p));

    EXPECT(snprintf(p->text, PATH_BYTES, "%s/%s", dir, name) < PATH_BYTES);
    p->next = kept;
    kept = p;
    return p->text;
}

const char *files_dir(const char *name)
{
    const char *path = files_path(test_dir(), name);

    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        test_fail(__FILE__, __LINE__, "mkdir %s: %m", path);
    }
    return path;
}

char *files_read(const char *path, size_t *ret_len)
{
    FILE *f = fopen(path, "rbe");
    struct stat st;
    char *data;

    if (!f || fstat(fileno(f), &st) != 0) {
        test_fail(__FILE__, __LINE__, "%s: %m", path);
    }
    data = test_alloc((size_t)st.st_size + 1);
    if (fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
        test_fail(__FILE__, __LINE__, "%s: short read", path);
    }
    fclose(f);
    data[st.st_size] = '\0';
    *ret_len = (size_t)st.st_size;
    return data;
}

void files_write_sparse(const char *path, const void *data, size_t len, uint64_t file_len)
{
    FILE *f = fopen(path, "wbe");

    if (!f || fwrite(data, 1, len, f) != len || fflush(f) != 0 ||
        ftruncate(fileno(f), (off_t)file_len) != 0 || fclose(f) != 0) {
        test_fail(__FILE__, __LINE__, "write %s: %m", path);
    }
}

void files_write(const char *path, const void *data, size_t len)
{
    files_write_sparse(path, data, len, len);
}

static void copy_file(const char *from, const char *to)
{
    size_t len;
    char *data = files_read(from, &len);

    files_write(to, data, len);
    free(data);
}

void files_copy_dir(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    const struct dirent *e;

    if (!dir || mkdir(to, 0777) != 0) {
        test_fail(__FILE__, __LINE__, "copy %s to %s: %m", from, to);
    }
    while ((e = readdir(dir)) != NULL) {
        char source[PATH_BYTES];
        char target[PATH_BYTES];
        struct stat st;

        if (e->d_name[0] == '.') {
            continue;
        }
        EXPECT(snprintf(source, PATH_BYTES, "%s/%s", from, e->d_name) < PATH_BYTES);
        EXPECT(snprintf(target, PATH_BYTES, "%s/%s", to, e->d_name) < PATH_BYTES);
        EXPECT(stat(source, &st) == 0);
        if (S_ISDIR(st.st_mode)) {
            files_copy_dir(source, target);
        } else {
            copy_file(source, target);
        }
    }
    closedir(dir);
}

char *text_replace(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    char *result;
    size_t size;

    if (!at) {
        test_fail(__FILE__, __LINE__, "the text to change has no %s", from);
    }
    size = strlen(text) - strlen(from) + strlen(to) + 1;
    result = test_alloc(size);
    snprintf(result, size, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return result;
}

void files_replace(const char *path, const char *from, const char *to)
{
    size_t len;
    char *data = files_read(path, &len);
    const char *at = memmem(data, len, from, strlen(from));
    struct str result;
    size_t head;

    if (!at) {
        test_fail(__FILE__, __LINE__, "%s has no %s", path, from);
    }
    head = (size_t)(at - data);
    str_init(&result, len + strlen(to));
    EXPECT(str_append(&result, data, head) && str_add(&result, to) &&
           str_append(&result, at + strlen(from), len - head - strlen(from)));
    files_write(path, result.data, result.len);
    str_done(&result);
    free(data);
}

void header_init(struct header_writer *w)
{
    *w = (struct header_writer){0};
    str_init(&w->text, HEADER_BYTES);
    EXPECT(str_add(&w->text, "{\"__metadata__\":{\"format\":\"pt\"}"));
}

void header_done(struct header_writer *w)
{
    str_done(&w->text);
}

void header_add(struct header_writer *w, const char *name, const char *dtype, int element_bytes,
                int rank, const int64_t *dims)
{
    uint64_t bytes = (uint64_t)element_bytes;

    EXPECT(str_addf(&w->text, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", name, dtype));
    for (int i = 0; i < rank; i++) {
        EXPECT(str_addf(&w->text, i ? ",%lld" : "%lld", (long long)dims[i]));
        bytes *= (uint64_t)dims[i];
    }
    EXPECT(str_addf(&w->text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)w->data_bytes,
                    (unsigned long long)(w->data_bytes + bytes)));
    w->data_bytes += bytes;
}

void header_write_sparse(struct header_writer *w, const char *path)
{
    struct str file;
    uint64_t len;
    unsigned char length[8];

    EXPECT(str_add(&w->text, "}"));
    while (w->text.len % 8 != 0) { /* writers align the data so */
        EXPECT(str_add(&w->text, " "));
    }
    len = w->text.len;
    for (int i = 0; i < 8; i++) {
        length[i] = (unsigned char)(len >> (8 * i));
    }
    str_init(&file, HEADER_BYTES + 8);
    EXPECT(str_append(&file, length, 8) && str_append(&file, w->text.data, w->text.len));
    files_write_sparse(path, file.data, file.len, file.len + w->data_bytes);
    str_done(&file);
}
