#include "api/create_request.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/json.h"
#include "base/str.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

/* 40x32 pixels. */
#define PNG                                                                                        \
    "iVBORw0KGgoAAAANSUhEUgAAACgAAAAgCAIAAADvz61XAAAARElEQVR42mO8I6fBQC5wWiVCtl4mhgECoxaP"         \
    "Wjxq8ajFoxaPWjz4LGYUsXlGtuZn+0br41GLRy0etXjU4lGLRy2mAgAArIsFTyzio8YAAAAASUVORK5CYII="

static const struct model_facts model = {
    .id = "sana-video-2b-480p",
    .n_aliases = 1,
    .aliases = {"sana"},
    .image = true,
    .n_sizes = 3,
    .sizes = {{832, 480}, {480, 832}, {624, 624}},
    .size_multiple = 16,
    .default_width = 832,
    .default_height = 480,
    .min_side = 32,
    .max_side = 1920,
    .max_pixels = 2088960,
    .fps = 16,
    .frame_multiple = 4,
    .frame_offset = 1,
    .default_frames = 81,
    .max_frames = 14400,
    .block_frames = 40,
    .default_steps = 50,
    .min_steps = 1,
    .max_steps = 200,
    .guidance_scale = 6,
    .flow_shift = 8,
    .motion_score = 30,
    .max_prompt_tokens = 300,
};

static const struct create_limits server = {.max_seconds = 60, .max_frames = 961};

enum {
    RANDOM_SEED = 77
};

/* With `limits` and the header `cancel_after`; body as JSON. */
static bool parse_as(struct create_request *ret, const char *json, const struct model_facts *facts,
                     const struct create_limits *limits, const char *cancel_after,
                     struct api_error *e)
{
    struct fields f = {0};
    bool ok = fields_from_json(&f, json, strlen(json), e) &&
              create_request_parse(ret, &f, facts, limits, cancel_after, RANDOM_SEED, e);

    fields_done(&f);
    return ok;
}

static struct create_request parsed(const char *json)
{
    struct create_request r = {0};
    struct api_error e;

    if (!parse_as(&r, json, &model, &server, NULL, &e)) {
        test_fail(__FILE__, __LINE__, "%s: %s: %s", json, api_code_name(e.code), e.message);
    }
    return r;
}

/* "832x480 64/65 @16 50 6 8 30 seed 77 warnings" */
static void describe(const struct create_request *r, char *to, size_t size)
{
    const struct job_spec *s = &r->spec;
    int n = snprintf(to, size, "%lldx%lld %lld/%lld @%g %d %g %g %d %s%llu", (long long)s->width,
                     (long long)s->height, (long long)s->num_frames, (long long)s->generated_frames,
                     s->fps, s->steps, s->guidance_scale, s->flow_shift, s->motion_score,
                     r->seed_given ? "" : "random ", (unsigned long long)s->seed);

    for (int i = 0; i < s->n_warnings; i++) {
        n +=
            snprintf(to + n, size - (size_t)n, " %s:%s", s->warnings[i].code, s->warnings[i].param);
    }
}

struct expected {
    const char *body, *want;
};

static void expect_specs(const struct expected *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct create_request r;
        char body[1024];
        char got[512];

        snprintf(body, sizeof(body), "{\"prompt\":\"x\"%s%s}", cases[i].body[0] ? "," : "",
                 cases[i].body);
        r = parsed(body);
        describe(&r, got, sizeof(got));
        EXPECT_STR(got, cases[i].want);
        create_request_done(&r);
    }
}

/* "code param" of bodies that are refused; "ok" of others. */
static void expect_outcomes(const struct expected *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct create_request r = {0};
        struct api_error e;
        char got[256] = "ok";

        if (!parse_as(&r, cases[i].body, &model, &server, NULL, &e)) {
            snprintf(got, sizeof(got), "%s %s", api_code_name(e.code), e.param);
            EXPECT(!r.spec.prompt && !r.tags && e.message[0] != '\0');
        }
        create_request_done(&r);
        if (strcmp(got, cases[i].want) != 0) {
            test_fail(__FILE__, __LINE__, "%s is %s, expected %s", cases[i].body, got,
                      cases[i].want);
        }
    }
}

#define DEFAULT "832x480 64/65 @16 50 6 8 30 random 77"

TEST(create_request_fills_in_defaults)
{
    struct create_request r = parsed("{\"prompt\":\" \\n A cat\\t \"}");
    char got[512];

    describe(&r, got, sizeof(got));
    EXPECT_STR(got, DEFAULT);
    EXPECT_STR(r.spec.prompt, "A cat");
    EXPECT(!r.spec.negative_prompt && !r.group && !r.user && !r.reference_data);
    EXPECT(!r.seed_given && !r.spec.has_reference && r.reference == REFERENCE_NONE);
    EXPECT_STR(r.model, "sana-video-2b-480p");
    EXPECT_STR(r.tags, "[]");
    EXPECT_STR(r.metadata, "{}");
    EXPECT_STR(r.spec.quality, "standard");
    EXPECT_INT(r.priority, 0);
    EXPECT_INT(r.cancel_after_ms, 0);
    EXPECT_INT(strlen(r.fingerprint), 64);
    create_request_done(&r);
    create_request_done(&r);
}

