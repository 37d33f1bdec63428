#include "engine/vae.h"

#include <stdlib.h>

#include "engine/vae_ltx2.h"
#include "engine/vae_wan.h"

struct vae {
    enum vae_kind kind;
    struct vae_wan *wan; /* owned; one of the two */
    struct vae_ltx2 *ltx2;
};

struct vae_stream {
    struct vae *vae; /* borrowed */
    int64_t h, w;
    struct vae_wan_stream *wan; /* owned; NULL for LTX-2, which keeps nothing */
};

int vae_open(struct vae **ret, const struct vae_config *config, struct weights *weights,
             struct device *dev, unsigned halves, struct err *err)
{
    struct vae *vae = calloc(1, sizeof(*vae));
    int rc;

    if (!vae) {
        return err_set(err, ERR_NO_MEMORY, "the VAE");
    }
    vae->kind = config->kind;
    if (vae->kind == VAE_WAN) {
        rc = vae_wan_open(&vae->wan, &config->wan, weights, dev, halves, err);
    } else {
        rc = vae_ltx2_open(&vae->ltx2, &config->ltx2, weights, dev, halves, err);
    }
    if (rc == ERR_OK) {
        *ret = vae;
        vae = NULL; /* the caller owns it now */
    }
    vae_close(vae);
    return rc;
}

void vae_close(struct vae *vae)
{
    if (vae) {
        vae_wan_close(vae->wan);
        vae_ltx2_close(vae->ltx2);
        free(vae);
    }
}

bool vae_streams(const struct vae *vae)
{
    return vae->kind == VAE_WAN;
}

int64_t vae_memory(const struct vae *vae)
{
    return vae->kind == VAE_WAN ? vae_wan_memory(vae->wan) : 0;
}

size_t vae_stream_bytes(const struct vae *vae, int64_t h, int64_t w)
{
    return vae->kind == VAE_WAN ? vae_wan_stream_bytes(vae->wan, h, w) : 0;
}

int vae_stream_open(struct vae_stream **ret, struct vae *vae, int64_t h, int64_t w, struct err *err)
{
    struct vae_stream *s = calloc(1, sizeof(*s));
    int rc = ERR_OK;

    if (!s) {
        return err_set(err, ERR_NO_MEMORY, "VAE stream");
    }
    s->vae = vae;
    s->h = h;
    s->w = w;
    if (vae->kind == VAE_WAN) {
        rc = vae_wan_stream_open(&s->wan, vae->wan, h, w, err);
    }
    if (rc == ERR_OK) {
        *ret = s;
        s = NULL; /* the caller owns it now */
    }
    vae_stream_close(s);
    return rc;
}

void vae_stream_close(struct vae_stream *s)
{
    if (s) {
        vae_wan_stream_close(s->wan);
        free(s);
    }
}

int vae_stream_reset(struct vae_stream *s, bool steady, struct err *err)
{
    return s->wan ? vae_wan_stream_reset(s->wan, steady, err) : ERR_OK;
}

int64_t vae_stream_frames(const struct vae_stream *s, int64_t t)
{
    if (s->wan) {
        return vae_wan_stream_frames(s->wan, t);
    }
    return t > 0 ? 1 + (t - 1) * vae_ltx2_stride_t(s->vae->ltx2) : 0;
}

int vae_decode(struct vae_stream *s, const struct tensor *z, struct workspace *ws,
               const struct tensor *out, struct err *err)
{
    const struct vae_ltx2_decode how = {.space = VAE_NORMALISED};

    if (s->wan) {
        return vae_wan_decode(s->wan, z, VAE_NORMALISED, ws, out, err);
    }
    if (z->rank != 4 || z->dim[1] != s->h || z->dim[2] != s->w) {
        return device_shape_err(err, "vae_decode", "z", z);
    }
    return vae_ltx2_decode(s->vae->ltx2, z, &how, ws, out, err);
}

int vae_encode_image(struct vae *vae, const struct tensor *image, struct workspace *ws,
                     const struct tensor *z, struct err *err)
{
    const struct vae_wan_posterior wan = {.normalised = z};
    const struct vae_ltx2_posterior ltx2 = {.normalised = z};

    if (image->rank != 4 || image->dim[0] != 1) {
        return device_shape_err(err, "vae_encode_image", "image", image);
    }
    if (vae->kind == VAE_WAN) {
        return vae_wan_encode(vae->wan, image, ws, &wan, err);
    }
    return vae_ltx2_encode(vae->ltx2, image, ws, &ltx2, err);
}
