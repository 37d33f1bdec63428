/*
 * A worker in a thread, and this program in the daemon's place. The worker's side of the socket takes only
 * a few thousand bytes, so it cannot run ahead: while nobody reads, a video of some blocks cannot
 * end.
 */
#include "worker/worker.h"

#include <linux/sockios.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "media/sha256.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"
#include "tests/support/video_check.h"
#include "worker/wire.h"
#include "worker/worker_facts.h"
#include "worker/worker_internal.h"

enum {
    FILE_MAX = 64 << 20,
    BUFFER = 1 << 16,
    SMALL_BUFFER = 4096,
    MAX_BLOCKS = 64,
};

static const char *const short_job = "{\"prompt\":\"a ship\",\"seed\":9007199254740991}";
/* for those that do not wait for its end */
static const char *const endless_job = "{\"prompt\":\"a ship\",\"seed\":5,\"frames\":8001}";
/* 51 latent frames: blocks of 3 */
static const char *const long_job = "{\"prompt\":\"a ship\",\"seed\":5,\"frames\":201}";

/* ---- the daemon's side ---- */

/* What came for one job, put together. */
struct video {
    struct str init, fragments, latents, state, preview;
    size_t end[MAX_BLOCKS]; /* of each block in fragments */
    int first, blocks;      /* number of the first block that came; how many */
    int started, steps, checkpoints;
    double fraction;
    char json[4096]; /* of the message that ended it */
};

static void video_init(struct video *v)
{
    struct str *const all[] = {&v->init, &v->fragments, &v->latents, &v->state, &v->preview};

    *v = (struct video){.started = -1};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        str_init(all[i], FILE_MAX);
    }
}

static void video_done(struct video *v)
{
    str_done(&v->init);
    str_done(&v->fragments);
    str_done(&v->latents);
    str_done(&v->state);
    str_done(&v->preview);
}

struct bed {
    int fd;
    struct worker_options options;
    pthread_t thread;
    int rc;
    struct err err;
    struct wire_decoder decoder;
    uint8_t buffer[BUFFER];
    size_t have, used;
};

static void *worker_main(void *ctx)
{
    struct bed *b = ctx;

    b->rc = worker_run(&b->options, &b->err);
    return NULL;
}

static void bed_start(struct bed *b, const char *model)
{
    const int bytes = SMALL_BUFFER;
    int fd[2];

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
    EXPECT(setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) == 0);
    *b = (struct bed){.fd = fd[0],
                      .options = {.model = model,
                                  .device = {.device = "cpu", .threads = 2},
                                  .fd = fd[1],
                                  .checkpoint_interval_ms = 1}};
    wire_decoder_init(&b->decoder);
    EXPECT(pthread_create(&b->thread, NULL, worker_main, b) == 0);
}

/* False: the worker has closed the socket. */
static bool next_frame(struct bed *b, struct wire_frame *ret)
{
    bool complete = false;
    struct err err;

    while (!complete) {
        size_t used = 0;

        if (b->used == b->have) {
            const ssize_t n = read(b->fd, b->buffer, sizeof(b->buffer));

            if (n <= 0) {
                return false;
            }
            b->have = (size_t)n;
            b->used = 0;
        }
        EXPECT_OK(wire_decode(&b->decoder, b->buffer + b->used, b->have - b->used, &used, ret,
                              &complete, &err));
        b->used += used;
    }
    return true;
}

static void expect_frame(struct bed *b, enum wire_type type, uint32_t job, struct wire_frame *ret)
{
    EXPECT(next_frame(b, ret));
    EXPECT_STR(wire_type_name(ret->header.type), wire_type_name(type));
    EXPECT_INT(ret->header.job, job);
}

static const char *text_of(const struct wire_frame *f)
{
    return (const char *)f->payload;
}

static void bed_open(struct bed *b, const char *model)
{
    struct wire_frame frame;

    bed_start(b, model);
    expect_frame(b, WIRE_READY, 0, &frame);
}

/* What worker_run returned. */
static int bed_join(struct bed *b)
{
    pthread_join(b->thread, NULL);
    wire_decoder_done(&b->decoder);
    if (b->fd >= 0) {
        close(b->fd);
    }
    return b->rc;
}

/* An idle worker: the daemon goes. */
static void bed_close(struct bed *b)
{
    close(b->fd);
    b->fd = -1;
    EXPECT_INT(bed_join(b), ERR_OK);
}

static void tell(const struct bed *b, enum wire_type type, uint32_t job, const char *json)
{
    const struct wire_header header = {.type = type, .length = (uint32_t)strlen(json), .job = job};
    const size_t len = WIRE_HEADER + strlen(json);
    uint8_t *message = test_alloc(len + 1);

    wire_encode_header(message, &header);
    memcpy(message + WIRE_HEADER, json, strlen(json) + 1);
    EXPECT(send(b->fd, message, len, MSG_NOSIGNAL) == (ssize_t)len);
    free(message);
}

