#include <stdio.h>
#include <string.h>

#include "api/api_internal.h"

static void respond_status(struct http_request *req, int status, const char *name,
                           const char *value)
{
    char text[96];
    const int len = snprintf(text, sizeof(text), "{\"%s\":\"%s\"}", name, value);

    api_respond_json(req, status, text, (size_t)len);
}

void health_live(struct api *api, struct http_request *req, const char *id)
{
    (void)api;
    (void)id;
    respond_status(req, 200, "status", "ok");
}

void health_ready(struct api *api, struct http_request *req, const char *id)
{
    static const char *const names[] = {
        [JOBS_READY] = "ready",
        [JOBS_LOADING] = "loading",
        [JOBS_DEVICE_ERROR] = "gpu_error",
        [JOBS_STORE_ERROR] = "store_error",
        [JOBS_DRAINING] = "draining",
    };
    const enum jobs_readiness readiness = api->draining ? JOBS_DRAINING : jobs_readiness(api->jobs);

    (void)id;
    respond_status(req, readiness == JOBS_READY ? 200 : 503, "status", names[readiness]);
}

void health_version(struct api *api, struct http_request *req, const char *id)
{
    (void)api;
    (void)id;
    respond_status(req, 200, "version", SANAD_VERSION);
}
