#include "media/image_probe.h"

#include <stdlib.h>

#include "base/macros.h"
#include "media/image_container.h"
#include "media/image_file.h"

static bool too_large(const struct image_container *c, size_t len)
{
    return len > IMAGE_MAX_BYTES || c->width > IMAGE_MAX_SIDE || c->height > IMAGE_MAX_SIDE ||
           (int64_t)c->width * c->height > IMAGE_MAX_PIXELS;
}

int image_probe(struct image_probe *ret, const uint8_t *data, size_t len, struct err *err)
{
    static const char *const types[] = {"image/png", "image/jpeg", "image/webp"};
    struct image_container c;
    enum image_format format;
    int rc = image_container_read(&c, data, len, err);

    *ret = (struct image_probe){.width = c.width, .height = c.height};
    if (c.orientation >= 5) { /* rows become columns */
        ret->width = c.height;
        ret->height = c.width;
    }
    if (image_container_format(&format, data, len)) {
        ret->type = types[format];
    }
    if (rc != ERR_OK && rc != ERR_NO_MEMORY) {
        ret->problem = too_large(&c, len) ? IMAGE_PROBE_TOO_LARGE
                       : ret->type        ? IMAGE_PROBE_BAD
                                          : IMAGE_PROBE_NOT_AN_IMAGE;
    }
    image_container_done(&c);
    return rc;
}

int image_probe_file(struct image_probe *ret, const char *path, struct err *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    int rc = image_file_read(&data, &len, path, err);

    *ret = (struct image_probe){.problem = IMAGE_PROBE_OK};
    if (rc == ERR_INVALID) {
        ret->problem = IMAGE_PROBE_TOO_LARGE;
    } else if (rc == ERR_FORMAT) {
        ret->problem = IMAGE_PROBE_NOT_AN_IMAGE;
    } else if (rc == ERR_OK) {
        rc = image_probe(ret, data, len, err);
    } else { /* not the client's business */
        err_prefix(err, "'%s'", path);
    }
    free(data);
    return rc;
}
