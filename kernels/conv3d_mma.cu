/*
 * Implicit GEMM on the tensor cores: 16 x 16 output pixels of a frame by BN channels, 32 input channels of
 * one tap at a time ("step").
 *
 * What the pixels of a tile read of 32 channels of a frame is a patch: 18 x 18 cells of 64 bytes for a
 * 3 x 3 kernel. It is brought to shared memory once; the taps are shifted views of it, which costs
 * nothing, as each lane gives ldmatrix its own address. So a pixel is read 1.27 times per tap over time
 * and not 9 times, and only the loading of patches has to do with padding, reflection, doubling of pixels
 * and the seam between history and x. With a stride, or for large kernels, each tap has a patch of its own, of
 * 16 x 16 cells.
 *
 * A block has four warps; a warp has four rows of 16 pixels and all BN channels. That needs 5 KiB of
 * shared memory reads for 64 x 96 x 16 products, half of what the tensor cores leave time for, and 192 of
 * the 255 registers for sums. Two blocks share a multiprocessor, so that one computes while the other
 * waits at its barrier. Small frames take blocks of 48 channels, which are twice as many. L2 has to bring 6 KiB of weights and 2.3 KiB of pixels per step and block.
 *
 * Patches and weights are rings in shared memory; what a step needs was asked for three steps before. A
 * cell of 64 bytes has its four pieces of 16 bytes permuted by the cell's number (cell_at), so that eight
 * neighbouring cells lie in different banks wherever they begin.
 *
 * The order of the sums - over time, patches, channels by 32, taps, then mma's - depends on the kernel and
 * the number of channels only. Taps over zero frames add nothing and are left out.
 *
 * Wan 2.1 at 480 x 832, one latent frame: 13.5 TFLOP, floor 17 ms (mma.sync has 60 % of the tensor cores'
 * speed on Hopper: 28 ms), target 41 ms = 330 TFLOP/s. conv_out (3 channels): 16 are computed; bound by
 * the reads of shared memory, 0.1 ms per picture.
 */
#include "kernels/conv3d.h"

#include "kernels/conv3d_gpu.cuh"

enum {
    TILE = 16, /* pixels in a row and a column */
    WARPS = 4,
    THREADS = WARPS * 32,
    ROWS = TILE / WARPS, /* of pixels, per warp */
    DEPTH = 32,          /* channels of a step */
    PIECE = 8,           /* channels of 16 bytes */
    PIECES = DEPTH / PIECE,
    CELL_BYTES = DEPTH * 2,
    STAGES = 4,
    MAX_KERNEL = 7 /* of those whose taps share a patch */
};

struct conv3d_plan {
    struct conv3d_gpu c;
    int groups;        /* patches per frame and 32 channels: 1, or one per tap */
    int taps;          /* that share a patch */
    int pitch, cells;  /* of a patch */
    uint32_t inverse;  /* 2^16 / pitch, rounded up */
    int patches;       /* in the ring */
    int chunks;        /* of 32 channels */
    int64_t kernel;    /* weights of an output channel */
    int rows, columns; /* entries of the tables */
    int tiles_y, tiles_x, tiles_n;
};

struct conv3d_tile {
    int64_t t;
    int i0, j0, n0; /* first row, column, channel */
};

/* Where a block's things are in its shared memory. What all threads know is there too, as sums leave few
 * registers. */
struct conv3d_shared {
    unsigned char *patches, *weights;
    struct conv3d_tile *tile;
    int *rows,
        *columns; /* stored row and column behind each padded one that the tile sees, or -1 */
    int *shifts;  /* of the patch, in cells, for each tap that shares it */
};

/* The step to load next. */
struct conv3d_step {
    int number;
    int group; /* counted over all frames of the kernel */
    int chunk;
    int tap;   /* in the group */
    int patch; /* of the ring */
};

template <int BN> struct conv3d_sums {
    float at[ROWS][BN / 8][4];
};

