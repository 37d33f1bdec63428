/*
 * Interrupted videos: whatever is restored or replayed goes on with the very pictures of the video
 * that was never interrupted, and what is no snapshot of this video is refused.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session_internal.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/originals.h"
#include "tests/support/test.h"

/* Two denoising steps, blocks of so many latent frames. */
static void small_blocks(struct video_bed *b, struct session_request *r, int64_t per_block,
                         int64_t frames)
{
    video_bed_open(b, "tiny-long", 1);
    b->model->dir->defaults.block_latent_frames = per_block;
    b->model->dir->defaults.renoise[1] = 727;
    b->model->dir->defaults.n_renoise = 2;
    *r = video_request(b, frames);
}

static void check_causal(struct video_bed *b, const struct session_request *r, int64_t blocks)
{
    struct original o;

    original_make(&o, b, r);
    EXPECT_INT(o.blocks, blocks);
    for (int64_t done = 1; done <= blocks; done++) {
        original_check_replay(&o, done);
        original_check_restore(&o, done, session_block(o.video.session, done - 1).first);
    }
    original_done(&o);
    video_bed_close(b);
}

TEST(session_checkpoint_causal_video_continues_behind_each_block)
{
    struct session_request r;
    struct video_bed b;

    small_blocks(&b, &r, 2, 24); /* 7 latent frames: 3, 2, 2 */
    check_causal(&b, &r, 3);
}

TEST(session_checkpoint_causal_video_continues_across_prompts)
{
    static const struct session_switch switches[] = {{1, "a storm at sea"}, {3, "a quiet desert"}};
    struct session_request r;
    struct video_bed b;

    for (int how = 0; how < 3; how++) {
        small_blocks(&b, &r, 1, 13);
        r.switches = switches;
        r.n_switches = ARRAY_LEN(switches);
        r.keep_old_cache = how == 1;
        r.nvlabs_recache = how == 2;
        check_causal(&b, &r, 4);
    }
}

TEST(session_checkpoint_causal_video_continues_with_guidance)
{
    struct session_request r;
    struct video_bed b;

    small_blocks(&b, &r, 1, 13);
    r.guidance_scale = 2;
    check_causal(&b, &r, 4);
}

TEST(session_checkpoint_causal_video_continues_with_a_window)
{
    static const struct session_switch change = {2, "a storm at sea"};
    struct session_request r;
    struct video_bed b;

    small_blocks(&b, &r, 1, 17);
    b.model->dir->defaults.history_blocks = 2;
    r.switches = &change;
    r.n_switches = 1;
    check_causal(&b, &r, 5);
}

/* A causal model that sanad.json gives a solver; within a block there is still nothing to save. */
TEST(session_checkpoint_causal_video_continues_with_another_sampler)
{
    struct session_request r;
    struct video_bed b;

    small_blocks(&b, &r, 1, 9);
    b.model->dir->defaults.sampler = SAMPLER_UNIPC;
    r.steps = 3;
    check_causal(&b, &r, 3);
}

TEST(session_checkpoint_causal_video_continues_behind_an_image)
{
    float *image = test_alloc((size_t)32 * 32 * 3 * sizeof(float));
    struct session_request r;
    struct video_bed b;

    test_fill(image, (int64_t)32 * 32 * 3, 4);
    small_blocks(&b, &r, 2, 17);
    r.image = image;
    check_causal(&b, &r, 2);
    free(image);
}

/* ---- bidirectional ---- */

static void check_clip(const char *model, enum sampler_kind sampler, const float *image,
                       double guidance)
{
    enum {
        STEPS = 4
    };
    struct session_request r;
    struct original o;
    struct video_bed b;

    video_bed_open(&b, model, 1);
    b.model->dir->defaults.sampler = sampler;
    if (b.model->dir->family == FAMILY_SANA_VIDEO_WAN) {
        b.model->dir->defaults.block_latent_frames = 2;
    }
    r = video_request(&b, 9);
    r.steps = STEPS;
    r.image = image;
    r.guidance_scale = guidance;
    original_make(&o, &b, &r);
    EXPECT_INT(o.steps, STEPS);
    for (int done = 1; done <= STEPS; done++) {
        original_check_step(&o, done);
    }
    for (int64_t done = 1; done <= o.blocks; done++) {
        original_check_restore(&o, done, 0);
    }
    original_done(&o);
    video_bed_close(&b);
}

