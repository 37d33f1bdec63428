/*
 * store_contract.h - what storage/store.h promises, as tests that every implementation must pass.
 *
 * Whatever fails ends the test.
 */
#ifndef TESTS_SUPPORT_STORE_CONTRACT_H
#define TESTS_SUPPORT_STORE_CONTRACT_H

#include "storage/store.h"

/* Opens the store that lives in the folder dir, which exists; creates it the first time. */
typedef int (*store_contract_open_fn)(struct store **ret, const char *dir, struct err *err);

/* All promises, each in a fresh folder. */
void store_contract_run(store_contract_open_fn open);

/* ---- for other tests of stores ---- */

/* A new job as a client would leave it: spec, detail, tags and metadata of its own. Free it. */
struct job_row *store_contract_row(const char *id);

/* Creates it without a key and without events. */
void store_contract_create(struct store *s, const char *id);

/* The row, which must be there. Free it. */
struct job_row *store_contract_get(struct store *s, const char *id);

/* Claims at 1000 ms, until 2000 ms. */
struct store_lease store_contract_claim(struct store *s, const char *id, const char *worker);

/* Appends the next block: 100 bytes, 8 frames, 64 bytes of latents. Returns the number of its event. */
int64_t store_contract_append(struct store *s, const struct store_lease *lease);

/* Both rows are equal in every field. */
void store_contract_same(const struct job_row *a, const struct job_row *b);

/* An event of the job at 1000 ms; data is borrowed, NULL: not kept. */
struct store_event store_contract_event(const char *type, const char *job, const char *data);

#endif