/* Waits until the worker has received all. */
static void wait_taken(const struct bed *b)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int left = 1;

    while (left > 0) {
        EXPECT(ioctl(b->fd, SIOCOUTQ, &left) == 0);
        if (left > 0) {
            nanosleep(&pause, NULL);
        }
    }
}

/* Waits until the worker has done what the message says: it has received another one after it. */
static void tell_and_wait(const struct bed *b, enum wire_type type, uint32_t job)
{
    tell(b, type, job, "");
    wait_taken(b);
    tell(b, WIRE_PING, 0, "");
    wait_taken(b);
}

static double number_in(const struct wire_frame *f, const char *key)
{
    const char *at = strstr(text_of(f), key);

    EXPECT(at && at[strlen(key)] == '"');
    return strtod(at + strlen(key) + 2, NULL);
}

static void take_block(struct video *v, const struct wire_frame *f)
{
    const int index = (int)number_in(f, "index");

    EXPECT(v->blocks < MAX_BLOCKS);
    if (v->blocks == 0) {
        v->first = index;
    }
    EXPECT_INT(index, v->first + v->blocks);
    EXPECT(number_in(f, "frames") > 0 && number_in(f, "gen_s") >= 0);
    v->end[v->blocks] = v->fragments.len;
    v->blocks++;
}

static void take_bytes(struct str *to, const struct wire_frame *f)
{
    EXPECT(str_append(to, f->payload, f->header.length));
}

static void take(struct video *v, const struct wire_frame *f)
{
    switch (f->header.type) {
    case WIRE_STARTED:
        v->started = (int)number_in(f, "block");
        break;
    case WIRE_STEP:
        v->steps++;
        EXPECT(number_in(f, "fraction") >= v->fraction && number_in(f, "fraction") <= 1);
        v->fraction = number_in(f, "fraction");
        break;
    case WIRE_INIT:
        take_bytes(&v->init, f);
        break;
    case WIRE_PREVIEW:
        EXPECT_INT(v->fragments.len, 0);
        take_bytes(&v->preview, f);
        break;
    case WIRE_FRAGMENT:
        take_bytes(&v->fragments, f);
        break;
    case WIRE_LATENTS:
        take_bytes(&v->latents, f);
        break;
    case WIRE_BLOCK:
        take_block(v, f);
        break;
    case WIRE_STATE:
        v->state.len = 0; /* the last one counts; a snapshot is one frame here */
        take_bytes(&v->state, f);
        break;
    case WIRE_CHECKPOINT:
        v->checkpoints++;
        EXPECT(number_in(f, "fraction") >= 0);
        break;
    default:
        test_fail(__FILE__, __LINE__, "%s", wire_type_name(f->header.type));
    }
}

static bool is_end(uint32_t type)
{
    return type == WIRE_PREPARED || type == WIRE_PAUSED || type == WIRE_RENDERED ||
           type == WIRE_FINISHED || type == WIRE_FAIL;
}

/* Takes what comes for the job, up to a message of this type, or one that ends it. Nothing may come for
 * others. */
static uint32_t follow(struct bed *b, uint32_t job, enum wire_type until, struct video *v)
{
    struct wire_frame f;

    for (;;) {
        EXPECT(next_frame(b, &f));
        if (f.header.type == WIRE_PONG) {
            continue;
        }
        EXPECT_INT(f.header.job, job);
        if (is_end(f.header.type)) {
            EXPECT(snprintf(v->json, sizeof(v->json), "%s", text_of(&f)) < (int)sizeof(v->json));
            return f.header.type;
        }
        take(v, &f);
        if (f.header.type == until) {
            return until;
        }
    }
}

static void expect_end(struct bed *b, uint32_t job, enum wire_type type, struct video *v)
{
    const uint32_t got = follow(b, job, type, v);

    if (got != type) {
        test_fail(__FILE__, __LINE__, "%s %s", wire_type_name(got), v->json);
    }
}

static void expect_fail(struct bed *b, uint32_t job, const char *code, const char *message)
{
    struct video v;

    video_init(&v);
    expect_end(b, job, WIRE_FAIL, &v);
    EXPECT_CONTAINS(v.json, code);
    EXPECT_CONTAINS(v.json, message);
    video_done(&v);
}

/* ---- models ---- */

static const char *make_model(const char *golden, const char *name, const char *sanad)
{
    const char *dir = files_path(test_dir(), name);

    if (access(dir, F_OK) != 0) {
        files_copy_dir(golden, dir);
        files_write(files_path(dir, "sanad.json"), sanad, strlen(sanad));
    }
    return dir;
}

static const char *long_model(void)
{
    return make_model("tests/golden/tiny-long", "long",
                      "{\"id\":\"tiny\",\"aliases\":[\"mini\",\"t\"],\"sizes\":[],"
                      "\"size\":\"64x64\",\"frames\":33,\"block_latent_frames\":3}");
}