TEST(session_checkpoint_clip_continues_between_solver_steps)
{
    static const enum sampler_kind samplers[] = {SAMPLER_DPM, SAMPLER_UNIPC, SAMPLER_EULER};

    for (size_t i = 0; i < ARRAY_LEN(samplers); i++) {
        check_clip("tiny-480p", samplers[i], NULL, i == 0 ? 3 : 1);
        check_clip("tiny-720p", samplers[i], NULL, 1);
    }
}

TEST(session_checkpoint_clip_continues_behind_an_image)
{
    float *image = test_alloc((size_t)64 * 64 * 3 * sizeof(float));

    test_fill(image, (int64_t)64 * 64 * 3, 4);
    check_clip("tiny-480p", SAMPLER_DPM, image, 1); /* becomes Euler */
    check_clip("tiny-720p", SAMPLER_UNIPC, image, 1);
    free(image);
}

/* A step's progress is not lost. */
static void remember_first(struct video *v, const struct session_progress *p)
{
    double *first = v->ctx;

    if (p->phase == SESSION_DENOISE && *first < 0) {
        *first = p->fraction;
    }
}

TEST(session_checkpoint_progress_goes_on_where_it_was)
{
    struct session_request r;
    struct original o;
    struct video_bed b;
    struct video v;
    struct err err;
    double first = -1;

    video_bed_open(&b, "tiny-720p", 1);
    r = video_request(&b, 9);
    r.steps = 4;
    original_make(&o, &b, &r);
    video_open(&v, &b, &r);
    v.ctx = &first;
    v.on_progress = remember_first;
    EXPECT_OK(session_restore(v.session, o.stepped[2].data, o.stepped[2].len, NULL, 0, &err));
    video_run(&v);
    EXPECT(fabs(first - 4 / (4 + 2.35)) < 1e-9); /* four steps of four, nothing decoded */
    video_close(&v);
    original_done(&o);
    video_bed_close(&b);
}

/* ---- when there is nothing to save ---- */

static void expect_busy(struct video *v, const struct session_progress *p)
{
    struct str out;
    struct err err = {0};

    if (p->phase == SESSION_DENOISE && v->ctx) { /* a clip's */
        return;
    }
    str_init(&out, SNAPSHOT_MAX);
    EXPECT_INT(session_save(v->session, &out, &err), ERR_BUSY);
    EXPECT_INT(out.len, 0);
}

TEST(session_checkpoint_is_refused_within_a_block)
{
    static const char *const models[] = {"tiny-480p", "tiny-720p", "tiny-long"};

    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct session_request r;
        struct video_bed b;
        struct video v;
        struct str out;
        struct err err = {0};
        float *latents;

        video_bed_open(&b, models[m], 1);
        b.model->dir->defaults.block_latent_frames = 2;
        r = video_request(&b, 17);
        video_open(&v, &b, &r);
        latents = test_alloc((size_t)session_latent_frame_size(v.session) * 8 * sizeof(float));
        str_init(&out, SNAPSHOT_MAX);
        EXPECT_INT(session_save(v.session, &out, &err), ERR_BUSY);
        EXPECT_INT(session_latents(v.session, latents, &err), ERR_BUSY);
        v.on_progress = expect_busy;
        v.ctx = m < 2 ? &v : NULL;
        video_run(&v);
        free(latents);
        video_close(&v);
        video_bed_close(&b);
    }
}

TEST(session_checkpoint_is_refused_after_a_failure)
{
    struct session_request r;
    struct geometry_block block;
    struct video_bed b;
    struct video v;
    struct str out;
    struct err err = {0};

    small_blocks(&b, &r, 1, 13);
    video_open(&v, &b, &r);
    video_block(&v);
    atomic_store(&v.cancel, true);
    EXPECT_INT(session_next_block(v.session, &block, &err), ERR_CANCELLED);
    str_init(&out, SNAPSHOT_MAX);
    EXPECT_INT(session_save(v.session, &out, &err), ERR_BUSY);
    video_close(&v);
    video_bed_close(&b);
}

TEST(session_checkpoint_needs_a_session_that_has_not_begun)
{
    struct session_request r;
    struct original o;
    struct video_bed b;
    struct err err = {0};

    small_blocks(&b, &r, 1, 13);
    original_make(&o, &b, &r);
    EXPECT_INT(session_replay(o.video.session, o.latents, 1, &err), ERR_BUSY);
    EXPECT_INT(session_restore(o.video.session, o.saved[0].data, o.saved[0].len, NULL, 0, &err),
               ERR_BUSY);
    original_done(&o);
    video_bed_close(&b);
}

