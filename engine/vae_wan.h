/*
 * vae_wan.h - the Wan 2.1 VAE: causal in time, 8x8 pixels and 4 frames to a latent cell
 *
 * The decoder streams: it keeps the last two frames of every convolution's input, so that latent
 * frames may come one at a time and the memory does not depend on the video's length. The first
 * latent frame of a video becomes 1 picture, each later one `stride_t` (4) pictures.
 * The encoder is needed for image-to-video: one picture in, one latent frame out; longer clips work
 * too.
 *
 * Latents are [t, h, w, C] and pictures [F, 8h, 8w, 3] in [-1, 1], all f32, channels last.
 * Activations come from the caller's workspace and every call can run dry.
 *
 * Source: diffusers autoencoder_kl_wan.py (AutoencoderKLWan); MODEL 6. Engine thread.
 */
#ifndef ENGINE_VAE_WAN_H
#define ENGINE_VAE_WAN_H

#include "engine/model_config.h"
#include "engine/vae_layers.h"
#include "kernels/workspace.h"

struct vae_wan;

/* halves: VAE_DECODER, VAE_ENCODER or both; the tensors of a half that is not loaded are ignored.
 * Borrows from `weights`, which must outlive it.
 * Errors: ERR_FORMAT (tensor named), ERR_NO_MEMORY, ERR_NO_VRAM. */
MUST_CHECK int vae_wan_open(struct vae_wan **ret, const struct vae_wan_config *config,
                            struct weights *weights, struct device *dev, unsigned halves,
                            struct err *err);

/* Accepts NULL. Its streams must be closed before. */
void vae_wan_close(struct vae_wan *vae);

/* Pictures of a latent frame that is not the first: 4. Pixels of a latent cell's side: 8. */
int64_t vae_wan_stride_t(const struct vae_wan *vae);
int64_t vae_wan_stride_s(const struct vae_wan *vae);

/* How many latent frames back the decoder sees (38): after as many, its caches are the same
 * whatever came before. */
int64_t vae_wan_memory(const struct vae_wan *vae);

/* One video being decoded. */
struct vae_wan_stream;

/* Bytes of device memory a stream of h x w latents holds. */
size_t vae_wan_stream_bytes(const struct vae_wan *vae, int64_t h, int64_t w);

/* Ready for the first latent frame of a video. Owns its caches; opened on a device in dry_run it
 * has none and can only run dry. Errors: ERR_INVALID h or w, ERR_NO_MEMORY, ERR_NO_VRAM. */
MUST_CHECK int vae_wan_stream_open(struct vae_wan_stream **ret, struct vae_wan *vae, int64_t h,
                                   int64_t w, struct err *err);

/* Accepts NULL. */
void vae_wan_stream_close(struct vae_wan_stream *stream);

/* Starts over. steady false: the next latent frame is the first of a video. steady true: it is in
 * the middle of one whose past is unknown; after vae_wan_memory() frames the caches are, bit for
 * bit, those of a decode from the beginning (the pictures on the way are not). */
MUST_CHECK int vae_wan_stream_reset(struct vae_wan_stream *stream, bool steady, struct err *err);

/* Pictures that the next t latent frames become. */
int64_t vae_wan_stream_frames(const struct vae_wan_stream *stream, int64_t t);

/* For tests: called with what left "mid", "up0", ... of the decoder; frames come in order, but any
 * number at a time. x may not be kept. */
typedef int (*vae_wan_tap_fn)(void *ctx, const char *name, const struct tensor *x, struct err *err);
void vae_wan_stream_tap(struct vae_wan_stream *stream, vae_wan_tap_fn fn, void *ctx);

/*
 * Decodes the next t latent frames. How many come in one call makes no difference to the pictures.
 *   z    [t, h, w, C]                f32  in; in `space`
 *   out  [frames(t), 8h, 8w, 3]      f32  out, clamped to [-1, 1]
 */
MUST_CHECK int vae_wan_decode(struct vae_wan_stream *stream, const struct tensor *z,
                              enum vae_space space, struct workspace *ws, const struct tensor *out,
                              struct err *err);

/* Each [1 + k, h, w, C] f32, out; NULL: not wanted. */
struct vae_wan_posterior {
    const struct tensor *normalised; /* (mean - latents_mean) / latents_std */
    const struct tensor *mean;
    const struct tensor *logvar; /* clamped to [-30, 20] */
};

/* Encodes a whole clip: video [1 + 4k, 8h, 8w, 3] f32 in [-1, 1]. */
MUST_CHECK int vae_wan_encode(struct vae_wan *vae, const struct tensor *video, struct workspace *ws,
                              const struct vae_wan_posterior *ret, struct err *err);

#endif
