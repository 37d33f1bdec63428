/*
 * The queue as a whole: GET /v1/queue, POST /v1/queue/pause and /resume (API.md 3.12).
 */
#include <math.h>

#include "api/api_internal.h"

struct running {
    cJSON *list;
    bool ok;
};

static void add_running(void *ctx, struct job *job, int device)
{
    struct running *r = ctx;
    cJSON *item = cJSON_CreateObject();

    r->ok = r->ok && cJSON_AddStringToObject(item, "id", job->row->id) &&
            cJSON_AddNumberToObject(item, "gpu", device) && cJSON_AddItemToArray(r->list, item);
    if (!r->ok) {
        cJSON_Delete(item);
    }
}

static void respond_queue(struct api *api, struct http_request *req)
{
    cJSON *root = cJSON_CreateObject();
    struct running running = {.ok = true};
    struct jobs_counts counts;

    jobs_count(api->jobs, &counts);
    running.ok = cJSON_AddStringToObject(root, "object", "queue") &&
                 cJSON_AddBoolToObject(root, "paused", counts.paused) &&
                 cJSON_AddNumberToObject(root, "queued", counts.queued);
    running.list = cJSON_AddArrayToObject(root, "running");
    running.ok = running.ok && running.list;
    if (running.ok) {
        jobs_each_running(api->jobs, add_running, &running);
    }
    running.ok =
        running.ok && cJSON_AddNumberToObject(root, "capacity", counts.capacity) &&
        (counts.eta_s < 0 ? cJSON_AddNullToObject(root, "eta_s")
                          : cJSON_AddNumberToObject(root, "eta_s", round(counts.eta_s * 10) / 10));
    api_respond_tree(req, 200, root, running.ok);
}

void queue_get(struct api *api, struct http_request *req, const char *id)
{
    (void)id;
    respond_queue(api, req);
}

void queue_pause(struct api *api, struct http_request *req, const char *id)
{
    (void)id;
    jobs_pause_queue(api->jobs, true);
    respond_queue(api, req);
}

void queue_resume(struct api *api, struct http_request *req, const char *id)
{
    (void)id;
    jobs_pause_queue(api->jobs, false);
    respond_queue(api, req);
}
