#include "tests/support/jobs_fixture.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/sqlite_store.h"
#include "tests/support/test.h"

int64_t fixture_now_ms = 1795000000000;

static int64_t now(void)
{
    return fixture_now_ms;
}

static void wake(void *ctx)
{
    (void)ctx; /* fixture_settle looks */
}

/* ---- the device ---- */

static int blocks_of(const struct job *job)
{
    return (int)(job->spec.num_frames / 4);
}

static void device_prepare(void *ctx, struct job *job)
{
    struct fixture *f = ctx;
    struct jobs_prepared p = {.native_width = 64,
                              .native_height = 64,
                              .blocks_total = blocks_of(job),
                              .codec = "avc1.64000a",
                              .init = "INIT-XY",
                              .init_bytes = FIXTURE_INIT_BYTES};

    f->prepares++;
    if (!f->no_prepare) {
        jobs_on_prepared(f->device, job, &p);
    }
}

static void device_start(void *ctx, struct job *job)
{
    struct fixture *f = ctx;

    f->starts++;
    f->told = job;
    f->first_block = job->row->blocks;
}

static void device_finish(void *ctx, struct job *job)
{
    struct fixture *f = ctx;

    f->finishes++;
    f->told = job;
}

static void device_pause(void *ctx, struct job *job)
{
    struct fixture *f = ctx;

    (void)job;
    f->pauses++;
}

static void device_cancel(void *ctx, struct job *job)
{
    struct fixture *f = ctx;

    (void)job;
    f->cancels++;
}

static const struct jobs_device_ops ops = {
    .prepare = device_prepare,
    .start = device_start,
    .finish = device_finish,
    .pause = device_pause,
    .cancel = device_cancel,
};

/* ---- opening ---- */

static void open_again(struct fixture *f)
{
    const struct model_facts facts = {.id = "tiny", .frame_multiple = 4, .block_frames = 4};
    struct jobs_options options = {.limits = f->limits, .worker_name = "local", .now_ms = now};
    struct err err;
    char path[128];

    snprintf(path, sizeof(path), "%s/sanad.db", f->dir);
    EXPECT_OK(sqlite_store_open(&f->store, path, &err));
    EXPECT_OK(job_files_open(&f->files, f->dir, false, &err));
    EXPECT_OK(store_thread_open(&f->storage, f->store, f->files, wake, f, &err));
    options.storage = f->storage;
    options.files = f->files;
    EXPECT_OK(jobs_open(&f->jobs, &options, f->store, &err));
    f->first_seq = events_last(jobs_events(f->jobs));
    EXPECT_OK(jobs_add_device(f->jobs, &ops, f, &f->device, &err));
    jobs_on_ready(f->device, &facts);
    fixture_settle(f);
}

void fixture_open(struct fixture *f)
{
    *f = (struct fixture){.limits = {.queue_capacity = 100,
                                     .queue_per_client = 50,
                                     .max_deaths = 3,
                                     .ttl_ms = 100000,
                                     .partial_ttl_ms = 50000,
                                     .retention = {.gone_ms = 1000000, .keep_events = 1000}}};
    snprintf(f->dir, sizeof(f->dir), "/tmp/sanad-jobs-XXXXXX");
    EXPECT(mkdtemp(f->dir) != NULL);
    open_again(f);
}

static void close_all(struct fixture *f)
{
    store_thread_close(f->storage);
    jobs_close(f->jobs);
    job_files_close(f->files);
    store_close(f->store);
}

void fixture_crash(struct fixture *f)
{
    close_all(f);
    f->starts = 0;
    f->finishes = 0;
    f->told = NULL;
    open_again(f);
}

void fixture_close(struct fixture *f)
{
    char command[96];

    close_all(f);
    snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
    EXPECT_INT(system(command), 0);
}

void fixture_settle(struct fixture *f)
{
    while (store_thread_pending(f->storage) > 0) {
        store_thread_dispatch(f->storage);
        sched_yield();
    }
}

/* ---- doing ---- */

void fixture_answer(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct fixture *f = ctx;

    f->answers++;
    f->outcome = outcome;
    snprintf(f->id, sizeof(f->id), "%s", job ? job->row->id : "");
}

struct job *fixture_create(struct fixture *f, const char *client, int priority, int blocks)
{
    struct jobs_new n = {
        .spec = {.prompt = strdup("a red circle"),
                 .width = 64,
                 .height = 64,
                 .num_frames = 4 * (int64_t)blocks,
                 .generated_frames = 4 * (int64_t)blocks + 1,
                 .fps = 16,
                 .seed = 1,
                 .steps = 4,
                 .guidance_scale = 1,
                 .flow_shift = 7,
                 .quality = "standard"},
        .client = client,
        .model = "tiny",
        .fingerprint = "f00d",
        .priority = priority,
    };

    fixture_now_ms += 10;
    jobs_create(f->jobs, &n, fixture_answer, f);
    fixture_settle(f);
    return f->outcome == JOBS_OK ? jobs_find(f->jobs, f->id) : NULL;
}

void fixture_block(struct fixture *f, struct job *job, int64_t index)
{
    struct jobs_block b = {.index = index, .first_frame = 4 * index, .frames = 4, .gen_s = 0.5};
    char text[32];

    b.fragment_bytes = (size_t)snprintf(text, sizeof(text), "[block %lld]", (long long)index);
    b.fragment = strdup(text);
    b.latents = calloc(2, sizeof(float));
    b.latent_bytes = 2 * sizeof(float);
    EXPECT(jobs_on_block(f->device, job, &b));
    fixture_settle(f);
}

void fixture_rendered(struct fixture *f, struct job *job)
{
    const struct jobs_rendered r = {
        .inference_s = 2.5, .peak_memory_mb = 12, .stages = "{\"denoise\":2}"};

    jobs_on_rendered(f->device, job, &r);
    fixture_settle(f);
}

void fixture_finished(struct fixture *f, struct job *job)
{
    struct jobs_finished r = {.bytes = 1234};

    memset(r.sha256, 'a', sizeof(r.sha256) - 1);
    jobs_on_finished(f->device, job, &r);
    fixture_settle(f);
}

void fixture_complete(struct fixture *f, struct job *job, int64_t from, int64_t blocks)
{
    for (int64_t i = from; i < blocks; i++) {
        fixture_block(f, job, i);
    }
    fixture_rendered(f, job);
    fixture_finished(f, job);
}

void fixture_events(const struct fixture *f, const char *id, char *ret, size_t size)
{
    int64_t after = f->first_seq;
    bool gone;
    struct event *e;
    struct str s;

    str_init(&s, size);
    while ((e = events_next(jobs_events(f->jobs), after, id, &gone)) != NULL || gone) {
        EXPECT(!gone);
        EXPECT(str_addf(&s, "%s%s", s.len > 0 ? " " : "", strchr(e->type, '.') + 1));
        after = e->seq;
    }
    snprintf(ret, size, "%s", str_get(&s));
    str_done(&s);
}
