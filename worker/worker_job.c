/*
 * worker_job.c - a job as JSON: to options for the rendering, and back as the settings it comes to.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/size.h"
#include "worker/worker_internal.h"

/* A snapshot is some 20 MB at 480p. */
#define STATE_MAX ((size_t)1 << 30)

void worker_job_done(struct worker_job *job)
{
    cJSON_Delete(job->root);
    free(job->latents);
    free(job->state);
    *job = (struct worker_job){0};
}

/* ---- parsing ---- */

/* 0 stands for the default there, so it cannot be given. */
static int take_int(struct json_fields *f, const char *key)
{
    return (int)json_int_or(f, key, 1, INT_MAX, 0);
}

static double take_positive(struct json_fields *f, const char *key)
{
    return json_real_or(f, key, 1e-6, 1e6, 0);
}

static void take_request(struct json_fields *f, struct render_options *o)
{
    struct session_request *r = &o->request;

    r->prompt = json_text(f, "prompt");
    r->negative_prompt = json_text_or(f, "negative_prompt", NULL);
    r->width = take_int(f, "width");
    r->height = take_int(f, "height");
    r->frames = take_int(f, "frames");
    r->seed = (uint64_t)json_int_or(f, "seed", 0, JSON_MAX_INT, 0);
    r->steps = take_int(f, "steps");
    r->has_guidance = json_find(f, "guidance_scale") != NULL;
    r->guidance_scale = json_real_or(f, "guidance_scale", -1e6, 1e6, 0);
    r->flow_shift = take_positive(f, "flow_shift");
    r->has_motion_score = json_find(f, "motion_score") != NULL;
    r->motion_score = (int)json_int_or(f, "motion_score", INT_MIN, INT_MAX, 0);
    o->fps = take_positive(f, "fps");
    o->crf = (int)json_int_or(f, "crf", 0, INT_MAX, 0);
    o->image_path = json_text_or(f, "image", NULL);
}

static int take_resume(struct json_fields *f, struct worker_job *job, struct err *err)
{
    const cJSON *object = json_find(f, "resume");
    struct json_fields r;

    if (!object) {
        return ERR_OK;
    }
    if (!cJSON_IsObject(object)) {
        return err_set(err, ERR_FORMAT, "job: resume: not an object");
    }
    json_fields_init(&r, object, "job: resume", err);
    job->options.resume.blocks = json_int(&r, "blocks", 0, FRAMES_MAX);
    job->latents_path = json_text_or(&r, "latents", NULL);
    job->state_path = json_text_or(&r, "state", NULL);
    return r.rc;
}

int worker_job_parse(struct worker_job *ret, const char *json, size_t len, struct err *err)
{
    struct worker_job job = {0};
    struct json_fields f;
    int rc = json_parse_object(&job.root, json, len, WORKER_MAX_VALUES, "job", err);

    if (rc != ERR_OK) {
        return rc;
    }
    json_fields_init(&f, job.root, "job", err);
    take_request(&f, &job.options);
    rc = f.rc;
    if (rc == ERR_OK) {
        rc = take_resume(&f, &job, err);
    }
    if (rc != ERR_OK) {
        worker_job_done(&job);
        return rc;
    }
    *ret = job;
    return ERR_OK;
}

/* ---- the resume point ---- */

static int read_bytes(int fd, void *to, size_t size, const char *path, struct err *err)
{
    size_t done = 0;

    while (done < size) {
        const ssize_t n = read(fd, (char *)to + done, size - done);

        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0) {
            return err_set(err, ERR_IO, "%s: became shorter while it was read", path);
        } else if (errno != EINTR) {
            return err_set(err, ERR_IO, "%s: read: %m", path);
        }
    }
    return ERR_OK;
}

