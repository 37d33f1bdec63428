/*
 * exif.h - the one thing we want from EXIF: which way is up. Any thread.
 */
#ifndef MEDIA_EXIF_H
#define MEDIA_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* The Orientation field (tag 0x0112, 1..8) of a TIFF structure as EXIF holds it; 1, upright, when
 * it is missing, not a valid value, or the bytes are no such structure. */
int exif_orientation(const uint8_t *tiff, size_t len);

#endif
