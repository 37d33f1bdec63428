/*
 * POST /v1/videos/cancel: {"ids":[...]} or {"group":"..."} (API.md 3.8).
 *
 * Of a group, what is not over is cancelled: first it is listed page by page, then all are cancelled, and the
 * answer says where each of them stands when its cancellation is stored.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/body.h"
#include "api/pending.h"
#include "jobs/video_id.h"

enum {
    CANCEL_MAX_IDS = 100,
    CANCEL_MAX_GROUP = 10000,
    CANCEL_PAGE = 100,
    CANCEL_GROUP_SIZE = 64 * 4 + 1, /* 64 characters */
};

struct cancel_many;

struct cancel_item {
    struct cancel_many *all;
    char id[JOB_ID_SIZE];
    const char *status; /* static */
};

struct cancel_many {
    struct pending p;
    struct body body;
    char group[CANCEL_GROUP_SIZE];
    int status; /* of the page that is being listed */
    char after[JOB_ID_SIZE];
    struct cancel_item *item; /* owned [n] */
    int n, capacity;
    int left; /* cancellations that are not stored yet */
};

static void cancel_free(struct pending *p)
{
    struct cancel_many *c = CONTAINER_OF(p, struct cancel_many, p);

    body_done(&c->body);
    free(c->item);
    free(c);
}

static bool add_item(struct cancel_many *c, const char *id)
{
    if (c->n == c->capacity) {
        const int capacity = c->capacity > 0 ? 2 * c->capacity : 16;
        struct cancel_item *item = realloc(c->item, (size_t)capacity * sizeof(*item));

        if (!item) {
            return false;
        }
        c->item = item;
        c->capacity = capacity;
    }
    c->item[c->n] = (struct cancel_item){.all = c, .status = "not_found"};
    snprintf(c->item[c->n].id, sizeof(c->item[c->n].id), "%s", id);
    c->n++;
    return true;
}

/* ---- cancelling ---- */

static void respond(struct cancel_many *c)
{
    cJSON *root = cJSON_CreateObject();
    bool ok = cJSON_AddStringToObject(root, "object", "list");
    cJSON *data = cJSON_AddArrayToObject(root, "data");

    for (int i = 0; ok && data && i < c->n; i++) {
        cJSON *item = cJSON_CreateObject();

        ok = cJSON_AddStringToObject(item, "id", c->item[i].id) &&
             cJSON_AddStringToObject(item, "status", c->item[i].status) &&
             cJSON_AddItemToArray(data, item);
        if (!ok) {
            cJSON_Delete(item);
        }
    }
    api_respond_tree(c->p.req, 200, root, ok && data);
}

static void one_less(struct cancel_many *c)
{
    if (--c->left == 0 && c->p.req) {
        respond(c);
    }
    pending_unref(&c->p);
}

static void cancelled(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct cancel_item *item = ctx;

    if (outcome == JOBS_OK) {
        item->status = job_status_name(job_status(job));
    } else if (outcome != JOBS_NOT_FOUND) {
        item->status = "error";
    }
    one_less(item->all);
}

static void cancel_all(struct cancel_many *c)
{
    const int n = c->n;

    c->left = n + 1; /* one for this loop, so that the answer comes behind it */
    for (int i = 0; i < n + 1; i++) {
        pending_ref(&c->p);
    }
    for (int i = 0; i < n; i++) {
        jobs_cancel(c->p.api->jobs, c->item[i].id, NULL, cancelled, &c->item[i]);
    }
    one_less(c);
}

/* ---- by group ---- */

static void list_group(struct cancel_many *c);

static bool is_listed(const struct cancel_many *c, const char *id)
{
    for (int i = 0; i < c->n; i++) {
        if (strcmp(c->item[i].id, id) == 0) {
            return true;
        }
    }
    return false;
}

static bool add_page(struct cancel_many *c, const struct jobs_page *page)
{
    for (int i = 0; i < page->n; i++) {
        const char *id = page->job[i]->row->id;

        /* One that was started meanwhile is found twice. */
        if (c->status != STATUS_QUEUED && is_listed(c, id)) {
            continue;
        }
        if (c->n >= CANCEL_MAX_GROUP || !add_item(c, id)) {
            return false;
        }
    }
    if (page->n > 0) {
        snprintf(c->after, sizeof(c->after), "%s", page->job[page->n - 1]->row->id);
    }
    return true;
}

