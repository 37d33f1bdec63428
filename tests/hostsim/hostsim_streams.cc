/*
 * Streams, events and graphs.
 *
 * A stream is a list of work that nobody has begun. It is run when the host waits for it, or when another
 * stream that is being run waits for an event in it, and no further than that: what did not have to
 * happen has not happened. In the permuted order bits of work also run early, as a GPU would, so that
 * what must not happen too early is seen too.
 */
#include <stdlib.h>
#include <time.h>

#include "tests/hostsim/hostsim_sim.h"

struct CUevent_st {
    struct CUevent_st *next;
    uint64_t id;
    unsigned flags;
    uint64_t stream, number; /* what was issued when it was recorded; number 0: never */
    double seconds;          /* when it happened */
};

struct CUgraph_st {
    struct hostsim_graph *graph;
};

struct CUgraphExec_st {
    struct hostsim_graph *graph;
};

static struct CUstream_st legacy = {.next = NULL,
                                    .id = 0,
                                    .flags = cudaStreamDefault,
                                    .priority = 0,
                                    .head = NULL,
                                    .tail = &legacy.head,
                                    .issued = 0,
                                    .done = 0,
                                    .capture = NULL,
                                    .mode = cudaStreamCaptureModeGlobal,
                                    .invalidated = false};
static struct CUstream_st *streams = &legacy;
static struct CUevent_st *events;
static uint64_t ids;

struct CUstream_st *hostsim_stream(cudaStream_t stream)
{
    if (stream == NULL || stream == cudaStreamLegacy) {
        return &legacy;
    }
    for (struct CUstream_st *s = streams; s != NULL; s = s->next) {
        if (s == stream) {
            return s;
        }
    }
    return NULL;
}

static struct CUstream_st *stream_by_id(uint64_t id)
{
    for (struct CUstream_st *s = streams; s != NULL; s = s->next) {
        if (s->id == id) {
            return s;
        }
    }
    return NULL;
}

static bool is_event(cudaEvent_t event)
{
    for (const struct CUevent_st *e = events; e != NULL; e = e->next) {
        if (e == event) {
            return true;
        }
    }
    return false;
}

/* ---- work ---- */

struct hostsim_work *hostsim_work_create(enum hostsim_work_kind kind, size_t extra)
{
    struct hostsim_work *w = (struct hostsim_work *)calloc(1, sizeof(*w) + extra);

    if (w == NULL) {
        hostsim_bug("no memory");
    }
    w->kind = kind;
    return w;
}

void hostsim_graph_unref(struct hostsim_graph *graph)
{
    if (--graph->refs > 0) {
        return;
    }
    while (graph->head != NULL) {
        struct hostsim_work *w = graph->head;

        graph->head = w->next;
        free(w);
    }
    free(graph);
}

static double now()
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_until(struct CUstream_st *s, uint64_t number);

static void run_record(const struct hostsim_work *w)
{
    for (struct CUevent_st *e = events; e != NULL; e = e->next) {
        if (e->id == w->id) {
            e->seconds = now();
        }
    }
}

static void run_one(const struct hostsim_work *w)
{
    struct CUstream_st *other;

    switch (w->kind) {
    case HOSTSIM_WORK_RECORD:
        run_record(w);
        return;
    case HOSTSIM_WORK_WAIT:
        other = stream_by_id(w->id);
        if (other != NULL) {
            run_until(other, w->number);
        }
        return;
    case HOSTSIM_WORK_GRAPH:
        for (const struct hostsim_work *g = w->graph->head; g != NULL; g = g->next) {
            hostsim_run_work(g);
        }
        hostsim_graph_unref(w->graph);
        return;
    default:
        hostsim_run_work(w);
        return;
    }
}

/* A stream waits only for what was issued before, so this comes to an end. */
static void run_until(struct CUstream_st *s, uint64_t number)
{
    while (s->done < number && s->head != NULL) {
        struct hostsim_work *w = s->head;

        run_one(w);
        s->head = w->next;
        if (s->head == NULL) {
            s->tail = &s->head;
        }
        s->done++;
        free(w);
    }
}