TEST(create_request_sizes)
{
    static const struct expected cases[] = {
        {"\"size\":\"1280x720\"", "1280x720 64/65 @16 50 6 8 30 random 77 upscaled:size"},
        {"\"size\":\"720X1280\"", "720x1280 64/65 @16 50 6 8 30 random 77 upscaled:size"},
        {"\"size\":\"32x64\"", "32x64 64/65 @16 50 6 8 30 random 77"},
        {"\"width\":640,\"height\":\"480\"", "640x480 64/65 @16 50 6 8 30 random 77"},
        {"\"width\":640,\"height\":480,\"size\":\"640x480\"",
         "640x480 64/65 @16 50 6 8 30 random 77"},
        {"\"aspect_ratio\":\"16:9\"", "854x480 64/65 @16 50 6 8 30 random 77"},
        {"\"aspect_ratio\":\"9:16\",\"short_edge\":361", "360x640 64/65 @16 50 6 8 30 random 77"},
        {"\"aspect_ratio\":\"1:1\"", "480x480 64/65 @16 50 6 8 30 random 77"},
        {"\"aspect_ratio\":\"2:1\",\"short_edge\":\"960\"",
         "1920x960 64/65 @16 50 6 8 30 random 77 upscaled:size"},
        {"\"short_edge\":240", "416x240 64/65 @16 50 6 8 30 random 77"},
        {"\"size\":null,\"width\":null,\"aspect_ratio\":\"\"", DEFAULT},
    };

    expect_specs(cases, ARRAY_LEN(cases));
}

TEST(create_request_lengths)
{
    static const struct expected cases[] = {
        {"\"seconds\":\"8\"", "832x480 128/129 @16 50 6 8 30 random 77"},
        {"\"seconds\":4.5", "832x480 72/73 @16 50 6 8 30 random 77"},
        {"\"seconds\":\"5.063\"", "832x480 81/81 @16 50 6 8 30 random 77"},
        {"\"seconds\":\"0.001\"", "832x480 1/1 @16 50 6 8 30 random 77"},
        {"\"seconds\":\"60\"", "832x480 960/961 @16 50 6 8 30 random 77"},
        {"\"fps\":24", "832x480 96/97 @24 50 6 8 30 random 77"},
        {"\"fps\":\"23.976\",\"seconds\":\"10\"", "832x480 240/241 @23.976 50 6 8 30 random 77"},
        {"\"num_frames\":80", "832x480 80/81 @16 50 6 8 30 random 77"},
        {"\"frames\":\"961\"", "832x480 961/961 @16 50 6 8 30 random 77"},
        {"\"video_frames\":1,\"seconds\":\"9\"", "832x480 1/1 @16 50 6 8 30 random 77"},
        {"\"num_frames\":16,\"seconds\":\"60\",\"fps\":60",
         "832x480 16/17 @60 50 6 8 30 random 77"},
    };

    expect_specs(cases, ARRAY_LEN(cases));
}

TEST(create_request_sampling)
{
    static const struct expected cases[] = {
        {"\"num_inference_steps\":1,\"guidance_scale\":\"0\",\"flow_shift\":0.1,\"motion_score\":0",
         "832x480 64/65 @16 1 0 0.1 0 random 77"},
        {"\"steps\":\"200\",\"guidance_scale\":20,\"flow_shift\":30,\"motion_score\":\"100\"",
         "832x480 64/65 @16 200 20 30 100 random 77"},
        {"\"infer_steps\":20,\"steps\":\"20\"", "832x480 64/65 @16 20 6 8 30 random 77"},
        {"\"seed\":0", "832x480 64/65 @16 50 6 8 30 0"},
        {"\"seed\":\"9007199254740991\"", "832x480 64/65 @16 50 6 8 30 9007199254740991"},
        {"\"seed\":9007199254740991", "832x480 64/65 @16 50 6 8 30 9007199254740991"},
        {"\"seed\":-1", DEFAULT},
        {"\"seed\":\"random\"", DEFAULT},
        {"\"stream_block_frames\":40", DEFAULT},
        {"\"stream_block_frames\":16", DEFAULT " ignored_parameter:stream_block_frames"},
        {"\"model\":\"sora-2-pro-2025-10-06\"", DEFAULT},
    };

    expect_specs(cases, ARRAY_LEN(cases));
}

TEST(create_request_no_ops_are_warned_of)
{
    static const struct expected cases[] = {
        {"\"n\":1,\"generate_sound\":false", DEFAULT " ignored_parameter:n "
                                                     "ignored_parameter:generate_sound"},
        {"\"enable_upscaling\":\"0\",\"upscaling_factor\":2",
         DEFAULT " ignored_parameter:enable_upscaling ignored_parameter:upscaling_factor"},
        {"\"enable_teacache\":true,\"frame_interpolation_exp\":1",
         DEFAULT " ignored_parameter:enable_teacache ignored_parameter:frame_interpolation_exp"},
        {"\"extra_params\":{\"preencode_mp4\":true,\"video_codec_options\":{}}",
         DEFAULT " ignored_parameter:preencode_mp4 ignored_parameter:video_codec_options"},
        {"\"quality\":\"high\"", DEFAULT " ignored_parameter:quality"},
        {"\"perf_dump_path\":\"/x\",\"perf_dump_path2\":null,\"guidance_scale_2\":3",
         DEFAULT " ignored_parameter:perf_dump_path ignored_parameter:guidance_scale_2"},
    };

    expect_specs(cases, ARRAY_LEN(cases));
}

