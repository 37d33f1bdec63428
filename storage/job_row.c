#include "storage/job_row.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_ID_LENGTH = 64
};

bool job_id_valid(const char *id)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    const size_t len = strspn(id, allowed);

    return len > 0 && len <= MAX_ID_LENGTH && id[len] == '\0';
}

bool job_row_set(char **field, const char *text)
{
    char *copy = NULL;

    if (text) {
        copy = strdup(text);
        if (!copy) {
            return false;
        }
    }
    free(*field);
    *field = copy;
    return true;
}

struct job_row *job_row_create(void)
{
    struct job_row *row = calloc(1, sizeof(*row));

    if (row && job_row_set(&row->client, "") && job_row_set(&row->model, "") &&
        job_row_set(&row->tags, "") && job_row_set(&row->metadata, "") &&
        job_row_set(&row->spec, "") && job_row_set(&row->detail, "")) {
        return row;
    }
    job_row_free(row);
    return NULL;
}

void job_row_free(struct job_row *row)
{
    if (!row) {
        return;
    }
    free(row->client);
    free(row->model);
    free(row->group);
    free(row->user);
    free(row->tags);
    free(row->metadata);
    free(row->spec);
    free(row->detail);
    free(row->error_code);
    free(row->error_message);
    free(row);
}

struct job_row *job_row_copy(const struct job_row *row)
{
    struct job_row *copy = malloc(sizeof(*copy));

    if (!copy) {
        return NULL;
    }
    *copy = *row;
    copy->client = copy->model = copy->group = copy->user = NULL;
    copy->tags = copy->metadata = copy->spec = copy->detail = NULL;
    copy->error_code = copy->error_message = NULL;
    if (job_row_set(&copy->client, row->client) && job_row_set(&copy->model, row->model) &&
        job_row_set(&copy->group, row->group) && job_row_set(&copy->user, row->user) &&
        job_row_set(&copy->tags, row->tags) && job_row_set(&copy->metadata, row->metadata) &&
        job_row_set(&copy->spec, row->spec) && job_row_set(&copy->detail, row->detail) &&
        job_row_set(&copy->error_code, row->error_code) &&
        job_row_set(&copy->error_message, row->error_message)) {
        return copy;
    }
    job_row_free(copy);
    return NULL;
}
