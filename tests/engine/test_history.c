#include "engine/history.h"

#include <stdlib.h>
#include <string.h>

#include "engine/transformer_internal.h"
#include "tests/support/test.h"

enum {
    LAYERS = 2,
    HEADS = 3,
    HEAD_DIM = 4,
    CELLS = 5, /* tokens of a frame */
    BLOCKS = 7,
    STATES = 3 /* tensors of a state */
};

/* Adding states needs a device and sizes, no weights. */
struct bed {
    struct device dev;
    struct transformer tf;
    struct workspace ws;
    struct history h;
};

static void set_up(struct bed *b, int64_t window)
{
    struct err err;

    EXPECT_OK(history_init(&b->h, &b->tf, &b->ws, CELLS, window, &err));
}

static void bed_open(struct bed *b, int64_t window)
{
    struct err err;

    *b = (struct bed){.tf = {.config = {.layers = LAYERS, .heads = HEADS, .head_dim = HEAD_DIM},
                             .width = (int64_t)HEADS * HEAD_DIM}};
    EXPECT_OK(device_open_cpu(&b->dev, 1, &err));
    b->tf.dev = &b->dev;
    workspace_init(&b->ws, &b->dev);
    b->dev.dry_run = true;
    set_up(b, window);
    b->dev.dry_run = false;
    EXPECT_OK(workspace_commit(&b->ws, 0, &err));
    set_up(b, window);
}

static void bed_close(struct bed *b)
{
    workspace_done(&b->ws);
    device_close(&b->dev);
}

static const struct tensor *part(const struct transformer_state *s, int i)
{
    const struct tensor *const parts[STATES] = {&s->s, &s->k_sum, &s->tail};

    return parts[i];
}

/* Block `block`'s own state: random numbers of growing size, so that the order of a sum shows. */
static void fill_own(float *out, int64_t n, int i, int block)
{
    test_fill(out, n, (uint64_t)block * STATES + (uint64_t)i + 1);
    for (int64_t k = 0; k < n; k++) {
        out[k] *= (float)(1 << (3 * (block % 4)));
    }
}

static void push(struct bed *b, int block)
{
    struct err err;

    for (int i = 0; i < STATES; i++) {
        const struct tensor *t = part(&b->h.own, i);

        fill_own(t->data, tensor_count(t), i, block);
    }
    EXPECT_OK(history_push(&b->h, &err));
}

/* What history_read must give: sums of blocks [first, end) in order; the tail of the last one. */
static void expect_sum(const struct bed *b, int first, int end)
{
    const struct transformer_state *got = history_read(&b->h);

    EXPECT(got);
    for (int i = 0; i < STATES; i++) {
        const struct tensor *t = part(got, i);
        const int64_t n = tensor_count(t);
        float *want = test_alloc((size_t)n * sizeof(float));
        float *own = test_alloc((size_t)n * sizeof(float));
        const int from = i == 2 ? end - 1 : first;

        fill_own(want, n, i, from);
        for (int k = from + 1; k < end; k++) {
            fill_own(own, n, i, k);
            for (int64_t j = 0; j < n; j++) {
                want[j] += own[j];
            }
        }
        EXPECT(memcmp(t->data, want, tensor_bytes(t)) == 0);
        free(want);
        free(own);
    }
}

TEST(history_is_empty_before_the_first_block)
{
    struct bed b;

    bed_open(&b, -1);
    EXPECT(history_read(&b.h) == NULL);
    push(&b, 0);
    EXPECT(history_read(&b.h) != NULL);
    expect_sum(&b, 0, 1);
    bed_close(&b);
}

TEST(history_running_sum_is_the_sum_of_all_blocks_bit_for_bit)
{
    struct bed b;

    bed_open(&b, -1);
    for (int block = 0; block < BLOCKS; block++) {
        push(&b, block);
        EXPECT_INT(b.h.blocks, block + 1);
        expect_sum(&b, 0, block + 1);
    }
    bed_close(&b);
}

TEST(history_window_is_the_sum_of_the_last_blocks_oldest_first)
{
    for (int window = 1; window <= 3; window++) {
        struct bed b;

        bed_open(&b, window);
        for (int block = 0; block < BLOCKS; block++) {
            push(&b, block);
            expect_sum(&b, block + 1 > window ? block + 1 - window : 0, block + 1);
        }
        bed_close(&b);
    }
}

/* A window that reaches back to the first block is no window. */
TEST(history_wide_window_equals_no_window)
{
    struct bed b;

    bed_open(&b, HISTORY_MAX_WINDOW);
    for (int block = 0; block < BLOCKS; block++) {
        push(&b, block);
        expect_sum(&b, 0, block + 1);
    }
    bed_close(&b);
}

/* history_tensors after n blocks, copied into a fresh history, is all that the next blocks need. */
static void check_carried_over(int64_t window, int stop)
{
    const struct tensor *from[HISTORY_MAX_TENSORS];
    const struct tensor *to[HISTORY_MAX_TENSORS];
    struct bed a;
    struct bed b;
    int n;

    bed_open(&a, window);
    bed_open(&b, window);
    for (int block = 0; block < stop; block++) {
        push(&a, block);
    }
    n = history_tensors(&a.h, stop, from);
    EXPECT_INT(history_tensors(&b.h, stop, to), n);
    for (int i = 0; i < n; i++) {
        EXPECT_INT(tensor_bytes(to[i]), tensor_bytes(from[i]));
        memcpy(to[i]->data, from[i]->data, tensor_bytes(from[i]));
    }
    b.h.blocks = stop;
    for (int block = stop; block < BLOCKS; block++) {
        push(&b, block);
        expect_sum(&b, window > 0 && block + 1 > window ? block + 1 - (int)window : 0, block + 1);
    }
    bed_close(&a);
    bed_close(&b);
}

TEST(history_continues_from_its_tensors)
{
    for (int stop = 0; stop < BLOCKS; stop++) {
        check_carried_over(-1, stop);
        check_carried_over(1, stop);
        check_carried_over(2, stop);
        check_carried_over(3, stop);
    }
}

TEST(history_tensors_grow_to_the_window_only)
{
    const struct tensor *t[HISTORY_MAX_TENSORS];
    struct bed b;

    bed_open(&b, 2);
    EXPECT_INT(history_tensors(&b.h, 0, t), 0);
    EXPECT_INT(history_tensors(&b.h, 1, t), 2 * STATES);
    EXPECT_INT(history_tensors(&b.h, 2, t), 3 * STATES);
    EXPECT_INT(history_tensors(&b.h, 100, t), 3 * STATES);
    bed_close(&b);
    bed_open(&b, -1);
    EXPECT_INT(history_tensors(&b.h, 0, t), 0);
    EXPECT_INT(history_tensors(&b.h, 100, t), STATES);
    bed_close(&b);
}

TEST(history_refuses_windows_out_of_range)
{
    static const int64_t bad[] = {0, -2, HISTORY_MAX_WINDOW + 1, INT64_MIN, INT64_MAX};
    struct bed b;

    bed_open(&b, -1);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = {0};
        struct history h;

        EXPECT_INT(history_init(&h, &b.tf, &b.ws, CELLS, bad[i], &err), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "history_blocks: ");
    }
    bed_close(&b);
}