TEST(create_request_extras_are_merged)
{
    static const struct expected cases[] = {
        {"\"steps\":20,\"extra_body\":{\"num_inference_steps\":30}",
         "832x480 64/65 @16 30 6 8 30 random 77"},
        {"\"steps\":20,\"extra_json\":\"{\\\"steps\\\":30,\\\"seed\\\":5}\"",
         "832x480 64/65 @16 30 6 8 30 5"},
        {"\"extra_body\":{\"seed\":5},\"extra_json\":{\"seed\":\"5\",\"fps\":24}",
         "832x480 96/97 @24 50 6 8 30 5"},
        {"\"extra_params\":\"{\\\"seed\\\":5}\"", "832x480 64/65 @16 50 6 8 30 5"},
        {"\"steps\":\"20\",\"extra_params\":{\"infer_steps\":20}",
         "832x480 64/65 @16 20 6 8 30 random 77"},
        {"\"input_reference\":\"no\",\"extra_body\":{\"reference_url\":\"data:image/png;base64," PNG
         "\"}",
         DEFAULT},
    };

    expect_specs(cases, ARRAY_LEN(cases));
}

#define P "{\"prompt\":\"x\","

TEST(create_request_refusals_of_values)
{
    static const struct expected cases[] = {
        {"{}", "missing_required_parameter prompt"},
        {"{\"prompt\":\" \\r\\n\"}", "missing_required_parameter prompt"},
        {"{\"prompt\":null}", "missing_required_parameter prompt"},
        {"{\"prompt\":7}", "invalid_type prompt"},
        {P "\"model\":\"gpt-4\"}", "model_not_found model"},
        {P "\"model\":7}", "invalid_type model"},
        {P "\"seconds\":\"\"}", "ok"},
        {P "\"seconds\":\"0\"}", "invalid_seconds seconds"},
        {P "\"seconds\":0}", "invalid_seconds seconds"},
        {P "\"seconds\":-4}", "invalid_seconds seconds"},
        {P "\"seconds\":\"4s\"}", "invalid_seconds seconds"},
        {P "\"seconds\":\"4.\"}", "invalid_seconds seconds"},
        {P "\"seconds\":\"4.1234\"}", "invalid_seconds seconds"},
        {P "\"seconds\":4.1234}", "invalid_seconds seconds"},
        {P "\"seconds\":\"12345\"}", "invalid_seconds seconds"},
        {P "\"seconds\":1e300}", "invalid_seconds seconds"},
        {P "\"seconds\":\"60.001\"}", "invalid_seconds seconds"},
        {P "\"seconds\":\"60\",\"fps\":24}", "invalid_seconds seconds"},
        {P "\"seconds\":[]}", "invalid_type seconds"},
        {P "\"seconds\":true}", "invalid_type seconds"},
        {P "\"size\":\"1281x720\"}", "invalid_size size"},
        {P "\"size\":\"1280*720\"}", "invalid_size size"},
        {P "\"size\":\"1280x\"}", "invalid_size size"},
        {P "\"size\":\"x720\"}", "invalid_size size"},
        {P "\"size\":\"-1280x720\"}", "invalid_size size"},
        {P "\"size\":\"1280x720x3\"}", "invalid_size size"},
        {P "\"size\":\"999999x720\"}", "invalid_size size"},
        {P "\"size\":1280}", "invalid_type size"},
        {P "\"size\":\"0x0\"}", "unsupported_size size"},
        {P "\"size\":\"30x30\"}", "unsupported_size size"},
        {P "\"size\":\"1922x1080\"}", "unsupported_size size"},
        {P "\"size\":\"1000x498\"}", "unsupported_size size"},
        {P "\"size\":\"498x1000\"}", "unsupported_size size"},
        {P "\"size\":\"1920x1090\"}", "unsupported_size size"},
        {P "\"size\":\"1920x1088\"}", "ok"},
        {P "\"width\":640}", "missing_required_parameter height"},
        {P "\"height\":640}", "missing_required_parameter width"},
        {P "\"width\":641,\"height\":480}", "invalid_size width"},
        {P "\"width\":640,\"height\":481}", "invalid_size height"},
        {P "\"width\":6.5,\"height\":480}", "invalid_type width"},
        {P "\"width\":0,\"height\":480}", "invalid_value width"},
        {P "\"width\":640,\"height\":480,\"size\":\"640x482\"}", "conflicting_parameters size"},
        {P "\"aspect_ratio\":\"16:9\",\"size\":\"640x480\"}",
         "conflicting_parameters aspect_ratio"},
        {P "\"short_edge\":480,\"width\":640,\"height\":480}", "conflicting_parameters short_edge"},
        {P "\"aspect_ratio\":\"16/9\"}", "invalid_value aspect_ratio"},
        {P "\"aspect_ratio\":\"0:1\"}", "invalid_value aspect_ratio"},
        {P "\"aspect_ratio\":1.5}", "invalid_type aspect_ratio"},
        {P "\"aspect_ratio\":\"21:9\"}", "unsupported_size aspect_ratio"},
        {P "\"short_edge\":1920}", "unsupported_size short_edge"},
        {P "\"short_edge\":4}", "invalid_value short_edge"},
        {P "\"fps\":0.5}", "invalid_value fps"},
        {P "\"fps\":61}", "invalid_value fps"},
        {P "\"fps\":\"fast\"}", "invalid_type fps"},
        {P "\"num_frames\":0}", "invalid_value num_frames"},
        {P "\"frames\":962}", "invalid_value frames"},
        {P "\"num_frames\":1.5}", "invalid_type num_frames"},
        {P "\"num_frames\":80,\"frames\":81}", "conflicting_parameters frames"},
        {P "\"steps\":201}", "invalid_value steps"},
        {P "\"steps\":\"1e2\"}", "invalid_type steps"},
        {P "\"guidance_scale\":20.1}", "invalid_value guidance_scale"},
        {P "\"guidance_scale\":-1}", "invalid_value guidance_scale"},
        {P "\"flow_shift\":0.05}", "invalid_value flow_shift"},
        {P "\"flow_shift\":31}", "invalid_value flow_shift"},
        {P "\"motion_score\":101}", "invalid_value motion_score"},
        {P "\"seed\":-2}", "invalid_value seed"},
        {P "\"seed\":9007199254740992}", "invalid_type seed"},
        {P "\"seed\":\"x\"}", "invalid_type seed"},
        {P "\"stream_block_frames\":0}", "invalid_value stream_block_frames"},
        {P "\"negative_prompt\":{}}", "invalid_type negative_prompt"},
        {P "\"quality\":\"very very very high\"}", "invalid_value quality"},
        {P "\"quality\":1}", "invalid_type quality"},
        {P "\"group\":7}", "invalid_type group"},
    };

    expect_outcomes(cases, ARRAY_LEN(cases));
}

