#include "engine/text_encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

/* Small, and no two widths alike. */
static const struct gemma2_config toy = {
    .vocab_size = 11,
    .hidden_size = 6,
    .intermediate_size = 10,
    .layers = 3,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 4,
    .query_pre_attn_scalar = 3,
    .attn_logit_softcapping = 5,
    .sliding_window = 3,
    .rope_theta = 100,
    .rms_norm_eps = 1e-6,
};

static const int32_t prompt[] = {2, 10, 0, 7, 7, 3, 1, 9, 4};

enum {
    N = ARRAY_LEN(prompt),
    HIDDEN = 6,
    OUT = N * HIDDEN
};

static struct err err;

/* ---- a model directory with random weights ---- */

static const struct {
    const char *name;
    int64_t rows, cols; /* cols 0: a vector */
} layer_tensors[] = {
    {"self_attn.q_proj", 16, 6},
    {"self_attn.k_proj", 8, 6},
    {"self_attn.v_proj", 8, 6},
    {"self_attn.o_proj", 6, 16},
    {"mlp.gate_proj", 10, 6},
    {"mlp.up_proj", 10, 6},
    {"mlp.down_proj", 6, 10},
    {"input_layernorm", 6, 0},
    {"post_attention_layernorm", 6, 0},
    {"pre_feedforward_layernorm", 6, 0},
    {"post_feedforward_layernorm", 6, 0},
};

enum {
    TENSORS = 3 * ARRAY_LEN(layer_tensors) + 2
};

struct tensor_spec {
    char name[96];
    int64_t dims[2];
    int rank;
};

static void tensor_spec(struct tensor_spec *ret, size_t i)
{
    const size_t n = ARRAY_LEN(layer_tensors);

    if (i == 0) {
        *ret = (struct tensor_spec){"embed_tokens.weight", {11, 6}, 2};
    } else if (i == 1) {
        *ret = (struct tensor_spec){"norm.weight", {6, 1}, 1};
    } else {
        const size_t k = (i - 2) % n;
        const int64_t cols = layer_tensors[k].cols;

        *ret = (struct tensor_spec){"", {layer_tensors[k].rows, cols ? cols : 1}, cols ? 2 : 1};
        snprintf(ret->name, sizeof(ret->name), "layers.%zu.%s.weight", (i - 2) / n,
                 layer_tensors[k].name);
    }
}

/* Writes model.safetensors; the tensor number `left_out` is left out. */
static const char *write_model(const char *folder, bool bf16, size_t left_out)
{
    const char *dir = files_dir(folder);
    const char *path = files_path(dir, "model.safetensors");
    struct header_writer w;
    struct tensor_spec spec;
    FILE *f;

    header_init(&w);
    for (size_t i = 0; i < TENSORS; i++) {
        tensor_spec(&spec, i);
        if (i != left_out) {
            header_add(&w, spec.name, bf16 ? "BF16" : "F32", bf16 ? 2 : 4, spec.rank, spec.dims);
        }
    }
    header_write_sparse(&w, path);
    f = fopen(path, "r+be");
    EXPECT(f && fseek(f, -(long)w.data_bytes, SEEK_END) == 0);
    for (size_t i = 0; i < TENSORS; i++) {
        float data[96];
        uint16_t half[96];
        int64_t n;

        tensor_spec(&spec, i);
        n = spec.dims[0] * spec.dims[1];
        EXPECT(n <= (int64_t)ARRAY_LEN(data));
        test_fill(data, n, i);
        convert_round_bf16(data, n); /* so that both types hold the same numbers */
        for (int64_t k = 0; k < n; k++) {
            uint32_t bits;

            memcpy(&bits, &data[k], sizeof(bits));
            half[k] = (uint16_t)(bits >> 16);
        }
        EXPECT(i == left_out ||
               fwrite(bf16 ? (void *)half : (void *)data, bf16 ? 2 : 4, (size_t)n, f) == (size_t)n);
    }
    EXPECT(fclose(f) == 0);
    header_done(&w);
    return dir;
}

static struct weights *open_weights(const char *dir)
{
    struct weights *w = NULL;

    EXPECT_OK(weights_open(&w, dir, "model", NULL, &err));
    return w;
}

/* ---- the model again, in double, from the formulas of MODEL 2.4 ---- */

struct reference {
    const struct gemma2_config *c;
    double w[3][ARRAY_LEN(layer_tensors)][96];
    double embed[66];
    double norm[6];
};

enum {
    Q,
    K,
    V,
    O,
    GATE,
    UP,
    DOWN,
    NORM_IN,
    NORM_POST_ATT,
    NORM_PRE_FF,
    NORM_POST_FF
};