cudaError_t hostsim_drain(struct CUstream_st *stream)
{
    run_until(stream, stream->issued);
    return hostsim_lost();
}

/* In the permuted order a work here, a work there. */
static void run_some(unsigned works)
{
    static uint64_t seed = 1;

    for (unsigned i = 0; i < works; i++) {
        uint64_t skip = hostsim_random(&seed) % (ids + 1);
        struct CUstream_st *s = streams;

        while (s->next != NULL && skip-- > 0) {
            s = s->next;
        }
        if (hostsim_random(&seed) % 2 == 0) {
            run_until(s, s->done + 1);
        }
    }
}

cudaError_t hostsim_drain_all()
{
    if (hostsim_config_get()->order == HOSTSIM_PERMUTED) {
        run_some(16);
    }
    if (hostsim_config_get()->order == HOSTSIM_FORWARD) { /* the newest is first in the list */
        for (uint64_t id = 0; id <= ids; id++) {
            struct CUstream_st *s = stream_by_id(id);

            if (s != NULL) {
                (void)hostsim_drain(s);
            }
        }
    }
    for (struct CUstream_st *s = streams; s != NULL; s = s->next) {
        (void)hostsim_drain(s);
    }
    hostsim_memory_check();
    return hostsim_lost();
}

static void append(struct CUstream_st *s, struct hostsim_work *w)
{
    *s->tail = w;
    s->tail = &w->next;
    s->issued++;
}

static void append_wait(struct CUstream_st *s, const struct CUstream_st *other)
{
    struct hostsim_work *w;

    if (other->done == other->issued) {
        return;
    }
    w = hostsim_work_create(HOSTSIM_WORK_WAIT, 0);
    w->id = other->id;
    w->number = other->issued;
    append(s, w);
}

/* The legacy stream and the blocking ones wait for each other. */
static void join_legacy(struct CUstream_st *s)
{
    if (s != &legacy) {
        if ((s->flags & cudaStreamNonBlocking) == 0) {
            append_wait(s, &legacy);
        }
        return;
    }
    for (const struct CUstream_st *other = streams; other != NULL; other = other->next) {
        if (other != &legacy && (other->flags & cudaStreamNonBlocking) == 0) {
            append_wait(s, other);
        }
    }
}