static const char *clip_model(void)
{
    return make_model("tests/golden/tiny-480p", "clip",
                      "{\"sizes\":[],\"size\":\"64x64\",\"frames\":33,\"steps\":6,"
                      "\"block_latent_frames\":3}");
}

/* A job that nobody disturbs. */
static void make_video(struct bed *b, uint32_t job, const char *json, struct video *v)
{
    video_init(v);
    tell(b, WIRE_PREPARE, job, json);
    expect_end(b, job, WIRE_PREPARED, v);
    tell(b, WIRE_START, job, json);
    expect_end(b, job, WIRE_RENDERED, v);
    EXPECT_INT(v->started, 0);
}

/* The job with a resume point: its files are written here. */
static void tell_resume(const struct bed *b, uint32_t job, const char *json, int blocks,
                        const struct video *from)
{
    const char *latents = files_path(test_dir(), "latents");
    const char *state = files_path(test_dir(), "state");
    struct str text;

    files_write(latents, str_get(&from->latents), from->latents.len);
    files_write(state, str_get(&from->state), from->state.len);
    str_init(&text, 4096);
    str_append(&text, json, strlen(json) - 1);
    str_addf(&text, ",\"resume\":{\"blocks\":%d,\"latents\":\"%s\"", blocks, latents);
    if (from->state.len > 0) {
        str_addf(&text, ",\"state\":\"%s\"", state);
    }
    EXPECT(str_add(&text, "}}"));
    tell(b, WIRE_START, job, text.data);
    str_done(&text);
}

/* Fragments of `v` are those of `whole` from block `from` on. */
static void expect_tail(const struct video *v, const struct video *whole, int from)
{
    const size_t at = from == 0 ? 0 : whole->end[from - 1];

    EXPECT_INT(v->fragments.len, whole->fragments.len - at);
    EXPECT(memcmp(v->fragments.data, whole->fragments.data + at, v->fragments.len) == 0);
}

/* ---- READY ---- */

TEST(worker_says_ready_with_the_models_facts)
{
    static const char *const want[] = {
        "\"id\":\"tiny\"",
        "\"aliases\":[\"mini\",\"t\"]",
        "\"family\":\"LongSANA (Wan 2.1 VAE)\"",
        "\"causal\":true",
        "\"image\":true",
        "\"device\":\"cpu, 2 threads\"",
        "\"native_sizes\":[\"64x64\"]",
        "\"any_size\":true",
        "\"size_multiple\":16,",
        "\"default_width\":64",
        "\"default_height\":64",
        "\"min_side\":64",
        "\"max_side\":1920",
        "\"max_pixels\":2088960",
        "\"fps\":16",
        "\"frame_multiple\":4",
        "\"frame_offset\":1",
        "\"default_frames\":33",
        "\"max_frames\":14400",
        "\"block_frames\":12",
        "\"default_steps\":4",
        "\"min_steps\":4",
        "\"max_steps\":4",
        "\"guidance_scale\":1",
        "\"flow_shift\":7",
        "\"motion_score\":30",
        "\"max_prompt_tokens\":300",
        "\"weights_bytes\":",
    };
    struct wire_frame frame;
    struct bed b;

    bed_start(&b, long_model());
    expect_frame(&b, WIRE_READY, 0, &frame);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        EXPECT_CONTAINS(text_of(&frame), want[i]);
    }
    bed_close(&b);
}

TEST(worker_lists_the_sizes_of_a_models_table)
{
    struct wire_frame frame;
    struct bed b;

    bed_start(&b, "tests/golden/tiny-480p");
    expect_frame(&b, WIRE_READY, 0, &frame);
    EXPECT_CONTAINS(text_of(&frame), "\"native_sizes\":[\"896x448\",\"832x480\",\"768x528\",");
    EXPECT_CONTAINS(text_of(&frame), "\"480x832\",\"448x896\"],\"any_size\":false");
    EXPECT_CONTAINS(text_of(&frame), "\"min_steps\":1,\"max_steps\":200");
    EXPECT_CONTAINS(text_of(&frame), "\"causal\":false");
    EXPECT_CONTAINS(text_of(&frame), "\"block_frames\":20");
    bed_close(&b);
    bed_start(&b, "tests/golden/tiny-720p");
    expect_frame(&b, WIRE_READY, 0, &frame);
    EXPECT_CONTAINS(text_of(&frame), "\"1280x704\"");
    EXPECT_CONTAINS(text_of(&frame), "\"size_multiple\":32,");
    EXPECT_CONTAINS(text_of(&frame), "\"block_frames\":81"); /* the clip */
    bed_close(&b);
}

TEST(worker_that_cannot_open_its_model_says_why_and_ends)
{
    struct wire_frame frame;
    struct bed b;

    bed_start(&b, "tests/no-such-model");
    expect_frame(&b, WIRE_FAIL, 0, &frame);
    EXPECT_CONTAINS(text_of(&frame), "\"code\":\"not_found\"");
    EXPECT_CONTAINS(text_of(&frame), "no-such-model");
    EXPECT(!next_frame(&b, &frame));
    EXPECT_INT(bed_join(&b), ERR_NOT_FOUND);
    EXPECT_CONTAINS(b.err.msg, "no-such-model");
}