/* Byte of a piece in a patch or in a stage of weights. */
static __device__ __forceinline__ int cell_at(int cell, int piece)
{
    return cell * CELL_BYTES + ((piece ^ (cell >> 1 & 3)) << 4);
}

/* Channels `first` .. + 7 of a row of numbers; those from ci on, and all without a row, are zeros. */
static __device__ __forceinline__ void put_piece(unsigned char *to, const void *row, bool f32,
                                                 int first, int ci)
{
    for (int k = 0; k < PIECE; k++) {
        struct bf16 v = {0};

        if (row && first + k < ci) {
            v = f32 ? float_to_bf16(((const float *)row)[first + k])
                    : ((const struct bf16 *)row)[first + k];
        }
        ((struct bf16 *)to)[k] = v;
    }
}

/* The patch of a step's group and chunk. */
template <bool ALIGNED>
static __device__ __forceinline__ void load_patch(const struct conv3d_plan &p,
                                                  const struct conv3d_shared &shared,
                                                  const struct conv3d_step &step)
{
    const struct conv3d_gpu &c = p.c;
    const int a = step.group / p.groups;
    const int tap = step.group - a * p.groups; /* 0 where all share a patch */
    const int *rows = shared.rows + tap / c.kw;
    const int *columns = shared.columns + tap % c.kw;
    const struct conv3d_frame frame = conv3d_frame_at(c, shared.tile->t * c.stride_t + a);
    unsigned char *patch = shared.patches + step.patch * p.cells * CELL_BYTES;

#pragma unroll 2
    for (int i = (int)threadIdx.x; i < p.cells * PIECES; i += THREADS) {
        const int cell = i / PIECES;
        const int channel = step.chunk * DEPTH + i % PIECES * PIECE;
        const int r = (int)((uint32_t)cell * p.inverse >> 16);
        const int row = rows[r * c.stride_s];
        const int column = columns[(cell - r * p.pitch) * c.stride_s];
        const bool there = row >= 0 && column >= 0;
        const int64_t at = there ? ((int64_t)row * c.w_in + column) * c.ci : 0;
        unsigned char *to = patch + cell_at(cell, i % PIECES);

        if (ALIGNED) {
            cp_async_16(to, (const struct bf16 *)frame.at + at + channel, there && channel < c.ci);
        } else {
            put_piece(to, there ? (const char *)frame.at + at * (frame.f32 ? 4 : 2) : NULL,
                      frame.f32, channel, c.ci);
        }
    }
    __syncwarp(); /* half a warp may go round once more; ldmatrix wants it together */
}

template <int BN, bool ALIGNED>
static __device__ __forceinline__ void load_weights(const struct conv3d_plan &p,
                                                    const struct conv3d_shared &shared,
                                                    const struct conv3d_step &step)
{
    const struct conv3d_gpu &c = p.c;
    const int row = (int)threadIdx.x / PIECES; /* and every 32nd from it on */
    const int piece = (int)threadIdx.x % PIECES;
    const int channel = step.chunk * DEPTH + piece * PIECE;
    const struct bf16 *from = (const struct bf16 *)c.w + (shared.tile->n0 + row) * p.kernel +
                              ((int64_t)step.group * p.taps + step.tap) * c.ci;
    const int rows = c.co - shared.tile->n0;
    unsigned char *to =
        shared.weights + step.number % STAGES * BN * CELL_BYTES + cell_at(row, piece);

#pragma unroll
    for (int first = 0; first < BN; first += THREADS / PIECES) {
        const bool there = first + row < rows;

        if (first + row >= BN) {
            break;
        }
        if (ALIGNED) {
            cp_async_16(to + first * CELL_BYTES, from + first * p.kernel + channel,
                        there && channel < c.ci);
        } else {
            put_piece(to + first * CELL_BYTES, there ? from + first * p.kernel : NULL, false,
                      channel, c.ci);
        }
    }
}

