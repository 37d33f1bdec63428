/*
 * vae_ltx2.h - the LTX-2 VAE: 32x32 pixels and 8 frames to a latent cell
 *
 * The published decoder is not causal: every picture of a clip depends on all its latent frames, so
 * a clip is decoded whole. T latent frames become 1 + 8 (T - 1) pictures.
 *
 * Latents are [T, h, w, C] and pictures [F, 32h, 32w, 3], all f32, channels last; pictures are
 * nominally in [-1, 1], and the decoder does not clamp. Activations come from the caller's
 * workspace and every call can run dry.
 *
 * Source: diffusers autoencoder_kl_ltx2.py (AutoencoderKLLTX2Video); MODEL 7. Engine thread.
 */
#ifndef ENGINE_VAE_LTX2_H
#define ENGINE_VAE_LTX2_H

#include "engine/model_config.h"
#include "engine/vae_layers.h"
#include "kernels/workspace.h"

struct vae_ltx2;

/* halves: VAE_DECODER, VAE_ENCODER or both; the tensors of a half that is not loaded are ignored.
 * Borrows from `weights`, which must outlive it.
 * Errors: ERR_FORMAT (tensor named; latents_std not positive), ERR_NO_MEMORY, ERR_NO_VRAM. */
MUST_CHECK int vae_ltx2_open(struct vae_ltx2 **ret, const struct vae_ltx2_config *config,
                             struct weights *weights, struct device *dev, unsigned halves,
                             struct err *err);

/* Accepts NULL. */
void vae_ltx2_close(struct vae_ltx2 *vae);

/* Pictures of a latent frame that is not the first: 8. Pixels of a latent cell's side: 32. */
int64_t vae_ltx2_stride_t(const struct vae_ltx2 *vae);
int64_t vae_ltx2_stride_s(const struct vae_ltx2 *vae);

struct vae_ltx2_decode {
    enum vae_space space; /* of z */
    bool causal;          /* true: no look ahead, whatever the config says */
};

/*
 * Decodes a whole clip.
 *   z    [T, h, w, C]                         f32  in; h, w >= 2 if padding reflects
 *   out  [1 + stride_t (T-1), 32h, 32w, 3]    f32  out
 */
MUST_CHECK int vae_ltx2_decode(struct vae_ltx2 *vae, const struct tensor *z,
                               const struct vae_ltx2_decode *how, struct workspace *ws,
                               const struct tensor *out, struct err *err);

/* Each [1 + k, h, w, C] f32, out; NULL: not wanted. */
struct vae_ltx2_posterior {
    const struct tensor *normalised; /* (mean - latents_mean) * scaling_factor / latents_std */
    const struct tensor *mean;
};

/* Encodes a whole clip: video [1 + 8k, 32h, 32w, 3] f32 in [-1, 1]. */
MUST_CHECK int vae_ltx2_encode(struct vae_ltx2 *vae, const struct tensor *video,
                               struct workspace *ws, const struct vae_ltx2_posterior *ret,
                               struct err *err);

#endif
