#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/fields.h"
#include "base/str.h"
#include "media/sha256.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

#define TYPE    "multipart/form-data; boundary=B"
#define TEXT(n) "--B\r\nContent-Disposition: form-data; name=\"" n "\"\r\n\r\n"
#define PART(n) "--B\r\nContent-Disposition: form-data; name=" n "\r\n\r\n"

static int count_files(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;

    EXPECT(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n - 2;
}

/* Feeds in pieces of `piece` bytes, each in memory of its own. */
static bool feed(struct fields *ret, const char *type, const char *body, size_t len, size_t piece,
                 struct api_error *e)
{
    struct multipart *m = NULL;
    bool ok = multipart_open(&m, type, test_dir(), 1000, e);
    bool fed = ok;

    for (size_t i = 0; fed && i < len; i += piece) {
        const size_t n = len - i < piece ? len - i : piece;
        char *exact = test_alloc(n);

        memcpy(exact, body + i, n);
        fed = multipart_feed(m, exact, n);
        free(exact);
    }
    if (ok) {
        ok = multipart_finish(m, ret, e);
        EXPECT(fed || !ok);
    }
    multipart_free(m);
    return ok;
}

/* Tree and files as text, or the error's code and parameter; the same for every size of pieces. */
static void expect(const char *type, const char *body, size_t len, const char *want)
{
    const size_t sizes[] = {len ? len : 1, 1, 2, 3, 7, 31};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct fields f = {0};
        struct api_error e;
        struct str got;

        str_init(&got, 1 << 20);
        if (feed(&f, type, body, len, sizes[i], &e)) {
            char *text = cJSON_PrintUnformatted(f.root);

            EXPECT(f.form && str_add(&got, text));
            free(text);
            for (int k = 0; k < f.n_files; k++) {
                EXPECT(str_addf(&got, " %s:%lld", f.files[k].name, (long long)f.files[k].bytes));
            }
            EXPECT_INT(count_files(test_dir()), f.n_files);
        } else {
            EXPECT(str_addf(&got, "%s %s", api_code_name(e.code), e.param));
        }
        fields_done(&f);
        EXPECT_STR(str_get(&got), want);
        EXPECT_INT(count_files(test_dir()), 0);
        str_done(&got);
    }
}