/* The first `size` bytes of a file, which may have more. */
static int read_prefix(float **ret, const char *path, size_t size, struct err *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
    float *data = NULL;
    struct stat st;
    int rc;

    if (fd < 0) {
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %m", path);
    }
    if (fstat(fd, &st) != 0) {
        rc = err_set(err, ERR_IO, "%s: %m", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < size) {
        rc = err_set(err, ERR_FORMAT, "%s: %lld bytes, the blocks that are done have %zu", path,
                     (long long)st.st_size, size);
        goto out;
    }
    data = malloc(size);
    if (!data) {
        rc = err_set(err, ERR_NO_MEMORY, "%s: %zu bytes", path, size);
        goto out;
    }
    rc = read_bytes(fd, data, size, path, err);
    if (rc != ERR_OK) {
        goto out;
    }
    *ret = data;
    data = NULL;
out:
    free(data);
    close(fd);
    return rc;
}

static int load_latents(struct worker_job *job, const struct model *model,
                        const struct session_settings *set, struct err *err)
{
    const struct vae_config *vae = &model->dir->vae;
    struct render_resume *resume = &job->options.resume;
    struct geometry_block last;
    int64_t n;
    int rc;

    if (resume->blocks == 0) {
        return ERR_OK;
    }
    if (!job->latents_path) {
        return err_set(err, ERR_FORMAT, "job: resume: latents: missing");
    }
    last = geometry_block(set->frames, vae->stride_t, set->block_latent_frames, resume->blocks - 1);
    n = last.first + last.count;
    if (!count_mul(&n, n, vae->latent_channels) || !count_mul(&n, n, set->size.latent_width) ||
        !count_mul(&n, n, set->size.latent_height) || !count_mul(&n, n, sizeof(float))) {
        return err_set(err, ERR_NO_MEMORY, "%s: latents of %lld blocks", job->latents_path,
                       (long long)resume->blocks);
    }
    rc = read_prefix(&job->latents, job->latents_path, (size_t)n, err);
    resume->latents = job->latents;
    return rc;
}

int worker_job_load(struct worker_job *job, const struct model *model, struct err *err)
{
    struct render_resume *resume = &job->options.resume;
    struct session_settings set;
    int rc = session_resolve(model, &job->options.request, &set, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (resume->blocks > set.blocks) {
        return err_set(err, ERR_INVALID, "job: resume: blocks: %lld, but the video has %lld",
                       (long long)resume->blocks, (long long)set.blocks);
    }
    if (model->dir->transformer.causal) {
        return load_latents(job, model, &set, err);
    }
    if (job->state_path) {
        rc = json_read_file(&job->state, &resume->state_bytes, job->state_path, STATE_MAX, err);
        resume->state = job->state;
    }
    return rc;
}

/* ---- PREPARED ---- */

/* cJSON writes numbers with 15 digits where it thinks that this is exact enough; a seed has 16. */
static bool add_exact(cJSON *o, const char *key, uint64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return cJSON_AddRawToObject(o, key, text) != NULL;
}

static bool add_blocks(cJSON *o, const struct session_settings *set, int64_t stride_t)
{
    cJSON *list = cJSON_AddNumberToObject(o, "blocks", (double)set->blocks)
                      ? cJSON_AddArrayToObject(o, "block_frames")
                      : NULL;

    for (int64_t i = 0; list && i < set->blocks; i++) {
        const struct geometry_block b =
            geometry_block(set->frames, stride_t, set->block_latent_frames, i);
        cJSON *item = cJSON_CreateNumber((double)b.n_pictures);

        if (!item || !cJSON_AddItemToArray(list, item)) {
            cJSON_Delete(item);
            return false;
        }
    }
    return list != NULL;
}

cJSON *worker_prepared(const struct render_plan *plan, const struct model *model, const char *codec)
{
    const struct session_settings *set = &plan->settings;
    const int steps =
        set->sampler.kind == SAMPLER_LONGLIVE ? set->sampler.n_renoise : set->sampler.steps;
    cJSON *o = cJSON_CreateObject();

    if (cJSON_AddNumberToObject(o, "width", (double)set->size.width) &&
        cJSON_AddNumberToObject(o, "height", (double)set->size.height) &&
        cJSON_AddNumberToObject(o, "native_width", (double)set->size.gen_width) &&
        cJSON_AddNumberToObject(o, "native_height", (double)set->size.gen_height) &&
        cJSON_AddNumberToObject(o, "frames", (double)set->frames) &&
        cJSON_AddNumberToObject(o, "generated_frames", (double)plan->generated_frames) &&
        add_blocks(o, set, model->dir->vae.stride_t) && add_exact(o, "seed", set->seed) &&
        cJSON_AddNumberToObject(o, "steps", steps) &&
        cJSON_AddNumberToObject(o, "guidance_scale", set->guidance_scale) &&
        cJSON_AddNumberToObject(o, "flow_shift", set->sampler.flow_shift) &&
        cJSON_AddNumberToObject(o, "motion_score", set->motion_score) &&
        cJSON_AddNumberToObject(o, "fps", plan->fps) &&
        cJSON_AddBoolToObject(o, "prompt_truncated", set->prompt_truncated) &&
        cJSON_AddStringToObject(o, "codec", codec)) {
        return o;
    }
    cJSON_Delete(o);
    return NULL;
}