/* Asks for what the step reads, and goes to the next one. The patch comes with its first tap. */
template <int BN, bool ALIGNED>
static __device__ __forceinline__ void load_step(const struct conv3d_plan &p,
                                                 const struct conv3d_shared &shared, int steps,
                                                 struct conv3d_step *step)
{
    if (step->number < steps) {
        if (step->tap == 0) {
            load_patch<ALIGNED>(p, shared, *step);
        }
        load_weights<BN, ALIGNED>(p, shared, *step);
        if (++step->tap == p.taps) {
            step->tap = 0;
            step->patch = step->patch + 1 == p.patches ? 0 : step->patch + 1;
            if (++step->chunk == p.chunks) {
                step->chunk = 0;
                step->group++;
            }
        }
    }
    step->number++;
    cp_async_commit();
}

/* A step's products. cell: of this lane's pixel in the warp's first row, under the tap. */
template <int BN>
static __device__ __forceinline__ void multiply(struct conv3d_sums<BN> *sums,
                                                const unsigned char *patch,
                                                const unsigned char *weights, int cell, int pitch)
{
    const int lane = (int)threadIdx.x % 32;
    const int row = lane % 8 + lane / 16 * 8; /* of weights */

#pragma unroll
    for (int half = 0; half < DEPTH / 16; half++) {
        uint32_t a[ROWS][4];

#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            ldmatrix_x4(a[r], patch + cell_at(cell + r * pitch, half * 2 + lane / 16));
        }
#pragma unroll
        for (int n = 0; n < BN / 16; n++) {
            uint32_t b[4];

            ldmatrix_x4(b, weights + n * 16 * CELL_BYTES + cell_at(row, half * 2 + lane / 8 % 2));
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                mma_bf16(sums->at[r][2 * n], a[r], b);
                mma_bf16(sums->at[r][2 * n + 1], a[r], b + 2);
            }
        }
    }
}

/* All steps of a tile. */
template <int BN, bool ALIGNED>
static __device__ __forceinline__ void sum_up(const struct conv3d_plan &p,
                                              const struct conv3d_shared &shared,
                                              struct conv3d_sums<BN> *sums)
{
    const int first = conv3d_first_tap(p.c, shared.tile->t);
    const int steps = (p.c.kt - first) * p.groups * p.chunks * p.taps;
    const int row = (int)threadIdx.x / 32 * ROWS; /* the warp's first */
    const bool idle = shared.tile->i0 + row >= p.c.ho;
    const int cell = row * p.pitch + (int)threadIdx.x % TILE;
    struct conv3d_step next = {0, first * p.groups, 0, 0, 0};
    int tap = 0;
    int patch = 0;

#pragma unroll 1
    for (int s = 0; s < STAGES - 1; s++) {
        load_step<BN, ALIGNED>(p, shared, steps, &next);
    }
#pragma unroll 1
    for (int s = 0; s < steps; s++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); /* and the ring's oldest stage has been read by all */
        load_step<BN, ALIGNED>(p, shared, steps, &next);
        if (!idle) {
            multiply<BN>(sums, shared.patches + patch * p.cells * CELL_BYTES,
                         shared.weights + s % STAGES * BN * CELL_BYTES, cell + shared.shifts[tap],
                         p.pitch);
        }
        if (++tap == p.taps) {
            tap = 0;
            patch = patch + 1 == p.patches ? 0 : patch + 1;
        }
    }
    cp_async_wait<0>();
    __syncthreads();
}

