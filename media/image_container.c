#include "media/image_container.h"

#include <limits.h>
#include <string.h>

#include "media/image.h"
#include "media/image_container_internal.h"

const char *image_format_name(enum image_format format)
{
    static const char *const names[] = {"PNG", "JPEG", "WebP"};

    return names[format];
}

int image_reader_damaged(const struct image_reader *r, struct err *err, const char *what)
{
    return err_set(err, ERR_FORMAT, "the %s image is damaged: %s", image_format_name(r->c->format),
                   what);
}

int image_reader_cut_off(const struct image_reader *r, struct err *err)
{
    return err_set(err, ERR_FORMAT, "the %s image is cut off after %zu bytes",
                   image_format_name(r->c->format), r->len);
}

int image_reader_keep(struct image_reader *r, const void *data, size_t len, struct err *err)
{
    if (!str_append(&r->c->bare, data, len)) {
        return err_set(err, ERR_NO_MEMORY, "%s image", image_format_name(r->c->format));
    }
    return ERR_OK;
}

int image_reader_set_size(struct image_reader *r, uint32_t width, uint32_t height, struct err *err)
{
    r->c->width = width < INT_MAX ? (int)width : INT_MAX;
    r->c->height = height < INT_MAX ? (int)height : INT_MAX;
    if (width < IMAGE_MIN_SIDE || width > IMAGE_MAX_SIDE || height < IMAGE_MIN_SIDE ||
        height > IMAGE_MAX_SIDE || (uint64_t)width * height > IMAGE_MAX_PIXELS) {
        return err_set(
            err, ERR_INVALID,
            "the %s image is %ux%u; each side must be %d to %d pixels, the whole at most %d "
            "megapixels",
            image_format_name(r->c->format), width, height, IMAGE_MIN_SIDE, IMAGE_MAX_SIDE,
            IMAGE_MAX_PIXELS / 1000000);
    }
    return ERR_OK;
}

bool image_container_format(enum image_format *ret, const uint8_t *data, size_t len)
{
    if (len >= IMAGE_PNG_MAGIC && memcmp(data, "\x89PNG\r\n\x1a\n", IMAGE_PNG_MAGIC) == 0) {
        *ret = IMAGE_PNG;
    } else if (len >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) {
        *ret = IMAGE_JPEG;
    } else if (len >= IMAGE_WEBP_MAGIC && memcmp(data, "RIFF", 4) == 0 &&
               memcmp(data + 8, "WEBP", 4) == 0) {
        *ret = IMAGE_WEBP;
    } else {
        return false;
    }
    return true;
}

int image_container_read(struct image_container *ret, const uint8_t *data, size_t len,
                         struct err *err)
{
    static int (*const readers[])(struct image_reader *, struct err *) = {
        image_png_read, image_jpeg_read, image_webp_read};
    struct image_reader r = {.c = ret, .data = data, .len = len};

    *ret = (struct image_container){.orientation = 1};
    str_init(&ret->bare, IMAGE_MAX_BYTES + 64);
    if (len > IMAGE_MAX_BYTES) {
        return err_set(err, ERR_INVALID, "the image has %zu bytes, more than %d MiB", len,
                       IMAGE_MAX_BYTES >> 20);
    }
    if (!image_container_format(&ret->format, data, len)) {
        return err_set(err, ERR_FORMAT, "not a PNG, JPEG or WebP image");
    }
    return readers[ret->format](&r, err);
}

void image_container_done(struct image_container *c)
{
    str_done(&c->bare);
}
