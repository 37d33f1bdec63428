#include "tests/support/originals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session_internal.h"
#include "tests/support/test.h"

void original_save(struct session *s, struct str *to)
{
    struct err err;

    str_init(to, SNAPSHOT_MAX);
    EXPECT_OK(session_save(s, to, &err));
}

static void save_step(struct video *v, const struct session_progress *p)
{
    struct original *o = v->ctx;

    if (p->phase == SESSION_DENOISE) {
        EXPECT(o->steps < ORIGINAL_MAX_SAVES);
        original_save(v->session, &o->stepped[o->steps++]);
    }
}

void original_make(struct original *o, struct video_bed *b, const struct session_request *request)
{
    struct geometry_block last;
    int64_t frame;
    struct err err;

    *o = (struct original){.bed = b, .request = *request};
    video_open(&o->video, b, request);
    o->blocks = session_settings(o->video.session)->blocks;
    EXPECT(o->blocks <= ORIGINAL_MAX_SAVES);
    last = session_block(o->video.session, o->blocks - 1);
    frame = session_latent_frame_size(o->video.session);
    o->latents = test_alloc((size_t)((last.first + last.count) * frame) * sizeof(float));
    o->video.ctx = o;
    o->video.on_progress = b->model->dir->family == FAMILY_LONGSANA ? NULL : save_step;
    for (int64_t k = 0; k < o->blocks; k++) {
        const struct geometry_block block = video_block(&o->video);

        EXPECT_OK(session_latents(o->video.session, o->latents + block.first * frame, &err));
        original_save(o->video.session, &o->saved[k]);
    }
}

void original_done(struct original *o)
{
    for (int i = 0; i < ORIGINAL_MAX_SAVES; i++) {
        str_done(&o->saved[i]);
        str_done(&o->stepped[i]);
    }
    free(o->latents);
    video_close(&o->video);
}

static void check_rest(const struct original *o, struct video *v, int64_t blocks,
                       const struct str *snapshot)
{
    const int64_t start = video_block_start(v, blocks);
    struct str again;

    EXPECT_INT(session_blocks_done(v->session), blocks);
    original_save(v->session, &again);
    EXPECT_INT(again.len, snapshot->len);
    EXPECT(memcmp(again.data, snapshot->data, again.len) == 0);
    str_done(&again);
    v->next = start;
    video_run(v);
    EXPECT(video_same(v, &o->video, start, video_frames(v)));
    EXPECT(start == video_frames(v) || fabs(v->fraction - 1.0) < 1e-9);
}

void original_check_replay(const struct original *o, int64_t done)
{
    struct video v;
    struct err err;

    video_open(&v, o->bed, &o->request);
    EXPECT_OK(session_replay(v.session, o->latents, done, &err));
    check_rest(o, &v, done, &o->saved[done - 1]);
    video_close(&v);
}

void original_check_step(const struct original *o, int done)
{
    const struct str *snapshot = &o->stepped[done - 1];
    struct video v;
    struct err err;

    video_open(&v, o->bed, &o->request);
    EXPECT_OK(session_restore(v.session, snapshot->data, snapshot->len, NULL, 0, &err));
    check_rest(o, &v, 0, snapshot);
    video_close(&v);
}

void original_check_restore(const struct original *o, int64_t done, int64_t given)
{
    const struct geometry_block last = session_block(o->video.session, done - 1);
    const int64_t frame = session_latent_frame_size(o->video.session);
    const struct str *snapshot = &o->saved[done - 1];
    struct video v;
    struct err err;

    video_open(&v, o->bed, &o->request);
    EXPECT_OK(session_restore(v.session, snapshot->data, snapshot->len,
                              o->latents + (last.first - given) * frame, given, &err));
    check_rest(o, &v, done, snapshot);
    video_close(&v);
}
