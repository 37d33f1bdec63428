/*
 * GET /v1/videos: pages of videos, with filters (API.md 3.8).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/header.h"
#include "api/pending.h"
#include "jobs/video_id.h"

enum {
    LIST_STANDARD = 20,
    LIST_MAX = 100,
    LIST_NAME = 65,            /* a metadata key, with the NUL */
    LIST_MAX_BYTES = 64 << 20, /* 100 objects with the longest prompts */
};

#define LIST_MAX_TIME_S INT64_C(253402300799) /* the year 9999 */

/* The arguments as they are read; the first error stays. */
struct list_args {
    struct store_query query;
    char name[STORE_MAX_FILTERS][LIST_NAME]; /* metadata keys */
    const struct model_facts *facts;         /* may be NULL */
    bool failed;
    struct api_error error;
};

static void fail(struct list_args *a, enum api_code code, const char *param, const char *value,
                 const char *rule)
{
    if (!a->failed) {
        a->failed = true;
        api_fail(&a->error, code, param, "Invalid value: '%s'. %s", value, rule);
    }
}

static void read_limit(struct list_args *a, const char *value)
{
    int64_t limit;

    if (!header_number(value, &limit) || limit > LIST_MAX) {
        fail(a, API_INVALID_VALUE, "limit", value, "limit is a number from 0 to 100.");
        return;
    }
    a->query.limit = (int)limit;
}

static void read_after(struct list_args *a, const char *value)
{
    if (!video_id_acceptable(value)) {
        fail(a, API_INVALID_CURSOR, "after", value, "after is the id of a video.");
        return;
    }
    a->query.after = value;
}

static void read_order(struct list_args *a, const char *value)
{
    a->query.ascending = strcmp(value, "asc") == 0;
    if (!a->query.ascending && strcmp(value, "desc") != 0) {
        fail(a, API_INVALID_VALUE, "order", value, "order is asc or desc.");
    }
}

static void read_status(struct list_args *a, const char *value)
{
    for (int i = STATUS_QUEUED; i <= STATUS_FAILED; i++) {
        if (strcmp(value, job_status_name((enum job_status)i)) == 0) {
            a->query.status = i;
            return;
        }
    }
    fail(a, API_INVALID_VALUE, "status", value,
         "status is queued, in_progress, completed or failed.");
}

static void read_model(struct list_args *a, const char *value)
{
    a->query.model = a->facts && model_facts_is_called(a->facts, value) ? a->facts->id : value;
}

static void read_group(struct list_args *a, const char *value)
{
    a->query.group = value;
}

static void read_user(struct list_args *a, const char *value)
{
    a->query.user = value;
}

static void read_tag(struct list_args *a, const char *value)
{
    if (a->query.n_tags == STORE_MAX_FILTERS) {
        fail(a, API_INVALID_VALUE, "tag", value, "There may be 16 tags at most.");
        return;
    }
    a->query.tags[a->query.n_tags++] = value;
}

/* Seconds, as created_at is: whoever has the same second is neither before nor after. */
static void read_created_after(struct list_args *a, const char *value)
{
    int64_t seconds;

    if (!header_number(value, &seconds) || seconds > LIST_MAX_TIME_S) {
        fail(a, API_INVALID_VALUE, "created_after", value, "It is a Unix time in seconds.");
        return;
    }
    a->query.created_after_ms = seconds * 1000 + 999;
}

static void read_created_before(struct list_args *a, const char *value)
{
    int64_t seconds;

    if (!header_number(value, &seconds) || seconds > LIST_MAX_TIME_S) {
        fail(a, API_INVALID_VALUE, "created_before", value, "It is a Unix time in seconds.");
        return;
    }
    a->query.created_before_ms = seconds > 0 ? seconds * 1000 : 1; /* 0 would be no filter */
}