TEST(create_request_refusals_of_parameters)
{
    static const struct expected cases[] = {
        {P "\"promt\":\"y\"}", "unknown_parameter promt"},
        {P "\"preencode_mp4\":true}", "unknown_parameter preencode_mp4"},
        {P "\"n\":2}", "unsupported_parameter n"},
        {P "\"num_outputs_per_prompt\":\"4\"}", "unsupported_parameter num_outputs_per_prompt"},
        {P "\"n\":\"x\"}", "invalid_type n"},
        {P "\"generate_sound\":true}", "unsupported_parameter generate_sound"},
        {P "\"generate_sound\":\"maybe\"}", "invalid_type generate_sound"},
        {P "\"enable_upscaling\":1}", "unsupported_parameter enable_upscaling"},
        {P "\"enable_anything\":\"true\"}", "unsupported_parameter enable_anything"},
        {P "\"lora\":[]}", "unsupported_parameter lora"},
        {P "\"output_path\":\"/x\"}", "unsupported_parameter output_path"},
        {P "\"diffusers_kwargs\":{}}", "unsupported_parameter diffusers_kwargs"},
        {P "\"character_ids\":[\"a\"]}", "unsupported_parameter character_ids"},
        {P "\"webhook_url\":\"https://x\"}", "unsupported_parameter webhook_url"},
        {P "\"callback_url\":\"https://x\"}", "unsupported_parameter callback_url"},
        {P "\"webhook_events\":[]}", "unsupported_parameter webhook_events"},
        {P "\"extra_body\":7}", "invalid_type extra_body"},
        {P "\"extra_json\":\"{\"}", "invalid_value extra_json"},
        {P "\"extra_json\":\"[]\"}", "invalid_type extra_json"},
        {P "\"extra_params\":\"{\\\"a\\\":1}\"}", "unknown_parameter a"},
        {P "\"extra_body\":{\"extra_body\":{}}}", "unknown_parameter extra_body"},
        {P "\"extra_body\":{\"steps\":999}}", "invalid_value steps"},
        {P "\"seed\":1,\"extra_params\":{\"seed\":2}}", "conflicting_parameters seed"},
        {P "\"extra_body\":{\"seed\":1},\"extra_json\":{\"seed\":2}}",
         "conflicting_parameters seed"},
    };

    expect_outcomes(cases, ARRAY_LEN(cases));
}

