/*
 * sanad serve: the daemon. One loop; here everything is put together, and taken apart in the reverse order.
 *
 *   configuration -> data directory (locked) -> store, files, storage thread -> jobs -> api -> http -> worker
 *
 * SIGTERM and SIGINT: no new jobs, the running one may finish, then everything ends; a second one ends at once.
 * SIGHUP: the configuration is read again.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/cli_options.h"
#include "daemon/commands.h"
#include "daemon/config.h"
#include "daemon/data_dir.h"
#include "daemon/listener.h"
#include "daemon/model_path.h"
#include "daemon/resident.h"
#include "daemon/supervisor.h"
#include "storage/sqlite_store.h"

enum {
    PATH_SIZE = 1200,
    LOCK_WAIT_MS = 5000,
    TICK_MS = 100,
    TRIM_MS = 3000,
    WORKER_GRACE_MS = 1000,
    MAX_FILES = 1 << 17,
    LAG_MS = 50, /* a turn of the loop that takes longer is worth a line */
};

struct serve {
    struct config config;
    int argc; /* the command line, for reloading */
    char **argv;
    char model[PATH_SIZE];
    char algos[PATH_SIZE]; /* where the worker keeps what it measured of a GPU */
    uv_loop_t loop;
    uv_async_t stored; /* from the storage thread */
    uv_signal_t term, interrupt, hangup;
    uv_timer_t tick, trim;
    int lock_fd;
    struct store *store;
    struct job_files *files;
    struct store_thread *storage;
    struct jobs *jobs;
    struct api *api;
    struct http_server *http;
    struct supervisor *supervisor;
    int n_listening; /* of the configuration's addresses */
    bool stopping, closing;
    int status; /* the exit status */
};

/* ---- from the configuration ---- */

static struct jobs_limits jobs_limits_of(const struct config *c)
{
    return (struct jobs_limits){
        .queue_capacity = (int)c->queue_capacity,
        .queue_per_client = (int)c->queue_per_client,
        .max_deaths = (int)c->worker_max_deaths,
        .ttl_ms = c->storage_ttl_ms,
        .partial_ttl_ms = c->storage_partial_ttl_ms,
        .min_free_bytes = c->storage_min_free_bytes,
        .retention = {.max_bytes = c->storage_max_bytes,
                      .gone_ms = INT64_C(24) * 3600 * 1000,
                      .events_ms = c->events_keep_time_ms,
                      .keep_events = c->events_keep},
    };
}

static struct api_limits api_limits_of(const struct config *c)
{
    struct api_limits l = {
        .json_body = (size_t)c->limits_json_body_bytes,
        .multipart_body = (size_t)c->limits_multipart_body_bytes,
        .upload = c->limits_upload_bytes,
        .max_seconds = c->limits_max_seconds,
        .max_frames = c->limits_max_frames,
        .max_readers = (int)c->limits_readers,
    };

    memcpy(l.allowed_hosts, c->http_allowed_hosts, sizeof(c->http_allowed_hosts));
    return l;
}

static struct supervisor_limits supervisor_limits_of(const struct config *c)
{
    return (struct supervisor_limits){
        .cancel_grace_ms = c->worker_cancel_grace_ms,
        .restart_delay_ms = c->worker_restart_delay_ms,
        .restart_delay_max_ms = c->worker_restart_delay_max_ms,
    };
}

/* ---- the end ---- */

