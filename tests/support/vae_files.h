/*
 * vae_files.h - made-up weights for any VAE configuration, and a planned workspace to run it in.
 *
 * Whatever fails ends the test.
 */
#ifndef TESTS_SUPPORT_VAE_FILES_H
#define TESTS_SUPPORT_VAE_FILES_H

#include "engine/model_config.h"
#include "engine/weights.h"
#include "kernels/workspace.h"

/* vae/config.json of a golden model: "tiny-480p". */
void vae_files_config(const char *model, struct vae_config *ret);

/* Its weights. Close them. */
struct weights *vae_files_golden(const char *model);

/* Random weights of that shape, written to folder NAME of test_dir(). Close them. */
struct weights *vae_files_random(const char *name, const struct vae_config *config);

/* Runs fn on the device dry, commits ws, and runs fn again. Both runs must leave ws as they found
 * it. */
typedef void (*vae_files_fn)(struct workspace *ws, void *ctx);
void vae_files_run(struct device *dev, vae_files_fn fn, void *ctx);

#endif
