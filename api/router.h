/*
 * router.h - which handler a method and a path belong to. One table, in router.c.
 *
 * The first pattern of the table that matches the path wins, so static paths stand before {id}. A trailing
 * slash is tolerated; {id} is percent-decoded once. Pure; loop thread.
 */
#ifndef API_ROUTER_H
#define API_ROUTER_H

#include "api/http.h"

struct api;

enum {
    ROUTER_ID_SIZE = 65
};

typedef void (*route_fn)(struct api *api, struct http_request *req, const char *id);

struct route {
    enum http_method method; /* HTTP_GET answers HEAD, too */
    const char *pattern;
    route_fn handler;
};

enum router_outcome {
    ROUTER_FOUND,
    ROUTER_UNKNOWN_URL,
    ROUTER_WRONG_METHOD, /* see allow */
    ROUTER_BAD_VIDEO,    /* such a video cannot exist */
    ROUTER_BAD_MODEL,
};

struct router_match {
    const struct route *route; /* ROUTER_FOUND */
    char id[ROUTER_ID_SIZE];
    char allow[64]; /* "GET, HEAD, POST" */
};

enum router_outcome router_find(enum http_method method, const char *path,
                                struct router_match *ret);

#endif