static void reference_load(struct reference *r, const struct gemma2_config *c)
{
    r->c = c;
    for (size_t i = 0; i < TENSORS; i++) {
        struct tensor_spec spec;
        float data[96];
        double *to;

        tensor_spec(&spec, i);
        test_fill(data, spec.dims[0] * spec.dims[1], i);
        convert_round_bf16(data, spec.dims[0] * spec.dims[1]);
        to = i == 0 ? r->embed
             : i == 1
                 ? r->norm
                 : r->w[(i - 2) / ARRAY_LEN(layer_tensors)][(i - 2) % ARRAY_LEN(layer_tensors)];
        for (int64_t k = 0; k < spec.dims[0] * spec.dims[1]; k++) {
            to[k] = (double)data[k];
        }
    }
}

static void ref_norm(double *y, const double *x, const double *w)
{
    double squares = 0;

    for (int c = 0; c < HIDDEN; c++) {
        squares += x[c] * x[c];
    }
    for (int c = 0; c < HIDDEN; c++) {
        y[c] = x[c] / sqrt(squares / HIDDEN + 1e-6) * (1 + w[c]);
    }
}

static void ref_linear(double *y, const double *x, const double *w, int rows, int cols)
{
    for (int i = 0; i < rows; i++) {
        y[i] = 0;
        for (int c = 0; c < cols; c++) {
            y[i] += x[c] * w[i * cols + c];
        }
    }
}

/* One head of 4 at position p: frequencies 1 and 1/10. */
static void ref_rope(double *x, int p)
{
    for (int j = 0; j < 2; j++) {
        const double angle = p * (j ? 0.1 : 1.0);
        const double u = x[j];
        const double v = x[j + 2];

        x[j] = u * cos(angle) - v * sin(angle);
        x[j + 2] = v * cos(angle) + u * sin(angle);
    }
}

static void ref_attend(const struct reference *r, int layer, double q[N][16], double k[N][8],
                       double v[N][8], int i, double *o)
{
    for (int h = 0; h < 4; h++) {
        const int g = h / 2;
        const int first = layer % 2 == 0 && i >= 3 ? i - 2 : 0; /* window 3 */
        double sum = 0;

        for (int c = 0; c < 4; c++) {
            o[4 * h + c] = 0;
        }
        for (int j = first; j <= i; j++) {
            double s = 0;

            for (int c = 0; c < 4; c++) {
                s += q[i][4 * h + c] * k[j][4 * g + c];
            }
            s /= sqrt(3.0);
            if (r->c->attn_logit_softcapping > 0) {
                s = 5 * tanh(s / 5);
            }
            sum += exp(s);
            for (int c = 0; c < 4; c++) {
                o[4 * h + c] += exp(s) * v[j][4 * g + c];
            }
        }
        for (int c = 0; c < 4; c++) {
            o[4 * h + c] /= sum;
        }
    }
}

static void ref_attention(const struct reference *r, int layer, double x[N][HIDDEN])
{
    double q[N][16];
    double k[N][8];
    double v[N][8];

    for (int i = 0; i < N; i++) {
        double a[HIDDEN];

        ref_norm(a, x[i], r->w[layer][NORM_IN]);
        ref_linear(q[i], a, r->w[layer][Q], 16, HIDDEN);
        ref_linear(k[i], a, r->w[layer][K], 8, HIDDEN);
        ref_linear(v[i], a, r->w[layer][V], 8, HIDDEN);
        for (int64_t h = 0; h < 4; h++) {
            ref_rope(&q[i][4 * h], i);
        }
        for (int64_t h = 0; h < 2; h++) {
            ref_rope(&k[i][4 * h], i);
        }
    }
    for (int i = 0; i < N; i++) {
        double o[16];
        double out[HIDDEN];

        ref_attend(r, layer, q, k, v, i, o);
        ref_linear(out, o, r->w[layer][O], HIDDEN, 16);
        ref_norm(out, out, r->w[layer][NORM_POST_ATT]);
        for (int c = 0; c < HIDDEN; c++) {
            x[i][c] += out[c];
        }
    }
}

static void ref_feed_forward(const struct reference *r, int layer, double *x)
{
    double m[HIDDEN];
    double gate[10];
    double up[10];

    ref_norm(m, x, r->w[layer][NORM_PRE_FF]);
    ref_linear(gate, m, r->w[layer][GATE], 10, HIDDEN);
    ref_linear(up, m, r->w[layer][UP], 10, HIDDEN);
    for (int c = 0; c < 10; c++) {
        const double g = gate[c];

        gate[c] = 0.5 * g * (1 + tanh(sqrt(2 / acos(-1.0)) * (g + 0.044715 * g * g * g))) * up[c];
    }
    ref_linear(m, gate, r->w[layer][DOWN], HIDDEN, 10);
    ref_norm(m, m, r->w[layer][NORM_POST_FF]);
    for (int c = 0; c < HIDDEN; c++) {
        x[c] += m[c];
    }
}