TEST(create_request_labels)
{
    static const struct expected cases[] = {
        {P "\"tags\":\"x\"}", "invalid_type tags"},
        {P "\"tags\":[7]}", "invalid_type tags"},
        {P "\"tags\":[\"a b\"]}", "invalid_value tags"},
        {P "\"tags\":[\"\"]}", "invalid_value tags"},
        {P "\"tags\":\"[\\\"a\\\"\"}", "invalid_value tags"},
        {P "\"tags\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "invalid_type tags"},
        {P "\"metadata\":[]}", "invalid_type metadata"},
        {P "\"metadata\":{\"a\":7}}", "invalid_type metadata.a"},
        {P "\"metadata\":{\"\":\"x\"}}", "invalid_value metadata"},
        {P "\"priority\":101}", "invalid_value priority"},
        {P "\"priority\":\"urgent\"}", "invalid_value priority"},
        {P "\"priority\":1.5}", "invalid_type priority"},
        {P "\"cancel_after_s\":0.5}", "invalid_value cancel_after_s"},
        {P "\"cancel_after_s\":86401}", "invalid_value cancel_after_s"},
        {P "\"cancel_after_s\":\"1h\"}", "invalid_type cancel_after_s"},
    };
    const struct create_limits may = {.max_seconds = 60, .max_frames = 961, .may_prioritise = true};
    struct create_request r = parsed(
        P "\"tags\":[\"ep3\",\"a_.:/-\"],\"metadata\":{\"z\":\"1\",\"a\":\"\\\"\",\"n\":null},"
          "\"group\":\" g \",\"user\":\"u\",\"priority\":\"high\",\"cancel_after_s\":90.5,"
          "\"negative_prompt\":\"blur\",\"quality\":\"hd\"}");
    struct api_error e;

    EXPECT_STR(r.tags, "[\"ep3\",\"a_.:/-\"]");
    EXPECT_STR(r.metadata, "{\"a\":\"\\\"\",\"z\":\"1\"}");
    EXPECT_STR(r.group, "g");
    EXPECT_STR(r.user, "u");
    EXPECT_STR(r.spec.negative_prompt, "blur");
    EXPECT_STR(r.spec.quality, "hd");
    EXPECT_INT(r.cancel_after_ms, 90500);
    EXPECT_INT(r.priority, 0);
    EXPECT_STR(r.spec.warnings[1].code, "priority_clamped");
    create_request_done(&r);
    EXPECT(parse_as(&r,
                    P "\"priority\":\"high\",\"tags\":\"[\\\"a\\\"]\",\"metadata\":"
                      "\"{\\\"k\\\":\\\"v\\\"}\"}",
                    &model, &may, NULL, &e));
    EXPECT_INT(r.priority, 50);
    EXPECT_INT(r.spec.n_warnings, 0);
    EXPECT_STR(r.tags, "[\"a\"]");
    EXPECT_STR(r.metadata, "{\"k\":\"v\"}");
    create_request_done(&r);
    r = parsed(P "\"priority\":\"low\"}");
    EXPECT_INT(r.priority, -50);
    create_request_done(&r);
    expect_outcomes(cases, ARRAY_LEN(cases));
}

TEST(create_request_texts_are_counted_in_characters)
{
    static const struct {
        const char *head, *tail;
        int max;
        const char *param;
    } cases[] = {
        {"{\"prompt\":\"", "\"}", 32000, "prompt"},
        {P "\"negative_prompt\":\"", "\"}", 32000, "negative_prompt"},
        {P "\"group\":\"", "\"}", 64, "group"},
        {P "\"user\":\"", "\"}", 256, "user"},
        {P "\"metadata\":{\"k\":\"", "\"}}", 512, "metadata.k"},
        {P "\"metadata\":{\"", "\":\"v\"}}", 64, "metadata"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int over = 0; over < 2; over++) {
            struct create_request r = {0};
            struct api_error e;
            struct str s;
            bool ok;

            str_init(&s, 1 << 20);
            str_add(&s, cases[i].head);
            for (int k = 0; k < cases[i].max + over; k++) {
                str_add(&s, "\xe2\x82\xac");
            }
            EXPECT(str_add(&s, cases[i].tail));
            ok = parse_as(&r, s.data, &model, &server, NULL, &e);
            EXPECT_INT(ok, !over);
            EXPECT(ok ||
                   (e.code == API_STRING_ABOVE_MAX_LENGTH && strcmp(e.param, cases[i].param) == 0));
            create_request_done(&r);
            str_done(&s);
        }
    }
}

TEST(create_request_counts_of_labels_are_limited)
{
    for (int n = 16; n <= 17; n++) {
        for (int kind = 0; kind < 2; kind++) {
            struct create_request r = {0};
            struct api_error e;
            struct str s;
            bool ok;

            str_init(&s, 1 << 16);
            str_add(&s, kind == 0 ? P "\"tags\":[" : P "\"metadata\":{");
            for (int i = 0; i < n; i++) {
                str_addf(&s, "%s\"%d\"%s", i > 0 ? "," : "", i, kind == 0 ? "" : ":\"\"");
            }
            EXPECT(str_add(&s, kind == 0 ? "]}" : "}}"));
            ok = parse_as(&r, s.data, &model, &server, NULL, &e);
            EXPECT_INT(ok, n == 16);
            EXPECT(ok || e.code == API_INVALID_VALUE);
            create_request_done(&r);
            str_done(&s);
        }
    }
}

TEST(create_request_lenient_ignores_what_is_unknown)
{
    const struct create_limits lenient = {.max_seconds = 60, .max_frames = 961, .lenient = true};
    struct create_request r;
    struct api_error e;

    EXPECT(
        parse_as(&r, P "\"promt\":\"y\",\"extra_body\":{\"foo\":1}}", &model, &lenient, NULL, &e));
    EXPECT_INT(r.spec.n_warnings, 2);
    EXPECT_STR(r.spec.warnings[0].code, "ignored_parameter");
    EXPECT_STR(r.spec.warnings[0].param, "promt");
    EXPECT_STR(r.spec.warnings[1].param, "foo");
    create_request_done(&r);
    EXPECT(!parse_as(&r, P "\"lora\":1}", &model, &lenient, NULL, &e));
    EXPECT_INT(e.code, API_UNSUPPORTED_PARAMETER);
}

TEST(create_request_cancel_after_header)
{
    static const struct {
        const char *header;
        int64_t ms; /* 0: refused */
    } cases[] = {{"90s", 90000},    {"2m", 120000}, {"1h", 3600000}, {"90", 90000}, {"1.5m", 90000},
                 {"24h", 86400000}, {"25h", 0},     {"0.5", 0},      {"", 0},       {"s", 0},
                 {"9d", 0},         {"90ss", 0},    {"-1", 0},       {"1.", 0},     {" 1", 0},
                 {"\xff", 0},       {"9999999", 0}};
    struct create_request r;
    struct api_error e;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        r = (struct create_request){0};
        EXPECT_INT(parse_as(&r, "{\"prompt\":\"x\"}", &model, &server, cases[i].header, &e),
                   cases[i].ms > 0);
        EXPECT_INT(r.cancel_after_ms, cases[i].ms);
        EXPECT(cases[i].ms > 0 || e.code == API_INVALID_VALUE);
        create_request_done(&r);
    }
    EXPECT(parse_as(&r, P "\"cancel_after_s\":\"60\"}", &model, &server, "1m", &e));
    create_request_done(&r);
    EXPECT(!parse_as(&r, P "\"cancel_after_s\":60}", &model, &server, "2m", &e));
    EXPECT_INT(e.code, API_CONFLICTING_PARAMETERS);
}

