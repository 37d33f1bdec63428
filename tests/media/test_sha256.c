#include "media/sha256.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

/* FIPS 180-4 and NIST's examples. */
static const struct {
    const char *text;
    int times;
    const char *hex;
} known[] = {
    {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

TEST(sha256_knows_the_answers)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        struct sha256 *s = sha256_create();
        char hex[SHA256_HEX];

        EXPECT(s);
        for (int k = 0; k < known[i].times; k++) {
            sha256_update(s, known[i].text, strlen(known[i].text));
        }
        sha256_final(s, hex);
        EXPECT_STR(hex, known[i].hex);
        sha256_free(s);
    }
    sha256_free(NULL);
}

TEST(sha256_of_a_file_is_that_of_its_bytes)
{
    const char *path = files_path(test_dir(), "file");

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        const size_t n = strlen(known[i].text);
        const size_t len = n * (size_t)known[i].times;
        char *data = test_alloc(len + 1);
        char hex[SHA256_HEX];
        int64_t bytes = -1;
        struct err err;

        for (int k = 0; k < known[i].times; k++) {
            memcpy(data + (size_t)k * n, known[i].text, n);
        }
        files_write(path, data, len);
        EXPECT_OK(sha256_file(path, hex, &bytes, &err));
        EXPECT_STR(hex, known[i].hex);
        EXPECT_INT(bytes, len);
        free(data);
    }
    unlink(path);
}

TEST(sha256_of_what_is_no_file_is_an_error)
{
    const char *path = files_path(test_dir(), "none");
    char hex[SHA256_HEX];
    int64_t bytes;
    struct err err;

    EXPECT_INT(sha256_file(path, hex, &bytes, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, path);
    EXPECT_INT(sha256_file(test_dir(), hex, &bytes, &err), ERR_IO);
    EXPECT(mkfifo(path, 0600) == 0); /* must not wait for a writer */
    EXPECT_INT(sha256_file(path, hex, &bytes, &err), ERR_IO);
    unlink(path);
}

TEST(sha256_survives_every_failed_allocation)
{
    const char *path = files_path(test_dir(), "file");
    char hex[SHA256_HEX];
    int64_t bytes;
    struct err err;
    bool fired = true;
    long n;

    files_write(path, "abc", 3);
    for (n = 1; fired; n++) {
        int rc;

        alloc_fail_at(n);
        rc = sha256_file(path, hex, &bytes, &err);
        fired = alloc_fail_stop();
        EXPECT_INT(rc, fired ? ERR_NO_MEMORY : ERR_OK);
    }
    EXPECT(n > 2);
    unlink(path);
}