/* out [N, HIDDEN]; after_layer likewise, the residual stream behind that layer. */
static void reference_forward(const struct reference *r, float *out, int layer, float *after_layer)
{
    double x[N][HIDDEN];
    double y[HIDDEN];

    for (int i = 0; i < N * HIDDEN; i++) {
        x[i / HIDDEN][i % HIDDEN] = r->embed[prompt[i / HIDDEN] * HIDDEN + i % HIDDEN] * sqrt(6.0);
    }
    for (int l = 0; l < 3; l++) {
        ref_attention(r, l, x);
        for (int i = 0; i < N; i++) {
            ref_feed_forward(r, l, x[i]);
        }
        for (int i = 0; i < N * HIDDEN && l == layer; i++) {
            after_layer[i] = (float)x[i / HIDDEN][i % HIDDEN];
        }
    }
    for (int i = 0; i < N; i++) {
        ref_norm(y, x[i], r->norm);
        for (int c = 0; c < HIDDEN; c++) {
            out[i * HIDDEN + c] = (float)y[c];
        }
    }
}

/* ---- running the encoder ---- */

static void pass(struct text_encoder *enc, int64_t n, struct workspace *ws, struct tensor *out,
                 struct text_encoder_tap *tap)
{
    EXPECT_OK(WORKSPACE_F32(ws, out, &err, n, HIDDEN));
    EXPECT_OK(WORKSPACE_F32(ws, &tap->to, &err, n, HIDDEN));
    EXPECT_OK(text_encoder_forward(enc, prompt, n, ws, out, tap, &err));
}

/* Plans dry, then runs; tapped may be NULL. */
static void run(struct text_encoder *enc, struct device *dev, int64_t n, float *out, float *tapped)
{
    struct workspace ws;
    struct text_encoder_tap tap = {.layer = 1};
    struct tensor t;

    workspace_init(&ws, dev);
    dev->dry_run = true;
    pass(enc, n, &ws, &t, &tap);
    dev->dry_run = false;
    EXPECT_OK(workspace_commit(&ws, 0, &err));
    pass(enc, n, &ws, &t, &tap);
    memcpy(out, t.data, (size_t)n * HIDDEN * sizeof(*out));
    if (tapped) {
        memcpy(tapped, tap.to.data, (size_t)n * HIDDEN * sizeof(*tapped));
    }
    workspace_done(&ws);
}

static bool same_bytes(const void *a, const void *b, size_t n)
{
    return memcmp(a, b, n) == 0;
}

static void check_against_reference(const char *dir, double softcap)
{
    struct gemma2_config config = toy;
    struct weights *w = open_weights(dir);
    struct text_encoder *enc = NULL;
    struct device dev;
    struct reference r;
    float want[OUT];
    float want_layer1[OUT];
    float got[OUT];
    float got_layer1[OUT];

    config.attn_logit_softcapping = softcap;
    reference_load(&r, &config);
    reference_forward(&r, want, 1, want_layer1);
    EXPECT_OK(device_open_cpu(&dev, 2, &err));
    EXPECT_OK(text_encoder_open(&enc, &config, w, &dev, &err));
    run(enc, &dev, N, got, got_layer1);
    EXPECT_CLOSE(got, want, OUT, 0, 3e-6);
    EXPECT_CLOSE(got_layer1, want_layer1, OUT, 0, 3e-6);
    text_encoder_close(enc);
    device_close(&dev);
    EXPECT_INT(weights_unused(w, NULL, 0), 0);
    weights_close(w);
}

TEST(text_encoder_matches_the_formulas)
{
    check_against_reference(write_model("f32", false, SIZE_MAX), 5);
}

TEST(text_encoder_without_a_cap_matches_the_formulas)
{
    check_against_reference(write_model("f32", false, SIZE_MAX), 0);
}

TEST(text_encoder_reads_bf16_weights_where_they_lie)
{
    check_against_reference(write_model("bf16", true, SIZE_MAX), 5);
}

TEST(text_encoder_gives_the_same_bytes_with_any_number_of_threads)
{
    const char *dir = write_model("f32", false, SIZE_MAX);
    struct weights *w = open_weights(dir);
    float first[OUT];
    float got[OUT];

    for (int threads = 1; threads <= 4; threads++) {
        struct text_encoder *enc = NULL;
        struct device dev;

        EXPECT_OK(device_open_cpu(&dev, threads, &err));
        EXPECT_OK(text_encoder_open(&enc, &toy, w, &dev, &err));
        run(enc, &dev, N, threads == 1 ? first : got, NULL);
        EXPECT(threads == 1 || same_bytes(first, got, sizeof(first)));
        text_encoder_close(enc);
        device_close(&dev);
    }
    weights_close(w);
}