/* ---- a video ---- */

static void check_prepared(const char *json)
{
    static const char *const want[] = {
        "\"width\":64",
        "\"height\":64",
        "\"native_width\":64",
        "\"native_height\":64",
        "\"frames\":33",
        "\"generated_frames\":33",
        "\"blocks\":3",
        "\"block_frames\":[9,12,12]",
        "\"seed\":9007199254740991,",
        "\"steps\":4",
        "\"guidance_scale\":1",
        "\"flow_shift\":7",
        "\"motion_score\":30",
        "\"fps\":16",
        "\"prompt_truncated\":false",
        "\"codec\":\"avc1.",
    };

    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        EXPECT_CONTAINS(json, want[i]);
    }
}

static void check_finished(const char *json, const char *video)
{
    char digest[SHA256_HEX];
    char want[256];
    int64_t bytes = 0;
    struct err err;

    EXPECT_OK(sha256_file(video, digest, &bytes, &err));
    snprintf(want, sizeof(want), "{\"bytes\":%lld,\"sha256\":\"%s\",\"frames\":33,",
             (long long)bytes, digest);
    EXPECT_CONTAINS(json, want);
    EXPECT_CONTAINS(json, "\"seconds\":2.0625");
}

static void expect_begins(const char *path, const char *bytes, size_t n)
{
    size_t len;
    char *data = files_read(path, &len);

    EXPECT(len > n && memcmp(data, bytes, n) == 0);
    free(data);
}

static void tell_finish(struct bed *b, uint32_t job, const struct video *v, const char *dir,
                        bool previews)
{
    const char *fragments = files_path(dir, "fragments.mp4");
    struct str text;

    str_init(&text, FILE_MAX);
    EXPECT(str_append(&text, v->init.data, v->init.len) &&
           str_append(&text, v->fragments.data, v->fragments.len));
    files_write(fragments, text.data, text.len);
    text.len = 0;
    str_addf(&text, "{\"fragments\":\"%s\",\"video\":\"%s/video.mp4\"", fragments, dir);
    if (previews) {
        str_addf(&text, ",\"thumbnail_jpeg\":\"%s/t.jpg\",\"thumbnail_webp\":\"%s/t.webp\"", dir,
                 dir);
        str_addf(&text, ",\"spritesheet\":\"%s/s.jpg\"", dir);
    }
    EXPECT(str_add(&text, "}"));
    tell(b, WIRE_FINISH, job, text.data);
    str_done(&text);
}

TEST(worker_makes_a_video_and_finishes_it)
{
    const char *dir = files_dir("finish");
    const char *video = files_path(dir, "video.mp4");
    struct video_check check;
    struct video v;
    struct bed b;

    bed_open(&b, long_model());
    video_init(&v);
    tell(&b, WIRE_PREPARE, 1, short_job);
    expect_end(&b, 1, WIRE_PREPARED, &v);
    check_prepared(v.json);
    tell(&b, WIRE_START, 1, short_job);
    expect_end(&b, 1, WIRE_RENDERED, &v);
    EXPECT_INT(v.started, 0);
    EXPECT_INT(v.blocks, 3);
    EXPECT_INT(v.latents.len, sizeof(float) * 9 * 8 * 8 * 16);
    EXPECT(v.steps >= 3 && v.fraction > 0);
    EXPECT(v.preview.len > 100 && memcmp(v.preview.data, "\xFF\xD8\xFF", 3) == 0);
    EXPECT_CONTAINS(v.json, "\"inference_s\":");
    EXPECT_CONTAINS(v.json, "\"stages\":{\"text_encode\":");
    EXPECT_CONTAINS(v.json, "\"peak_memory_mb\":");
    tell_finish(&b, 1, &v, dir, true);
    expect_end(&b, 1, WIRE_FINISHED, &v);
    check_finished(v.json, video);
    EXPECT_CONTAINS(v.json, "\"sprite\":{\"cols\":");
    video_check_decode_file(&check, video, 0);
    EXPECT_INT(check.n_frames, 33);
    EXPECT(!check.damaged && check.width == 64 && check.height == 64);
    EXPECT_STR(check.title, "a ship");
    expect_begins(files_path(dir, "t.jpg"), "\xFF\xD8\xFF", 3);
    expect_begins(files_path(dir, "s.jpg"), "\xFF\xD8\xFF", 3);
    expect_begins(files_path(dir, "t.webp"), "RIFF", 4);
    tell_finish(&b, 1, &v, dir, false); /* again, to the same name: the same file */
    expect_end(&b, 1, WIRE_FINISHED, &v);
    check_finished(v.json, video);
    EXPECT(!strstr(v.json, "sprite"));
    video_done(&v);
    bed_close(&b);
}

