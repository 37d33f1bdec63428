#include "engine/session.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session_internal.h"
#include "kernels/noise.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"
#include "tests/support/vae_files.h"
#include "tests/support/videos.h"

static const char *const all_models[] = {"tiny-480p", "tiny-720p", "tiny-long"};

/* Blocks of so many latent frames: short, so that small videos have several. */
static void set_block(struct video_bed *b, int64_t latent_frames)
{
    b->model->dir->defaults.block_latent_frames = latent_frames;
}

/* The first of `n` pictures that differs; n: none does. */
static int64_t first_difference(const struct video *a, const struct video *b, int64_t n)
{
    int64_t i = 0;

    while (i < n && video_same(a, b, i, i + 1)) {
        i++;
    }
    return i;
}

/* Two requests on one bed; where their videos begin to differ. */
static int64_t difference(struct video_bed *b, const struct session_request *one,
                          const struct session_request *two)
{
    struct video v[2];
    int64_t first;

    video_make(&v[0], b, one);
    video_make(&v[1], b, two);
    first = first_difference(&v[0], &v[1], one->frames);
    video_close(&v[0]);
    video_close(&v[1]);
    return first;
}

/* ---- what comes out ---- */

TEST(session_delivers_exactly_the_frames_that_were_asked)
{
    static const int64_t frames[] = {1, 2, 5, 6, 17, 33};

    for (size_t m = 0; m < ARRAY_LEN(all_models); m++) {
        struct video_bed b;

        video_bed_open(&b, all_models[m], 1);
        if (b.model->dir->family != FAMILY_SANA_VIDEO_LTX2) {
            set_block(&b, 3);
        }
        for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
            const struct session_request r = video_request(&b, frames[i]);
            struct video v;

            video_make(&v, &b, &r);
            EXPECT_INT(v.delivered, frames[i]);
            EXPECT(fabs(v.fraction - 1.0) < 1e-9);
            EXPECT_INT(session_blocks_done(v.session), session_settings(v.session)->blocks);
            video_close(&v);
        }
        video_bed_close(&b);
    }
}

/* With all defaults that a request can leave open, but for size and length. */
TEST(session_fills_in_the_models_defaults)
{
    struct video_bed b;
    struct session_request r = {.prompt = "a cat", .width = 32, .height = 32, .exact_size = true};
    const struct session_settings *set;
    struct video v;

    video_bed_open(&b, "tiny-480p", 1);
    b.model->dir->defaults.frames = 5;
    b.model->dir->defaults.steps = 2;
    b.model->dir->defaults.chi = CHI_VIDEO;
    video_make(&v, &b, &r);
    set = session_settings(v.session);
    EXPECT_INT(set->frames, 5);
    EXPECT_INT(set->sampler.steps, 2);
    EXPECT(set->sampler.kind == SAMPLER_DPM && set->sampler.flow_shift == 8);
    EXPECT(set->guidance_scale == 6 && set->fps == 16);
    EXPECT_INT(set->motion_score, 30);
    EXPECT_INT(set->seed, 0);
    EXPECT(!set->image && !set->prompt_truncated);
    video_close(&v);
    video_bed_close(&b);
}

TEST(session_says_when_a_prompt_is_cut_off)
{
    struct video_bed b;
    struct session_request r;
    struct video v;

    video_bed_open(&b, "tiny-long", 1);
    b.model->dir->defaults.max_prompt_tokens = 8;
    r = video_request(&b, 1);
    video_make(&v, &b, &r);
    EXPECT(session_settings(v.session)->prompt_truncated);
    video_close(&v);
    r.prompt = "";
    r.has_motion_score = true; /* 0: no suffix */
    video_make(&v, &b, &r);
    EXPECT(!session_settings(v.session)->prompt_truncated);
    video_close(&v);
    video_bed_close(&b);
}

/* ---- same seed, same bytes ---- */

TEST(session_frames_depend_on_the_seed_alone)
{
    for (size_t m = 0; m < ARRAY_LEN(all_models); m++) {
        struct video_bed b;
        struct session_request r;
        struct session_request other;

        video_bed_open(&b, all_models[m], 1);
        r = video_request(&b, 9);
        other = r;
        EXPECT_INT(difference(&b, &r, &other), 9);
        other.seed = r.seed + 1;
        EXPECT_INT(difference(&b, &r, &other), 0);
        other.seed = r.seed + ((uint64_t)1 << 40); /* all 64 bits count */
        EXPECT_INT(difference(&b, &r, &other), 0);
        other = r;
        other.prompt = "a blue boat";
        EXPECT_INT(difference(&b, &r, &other), 0);
        video_bed_close(&b);
    }
}

