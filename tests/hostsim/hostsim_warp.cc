/*
 * Tensor cores, ldmatrix and cp.async, with the lane maps of the PTX manual. What a warp does together is
 * computed once, by the lane that comes last.
 */
#include <stdlib.h>

#include "tests/hostsim/hostsim_sim.h"

typedef float row8 __attribute__((vector_size(32)));

/* The halves of a register, the first in the lower one, as floats. */
static inline float bf16_lo(uint32_t u)
{
    return __uint_as_float(u << 16);
}

static inline float bf16_hi(uint32_t u)
{
    return __uint_as_float(u & 0xffff0000U);
}

/* mma.m16n8k16: lane l = 4 g + t, see mma_bf16() in kernels/cuda_kernel.cuh. */
__attribute__((optimize("O3"))) static void mma_m16n8k16(const struct hostsim_slot *slots)
{
    float a[16][16];
    alignas(32) float b[16][8];
    alignas(32) float d[16][8];

    for (int lane = 0; lane < 32; lane++) {
        const uint32_t *ra = (const uint32_t *)slots[lane].a;
        const uint32_t *rb = (const uint32_t *)slots[lane].b;
        const float *rd = (const float *)slots[lane].to;
        const int g = lane / 4;
        const int t = lane % 4;

        for (int i = 0; i < 4; i++) {
            float *at = &a[g + 8 * (i % 2)][2 * t + 8 * (i / 2)];

            at[0] = bf16_lo(ra[i]);
            at[1] = bf16_hi(ra[i]);
            d[g + 8 * (i / 2)][2 * t + i % 2] = rd[i];
        }
        for (int i = 0; i < 2; i++) {
            b[2 * t + 8 * i][g] = bf16_lo(rb[i]);
            b[2 * t + 8 * i + 1][g] = bf16_hi(rb[i]);
        }
    }
    for (int m = 0; m < 16; m++) {
        row8 sum = *(const row8 *)d[m];

        for (int k = 0; k < 16; k++) {
            sum += a[m][k] * *(const row8 *)b[k];
        }
        *(row8 *)d[m] = sum;
    }
    for (int lane = 0; lane < 32; lane++) {
        float *rd = (float *)slots[lane].to;

        for (int i = 0; i < 4; i++) {
            rd[i] = d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
        }
    }
}

void hostsim_mma_bf16(float *d, const uint32_t *a, const uint32_t *b, int line, const char *file)
{
    struct hostsim_slot *slots = hostsim_slots();

    slots[hostsim_lane()] = {d, a, b};
    const bool last = hostsim_arrive(HOSTSIM_MMA, line, file);

    if (last) {
        mma_m16n8k16(slots);
    }
    hostsim_leave(last);
}

/* Lane l has of matrix i the elements [l / 4][2 (l % 4)] and the one right of it; of its transpose when
 * `trans`. */
static void ldmatrix(const struct hostsim_slot *slots, bool trans)
{
    for (int i = 0; i < 4; i++) {
        uint16_t rows[8][8];

        for (int r = 0; r < 8; r++) {
            memcpy(rows[r], slots[8 * i + r].a, 16);
        }
        for (int lane = 0; lane < 32; lane++) {
            const int g = lane / 4;
            const int t = 2 * (lane % 4);
            const uint32_t lo = trans ? rows[t][g] : rows[g][t];
            const uint32_t hi = trans ? rows[t + 1][g] : rows[g][t + 1];

            ((uint32_t *)slots[lane].to)[i] = lo | hi << 16;
        }
    }
}

static void check_shared(const char *what, const void *p, int line, const char *file)
{
    if (!hostsim_in_shared(p, 16)) {
        hostsim_bug("%s: %s at %s:%d: not 16 bytes of the block's shared memory (offset %td)",
                    hostsim_where(), what, file, line, (const unsigned char *)p - hostsim_shared);
    }
    if ((uintptr_t)p % 16 != 0) {
        hostsim_bug("%s: %s at %s:%d: misaligned shared memory (offset %td)", hostsim_where(), what,
                    file, line, (const unsigned char *)p - hostsim_shared);
    }
}

void hostsim_ldmatrix_x4(uint32_t *r, const void *shared, bool trans, int line, const char *file)
{
    struct hostsim_slot *slots = hostsim_slots();

    check_shared("ldmatrix", shared, line, file);
    slots[hostsim_lane()] = {r, shared, NULL};
    const bool last = hostsim_arrive(trans ? HOSTSIM_LDMATRIX_TRANS : HOSTSIM_LDMATRIX, line, file);

    if (last) {
        ldmatrix(slots, trans);
    }
    hostsim_leave(last);
}

/* ---- cp.async: at the wait that covers its group, or at once, as the order says; both are allowed ---- */

static void copy_now(const struct hostsim_copy *c)
{
    if (c->valid) {
        memcpy(c->to, c->from, 16);
    } else {
        memset(c->to, 0, 16);
    }
}

void hostsim_cp_async_16(void *shared, const void *from, bool valid, int line, const char *file)
{
    struct hostsim_copies *copies = hostsim_copies_get();
    const struct hostsim_copy copy = {shared, from, valid, copies->committed};

    check_shared("cp.async", shared, line, file);
    if ((uintptr_t)from % 16 != 0 || hostsim_in_shared(from, 1)) {
        hostsim_bug("%s: cp.async at %s:%d: source %p is misaligned or in shared memory",
                    hostsim_where(), file, line, from);
    }
    if (hostsim_copy_early()) {
        copy_now(&copy);
        return;
    }
    if (copies->n == copies->capacity) {
        copies->capacity = copies->capacity == 0 ? 16 : 2 * copies->capacity;
        copies->list = (struct hostsim_copy *)realloc(copies->list, (size_t)copies->capacity *
                                                                        sizeof(*copies->list));
        if (copies->list == NULL) {
            hostsim_bug("no memory");
        }
    }
    copies->list[copies->n++] = copy;
}

void hostsim_cp_async_commit()
{
    hostsim_copies_get()->committed++;
}

void hostsim_cp_async_wait(int n)
{
    struct hostsim_copies *copies = hostsim_copies_get();
    int done = 0;

    while (done < copies->n && copies->list[done].group < copies->committed - n) {
        copy_now(&copies->list[done++]);
    }
    copies->n -= done;
    if (done > 0) {
        memmove(copies->list, copies->list + done, (size_t)copies->n * sizeof(*copies->list));
    }
}
