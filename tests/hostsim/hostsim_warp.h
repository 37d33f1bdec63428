/*
 * hostsim_warp.h - threads, warps and what they do at every meeting, inline: most of a simulation's time is
 * spent going from one lane to the next.
 */
#ifndef TESTS_HOSTSIM_HOSTSIM_WARP_H
#define TESTS_HOSTSIM_HOSTSIM_WARP_H

#include "tests/hostsim/hostsim_sim.h"

#if HOSTSIM_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__x86_64__) && !defined(HOSTSIM_UCONTEXT)
#define HOSTSIM_ASM 1
#else
#define HOSTSIM_ASM 0
#include <ucontext.h>
#endif

struct hostsim_fiber {
#if HOSTSIM_ASM
    void *sp;
#else
    ucontext_t context;
#endif
    struct hostsim_fiber *next_free;
    const void *bottom; /* of the stack */
    size_t size;
    void *fake_stack; /* ASan's */
};

/* Where the lanes put what they give to ldmatrix and mma, each in places of its own, and find what they get. */
struct hostsim_tiles {
    alignas(64) uint32_t a[16][8]; /* bf16 pairs [m][k / 2] */
    uint32_t b[8][8];              /* [k / 2][n] */
    float d[16][8];
    const uint16_t *rows[32]; /* by lane */
    uint32_t loaded[32][4];
};

struct hostsim_warp {
    uint32_t live, ready; /* by place in the sequence, not by lane */
    uint32_t at_barrier;
    int arrived; /* in the operation below */
    enum hostsim_op op;
    int line;
    const char *file;
    int place; /* in the sequence of warps */
    int parity;
    struct hostsim_thread *at[32]; /* by place */
    uint64_t values[2][32]; /* by lane; the other half while slow lanes still read the first */
    struct hostsim_tiles tiles;
};

struct hostsim_thread {
    struct hostsim_fiber *fiber; /* NULL: not begun */
    struct hostsim_warp *warp;
    struct uint3 index;
    int lane, place;
    struct hostsim_copies copies;
};

struct __attribute__((visibility("hidden"))) hostsim_sim {
    const struct hostsim_kernel *kernel; /* NULL: none runs */
    const void *args;
    struct hostsim_thread *self;
    struct hostsim_fiber *fiber; /* the running one */
    struct hostsim_fiber host;
    struct hostsim_fiber *free;
    bool from_host;
    int n_threads, n_warps, n_live, n_at_barrier;
    uint32_t ready_warps; /* by place */
    int barrier_line;
    const char *barrier_file;
    int lane_at[32], warp_at[32]; /* by place */
    uint64_t seed;
    size_t shared_bytes, shared_capacity;
    struct hostsim_warp warps[32];
    struct hostsim_thread threads[HOSTSIM_MAX_THREADS];
};
extern __attribute__((visibility("hidden"))) struct hostsim_sim sim;

/* ---- hostsim_fibers.cc ---- */

/* Who runs next when no lane of the running warp can: stops the program if nobody. */
struct hostsim_thread *hostsim_next_warp();
/* Gives a thread a stack. */
void hostsim_begin(struct hostsim_thread *t);
__attribute__((noreturn, cold)) void hostsim_report_meeting(const struct hostsim_warp *w, int line,
                                                            const char *file);

/* ---- the switch ---- */

/* ASan has to know which stack it is on. */
static inline void hostsim_arrived_on(struct hostsim_fiber *self)
{
#if HOSTSIM_ASAN
    const void *bottom;
    size_t size;

    __sanitizer_finish_switch_fiber(self->fake_stack, &bottom, &size);
    if (sim.from_host) {
        sim.host.bottom = bottom;
        sim.host.size = size;
    }
#endif
    sim.from_host = false;
    sim.fiber = self;
}

#if HOSTSIM_ASM
#ifdef __AVX512F__
#define HOSTSIM_AVX512_REGISTERS                                                                   \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",    \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6",  \
        "k7"
#else
#define HOSTSIM_AVX512_REGISTERS
#endif

/* Leaves the place to go on at on the stack, and goes where `to` did the same. All other registers are the
 * compiler's to save. It may use 128 bytes below the stack. */
static inline __attribute__((always_inline)) void hostsim_swap_stacks(void **from, void *to)
{
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\t"
                     "pushq %%rbp\n\t"
                     "pushq %%rbx\n\t"
                     "leaq 1f(%%rip), %%rcx\n\t"
                     "pushq %%rcx\n\t"
                     "movq %%rsp, (%%rdi)\n\t"
                     "movq %%rsi, %%rsp\n\t"
                     "popq %%rcx\n\t"
                     "jmp *%%rcx\n"
                     "1:\n\t"
                     "popq %%rbx\n\t"
                     "popq %%rbp\n\t"
                     "leaq 128(%%rsp), %%rsp"
                     : "+D"(from), "+S"(to)
                     :
                     : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                       "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15" HOSTSIM_AVX512_REGISTERS);
}
#endif

static inline void hostsim_switch(struct hostsim_fiber *to)
{
    struct hostsim_fiber *from = sim.fiber;

#if HOSTSIM_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->size);
#endif
#if HOSTSIM_ASM
    hostsim_swap_stacks(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
    hostsim_arrived_on(from);
}

/* ---- who runs ---- */

static inline struct hostsim_thread *hostsim_next(const struct hostsim_warp *w)
{
    return w->ready == 0 ? hostsim_next_warp() : w->at[__builtin_ctz(w->ready)];
}

static inline void hostsim_become(struct hostsim_thread *t)
{
    sim.self = t;
    threadIdx = t->index;
}

/* Lets another thread run, if one comes before this one. */
static inline void hostsim_yield()
{
    const struct hostsim_thread *self = sim.self;
    struct hostsim_thread *next = hostsim_next(self->warp);

    if (next == self) {
        return;
    }
    hostsim_become(next);
    if (next->fiber == NULL) {
        hostsim_begin(next);
    }
    hostsim_switch(next->fiber);
}

/* ---- meetings of a warp ---- */

static inline bool hostsim_same_file(const char *a, const char *b)
{
    return a == b || strcmp(a, b) == 0;
}

/* A warp's lanes meet: the first part returns true in the lane that came last, which then does the operation
 * for all, and every lane ends with the second part. */
static inline bool hostsim_arrive(struct hostsim_warp *w, enum hostsim_op op, int line,
                                  const char *file)
{
    if (w->arrived == 0) {
        w->op = op;
        w->line = line;
        w->file = file;
    }
    if (w->live != 0xffffffffU || w->at_barrier != 0 || w->op != op || w->line != line ||
        !hostsim_same_file(w->file, file)) {
        hostsim_report_meeting(w, line, file);
    }
    w->ready &= ~(1U << sim.self->place);
    return ++w->arrived == 32;
}

static inline void hostsim_leave(struct hostsim_warp *w, bool last)
{
    if (last) {
        w->arrived = 0;
        w->parity ^= 1;
        w->ready = 0xffffffffU;
    }
    hostsim_yield();
}

#endif
