#include "api/hls_playlist.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Bits of a picture's cell when nothing is there yet to go by: what the encoder makes of a lively picture. */
#define BITS_PER_PIXEL 0.12

/* ---- lengths ---- */

/* The first block takes the remainder, and its first latent frame is one picture. The one behind it is as long
 * as any other, unless it is the last and cut. Nothing here depends on how far the job is. */
int64_t hls_longest_block(const struct model_facts *facts, int64_t frames)
{
    const int64_t stride = facts->frame_multiple;
    const int64_t per_block = facts->block_frames / stride;
    const int64_t total = 1 + (frames - 1 + stride - 1) / stride; /* latent frames */
    const bool whole = facts->block_frames % stride != 0 ||
                       (!facts->causal && facts->block_frames == facts->default_frames);
    int64_t first;
    int64_t second;

    if (whole || total < 2 * per_block) { /* one block */
        return frames;
    }
    first = 1 + stride * (per_block + total % per_block - 1);
    second = frames - first < facts->block_frames ? frames - first : facts->block_frames;
    return first > second ? first : second;
}

/* Whole seconds, which no segment exceeds. */
static long long target_duration(const struct hls_media *m)
{
    int64_t frames = m->longest_frames;
    long long seconds;

    for (int i = 0; i < m->n; i++) {
        frames = m->blocks[i].frames > frames ? m->blocks[i].frames : frames;
    }
    seconds = (long long)ceil((double)frames / m->fps);
    return seconds > 0 ? seconds : 1;
}

/* ---- the media playlist ---- */

bool hls_write_media(struct str *out, const struct hls_media *m)
{
    bool ok = str_addf(out,
                       "#EXTM3U\n"
                       "#EXT-X-VERSION:7\n"
                       "#EXT-X-TARGETDURATION:%lld\n"
                       "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n"
                       "#EXT-X-MEDIA-SEQUENCE:0\n"
                       "#EXT-X-PLAYLIST-TYPE:EVENT\n"
                       "#EXT-X-INDEPENDENT-SEGMENTS\n"
                       "#EXT-X-START:TIME-OFFSET=0\n"
                       "#EXT-X-MAP:URI=\"init.mp4\"\n",
                       target_duration(m));

    for (int i = 0; ok && i < m->n; i++) {
        const struct job_block *b = &m->blocks[i];

        ok = str_addf(out, "#EXTINF:%.5f,\nseg-%05lld.m4s\n", (double)b->frames / m->fps,
                      (long long)b->index);
    }
    return ok && (!m->ended || str_add(out, "#EXT-X-ENDLIST\n"));
}

/* ---- the master playlist ---- */

/* Bits per second: of the segment that has the most, and of all together. */
static void measure(const struct hls_master *m, double *ret_peak, double *ret_average)
{
    double bytes = 0;
    double frames = 0;

    *ret_peak = 0;
    for (int i = 0; i < m->n; i++) {
        const struct job_block *b = &m->blocks[i];

        *ret_peak = fmax(*ret_peak, (double)b->bytes * 8 * m->fps / (double)b->frames);
        bytes += (double)b->bytes;
        frames += (double)b->frames;
    }
    *ret_average = frames > 0 ? bytes * 8 * m->fps / frames : 0;
    if (m->n == 0) {
        *ret_peak = (double)m->width * (double)m->height * m->fps * BITS_PER_PIXEL;
        *ret_average = *ret_peak;
    }
}

bool hls_write_master(struct str *out, const struct hls_master *m)
{
    double peak;
    double average;

    measure(m, &peak, &average);
    return str_addf(out,
                    "#EXTM3U\n"
                    "#EXT-X-VERSION:7\n"
                    "#EXT-X-INDEPENDENT-SEGMENTS\n"
                    "#EXT-X-STREAM-INF:BANDWIDTH=%.0f,AVERAGE-BANDWIDTH=%.0f,CODECS=\"%s\","
                    "RESOLUTION=%lldx%lld,FRAME-RATE=%.3f\n"
                    "index.m3u8\n",
                    ceil(peak), ceil(average), m->codec, (long long)m->width, (long long)m->height,
                    m->fps);
}

/* ---- names ---- */

bool hls_segment_index(const char *name, size_t len, int64_t *ret)
{
    char again[32];
    int64_t index = 0;

    /* "seg-", digits, ".m4s": then it must come out the same. */
    if (len < sizeof("seg-.m4s") || len > 20) {
        return false;
    }
    for (size_t i = 4; i < len - 4; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return false;
        }
        index = index * 10 + (name[i] - '0');
    }
    snprintf(again, sizeof(again), "seg-%05lld.m4s", (long long)index);
    if (strlen(again) != len || memcmp(again, name, len) != 0) {
        return false;
    }
    *ret = index;
    return true;
}