static void close_handle(uv_handle_t *handle, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void http_closed(void *ctx)
{
    struct serve *s = ctx;

    s->http = NULL;
    store_thread_close(
        s->storage); /* its last completions come here, while jobs and api are there */
    s->storage = NULL;
    uv_walk(&s->loop, close_handle, NULL);
}

static void worker_closed(void *ctx)
{
    struct serve *s = ctx;

    s->supervisor = NULL;
    http_server_close(s->http, http_closed, s);
}

/* Jobs that still run are set aside when their worker goes. */
static void close_all(struct serve *s, int64_t grace_ms)
{
    if (s->closing) {
        return;
    }
    s->closing = true;
    http_server_drain(s->http);
    if (s->supervisor) {
        supervisor_close(s->supervisor, grace_ms, worker_closed, s);
    } else {
        worker_closed(s);
    }
}

static void on_drained(void *ctx)
{
    close_all(ctx, WORKER_GRACE_MS);
}

static void on_stop(uv_signal_t *handle, int number)
{
    struct serve *s = handle->data;

    if (s->stopping) {
        log_info("stopping at once signal=%d", number);
        close_all(s, 0);
        return;
    }
    s->stopping = true;
    log_info("stopping signal=%d drain_timeout=%" PRId64 "ms", number, s->config.drain_timeout_ms);
    api_drain(s->api);
    jobs_drain(s->jobs, s->config.drain_timeout_ms, on_drained, s);
}

static void on_hopeless(void *ctx, const char *reason)
{
    struct serve *s = ctx;

    log_err("no worker became ready (%s); giving up", reason);
    s->status = 1;
    s->stopping = true;
    close_all(s, 0);
}

/* ---- while it runs ---- */

static void note_change(void *ctx, const char *key, bool applied)
{
    (void)ctx;
    log_info("config key=%s %s", key, applied ? "applied" : "changed; it needs a restart");
}

static void on_hangup(uv_signal_t *handle, int number)
{
    struct serve *s = handle->data;
    struct supervisor_limits supervisor;
    struct jobs_limits jobs;
    struct api_limits api;
    struct err err;

    (void)number;
    if (config_reload(&s->config, NULL, s->argc, s->argv, note_change, NULL, &err) != ERR_OK) {
        log_err("config: %s; everything stays as it was", err.msg);
        return;
    }
    log_set_level((enum log_level)s->config.log_level);
    jobs = jobs_limits_of(&s->config);
    api = api_limits_of(&s->config);
    supervisor = supervisor_limits_of(&s->config);
    jobs_configure(s->jobs, &jobs);
    api_configure(s->api, &api);
    if (s->supervisor) {
        supervisor_configure(s->supervisor, &supervisor);
    }
    log_info("config reloaded");
}

static void on_stored(uv_async_t *handle)
{
    struct serve *s = handle->data;

    if (s->storage) {
        store_thread_dispatch(s->storage);
    }
}

static void wake_loop(void *ctx)
{
    uv_async_send(&((struct serve *)ctx)->stored);
}

static void on_tick(uv_timer_t *timer)
{
    struct serve *s = timer->data;
    const int64_t start_ns = clock_now_ns();
    int64_t ms;

    jobs_tick(s->jobs);
    api_tick(s->api);
    ms = (clock_now_ns() - start_ns) / 1000000;
    if (ms > LAG_MS) {
        log_warn("loop tick=%" PRId64 "ms; answers were late", ms);
    }
}

static void on_trim(uv_timer_t *timer)
{
    (void)timer;
    resident_trim();
}

static void on_published(void *ctx)
{
    struct serve *s = ctx;

    if (s->api) { /* recovery publishes before there is one */
        api_events_published(s->api);
    }
}

/* ---- opening ---- */

static int find_model(struct serve *s, struct err *err)
{
    char index[PATH_SIZE + 32];

    if (s->config.model[0] == '\0') {
        return model_path_default(s->model, sizeof(s->model), err);
    }
    snprintf(s->model, sizeof(s->model), "%s", s->config.model);
    snprintf(index, sizeof(index), "%s/model_index.json", s->model);
    if (access(index, R_OK) != 0) {
        return err_set(err, ERR_NOT_FOUND, "model: '%s': %m", index);
    }
    return ERR_OK;
}

static int check_local(const char *address, struct err *err)
{
    bool local = false;
    const int rc = listener_is_local(address, &local, err);

    if (rc != ERR_OK || local) {
        return rc;
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "listen: '%s' can be reached from outside, and this build has no API keys yet: "
                   "listen on 127.0.0.1, [::1] or unix:/PATH, behind a proxy that authenticates",
                   address);
}

/* What can be said before anything is made. */
static int check(struct serve *s, struct err *err)
{
    int rc = ERR_OK;

    for (int i = 0; i < s->config.listen.n && rc == ERR_OK; i++) {
        rc = check_local(s->config.listen.text[i], err);
    }
    return rc == ERR_OK ? find_model(s, err) : rc;
}

static int open_storage(struct serve *s, struct err *err)
{
    const char *dir = s->config.data_dir;
    char path[PATH_SIZE];
    int rc = data_dir_open(dir, LOCK_WAIT_MS, &s->lock_fd, err);

    snprintf(path, sizeof(path), "%s/sanad.db", dir);
    if (rc == ERR_OK) {
        rc = sqlite_store_open(&s->store, path, err);
    }
    if (rc == ERR_OK) {
        rc = job_files_open(&s->files, dir, s->config.storage_fsync, err);
    }
    if (rc == ERR_OK) {
        rc = store_thread_open(&s->storage, s->store, s->files, wake_loop, s, err);
    }
    return rc;
}

static int open_jobs(struct serve *s, struct err *err)
{
    const struct jobs_options options = {.storage = s->storage,
                                         .files = s->files,
                                         .limits = jobs_limits_of(&s->config),
                                         .worker_name = "local",
                                         .events_published = on_published,
                                         .ctx = s};
    int rc = jobs_open(&s->jobs, &options, s->store, err);

    if (rc == ERR_OK) {
        const struct api_options api = {.jobs = s->jobs, .limits = api_limits_of(&s->config)};

        rc = api_open(&s->api, &api, err);
    }
    return rc;
}

static int listen_on(struct serve *s, const char *address, struct err *err)
{
    char name[LISTENER_NAME];
    int fd;
    int rc = listener_open(address, &fd, name, err);

    if (rc != ERR_OK) {
        return rc;
    }
    s->n_listening++;
    rc = http_server_listen(s->http, fd, err);
    if (rc == ERR_OK) {
        log_info("listening address=%s", name);
    }
    return rc;
}

static int open_http(struct serve *s, struct err *err)
{
    const struct config *c = &s->config;
    struct http_options options;
    int rc;

    http_options_init(&options);
    options.handler = api_handle;
    options.ctx = s->api;
    options.max_connections = (int)c->http_max_connections;
    options.max_connections_per_ip = (int)c->http_max_connections_per_ip;
    options.idle_timeout_s = (int)(c->http_idle_timeout_ms / 1000);
    options.head_timeout_s = (int)(c->http_head_timeout_ms / 1000);
    options.body_window_s = (int)(c->http_body_window_ms / 1000);
    options.body_min_rate = (int)c->http_body_min_rate;
    options.send_buffer = (int)c->http_send_buffer_bytes;
    options.write_timeout_s = (int)(c->http_write_timeout_ms / 1000);
    rc = http_server_open(&s->http, &s->loop, &options, err);
    for (int i = 0; i < c->listen.n && rc == ERR_OK; i++) {
        rc = listen_on(s, c->listen.text[i], err);
    }
    return rc;
}

static int open_worker(struct serve *s, struct err *err)
{
    static const char *const text_encoder_names[] = {[CONFIG_TEXT_ENCODER_AUTO] = "auto",
                                                     [CONFIG_TEXT_ENCODER_GPU] = "gpu",
                                                     [CONFIG_TEXT_ENCODER_HOST] = "host"};
    const struct config *c = &s->config;
    const struct supervisor_limits limits = supervisor_limits_of(c);
    const struct supervisor_options options = {
        .loop = &s->loop,
        .jobs = s->jobs,
        .command = c->worker_command[0] ? c->worker_command : NULL,
        .model = s->model,
        .device = {.device = c->device,
                   .precision = c->precision == CONFIG_PRECISION_F32 ? "f32" : "bf16",
                   .text_encoder = text_encoder_names[c->text_encoder],
                   .threads = c->threads,
                   .vram_limit = c->vram_limit,
                   .deterministic = c->deterministic,
                   .algos = s->algos},
        .checkpoint_interval_ms = c->worker_checkpoint_interval_ms,
        .lock_fd = s->lock_fd,
        .hopeless = on_hopeless,
        .ctx = s,
    };

    snprintf(s->algos, sizeof(s->algos), "%s/gpu-algorithms", c->data_dir);
    return supervisor_open(&s->supervisor, &options, &limits, err);
}

static void start_handles(struct serve *s)
{
    const struct {
        uv_signal_t *handle;
        int number;
        uv_signal_cb fn;
    } signals[] = {
        {&s->term, SIGTERM, on_stop},
        {&s->interrupt, SIGINT, on_stop},
        {&s->hangup, SIGHUP, on_hangup},
    };

    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        uv_signal_init(&s->loop, signals[i].handle);
        signals[i].handle->data = s;
        uv_signal_start(signals[i].handle, signals[i].fn, signals[i].number);
    }
    uv_timer_init(&s->loop, &s->tick);
    s->tick.data = s;
    uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    uv_timer_init(&s->loop, &s->trim);
    uv_timer_start(&s->trim, on_trim, TRIM_MS, 0);
}

