#include "api/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

enum {
    DEPTH = 32
};

/* From memory of exactly that size, where ASan sees one byte too many. */
static int parse(const char *text, size_t len, struct err *err)
{
    char *exact = test_alloc(len);
    cJSON *root = NULL;
    int rc;

    memcpy(exact, text, len);
    rc = json_parse(&root, exact, len, DEPTH, err);
    cJSON_Delete(root);
    free(exact);
    return rc;
}

TEST(json_takes_what_the_standard_allows)
{
    static const char *const good[] = {
        "{}",
        " { \"a\" : [ 1 , -0.5e+3 , 1E2, 0, -0 , true,false , null, \"\" ] } \r\n\t",
        "\"\\u00e4\\ud83d\\ude00 \\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"",
        "7",
        "[[],{}]",
        "\"\x7f\"",
    };

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct err err;

        EXPECT_OK(parse(good[i], strlen(good[i]), &err));
    }
}

TEST(json_refuses_everything_else)
{
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\":1",
        "'a'",
        "tru",
        "truex",
        "nul",
        "01",
        "+1",
        "1.",
        ".5",
        "-",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "1 2",
        "{} {}",
        "{}x",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\t\"",
        "\"\n\"",
        "\"\x80\"",
        "\"\xc0\xaf\"",
        "\"\xed\xa0\x80\"",
        "\"\xf5\x80\x80\x80\"",
        "\"\xe2\x82\"",
        "\"\xe0\x80\xaf\"",
        "\"\xf0\x80\x80\xaf\"",
        "\xef\xbb\xbf{}",
        "/* */{}",
        "{}//",
        "1e999",
        "[-1e999]",
        "{\"a\":1,\"a\":2}",
        "{\"b\":[{\"a\":1,\"\\u0061\":2}]}",
        "1.0000000000000000000000000000000000000000000000000000000000001",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err;

        if (parse(bad[i], strlen(bad[i]), &err) != ERR_FORMAT) {
            test_fail(__FILE__, __LINE__, "accepted: %s", bad[i]);
        }
    }
}

TEST(json_refuses_nul_bytes)
{
    struct err err;

    EXPECT_INT(parse("\"a\0b\"", 5, &err), ERR_FORMAT);
    EXPECT_INT(parse("{}\0", 3, &err), ERR_FORMAT);
}

/* `head`, n times `part` with commas, `tail`. */
static int parse_many(const char *head, const char *part, int n, const char *tail, struct err *err)
{
    struct str s;
    int rc;

    str_init(&s, 1 << 24);
    EXPECT(str_add(&s, head));
    for (int i = 0; i < n; i++) {
        EXPECT(str_addf(&s, "%s%s", i > 0 ? "," : "", part));
    }
    EXPECT(str_add(&s, tail));
    rc = parse(s.data, s.len, err);
    str_done(&s);
    return rc;
}

