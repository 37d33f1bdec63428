#include "jobs/model_facts.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

/* As worker/worker_facts.h says it. */
static const char ready[] =
    "{\"id\":\"sana-video-2b-480p\",\"aliases\":[\"sana\",\"demo\"],\"family\":\"SANA-Video\","
    "\"causal\":false,\"image\":true,\"device\":\"CPU, 2 threads\",\"weights_bytes\":8000000000,"
    "\"native_sizes\":[\"896x448\",\"832x480\",\"624x624\",\"480x832\"],\"any_size\":false,"
    "\"size_multiple\":16,\"default_width\":832,\"default_height\":480,\"min_side\":32,"
    "\"max_side\":1920,\"max_pixels\":2088960,\"fps\":16,\"frame_multiple\":4,\"frame_offset\":1,"
    "\"default_frames\":81,\"max_frames\":14400,\"block_frames\":81,\"default_steps\":50,"
    "\"min_steps\":1,\"max_steps\":200,\"guidance_scale\":6,\"flow_shift\":8.5,\"motion_score\":30,"
    "\"max_prompt_tokens\":300}";

static struct model_facts parsed(void)
{
    struct model_facts facts;
    struct err err;

    EXPECT_OK(model_facts_parse(&facts, ready, strlen(ready), &err));
    return facts;
}

TEST(model_facts_are_read)
{
    const struct model_facts f = parsed();

    EXPECT_STR(f.id, "sana-video-2b-480p");
    EXPECT_INT(f.n_aliases, 2);
    EXPECT_STR(f.aliases[1], "demo");
    EXPECT_STR(f.family, "SANA-Video");
    EXPECT_STR(f.device, "CPU, 2 threads");
    EXPECT(!f.causal && f.image && !f.any_size);
    EXPECT_INT(f.n_sizes, 4);
    EXPECT_INT(f.sizes[3].width, 480);
    EXPECT_INT(f.sizes[3].height, 832);
    EXPECT_INT(f.size_multiple, 16);
    EXPECT_INT(f.default_width, 832);
    EXPECT_INT(f.max_pixels, 2088960);
    EXPECT_INT(f.weights_bytes, 8000000000);
    EXPECT(f.fps == 16 && f.guidance_scale == 6 && f.flow_shift == 8.5);
    EXPECT_INT(f.max_frames, 14400);
    EXPECT_INT(f.max_steps, 200);
}

TEST(model_facts_refuse_what_is_missing_or_wrong)
{
    static const struct {
        const char *old;
        const char *now;
        const char *named;
    } cases[] = {
        {"\"id\":\"sana-video-2b-480p\"", "\"id\":\"\"", "id"},
        {"\"id\":\"sana", "\"ID\":\"sana", "id"},
        {"[\"sana\",\"demo\"]", "7", "aliases"},
        {"[\"sana\",\"demo\"]", "[\"a\",7]", "aliases"},
        {"[\"sana\",\"demo\"]",
         "[\"0123456789012345678901234567890123456789012345678901234567890123456789\"]", "aliases"},
        {"[\"sana\",\"demo\"]",
         "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\",\"13\","
         "\"14\",\"15\",\"16\",\"17\"]",
         "aliases"},
        {"\"832x480\"", "\"832x\"", "native_sizes"},
        {"\"832x480\"", "\"832\"", "native_sizes"},
        {"\"832x480\"", "\"832x480x\"", "native_sizes"},
        {"\"832x480\"", "\"-832x480\"", "native_sizes"},
        {"\"any_size\":false", "\"any_size\":0", "any_size"},
        {"\"frame_multiple\":4", "\"frame_multiple\":0", "frame_multiple"},
        {"\"frame_multiple\":4", "\"frame_multiple\":4.5", "frame_multiple"},
        {"\"max_steps\":200", "\"max_steps\":\"200\"", "max_steps"},
        {"\"max_steps\":200", "\"max_steps\":49", "default_steps"},
        {"\"default_width\":832", "\"default_width\":2000", "default size"},
        {"\"max_frames\":14400", "\"max_frames\":80", "default_frames"},
        {"\"fps\":16", "\"fps\":1e999", "fps"},
        {"300}", "300", "JSON"},
        {"300}", "300}x", "JSON"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *at = strstr(ready, cases[i].old);
        struct model_facts facts;
        struct err err;
        char text[2048];

        EXPECT(at);
        snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - ready), ready, cases[i].now,
                 at + strlen(cases[i].old));
        EXPECT_INT(model_facts_parse(&facts, text, strlen(text), &err), ERR_FORMAT);
        EXPECT_CONTAINS(err.msg, cases[i].named);
    }
}

TEST(model_facts_read_no_byte_past_the_end)
{
    for (size_t len = 0; len < strlen(ready); len++) {
        char *exact = test_alloc(len); /* where ASan sees one byte too many */
        struct model_facts facts;
        struct err err;

        memcpy(exact, ready, len);
        EXPECT_INT(model_facts_parse(&facts, exact, len, &err), ERR_FORMAT);
        free(exact);
    }
}

TEST(model_facts_survive_every_failed_allocation)
{
    alloc_fail_hook_cjson();
    for (long n = 1;; n++) {
        struct model_facts facts;
        struct err err;
        int rc;

        alloc_fail_at(n);
        rc = model_facts_parse(&facts, ready, strlen(ready), &err);
        if (!alloc_fail_stop()) {
            EXPECT_INT(rc, ERR_OK);
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
}

TEST(model_facts_know_the_models_names)
{
    static const char *const yes[] = {
        "sana-video-2b-480p",   "sana", "demo", "sora-2", "sora-2-pro", "sora-2-2025-10-06",
        "sora-2-pro-2025-10-06"};
    static const char *const no[] = {
        "",     "sora", "sora-2-", "sora-2-max", "Sora-2", "sora-2-2025-1", "sora-2-2025-10-06x",
        "demo2"};
    const struct model_facts f = parsed();

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        EXPECT(model_facts_is_called(&f, yes[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        EXPECT(!model_facts_is_called(&f, no[i]));
    }
}

TEST(model_facts_native_size_is_of_the_nearest_ratio)
{
    struct model_facts f = parsed();

    EXPECT_INT(model_facts_native(&f, 1280, 720).width, 832);
    EXPECT_INT(model_facts_native(&f, 720, 1280).width, 480);
    EXPECT_INT(model_facts_native(&f, 100, 100).width, 624);
    EXPECT_INT(model_facts_native(&f, 200, 100).width, 896);
    f.any_size = true;
    EXPECT_INT(model_facts_native(&f, 100, 64).width, 112);
    EXPECT_INT(model_facts_native(&f, 100, 64).height, 64);
}

TEST(model_facts_generated_is_the_next_of_the_grid)
{
    struct model_facts f = parsed();

    EXPECT_INT(model_facts_generated(&f, 1), 1);
    EXPECT_INT(model_facts_generated(&f, 2), 5);
    EXPECT_INT(model_facts_generated(&f, 80), 81);
    EXPECT_INT(model_facts_generated(&f, 81), 81);
    EXPECT_INT(model_facts_generated(&f, 82), 85);
    f.frame_offset = 0;
    EXPECT_INT(model_facts_generated(&f, 1), 4);
}
