#include "daemon/model_path.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    PATH_LEN = 1024
};

/* The folder of this binary; empty if it cannot be told. */
static void binary_folder(char folder[PATH_LEN])
{
    const ssize_t n = readlink("/proc/self/exe", folder, PATH_LEN - 1);
    char *slash;

    folder[n > 0 ? n : 0] = '\0';
    slash = strrchr(folder, '/');
    if (slash) {
        *slash = '\0';
    }
}

int model_path_default(char *ret, size_t size, struct err *err)
{
    /* Installed (bin/), built (build/MODE/), and the compiled-in prefix. */
    static const char *const relative[] = {"../share/sanad/models/demo", "../../models/demo"};
    char folder[PATH_LEN];
    char index[PATH_LEN + 64];

    binary_folder(folder);
    for (size_t i = 0; i <= ARRAY_LEN(relative); i++) {
        if (i < ARRAY_LEN(relative)) {
            snprintf(ret, size, "%s/%s", folder, relative[i]);
        } else {
            snprintf(ret, size, "%s/models/demo", SANAD_DATADIR);
        }
        snprintf(index, sizeof(index), "%s/model_index.json", ret);
        if (access(index, R_OK) == 0) {
            return ERR_OK;
        }
    }
    return err_set(
        err, ERR_NOT_FOUND,
        "no --model given, and no bundled model in %s; use --model DIR with a downloaded "
        "diffusers directory",
        ret);
}