TEST(session_threads_do_not_change_a_bit)
{
    for (size_t m = 0; m < ARRAY_LEN(all_models); m++) {
        struct video_bed b[2];
        struct video v[2];

        for (int i = 0; i < 2; i++) {
            struct session_request r;

            video_bed_open(&b[i], all_models[m], i == 0 ? 1 : 3);
            r = video_request(&b[i], 9);
            r.guidance_scale = 3;
            set_block(&b[i], 1);
            video_make(&v[i], &b[i], &r);
        }
        EXPECT(video_same(&v[0], &v[1], 0, 9));
        for (int i = 0; i < 2; i++) {
            video_close(&v[i]);
            video_bed_close(&b[i]);
        }
    }
}

/* Two videos whose blocks alternate are the videos that they are alone. */
TEST(session_shares_its_model_with_another)
{
    struct session_request r[2];
    struct video alone[2];
    struct video mixed[2];
    struct video_bed b;

    video_bed_open(&b, "tiny-long", 1);
    set_block(&b, 2);
    for (int i = 0; i < 2; i++) {
        r[i] = video_request(&b, 25);
        r[i].seed = (uint64_t)i;
        video_make(&alone[i], &b, &r[i]);
        video_open(&mixed[i], &b, &r[i]);
    }
    while (!session_finished(mixed[0].session)) {
        video_block(&mixed[0]);
        video_block(&mixed[1]);
    }
    for (int i = 0; i < 2; i++) {
        EXPECT(video_same(&alone[i], &mixed[i], 0, 25));
        video_close(&alone[i]);
        video_close(&mixed[i]);
    }
    video_bed_close(&b);
}

struct place {
    struct video *video;
    uint64_t seed;
    int calls;
};

/* What the session must make itself: stream 0 at first, 1 + step after a step. */
static int noise_of_place(void *ctx, int64_t first, int step, const struct tensor *y,
                          struct err *err)
{
    struct place *p = ctx;
    struct session *s = p->video->session;
    const struct geometry_block block = session_block(s, session_blocks_done(s));
    const bool behind_image = step >= 0 && session_settings(s)->image && block.first == 0;
    const int64_t frame = session_latent_frame_size(s);

    (void)err;
    EXPECT_INT(first, block.first + (behind_image ? 1 : 0));
    EXPECT_INT(y->dim[0], block.count - (behind_image ? 1 : 0));
    EXPECT_INT(tensor_count(y), y->dim[0] * frame);
    for (int64_t i = 0; i < tensor_count(y); i++) {
        ((float *)y->data)[i] =
            noise_normal(p->seed, step < 0 ? 0 : 1 + (uint64_t)step, first * frame + i);
    }
    p->calls++;
    return ERR_OK;
}

/* So that any block can be made at any time, and blocks of another length begin alike. */
TEST(session_noise_is_a_function_of_seed_stream_and_place)
{
    float *image = test_alloc((size_t)32 * 32 * 3 * sizeof(float));
    struct video_bed b;

    test_fill(image, (int64_t)32 * 32 * 3, 3);
    video_bed_open(&b, "tiny-long", 1);
    set_block(&b, 2);
    for (int with_image = 0; with_image < 2; with_image++) {
        struct session_request r = video_request(&b, 17); /* 5 latent frames: 3, 2 */
        struct video v[2];
        struct place place = {.video = &v[1], .seed = r.seed};
        const struct session_hooks hooks = {.ctx = &place, .noise = noise_of_place};

        r.image = with_image ? image : NULL;
        video_make(&v[0], &b, &r);
        video_open(&v[1], &b, &r);
        session_set_hooks(v[1].session, &hooks);
        video_run(&v[1]);
        EXPECT_INT(place.calls, 2 * 4); /* each block: at first, and after all steps but the last */
        EXPECT(video_same(&v[0], &v[1], 0, 17));
        video_close(&v[0]);
        video_close(&v[1]);
    }
    video_bed_close(&b);
    free(image);
}

/* ---- guidance ---- */