cudaError_t hostsim_issue(struct CUstream_st *stream, struct hostsim_work *work)
{
    struct hostsim_graph *g = stream->capture;

    if (g != NULL && stream->invalidated) {
        free(work);
        return hostsim_error(cudaErrorStreamCaptureInvalidated);
    }
    if (g != NULL) {
        *g->tail = work;
        g->tail = &work->next;
        return cudaSuccess;
    }
    if (stream == &legacy && hostsim_forbid_capture() != cudaSuccess) {
        free(work);
        return hostsim_error(cudaErrorStreamCaptureImplicit);
    }
    join_legacy(stream);
    append(stream, work);
    if (hostsim_config_get()->order == HOSTSIM_PERMUTED) {
        run_some(2);
    }
    return cudaSuccess;
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *ret, unsigned flags, int priority)
{
    HOSTSIM_TRY_ALIVE();
    struct CUstream_st *s = (struct CUstream_st *)calloc(1, sizeof(*s));

    if (s == NULL) {
        return hostsim_error(cudaErrorMemoryAllocation);
    }
    s->id = ++ids;
    s->flags = flags;
    s->priority = priority;
    s->tail = &s->head;
    s->next = streams;
    streams = s;
    *ret = s;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret, unsigned flags)
{
    return cudaStreamCreateWithPriority(ret, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *ret)
{
    return cudaStreamCreateWithPriority(ret, cudaStreamDefault, 0);
}

/* CUDA lets the work finish by itself; nobody can see the difference. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    struct CUstream_st *s = hostsim_stream(stream);

    if (s == NULL || s == &legacy) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    (void)hostsim_drain(s);
    if (s->capture != NULL) {
        hostsim_graph_unref(s->capture);
    }
    for (struct CUstream_st **at = &streams; *at != NULL; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    free(s);
    return hostsim_lost();
}

/* Waiting for a stream that captures ends the capture. */
static cudaError_t invalidate(struct CUstream_st *s)
{
    s->invalidated = true;
    return hostsim_error(cudaErrorStreamCaptureUnsupported);
}

cudaError_t hostsim_forbid_capture()
{
    cudaError_t code = cudaSuccess;

    for (struct CUstream_st *s = streams; s != NULL; s = s->next) {
        if (s->capture != NULL && s->mode != cudaStreamCaptureModeRelaxed) {
            code = invalidate(s);
        }
    }
    return code;
}

/* The common beginning of what waits for a stream. */
static cudaError_t may_wait(struct CUstream_st *s)
{
    HOSTSIM_TRY_ALIVE();
    if (s == NULL) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    return s->capture != NULL ? invalidate(s) : hostsim_forbid_capture();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    struct CUstream_st *s = hostsim_stream(stream);
    const cudaError_t code = may_wait(s);

    if (code != cudaSuccess) {
        return code;
    }
    if (s == &legacy) {
        join_legacy(s);
    }
    return hostsim_drain(s);
}

/* Each question lets one work happen. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    struct CUstream_st *s = hostsim_stream(stream);
    const cudaError_t code = may_wait(s);

    if (code != cudaSuccess) {
        return code;
    }
    if (s->done == s->issued) {
        return cudaSuccess;
    }
    run_until(s, s->done + 1);
    return hostsim_lost() != cudaSuccess ? hostsim_lost() : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize()
{
    HOSTSIM_TRY_ALIVE();
    for (struct CUstream_st *s = streams; s != NULL; s = s->next) {
        if (s->capture != NULL) {
            return invalidate(s);
        }
    }
    return hostsim_drain_all();
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, unsigned flags)
{
    HOSTSIM_TRY_ALIVE();
    struct CUevent_st *e = (struct CUevent_st *)calloc(1, sizeof(*e));

    if (e == NULL) {
        return hostsim_error(cudaErrorMemoryAllocation);
    }
    e->id = ++ids;
    e->flags = flags;
    e->next = events;
    events = e;
    *ret = e;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *ret)
{
    return cudaEventCreateWithFlags(ret, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    for (struct CUevent_st **at = &events; *at != NULL; at = &(*at)->next) {
        if (*at == event) {
            *at = event->next;
            free(event);
            return hostsim_lost();
        }
    }
    return hostsim_error(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    HOSTSIM_TRY_ALIVE();
    struct CUstream_st *s = hostsim_stream(stream);
    struct hostsim_work *w;

    if (s == NULL || !is_event(event)) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    if (s->capture != NULL) { /* graphs of several streams are not simulated */
        return invalidate(s);
    }
    w = hostsim_work_create(HOSTSIM_WORK_RECORD, 0);
    w->id = event->id;
    const cudaError_t code = hostsim_issue(s, w);

    if (code == cudaSuccess) {
        event->stream = s->id;
        event->number = s->issued;
    }
    return code;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    HOSTSIM_TRY_ALIVE();
    struct CUstream_st *s = hostsim_stream(stream);
    struct hostsim_work *w;

    if (s == NULL || !is_event(event) || flags != 0) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    if (s->capture != NULL) {
        s->invalidated = true;
        return hostsim_error(cudaErrorStreamCaptureIsolation);
    }
    w = hostsim_work_create(HOSTSIM_WORK_WAIT, 0);
    w->id = event->stream;
    w->number = event->number;
    return hostsim_issue(s, w);
}

static bool has_happened(const struct CUevent_st *e)
{
    const struct CUstream_st *s = stream_by_id(e->stream);

    return e->number == 0 || s == NULL || s->done >= e->number;
}

/* Lets `works` more happen, if it has not come to the event. */
static cudaError_t event_wait(cudaEvent_t event, uint64_t works)
{
    HOSTSIM_TRY_ALIVE();
    if (!is_event(event)) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    const cudaError_t code = hostsim_forbid_capture();

    if (code != cudaSuccess) {
        return code;
    }
    if (has_happened(event)) {
        return cudaSuccess;
    }
    struct CUstream_st *s = stream_by_id(event->stream);

    run_until(s, min(event->number, s->done + works));
    return hostsim_lost() != cudaSuccess ? hostsim_lost() : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    const cudaError_t code = event_wait(event, UINT64_MAX / 2);

    return code == cudaErrorNotReady ? cudaSuccess : code;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return event_wait(event, 1);
}

