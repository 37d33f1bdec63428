#include "jobs/job_spec.h"

#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

static struct job_spec sample(void)
{
    struct job_spec spec = {
        .prompt = "A \"calico\" cat\n\x01 \xe2\x82\xac",
        .negative_prompt = "blur",
        .width = 1280,
        .height = 720,
        .num_frames = 80,
        .generated_frames = 81,
        .fps = 23.976,
        .seed = 9007199254740991,
        .steps = 40,
        .guidance_scale = 6.1,
        .flow_shift = 8,
        .motion_score = 30,
        .crf = 18,
        .has_reference = true,
        .quality = "standard",
    };

    job_spec_warn(&spec, "upscaled", "size");
    job_spec_warn(&spec, "ignored_parameter", "output_quality");
    return spec;
}

static struct str to_json(const struct job_spec *spec)
{
    struct str out;
    struct err err;

    str_init(&out, 1 << 20);
    EXPECT_OK(job_spec_to_json(spec, &out, &err));
    return out;
}

TEST(job_spec_comes_back_from_json_as_it_was)
{
    const struct job_spec spec = sample();
    struct str json = to_json(&spec);
    struct job_spec back;
    struct err err;

    EXPECT_OK(job_spec_from_json(&back, json.data, &err));
    EXPECT_STR(back.prompt, spec.prompt);
    EXPECT_STR(back.negative_prompt, "blur");
    EXPECT_INT(back.width, 1280);
    EXPECT_INT(back.height, 720);
    EXPECT_INT(back.num_frames, 80);
    EXPECT_INT(back.generated_frames, 81);
    EXPECT(back.fps == 23.976 && back.guidance_scale == 6.1 && back.flow_shift == 8);
    EXPECT_INT(back.seed, 9007199254740991);
    EXPECT_INT(back.steps, 40);
    EXPECT_INT(back.motion_score, 30);
    EXPECT_INT(back.crf, 18);
    EXPECT(back.has_reference);
    EXPECT_STR(back.quality, "standard");
    EXPECT_INT(back.n_warnings, 2);
    EXPECT_STR(back.warnings[0].code, "upscaled");
    EXPECT_STR(back.warnings[1].param, "output_quality");
    job_spec_done(&back);
    job_spec_done(&back); /* zeroed */
    str_done(&json);
}

TEST(job_spec_without_negative_prompt_has_none_again)
{
    struct job_spec spec = sample();
    struct job_spec back;
    struct str json;
    struct err err;

    spec.negative_prompt = NULL;
    json = to_json(&spec);
    EXPECT(!strstr(json.data, "negative_prompt"));
    EXPECT_OK(job_spec_from_json(&back, json.data, &err));
    EXPECT(!back.negative_prompt);
    job_spec_done(&back);
    str_done(&json);
}

/* Every member by itself: left out, and of a wrong type. */
TEST(job_spec_refuses_what_is_missing_or_wrong)
{
    static const char *const names[] = {
        "prompt",     "width",        "height",  "frames",   "generated_frames",
        "fps",        "seed",         "steps",   "crf",      "guidance_scale",
        "flow_shift", "motion_score", "quality", "warnings", "has_reference"};
    const struct job_spec spec = sample();
    struct str json = to_json(&spec);
    struct job_spec back;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char quoted[40];
        char *at;

        snprintf(quoted, sizeof(quoted), "\"%s\":", names[i]);
        at = strstr(json.data, quoted);
        EXPECT(at);
        at[1] ^= 0x20; /* another name */
        EXPECT_INT(job_spec_from_json(&back, json.data, &err), ERR_FORMAT);
        EXPECT_CONTAINS(err.msg, names[i]);
        at[1] ^= 0x20;
    }
    str_done(&json);
}

TEST(job_spec_refuses_values_out_of_range)
{
    static const char *const bad[][2] = {
        {"\"width\":1280", "\"width\":0.50"},   {"\"steps\":40", "\"steps\":0 "},
        {"\"height\":720", "\"height\":1e9"},   {"\"motion_score\":30", "\"motion_score\":[]"},
        {"\"crf\":18", "\"crf\":99"},           {"\"frames\":80", "\"frames\":-1"},
        {"\"seed\":9007", "\"seed\":-907"},     {"\"width\":1280", "\"width\":\"80\""},
        {"\"prompt\":\"A", "\"prompt\":7,\"A"}, {"\"code\":", "\"cod0\":"},
    };
    const struct job_spec spec = sample();

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct str json = to_json(&spec);
        char *at = strstr(json.data, bad[i][0]);
        struct job_spec back;
        struct err err;

        EXPECT(at);
        memcpy(at, bad[i][1], strlen(bad[i][1]));
        EXPECT_INT(job_spec_from_json(&back, json.data, &err), ERR_FORMAT);
        str_done(&json);
    }
}

TEST(job_spec_warnings_are_kept_once_and_bounded)
{
    struct job_spec spec = {0};
    char param[200];

    memset(param, 'p', sizeof(param));
    memcpy(param + 60, "\xf0\x9f\x98\x80", 5); /* 4 bytes, of which 3 would fit */
    job_spec_warn(&spec, "ignored_parameter", param);
    EXPECT_INT(strlen(spec.warnings[0].param), 60);
    for (int i = 0; i < 100; i++) {
        snprintf(param, sizeof(param), "p%d", i);
        job_spec_warn(&spec, "ignored_parameter", param);
        job_spec_warn(&spec, "ignored_parameter", param);
        EXPECT_INT(spec.n_warnings, i + 2 < SPEC_MAX_WARNINGS ? i + 2 : SPEC_MAX_WARNINGS);
    }
}

TEST(job_spec_seconds_are_written_as_the_api_does)
{
    static const struct {
        int64_t frames;
        double fps;
        const char *text;
    } cases[] = {{64, 16, "4"},   {81, 16, "5.063"}, {72, 16, "4.5"},   {1, 60, "0.017"},
                 {100, 1, "100"}, {80, 24, "3.333"}, {1600, 16, "100"}, {14400, 23.976, "600.601"}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct job_spec spec = {.num_frames = cases[i].frames, .fps = cases[i].fps};
        char text[24];

        job_spec_seconds(&spec, text);
        EXPECT_STR(text, cases[i].text);
    }
}

TEST(job_spec_survives_every_failed_allocation)
{
    const struct job_spec spec = sample();
    struct str json = to_json(&spec);

    alloc_fail_hook_cjson();
    for (long n = 1;; n++) {
        struct job_spec back = {0};
        struct str out;
        struct err err;
        int rc;

        str_init(&out, 1 << 20);
        alloc_fail_at(n);
        rc = job_spec_to_json(&spec, &out, &err);
        rc = rc == ERR_OK ? job_spec_from_json(&back, json.data, &err) : rc;
        str_done(&out);
        job_spec_done(&back);
        if (!alloc_fail_stop()) {
            EXPECT_INT(rc, ERR_OK);
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    str_done(&json);
}