TEST(session_guidance_counts_above_one)
{
    for (size_t m = 0; m < ARRAY_LEN(all_models); m++) {
        struct video_bed b;
        struct session_request plain;
        struct session_request guided;

        video_bed_open(&b, all_models[m], 1);
        if (m == 2) {
            set_block(&b, 1);
        }
        plain = video_request(&b, 9);
        guided = plain;
        guided.guidance_scale = 0.5;
        EXPECT_INT(difference(&b, &plain, &guided), 9);
        guided.guidance_scale = 2;
        EXPECT_INT(difference(&b, &plain, &guided), 0);
        plain = guided;
        plain.negative_prompt = "a dog";
        EXPECT_INT(difference(&b, &plain, &guided), 0);
        plain.negative_prompt = NULL;
        guided.negative_prompt = "";
        EXPECT_INT(difference(&b, &plain, &guided), 9);
        video_bed_close(&b);
    }
}

struct by_hand {
    struct session *s; /* all blocks done */
    float *latents;    /* of all of them */
    struct history history;
};

/* What all blocks but the last leave, with either prompt. */
static void check_histories(struct workspace *ws, void *ctx)
{
    struct by_hand *h = ctx;
    struct session *s = h->s;
    const int64_t frame = session_latent_frame_size(s);
    const size_t mark = workspace_mark(ws);
    struct err err;

    for (int i = 0; i < 2; i++) {
        const struct transformer_text *text = i == 0 ? &s->text[0] : &s->negative;

        EXPECT_OK(history_init(&h->history, s->model->transformer, ws,
                               s->history[i].sum.tail.dim[1], -1, &err));
        for (int64_t k = 0; k + 1 < s->set.blocks; k++) {
            const struct geometry_block b = session_block(s, k);
            struct tensor x = session_block_latents(s, k); /* for its shape */

            EXPECT_OK(workspace_tensor(ws, &x, DTYPE_F32, x.rank, x.dim, &err));
            EXPECT_OK(device_upload(ws->dev, &x, h->latents + b.first * frame, &err));
            EXPECT_OK(denoiser_save_state(s->model->transformer, ws, &x, text,
                                          history_read(&h->history), &h->history.own, b.first,
                                          &err));
            EXPECT_OK(history_push(&h->history, &err));
        }
        if (!ws->dev->dry_run) {
            const struct transformer_state *a = &h->history.sum;
            const struct transformer_state *b = &s->history[i].sum;

            EXPECT(memcmp(a->s.data, b->s.data, tensor_bytes(&a->s)) == 0);
            EXPECT(memcmp(a->k_sum.data, b->k_sum.data, tensor_bytes(&a->k_sum)) == 0);
            EXPECT(memcmp(a->tail.data, b->tail.data, tensor_bytes(&a->tail)) == 0);
        }
    }
    workspace_rewind(ws, mark);
}

/* Each branch carries the sums of its own prompt, at absolute places in time. */
TEST(session_carries_the_state_of_both_prompts)
{
    struct session_request r;
    struct by_hand h;
    struct video_bed b;
    struct video v;
    struct err err;
    int64_t frame;

    video_bed_open(&b, "tiny-long", 1);
    set_block(&b, 2);
    r = video_request(&b, 25); /* 3, 2, 2 */
    r.guidance_scale = 2;
    video_open(&v, &b, &r);
    frame = session_latent_frame_size(v.session);
    h = (struct by_hand){.s = v.session};
    h.latents = test_alloc((size_t)(7 * frame) * sizeof(float));
    while (!session_finished(v.session)) {
        const int64_t first = video_block(&v).first;

        EXPECT_OK(session_latents(v.session, h.latents + first * frame, &err));
    }
    vae_files_run(&b.dev, check_histories, &h);
    free(h.latents);
    video_close(&v);
    video_bed_close(&b);
}

/* ---- prompts that change ---- */

TEST(session_switch_changes_later_blocks_only)
{
    static const struct session_switch switches[] = {{2, "a storm at sea"}, {4, "a quiet desert"}};
    struct session_request plain;
    struct session_request r;
    struct video_bed b;
    struct video v;

    video_bed_open(&b, "tiny-long", 1);
    set_block(&b, 1);
    plain = video_request(&b, 17);
    r = plain;
    r.switches = switches;
    r.n_switches = 1;
    video_open(&v, &b, &plain);
    EXPECT_INT(session_settings(v.session)->blocks, 5);
    EXPECT_INT(difference(&b, &plain, &r), video_block_start(&v, 2));
    plain = r;
    plain.n_switches = 2;
    EXPECT_INT(difference(&b, &plain, &r), video_block_start(&v, 4));
    video_close(&v);
    video_bed_close(&b);
}

