/*
 * Two threads and what they share. The control thread owns the tasks (START and FINISH messages) and lends them
 * to the engine thread through a queue; a task's atomic members are how CANCEL and PAUSE reach it, whether it
 * still waits, runs, or has just ended. Ending goes through the socket: whoever wants it shuts the socket
 * down, the control thread reads the end, cancels all tasks and closes the queue; nothing can be sent any more.
 */
#include "worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "media/preview.h"
#include "worker/wire.h"
#include "worker/worker_facts.h"
#include "worker/worker_internal.h"

enum {
    MAX_TASKS = 8, /* that wait; the daemon sends one at a time */
    READ_BYTES = 1 << 16,
    JSON_BYTES = 512, /* of a message of numbers only */
    PREVIEW_SIDE = 640,
    PREVIEW_MAX_BYTES = 4 << 20,
};

static const int64_t STEP_INTERVAL_NS = 100000000; /* ten a second */

enum task_state {
    TASK_LIVE,
    TASK_CANCELLED,
    TASK_OVER, /* the engine thread does not touch it any more */
};

struct task {
    struct task *next;
    enum wire_type type;
    uint32_t job;
    atomic_int state; /* enum task_state */
    atomic_bool cancel;
    atomic_bool pause;
    size_t len;
    char json[];
};

struct worker {
    const struct worker_options *options;
    struct device dev;
    struct model *model;        /* owned, as are the next two */
    struct wire_sender *sender; /* any thread */
    struct queue *queue;        /* of borrowed tasks, to the engine thread */
    struct task *tasks;         /* owned; control thread only, as long as it runs */
    _Atomic uint32_t closed; /* the last job that was told to be over: FINISHED, PAUSED or FAIL */
    pthread_t control;
    int control_rc; /* after the join */
    struct err control_err;
};

/* ---- sending ---- */

/* The daemon is gone, or has to be: the control thread ends everything. */
static void hang_up(const struct worker *w)
{
    shutdown(w->options->fd, SHUT_RDWR);
}

static void send_bytes(const struct worker *w, enum wire_type type, uint32_t job, const void *data,
                       size_t len)
{
    struct err err;

    if (wire_send(w->sender, type, job, data, len, &err) != ERR_OK) {
        hang_up(w);
    }
}

static void send_text(const struct worker *w, enum wire_type type, uint32_t job, const char *json)
{
    send_bytes(w, type, job, json, strlen(json));
}

/* Takes the object. ERR_NO_MEMORY, also for NULL: nothing was sent. */
static int send_json(const struct worker *w, enum wire_type type, uint32_t job, cJSON *object,
                     struct err *err)
{
    char *text = object ? cJSON_PrintUnformatted(object) : NULL;

    cJSON_Delete(object);
    if (!text) {
        return err_set(err, ERR_NO_MEMORY, "message %s", wire_type_name(type));
    }
    send_text(w, type, job, text);
    cJSON_free(text);
    return ERR_OK;
}

static void send_fail(const struct worker *w, uint32_t job, const struct err *why)
{
    cJSON *o = cJSON_CreateObject();
    struct err err;

    if (!cJSON_AddStringToObject(o, "code", err_code_name(why->code)) ||
        !cJSON_AddStringToObject(o, "message", why->msg)) {
        cJSON_Delete(o);
        o = NULL;
    }
    if (send_json(w, WIRE_FAIL, job, o, &err) != ERR_OK) {
        send_text(w, WIRE_FAIL, job, "{\"code\":\"out_of_memory\",\"message\":\"out of memory\"}");
    }
}

static void send_cancelled(const struct worker *w, uint32_t job)
{
    struct err err;

    err_set(&err, ERR_CANCELLED, "cancelled");
    send_fail(w, job, &err);
}

/* ---- START: what the rendering reports ---- */

struct run {
    const struct worker *w;
    const struct task *task;
    const struct render *render;
    /* Engine thread: the last STEP. */
    int64_t step_ns;
    enum session_phase phase;
    int64_t block;
    double fraction;
};

