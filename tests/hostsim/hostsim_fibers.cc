/*
 * Blocks, warps and threads. A thread is a fiber, but a fiber outlives its thread: having finished one it
 * starts the next that has not begun. So a kernel whose threads never wait for each other runs as a
 * plain loop on one stack, and a new stack is taken only when a thread must wait.
 *
 * Who runs next: another lane of the running warp while one can, in the order's sequence; then the next
 * warp that can. The last of a warp (of a block) to come to a meeting point lets all of them go, and the
 * sequence begins again with its first.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/hostsim/hostsim_warp.h"

#if HOSTSIM_ASAN
#include <sanitizer/asan_interface.h>
#endif

struct hostsim_sim sim;

struct uint3 threadIdx, blockIdx;
struct dim3 blockDim, gridDim;
unsigned char *hostsim_shared;

const char *hostsim_where()
{
    static char text[256];

    if (sim.kernel == NULL) {
        return "the host";
    }
    snprintf(text, sizeof(text), "kernel %s, block (%u,%u,%u), thread (%u,%u,%u)", sim.kernel->name,
             blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    return text;
}

/* ---- stacks and the switch ---- */

enum {
    STACK_BYTES = HOSTSIM_ASAN ? 256 << 10 : 64 << 10,
    GUARD_BYTES = 4096,
    CRASH_STACK_BYTES = 64 << 10,
};

static void fiber_main();

/* The tops differ in the lower bits: equal ones would share few sets of the caches. */
static struct hostsim_fiber *fiber_create()
{
    static unsigned n;
    const size_t colour = (size_t)(n++ % 61) * 64;
    struct hostsim_fiber *f = (struct hostsim_fiber *)calloc(1, sizeof(*f));
    char *stack = (char *)mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (f == NULL || stack == MAP_FAILED || mprotect(stack, GUARD_BYTES, PROT_NONE) != 0) {
        hostsim_bug("no memory for stacks");
    }
    f->bottom = stack + GUARD_BYTES;
    f->size = STACK_BYTES - colour;
#if HOSTSIM_ASM
    void **top = (void **)(void *)(stack + GUARD_BYTES + STACK_BYTES - colour);

    top[-1] = NULL; /* fiber_main's return address */
    top[-2] = (void *)fiber_main;
    f->sp = top - 2;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack + GUARD_BYTES;
    f->context.uc_stack.ss_size = f->size;
    makecontext(&f->context, fiber_main, 0);
#endif
    return f;
}

static struct hostsim_fiber *fiber_take()
{
    struct hostsim_fiber *f = sim.free;

    if (f == NULL) {
        return fiber_create();
    }
    sim.free = f->next_free;
    return f;
}

/* ---- who runs ---- */

__attribute__((noreturn, cold)) static void report_deadlock()
{
    for (int i = 0; i < sim.n_warps; i++) {
        const struct hostsim_warp *w = &sim.warps[i];

        fprintf(stderr, "hostsim: warp %d: live %08x, at barrier %08x, %d lanes at %s:%d\n", i,
                w->live, w->at_barrier, w->arrived, w->arrived > 0 ? w->file : "-", w->line);
    }
    hostsim_bug("%s: deadlock, no thread can go on", hostsim_where());
}

struct hostsim_thread *hostsim_next_warp()
{
    const struct hostsim_warp *w;

    if (sim.ready_warps == 0) {
        report_deadlock();
    }
    w = &sim.warps[sim.warp_at[__builtin_ctz(sim.ready_warps)]];
    return w->at[__builtin_ctz(w->ready)];
}

void hostsim_begin(struct hostsim_thread *t)
{
    t->fiber = fiber_take();
}

static inline void not_ready(struct hostsim_thread *t)
{
    t->warp->ready &= ~(1U << t->place);
    if (t->warp->ready == 0) {
        sim.ready_warps &= ~(1U << t->warp->place);
    }
}

/* ---- barriers ---- */

