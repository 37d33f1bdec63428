/*
 * vae.h - the VAE of a model, whichever it is
 *
 * Wan decodes a video piece by piece; LTX-2 decodes a clip whole (vae_streams() tells). Shapes and
 * rules are those of vae_wan.h and vae_ltx2.h; latents are normalised. Engine thread.
 */
#ifndef ENGINE_VAE_H
#define ENGINE_VAE_H

#include "engine/model_config.h"
#include "engine/vae_layers.h"
#include "kernels/workspace.h"

struct vae;

/* halves: VAE_DECODER, VAE_ENCODER or both. Borrows from `weights`, which must outlive it.
 * Errors: ERR_FORMAT (tensor named), ERR_NO_MEMORY, ERR_NO_VRAM. */
MUST_CHECK int vae_open(struct vae **ret, const struct vae_config *config, struct weights *weights,
                        struct device *dev, unsigned halves, struct err *err);

/* Accepts NULL. Its streams must be closed before. */
void vae_close(struct vae *vae);

/* True: a video may be decoded in pieces. False: a clip is one call. */
bool vae_streams(const struct vae *vae);

/* Latent frames after which a stream that streams has forgotten what came before. */
int64_t vae_memory(const struct vae *vae);

struct vae_stream;

/* Bytes of device memory that a stream of h x w latents holds between calls. */
size_t vae_stream_bytes(const struct vae *vae, int64_t h, int64_t w);

/* Ready for the first latent frame. Opened on a device in dry_run it can only run dry. */
MUST_CHECK int vae_stream_open(struct vae_stream **ret, struct vae *vae, int64_t h, int64_t w,
                               struct err *err);

/* Accepts NULL. */
void vae_stream_close(struct vae_stream *stream);

/* Starts over; see vae_wan_stream_reset for steady. It has no meaning where !vae_streams(). */
MUST_CHECK int vae_stream_reset(struct vae_stream *stream, bool steady, struct err *err);

/* Pictures that the next t latent frames become. */
int64_t vae_stream_frames(const struct vae_stream *stream, int64_t t);

/* z [t, h, w, C] -> out [frames(t), H, W, 3], clamped to [-1, 1] only where the VAE clamps. */
MUST_CHECK int vae_decode(struct vae_stream *stream, const struct tensor *z, struct workspace *ws,
                          const struct tensor *out, struct err *err);

/* One picture [1, H, W, 3] in [-1, 1] -> z [1, h, w, C]. */
MUST_CHECK int vae_encode_image(struct vae *vae, const struct tensor *image, struct workspace *ws,
                                const struct tensor *z, struct err *err);

#endif
