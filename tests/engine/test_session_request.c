/*
 * What a session may be asked for: fields and their ranges, memory, sizes.
 */
#include <math.h>
#include <string.h>

#include "engine/session_internal.h"
#include "tests/support/test.h"
#include "tests/support/videos.h"

static const char *const all_models[] = {"tiny-480p", "tiny-720p", "tiny-long"};

TEST(session_request_errors_name_the_field)
{
    static const struct {
        struct session_request change; /* zeroed fields: as in a good request */
        const char *part;
    } bad[] = {
        {{.width = 33, .height = 32}, "size: 33x32: width and height must be even"},
        {{.width = -32, .height = 32}, "size: "},
        {{.width = 32, .height = 2000}, "size: "},
        {{.width = INT64_MAX, .height = INT64_MAX}, "size: "},
        {{.frames = -1}, "frames: -1 is not in 1..14400"},
        {{.frames = 14401}, "frames: 14401 is not in 1..14400"},
        {{.frames = INT64_MIN}, "frames: "},
        {{.steps = -1}, "steps: -1 is not in 1..200"},
        {{.steps = 201}, "steps: 201 is not in 1..200"},
        {{.has_guidance = true, .guidance_scale = -0.1}, "guidance: -0.1 is not in 0..20"},
        {{.has_guidance = true, .guidance_scale = 20.5}, "guidance: 20.5 is not in 0..20"},
        {{.has_guidance = true, .guidance_scale = NAN}, "guidance: "},
        {{.flow_shift = -1}, "flow_shift: "},
        {{.flow_shift = INFINITY}, "flow_shift: "},
        {{.flow_shift = NAN}, "flow_shift: "},
        {{.has_motion_score = true, .motion_score = -1}, "motion_score: -1 is not in 0..100"},
        {{.has_motion_score = true, .motion_score = 101}, "motion_score: 101 is not in 0..100"},
        {{.prompt = "\xff"}, "prompt: "},
        {{.prompt = "caf\xc3"}, "prompt: "},
        {{.prompt = "\xed\xa0\x80"}, "prompt: "},
        {{.has_guidance = true, .guidance_scale = 2, .negative_prompt = "\xc0\x80"},
         "negative_prompt: "},
    };
    struct video_bed b;

    video_bed_open(&b, "tiny-480p", 1);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct session_request r = bad[i].change;
        const struct session_request good = video_request(&b, 5);

        r.prompt = r.prompt ? r.prompt : good.prompt;
        r.width = r.width ? r.width : good.width;
        r.height = r.height ? r.height : good.height;
        r.frames = r.frames ? r.frames : good.frames;
        r.exact_size = true;
        video_refused(&b, &r, ERR_INVALID, bad[i].part);
    }
    video_bed_close(&b);
}

TEST(session_request_has_both_sides_or_none)
{
    struct session_request r;
    struct video_bed b;

    video_bed_open(&b, "tiny-480p", 1);
    r = video_request(&b, 5);
    r.height = 0;
    video_refused(&b, &r, ERR_INVALID, "size: ");
    r = video_request(&b, 5);
    r.width = 0;
    video_refused(&b, &r, ERR_INVALID, "size: ");
    video_bed_close(&b);
}

TEST(session_request_has_the_steps_that_the_model_was_made_for)
{
    static const struct session_switch bad_text = {1, "\xf5"};
    struct session_request r;
    struct video_bed b;
    struct video v;

    video_bed_open(&b, "tiny-long", 1);
    b.model->dir->defaults.block_latent_frames = 1;
    r = video_request(&b, 5);
    r.steps = 5;
    video_refused(&b, &r, ERR_INVALID, "steps: this model was made for exactly 4 steps");
    r.steps = 4;
    video_open(&v, &b, &r);
    video_close(&v);
    r.switches = &bad_text;
    r.n_switches = 1;
    video_refused(&b, &r, ERR_INVALID, "prompt_at: ");
    video_bed_close(&b);
}