/* A warp may have ended as a whole, as on a GPU; a part of one may not. */
static void check_barrier()
{
    for (int i = 0; i < sim.n_warps; i++) {
        const struct hostsim_warp *w = &sim.warps[i];

        if (w->live != 0 && w->live != 0xffffffffU) {
            const struct hostsim_thread *t = w->at[__builtin_ctz(~w->live)];

            hostsim_bug(
                "%s: barrier under divergence: thread (%u,%u,%u) has ended while its warp is "
                "at __syncthreads (%s:%d)",
                hostsim_where(), t->index.x, t->index.y, t->index.z, sim.barrier_file,
                sim.barrier_line);
        }
    }
}

static void release_barrier()
{
    check_barrier();
    sim.n_at_barrier = 0;
    for (int i = 0; i < sim.n_warps; i++) {
        struct hostsim_warp *w = &sim.warps[i];

        w->at_barrier = 0;
        w->ready = w->live;
        if (w->live != 0) {
            sim.ready_warps |= 1U << w->place;
        }
    }
}

void hostsim_syncthreads(int line, const char *file)
{
    struct hostsim_thread *self = sim.self;
    struct hostsim_warp *w = self->warp;

    if (w->arrived > 0) {
        hostsim_bug("%s: at __syncthreads (%s:%d) while lanes of its warp wait at %s:%d",
                    hostsim_where(), file, line, w->file, w->line);
    }
    if (sim.n_at_barrier == 0) {
        sim.barrier_line = line;
        sim.barrier_file = file;
    } else if (sim.barrier_line != line || !hostsim_same_file(sim.barrier_file, file)) {
        hostsim_bug(
            "%s: barrier under divergence: at __syncthreads %s:%d while others are at %s:%d",
            hostsim_where(), file, line, sim.barrier_file, sim.barrier_line);
    }
    w->at_barrier |= 1U << self->place;
    not_ready(self);
    if (++sim.n_at_barrier == sim.n_live) {
        release_barrier();
    }
    hostsim_yield();
}

/* ---- meetings of a warp ---- */

void hostsim_report_meeting(const struct hostsim_warp *w, int line, const char *file)
{
    if (w->live != 0xffffffffU) {
        hostsim_bug("%s: at %s:%d with a full mask, but lane %d has ended", hostsim_where(), file,
                    line, sim.lane_at[__builtin_ctz(~w->live)]);
    }
    if (w->at_barrier != 0) {
        hostsim_bug("%s: at %s:%d while lane %d waits at __syncthreads (%s:%d)", hostsim_where(),
                    file, line, sim.lane_at[__builtin_ctz(w->at_barrier)], sim.barrier_file,
                    sim.barrier_line);
    }
    hostsim_bug("%s: at %s:%d while other lanes of its warp are at %s:%d", hostsim_where(), file,
                line, w->file, w->line);
}

const uint64_t *hostsim_exchange(unsigned mask, uint64_t value, int line, const char *file)
{
    struct hostsim_warp *w = sim.self->warp;
    uint64_t *values = w->values[w->parity];

    if (mask != 0xffffffffU) {
        hostsim_bug("%s: at %s:%d with mask %08x; only full masks are in the dialect",
                    hostsim_where(), file, line, mask);
    }
    values[sim.self->lane] = value;
    hostsim_leave(w, hostsim_arrive(w, HOSTSIM_EXCHANGE, line, file));
    return values;
}

int hostsim_lane()
{
    return sim.self->lane;
}

struct hostsim_copies *hostsim_copies_get()
{
    return &sim.self->copies;
}

bool hostsim_copy_early()
{
    const enum hostsim_order order = hostsim_config_get()->order;

    return order == HOSTSIM_BACKWARD ||
           (order == HOSTSIM_PERMUTED && (hostsim_random(&sim.seed) & 1) != 0);
}

/* ---- threads and blocks ---- */

/* Returns who runs next; NULL when the block is done. */
static struct hostsim_thread *end_thread(struct hostsim_thread *t)
{
    struct hostsim_warp *w = t->warp;

    t->fiber = NULL;
    t->copies.n = 0;
    t->copies.committed = 0;
    if (w->arrived > 0) {
        hostsim_bug("%s: ended while lanes of its warp wait at %s:%d", hostsim_where(), w->file,
                    w->line);
    }
    not_ready(t);
    w->live &= ~(1U << t->place);
    sim.n_live--;
    if (sim.n_live == 0) {
        return NULL;
    }
    if (sim.n_at_barrier == sim.n_live) {
        release_barrier();
    }
    return hostsim_next(w);
}

