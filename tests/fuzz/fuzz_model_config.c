/*
 * fuzz_model_config.c - the JSON files of a model directory; the first byte chooses which. From what
 * is accepted, the list of tensors must follow without any size that overflows.
 */
#include <string.h>

#include "base/size.h"
#include "engine/model_config_internal.h"
#include "engine/model_expect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool check_tensor(void *ctx, const char *name, int rank, const int64_t *dims)
{
    int64_t bytes = 4;

    (void)ctx;
    CHECK_BUG(name[0] != '\0' && rank > 0);
    for (int i = 0; i < rank; i++) {
        CHECK_BUG(dims[i] > 0 && count_mul(&bytes, bytes, dims[i]));
    }
    CHECK_BUG(bytes < (int64_t)1 << 48);
    return true;
}

static void fuzz_defaults(const char *text, size_t len)
{
    static const struct transformer_config transformer = {.sample_size = 30};
    static const struct scheduler_config scheduler = {.kind = SAMPLER_DPM, .flow_shift = 8};
    struct model_defaults d;
    struct err err;

    model_defaults_init(&d, FAMILY_LONGSANA, &transformer, &scheduler);
    if (model_parse_sanad(&d, text, len, "fuzz", &err) == ERR_OK) {
        CHECK_BUG(d.steps >= 1 && d.steps <= SAMPLER_MAX_STEPS);
        CHECK_BUG(d.n_renoise <= RENOISE_MAX_STEPS && d.n_aliases <= MODEL_MAX_ALIASES);
        CHECK_BUG(d.width > 0 && d.height > 0 && d.frames > 0 && d.fps > 0);
    }
}

static void fuzz_transformer(const char *text, size_t len)
{
    struct transformer_config c;
    struct err err;

    if (model_parse_transformer(&c, text, len, "fuzz", &err) == ERR_OK) {
        CHECK_BUG(c.heads * c.head_dim == c.cross_heads * c.cross_head_dim);
        CHECK_BUG(model_expect_transformer(&c, check_tensor, NULL));
    }
}

static void fuzz_gemma2(const char *text, size_t len)
{
    struct gemma2_config c;
    struct err err;

    if (model_parse_gemma2(&c, text, len, "fuzz", &err) == ERR_OK) {
        CHECK_BUG(c.heads % c.kv_heads == 0 && c.head_dim % 2 == 0);
        CHECK_BUG(model_expect_gemma2(&c, check_tensor, NULL));
    }
}

static void fuzz_vae(const char *text, size_t len)
{
    struct vae_config c;
    struct err err;

    if (model_parse_vae(&c, text, len, "fuzz", &err) == ERR_OK) {
        CHECK_BUG(c.stride_t > 0 && c.stride_s > 0 && c.latent_channels <= VAE_MAX_CHANNELS);
        CHECK_BUG(model_expect_vae(&c, check_tensor, NULL));
    }
}

static void fuzz_scheduler(const char *text, size_t len)
{
    struct scheduler_config c;
    struct err err;

    if (model_parse_scheduler(&c, text, len, "fuzz", &err) == ERR_OK) {
        CHECK_BUG(c.flow_shift > 0 && c.num_train_timesteps > 1);
    }
}

static void fuzz_index(const char *text, size_t len)
{
    struct model_index index;
    struct err err;

    if (model_parse_index(&index, text, len, "fuzz", &err) == ERR_OK) {
        CHECK_BUG(memchr(index.vae, '\0', sizeof(index.vae)));
        CHECK_BUG(memchr(index.transformer, '\0', sizeof(index.transformer)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const fuzz[])(const char *text, size_t len) = {
        fuzz_transformer, fuzz_gemma2, fuzz_vae, fuzz_scheduler, fuzz_defaults, fuzz_index,
    };

    if (size > 0) {
        fuzz[data[0] % ARRAY_LEN(fuzz)]((const char *)data + 1, size - 1);
    }
    return 0;
}
