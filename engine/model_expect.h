/*
 * model_expect.h - which tensors a component must have, and their shapes, from its configuration.
 *
 * Names and shapes are those of the published diffusers directories: transformer MODEL 3.11, Gemma 2
 * 2.4, Wan VAE 6.2, 6.4 and 12.4, LTX-2 VAE 7.2, 7.3 and 12.5. Any thread.
 */
#ifndef ENGINE_MODEL_EXPECT_H
#define ENGINE_MODEL_EXPECT_H

#include "engine/model_config.h"

/* Called once for each tensor; name and dims live during the call only. False stops. */
typedef bool (*model_expect_fn)(void *ctx, const char *name, int rank, const int64_t *dims);

/* False if fn stopped. */
bool model_expect_transformer(const struct transformer_config *cfg, model_expect_fn fn, void *ctx);
bool model_expect_gemma2(const struct gemma2_config *cfg, model_expect_fn fn, void *ctx);
bool model_expect_vae(const struct vae_config *cfg, model_expect_fn fn, void *ctx);

#endif
