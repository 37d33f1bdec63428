/*
 * http_client.h - an HTTP client on the thread of the server that it tests: raw bytes out, replies in,
 * and the server's loop turned in between. Gives up after some seconds, so that a test fails
 * instead of hanging.
 */
#ifndef TESTS_SUPPORT_HTTP_CLIENT_H
#define TESTS_SUPPORT_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct http_client {
    uv_loop_t *loop;
    int fd;
    char *in; /* owned; NUL-terminated */
    size_t in_len;
    bool closed; /* by the server */
};

struct http_reply {
    int status;
    char head[4096];
    char *body; /* owned; NUL-terminated */
    size_t len;
    bool cut; /* the connection ended before the reply did */
};

/* A listening socket on 127.0.0.1, its port in *ret_port. */
int http_client_listen(int *ret_port);

/* Ends the test when it cannot. */
void http_client_open(struct http_client *c, uv_loop_t *loop, int port);
void http_client_open_unix(struct http_client *c, uv_loop_t *loop, const char *path);
void http_client_close(struct http_client *c);

/* Turns the loop until all is sent; stops silently when the server has closed. */
void http_client_send(struct http_client *c, const void *data, size_t len);
void http_client_say(struct http_client *c, const char *text);

/* Turns the loop once or a few times, reading what comes (when want_input). */
void http_client_turn(struct http_client *c, bool want_input);

/* Turns until the input contains text; false: it never did. */
bool http_client_wait_for(struct http_client *c, const char *text);

/* Turns until the server has closed the connection; false: it never did. */
bool http_client_wait_closed(struct http_client *c);

/* The next reply; false: none came. Without body: the reply is to HEAD. */
bool http_client_reply(struct http_client *c, struct http_reply *ret, bool with_body);
void http_reply_done(struct http_reply *r);

/* All at once: a fresh connection, the text, the reply. */
bool http_client_ask(uv_loop_t *loop, int port, const char *text, struct http_reply *ret);

#endif