TEST(worker_continues_behind_any_block_with_the_same_bytes)
{
    static const int from[] = {1, 2};
    struct video whole;
    struct bed b;

    bed_open(&b, long_model());
    make_video(&b, 1, short_job, &whole);
    EXPECT_INT(whole.blocks, 3);
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        const uint32_t job = 2 + (uint32_t)i;
        struct video v;

        video_init(&v);
        tell_resume(&b, job, short_job, from[i], &whole); /* the file has all blocks' latents */
        expect_end(&b, job, WIRE_RENDERED, &v);
        EXPECT_INT(v.started, from[i]);
        EXPECT_INT(v.first, from[i]);
        EXPECT_INT(v.preview.len, 0);
        expect_tail(&v, &whole, from[i]);
        video_done(&v);
    }
    video_done(&whole);
    bed_close(&b);
}

/* ---- pause ---- */

TEST(worker_pauses_and_continues_with_the_same_bytes)
{
    struct video whole;
    struct video v;
    struct bed b;
    int done;

    bed_open(&b, long_model());
    make_video(&b, 1, long_job, &whole);
    video_init(&v);
    tell(&b, WIRE_START, 2, long_job);
    expect_end(&b, 2, WIRE_BLOCK, &v);
    tell_and_wait(&b, WIRE_PAUSE, 2);
    expect_end(&b, 2, WIRE_PAUSED, &v);
    EXPECT_STR(v.json, "{}");
    done = v.blocks;
    v.fraction = 0;
    EXPECT(done >= 1 && done < whole.blocks);
    tell_resume(&b, 3, long_job, done, &v);
    expect_end(&b, 3, WIRE_RENDERED, &v);
    EXPECT_INT(v.blocks, whole.blocks);
    expect_tail(&v, &whole, 0);
    EXPECT(memcmp(v.latents.data, whole.latents.data, whole.latents.len) == 0);
    video_done(&v);
    video_done(&whole);
    bed_close(&b);
}

TEST(worker_pauses_a_clip_between_steps)
{
    struct video whole;
    struct video v;
    struct bed b;

    bed_open(&b, clip_model());
    make_video(&b, 1, short_job, &whole);
    EXPECT(whole.checkpoints >= 1);
    EXPECT_INT(whole.latents.len, 0);
    video_init(&v);
    tell(&b, WIRE_START, 2, short_job);
    expect_end(&b, 2, WIRE_CHECKPOINT, &v);
    tell_and_wait(&b, WIRE_PAUSE, 2);
    expect_end(&b, 2, WIRE_PAUSED, &v);
    EXPECT_INT(v.blocks, 0);
    v.fraction = 0;
    tell_resume(&b, 3, short_job, 0, &v);
    expect_end(&b, 3, WIRE_RENDERED, &v);
    expect_tail(&v, &whole, 0);
    video_done(&v);
    video_done(&whole);
    bed_close(&b);
}

/* Blocks are safe, but there is no snapshot: made again, with the same bytes. */
TEST(worker_continues_a_clip_without_a_snapshot)
{
    struct video whole;
    struct video none;
    struct video v;
    struct bed b;

    bed_open(&b, clip_model());
    make_video(&b, 1, short_job, &whole);
    video_init(&none);
    video_init(&v);
    tell_resume(&b, 2, short_job, 1, &none);
    expect_end(&b, 2, WIRE_RENDERED, &v);
    EXPECT(v.started <= 1);
    EXPECT_INT(v.first, v.started);
    expect_tail(&v, &whole, v.started);
    video_done(&v);
    video_done(&none);
    video_done(&whole);
    bed_close(&b);
}

/* ---- cancel ---- */

TEST(worker_cancels_the_video_in_work)
{
    struct video v;
    struct bed b;

    bed_open(&b, long_model());
    video_init(&v);
    tell(&b, WIRE_START, 1, endless_job);
    expect_end(&b, 1, WIRE_BLOCK, &v);
    tell_and_wait(&b, WIRE_CANCEL, 1);
    expect_fail(&b, 1, "\"code\":\"cancelled\"", "");
    video_done(&v);
    make_video(&b, 2, short_job, &v); /* and works on */
    video_done(&v);
    bed_close(&b);
}

TEST(worker_cancels_and_pauses_videos_that_wait)
{
    struct wire_frame frame;
    struct video v;
    struct bed b;

    bed_open(&b, long_model());
    video_init(&v);
    tell(&b, WIRE_START, 1, endless_job);
    expect_end(&b, 1, WIRE_STARTED, &v);
    tell(&b, WIRE_START, 2, endless_job);
    tell(&b, WIRE_START, 3, endless_job);
    tell(&b, WIRE_CANCEL, 2, "");
    tell(&b, WIRE_CANCEL, 2, "");
    tell(&b, WIRE_PAUSE, 3, "");
    tell_and_wait(&b, WIRE_CANCEL, 1);
    expect_fail(&b, 1, "\"code\":\"cancelled\"", "");
    do {
        EXPECT(next_frame(&b, &frame));
    } while (frame.header.type == WIRE_PONG);
    EXPECT_INT(frame.header.type, WIRE_FAIL); /* not STARTED */
    EXPECT_INT(frame.header.job, 2);
    EXPECT_CONTAINS(text_of(&frame), "\"code\":\"cancelled\"");
    expect_frame(&b, WIRE_PAUSED, 3, &frame);
    video_done(&v);
    bed_close(&b);
}