static const struct {
    const char *body, *want;
} outcomes[] = {
    {TEXT("prompt") "a cat\r\n--B--\r\n", "{\"prompt\":\"a cat\"}"},
    {TEXT("prompt") "a cat\r\n--B--", "{\"prompt\":\"a cat\"}"},
    {"preamble\r\n" TEXT("a") "1\r\n--B--\r\nepilogue", "{\"a\":\"1\"}"},
    {"\r\n" TEXT("a") "1\r\n--B--", "{\"a\":\"1\"}"},
    {"\r\r\n" TEXT("a") "1\r\n--B--", "{\"a\":\"1\"}"},
    {"--B \t\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--B-- \r\n", "{\"a\":\"1\"}"},
    {"--B--", "{}"},
    {TEXT("a") "\r\n--B--", "{}"},
    {TEXT("a") "\r\r\n\r\n-\r\n--A\r\n--\n--B\r\r\n--B--",
     "{\"a\":\"\\r\\r\\n\\r\\n-\\r\\n--A\\r\\n--\\n--B\\r\"}"},
    {TEXT("tags[]") "x\r\n" TEXT("tags[]") "y\r\n" TEXT("m[k]") "v\r\n--B--",
     "{\"tags\":[\"x\",\"y\"],\"m\":{\"k\":\"v\"}}"},
    {"--B\r\ncontent-type: text/plain; "
     "charset=utf-16\r\nCONTENT-DISPOSITION:form-data;name=\"a\"\r\n"
     "Content-Transfer-Encoding: 8bit\r\n\r\n1\r\n--B--",
     "{\"a\":\"1\"}"},
    {PART("\"q\\\"\\\\\\x%22%0d\"") "1\r\n--B--", "{\"q\\\"\\\\\\\\x\\\"\\r\":\"1\"}"},
    {PART("a; filename=\"C:\\\\x.png\"") "12345\r\n--B--", "{} a:5"},
    {PART("a; filename*=utf-8''x.png") "12345\r\n--B--", "{} a:5"},
    {PART("a; filename=x") "\r\n--B--", "{} a:0"},
    {PART("a; filename=\"\"") "\r\n--B--", "{}"},
    {PART("a; filename=\"\"") "x\r\n--B--", "{} a:1"},
    {PART("a; filename=x") "1\r\n" PART("b; filename=y") "22\r\n" TEXT("c") "3\r\n--B--",
     "{\"c\":\"3\"} a:1 b:2"},
    {PART("a; filename=\"\"") "\r\n" PART("a; filename=y") "22\r\n--B--", "{} a:2"},
    {TEXT("a") "\r\n" PART("a; filename=y") "22\r\n--B--", "{} a:2"},
    {PART("a; filename=x") "1\r\n" TEXT("a") "\r\n--B--", "{} a:1"},

    {"", "invalid_multipart "},
    {"--B", "invalid_multipart "},
    {"--B-", "invalid_multipart "},
    {"--B\r\n", "invalid_multipart "},
    {TEXT("a") "1", "invalid_multipart "},
    {TEXT("a") "1\r\n", "invalid_multipart "},
    {TEXT("a") "1\r\n--B", "invalid_multipart "},
    {TEXT("a") "1\r\n--B\r\n", "invalid_multipart "},
    {TEXT("a") "1\n--B--\n", "invalid_multipart "},
    {"--B\nContent-Disposition: form-data; name=a\n\n1\n--B--\n", "invalid_multipart "},
    {"--B\r\nContent-Disposition: form-data; name=a\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--Bx\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--B-x\r\n", "invalid_multipart "},
    {"--B\rx", "invalid_multipart "},
    {"--B \r\r\n", "invalid_multipart "},
    {"--B\r\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--B\r\nContent-Type: text/plain\r\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--B\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--B\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b"
     "\r\n\r\n1\r\n--B--",
     "invalid_multipart "},
    {"--B\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--B\r\nContent-Disposition : form-data; name=a\r\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--B\r\nnonsense\r\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--B\r\n: x\r\n\r\n1\r\n--B--", "invalid_multipart "},
    {"--B\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=a\r\n"
     "\r\n1\r\n--B--",
     "invalid_multipart "},
    {PART("\"\"") "1\r\n--B--", "invalid_multipart "},
    {PART("a; name=b") "1\r\n--B--", "invalid_multipart "},
    {PART("\"a") "1\r\n--B--", "invalid_multipart "},
    {PART("\"a\\") "1\r\n--B--", "invalid_multipart "},
    {PART("\"a\" x") "1\r\n--B--", "invalid_multipart "},
    {PART("a; x") "1\r\n--B--", "invalid_multipart "},
    {TEXT("a") "1\r\n" TEXT("a") "1\r\n--B--", "invalid_multipart a"},
    {PART("a; filename=x") "1\r\n" PART("a; filename=y") "1\r\n--B--", "invalid_multipart a"},
    {PART("a; filename=x") "1\r\n" TEXT("a") "1\r\n--B--", "invalid_multipart a"},
    {TEXT("a") "1\r\n" PART("a; filename=x") "1\r\n--B--", "invalid_multipart a"},
    {TEXT("a[b][c]") "1\r\n--B--", "invalid_multipart a[b][c]"},
    {TEXT("a") "\xff\r\n--B--", "invalid_value a"},
    {PART("\"\xff\"; filename=x") "1\r\n--B--", "invalid_multipart "},
    {PART("a; filename=1") "\r\n" PART("b; filename=1") "\r\n" PART("c; filename=1") "\r\n" PART(
         "d; filename=1") "\r\n" PART("e; filename=1") "\r\n--B--",
     "invalid_multipart e"},
};

TEST(multipart_outcomes)
{
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
        expect(TYPE, outcomes[i].body, strlen(outcomes[i].body), outcomes[i].want);
    }
}

TEST(multipart_refuses_nul)
{
    static const char in_text[] = TEXT("a") "1\0002\r\n--B--";
    static const char in_head[] = TEXT("a\0b") "1\r\n--B--";

    expect(TYPE, in_text, sizeof(in_text) - 1, "invalid_value a");
    expect(TYPE, in_head, sizeof(in_head) - 1, "invalid_multipart ");
}

#define LONGEST "0123456789012345678901234567890123456789012345678901234567890123456789"

