/*
 * pending.h - a request that cannot be answered at once, and what is kept for it meanwhile.
 *
 * Embedded in the struct of whoever answers. It is reference counted, because two sides may end in any order:
 * the request (its client may vanish at any time) and the calls that were made for it (their callbacks come
 * before the call returns, or after the request is gone). req tells a callback whether there is still somebody
 * to answer.
 *
 * Loop thread.
 */
#ifndef API_PENDING_H
#define API_PENDING_H

#include "api/http.h"

struct api;

struct pending {
    struct api *api;
    struct http_request *req; /* NULL: it is over, or somebody else's */
    int refs;
    void (*over)(struct pending *p, bool delivered); /* the request is over; may be NULL */
    void (*free)(struct pending *p);                 /* the last reference is gone */
};

/* With one reference, which the request holds: given up when it is over. */
void pending_init(struct pending *p, struct api *api, struct http_request *req,
                  void (*over)(struct pending *p, bool delivered),
                  void (*free_fn)(struct pending *p));

struct pending *pending_ref(struct pending *p);
void pending_unref(struct pending *p);

/* Gives the request to somebody else: returns it, and gives up its reference. over is not called any more. */
struct http_request *pending_release(struct pending *p);

#endif
