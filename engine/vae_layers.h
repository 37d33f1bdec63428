/*
 * vae_layers.h - what the two VAEs share: loading of convolutions and of small vectors.
 *
 * Published convolutions are [Co, Ci, (kt,) kh, kw]; the engine's are [Co, kt, kh, kw, Ci] F32
 * (kernels/conv3d.h). Engine thread.
 */
#ifndef ENGINE_VAE_LAYERS_H
#define ENGINE_VAE_LAYERS_H

#include "engine/weights.h"

/* Which halves of a VAE to load. The encoder is needed for image-to-video only. */
enum {
    VAE_DECODER = 1,
    VAE_ENCODER = 2,
};

/* What a decoder's input or an encoder's output is: as the transformer sees it, or the VAE's own
 * space before (z - mean) / std. */
enum vae_space {
    VAE_NORMALISED,
    VAE_RAW,
};

struct vae_conv {
    struct tensor weight; /* [Co, kt, kh, kw, Ci] */
    struct tensor bias;   /* [Co] */
};

struct vae_loader {
    struct weights *weights;  /* borrowed */
    struct weight_pool *pool; /* borrowed; gets the copies */
    struct err *err;
};

/* kt 0: a 2-d convolution, published without that dimension; kernels are k x k in space. */
struct vae_conv_shape {
    int64_t co, ci, kt, k;
};

/* Takes NAME.weight and NAME.bias, where NAME is the formatted text.
 * Errors: those of weights_get, ERR_NO_MEMORY. */
MUST_CHECK int vae_load_conv(struct vae_loader *ld, struct vae_conv *ret,
                             struct vae_conv_shape shape, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* Takes a vector [n], published with `ones` dimensions of 1 behind. */
MUST_CHECK int vae_load_vector(struct vae_loader *ld, struct tensor *ret, int64_t n, int ones,
                               const char *format, ...) PRINTF_LIKE(5, 6);

/* Marks every tensor whose name begins so as known and unused. */
void vae_ignore(struct vae_loader *ld, const char *begin);

/* Output channels [first, first + n) of a convolution. */
struct vae_conv vae_conv_part(const struct vae_conv *conv, int64_t first, int64_t n);

#endif