/* ---- reference pictures ---- */

#define DATA "data:image/png;base64,"

TEST(create_request_references_as_text)
{
    static const struct expected cases[] = {
        {P "\"input_reference\":\"" DATA PNG "\"}", "ok"},
        {P "\"input_reference\":\"DATA:Image/jpeg;x=y;BASE64," PNG "\"}", "ok"},
        {P "\"input_reference\":{\"image_url\":\"" DATA PNG "\",\"file_id\":null}}", "ok"},
        {P "\"input_reference\":\" {\\\"image_url\\\":\\\"" DATA PNG "\\\"}\"}", "ok"},
        {P "\"image_reference\":{\"image_url\":\"" DATA PNG "\"}}", "ok"},
        {P "\"reference_url\":\"" DATA PNG "\"}", "ok"},
        {P "\"input_reference\":\"https://x/y.png\"}", "url_not_allowed input_reference"},
        {P "\"input_reference\":{\"image_url\":\"HTTP://x\"}}", "url_not_allowed input_reference"},
        {P "\"reference_url\":\"http://x\"}", "url_not_allowed reference_url"},
        {P "\"input_reference\":{\"file_id\":\"f\"}}", "unsupported_parameter input_reference"},
        {P "\"input_reference\":{}}", "invalid_value input_reference"},
        {P "\"input_reference\":{\"url\":\"x\"}}", "invalid_value input_reference"},
        {P "\"input_reference\":{\"image_url\":\"x\",\"file_id\":\"y\"}}",
         "invalid_value input_reference"},
        {P "\"input_reference\":{\"image_url\":7}}", "invalid_type input_reference"},
        {P "\"input_reference\":[]}", "invalid_type input_reference"},
        {P "\"input_reference\":7}", "invalid_type input_reference"},
        {P "\"input_reference\":\"{x\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"file:///etc/passwd\"}",
         "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"/etc/passwd\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"x.png\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"data:text/plain;base64," PNG "\"}",
         "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"data:image/png," PNG "\"}",
         "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"data:image/png;base64\"}",
         "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"" DATA "\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"" DATA "AAA\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"" DATA "A===\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"" DATA "AA=A\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"" DATA "AB==\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"" DATA "AA A\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"" DATA "AA-_\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"" DATA "AAAA\"}", "invalid_input_reference input_reference"},
        {P "\"input_reference\":\"" DATA "iVBORw0KGgoAAAANSUhEUgAAACgAAAAgCAIAAADv\"}",
         "invalid_image input_reference"},
        {P "\"input_reference\":\"" DATA PNG "\",\"reference_url\":\"" DATA PNG "\"}",
         "conflicting_parameters reference_url"},
        {P "\"input_reference\":\"" DATA PNG "\",\"extra_params\":{\"image_reference\":\"" DATA PNG
           "\"}}",
         "conflicting_parameters image_reference"},
    };
    struct create_request r = parsed(P "\"input_reference\":\"" DATA PNG "\"}");
    struct model_facts blind = model;
    struct api_error e;

    EXPECT_INT(r.reference, REFERENCE_BYTES);
    EXPECT_INT(r.reference_bytes, 125);
    EXPECT(r.spec.has_reference && memcmp(r.reference_data, "\x89PNG\r\n\x1a\n", 8) == 0);
    create_request_done(&r);
    expect_outcomes(cases, ARRAY_LEN(cases));
    blind.image = false;
    EXPECT(!parse_as(&r, P "\"reference_url\":\"x\"}", &blind, &server, NULL, &e));
    EXPECT_INT(e.code, API_UNSUPPORTED_PARAMETER);
    EXPECT_STR(e.param, "reference_url");
}

TEST(create_request_data_urls_are_limited)
{
    const size_t n = 20971520 + 1;
    char *body = test_alloc(n + 100);
    struct create_request r;
    struct api_error e;
    int head = snprintf(body, 100, P "\"reference_url\":\"" DATA);

    memset(body + head, 'A', n - strlen(DATA));
    memcpy(body + (size_t)head + n - strlen(DATA), "\"}", 3);
    EXPECT(!parse_as(&r, body, &model, &server, NULL, &e));
    EXPECT_INT(e.code, API_INVALID_INPUT_REFERENCE);
    EXPECT_CONTAINS(e.message, "20971520");
    free(body);
}

/* ---- whole bodies, as they come ---- */

#define TYPE    "multipart/form-data; boundary=----formdata-undici-041213214721"
#define PART(n) "------formdata-undici-041213214721\r\nContent-Disposition: form-data; name=" n
#define END     "------formdata-undici-041213214721--\r\n"

