/*
 * Finds and loads the CUDA plugin. That it is not there is normal, and then the message lists the places.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda_layout.h"

enum {
    PATH_LEN = 4096,
    PLACES = 2
};

static const char file_name[] = "libsanad_cuda.so";

/* Beside this program, and where it is installed; "" if it cannot be told. */
static void list_places(char place[PLACES][PATH_LEN])
{
    char folder[PATH_LEN - sizeof(file_name)];
    const ssize_t n = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
    char *slash;

    folder[n > 0 ? n : 0] = '\0';
    slash = strrchr(folder, '/');
    place[0][0] = '\0';
    if (slash) {
        *slash = '\0';
        snprintf(place[0], PATH_LEN, "%s/%s", folder, file_name);
    }
    snprintf(place[1], PATH_LEN, "%s/%s", SANAD_LIBDIR, file_name);
}

/* For good: the CUDA runtime leaves things behind that are called when threads end. */
static int load_file(struct device *dev, const char *path, struct err *err)
{
    dev->plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (dev->plugin) {
        return ERR_OK;
    }
    return err_set(err, access(path, F_OK) == 0 ? ERR_UNSUPPORTED : ERR_NOT_FOUND,
                   "CUDA plugin: %s", dlerror());
}

static int load(struct device *dev, const char *chosen, struct err *err)
{
    char place[PLACES][PATH_LEN];

    if (!chosen) {
        chosen = getenv("SANAD_CUDA_PLUGIN");
    }
    if (chosen && chosen[0] != '\0') {
        return load_file(dev, chosen, err);
    }
    list_places(place);
    for (int i = 0; i < PLACES; i++) {
        if (access(place[i], F_OK) == 0) {
            return load_file(dev, place[i], err);
        }
    }
    return err_set(err, ERR_NOT_FOUND, "no CUDA plugin: neither '%.200s' nor '%.200s' is there",
                   place[0], place[1]);
}

int cuda_table_check(const struct cuda_api *table, struct err *err)
{
    static const uint32_t layout[CUDA_LAYOUT_NUMBERS] = CUDA_LAYOUT;

    if (!table || table->version != CUDA_API_VERSION || table->size != sizeof(*table) ||
        memcmp(table->layout, layout, sizeof(layout)) != 0) {
        return err_set(err, ERR_UNSUPPORTED,
                       "CUDA plugin: it is of another version than this program (interface %d); "
                       "build and install both together",
                       CUDA_API_VERSION);
    }
    return ERR_OK;
}

/* NULL: err says why. */
static const struct cuda_api *get_table(void *plugin, struct err *err)
{
    const struct cuda_api *table;
    cuda_get_fn get;

    *(void **)&get = dlsym(plugin, "sanad_cuda_get");
    if (!get) {
        err_set(err, ERR_UNSUPPORTED, "CUDA plugin: %s", dlerror());
        return NULL;
    }
    table = get(CUDA_API_VERSION);
    return cuda_table_check(table, err) == ERR_OK ? table : NULL;
}

int device_open_cuda(struct device *dev, const struct device_cuda_options *options, struct err *err)
{
    int rc;

    *dev = (struct device){.kind = DEVICE_CPU};
    rc = load(dev, options->plugin, err);
    if (rc != ERR_OK) {
        return rc;
    }
    dev->cuda = get_table(dev->plugin, err);
    rc = dev->cuda ? dev->cuda->open(dev, options, err) : err->code;
    if (rc != ERR_OK) {
        device_close(dev);
    }
    return rc;
}