TEST(session_checkpoint_replay_is_for_finished_blocks_of_a_causal_video)
{
    static const float latents[1];
    static const int64_t bad[] = {0, -1, 5, INT64_MAX};
    struct session_request r;
    struct video_bed b;
    struct video v;
    struct err err = {0};

    small_blocks(&b, &r, 1, 13);
    video_open(&v, &b, &r);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(session_replay(v.session, latents, bad[i], &err), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "finished blocks of 4");
    }
    video_run(&v); /* it has not begun, and can */
    video_close(&v);
    video_bed_close(&b);
    video_bed_open(&b, "tiny-480p", 1);
    r = video_request(&b, 17);
    video_open(&v, &b, &r);
    EXPECT_INT(session_replay(v.session, latents, 1, &err), ERR_UNSUPPORTED);
    video_close(&v);
    video_bed_close(&b);
}

TEST(session_checkpoint_restore_wants_the_latents_that_are_needed)
{
    struct session_request r;
    struct original o;
    struct video_bed b;

    small_blocks(&b, &r, 1, 13);
    original_make(&o, &b, &r);
    for (int64_t given = 0; given <= 3; given++) {
        struct video v;
        struct err err = {0};

        if (given == 2) { /* right: two blocks before the third one */
            continue;
        }
        video_open(&v, &b, &r);
        EXPECT_INT(
            session_restore(v.session, o.saved[2].data, o.saved[2].len, o.latents, given, &err),
            ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "2 are needed");
        video_close(&v);
    }
    original_done(&o);
    video_bed_close(&b);
}

/* ---- snapshots that are none ---- */

/* Where session_checkpoint.c has its header's fields. */
enum {
    AT_KIND = 12,
    AT_NEXT = 24,
    AT_HISTORY = 32,
    AT_STEP = 40,
    AT_ORDER = 44,
    AT_PAYLOAD = 48,
    AT_CHECKSUM = 56,
    HEADER = 64
};

static void seal(struct str *s)
{
    uint64_t h = 0xcbf29ce484222325U;

    memset(s->data + AT_CHECKSUM, 0, sizeof(h));
    for (size_t i = 0; i < s->len; i++) {
        h = (h ^ (uint8_t)s->data[i]) * 0x100000001b3U;
    }
    memcpy(s->data + AT_CHECKSUM, &h, sizeof(h));
}

static void copy_str(struct str *to, const struct str *from)
{
    str_init(to, SNAPSHOT_MAX);
    EXPECT(str_append(to, from->data, from->len));
}

/* Damage that is seen before anything is begun: v stays fresh. */
static void expect_unread(struct video *v, const char *data, size_t len)
{
    char *exact = test_alloc(len); /* so that reading behind it is seen */
    struct err err = {0};
    int rc;

    memcpy(exact, data, len);
    rc = session_restore(v->session, exact, len, NULL, 0, &err);
    free(exact);
    EXPECT(rc == ERR_FORMAT || rc == ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "snapshot: ");
}

static void check_damage(struct video_bed *b, const struct session_request *r,
                         const struct str *good)
{
    struct str s;
    struct video v;

    video_open(&v, b, r);
    for (size_t len = 0; len < good->len; len += len < (size_t)2 * HEADER ? 1 : good->len / 23) {
        expect_unread(&v, good->data, len);
    }
    expect_unread(&v, good->data, good->len - 1);
    copy_str(&s, good);
    for (size_t at = 0; at < good->len; at += at < HEADER + 8 ? 1 : good->len / 41) {
        for (int bit = 0; bit < 8; bit += 7) {
            s.data[at] = (char)(s.data[at] ^ (1 << bit));
            expect_unread(&v, s.data, s.len);
            s.data[at] = good->data[at];
        }
    }
    EXPECT(str_append(&s, "x", 1));
    expect_unread(&v, s.data, s.len);
    str_done(&s);
    video_run(&v); /* none of it did any harm */
    video_close(&v);
}

TEST(session_checkpoint_damage_is_seen)
{
    static const char *const models[] = {"tiny-long", "tiny-720p"};

    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct session_request r;
        struct original o;
        struct video_bed b;

        video_bed_open(&b, models[m], 1);
        b.model->dir->defaults.block_latent_frames = 2;
        r = video_request(&b, 17);
        original_make(&o, &b, &r);
        check_damage(&b, &r, m == 0 ? &o.saved[1] : &o.stepped[1]);
        original_done(&o);
        video_bed_close(&b);
    }
}

struct forgery {
    size_t at;
    int bytes; /* 4 or 8 */
    int64_t value;
};