/* What was opened, in reverse; each accepts that it was not. The http server and the worker are gone by now. */
static void close_rest(struct serve *s)
{
    store_thread_close(s->storage);
    api_close(s->api);
    jobs_close(s->jobs);
    job_files_close(s->files);
    store_close(s->store);
    for (int i = 0; i < s->n_listening; i++) {
        listener_forget(s->config.listen.text[i]);
    }
    if (s->lock_fd >= 0) {
        close(s->lock_fd);
    }
}

static int open_all(struct serve *s, struct err *err)
{
    int rc = check(s, err);

    if (rc == ERR_OK) {
        rc = open_storage(s, err);
    }
    if (rc == ERR_OK) {
        rc = open_jobs(s, err);
    }
    if (rc == ERR_OK) {
        rc = open_http(s, err);
    }
    if (rc == ERR_OK) {
        rc = open_worker(s, err);
    }
    return rc;
}

static void failed_http_closed(void *ctx)
{
    ((struct serve *)ctx)->http = NULL;
}

/* Opening failed half way: the loop runs until what is on it is closed. */
static void unwind(struct serve *s)
{
    if (s->http) {
        http_server_close(s->http, failed_http_closed, s);
    }
    uv_walk(&s->loop, close_handle, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    close_rest(s);
}

/* As many descriptors as we may have: each reader needs one, and the usual limit of 1024 is for select(). */
static void raise_files_limit(void)
{
    struct rlimit files;
    rlim_t wanted;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return;
    }
    wanted = files.rlim_max < MAX_FILES ? files.rlim_max : MAX_FILES;
    if (files.rlim_cur < wanted) {
        files.rlim_cur = wanted;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int serve(struct serve *s, struct err *err)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    int rc;

    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a file size limit is a full disk */
    raise_files_limit();
    s->lock_fd = -1;
    uv_loop_init(&s->loop);
    uv_async_init(&s->loop, &s->stored, on_stored);
    s->stored.data = s;
    rc = open_all(s, err);
    if (rc == ERR_OK) {
        start_handles(s);
        log_info("serving version=" SANAD_VERSION " data_dir=%s model=%s", s->config.data_dir,
                 s->model);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        close_rest(s);
        log_info("stopped");
    } else {
        unwind(s);
    }
    uv_loop_close(&s->loop);
    return rc;
}

/* ---- the command line ---- */

static void print_help(void)
{
    printf("usage: sanad serve [--listen HOST:PORT] [--data-dir DIR] [--model DIR] [OPTIONS]\n\n"
           "Queues videos over HTTP, makes them, and streams them while they are made.\n\n"
           "  --check-config       say whether the configuration is right, and end\n"
           "  --print-config       print the configuration in use, and end\n"
           "  --sample-config      print a commented configuration file, and end\n"
           "  --help\n\n");
    config_help(stdout);
}

/* Takes an option without value out of the command line. */
static bool take_flag(int *argc, char **argv, const char *name)
{
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i - 1) * sizeof(char *));
            (*argc)--;
            return true;
        }
    }
    return false;
}