TEST(session_request_switches_prompts_where_it_can)
{
    static const struct session_switch good = {1, "x"};
    static const struct session_switch bad[][2] = {
        {{0, "x"}, {1, "y"}}, {{-1, "x"}, {1, "y"}}, {{1, "x"}, {5, "y"}},
        {{2, "x"}, {1, "y"}}, {{1, "x"}, {1, "y"}},  {{1, "x"}, {INT64_MAX, "y"}}};
    static struct session_switch many[SESSION_MAX_SWITCHES + 1];
    struct session_request r;
    struct video_bed b;

    video_bed_open(&b, "tiny-long", 1);
    b.model->dir->defaults.block_latent_frames = 1;
    r = video_request(&b, 17); /* 5 blocks */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        r.switches = bad[i];
        r.n_switches = 2;
        video_refused(&b, &r, ERR_INVALID, "prompt_at: ");
    }
    r.switches = many;
    r.n_switches = ARRAY_LEN(many);
    video_refused(&b, &r, ERR_INVALID, "prompt_at: 65 switches");
    video_bed_close(&b);
    for (size_t m = 0; m < 2; m++) {
        video_bed_open(&b, all_models[m], 1);
        r = video_request(&b, 17);
        r.switches = &good;
        r.n_switches = 1;
        video_refused(&b, &r, ERR_INVALID, "prompt_at: this model");
        video_bed_close(&b);
    }
}

/* ---- memory ---- */

TEST(session_request_limits_memory)
{
    for (size_t m = 0; m < ARRAY_LEN(all_models); m++) {
        struct session_request r;
        struct video_bed b;
        struct video v;
        size_t need;

        video_bed_open(&b, all_models[m], 1);
        r = video_request(&b, 17);
        video_open(&v, &b, &r);
        need = session_memory(v.session);
        video_close(&v);
        EXPECT(need > 100000);
        r.memory_limit = 1;
        video_refused(&b, &r, ERR_NO_VRAM, "MiB of working memory, the limit is 0 MiB");
        r.memory_limit = need - 1;
        video_refused(&b, &r, ERR_NO_VRAM, "this video needs ");
        r.memory_limit = need;
        video_make(&v, &b, &r);
        EXPECT_INT(session_memory(v.session), need);
        video_close(&v);
        video_bed_close(&b);
    }
}

/* Lengths with first blocks of one size: 9 and 241 latent frames in fours begin with 5. */
TEST(session_request_needs_no_more_memory_for_a_longer_causal_video)
{
    static const int64_t frames[] = {33, 961};
    struct video_bed b;
    size_t need[2];

    video_bed_open(&b, "tiny-long", 1);
    b.model->dir->defaults.block_latent_frames = 4;
    for (int guided = 0; guided < 2; guided++) {
        for (int i = 0; i < 2; i++) {
            struct session_request r = video_request(&b, frames[i]);
            struct video v;

            r.guidance_scale = 1 + guided;
            video_open(&v, &b, &r);
            need[i] = session_memory(v.session);
            video_close(&v);
        }
        EXPECT_INT(need[0], need[1]);
    }
    video_bed_close(&b);
}

/* ---- sizes ---- */

static int expect_size(void *ctx, const struct tensor *rgb, int64_t first_picture, struct err *err)
{
    const struct geometry_size *size = ctx;

    (void)first_picture;
    (void)err;
    EXPECT(TENSOR_IS(rgb, DTYPE_F32, -1, size->height, size->width, 3));
    return ERR_OK;
}

TEST(session_request_gets_the_size_that_was_asked)
{
    static const struct {
        int64_t width, height;
        bool exact;
        int n_sizes;
        int64_t gen_width, gen_height;
    } cases
        [] =
            {
                {50, 38, true, 11, 64, 48},    {34, 60, true, 11, 48, 64},
                {48, 32, true, 11, 48, 32},    {50, 38, false, 0, 64, 48},
                {90, 52, false, 11, 832, 480}, /* planned only: it would take long */
            };
    struct video_bed b;

    video_bed_open(&b, "tiny-480p", 1);
    EXPECT_INT(b.model->dir->defaults.n_sizes, 11);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct session_request r = video_request(&b, 5);
        struct geometry_size plan;
        struct session_hooks hooks = {.ctx = &plan, .on_rgb = expect_size};
        struct video v;
        struct err err;

        r.width = cases[i].width;
        r.height = cases[i].height;
        r.exact_size = cases[i].exact;
        b.model->dir->defaults.n_sizes = cases[i].n_sizes;
        EXPECT_OK(session_plan_size(b.model, &r, &plan, &err));
        EXPECT_INT(plan.gen_width, cases[i].gen_width);
        EXPECT_INT(plan.gen_height, cases[i].gen_height);
        video_open(&v, &b, &r);
        EXPECT(memcmp(&session_settings(v.session)->size, &plan, sizeof(plan)) == 0);
        EXPECT(plan.width == r.width && plan.height == r.height);
        session_set_hooks(v.session, &hooks);
        if (plan.gen_width < 100) {
            video_run(&v);
        }
        video_close(&v);
    }
    video_bed_close(&b);
}
