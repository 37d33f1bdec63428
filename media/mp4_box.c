#include "media/mp4_box.h"

#include <string.h>

enum {
    HEAD = 8
}; /* length, name */

static const uint8_t *find_here(const uint8_t *data, size_t len, const char *name, size_t *ret_len)
{
    while (len >= HEAD) {
        const size_t size = mp4_box_get32(data);

        if (size < HEAD || size > len) {
            return NULL;
        }
        if (memcmp(data + 4, name, 4) == 0) {
            *ret_len = size - HEAD;
            return data + HEAD;
        }
        data += size;
        len -= size;
    }
    return NULL;
}

const uint8_t *mp4_box_find(const uint8_t *data, size_t len, const char *path, size_t *ret_len)
{
    while (data && strlen(path) >= 4) {
        data = find_here(data, len, path, &len);
        path += 4;
        if (*path != '.') {
            break;
        }
        path++;
    }
    if (data) {
        *ret_len = len;
    }
    return data;
}