/* What the block before the switch leaves behind is computed with the new prompt (MODEL 4.6). */
TEST(session_switch_caches_the_block_before_it_again)
{
    static const struct session_switch at_1 = {1, "a storm at sea"};
    static const struct session_switch at_2 = {2, "a storm at sea"};
    struct session_request r;
    struct session_request other;
    struct video_bed b;

    video_bed_open(&b, "tiny-long", 1);
    set_block(&b, 2);
    r = video_request(&b, 25); /* 3, 2, 2 */
    r.switches = &at_2;
    r.n_switches = 1;
    other = r;
    other.keep_old_cache = true;
    EXPECT_INT(difference(&b, &r, &other), 17);
    other = r;
    other.nvlabs_recache = true; /* their quirk is in block 0 only */
    EXPECT_INT(difference(&b, &r, &other), 25);
    r.switches = other.switches = &at_1;
    EXPECT_INT(difference(&b, &r, &other), 9);
    video_bed_close(&b);
}

/* ---- an image in front ---- */

struct encode {
    struct vae *vae;
    const float *image;
    int64_t size;
    float *latent; /* out */
    int64_t cells, channels;
};

static void encode_image(struct workspace *ws, void *ctx)
{
    struct encode *e = ctx;
    const size_t mark = workspace_mark(ws);
    struct tensor picture;
    struct tensor z;
    struct err err;

    EXPECT_OK(WORKSPACE_F32(ws, &picture, &err, 1, e->size, e->size, 3));
    EXPECT_OK(WORKSPACE_F32(ws, &z, &err, 1, e->cells, e->cells, e->channels));
    EXPECT_OK(device_upload(ws->dev, &picture, e->image, &err));
    EXPECT_OK(vae_encode_image(e->vae, &picture, ws, &z, &err));
    EXPECT_OK(device_download(ws->dev, e->latent, &z, &err));
    workspace_rewind(ws, mark);
}

/* MODEL 13.2, 6: the frame that was given is still what was encoded when all steps are done. */
static void check_image(const char *model)
{
    const int64_t size = strcmp(model, "tiny-720p") == 0 ? 64 : 32;
    float *image = test_alloc((size_t)(size * size * 3) * sizeof(float));
    struct session_request r;
    struct session_request plain;
    struct encode e;
    struct video_bed b;
    struct video v;
    struct err err;
    float *latents;

    test_fill(image, size * size * 3, 3);
    video_bed_open(&b, model, 1);
    set_block(&b, 3);
    plain = video_request(&b, 17);
    r = plain;
    r.image = image;
    video_open(&v, &b, &r);
    EXPECT(session_settings(v.session)->image);
    e = (struct encode){.vae = b.model->vae, .image = image, .size = size};
    e.cells = session_settings(v.session)->size.latent_height;
    e.channels = b.model->dir->vae.latent_channels;
    e.latent = test_alloc((size_t)session_latent_frame_size(v.session) * sizeof(float));
    vae_files_run(&b.dev, encode_image, &e);
    latents = test_alloc((size_t)(session_latent_frame_size(v.session) * video_block(&v).count) *
                         sizeof(float));
    EXPECT_OK(session_latents(v.session, latents, &err));
    EXPECT(memcmp(latents, e.latent,
                  (size_t)session_latent_frame_size(v.session) * sizeof(float)) == 0);
    video_run(&v);
    video_close(&v);
    EXPECT_INT(difference(&b, &plain, &r), 0);
    r.frames = 1;
    video_refused(&b, &r, ERR_INVALID, "frames: an image");
    video_bed_close(&b);
    free(latents);
    free(e.latent);
    free(image);
}

TEST(session_keeps_the_image_as_first_frame)
{
    for (size_t m = 0; m < ARRAY_LEN(all_models); m++) {
        check_image(all_models[m]);
    }
}

/* ---- resolving without a device ---- */