/* Numbers that contradict each other, with a checksum that is right. */
static void check_forgeries(const struct original *o, const struct str *good,
                            const struct forgery *forged, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct video v;
        struct str s;
        struct err err = {0};
        int rc;

        copy_str(&s, good);
        memcpy(s.data + forged[i].at, &forged[i].value, (size_t)forged[i].bytes);
        seal(&s);
        video_open(&v, o->bed, &o->request);
        rc = session_restore(v.session, s.data, s.len, o->latents, 0, &err);
        if (rc != ERR_FORMAT && rc != ERR_INVALID) {
            test_fail(__FILE__, __LINE__, "forgery %zu: %d %s", i, rc, err.msg);
        }
        video_close(&v);
        str_done(&s);
    }
}

TEST(session_checkpoint_forged_numbers_are_refused)
{
    static const struct forgery causal[] = {
        {AT_KIND, 4, 0},
        {AT_KIND, 4, 1},
        {AT_KIND, 4, 3},
        {AT_NEXT, 8, 0},
        {AT_NEXT, 8, -1},
        {AT_NEXT, 8, 1},
        {AT_NEXT, 8, 3},
        {AT_NEXT, 8, 5},
        {AT_NEXT, 8, INT64_MAX},
        {AT_NEXT, 8, INT64_MIN},
        {AT_HISTORY, 8, 0},
        {AT_HISTORY, 8, 2},
        {AT_HISTORY, 8, INT64_MAX},
        {AT_PAYLOAD, 8, 0},
        {AT_PAYLOAD, 8, INT64_MAX},
        {AT_PAYLOAD, 8, -1},
    };
    static const struct forgery clip[] = {
        {AT_KIND, 4, 2},  {AT_NEXT, 8, 1},          {AT_HISTORY, 8, 1}, {AT_STEP, 4, -1},
        {AT_STEP, 4, 5},  {AT_STEP, 4, INT32_MAX},  {AT_STEP, 4, 0},    {AT_ORDER, 4, 0},
        {AT_ORDER, 4, 2}, {AT_ORDER, 4, INT32_MAX}, {AT_ORDER, 4, -1},
    };
    struct session_request r;
    struct original o;
    struct video_bed b;

    small_blocks(&b, &r, 1, 13);
    original_make(&o, &b, &r);
    check_forgeries(&o, &o.saved[1], causal, ARRAY_LEN(causal));
    original_done(&o);
    video_bed_close(&b);

    video_bed_open(&b, "tiny-720p",
                   1); /* UniPC: an order too high would look before the first step */
    r = video_request(&b, 9);
    r.steps = 4;
    original_make(&o, &b, &r);
    check_forgeries(&o, &o.stepped[0], clip, ARRAY_LEN(clip));
    original_done(&o);
    video_bed_close(&b);
}

TEST(session_checkpoint_of_numbers_that_are_none_ends_in_an_error)
{
    static const uint32_t none[] = {0x7fc00000, 0x7f800000, 0xff800000};
    struct session_request r;
    struct original o;
    struct video_bed b;

    small_blocks(&b, &r, 1, 13);
    original_make(&o, &b, &r);
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        struct geometry_block block;
        struct video v;
        struct str s;
        struct err err = {0};

        copy_str(&s, &o.saved[1]);
        for (size_t at = HEADER; at < s.len; at += 4) {
            memcpy(s.data + at, &none[i], 4);
        }
        seal(&s);
        video_open(&v, &b, &r);
        EXPECT_OK(session_restore(v.session, s.data, s.len, o.latents, 1, &err));
        EXPECT_INT(session_next_block(v.session, &block, &err), ERR_NUMERIC);
        video_close(&v);
        str_done(&s);
    }
    original_done(&o);
    video_bed_close(&b);
}

static void expect_stranger(struct video_bed *b, const struct session_request *r,
                            const struct str *snapshot)
{
    struct video v;
    struct err err = {0};

    video_open(&v, b, r);
    EXPECT_INT(session_restore(v.session, snapshot->data, snapshot->len, NULL, 0, &err),
               ERR_INVALID);
    EXPECT_STR(err.msg, "snapshot: made for another request or model");
    video_close(&v);
}