/* Sums go through shared memory, a row of pixels at a time, to be written in whole lines. */
template <int BN, typename Y>
static __device__ __forceinline__ void write_tile(const struct conv3d_gpu &c, float *buffer,
                                                  const struct conv3d_tile &tile,
                                                  const struct conv3d_sums<BN> &sums)
{
    enum {
        PITCH = BN + 8, /* a quarter of the banks on: 8-byte stores do not collide */
        FOURS = BN / 4
    };
    const int lane = (int)threadIdx.x % 32;
    const int warp = (int)threadIdx.x / 32;
    float *mine = buffer + warp * TILE * PITCH;

#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int i = tile.i0 + warp * ROWS + r;

#pragma unroll
        for (int n = 0; n < BN / 8; n++) {
            float *to = mine + lane / 4 * PITCH + n * 8 + lane % 4 * 2;
            const struct pack<float, 2> upper = {
                {
                    sums.at[r][n][0], sums.at[r][n][1]
                }
            };
            const struct pack<float, 2> lower = {
                {
                    sums.at[r][n][2], sums.at[r][n][3]
                }
            };

            store_pack<2>(to, upper);
            store_pack<2>(to + 8 * PITCH, lower);
        }
        __syncwarp();
#pragma unroll 1
        for (int k = lane; k < TILE * FOURS; k += 32) {
            const int j = tile.j0 + k / FOURS;
            const int o = tile.n0 + k % FOURS * 4;

            if (i < c.ho && j < c.wo && o < c.co) {
                conv3d_store<Y>(c, (tile.t * c.ho + i) * c.wo + j, o,
                                load_pack<4>(mine + k / FOURS * PITCH + k % FOURS * 4));
            }
        }
        __syncwarp();
    }
}

/* Blocks of the same pixels follow each other: what they read is in L2. */
template <int BN>
static __device__ __forceinline__ void set_tile(const struct conv3d_plan &p,
                                                struct conv3d_tile *tile)
{
    const int per_frame = p.tiles_y * p.tiles_x;
    const int pixels = (int)blockIdx.x / p.tiles_n;

    tile->n0 = ((int)blockIdx.x - pixels * p.tiles_n) * BN;
    tile->t = pixels / per_frame;
    tile->i0 = pixels % per_frame / p.tiles_x * TILE;
    tile->j0 = pixels % per_frame % p.tiles_x * TILE;
}

static __device__ __forceinline__ void fill_tables(const struct conv3d_plan &p,
                                                   const struct conv3d_shared &shared)
{
    const int i0 = shared.tile->i0 * p.c.stride_s;
    const int j0 = shared.tile->j0 * p.c.stride_s;

    for (int i = (int)threadIdx.x; i < p.rows; i += THREADS) {
        shared.rows[i] = conv3d_source_row(p.c, i0 + i);
    }
    for (int i = (int)threadIdx.x; i < p.columns; i += THREADS) {
        shared.columns[i] = conv3d_source_column(p.c, j0 + i);
    }
    for (int i = (int)threadIdx.x; i < p.taps; i += THREADS) {
        shared.shifts[i] = i / p.c.kw * p.pitch + i % p.c.kw;
    }
}

template <int BN, typename Y, bool ALIGNED, int BLOCKS>
static __global__ void __launch_bounds__(THREADS, BLOCKS)
    conv3d_mma_kernel(const struct conv3d_plan p)
{
    CUDA_SHARED(memory);
    struct conv3d_sums<BN> sums = {
    };
    struct conv3d_shared shared;

    shared.patches = memory;
    shared.weights = shared.patches + p.patches * p.cells * CELL_BYTES;
    shared.tile = (struct conv3d_tile *)(shared.weights + STAGES * BN * CELL_BYTES);
    shared.rows = (int *)(shared.tile + 1);
    shared.columns = shared.rows + p.rows;
    shared.shifts = shared.columns + p.columns;
    if (threadIdx.x == 0) {
        set_tile<BN>(p, shared.tile);
    }
    __syncthreads();
    fill_tables(p, shared);
    __syncthreads();
    sum_up<BN, ALIGNED>(p, shared, &sums);
    write_tile<BN, Y>(p.c, (float *)memory, *shared.tile, sums);
}

/* Slots of the ring of patches, so that a slot is filled again only when its last tap is done: a patch of
 * n taps is asked for STAGES - 1 steps before it is needed. */
static int ring_size(int taps)
{
    return (STAGES + taps - 2) / taps + 1;
}

