#include "engine/json_read.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/model_files.h"
#include "tests/support/test.h"

/* Fields of a text that parses. */
static cJSON *parse(const char *text, struct json_fields *f, struct err *err)
{
    cJSON *root = NULL;

    EXPECT_INT(json_parse_object(&root, text, strlen(text), 100, "file", err), ERR_OK);
    json_fields_init(f, root, "file", err);
    return root;
}

TEST(json_read_returns_typed_fields_and_defaults)
{
    static const struct json_list limits = {0, 4, -10, 10};
    struct json_fields f;
    struct err err = {0};
    cJSON *root = parse("{\"i\":-3,\"r\":2.5,\"b\":true,\"t\":\"x\",\"n\":null,\"l\":[1,-2],"
                        "\"lb\":[false,true],\"big\":9007199254740992}",
                        &f, &err);
    int64_t ints[4];
    double reals[4];
    bool bools[4];

    EXPECT_INT(json_int(&f, "i", -5, 5), -3);
    EXPECT_INT(json_int(&f, "big", 0, JSON_MAX_INT), JSON_MAX_INT);
    EXPECT(json_real(&f, "r", 0, 10) == 2.5);
    EXPECT(json_real(&f, "i", -10, 10) == -3);
    EXPECT(json_bool(&f, "b"));
    EXPECT_STR(json_text(&f, "t"), "x");
    EXPECT_INT(json_int_or(&f, "n", 0, 9, 7), 7);
    EXPECT_INT(json_int_or(&f, "none", 0, 9, 8), 8);
    EXPECT(json_real_or(&f, "n", 0, 9, 0.5) == 0.5);
    EXPECT(json_bool_or(&f, "n", true));
    EXPECT_STR(json_text_or(&f, "n", "d"), "d");
    EXPECT(!json_find(&f, "n") && json_find(&f, "i"));
    EXPECT_INT(json_int_list(&f, "l", &limits, ints), 2);
    EXPECT(ints[0] == 1 && ints[1] == -2);
    EXPECT_INT(json_real_list(&f, "l", &limits, reals), 2);
    EXPECT(reals[1] == -2);
    EXPECT_INT(json_bool_list(&f, "lb", &limits, bools), 2);
    EXPECT(!bools[0] && bools[1]);
    EXPECT_INT(f.rc, ERR_OK);
    cJSON_Delete(root);
}

TEST(json_read_keeps_the_first_error_and_returns_harmless_values)
{
    static const struct json_list limits = {2, 3, 5, 9};
    struct json_fields f;
    struct err err = {0};
    cJSON *root = parse("{\"i\":99,\"l\":[7],\"t\":3}", &f, &err);
    int64_t ints[3] = {0, 0, 0};

    EXPECT_INT(json_int(&f, "i", 1, 5), 1);
    EXPECT_INT(f.rc, ERR_FORMAT);
    EXPECT_STR(err.msg, "file: i: 99 is not an integer in 1..5");
    EXPECT_INT(json_int_list(&f, "l", &limits, ints), 2);
    EXPECT(ints[0] == 5 && ints[1] == 5);
    EXPECT_STR(json_text(&f, "t"), "");
    EXPECT(!json_bool(&f, "none"));
    EXPECT_STR(err.msg, "file: i: 99 is not an integer in 1..5");
    cJSON_Delete(root);
}

TEST(json_read_bounds_values_and_keys)
{
    struct json_fields f;
    struct err err = {0};
    struct str s;
    cJSON *root = NULL;

    EXPECT_INT(json_parse_object(&root, "{\"a\":[1,2,3]}", 13, 4, "file", &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "more than 4 values");
    EXPECT_OK(json_parse_object(&root, "{\"a\":[1,2,3]}", 13, 5, "file", &err));
    cJSON_Delete(root);
    /* brackets and commas in strings count for nothing */
    EXPECT_OK(json_parse_object(&root, "{\"a\":\"[[\\\",,{{\"}", 16, 2, "file", &err));
    cJSON_Delete(root);
    str_init(&s, 1 << 20);
    EXPECT(str_add(&s, "{\"k\":0"));
    for (int i = 0; i < 1100; i++) {
        EXPECT(str_addf(&s, ",\"k%d\":0", i));
    }
    EXPECT(str_add(&s, "}"));
    EXPECT_OK(json_parse_object(&root, str_get(&s), s.len, 2000, "file", &err));
    json_fields_init(&f, root, "file", &err);
    EXPECT_INT(f.rc, ERR_FORMAT);
    cJSON_Delete(root);
    str_done(&s);
}

TEST(json_read_file_takes_regular_files_up_to_a_size)
{
    const char *dir = files_dir("files");
    const char *path = files_path(dir, "a.json");
    const char *fifo = files_path(dir, "fifo");
    struct err err = {0};
    char *text = NULL;
    size_t len = 0;

    files_write(path, "{}\n", 3);
    EXPECT_OK(json_read_file(&text, &len, path, 3, &err));
    EXPECT_INT(len, 3);
    EXPECT_STR(text, "{}\n");
    free(text);
    EXPECT_INT(json_read_file(&text, &len, path, 2, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "a.json: 3 bytes, the limit is 2");
    EXPECT_INT(json_read_file(&text, &len, dir, 100, &err), ERR_FORMAT);
    EXPECT_INT(json_read_file(&text, &len, files_path(dir, "b.json"), 100, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "b.json");
    EXPECT_INT(json_read_file(&text, &len, files_path(path, "c"), 100, &err), ERR_NOT_FOUND);
    EXPECT(mkfifo(fifo, 0600) == 0); /* and it does not wait for a writer */
    EXPECT_INT(json_read_file(&text, &len, fifo, 100, &err), ERR_FORMAT);
}

TEST(json_printable_replaces_what_is_not_ascii)
{
    char text[8];

    EXPECT_STR(json_printable(text, sizeof(text), "a\n\x1b\xc3z"), "a???z");
    EXPECT_STR(json_printable(text, sizeof(text), "0123456789"), "0123456");
}