static bool parse_form(struct create_request *ret, const char *body, size_t len,
                       struct api_error *e)
{
    struct multipart *m = NULL;
    struct fields f = {0};
    bool ok = multipart_open(&m, TYPE, test_dir(), 20 << 20, e);

    if (ok) {
        (void)multipart_feed(m, body, len);
        ok = multipart_finish(m, &f, e);
    }
    ok = ok && create_request_parse(ret, &f, &model, &server, NULL, RANDOM_SEED, e);
    multipart_free(m);
    fields_done(&f);
    return ok;
}

static void expect_form(const char *body, size_t len, struct create_request *ret, const char *want)
{
    struct api_error e;
    char got[512];

    if (!parse_form(ret, body, len, &e)) {
        test_fail(__FILE__, __LINE__, "%s: %s", api_code_name(e.code), e.message);
    }
    describe(ret, got, sizeof(got));
    EXPECT_STR(got, want);
}

TEST(create_request_examples_of_the_contract)
{
    static const char vllm[] =
        PART("\"prompt\"") "\r\n\r\nA cinematic tracking shot of a mountain lake at "
                           "sunrise\r\n" PART("\"width\"") "\r\n\r\n1280\r\n" PART("\"height\"") "\r\n\r\n720\r\n" PART(
                               "\"num_frames\"") "\r\n\r\n80\r\n" PART("\"fps\"") "\r\n\r\n16\r"
                                                                                  "\n" PART(
                                                                                      "\"num_"
                                                                                      "infere"
                                                                                      "nce_"
                                                                                      "steps"
                                                                                      "\"") "\r\n\r"
                                                                                            "\n40\r"
                                                                                            "\n" END;
    static const char picture_head[] = PART("\"prompt\"") "\r\n\r\n\xe2\x80\xa6\r\n" PART(
        "\"input_reference\"; filename=\"input.png\"") "\r\nContent-Type: image/png\r\n\r\n";
    static const char picture_tail[] =
        "\r\n" PART("\"extra_params\"") "\r\n\r\n{\"preencode_mp4\": true}\r\n" END;
    struct create_request r = parsed("{\"prompt\":\"A calico cat\",\"size\":\"1280x720\"}");
    struct create_request png = parsed(P "\"reference_url\":\"" DATA PNG "\"}");
    char got[512];
    struct str body;

    describe(&r, got, sizeof(got)); /* SGLang's */
    EXPECT_STR(got, "1280x720 64/65 @16 50 6 8 30 random 77 upscaled:size");
    create_request_done(&r);

    expect_form(vllm, sizeof(vllm) - 1, &r, "1280x720 80/81 @16 40 6 8 30 random 77 upscaled:size");
    EXPECT_STR(r.spec.prompt, "A cinematic tracking shot of a mountain lake at sunrise");
    create_request_done(&r);

    str_init(&body, 1 << 16);
    str_append(&body, picture_head, sizeof(picture_head) - 1);
    str_append(&body, png.reference_data, png.reference_bytes);
    EXPECT(str_append(&body, picture_tail, sizeof(picture_tail) - 1));
    expect_form(body.data, body.len, &r, DEFAULT " ignored_parameter:preencode_mp4");
    EXPECT_INT(r.reference, REFERENCE_FILE);
    EXPECT_INT(r.reference_file, 0);
    create_request_done(&r);
    create_request_done(&png);
    str_done(&body);
}

TEST(create_request_of_the_sdk)
{
    static const char body[] =
        PART("\"prompt\"") "\r\n\r\nA calico cat\r\n" PART("\"model\"") "\r\n\r\nsora-2\r\n" PART("\"seconds\"") "\r\n\r\n8\r\n" PART("\"size\"") "\r\n\r\n720x1280\r\n" PART("\"seed\"") "\r\n\r\n7\r\n" PART(
            "\"metadata[shot]\"") "\r\n\r\ns010\r\n" PART("\"tags[]\"") "\r\n\r\nep3\r\n" PART("\"t"
                                                                                               "ags"
                                                                                               "[]"
                                                                                               "\"") "\r\n\r\nday\r\n" PART("\"generate_sound\"") "\r\n\r\nfalse\r\n" PART("\"input_reference[image_url]\"") "\r\n\r\n" DATA
            PNG "\r\n" END;
    struct create_request r;

    expect_form(body, sizeof(body) - 1, &r,
                "720x1280 128/129 @16 50 6 8 30 7 ignored_parameter:generate_sound upscaled:size");
    EXPECT_STR(r.tags, "[\"ep3\",\"day\"]");
    EXPECT_STR(r.metadata, "{\"shot\":\"s010\"}");
    EXPECT_STR(r.model, "sana-video-2b-480p");
    EXPECT_INT(r.reference, REFERENCE_BYTES);
    create_request_done(&r);
}