static int on_part(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len, struct err *err)
{
    const struct run *run = ctx;

    if (part == FMP4_INIT) { /* the daemon has it since PREPARED */
        return ERR_OK;
    }
    return wire_send(run->w->sender, WIRE_FRAGMENT, run->task->job, data, len, err);
}

static void on_block(void *ctx, const struct render_block *block)
{
    const struct run *run = ctx;
    char json[JSON_BYTES];

    log_debug("worker job=%u block=%lld made monotonic_ns=%lld", run->task->job,
              (long long)block->index, (long long)clock_now_ns());
    if (block->latents) {
        send_bytes(run->w, WIRE_LATENTS, run->task->job, block->latents,
                   block->n_latents * sizeof(float));
    }
    snprintf(json, sizeof(json),
             "{\"index\":%lld,\"count\":%lld,\"first_frame\":%lld,\"frames\":%lld,\"gen_s\":%.6f}",
             (long long)block->index, (long long)block->count, (long long)block->first_picture,
             (long long)block->n_pictures, block->seconds);
    send_text(run->w, WIRE_BLOCK, run->task->job, json);
}

/* The video does not depend on its preview. */
static void on_first_picture(void *ctx, const uint8_t *i420)
{
    const struct run *run = ctx;
    const struct geometry_size *size = &render_settings(run->render)->size;
    struct str jpeg;
    struct err err;

    str_init(&jpeg, PREVIEW_MAX_BYTES);
    if (preview_sheet(&jpeg, NULL, &i420, 1, (int)size->width, (int)size->height, PREVIEW_SIDE,
                      &err) == ERR_OK) {
        send_bytes(run->w, WIRE_PREVIEW, run->task->job, jpeg.data, jpeg.len);
    } else {
        log_warn("preview: %s; the video goes on without", err.msg);
    }
    str_done(&jpeg);
}

static void on_state(void *ctx, const void *data, size_t len)
{
    const struct run *run = ctx;
    char json[JSON_BYTES];

    send_bytes(run->w, WIRE_STATE, run->task->job, data, len);
    snprintf(json, sizeof(json), "{\"fraction\":%.6f}", run->fraction);
    send_text(run->w, WIRE_CHECKPOINT, run->task->job, json);
}

static void on_progress(void *ctx, const struct session_progress *p)
{
    static const char *const phase[] = {
        [SESSION_TEXT] = "text_encode",  [SESSION_IMAGE] = "image_encode",
        [SESSION_DENOISE] = "denoise",   [SESSION_CACHE] = "cache",
        [SESSION_DECODE] = "vae_decode",
    };
    const int64_t now = clock_now_ns();
    struct run *run = ctx;
    char json[JSON_BYTES];

    run->fraction = p->fraction;
    if (run->step_ns != 0 && p->phase == run->phase && p->block == run->block &&
        now - run->step_ns < STEP_INTERVAL_NS) {
        return;
    }
    run->step_ns = now;
    run->phase = p->phase;
    run->block = p->block;
    snprintf(json, sizeof(json),
             "{\"phase\":\"%s\",\"step\":%lld,\"steps\":%lld,\"block\":%lld,\"blocks\":%lld,"
             "\"fraction\":%.6f}",
             phase[p->phase], (long long)p->step, (long long)p->steps, (long long)p->block,
             (long long)p->blocks, p->fraction);
    send_text(run->w, WIRE_STEP, run->task->job, json);
}

/* ---- START ---- */

static void send_started(const struct run *run)
{
    char json[JSON_BYTES];

    snprintf(json, sizeof(json), "{\"block\":%lld}", (long long)render_first_block(run->render));
    send_text(run->w, WIRE_STARTED, run->task->job, json);
}