/* Whatever pictures depend on, but for the weights. */
TEST(session_checkpoint_of_another_request_is_refused)
{
    static const struct session_switch change = {1, "a storm at sea"};
    static const struct session_switch later = {2, "a storm at sea"};
    struct model_defaults *d;
    struct model_defaults keep;
    struct session_request r;
    struct session_request other[10];
    struct original o;
    struct video_bed b;

    small_blocks(&b, &r, 1, 13);
    r.switches = &change;
    r.n_switches = 1;
    original_make(&o, &b, &r);
    for (size_t i = 0; i < ARRAY_LEN(other); i++) {
        other[i] = r;
    }
    other[0].seed++;
    other[1].frames--;
    other[2].width = 48;
    other[3].prompt = "another";
    other[4].guidance_scale = 2;
    other[5].n_switches = 0;
    other[6].switches = &later;
    other[7].keep_old_cache = true;
    other[8].nvlabs_recache = true;
    other[9].flow_shift = 8;
    for (size_t i = 0; i < ARRAY_LEN(other); i++) {
        expect_stranger(&b, &other[i], &o.saved[1]);
    }
    d = &b.model->dir->defaults;
    keep = *d;
    d->block_latent_frames = 2;
    expect_stranger(&b, &r, &o.saved[1]);
    *d = keep;
    d->history_blocks = 1;
    expect_stranger(&b, &r, &o.saved[1]);
    *d = keep;
    d->n_renoise = 1;
    expect_stranger(&b, &r, &o.saved[1]);
    *d = keep;
    d->renoise[1] = 728; /* tells the model the same as 727, rounded to bf16 */
    expect_stranger(&b, &r, &o.saved[1]);
    *d = keep;
    original_done(&o);
    video_bed_close(&b);
}

TEST(session_checkpoint_of_another_image_is_refused)
{
    float *image = test_alloc((size_t)32 * 32 * 3 * sizeof(float));
    struct session_request plain;
    struct session_request r;
    struct original o;
    struct video_bed b;

    small_blocks(&b, &plain, 2, 13);
    r = plain;
    r.image = image;
    test_fill(image, (int64_t)32 * 32 * 3, 4);
    original_make(&o, &b, &r);
    expect_stranger(&b, &plain, &o.saved[0]);
    image[1000] += 0.01F;
    expect_stranger(&b, &r, &o.saved[0]);
    original_done(&o);
    video_bed_close(&b);
    free(image);
}

TEST(session_checkpoint_of_another_model_is_refused)
{
    static const char *const models[] = {"tiny-480p", "tiny-720p"};

    for (int i = 0; i < 2; i++) {
        struct session_request r;
        struct original o;
        struct video_bed b;
        struct video_bed other;

        video_bed_open(&b, models[i], 1);
        video_bed_open(&other, models[1 - i], 1);
        r = video_request(&b, 5);
        r.width = r.height = 64;
        original_make(&o, &b, &r);
        expect_stranger(&other, &r, &o.stepped[0]);
        original_done(&o);
        video_bed_close(&other);
        video_bed_close(&b);
    }
}

/* ---- memory ---- */

TEST(session_checkpoint_survives_each_failing_allocation)
{
    struct session_request r;
    struct original o;
    struct video_bed b;
    struct err err = {0};
    long n;

    small_blocks(&b, &r, 1, 13);
    original_make(&o, &b, &r);
    for (n = 1;; n++) {
        struct str out;
        int rc;

        str_init(&out, SNAPSHOT_MAX);
        alloc_fail_at(n);
        rc = session_save(o.video.session, &out, &err);
        str_done(&out);
        if (!alloc_fail_stop()) {
            EXPECT_INT(rc, ERR_OK);
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT(n > 1);
    for (n = 1;; n++) {
        struct video v;
        int rc;

        video_open(&v, &b, &r);
        alloc_fail_at(n);
        rc = n % 2 == 0
                 ? session_replay(v.session, o.latents, 2, &err)
                 : session_restore(v.session, o.saved[1].data, o.saved[1].len, o.latents, 1, &err);
        if (alloc_fail_stop()) {
            EXPECT(rc == ERR_NO_MEMORY || rc == ERR_NO_VRAM);
        } else {
            EXPECT_INT(rc, ERR_OK);
        }
        video_close(&v);
        if (rc == ERR_OK && n % 2 == 0) {
            break;
        }
    }
    EXPECT(n > 1);
    original_done(&o);
    video_bed_close(&b);
}

TEST(session_checkpoint_respects_the_strings_limit)
{
    struct session_request r;
    struct original o;
    struct video_bed b;
    struct str out;
    struct err err = {0};

    small_blocks(&b, &r, 1, 13);
    original_make(&o, &b, &r);
    str_init(&out, o.saved[3].len - 1);
    EXPECT_INT(session_save(o.video.session, &out, &err), ERR_NO_MEMORY);
    str_done(&out);
    original_done(&o);
    video_bed_close(&b);
}