cudaError_t cudaEventElapsedTime(float *ret_ms, cudaEvent_t start, cudaEvent_t end)
{
    HOSTSIM_TRY_ALIVE();
    if (!is_event(start) || !is_event(end) || start->number == 0 || end->number == 0 ||
        ((start->flags | end->flags) & cudaEventDisableTiming) != 0) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    if (!has_happened(start) || !has_happened(end)) {
        return cudaErrorNotReady;
    }
    *ret_ms = (float)(1e3 * (end->seconds - start->seconds));
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    HOSTSIM_TRY_ALIVE();
    struct CUstream_st *s = hostsim_stream(stream);

    if (s == NULL) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    if (s == &legacy || s->capture != NULL) {
        return hostsim_error(cudaErrorStreamCaptureUnsupported);
    }
    s->capture = (struct hostsim_graph *)calloc(1, sizeof(*s->capture));
    if (s->capture == NULL) {
        return hostsim_error(cudaErrorMemoryAllocation);
    }
    s->capture->refs = 1;
    s->capture->tail = &s->capture->head;
    s->mode = mode;
    s->invalidated = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *ret)
{
    HOSTSIM_TRY_ALIVE();
    struct CUstream_st *s = hostsim_stream(stream);
    struct CUgraph_st *g;

    *ret = NULL;
    if (s == NULL || s->capture == NULL) {
        return hostsim_error(s == NULL ? cudaErrorInvalidResourceHandle
                                       : cudaErrorStreamCaptureUnmatched);
    }
    g = (struct CUgraph_st *)malloc(sizeof(*g));
    if (g == NULL || s->invalidated) {
        const cudaError_t code =
            s->invalidated ? cudaErrorStreamCaptureInvalidated : cudaErrorMemoryAllocation;

        hostsim_graph_unref(s->capture);
        s->capture = NULL;
        free(g);
        return hostsim_error(code);
    }
    g->graph = s->capture;
    s->capture = NULL;
    *ret = g;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *ret)
{
    HOSTSIM_TRY_ALIVE();
    const struct CUstream_st *s = hostsim_stream(stream);

    if (s == NULL) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    *ret = s->capture == NULL ? cudaStreamCaptureStatusNone
           : s->invalidated   ? cudaStreamCaptureStatusInvalidated
                              : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret, cudaGraph_t graph, unsigned long long flags)
{
    HOSTSIM_TRY_ALIVE();
    struct CUgraphExec_st *e;

    if (graph == NULL || flags != 0) {
        return hostsim_error(cudaErrorInvalidValue);
    }
    e = (struct CUgraphExec_st *)malloc(sizeof(*e));
    if (e == NULL) {
        return hostsim_error(cudaErrorMemoryAllocation);
    }
    e->graph = graph->graph;
    e->graph->refs++;
    *ret = e;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    HOSTSIM_TRY_ALIVE();
    return exec == NULL || hostsim_stream(stream) == NULL ? hostsim_error(cudaErrorInvalidValue)
                                                          : cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    HOSTSIM_TRY_ALIVE();
    struct CUstream_st *s = hostsim_stream(stream);
    struct hostsim_work *w;

    if (exec == NULL || s == NULL) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    if (s->capture != NULL) { /* a graph in a graph is not simulated */
        return invalidate(s);
    }
    w = hostsim_work_create(HOSTSIM_WORK_GRAPH, 0);
    w->graph = exec->graph;
    w->graph->refs++;
    return hostsim_issue(s, w);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    if (exec == NULL) {
        return hostsim_error(cudaErrorInvalidValue);
    }
    hostsim_graph_unref(exec->graph);
    free(exec);
    return hostsim_lost();
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    if (graph == NULL) {
        return hostsim_error(cudaErrorInvalidValue);
    }
    hostsim_graph_unref(graph->graph);
    free(graph);
    return hostsim_lost();
}