/* metadata[k]=v */
static void read_metadata(struct list_args *a, const char *name, const char *value)
{
    const char *key = name + strlen("metadata[");
    const size_t len = strcspn(key, "]");
    const int n = a->query.n_metadata;

    if (len == 0 || len >= LIST_NAME || strcmp(key + len, "]") != 0 || n == STORE_MAX_FILTERS) {
        fail(a, API_INVALID_VALUE, "metadata", name,
             "Write metadata[key]=value, with a key of at most 64 characters, at most 16 times.");
        return;
    }
    snprintf(a->name[n], LIST_NAME, "%.*s", (int)len, key);
    a->query.metadata[n] = (struct store_pair){.key = a->name[n], .value = value};
    a->query.n_metadata++;
}

/* Names that are not known are left alone: they are no filters, and proxies add their own. */
static void read_argument(void *ctx, const char *name, const char *value)
{
    static const struct {
        const char *name;
        void (*read)(struct list_args *a, const char *value);
    } known[] = {
        {"limit", read_limit},
        {"after", read_after},
        {"order", read_order},
        {"status", read_status},
        {"model", read_model},
        {"group", read_group},
        {"user", read_user},
        {"tag", read_tag},
        {"created_after", read_created_after},
        {"created_before", read_created_before},
    };
    struct list_args *a = ctx;

    if (value[0] == '\0') {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(name, known[i].name) == 0) {
            known[i].read(a, value);
        }
    }
    if (strncmp(name, "metadata[", strlen("metadata[")) == 0) {
        read_metadata(a, name, value);
    }
}

/* ---- the answer ---- */

struct list {
    struct pending p;
    bool only_count; /* limit=0: is there anything? */
};

static void list_free(struct pending *p)
{
    free(CONTAINER_OF(p, struct list, p));
}

static bool add_id(struct str *out, const char *name, const struct jobs_page *page, int i)
{
    if (page->n == 0) {
        return str_addf(out, ",\"%s\":null", name);
    }
    return str_addf(out, ",\"%s\":\"%s\"", name, page->job[i]->row->id);
}

static bool write_page(struct str *out, const struct jobs_page *page)
{
    bool ok = str_add(out, "{\"object\":\"list\",\"data\":[");

    for (int i = 0; ok && i < page->n; i++) {
        size_t len;
        const char *json = job_json(page->job[i], &len);

        ok = json && str_add(out, i > 0 ? "," : "") && str_append(out, json, len);
    }
    return ok && str_add(out, "]") && add_id(out, "first_id", page, 0) &&
           add_id(out, "last_id", page, page->n - 1) &&
           str_addf(out, ",\"has_more\":%s}", page->has_more ? "true" : "false");
}

static void listed(void *ctx, const struct jobs_page *page)
{
    struct list *l = ctx;
    struct jobs_page none = {0};
    struct str out;

    str_init(&out, LIST_MAX_BYTES);
    if (page && l->only_count) {
        none.has_more = page->n > 0;
        page = &none;
    }
    if (!l->p.req) {
        /* nobody to answer */
    } else if (!page) {
        api_refuse(l->p.req, API_INTERNAL_ERROR, "", "The videos could not be read.");
    } else if (write_page(&out, page)) {
        api_respond_json(l->p.req, 200, out.data, out.len);
    } else {
        api_refuse_no_memory(l->p.req);
    }
    str_done(&out);
    pending_unref(&l->p);
}

void videos_list(struct api *api, struct http_request *req, const char *id)
{
    struct list_args a = {
        .query = {.limit = LIST_STANDARD, .status = -1},
        .facts = jobs_facts(api->jobs),
    };
    struct list *l;

    (void)id;
    http_each_query(req, read_argument, &a);
    if (a.failed) {
        api_respond_error(req, &a.error);
        return;
    }
    l = calloc(1, sizeof(*l));
    if (!l) {
        api_refuse_no_memory(req);
        return;
    }
    l->only_count = a.query.limit == 0;
    if (l->only_count) {
        a.query.limit = 1;
    }
    pending_init(&l->p, api, req, NULL, list_free);
    pending_ref(&l->p);
    jobs_list(api->jobs, &a.query, listed, l);
}
