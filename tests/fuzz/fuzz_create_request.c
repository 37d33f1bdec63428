/*
 * fuzz_create_request.c - the body of POST /v1/videos from anybody, to a job. The first byte chooses the
 * encoding (JSON, urlencoded, multipart with the boundary "B") and the options. What is accepted must be
 * within the limits, come back from JSON, and be the same request again.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/create_request.h"
#include "api/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct model_facts model = {
    .id = "sana-video-2b-480p",
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

static char spool[] = "/tmp/sanad-fuzz-XXXXXX";

static void remove_spool(void)
{
    CHECK_BUG(rmdir(spool) == 0); /* no file was left there */
}

static bool read_fields(struct fields *ret, int encoding, const char *data, size_t len,
                        struct api_error *e)
{
    struct multipart *m = NULL;
    bool ok;

    if (encoding == 0) {
        return fields_from_json(ret, data, len, e);
    }
    if (encoding == 1) {
        return fields_from_urlencoded(ret, data, len, e);
    }
    CHECK_BUG(multipart_open(&m, "multipart/form-data; boundary=B", spool, 65536, e));
    (void)multipart_feed(m, data, len);
    ok = multipart_finish(m, ret, e);
    multipart_free(m);
    return ok;
}

static bool parse(struct create_request *ret, const uint8_t *data, size_t size)
{
    const struct create_limits limits = {
        .max_seconds = 60,
        .max_frames = 961,
        .lenient = (data[0] & 4) != 0,
        .may_prioritise = (data[0] & 8) != 0,
    };
    struct fields f = {0};
    struct api_error e = {0};
    const bool ok = read_fields(&f, data[0] & 3, (const char *)data + 1, size - 1, &e) &&
                    create_request_parse(ret, &f, &model, &limits, NULL, UINT64_MAX, &e);

    fields_done(&f);
    if (!ok) {
        CHECK_BUG(e.message[0] != '\0' && json_utf8_valid(e.message, strlen(e.message)));
        CHECK_BUG(json_utf8_valid(e.param, strlen(e.param)));
        CHECK_BUG(e.code != API_INTERNAL_ERROR);
    }
    return ok;
}

static void check_tree(const char *json)
{
    cJSON *root = NULL;
    struct err err;

    CHECK_BUG(json_parse(&root, json, strlen(json), 4, &err) == ERR_OK);
    cJSON_Delete(root);
}

static void check(const struct create_request *r)
{
    const struct job_spec *s = &r->spec;
    struct job_spec back;
    struct str json;
    struct err err;

    CHECK_BUG(s->prompt[0] != '\0' && json_code_points(s->prompt) <= 32000);
    CHECK_BUG(s->width % 2 == 0 && s->height % 2 == 0 && s->width >= 32 && s->height >= 32);
    CHECK_BUG(s->width * s->height <= model.max_pixels && s->width <= 2 * s->height);
    CHECK_BUG(s->num_frames >= 1 && s->num_frames <= 961 && s->generated_frames >= s->num_frames);
    CHECK_BUG(s->fps >= 1 && s->fps <= 60 && s->steps >= 1 && s->steps <= 200);
    CHECK_BUG(s->seed <= (uint64_t)JSON_MAX_SAFE && r->priority <= 100 && r->priority >= -100);
    CHECK_BUG(s->has_reference == (r->reference != REFERENCE_NONE));
    CHECK_BUG(strlen(r->fingerprint) == 64);
    check_tree(r->tags);
    check_tree(r->metadata);
    str_init(&json, 1 << 22);
    CHECK_BUG(job_spec_to_json(s, &json, &err) == ERR_OK);
    CHECK_BUG(job_spec_from_json(&back, json.data, &err) == ERR_OK);
    CHECK_BUG(strcmp(back.prompt, s->prompt) == 0 && back.seed == s->seed && back.fps == s->fps);
    CHECK_BUG(back.n_warnings == s->n_warnings);
    job_spec_done(&back);
    str_done(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct create_request r = {0};
    struct create_request again = {0};

    if (spool[strlen(spool) - 1] == 'X') {
        CHECK_BUG(mkdtemp(spool) && atexit(remove_spool) == 0);
    }
    if (size > 0 && parse(&r, data, size)) {
        check(&r);
        CHECK_BUG(parse(&again, data, size) && strcmp(r.fingerprint, again.fingerprint) == 0);
    }
    create_request_done(&r);
    create_request_done(&again);
    return 0;
}