TEST(worker_answers_a_cancel_that_comes_late)
{
    struct wire_frame frame;
    struct video v;
    struct bed b;

    bed_open(&b, long_model());
    make_video(&b, 1, short_job, &v);
    tell(&b, WIRE_CANCEL, 1, ""); /* rendered, not finished: the daemon waits for the end */
    expect_frame(&b, WIRE_FAIL, 1, &frame);
    EXPECT_CONTAINS(text_of(&frame), "\"code\":\"cancelled\"");
    tell(&b, WIRE_START, 2, "{}");
    expect_frame(&b, WIRE_FAIL, 2, &frame);
    tell(&b, WIRE_CANCEL, 2, ""); /* over: nothing to say */
    tell(&b, WIRE_PAUSE, 2, "");
    tell(&b, WIRE_PAUSE, 1, "");
    tell(&b, WIRE_PING, 7, "");
    expect_frame(&b, WIRE_PONG, 7, &frame);
    video_done(&v);
    bed_close(&b);
}

/* ---- while it is busy ---- */

TEST(worker_prepares_and_answers_while_it_is_busy)
{
    struct wire_frame frame;
    struct video v;
    struct str init;
    struct bed b;

    bed_open(&b, long_model());
    video_init(&v);
    str_init(&init, FILE_MAX);
    tell(&b, WIRE_START, 1, endless_job);
    expect_end(&b, 1, WIRE_BLOCK, &v);
    tell(&b, WIRE_PREPARE, 2, short_job);
    tell(&b, WIRE_PREPARE, 3, "{\"prompt\":\"a ship\",\"frames\":20000}");
    tell(&b, WIRE_PING, 4, "");
    do {
        EXPECT(next_frame(&b, &frame));
        EXPECT(frame.header.type != WIRE_RENDERED);
        if (frame.header.type == WIRE_INIT) {
            take_bytes(&init, &frame);
        } else if (frame.header.type == WIRE_PREPARED) {
            EXPECT_INT(frame.header.job, 2);
            check_prepared(text_of(&frame));
        } else if (frame.header.type == WIRE_FAIL) {
            EXPECT_INT(frame.header.job, 3);
            EXPECT_CONTAINS(text_of(&frame), "frames: 20000 is not in 1..14400");
            EXPECT_CONTAINS(text_of(&frame), "\"code\":\"invalid_value\"");
        } else {
            EXPECT(frame.header.type == WIRE_PONG || frame.header.job == 1);
        }
    } while (frame.header.type != WIRE_PONG);
    EXPECT(init.len > 500 && memcmp(init.data + 4, "ftyp", 4) == 0);
    tell_and_wait(&b, WIRE_CANCEL, 1);
    expect_fail(&b, 1, "\"code\":\"cancelled\"", "");
    str_done(&init);
    video_done(&v);
    bed_close(&b);
}

TEST(worker_lets_only_so_many_jobs_wait)
{
    enum {
        JOBS = 12
    };
    struct wire_frame frame;
    struct video v;
    struct bed b;
    int busy = 0;
    int cancelled = 0;

    bed_open(&b, long_model());
    video_init(&v);
    tell(&b, WIRE_START, 1, endless_job);
    expect_end(&b, 1, WIRE_STARTED, &v);
    for (uint32_t job = 2; job < 2 + JOBS; job++) {
        tell(&b, WIRE_START, job, endless_job);
        tell(&b, WIRE_CANCEL, job, "");
    }
    tell(&b, WIRE_CANCEL, 1, "");
    while (cancelled < 1 + JOBS) {
        EXPECT(next_frame(&b, &frame));
        if (frame.header.type == WIRE_FAIL) {
            busy += strstr(text_of(&frame), "\"code\":\"busy\"") != NULL;
            cancelled += strstr(text_of(&frame), "\"code\":\"cancelled\"") != NULL;
        }
    }
    EXPECT(busy >= 1 && busy <= JOBS - 7);
    video_done(&v);
    bed_close(&b);
}

/* ---- what the daemon gets wrong ---- */