TEST(create_request_files_are_judged_by_their_name_and_bytes)
{
    static const struct {
        const char *name, *bytes, *want;
    } cases[] = {
        {"input_reference", "GIF89a", "invalid_input_reference input_reference"},
        {"image_reference", "\x89PNG\r\n\x1a\n", "invalid_image image_reference"},
        {"reference_url", "", "invalid_input_reference reference_url"},
        {"video_reference", "x", "unsupported_parameter video_reference"},
        {"seconds", "x", "invalid_type seconds"},
        {"file", "x", "unknown_parameter file"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct create_request r = {0};
        struct api_error e;
        char body[1024];
        char got[256];
        const int n =
            snprintf(body, sizeof(body),
                     PART("%s") "; filename=f.png\r\n\r\n%s\r\n" PART("prompt") "\r\n\r\nx\r\n" END,
                     cases[i].name, cases[i].bytes);

        EXPECT(!parse_form(&r, body, (size_t)n, &e));
        snprintf(got, sizeof(got), "%s %s", api_code_name(e.code), e.param);
        EXPECT_STR(got, cases[i].want);
        EXPECT(!strstr(e.message, "upload-")); /* names of the server's files stay here */
    }
}

TEST(create_request_picture_too_large)
{
    static const char head[] =
        PART("prompt") "\r\n\r\nx\r\n" PART("input_reference; filename=f") "\r\n\r\n";
    static const uint8_t png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x40\0\0\0\x40\0\x08\2\0\0\0"
                                 "\x26\xaa\x87\xd3";
    struct create_request r;
    struct api_error e;
    struct str body;

    str_init(&body, 4096);
    str_append(&body, head, sizeof(head) - 1);
    str_append(&body, png, sizeof(png) - 1);
    EXPECT(str_add(&body, "\r\n" END));
    EXPECT(!parse_form(&r, body.data, body.len, &e));
    EXPECT_STR(api_code_name(e.code), "image_too_large");
    str_done(&body);
}

TEST(create_request_file_and_text_are_two_references)
{
    static const char body[] =
        PART("prompt") "\r\n\r\nx\r\n" PART("input_reference; filename=f") "\r\n\r\nx\r\n" PART(
            "reference_url") "\r\n\r\nhttp://x\r\n" END;
    struct create_request r;
    struct api_error e;

    EXPECT(!parse_form(&r, body, sizeof(body) - 1, &e));
    EXPECT_INT(e.code, API_CONFLICTING_PARAMETERS);
}

/* ---- fingerprint ---- */

TEST(create_request_fingerprint_is_of_what_is_meant)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"\"seed\":-1", "\"size\":\"832x480\"", true},
        {"\"seconds\":\"4\"", "\"num_frames\":64,\"fps\":16,\"n\":1", true},
        {"\"model\":\"sora-2\"", "\"steps\":\"50\"", true},
        {"\"metadata\":{\"a\":\"1\",\"b\":\"2\"}", "\"metadata\":{\"b\":\"2\",\"a\":\"1\"}", true},
        {"\"seed\":77", "\"seed\":-1", false},
        {"\"seed\":0", "\"seed\":-1", false},
        {"\"seed\":1", "\"seed\":2", false},
        {"\"group\":\"a\"", "\"user\":\"a\"", false},
        {"\"tags\":[\"a\",\"b\"]", "\"tags\":[\"b\",\"a\"]", false},
        {"\"priority\":-1", "\"priority\":0", false},
        {"\"cancel_after_s\":60", "\"cancel_after_s\":61", false},
        {"\"negative_prompt\":\"a\"", "\"negative_prompt\":\"b\"", false},
        {"\"reference_url\":\"" DATA PNG "\"", "\"seed\":-1", false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct create_request r[2];

        for (int k = 0; k < 2; k++) {
            char body[1024];

            snprintf(body, sizeof(body), P "%s}", k == 0 ? cases[i].a : cases[i].b);
            r[k] = parsed(body);
        }
        EXPECT_INT(strcmp(r[0].fingerprint, r[1].fingerprint) == 0, cases[i].same);
        create_request_done(&r[0]);
        create_request_done(&r[1]);
    }
}

TEST(create_request_survives_every_failed_allocation)
{
    static const char body[] =
        P "\"tags\":[\"a\"],\"metadata\":\"{\\\"b\\\":\\\"c\\\"}\",\"group\":\"g\",\"user\":\"u\","
          "\"extra_json\":\"{\\\"negative_prompt\\\":\\\"n\\\"}\",\"input_reference\":"
          "\"{\\\"image_url\\\":\\\"" DATA PNG "\\\"}\"}";

    alloc_fail_hook_cjson();
    for (long n = 1;; n++) {
        struct create_request r = {0};
        struct api_error e;
        bool ok;

        alloc_fail_at(n);
        ok = parse_as(&r, body, &model, &server, NULL, &e);
        create_request_done(&r);
        if (!alloc_fail_stop()) {
            EXPECT(ok);
            break;
        }
        EXPECT(!ok);
        EXPECT_INT(e.code, API_INTERNAL_ERROR);
    }
}

/* What is stored must be readable again: the next change is merged into it. */
TEST(create_request_metadata_of_escapes_can_be_read_again)
{
    char name[65];
    cJSON *given = cJSON_CreateObject();
    cJSON *again = NULL;
    struct api_error e;
    struct err err;
    char *text = NULL;

    memset(name, '\x0f', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    EXPECT(cJSON_AddStringToObject(given, name, "x"));
    EXPECT(create_request_metadata(given, &text, &e));
    EXPECT_OK(json_parse(&again, text, strlen(text), 4, &err));
    EXPECT(cJSON_GetObjectItemCaseSensitive(again, name));
    cJSON_Delete(again);
    cJSON_Delete(given);
    free(text);
}