TEST(json_depth_is_limited_before_cjson_recurses)
{
    struct str s;
    struct err err;

    str_init(&s, 1 << 24);
    for (int i = 0; i < 1000000; i++) {
        EXPECT(str_add(&s, "["));
    }
    EXPECT_INT(parse(s.data, s.len, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "nested");
    s.data[DEPTH] = '\0';
    s.len = DEPTH;
    for (int i = 0; i < DEPTH; i++) {
        EXPECT(str_add(&s, "]"));
    }
    EXPECT_OK(parse(s.data, s.len, &err));
    str_done(&s);
}

TEST(json_values_members_and_names_are_limited)
{
    struct str s;
    struct err err;

    EXPECT_OK(parse_many("[", "0", JSON_MAX_VALUES - 1, "]", &err));
    EXPECT_INT(parse_many("[", "0", JSON_MAX_VALUES, "]", &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "values");
    str_init(&s, 1 << 20);
    for (int i = 0; i <= JSON_MAX_MEMBERS; i++) {
        EXPECT(str_addf(&s, "%s\"%d\":0", i > 0 ? "," : "{", i));
    }
    EXPECT(str_add(&s, "}"));
    EXPECT_INT(parse(s.data, s.len, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "members");
    s.len = 0;
    EXPECT(str_addf(&s, "{\"%0*d\":0}", JSON_MAX_NAME, 0));
    EXPECT_INT(parse(s.data, s.len, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "name");
    str_done(&s);
}

TEST(json_every_cut_is_refused)
{
    static const char text[] = "{\"a\":[1.5e3,\"x\\u00e4\xc3\xa4\",true,null,{\"b\":{}}],\"c\":-1}";

    for (size_t len = 0; len < strlen(text); len++) {
        struct err err;

        EXPECT_INT(parse(text, len, &err), ERR_FORMAT);
    }
}

TEST(json_survives_every_failed_allocation)
{
    static const char text[] = "{\"a\":[1,\"x\"],\"b\":{\"c\":null}}";

    alloc_fail_hook_cjson();
    for (long n = 1;; n++) {
        cJSON *root = NULL;
        struct err err;
        int rc;

        alloc_fail_at(n);
        rc = json_parse(&root, text, strlen(text), DEPTH, &err);
        cJSON_Delete(root);
        if (!alloc_fail_stop()) {
            EXPECT_INT(rc, ERR_OK);
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
}

static cJSON *value(const char *text)
{
    cJSON *root = NULL;
    struct err err;

    EXPECT_OK(json_parse(&root, text, strlen(text), DEPTH, &err));
    return root;
}

TEST(json_values_may_be_text)
{
    static const struct {
        const char *text;
        bool is_int, is_real, is_bool;
        double number;
    } cases[] = {
        {"4", true, true, false, 4},
        {"\"4\"", true, true, false, 4},
        {"-3", true, true, false, -3},
        {"\"-3\"", true, true, false, -3},
        {"4.5", false, true, false, 4.5},
        {"\"4.5\"", false, true, false, 4.5},
        {"4.0", true, true, false, 4},
        {"\"4.0\"", false, true, false, 4},
        {"1", true, true, true, 1},
        {"\"0\"", true, true, true, 0},
        {"true", false, false, true, 0},
        {"\"false\"", false, false, true, 0},
        {"\"True\"", false, false, false, 0},
        {"\" 4\"", false, false, false, 0},
        {"\"+4\"", false, false, false, 0},
        {"\"4e1\"", false, false, false, 0},
        {"\"0x4\"", false, false, false, 0},
        {"\".5\"", false, false, false, 0},
        {"\"5.\"", false, false, false, 0},
        {"\"-\"", false, false, false, 0},
        {"\"\"", false, false, false, 0},
        {"\"nan\"", false, false, false, 0},
        {"null", false, false, false, 0},
        {"[]", false, false, false, 0},
        {"9007199254740991", true, true, false, 9007199254740991.0},
        {"9007199254740992", false, true, false, 9007199254740992.0},
        {"\"9007199254740993\"", false, true, false, 9007199254740992.0},
        {"\"111111111111111111111\"", false, false, false, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cJSON *v = value(cases[i].text);
        int64_t whole = 0;
        double real = 0;
        bool flag;

        EXPECT_INT(json_to_int(v, &whole), cases[i].is_int);
        EXPECT_INT(json_to_real(v, &real), cases[i].is_real);
        EXPECT_INT(json_to_bool(v, &flag), cases[i].is_bool);
        EXPECT(real == cases[i].number);
        EXPECT(!cases[i].is_int || (double)whole == cases[i].number);
        cJSON_Delete(v);
    }
}

TEST(json_same_sees_through_text)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"16", "\"16\"", true},
        {"\"16.0\"", "16", true},
        {"16", "17", false},
        {"true", "\"1\"", true},
        {"true", "false", false},
        {"\"a\"", "\"a\"", true},
        {"\"a\"", "\"b\"", false},
        {"[1]", "[1]", true},
        {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", true},
        {"{\"a\":1}", "[]", false},
        {"{\"a\":1}", "{}", false},
        {"{\"a\":1}", "{\"b\":1}", false},
        {"{\"a\":1,\"b\":2}", "{\"a\":1,\"c\":2}", false},
        {"[1,2]", "[1]", false},
        {"[1,2]", "[2,1]", false},
        {"null", "null", true},
        {"null", "\"null\"", false},
        {"\"\"", "[]", false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cJSON *a = value(cases[i].a);
        cJSON *b = value(cases[i].b);

        EXPECT_INT(json_same(a, b), cases[i].same);
        EXPECT_INT(json_same(b, a), cases[i].same);
        cJSON_Delete(a);
        cJSON_Delete(b);
    }
}

/* cJSON_Compare needs 2^depth steps for this. */
TEST(json_same_of_deep_objects_ends)
{
    struct str s;
    cJSON *a;
    cJSON *b;

    str_init(&s, 4096);
    for (int i = 0; i < DEPTH; i++) {
        EXPECT(str_add(&s, i < DEPTH - 1 ? "{\"a\":0,\"b\":" : "{"));
    }
    for (int i = 0; i < DEPTH; i++) {
        EXPECT(str_add(&s, "}"));
    }
    a = value(s.data);
    b = value(s.data);
    EXPECT(json_same(a, b));
    cJSON_Delete(a);
    cJSON_Delete(b);
    str_done(&s);
}

TEST(json_counts_characters_not_bytes)
{
    EXPECT_INT(json_code_points(""), 0);
    EXPECT_INT(json_code_points("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), 4);
    EXPECT(json_utf8_valid("a\xc3\xa4", 3));
    EXPECT(!json_utf8_valid("a\xc3\xa4", 2));
    EXPECT(!json_utf8_valid("a\0b", 3));
}
