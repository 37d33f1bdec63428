#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/job_files_internal.h"

/* ---- removing ---- */

static bool is_temporary(const char *name)
{
    const size_t len = strlen(name);
    const size_t end = sizeof(JOB_TEMPORARY) - 1;

    return len > end && strcmp(name + len - end, JOB_TEMPORARY) == 0;
}

/* A temporary file of a crash, or a state other than this one ("": any). */
static bool is_leftover(const char *name, const char *keep_state)
{
    return is_temporary(name) ||
           (strncmp(name, JOB_STATE_PREFIX, sizeof(JOB_STATE_PREFIX) - 1) == 0 &&
            strcmp(name, keep_state) != 0);
}

static int unlink_leftover(void *ctx, int dir_fd, const char *name)
{
    return is_leftover(name, ctx) ? job_files_unlink(NULL, dir_fd, name) : 0;
}

/* ctx: bool, whether there was anything. */
static int unlink_unneeded(void *ctx, int dir_fd, const char *name)
{
    if (!is_leftover(name, "") && strcmp(name, job_files_names[JOB_LATENTS]) != 0 &&
        strcmp(name, job_files_names[JOB_PREVIEW]) != 0) {
        return 0;
    }
    *(bool *)ctx = true;
    return job_files_unlink(NULL, dir_fd, name);
}

void job_files_drop_states(struct job_files *f, const char *id, int64_t keep_version)
{
    struct err ignored; /* what stays is removed at the end, or at the next start */
    char keep[JOB_NAME_SIZE];
    int dir = -1;

    job_files_state_name(keep, keep_version);
    if (job_files_open_folder(f, id, &dir, &ignored) == ERR_OK) {
        (void)!job_files_visit(dir, unlink_leftover, keep);
        close(dir);
    }
}

int job_files_trim(struct job_files *f, const char *id, struct err *err)
{
    bool any = false;
    int dir = -1;
    int rc = job_files_open_folder(f, id, &dir, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (job_files_visit(dir, unlink_unneeded, &any) != 0 || (any && !job_files_sync(f, dir))) {
        rc = job_files_error(f, id, "", "remove from", err);
    }
    close(dir);
    return rc;
}

int job_files_remove(struct job_files *f, const char *id, struct err *err)
{
    int dir = -1;
    int rc = job_files_open_folder(f, id, &dir, err);

    if (rc != ERR_OK) {
        return rc == ERR_NOT_FOUND ? ERR_OK : rc;
    }
    if (job_files_visit(dir, job_files_unlink, NULL) != 0 ||
        unlinkat(f->videos, id, AT_REMOVEDIR) != 0 || !job_files_sync(f, f->videos)) {
        rc = job_files_error(f, id, "", "remove", err);
    }
    close(dir);
    return rc;
}

/* ---- recovery ---- */

static int recover_file(const struct job_files *f, const char *id, int dir, const char *name,
                        int64_t size, struct err *err)
{
    const int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    int rc;

    if (fd < 0 && errno == ENOENT) {
        return size == 0 ? ERR_OK
                         : err_set(err, ERR_FORMAT,
                                   "'%s/videos/%s/%s' is missing; %" PRId64 " bytes were stored",
                                   f->dir, id, name, size);
    }
    if (fd < 0) {
        return job_files_error(f, id, name, "open", err);
    }
    rc = job_files_cut(f, id, name, fd, size, err);
    close(fd);
    return rc;
}

/* The snapshot that counts must be there; the others go. */
static int recover_states(const struct job_files *f, const char *id, int dir, int64_t version,
                          struct err *err)
{
    char keep[JOB_NAME_SIZE];

    job_files_state_name(keep, version);
    if (keep[0] != '\0' && faccessat(dir, keep, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT
                   ? err_set(err, ERR_FORMAT, "'%s/videos/%s/%s' is missing", f->dir, id, keep)
                   : job_files_error(f, id, keep, "look at", err);
    }
    if (job_files_visit(dir, unlink_leftover, keep) != 0) {
        return job_files_error(f, id, "", "remove from", err);
    }
    return ERR_OK;
}

int job_files_recover(struct job_files *f, const struct job_row *row, struct err *err)
{
    const bool over = row->state == JOB_COMPLETED || row->state == JOB_FAILED;
    int dir = -1;
    int rc = job_files_make(f, row->id, err);

    if (rc == ERR_OK) {
        rc = job_files_open_folder(f, row->id, &dir, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    rc = recover_file(f, row->id, dir, job_files_names[JOB_FRAGMENTS], row->fragment_bytes, err);
    if (rc == ERR_OK && !over) { /* else they may be trimmed */
        rc = recover_file(f, row->id, dir, job_files_names[JOB_LATENTS], row->latent_bytes, err);
    }
    if (rc == ERR_OK) {
        rc = recover_states(f, row->id, dir, over ? 0 : row->state_version, err);
    }
    if (rc == ERR_OK && !job_files_sync(f, dir)) {
        rc = job_files_error(f, row->id, "", "sync", err);
    }
    close(dir);
    return rc;
}

struct sweep {
    struct job_files *f;
    bool (*known)(void *ctx, const char *id);
    void *ctx;
    int n;
    struct err *err;
};

static int sweep_one(void *ctx, int dir_fd, const char *name)
{
    struct sweep *s = ctx;
    struct stat st;

    if (!job_id_valid(name) || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISDIR(st.st_mode) || s->known(s->ctx, name)) {
        return 0; /* what is not ours stays */
    }
    if (job_files_remove(s->f, name, s->err) != ERR_OK) {
        return s->err->code;
    }
    s->n++;
    return 0;
}

int job_files_sweep(struct job_files *f, bool (*known)(void *ctx, const char *id), void *ctx,
                    int *ret_n, struct err *err)
{
    struct sweep s = {.f = f, .known = known, .ctx = ctx, .err = err};

    err->code = ERR_OK;
    if (job_files_visit(f->videos, sweep_one, &s) != 0) {
        return err->code != ERR_OK ? err->code : job_files_error(f, "", "", "list", err);
    }
    *ret_n = s.n;
    return ERR_OK;
}
