/*
 * The encoder as `sanad generate` uses it: 832x480, veryfast, one thread, a fresh context for each block
 * of 40 frames, packets counted and dropped. Frames are made before the clock starts.
 */
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "media/video_encoder.h"

enum {
    WIDTH = 832,
    HEIGHT = 480,
    BLOCK = 40,
    BLOCKS = 3
};

static int count(void *ctx, const struct video_packet *packet, struct err *err)
{
    (void)err;
    *(size_t *)ctx += packet->len;
    return ERR_OK;
}

/* A moving texture with noise on it: 2.2 Mbit/s at crf 18. */
static void make_frame(uint8_t *frame, int t)
{
    uint32_t random = (uint32_t)t * 2654435761U + 1;

    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++) {
            const float v = 125 + 45 * sinf((float)(x + 2 * t) / 19) +
                            35 * sinf((float)(y - t) / 13) + 10 * sinf((float)(x + y + 3 * t) / 5);

            random = random * 1664525 + 1013904223;
            *frame++ = (uint8_t)(v + (float)(random >> 29));
        }
    }
    for (int i = 0; i < WIDTH * HEIGHT / 2; i++) {
        *frame++ = (uint8_t)(128 + 40 * sinf((float)(i % (WIDTH / 2) + t) / 40));
    }
}

static int encode_block(struct video_encoder *enc, uint8_t *const *frames, int64_t first,
                        size_t *bytes, struct err *err)
{
    int rc = video_encoder_begin_block(enc, first, err);

    for (int i = 0; i < BLOCK && rc == ERR_OK; i++) {
        rc = video_encoder_frame(enc, frames[i], count, bytes, err);
    }
    return rc == ERR_OK ? video_encoder_end_block(enc, count, bytes, err) : rc;
}

int bench_encoder(double *ret_fps, struct err *err)
{
    const struct video_encoder_options options = {
        .width = WIDTH, .height = HEIGHT, .fps_num = 16, .fps_den = 1};
    struct video_encoder *enc = NULL;
    uint8_t *frames[BLOCK] = {NULL};
    double best = 0;
    size_t bytes = 0;
    int rc = video_encoder_create(&enc, &options, err);

    for (int i = 0; i < BLOCK && rc == ERR_OK; i++) {
        frames[i] = malloc(video_encoder_frame_bytes(enc));
        if (frames[i]) {
            make_frame(frames[i], i);
        } else {
            rc = err_set(err, ERR_NO_MEMORY, "encoder benchmark");
        }
    }
    for (int b = 0; b < BLOCKS && rc == ERR_OK; b++) {
        const int64_t start = clock_now_ns();

        rc = encode_block(enc, frames, (int64_t)b * BLOCK, &bytes, err);
        best = fmax(best, BLOCK / clock_seconds(clock_now_ns() - start));
    }
    if (rc == ERR_OK) {
        *ret_fps = best;
    }
    for (int i = 0; i < BLOCK; i++) {
        free(frames[i]);
    }
    video_encoder_free(enc);
    return rc;
}
