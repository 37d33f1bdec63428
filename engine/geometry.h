/*
 * geometry.h - sizes and lengths: from what was asked to what the model makes, and back
 *
 * A model makes the sizes it was trained on: the asked size goes to the one of the nearest
 * aspect ratio, and frames are resized and cropped back (MODEL 1.4). Lengths go up to the
 * next number of latent frames and the surplus is cut off, so a video has exactly the frames
 * that were asked. Latent frames are made in blocks; the first takes the remainder (MODEL 4.1).
 * Any thread.
 */
#ifndef ENGINE_GEOMETRY_H
#define ENGINE_GEOMETRY_H

#include "base/err.h"
#include "engine/model_config.h"

enum {
    SIDE_MIN = 32, /* of a side, pixels */
    SIDE_MAX = 1920,
    PIXELS_MAX = 1920 * 1088,
    FRAMES_MAX = 14400, /* 15 minutes at 16 frames/s */
};

struct geometry_size {
    int64_t width, height;         /* asked, and delivered */
    int64_t gen_width, gen_height; /* generated */
    int64_t latent_width, latent_height;
};

/* n_sizes of 0: the size is generated as it is, or up to the next multiple the model can make.
 * Errors: ERR_INVALID "size: ..." with the limit (odd, range, aspect ratio 0.5..2, area; a trained size that the
 * model cannot make). */
MUST_CHECK int geometry_size(struct geometry_size *ret,
                             const struct transformer_config *transformer,
                             const struct vae_config *vae, const struct trained_size *sizes,
                             int n_sizes, int64_t width, int64_t height, struct err *err);

/* The published models' sizes, from the widest to the tallest: sample_size 30 or 22 selects the table.
 * Returns how many; 0 for other models. */
int geometry_published_sizes(int64_t sample_size, struct trained_size ret[MODEL_MAX_SIZES]);

/* The size with the nearest aspect ratio, the first of equals; n is not 0. */
const struct trained_size *geometry_nearest(const struct trained_size *sizes, int n, int64_t width,
                                            int64_t height);

/* Latent frames for `frames` pictures. */
int64_t geometry_latent_frames(int64_t frames, int64_t stride_t);

/* Errors: ERR_INVALID "frames: ..." outside 1..FRAMES_MAX. */
MUST_CHECK int geometry_check_frames(int64_t frames, struct err *err);

/* A piece of the video, in latent frames and in pictures. */
struct geometry_block {
    int64_t first, count;              /* latent frames */
    int64_t first_picture, n_pictures; /* n_pictures counts only those that are delivered */
};

/* How many blocks of about `per_block` latent frames there are. */
int64_t geometry_block_count(int64_t latent_frames, int64_t per_block);

/* Block `index` of a video of `pictures` pictures. */
struct geometry_block geometry_block(int64_t pictures, int64_t stride_t, int64_t per_block,
                                     int64_t index);

#endif