/* The device's memory is planned, not measured: weights, and what this video reserved. */
static void send_rendered(const struct run *run, double seconds)
{
    const struct model_dir *dir = run->w->model->dir;
    const size_t bytes = weights_total_bytes(dir->transformer_weights) +
                         weights_total_bytes(dir->text_encoder_weights) +
                         weights_total_bytes(dir->vae_weights) + render_memory(run->render);
    struct render_times t;
    char json[JSON_BYTES];

    render_times(run->render, &t);
    snprintf(json, sizeof(json),
             "{\"inference_s\":%.3f,\"stages\":{\"text_encode\":%.3f,\"denoise\":%.3f,"
             "\"vae_decode\":%.3f,\"encode\":%.3f},\"peak_memory_mb\":%.1f}",
             seconds, t.text + t.image, t.denoise + t.cache, t.decode, t.encode,
             (double)bytes / (1 << 20));
    send_text(run->w, WIRE_RENDERED, run->task->job, json);
}

static void close_job(struct worker *w, uint32_t job)
{
    atomic_store(&w->closed, job);
}

static void send_paused(struct worker *w, uint32_t job)
{
    close_job(w, job);
    send_text(w, WIRE_PAUSED, job, "{}");
}

static int render(struct worker *w, struct task *task, const struct render_options *options,
                  struct err *err)
{
    struct run run = {.w = w, .task = task};
    const struct render_callbacks callbacks = {.ctx = &run,
                                               .on_part = on_part,
                                               .on_block = on_block,
                                               .on_first_picture = on_first_picture,
                                               .on_state = on_state,
                                               .on_progress = on_progress,
                                               .cancel = &task->cancel,
                                               .pause = &task->pause};
    const int64_t start_ns = clock_now_ns();
    struct render *r = NULL;
    int rc = render_open(&r, w->model, options, &callbacks, err);

    if (rc == ERR_OK) {
        run.render = r;
        send_started(&run);
        rc = render_run(r, err);
    }
    if (rc == ERR_OK && atomic_load(&task->cancel)) { /* in the last moment */
        rc = err_set(err, ERR_CANCELLED, "cancelled");
    }
    if (rc == ERR_OK && render_paused(r)) {
        send_paused(w, task->job);
    } else if (rc == ERR_OK) {
        send_rendered(&run, clock_seconds(clock_now_ns() - start_ns));
    }
    render_close(r);
    return rc;
}

static int start(struct worker *w, struct task *task, struct err *err)
{
    struct worker_job job = {0};
    int rc;

    if (atomic_load(&task->pause)) { /* while it waited: nothing is lost */
        send_paused(w, task->job);
        return ERR_OK;
    }
    rc = worker_job_parse(&job, task->json, task->len, err);
    if (rc == ERR_OK) {
        rc = worker_job_load(&job, w->model, err);
    }
    if (rc == ERR_OK) {
        job.options.state_interval_ms = w->options->checkpoint_interval_ms;
        rc = render(w, task, &job.options, err);
    }
    worker_job_done(&job);
    return rc;
}

/* ---- engine thread ---- */

static int finish(struct worker *w, const struct task *task, struct err *err)
{
    char json[WORKER_FINISHED_MAX];
    const int rc = worker_finish(task->json, task->len, json, err);

    if (rc == ERR_OK) {
        close_job(w, task->job);
        send_text(w, WIRE_FINISHED, task->job, json);
    }
    return rc;
}

/* Errors: ERR_DEVICE, which ends the process and not the job. All others end the job. */
static int run_task(struct worker *w, struct task *task, struct err *err)
{
    const uint32_t number = task->job;
    int rc;

    if (atomic_load(&task->cancel)) {
        rc = err_set(err, ERR_CANCELLED, "cancelled before it was begun");
    } else if (task->type == WIRE_START) {
        rc = start(w, task, err);
    } else {
        rc = finish(w, task, err);
    }
    if (rc == ERR_DEVICE) {
        return rc;
    }
    if (rc != ERR_OK) {
        close_job(w, number);
        send_fail(w, number, err);
    }
    /* After this the control thread may free it. CANCEL came too late for the work: answer it. */
    if (atomic_exchange(&task->state, TASK_OVER) == TASK_CANCELLED && rc == ERR_OK) {
        close_job(w, number);
        send_cancelled(w, number);
    }
    return ERR_OK;
}

static int engine_main(struct worker *w, struct err *err)
{
    struct task *task;
    int rc = ERR_OK;

    while (rc == ERR_OK && (task = queue_pop(w->queue))) {
        rc = run_task(w, task, err);
    }
    return rc;
}