static const struct {
    const char *json;
    const char *says;
} bad_jobs[] = {
    {"", "job: not valid JSON"},
    {"[]", "job: not a JSON object"},
    {"{}", "job: prompt: missing"},
    {"{\"prompt\":3}", "job: prompt: not a string"},
    {"{\"prompt\":\"a\",\"prompt\":\"b\"}", "job: prompt: given twice"},
    {"{\"prompt\":\"a\",\"width\":64}", "size: width and height"},
    {"{\"prompt\":\"a\",\"width\":\"64\",\"height\":64}", "job: width: not an integer"},
    {"{\"prompt\":\"a\",\"width\":63,\"height\":64}", "must be even"},
    {"{\"prompt\":\"a\",\"frames\":0}", "job: frames: 0 is not an integer in 1"},
    {"{\"prompt\":\"a\",\"frames\":2.5}", "job: frames: 2.5 is not an integer"},
    {"{\"prompt\":\"a\",\"seed\":-1}", "job: seed: -1 is not an integer in 0"},
    {"{\"prompt\":\"a\",\"seed\":1e300}", "job: seed: 1e+300"},
    {"{\"prompt\":\"a\",\"steps\":5}", "steps: this model was made for exactly 4 steps"},
    {"{\"prompt\":\"a\",\"guidance_scale\":21}", "guidance: 21 is not in 0..20"},
    {"{\"prompt\":\"a\",\"flow_shift\":0}", "job: flow_shift: 0 is not in"},
    {"{\"prompt\":\"a\",\"motion_score\":101}", "motion_score: 101 is not in 0..100"},
    {"{\"prompt\":\"a\",\"fps\":-1}", "job: fps: -1 is not in"},
    {"{\"prompt\":\"a\",\"fps\":1000}", "fps"},
    {"{\"prompt\":\"a\",\"crf\":90}", "crf"},
    {"{\"prompt\":\"a\",\"image\":7}", "job: image: not a string"},
    {"{\"prompt\":\"a\",\"resume\":1}", "job: resume: not an object"},
    {"{\"prompt\":\"a\",\"resume\":{}}", "job: resume: blocks: missing"},
    {"{\"prompt\":\"a\",\"resume\":{\"blocks\":-1}}", "job: resume: blocks: -1 is not"},
    {"{\"prompt\":\"a\",\"resume\":{\"blocks\":1}}", "job: resume: latents: missing"},
    {"{\"prompt\":\"a\",\"resume\":{\"blocks\":4,\"latents\":\"x\"}}",
     "blocks: 4, but the video has 3"},
    {"{\"prompt\":\"a\",\"resume\":{\"blocks\":1,\"latents\":\"no-such-file\"}}", "no-such-file"},
    {"{\"prompt\":\"a\",\"resume\":{\"blocks\":1,\"latents\":\"/dev/null\"}}",
     "/dev/null: 0 bytes"},
    {"{\"prompt\":\"a\",\"resume\":{\"blocks\":1,\"latents\":\"VERSION\"}}", "have 12288"},
    {"{\"prompt\":\"a\",\"image\":\"no-such.png\"}", "no-such.png"},
};

TEST(worker_fails_the_job_and_lives_when_a_job_is_wrong)
{
    struct video v;
    struct bed b;

    bed_open(&b, long_model());
    for (size_t i = 0; i < ARRAY_LEN(bad_jobs); i++) {
        tell(&b, WIRE_START, (uint32_t)i + 1, bad_jobs[i].json);
        expect_fail(&b, (uint32_t)i + 1, "\"code\":", bad_jobs[i].says);
    }
    tell(&b, WIRE_PREPARE, 100, "{\"prompt\":null}");
    expect_fail(&b, 100, "\"code\":\"malformed_file\"", "job: prompt: missing");
    tell(&b, WIRE_FINISH, 101, "{\"video\":\"x\"}");
    expect_fail(&b, 101, "\"code\":\"malformed_file\"", "paths: fragments: missing");
    tell(&b, WIRE_FINISH, 102, "{\"fragments\":\"no-such-file\",\"video\":\"/tmp/x\"}");
    expect_fail(&b, 102, "\"code\":\"not_found\"", "no-such-file");
    make_video(&b, 103, short_job, &v);
    video_done(&v);
    bed_close(&b);
}

/* A folder that is not there: neither previews nor what is left of them. */
TEST(worker_fails_a_finish_that_cannot_write)
{
    const char *dir = files_dir("no-room");
    struct str text;
    struct video v;
    struct bed b;

    bed_open(&b, long_model());
    make_video(&b, 1, short_job, &v);
    tell_finish(&b, 1, &v, dir, false);
    expect_end(&b, 1, WIRE_FINISHED, &v);
    str_init(&text, 4096);
    EXPECT(str_addf(&text,
                    "{\"fragments\":\"%s/fragments.mp4\",\"video\":\"%s/video.mp4\","
                    "\"thumbnail_jpeg\":\"%s/missing/t.jpg\"}",
                    dir, dir, dir));
    tell(&b, WIRE_FINISH, 2, text.data);
    expect_fail(&b, 2, "\"code\":\"io_error\"", "missing/t.jpg");
    str_done(&text);
    video_done(&v);
    bed_close(&b);
}