static void expect_same_settings(const struct session_settings *a, const struct session_settings *b)
{
    EXPECT(memcmp(&a->size, &b->size, sizeof(a->size)) == 0);
    EXPECT_INT(a->frames, b->frames);
    EXPECT(a->fps == b->fps && a->seed == b->seed);
    EXPECT(a->sampler.kind == b->sampler.kind && a->sampler.steps == b->sampler.steps);
    EXPECT(a->sampler.flow_shift == b->sampler.flow_shift);
    EXPECT_INT(a->sampler.n_renoise, b->sampler.n_renoise);
    EXPECT(a->guidance_scale == b->guidance_scale);
    EXPECT_INT(a->motion_score, b->motion_score);
    EXPECT_INT(a->block_latent_frames, b->block_latent_frames);
    EXPECT_INT(a->blocks, b->blocks);
    EXPECT(a->image == b->image && a->prompt_truncated == b->prompt_truncated);
}

TEST(session_resolve_gives_what_the_session_has)
{
    float *image = test_alloc((size_t)64 * 64 * 3 * sizeof(float));

    test_fill(image, (int64_t)64 * 64 * 3, 3);
    for (size_t m = 0; m < ARRAY_LEN(all_models); m++) {
        struct video_bed b;

        video_bed_open(&b, all_models[m], 1);
        for (int variant = 0; variant < 4; variant++) {
            struct session_request r = video_request(&b, 9);
            struct session_settings set;
            struct video v;
            struct err err;

            r.image = variant & 1 ? image : NULL;
            if (variant & 2) { /* what a request may leave open, and a long prompt */
                r.has_guidance = false;
                r.steps = 0;
                b.model->dir->defaults.max_prompt_tokens = 4;
            }
            EXPECT_OK(session_resolve(b.model, &r, &set, &err));
            EXPECT(set.prompt_truncated == (variant >= 2) && set.image == (r.image != NULL));
            video_open(&v, &b, &r);
            expect_same_settings(&set, session_settings(v.session));
            video_close(&v);
        }
        video_bed_close(&b);
    }
    free(image);
}