TEST(multipart_boundaries)
{
    static const char body[] =
        "--a'()+_,-./:=? z\r\nContent-Disposition: form-data; name=a\r\n\r\n1"
        "\r\n--a'()+_,-./:=? z--";
    static const char *const bad[] = {
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"a ",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=\"a\\\"b\"",
        "multipart/form-data; boundary=a*b",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data boundary=a",
        "multipart/form-data; boundary=\xc3\xa4",
    };

    expect("Multipart/Form-Data ; charset=utf-8; Boundary=\"a'()+_,-./:=? z\"", body, strlen(body),
           "{\"a\":\"1\"}");
    expect("multipart/form-data; boundary=" LONGEST, "--" LONGEST "--", 74, "{}");
    expect("multipart/form-data; boundary=" LONGEST "0", "", 0, "invalid_multipart ");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        expect(bad[i], "", 0, "invalid_multipart ");
    }
    expect("text/plain; boundary=a", "", 0, "unsupported_media_type ");
}

/* As OpenAI's Node SDK sends it. */
static const char sdk_type[] = "multipart/form-data; boundary=----formdata-undici-041213214721";
#define SDK "------formdata-undici-041213214721\r\nContent-Disposition: form-data; name="
static const char sdk_body[] = SDK
    "\"prompt\"\r\n\r\nA calico cat \xf0\x9f\x90\x88 playing a piano\r\n" SDK
    "\"model\"\r\n\r\nsora-2\r\n" SDK "\"seconds\"\r\n\r\n4\r\n" SDK
    "\"metadata[shot]\"\r\n\r\ns010\r\n" SDK "\"tags[]\"\r\n\r\nep3\r\n" SDK
    "\"tags[]\"\r\n\r\nday\r\n" SDK
    "\"input_reference\"; filename=\"ref.png\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    "\x89PNG\r\n\x1a\n\r\n------formdata-undici-0412132147\r\r\n\r\n"
    "------formdata-undici-041213214721--\r\n\r\n";

TEST(multipart_of_the_sdk_at_every_split)
{
    const size_t len = sizeof(sdk_body) - 1;

    for (size_t split = 0; split <= len; split++) {
        struct multipart *m = NULL;
        struct fields f = {0};
        struct api_error e;
        struct stat st;
        char *text;
        char sha[SHA256_HEX];
        int64_t bytes;
        struct err err;

        EXPECT(multipart_open(&m, sdk_type, test_dir(), 1000, &e));
        EXPECT(multipart_feed(m, sdk_body, split));
        EXPECT(multipart_feed(m, sdk_body + split, len - split));
        EXPECT(multipart_finish(m, &f, &e));
        multipart_free(m);
        text = cJSON_PrintUnformatted(f.root);
        EXPECT_STR(text, "{\"prompt\":\"A calico cat \xf0\x9f\x90\x88 playing a piano\",\"model\":"
                         "\"sora-2\",\"seconds\":\"4\",\"metadata\":{\"shot\":\"s010\"},\"tags\":"
                         "[\"ep3\",\"day\"]}");
        free(text);
        EXPECT_INT(f.n_files, 1);
        EXPECT_STR(f.files[0].name, "input_reference");
        EXPECT_INT(f.files[0].bytes, 8 + 2 + 32 + 3);
        EXPECT_OK(sha256_file(f.files[0].path, sha, &bytes, &err));
        EXPECT_STR(f.files[0].sha256, sha);
        EXPECT(bytes == f.files[0].bytes && stat(f.files[0].path, &st) == 0);
        EXPECT_INT(st.st_mode & 0777, 0600);
        fields_done(&f);
    }
    EXPECT_INT(count_files(test_dir()), 0);
}

TEST(multipart_cut_off_anywhere_is_refused)
{
    const size_t len = strlen(sdk_body) - 4; /* "--" ends it, what follows is epilogue */

    for (size_t cut = 0; cut < len; cut++) {
        struct fields f;
        struct api_error e;

        EXPECT(!feed(&f, sdk_type, sdk_body, cut, 50, &e));
        EXPECT_INT(e.code, API_INVALID_MULTIPART);
    }
    EXPECT_INT(count_files(test_dir()), 0);
}

static void expect_str(const struct str *body, const char *want)
{
    EXPECT(!body->failed);
    expect(TYPE, body->data, body->len, want);
}