TEST(worker_ends_when_the_daemon_makes_no_sense)
{
    static const struct {
        uint32_t type, job;
        const char *says;
    } wrong[] = {
        {WIRE_READY, 1, "READY: not a message to a worker"},
        {WIRE_FAIL, 1, "FAIL: not a message to a worker"},
        {WIRE_START, 0, "START: without a job"},
        {8, 1, "unknown type 8"},
        {999, 1, "unknown type 999"},
    };

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct wire_frame frame;
        struct bed b;

        bed_open(&b, long_model());
        tell(&b, (enum wire_type)wrong[i].type, wrong[i].job, "");
        EXPECT(!next_frame(&b, &frame));
        EXPECT_INT(bed_join(&b), ERR_FORMAT);
        EXPECT_CONTAINS(b.err.msg, wrong[i].says);
    }
}

TEST(worker_ends_when_frames_are_malformed_also_within_a_video)
{
    struct wire_frame frame;
    struct video v;
    struct bed b;

    bed_open(&b, long_model());
    video_init(&v);
    tell(&b, WIRE_START, 1, endless_job);
    expect_end(&b, 1, WIRE_BLOCK, &v);
    EXPECT(send(b.fd, "an HTTP request, say", 20, MSG_NOSIGNAL) == 20);
    while (next_frame(&b, &frame)) {
        EXPECT(frame.header.type != WIRE_FAIL && frame.header.type != WIRE_RENDERED);
    }
    EXPECT_INT(bed_join(&b), ERR_FORMAT);
    EXPECT_CONTAINS(b.err.msg, "message: begins with");
    video_done(&v);
}

/* ---- the end ---- */

TEST(worker_ends_when_the_daemon_is_gone_within_a_video)
{
    struct video v;
    struct bed b;

    bed_open(&b, long_model());
    video_init(&v);
    tell(&b, WIRE_START, 1, endless_job);
    tell(&b, WIRE_START, 2, endless_job);
    expect_end(&b, 1, WIRE_BLOCK, &v);
    bed_close(&b);
    video_done(&v);
}

/* A job that was not cancelled must not be told to be. */
TEST(worker_shuts_down_within_a_video_and_says_nothing_of_it)
{
    struct wire_frame frame;
    struct video v;
    struct bed b;

    bed_open(&b, long_model());
    video_init(&v);
    tell(&b, WIRE_START, 1, endless_job);
    tell(&b, WIRE_START, 2, endless_job);
    expect_end(&b, 1, WIRE_BLOCK, &v);
    tell(&b, WIRE_SHUTDOWN, 0, "");
    while (next_frame(&b, &frame)) {
        EXPECT(frame.header.job == 1 && !is_end(frame.header.type));
    }
    EXPECT_INT(bed_join(&b), ERR_OK);
    video_done(&v);
}

TEST(worker_ends_when_it_is_given_no_socket)
{
    struct bed b = {.options = {.model = long_model(), .device = {.device = "cpu", .threads = 1}}};
    int fd[2];

    EXPECT(pipe(fd) == 0);
    close(fd[0]);
    b.options.fd = fd[1];
    worker_main(&b);
    EXPECT_INT(b.rc, ERR_IO);
}

/* ---- out of memory ---- */

TEST(worker_job_survives_every_failed_allocation)
{
    static const char json[] = "{\"prompt\":\"a\",\"resume\":{\"blocks\":1,\"latents\":\"x\"}}";
    bool fired = true;

    alloc_fail_hook_cjson();
    for (long n = 1; fired; n++) {
        struct worker_job job = {0};
        struct err err;
        int rc;

        alloc_fail_at(n);
        rc = worker_job_parse(&job, json, sizeof(json) - 1, &err);
        fired = alloc_fail_stop();
        EXPECT_INT(rc, fired ? ERR_NO_MEMORY : ERR_OK);
        worker_job_done(&job);
    }
}

/* What is said is whole, or not said at all. */
TEST(worker_facts_survive_every_failed_allocation)
{
    struct device dev = {0};
    struct model *model = NULL;
    struct err err;
    bool fired = true;

    alloc_fail_hook_cjson();
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(model_open(&model, long_model(), &dev, &err));
    for (long n = 1; fired; n++) {
        cJSON *facts;

        alloc_fail_at(n);
        facts = worker_facts(model);
        fired = alloc_fail_stop();
        EXPECT((facts == NULL) == fired);
        cJSON_Delete(facts);
    }
    model_close(model);
    device_close(&dev);
}

TEST(worker_prepared_survives_every_failed_allocation)
{
    const struct render_plan plan = {
        .settings = {.size = {.width = 64}, .frames = 33, .blocks = 3, .block_latent_frames = 3}};
    struct device dev = {0};
    struct model *model = NULL;
    struct err err;
    bool fired = true;

    alloc_fail_hook_cjson();
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(model_open(&model, long_model(), &dev, &err));
    for (long n = 1; fired; n++) {
        cJSON *o;

        alloc_fail_at(n);
        o = worker_prepared(&plan, model, "avc1.64001e");
        fired = alloc_fail_stop();
        EXPECT((o == NULL) == fired);
        cJSON_Delete(o);
    }
    model_close(model);
    device_close(&dev);
}