static struct conv3d_plan plan_of(const struct conv3d_gpu *c)
{
    const bool shares = c->stride_s == 1 && c->kh <= MAX_KERNEL && c->kw <= MAX_KERNEL;
    struct conv3d_plan p = {};

    p.c = *c;
    p.taps = shares ? c->kh * c->kw : 1;
    p.groups = shares ? 1 : c->kh * c->kw;
    p.pitch = shares ? TILE + c->kw - 1 : TILE;
    p.cells = p.pitch * (shares ? TILE + c->kh - 1 : TILE);
    p.inverse = (uint32_t)div_ceil(1 << 16, p.pitch);
    p.patches = ring_size(p.taps);
    p.chunks = (int)div_ceil(c->ci, DEPTH);
    p.kernel = (int64_t)c->kt * c->kh * c->kw * c->ci;
    p.rows = (TILE - 1) * c->stride_s + c->kh;
    p.columns = (TILE - 1) * c->stride_s + c->kw;
    p.tiles_y = (int)div_ceil(c->ho, TILE);
    p.tiles_x = (int)div_ceil(c->wo, TILE);
    return p;
}

template <int BN, typename Y, bool ALIGNED, int BLOCKS>
static int launch(struct device *dev, const struct conv3d_gpu *c, struct err *err)
{
    struct conv3d_plan p = plan_of(c);
    const size_t shared = (size_t)(p.patches * p.cells + STAGES * BN) * CELL_BYTES +
                          sizeof(struct conv3d_tile) +
                          (size_t)(p.rows + p.columns + p.taps) * sizeof(int);
    unsigned blocks = 0;
    int rc;

    p.tiles_n = (int)div_ceil(c->co, BN);
    rc = conv3d_grid(c->frames * p.tiles_y * p.tiles_x * p.tiles_n, &blocks, err);
    if (rc == ERR_OK) {
        rc = cuda_allow_shared((const void *)conv3d_mma_kernel<BN, Y, ALIGNED, BLOCKS>, shared,
                               "conv3d", err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    CUDA_LAUNCH((conv3d_mma_kernel<BN, Y, ALIGNED, BLOCKS>), blocks, THREADS, shared,
                cuda_stream(dev), p);
    return cuda_launched(dev, "conv3d", err);
}

/* Can cells and weights be copied by 16 bytes? */
static bool aligned(const struct conv3d_gpu *c)
{
    return c->ci % PIECE == 0 && !c->x_f32 && !(c->history && c->history_f32) &&
           (uintptr_t)c->x % 16 == 0 && (uintptr_t)c->history % 16 == 0 &&
           (uintptr_t)c->w % 16 == 0;
}

/* Blocks of 96 channels, too few to give each multiprocessor its two? */
static bool is_small(const struct device *dev, const struct conv3d_gpu *c)
{
    const int64_t blocks =
        c->frames * div_ceil(c->ho, TILE) * div_ceil(c->wo, TILE) * div_ceil(c->co, 96);

    return blocks < 2 * (int64_t)cuda_multiprocessors(dev);
}

int conv3d_mma_cuda(struct device *dev, const struct conv3d_gpu *conv, bool y_f32, struct err *err)
{
    if (!aligned(conv)) { /* latents, pictures, tiny models */
        return y_f32 ? launch<16, float, false, 4>(dev, conv, err)
                     : launch<32, struct bf16, false, 4>(dev, conv, err);
    }
    if (y_f32) { /* few channels: a picture's 3, its patches' 48, moments */
        return launch<16, float, true, 4>(dev, conv, err);
    }
    if (conv->co <= 16) { /* latents, tiny models */
        return launch<16, struct bf16, true, 4>(dev, conv, err);
    }
    if (div_ceil(conv->co, 64) * 64 < div_ceil(conv->co, 96) * 96) {
        return launch<64, struct bf16, true, 2>(dev, conv, err);
    }
    return is_small(dev, conv) ? launch<48, struct bf16, true, 3>(dev, conv, err)
                               : launch<96, struct bf16, true, 2>(dev, conv, err);
}
