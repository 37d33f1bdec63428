#include "api/fields.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

typedef bool (*parse_fn)(struct fields *ret, const char *data, size_t len, struct api_error *e);

/* The tree as JSON, or the error's code and parameter as "code param". Owned by the caller. */
static char *outcome(parse_fn parse, const char *data, size_t len)
{
    char *exact = test_alloc(len);
    struct fields f = {0};
    struct api_error e;
    char *text;

    memcpy(exact, data, len);
    if (parse(&f, exact, len, &e)) {
        EXPECT_INT(f.form, parse == fields_from_urlencoded);
        text = cJSON_PrintUnformatted(f.root);
    } else {
        EXPECT(!f.root && e.message[0] != '\0');
        text = test_alloc(256);
        snprintf(text, 256, "%s %s", api_code_name(e.code), e.param);
    }
    fields_done(&f);
    free(exact);
    return text;
}

struct expected {
    const char *body;
    const char *outcome;
};

static void check_all(parse_fn parse, const struct expected *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *got = outcome(parse, cases[i].body, strlen(cases[i].body));

        EXPECT_STR(got, cases[i].outcome);
        free(got);
    }
}

TEST(fields_of_json)
{
    static const struct expected cases[] = {
        {"{}", "{}"},
        {" {\"prompt\":\"x\",\"seconds\":4} ", "{\"prompt\":\"x\",\"seconds\":4}"},
        {"", "invalid_json "},
        {"[]", "invalid_json "},
        {"\"x\"", "invalid_json "},
        {"{\"a\":1,\"a\":1}", "invalid_json "},
        {"{\"a\":\"\\u0000\"}", "invalid_json "},
        {"{\"a\":\"\xff\"}", "invalid_json "},
        {"{\"a\":1} x", "invalid_json "},
    };

    check_all(fields_from_json, cases, ARRAY_LEN(cases));
}

TEST(fields_of_urlencoded)
{
    static const struct expected cases[] = {
        {"", "{}"},
        {"prompt=a+b%20c%2b&seconds=4", "{\"prompt\":\"a b c+\",\"seconds\":\"4\"}"},
        {"&&a=1&", "{\"a\":\"1\"}"},
        {"a=", "{}"},
        {"a", "{}"},
        {"a=1=2", "{\"a\":\"1=2\"}"},
        {"a=%C3%a4", "{\"a\":\"\xc3\xa4\"}"},
        {"metadata%5Bshot%5D=s1&metadata[x]=y", "{\"metadata\":{\"shot\":\"s1\",\"x\":\"y\"}}"},
        {"tags[]=a&tags%5b%5d=b", "{\"tags\":[\"a\",\"b\"]}"},
        {"a=&a=1", "{\"a\":\"1\"}"},
        {"a=1&a=1", "invalid_multipart a"},
        {"m[x]=1&m[x]=1", "invalid_multipart m[x]"},
        {"m[x]=1&m[]=1", "invalid_multipart m[]"},
        {"m[x]=1&m=1", "invalid_multipart m"},
        {"m=1&m[x]=1", "invalid_multipart m[x]"},
        {"=1", "invalid_multipart "},
        {"[a]=1", "invalid_multipart [a]"},
        {"a[b][c]=1", "invalid_multipart a[b][c]"},
        {"a[b=1", "invalid_multipart a[b"},
        {"a[b]c=1", "invalid_multipart a[b]c"},
        {"a[[]=1", "invalid_multipart a[[]"},
        {"a=%", "invalid_multipart "},
        {"a=%4", "invalid_multipart "},
        {"a=%4g", "invalid_multipart "},
        {"%zz=1", "invalid_multipart "},
        {"%00=1", "invalid_multipart "},
        {"a=%00", "invalid_value a"},
        {"a=%ff", "invalid_value a"},
        {"%ff=1", "invalid_multipart ?"},
    };

    check_all(fields_from_urlencoded, cases, ARRAY_LEN(cases));
}

TEST(fields_of_a_form_are_bounded)
{
    struct str s;
    char *got;

    str_init(&s, 1 << 25);
    for (int i = 0; i <= FIELDS_MAX_PARTS; i++) {
        EXPECT(str_addf(&s, "a%d=1&", i));
    }
    got = outcome(fields_from_urlencoded, s.data, s.len);
    EXPECT_STR(got, "invalid_multipart ");
    free(got);
    s.len = 0;
    EXPECT(str_addf(&s, "user=%0*d", FIELDS_MAX_TEXT + 1, 0));
    got = outcome(fields_from_urlencoded, s.data, s.len);
    EXPECT_STR(got, "payload_too_large user");
    free(got);
    memcpy(s.data, "extra_body=", 11); /* longer than "user=", and allowed to be long */
    got = outcome(fields_from_urlencoded, s.data, s.len);
    EXPECT_CONTAINS(got, "{\"extra_body\":\"000");
    free(got);
    s.len = 0;
    EXPECT(str_addf(&s, "%0*d=1", 200, 0));
    got = outcome(fields_from_urlencoded, s.data, s.len);
    EXPECT_CONTAINS(got, "invalid_multipart 000");
    free(got);
    str_done(&s);
}

TEST(fields_done_removes_files_that_were_not_taken)
{
    struct fields f = {.root = cJSON_CreateObject(), .n_files = 2};
    char kept[FIELDS_PATH];

    for (int i = 0; i < 2; i++) {
        FILE *file;

        snprintf(f.files[i].path, FIELDS_PATH, "%s/file%d", test_dir(), i);
        file = fopen(f.files[i].path, "w");
        EXPECT(file && fclose(file) == 0);
    }
    snprintf(kept, sizeof(kept), "%s", f.files[0].path);
    f.files[0].path[0] = '\0';
    fields_done(&f);
    EXPECT(access(kept, F_OK) == 0);
    snprintf(kept, sizeof(kept), "%s/file1", test_dir());
    EXPECT(access(kept, F_OK) != 0);
    fields_done(&f); /* zeroed */
}

TEST(fields_survive_every_failed_allocation)
{
    static const char form[] = "prompt=x&metadata[a]=b&tags[]=c&tags[]=d";
    static const char json[] = "{\"prompt\":\"x\",\"tags\":[\"a\"]}";
    static const parse_fn parse[] = {fields_from_urlencoded, fields_from_json};
    const char *const text[] = {form, json};

    alloc_fail_hook_cjson();
    for (int i = 0; i < 2; i++) {
        for (long n = 1;; n++) {
            struct fields f = {0};
            struct api_error e;
            bool ok;

            alloc_fail_at(n);
            ok = parse[i](&f, text[i], strlen(text[i]), &e);
            fields_done(&f);
            if (!alloc_fail_stop()) {
                EXPECT(ok);
                break;
            }
            EXPECT(!ok && e.code == API_INTERNAL_ERROR);
        }
    }
}
