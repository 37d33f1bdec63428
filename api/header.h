/*
 * header.h - what request headers mean: lists of ETags, Accept, Prefer, Last-Event-ID, whose request it is.
 *
 * A header that is NULL is absent. Pure; any thread.
 */
#ifndef API_HEADER_H
#define API_HEADER_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum {
    HEADER_CLIENT_SIZE = 17,
    HEADER_DATE_SIZE = 32,
    HEADER_KEY_MAX = 255, /* Idempotency-Key */
};

/* If-None-Match: is etag (strong, with quotes) one of the list, or is it "*"? Compared weakly. */
bool header_etag_matches(const char *list, const char *etag);

/* Does Accept allow type/subtype? An absent one allows everything, q=0 forbids, the most specific wins. */
bool header_accepts(const char *accept, const char *type, const char *subtype);

/* Is media_type the value's type, parameters aside? NULL is no type. */
bool header_is_type(const char *content_type, const char *media_type);

/* Prefer: wait=N; -1 without. */
int header_prefer_wait(const char *prefer);
/* Prefer: handling=lenient */
bool header_prefer_lenient(const char *prefer);

/* Decimal digits only, at most 18: false otherwise. */
bool header_number(const char *text, int64_t *ret);

/* 1..255 printable ASCII characters. */
bool header_key_valid(const char *key);

/* "Sat, 21 Nov 2026 11:42:30 GMT", whatever the locale. */
void header_date(int64_t unix_s, char ret[HEADER_DATE_SIZE]);

/* Whose turn it is: the beginning of the SHA-256 of the token that was presented, "" without one. False when
 * out of memory. */
bool header_client(const char *authorization, const char *api_key, char ret[HEADER_CLIENT_SIZE]);

#endif
