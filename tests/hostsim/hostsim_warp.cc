/*
 * Tensor cores, ldmatrix and cp.async, with the lane maps of the PTX manual. What a warp does together is
 * computed once, by the lane that comes last.
 */
#include <stdlib.h>

#include "tests/hostsim/hostsim_warp.h"

typedef float row8 __attribute__((vector_size(32)));
typedef uint32_t pairs8 __attribute__((vector_size(32)));

/* d += a b: m16n8k16. A product of two bf16 is exact, so it does not matter if the compiler fuses it. */
__attribute__((optimize("O3", "fp-contract=fast"), no_sanitize("address", "undefined"))) static void
multiply(struct hostsim_tiles *tiles)
{
    alignas(32) float a[16][2][8];
    row8 b[2][8];

    for (int k = 0; k < 8; k++) {
        const pairs8 pair = *(const pairs8 *)tiles->b[k];

        b[0][k] = (row8)(pair << 16);
        b[1][k] = (row8)(pair & 0xffff0000U);
    }
    for (int m = 0; m < 16; m++) {
        const pairs8 pair = *(const pairs8 *)tiles->a[m];

        *(row8 *)a[m][0] = (row8)(pair << 16);
        *(row8 *)a[m][1] = (row8)(pair & 0xffff0000U);
    }
    for (int m = 0; m < 16; m += 4) {
        row8 sums[4];

        for (int i = 0; i < 4; i++) {
            sums[i] = *(const row8 *)tiles->d[m + i];
        }
        for (int k = 0; k < 8; k++) {
            for (int i = 0; i < 4; i++) {
                sums[i] += a[m + i][0][k] * b[0][k];
                sums[i] += a[m + i][1][k] * b[1][k];
            }
        }
        for (int i = 0; i < 4; i++) {
            *(row8 *)tiles->d[m + i] = sums[i];
        }
    }
}

/* Lane l = 4 g + t, see mma_bf16() in kernels/cuda_kernel.cuh. */
void hostsim_mma_bf16(float *d, const uint32_t *a, const uint32_t *b, int line, const char *file)
{
    struct hostsim_warp *w = sim.self->warp;
    struct hostsim_tiles *tiles = &w->tiles;
    const int g = sim.self->lane / 4;
    const int t = sim.self->lane % 4;
    float *upper = &tiles->d[g][2 * t];
    float *lower = &tiles->d[g + 8][2 * t];

    tiles->a[g][t] = a[0];
    tiles->a[g + 8][t] = a[1];
    tiles->a[g][t + 4] = a[2];
    tiles->a[g + 8][t + 4] = a[3];
    tiles->b[t][g] = b[0];
    tiles->b[t + 4][g] = b[1];
    memcpy(upper, d, 8);
    memcpy(lower, d + 2, 8);
    const bool last = hostsim_arrive(w, HOSTSIM_MMA, line, file);

    if (last) {
        multiply(tiles);
    }
    hostsim_leave(w, last);
    memcpy(d, upper, 8);
    memcpy(d + 2, lower, 8);
}

/* Lane l has of matrix i the elements [l / 4][2 (l % 4)] and the one right of it; of its transpose when
 * `trans`. */
static void load_matrices(struct hostsim_tiles *tiles, bool trans)
{
    for (int i = 0; i < 4; i++) {
        const uint16_t *const *rows = tiles->rows + 8 * i;

        for (int lane = 0; lane < 32; lane++) {
            const int g = lane / 4;
            const int t = 2 * (lane % 4);
            const uint32_t lo = trans ? rows[t][g] : rows[g][t];
            const uint32_t hi = trans ? rows[t + 1][g] : rows[g][t + 1];

            tiles->loaded[lane][i] = lo | hi << 16;
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
    struct hostsim_warp *w = sim.self->warp;
    const int lane = sim.self->lane;

    check_shared("ldmatrix", shared, line, file);
    w->tiles.rows[lane] = (const uint16_t *)shared;
    const bool last =
        hostsim_arrive(w, trans ? HOSTSIM_LDMATRIX_TRANS : HOSTSIM_LDMATRIX, line, file);

    if (last) {
        load_matrices(&w->tiles, trans);
    }
    hostsim_leave(w, last);
    memcpy(r, w->tiles.loaded[lane], 16);
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
