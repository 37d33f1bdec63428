/*
 * model_path.h - where the bundled model is when --model is not given.
 */
#ifndef DAEMON_MODEL_PATH_H
#define DAEMON_MODEL_PATH_H

#include <stddef.h>

#include "base/err.h"

/* Writes the directory: beside the binary as it is built or installed. Errors: ERR_NOT_FOUND names the
 * installed place. */
MUST_CHECK int model_path_default(char *ret, size_t size, struct err *err);

#endif