/* Runs threads that have not begun, one after the other, as long as it is their turn. */
static void fiber_main()
{
    struct hostsim_fiber *self = sim.self->fiber;

    hostsim_arrived_on(self);
    for (;;) {
        sim.kernel->call(sim.args);
        struct hostsim_thread *next = end_thread(sim.self);

        if (next != NULL && next->fiber == NULL) {
            next->fiber = self;
            hostsim_become(next);
            continue;
        }
        self->next_free = sim.free;
        sim.free = self;
        if (next == NULL) {
            hostsim_switch(&sim.host);
        } else {
            hostsim_become(next);
            hostsim_switch(next->fiber);
        }
    }
}

static void run_block()
{
    for (int i = 0; i < sim.n_warps; i++) {
        struct hostsim_warp *w = &sim.warps[i];

        w->live = w->ready = 0xffffffffU;
        w->at_barrier = 0;
        w->arrived = 0;
    }
    sim.n_live = sim.n_threads;
    sim.n_at_barrier = 0;
    sim.ready_warps = sim.n_warps == 32 ? 0xffffffffU : (1U << sim.n_warps) - 1;
    if (sim.shared_bytes > 0) {
        memset(hostsim_shared, 0xCB, sim.shared_bytes);
    }
    struct hostsim_thread *first = sim.warps[sim.warp_at[0]].at[0];

    hostsim_become(first);
    first->fiber = fiber_take();
    sim.fiber = &sim.host;
    sim.from_host = true;
    hostsim_switch(first->fiber);
}

/* ---- shared memory ---- */

enum {
    SHARED_CAPACITY = 256 << 10,
    SHARED_SLACK = 128,
};

/* Ends at a page that cannot be touched, as nearly as its alignment lets it; what is left between holds a
 * pattern. ASan sees the first byte too much. */
static void shared_begin(size_t bytes)
{
    static unsigned char *pages;

    if (pages == NULL) {
        void *p = mmap(NULL, SHARED_CAPACITY + GUARD_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED || mprotect((char *)p + SHARED_CAPACITY, GUARD_BYTES, PROT_NONE) != 0) {
            hostsim_bug("no memory for shared memory");
        }
        pages = (unsigned char *)p;
    }
    const size_t rounded = (bytes + 127) / 128 * 128;

    hostsim_shared = pages + SHARED_CAPACITY - rounded;
    sim.shared_bytes = bytes;
#if HOSTSIM_ASAN
    ASAN_POISON_MEMORY_REGION(pages, SHARED_CAPACITY);
    ASAN_UNPOISON_MEMORY_REGION(hostsim_shared, bytes);
#else
    memset(hostsim_shared + bytes, 0xEE, rounded - bytes);
    memset(hostsim_shared - SHARED_SLACK, 0xEE, SHARED_SLACK);
#endif
}

static void shared_end()
{
#if !HOSTSIM_ASAN
    const size_t rounded = (sim.shared_bytes + 127) / 128 * 128;

    for (size_t i = sim.shared_bytes; i < rounded; i++) {
        if (hostsim_shared[i] != 0xEE) {
            hostsim_bug("kernel %s wrote byte %zu of %zu of shared memory", sim.kernel->name, i,
                        sim.shared_bytes);
        }
    }
    for (int i = 1; i <= SHARED_SLACK; i++) {
        if (hostsim_shared[-i] != 0xEE) {
            hostsim_bug("kernel %s wrote byte -%d of shared memory", sim.kernel->name, i);
        }
    }
#endif
}

bool hostsim_in_shared(const void *p, size_t bytes)
{
    const size_t offset = (size_t)((const unsigned char *)p - hostsim_shared);

    return offset <= sim.shared_bytes && bytes <= sim.shared_bytes - offset;
}

/* ---- kernels ---- */

