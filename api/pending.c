#include "api/pending.h"

static void on_close(struct http_request *req, void *ctx, bool delivered)
{
    struct pending *p = ctx;

    (void)req;
    p->req = NULL;
    if (p->over) {
        p->over(p, delivered);
    }
    pending_unref(p);
}

void pending_init(struct pending *p, struct api *api, struct http_request *req,
                  void (*over)(struct pending *p, bool delivered),
                  void (*free_fn)(struct pending *p))
{
    *p = (struct pending){.api = api, .req = req, .refs = 1, .over = over, .free = free_fn};
    http_on_close(req, on_close, p);
}

struct pending *pending_ref(struct pending *p)
{
    p->refs++;
    return p;
}

void pending_unref(struct pending *p)
{
    if (--p->refs == 0) {
        p->free(p);
    }
}

struct http_request *pending_release(struct pending *p)
{
    struct http_request *req = p->req;

    http_on_close(req, NULL, NULL);
    p->req = NULL;
    pending_unref(p);
    return req;
}
