/*
 * deflate_size.h - how many bytes a zlib stream expands to, without expanding it.
 *
 * libavcodec draws an interlaced PNG whose rows end too early from its coarse passes and says nothing;
 * this finds out before. Lengths alone are decoded, so there is no window, no output, nothing that grows;
 * the time is proportional to the bits read. RFC 1950, RFC 1951. Any thread.
 */
#ifndef MEDIA_DEFLATE_SIZE_H
#define MEDIA_DEFLATE_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* The size, or `enough` as soon as it is reached; where the stream is damaged or cut off, what there was
 * before that place. */
uint64_t deflate_size(const uint8_t *zlib, size_t len, uint64_t enough);

#endif