static void group_listed(void *ctx, const struct jobs_page *page)
{
    struct cancel_many *c = ctx;

    if (!page || !add_page(c, page)) {
        if (c->p.req) {
            api_refuse(c->p.req, API_INTERNAL_ERROR, "group", "The group could not be read.");
        }
    } else if (page->has_more) {
        list_group(c);
    } else if (c->status == STATUS_QUEUED) {
        c->status = STATUS_IN_PROGRESS;
        c->after[0] = '\0';
        list_group(c);
    } else {
        cancel_all(c);
    }
    pending_unref(&c->p);
}

static void list_group(struct cancel_many *c)
{
    const struct store_query query = {
        .after = c->after[0] != '\0' ? c->after : NULL,
        .ascending = true,
        .limit = CANCEL_PAGE,
        .status = c->status,
        .group = c->group,
    };

    pending_ref(&c->p);
    jobs_list(c->p.api->jobs, &query, group_listed, c);
}

/* ---- the request ---- */

static bool read_ids(struct cancel_many *c, const cJSON *ids, struct api_error *e)
{
    const cJSON *id;

    if (!cJSON_IsArray(ids)) {
        return api_fail(e, API_INVALID_TYPE, "ids", "ids is an array of strings.");
    }
    if (cJSON_GetArraySize(ids) > CANCEL_MAX_IDS) {
        return api_fail(e, API_INVALID_VALUE, "ids", "There are %d ids; the limit is %d.",
                        cJSON_GetArraySize(ids), (int)CANCEL_MAX_IDS);
    }
    cJSON_ArrayForEach(id, ids)
    {
        if (!cJSON_IsString(id)) {
            return api_fail(e, API_INVALID_TYPE, "ids", "ids is an array of strings.");
        }
        if (!video_id_acceptable(id->valuestring)) {
            return api_fail(e, API_INVALID_VALUE, "ids", "Invalid value: '%s' is no id of a video.",
                            id->valuestring);
        }
        if (!add_item(c, id->valuestring)) {
            return api_fail(e, API_INTERNAL_ERROR, "", "The server is out of memory.");
        }
    }
    return true;
}

static bool read_group(struct cancel_many *c, const cJSON *group, struct api_error *e)
{
    if (!cJSON_IsString(group)) {
        return api_fail(e, API_INVALID_TYPE, "group", "group is a string.");
    }
    if (strlen(group->valuestring) >= sizeof(c->group) || group->valuestring[0] == '\0') {
        return api_fail(e, API_INVALID_VALUE, "group", "group has 1 to 64 characters.");
    }
    snprintf(c->group, sizeof(c->group), "%s", group->valuestring);
    return true;
}

static bool read_request(struct cancel_many *c, struct api_error *e)
{
    const cJSON *root = c->body.fields.root;
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(root, "ids");
    const cJSON *group = cJSON_GetObjectItemCaseSensitive(root, "group");
    const cJSON *item;

    cJSON_ArrayForEach(item, root)
    {
        if (item != ids && item != group) {
            return api_fail(e, API_UNKNOWN_PARAMETER, item->string, "Unknown parameter: '%s'.",
                            item->string);
        }
    }
    ids = cJSON_IsNull(ids) ? NULL : ids;
    group = cJSON_IsNull(group) ? NULL : group;
    if (ids && group) {
        return api_fail(e, API_CONFLICTING_PARAMETERS, "group", "Give ids or group, not both.");
    }
    if (!ids && !group) {
        return api_fail(e, API_MISSING_REQUIRED_PARAMETER, "ids", "Give ids or group.");
    }
    return ids ? read_ids(c, ids, e) : read_group(c, group, e);
}

static void with_body(struct body *b, const struct api_error *error)
{
    struct cancel_many *c = CONTAINER_OF(b, struct cancel_many, body);
    struct api_error e;

    if (error) {
        api_respond_error(c->p.req, error);
    } else if (!read_request(c, &e)) {
        api_respond_error(c->p.req, &e);
    } else if (c->group[0] != '\0') {
        c->status = STATUS_QUEUED;
        list_group(c);
    } else {
        cancel_all(c);
    }
}

void videos_cancel_many(struct api *api, struct http_request *req, const char *id)
{
    struct cancel_many *c = calloc(1, sizeof(*c));

    (void)id;
    if (!c) {
        api_refuse_no_memory(req);
        return;
    }
    pending_init(&c->p, api, req, NULL, cancel_free);
    body_read(&c->body, api, req, with_body);
}