TEST(multipart_is_bounded)
{
    struct str s;

    str_init(&s, 1 << 20);
    for (int i = 0; i <= FIELDS_MAX_PARTS; i++) {
        str_addf(&s, TEXT("a%d") "1\r\n", i);
    }
    str_add(&s, "--B--");
    expect_str(&s, "invalid_multipart ");
    s.len = 0;
    str_addf(&s, TEXT("user") "%0*d\r\n--B--", FIELDS_MAX_TEXT + 1, 0);
    expect_str(&s, "payload_too_large user");
    s.len = 0;
    str_addf(&s, PART("a; filename=x") "%01001d\r\n--B--", 0);
    expect_str(&s, "payload_too_large a");
    s.len = 0;
    str_addf(&s, PART("a; filename=x") "%01000d\r\n--B--", 0);
    expect_str(&s, "{} a:1000");
    s.len = 0;
    str_addf(&s, "--B\r\nX: %08192d\r\n", 0);
    expect_str(&s, "invalid_multipart ");
    s.len = 0;
    str_addf(&s, TEXT("%0128d") "1\r\n--B--", 0);
    expect_str(&s, "invalid_multipart ");
    s.len = 0;
    str_addf(&s, PART("%064d; filename=x") "1\r\n--B--", 0);
    expect_str(&s, "invalid_multipart ");
    str_done(&s);
}

TEST(multipart_long_texts_of_prompts_are_allowed)
{
    struct fields f = {0};
    struct api_error e;
    struct str s;

    str_init(&s, 1 << 20);
    str_addf(&s, TEXT("prompt") "%0*d\r\n--B--", FIELDS_MAX_TEXT + 1, 0);
    EXPECT(feed(&f, TYPE, s.data, s.len, s.len, &e));
    fields_done(&f);
    str_done(&s);
}

TEST(multipart_disk_full_is_insufficient_storage)
{
    static const char body[] = PART("a; filename=x") "0123456789\r\n--B--";
    struct rlimit old;
    struct rlimit tiny;
    struct fields f;
    struct api_error e;
    bool ok;

    EXPECT(getrlimit(RLIMIT_FSIZE, &old) == 0);
    tiny = old;
    tiny.rlim_cur = 5;
    signal(SIGXFSZ, SIG_IGN);
    EXPECT(setrlimit(RLIMIT_FSIZE, &tiny) == 0);
    ok = feed(&f, TYPE, body, strlen(body), 100, &e);
    EXPECT(setrlimit(RLIMIT_FSIZE, &old) == 0);
    signal(SIGXFSZ, SIG_DFL);
    EXPECT(!ok);
    EXPECT_INT(e.code, API_INSUFFICIENT_STORAGE);
    EXPECT_INT(count_files(test_dir()), 0);
}

TEST(multipart_without_its_folder_is_an_internal_error)
{
    static const char body[] = PART("a; filename=x") "0\r\n--B--";
    struct multipart *m = NULL;
    struct fields f;
    struct api_error e;

    EXPECT(multipart_open(&m, TYPE, "/proc/nowhere", 100, &e));
    EXPECT(!multipart_feed(m, body, strlen(body)));
    EXPECT(!multipart_feed(m, body, strlen(body))); /* and stays so */
    EXPECT(!multipart_finish(m, &f, &e));
    EXPECT_INT(e.code, API_INTERNAL_ERROR);
    multipart_free(m);
    multipart_free(NULL);
}

TEST(multipart_survives_every_failed_allocation)
{
    alloc_fail_hook_cjson();
    for (long n = 1;; n++) {
        struct multipart *m = NULL;
        struct fields f = {0};
        struct api_error e;
        bool ok;

        alloc_fail_at(n);
        ok = multipart_open(&m, sdk_type, test_dir(), 1000, &e);
        if (ok) {
            (void)multipart_feed(m, sdk_body, sizeof(sdk_body) - 1);
            ok = multipart_finish(m, &f, &e);
        }
        multipart_free(m);
        fields_done(&f);
        if (!alloc_fail_stop()) {
            EXPECT(ok);
            break;
        }
        EXPECT(!ok && e.code == API_INTERNAL_ERROR);
        EXPECT_INT(count_files(test_dir()), 0);
    }
}
