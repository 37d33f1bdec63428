/*
 * body.h - the body of a POST, in any of the three encodings, as fields. Embedded in the struct of whoever
 * answers. Loop thread.
 */
#ifndef API_BODY_H
#define API_BODY_H

#include "api/fields.h"
#include "api/http.h"

struct api;

struct body {
    struct api *api;
    struct multipart *multipart; /* owned */
    bool refused;                /* by the multipart parser */
    struct fields fields;        /* owned, once done was called without an error */
    void (*done)(struct body *b, const struct api_error *e);
};

/* From the handler, while http_user(req) is nobody's. done is called once, if the request lives so long;
 * e is NULL when the fields are there. No body at all: no fields. */
void body_read(struct body *b, struct api *api, struct http_request *req,
               void (*done)(struct body *b, const struct api_error *e));

/* Accepts zeroed. */
void body_done(struct body *b);

#endif