int cmd_serve(int argc, char **argv)
{
    struct serve *s = calloc(1, sizeof(*s));
    struct err err = {0};
    bool only_check;
    bool print;
    int rc;

    argc--;
    argv++;
    if (!s || take_flag(&argc, argv, "--help") || take_flag(&argc, argv, "-h")) {
        print_help();
        free(s);
        return 0;
    }
    if (take_flag(&argc, argv, "--sample-config")) {
        config_sample(stdout);
        free(s);
        return 0;
    }
    only_check = take_flag(&argc, argv, "--check-config");
    print = take_flag(&argc, argv, "--print-config");
    s->argc = argc;
    s->argv = argv;
    rc = config_load(&s->config, NULL, argc, argv, &err);
    if (rc != ERR_OK) {
        fprintf(stderr, "sanad serve: %s\n", err.msg);
        free(s);
        return cli_exit_status(rc, true);
    }
    if (print) {
        config_print(&s->config, stdout);
    }
    if (only_check) {
        rc = check(s, &err);
    } else if (!print) {
        log_set_level((enum log_level)s->config.log_level);
        rc = serve(s, &err);
    }
    if (rc != ERR_OK) {
        fprintf(stderr, "sanad serve: %s\n", err.msg);
    } else if (only_check) {
        printf("the configuration is right\n");
    }
    rc = rc != ERR_OK ? cli_exit_status(rc, false) : s->status;
    free(s);
    return rc;
}