/* Right padding is never computed because of this. */
TEST(text_encoder_lets_no_token_see_later_ones)
{
    const char *dir = write_model("f32", false, SIZE_MAX);
    struct weights *w = open_weights(dir);
    struct text_encoder *enc = NULL;
    struct device dev;
    float all[OUT];
    float some[OUT];

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(text_encoder_open(&enc, &toy, w, &dev, &err));
    run(enc, &dev, N, all, NULL);
    for (int64_t n = 1; n < N; n++) {
        run(enc, &dev, n, some, NULL);
        EXPECT_CLOSE(some, all, n * HIDDEN, 1e-6, 1e-6);
    }
    text_encoder_close(enc);
    device_close(&dev);
    weights_close(w);
}

TEST(text_encoder_rounds_rope_frequencies_when_asked)
{
    const char *dir = write_model("f32", false, SIZE_MAX);
    struct weights *w = open_weights(dir);
    struct text_encoder *enc = NULL;
    struct device dev;
    float exact[OUT];
    float rounded[OUT];

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(text_encoder_open(&enc, &toy, w, &dev, &err));
    run(enc, &dev, N, exact, NULL);
    text_encoder_round_rope_frequencies(enc, true);
    run(enc, &dev, N, rounded, NULL);
    EXPECT(same_bytes(exact, rounded, HIDDEN * sizeof(float))); /* position 0 */
    EXPECT(!same_bytes(exact, rounded, sizeof(exact)));
    EXPECT_CLOSE(rounded, exact, OUT, 0, 1e-2);
    text_encoder_close(enc);
    device_close(&dev);
    weights_close(w);
}

TEST(text_encoder_refuses_ids_outside_the_vocabulary)
{
    static const int32_t bad[] = {2, 11};
    static const int32_t negative[] = {-1};
    const char *dir = write_model("f32", false, SIZE_MAX);
    struct weights *w = open_weights(dir);
    struct text_encoder *enc = NULL;
    struct device dev;
    struct workspace ws;
    struct tensor out;
    struct tensor one;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(text_encoder_open(&enc, &toy, w, &dev, &err));
    workspace_init(&ws, &dev);
    dev.dry_run = true;
    EXPECT_OK(WORKSPACE_F32(&ws, &out, &err, 2, HIDDEN));
    one = tensor_slice(&out, 0, 1);
    EXPECT_INT(text_encoder_forward(enc, bad, 2, &ws, &out, NULL, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "token 1 is 11");
    EXPECT_INT(text_encoder_forward(enc, negative, 1, &ws, &one, NULL, &err), ERR_INVALID);
    EXPECT_INT(text_encoder_forward(enc, bad, 0, &ws, &one, NULL, &err), ERR_INVALID);
    EXPECT_INT(text_encoder_forward(enc, prompt, 2, &ws, &one, NULL, &err), ERR_INVALID);
    EXPECT_OK(text_encoder_forward(enc, prompt, 2, &ws, &out, NULL, &err));
    EXPECT_INT(workspace_mark(&ws), 256); /* all was given back */
    workspace_done(&ws);
    text_encoder_close(enc);
    device_close(&dev);
    weights_close(w);
}

TEST(text_encoder_names_missing_tensors)
{
    struct device dev;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (size_t i = 0; i < TENSORS; i += 7) {
        char folder[32];
        struct tensor_spec spec;
        struct text_encoder *enc = NULL;
        struct weights *w;

        snprintf(folder, sizeof(folder), "without-%zu", i);
        w = open_weights(write_model(folder, false, i));
        tensor_spec(&spec, i);
        EXPECT_INT(text_encoder_open(&enc, &toy, w, &dev, &err), ERR_FORMAT);
        EXPECT_CONTAINS(err.msg, spec.name);
        weights_close(w);
    }
    device_close(&dev);
    text_encoder_close(NULL);
}

TEST(text_encoder_survives_failing_allocations)
{
    const char *dir = write_model("bf16", true, SIZE_MAX);
    struct text_encoder *enc = NULL;
    struct device dev;
    int rc;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (long n = 1;; n++) {
        struct weights *w = open_weights(dir);

        enc = NULL;
        alloc_fail_at(n);
        rc = text_encoder_open(&enc, &toy, w, &dev, &err);
        text_encoder_close(enc);
        if (!alloc_fail_stop()) {
            weights_close(w);
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
        weights_close(w);
    }
    EXPECT_OK(rc);
    device_close(&dev);
}