/* ---- control thread ---- */

static int prepare(const struct worker *w, const struct wire_frame *frame, struct err *err)
{
    const uint32_t number = frame->header.job;
    char codec[FMP4_CODEC_STRING];
    struct worker_job job = {0};
    struct render_plan plan;
    int rc = worker_job_parse(&job, (const char *)frame->payload, frame->header.length, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = render_plan(w->model, &job.options, &plan, err);
    worker_job_done(&job);
    if (rc != ERR_OK) {
        return rc;
    }
    rc = fmp4_codec_string((const uint8_t *)plan.init.data, plan.init.len, codec, err);
    if (rc == ERR_OK) {
        send_bytes(w, WIRE_INIT, number, plan.init.data, plan.init.len);
        rc = send_json(w, WIRE_PREPARED, number, worker_prepared(&plan, w->model, codec), err);
    }
    render_plan_done(&plan);
    return rc;
}

/* A task that the engine thread has left. */
static void free_over(struct worker *w)
{
    struct task **at = &w->tasks;

    while (*at) {
        struct task *task = *at;

        if (atomic_load(&task->state) == TASK_OVER) {
            *at = task->next;
            free(task);
        } else {
            at = &task->next;
        }
    }
}

static int add_task(struct worker *w, const struct wire_frame *frame, struct err *err)
{
    struct task *task = calloc(1, sizeof(*task) + frame->header.length + 1);

    if (!task) {
        return err_set(err, ERR_NO_MEMORY, "message %s", wire_type_name(frame->header.type));
    }
    task->type = (enum wire_type)frame->header.type;
    task->job = frame->header.job;
    task->len = frame->header.length;
    memcpy(task->json, frame->payload, task->len);
    task->next = w->tasks;
    w->tasks = task;
    if (!queue_try_push(w->queue, task)) {
        w->tasks = task->next;
        free(task);
        return err_set(err, ERR_BUSY, "more than %d jobs wait for this worker", MAX_TASKS);
    }
    return ERR_OK;
}

/* One that is not over; NULL: there is none. */
static struct task *find_live(const struct worker *w, uint32_t job)
{
    for (struct task *task = w->tasks; task; task = task->next) {
        if (task->job == job && atomic_load(&task->state) != TASK_OVER) {
            return task;
        }
    }
    return NULL;
}

/* Every CANCEL is followed by FAIL, unless the job was over before. */
static void cancel(struct worker *w, uint32_t job)
{
    struct task *task = find_live(w, job);
    int expected = TASK_LIVE;

    if (task && (atomic_compare_exchange_strong(&task->state, &expected, TASK_CANCELLED) ||
                 expected == TASK_CANCELLED)) {
        atomic_store(&task->cancel, true);
    } else if (job > atomic_load(&w->closed)) { /* between RENDERED and FINISH, or only prepared */
        send_cancelled(w, job);
    }
}

static void pause_job(const struct worker *w, uint32_t job)
{
    struct task *task = find_live(w, job);

    if (task) {
        atomic_store(&task->pause, true);
    }
}

/* Errors: ERR_FORMAT, which ends the process. *ret_over: SHUTDOWN. */
static int handle(struct worker *w, const struct wire_frame *frame, bool *ret_over, struct err *err)
{
    const struct wire_header *h = &frame->header;
    struct err job_err;
    int rc = ERR_OK;

    free_over(w);
    if (h->job == 0 && h->type != WIRE_PING && h->type != WIRE_SHUTDOWN) {
        return err_set(err, ERR_FORMAT, "%s: without a job", wire_type_name(h->type));
    }
    switch (h->type) {
    case WIRE_PREPARE:
        rc = prepare(w, frame, &job_err);
        break;
    case WIRE_START:
    case WIRE_FINISH:
        rc = add_task(w, frame, &job_err);
        break;
    case WIRE_CANCEL:
        cancel(w, h->job);
        break;
    case WIRE_PAUSE:
        pause_job(w, h->job);
        break;
    case WIRE_PING:
        send_bytes(w, WIRE_PONG, h->job, NULL, 0);
        break;
    case WIRE_SHUTDOWN:
        *ret_over = true;
        break;
    default:
        return err_set(err, ERR_FORMAT, "%s: not a message to a worker", wire_type_name(h->type));
    }
    if (rc != ERR_OK) {
        send_fail(w, h->job, &job_err);
    }
    return ERR_OK;
}

static int handle_bytes(struct worker *w, struct wire_decoder *d, const uint8_t *data, size_t len,
                        bool *ret_over, struct err *err)
{
    int rc = ERR_OK;

    while (rc == ERR_OK && len > 0 && !*ret_over) {
        struct wire_frame frame;
        bool complete = false;
        size_t used = 0;

        rc = wire_decode(d, data, len, &used, &frame, &complete, err);
        if (rc == ERR_OK && complete) {
            rc = handle(w, &frame, ret_over, err);
        }
        data += used;
        len -= used;
    }
    return rc;
}

static int read_messages(struct worker *w, struct err *err)
{
    uint8_t buffer[READ_BYTES];
    struct wire_decoder d;
    bool over = false;
    int rc = ERR_OK;

    wire_decoder_init(&d);
    while (rc == ERR_OK && !over) {
        const ssize_t n = recv(w->options->fd, buffer, sizeof(buffer), 0);

        if (n > 0) {
            rc = handle_bytes(w, &d, buffer, (size_t)n, &over, err);
        } else if (n == 0 || errno == ECONNRESET) {
            over = true; /* the daemon is gone, or somebody hung up */
        } else if (errno != EINTR) {
            rc = err_set(err, ERR_IO, "receive from the daemon: %m");
        }
    }
    wire_decoder_done(&d);
    return rc;
}

static void *control_main(void *ctx)
{
    struct worker *w = ctx;

    w->control_rc = read_messages(w, &w->control_err);
    hang_up(w); /* first: of what ends now nothing is to be told */
    for (struct task *task = w->tasks; task; task = task->next) {
        atomic_store(&task->cancel, true);
    }
    queue_close(w->queue);
    return NULL;
}

/* ---- the worker ---- */

static int open_all(struct worker *w, struct err *err)
{
    int rc = wire_sender_create(&w->sender, w->options->fd, err);

    if (rc == ERR_OK) {
        rc = queue_create(&w->queue, MAX_TASKS, err);
    }
    if (rc == ERR_OK) {
        rc = device_choice_open(&w->dev, &w->options->device, err);
    }
    return rc != ERR_OK ? rc : model_open(&w->model, w->options->model, &w->dev, err);
}

static void close_all(struct worker *w)
{
    while (w->tasks) {
        struct task *task = w->tasks;

        w->tasks = task->next;
        free(task);
    }
    model_close(w->model);
    device_close(&w->dev);
    queue_free(w->queue);
    wire_sender_free(w->sender);
    close(w->options->fd);
}

static int run(struct worker *w, struct err *err)
{
    int rc;

    if (pthread_create(&w->control, NULL, control_main, w) != 0) {
        return err_set(err, ERR_NO_MEMORY, "the control thread could not be started");
    }
    rc = engine_main(w, err);
    if (rc != ERR_OK) { /* the last word */
        send_fail(w, 0, err);
    }
    hang_up(w);
    pthread_join(w->control, NULL);
    while (queue_pop(w->queue)) { /* closed by now: what nobody began */
    }
    if (rc == ERR_OK && w->control_rc != ERR_OK) {
        *err = w->control_err;
        rc = w->control_rc;
    }
    return rc;
}

int worker_run(const struct worker_options *options, struct err *err)
{
    struct worker w = {.options = options};
    int rc = open_all(&w, err);

    if (rc == ERR_OK) {
        rc = send_json(&w, WIRE_READY, 0, worker_facts(w.model), err);
    }
    if (rc == ERR_OK) {
        rc = run(&w, err);
    }
    if (rc != ERR_OK && w.sender) { /* job 0: why the worker ends */
        send_fail(&w, 0, err);
    }
    close_all(&w);
    return rc;
}