/* No memory is planned: what no machine has room for still has settings. */
TEST(session_resolve_refuses_the_request_but_not_its_size_in_memory)
{
    struct session_request r;
    struct session_settings set = {0};
    struct video_bed b;
    struct err err;

    video_bed_open(&b, "tiny-480p", 1);
    r = video_request(&b, FRAMES_MAX);
    r.width = 1920;
    r.height = 1080;
    r.memory_limit = 1;
    EXPECT_OK(session_resolve(b.model, &r, &set, &err));
    EXPECT_INT(set.frames, FRAMES_MAX);
    r.motion_score = 101;
    r.has_motion_score = true;
    EXPECT_INT(session_resolve(b.model, &r, &set, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "motion_score: 101");
    r = video_request(&b, 5);
    r.prompt = "\xff";
    EXPECT_INT(session_resolve(b.model, &r, &set, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "prompt: ");
    video_bed_close(&b);
}

struct resolver {
    struct video_bed *bed;
    struct session_request request;
    struct session_settings want;
    atomic_bool stop;
    int done;
    bool failed;
};

static void *resolve_on_and_on(void *ctx)
{
    struct resolver *r = ctx;

    do {
        struct session_settings set;
        struct err err;

        r->failed = r->failed ||
                    session_resolve(r->bed->model, &r->request, &set, &err) != ERR_OK ||
                    set.blocks != r->want.blocks || set.seed != r->want.seed ||
                    set.prompt_truncated != r->want.prompt_truncated;
        r->done++;
    } while (!atomic_load(&r->stop));
    return NULL;
}

TEST(session_resolve_runs_beside_a_session)
{
    struct resolver r = {0};
    struct session_request own;
    struct video_bed b;
    struct video quiet;
    struct video v;
    pthread_t thread;
    struct err err;

    video_bed_open(&b, "tiny-long", 1);
    set_block(&b, 2);
    own = video_request(&b, 25);
    video_make(&quiet, &b, &own);
    r.bed = &b;
    r.request = video_request(&b, 33);
    r.request.guidance_scale = 2;
    EXPECT_OK(session_resolve(b.model, &r.request, &r.want, &err));
    EXPECT(pthread_create(&thread, NULL, resolve_on_and_on, &r) == 0);
    video_make(&v, &b, &own);
    atomic_store(&r.stop, true);
    pthread_join(thread, NULL);
    EXPECT(r.done > 0 && !r.failed);
    EXPECT(video_same(&v, &quiet, 0, 25));
    video_close(&v);
    video_close(&quiet);
    video_bed_close(&b);
}

/* ---- any block of a clean clip ---- */

TEST(session_seek_makes_any_block_of_a_clean_clip)
{
    struct session_request r;
    struct video_bed b;
    struct video v;
    struct str saved;
    struct err err;

    str_init(&saved, 64 << 20);
    video_bed_open(&b, "tiny-480p", 1);
    set_block(&b, 2);
    r = video_request(&b, 25); /* 7 latent frames: 3, 2, 2 */
    video_open(&v, &b, &r);
    EXPECT_INT(session_seek(v.session, 0, &err), ERR_UNSUPPORTED);
    video_block(&v);
    EXPECT_OK(session_save(v.session, &saved, &err));
    video_run(&v);
    for (int64_t block = 0; block <= 3; block++) {
        struct video again;
        const int64_t start = video_block_start(&v, block);

        video_open(&again, &b, &r);
        EXPECT_OK(session_restore(again.session, saved.data, saved.len, NULL, 0, &err));
        EXPECT_INT(session_seek(again.session, 4, &err), ERR_INVALID);
        EXPECT_INT(session_seek(again.session, -1, &err), ERR_INVALID);
        EXPECT_OK(session_seek(again.session, block, &err));
        EXPECT_INT(session_blocks_done(again.session), block);
        again.next = start;
        video_run(&again);
        EXPECT(video_same(&again, &v, start, 25));
        EXPECT(block == 3 || fabs(again.fraction - 1.0) < 1e-9);
        video_close(&again);
    }
    video_close(&v);
    video_bed_close(&b);
    str_done(&saved);
}

/* ---- stopping ---- */

enum how {
    BY_CALLBACK,
    BY_THREAD,
    BY_STOP
};

struct stop {
    int64_t at; /* report after which to cancel */
    enum how how;
};

static void *cancel_it(void *flag)
{
    atomic_store((atomic_bool *)flag, true);
    return NULL;
}

static void cancel_after(struct video *v, const struct session_progress *p)
{
    const struct stop *stop = v->ctx;
    pthread_t thread;

    (void)p;
    if (v->reports != stop->at) {
        return;
    }
    if (stop->how == BY_THREAD) {
        EXPECT(pthread_create(&thread, NULL, cancel_it, &v->cancel) == 0);
        pthread_join(thread, NULL);
    } else if (stop->how == BY_STOP) {
        session_stop(v->session);
    } else {
        atomic_store(&v->cancel, true);
    }
}

/* Cancels after report `at`; is there none, returns false. */
static bool check_cancel_at(struct video_bed *b, const struct session_request *r, int64_t at)
{
    struct stop stop = {.at = at, .how = (enum how)(at % 3)};
    struct geometry_block block;
    struct err err = {0};
    struct video v;
    bool reached;
    int rc = ERR_OK;

    video_open(&v, b, r);
    v.on_progress = cancel_after;
    v.ctx = &stop;
    while (rc == ERR_OK && !session_finished(v.session)) {
        rc = session_next_block(v.session, &block, &err);
    }
    if (rc != ERR_OK) {
        EXPECT_INT(rc, ERR_CANCELLED);
        EXPECT_CONTAINS(err.msg, "cancelled in block ");
        EXPECT_INT(v.reports, at); /* nothing was begun and done after it */
    }
    reached = v.reports == at; /* the very last report cancels nothing */
    video_close(&v);
    return reached;
}

/* After each unit of work there is; from on_progress, from another thread, and by session_stop(). */
TEST(session_stops_within_a_unit_of_work)
{
    float *image = test_alloc((size_t)64 * 64 * 3 * sizeof(float));

    test_fill(image, (int64_t)64 * 64 * 3, 3);
    for (size_t m = 0; m < ARRAY_LEN(all_models); m++) {
        struct session_request r;
        struct video_bed b;
        int64_t at = 1;

        video_bed_open(&b, all_models[m], 1);
        set_block(&b, 2);
        r = video_request(&b, 17);
        r.guidance_scale = 2;
        r.image = image;
        while (check_cancel_at(&b, &r, at)) {
            at++;
        }
        EXPECT(at > 6);
        video_bed_close(&b);
    }
    free(image);
}

TEST(session_passes_on_what_on_frame_says)
{
    for (int64_t refuse = 0; refuse < 17; refuse += 8) {
        struct session_request r;
        struct geometry_block block;
        struct video_bed b;
        struct video v;
        struct err err = {0};
        int rc = ERR_OK;

        video_bed_open(&b, "tiny-long", 1);
        set_block(&b, 2);
        r = video_request(&b, 17);
        video_open(&v, &b, &r);
        v.refuse = refuse;
        while (rc == ERR_OK && !session_finished(v.session)) {
            rc = session_next_block(v.session, &block, &err);
        }
        EXPECT_INT(rc, ERR_NO_SPACE);
        EXPECT_CONTAINS(err.msg, "no room for picture");
        EXPECT_INT(v.delivered, refuse);
        video_close(&v);
        video_bed_close(&b);
    }
}

/* ---- progress ---- */

struct phases {
    int64_t seen[SESSION_DECODE + 1];
    int64_t at_the_end; /* reports of all the work */
};

static void count_phases(struct video *v, const struct session_progress *p)
{
    struct phases *phases = v->ctx;

    EXPECT(p->step >= 1 && p->step <= p->steps);
    EXPECT(p->block == session_blocks_done(v->session) && p->block < p->blocks);
    EXPECT_INT(p->blocks, session_settings(v->session)->blocks);
    phases->seen[p->phase]++;
    phases->at_the_end += p->fraction > 1 - 1e-9;
}

TEST(session_reports_each_unit_of_work)
{
    struct session_request r;
    struct phases phases = {0};
    struct video_bed b;
    struct video v;

    video_bed_open(&b, "tiny-long", 1);
    set_block(&b, 2);
    r = video_request(&b, 25); /* 7 latent frames: 3, 2, 2 */
    r.guidance_scale = 2;
    video_open(&v, &b, &r);
    v.on_progress = count_phases;
    v.ctx = &phases;
    video_run(&v);
    EXPECT_INT(phases.seen[SESSION_TEXT], 2);
    EXPECT_INT(phases.seen[SESSION_IMAGE], 0);
    EXPECT_INT(phases.seen[SESSION_DENOISE], (int64_t)3 * 4);
    EXPECT_INT(phases.seen[SESSION_CACHE], 2); /* the last block's state is never needed */
    EXPECT_INT(phases.seen[SESSION_DECODE], 7);
    EXPECT_INT(phases.at_the_end, 1);
    EXPECT(fabs(v.fraction - 1.0) < 1e-9);
    video_close(&v);
    video_bed_close(&b);
}

/* ---- allocation failures ---- */

static int ignore_frame(void *ctx, const uint8_t *i420, int64_t index, struct err *err)
{
    (void)ctx;
    (void)i420;
    (void)index;
    (void)err;
    return ERR_OK;
}

static int open_and_make_one(struct model *model, const struct session_request *r, struct err *err)
{
    const struct session_callbacks callbacks = {.on_frame = ignore_frame};
    struct geometry_block block;
    struct session *s = NULL;
    int rc = session_open(&s, model, r, &callbacks, err);

    if (rc == ERR_OK) {
        rc = session_next_block(s, &block, err);
    }
    session_close(s);
    return rc;
}

TEST(session_survives_each_failing_allocation)
{
    static const struct session_switch change = {1, "a storm"};

    for (size_t m = 0; m < ARRAY_LEN(all_models); m++) {
        struct session_request r;
        struct video_bed b;
        struct err err = {0};
        long n;

        video_bed_open(&b, all_models[m], 1);
        set_block(&b, 1);
        b.model->dir->defaults.n_renoise = 1;
        r = video_request(&b, 5);
        r.steps = 1;
        r.guidance_scale = 2;
        r.switches = &change;
        r.n_switches = m == 2 ? 1 : 0;
        for (n = 1;; n++) {
            int rc;

            alloc_fail_at(n);
            rc = open_and_make_one(b.model, &r, &err);
            if (!alloc_fail_stop()) {
                EXPECT_INT(rc, ERR_OK);
                break;
            }
            if (rc != ERR_NO_MEMORY && rc != ERR_NO_VRAM) {
                test_fail(__FILE__, __LINE__, "allocation %ld: %d %s", n, rc, err.msg);
            }
            EXPECT(!b.dev.dry_run);
        }
        EXPECT(n > 10);
        video_bed_close(&b);
    }
}