static void sequence(int *places, int n)
{
    const enum hostsim_order order = hostsim_config_get()->order;

    for (int i = 0; i < n; i++) {
        places[i] = order == HOSTSIM_BACKWARD ? n - 1 - i : i;
    }
    for (int i = n - 1; i > 0 && order == HOSTSIM_PERMUTED; i--) {
        const int j = (int)(hostsim_random(&sim.seed) % (unsigned)(i + 1));
        const int t = places[i];

        places[i] = places[j];
        places[j] = t;
    }
}

static void prepare_threads(struct dim3 block)
{
    sim.n_threads = (int)(block.x * block.y * block.z);
    sim.n_warps = sim.n_threads / 32;
    sequence(sim.lane_at, 32);
    sequence(sim.warp_at, sim.n_warps);
    for (int i = 0; i < sim.n_warps; i++) {
        sim.warps[sim.warp_at[i]].place = i;
    }
    for (int i = 0; i < sim.n_threads; i++) {
        const unsigned n = (unsigned)i;

        sim.threads[i].index = {n % block.x, n / block.x % block.y, n / block.x / block.y};
        sim.threads[i].warp = &sim.warps[i / 32];
        sim.threads[i].lane = i % 32;
    }
    for (int i = 0; i < sim.n_threads; i++) {
        struct hostsim_thread *t = &sim.threads[i / 32 * 32 + sim.lane_at[i % 32]];

        t->place = i % 32;
        t->warp->at[t->place] = t;
    }
}

/* ---- crashes say which thread it was ---- */

static void say_where()
{
    if (sim.kernel != NULL) {
        fprintf(stderr, "hostsim: %s: crashed\n", hostsim_where());
    }
}

#if HOSTSIM_ASAN
static void watch_crashes()
{
    static bool watching;

    if (!watching) {
        __sanitizer_set_death_callback(say_where);
        watching = true;
    }
}
#else
/* On a stack of its own: a thread's may be what overflowed. The second time nobody catches it. */
static void on_crash(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)context;
    say_where();
    hostsim_memory_describe(info->si_addr);
}

static void watch_crashes()
{
    static thread_local char *stack;
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE};

    if (stack != NULL) {
        return;
    }
    stack = (char *)malloc(CRASH_STACK_BYTES);
    stack_t alternative = {};

    alternative.ss_sp = stack;
    alternative.ss_size = CRASH_STACK_BYTES;
    if (stack == NULL || sigaltstack(&alternative, NULL) != 0) {
        return;
    }
    for (const int signal_number : signals) {
        struct sigaction action = {}, before;

        action.sa_sigaction = on_crash;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND;
        if (sigaction(signal_number, NULL, &before) == 0 && before.sa_handler == SIG_DFL) {
            sigaction(signal_number, &action, NULL);
        }
    }
}
#endif

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b != 0) {
        const uint64_t r = a % b;

        a = b;
        b = r;
    }
    return a;
}

void hostsim_run_kernel(const struct hostsim_kernel *kernel, const void *args, uint64_t number)
{
    const enum hostsim_order order = hostsim_config_get()->order;
    const uint64_t n = (uint64_t)kernel->grid.x * kernel->grid.y * kernel->grid.z;
    uint64_t step = 1, at = 0;

    watch_crashes();
    sim.kernel = kernel;
    sim.args = args;
    sim.seed = number;
    blockDim = kernel->block;
    gridDim = kernel->grid;
    prepare_threads(kernel->block);
    shared_begin(kernel->shared);
    if (order == HOSTSIM_BACKWARD) {
        at = n - 1;
        step = n - 1;
    } else if (order == HOSTSIM_PERMUTED) {
        at = hostsim_random(&sim.seed) % n;
        do { /* a step that has no common divisor with n comes by every block */
            step = 1 + hostsim_random(&sim.seed) % n;
        } while (gcd(step, n) != 1);
    }
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t plane = at / kernel->grid.x;

        blockIdx = {(unsigned)(at % kernel->grid.x), (unsigned)(plane % kernel->grid.y),
                    (unsigned)(plane / kernel->grid.y)};
        run_block();
        at = (at + step) % n;
    }
    shared_end();
    sim.kernel = NULL;
}
