/*
 * Jobs by id, and two lists: those that are not over, by age; and some that are, by last use.
 */
#include <string.h>

#include "jobs/jobs_internal.h"

static struct job **bucket_of(struct jobs *j, const char *id)
{
    uint32_t h = 2166136261U;

    for (const char *c = id; *c; c++) {
        h = (h ^ (uint8_t)*c) * 16777619U;
    }
    return &j->hash[h & (JOBS_HASH - 1)];
}

void jobs_list_remove(struct job_list *list, struct job *job)
{
    *(job->prev ? &job->prev->next : &list->first) = job->next;
    *(job->next ? &job->next->prev : &list->last) = job->prev;
    job->prev = NULL;
    job->next = NULL;
    list->n--;
}

void jobs_list_append(struct job_list *list, struct job *job)
{
    job->prev = list->last;
    *(list->last ? &list->last->next : &list->first) = job;
    list->last = job;
    list->n++;
}

/* Ids are in order of age; a new one belongs at the end as a rule. */
static void list_insert_by_age(struct job_list *list, struct job *job)
{
    struct job *before = list->last;

    while (before && strcmp(before->row->id, job->row->id) > 0) {
        before = before->prev;
    }
    job->prev = before;
    job->next = before ? before->next : list->first;
    *(job->prev ? &job->prev->next : &list->first) = job;
    *(job->next ? &job->next->prev : &list->last) = job;
    list->n++;
}

static void forget_some(struct jobs *j)
{
    struct job *next;

    for (struct job *job = j->finished.first; job && j->finished.n > JOBS_KEEP; job = next) {
        next = job->next;
        if (job->refs == 1) {
            jobs_table_remove(j, job);
        }
    }
}

void jobs_table_add(struct jobs *j, struct job *job)
{
    struct job **bucket = bucket_of(j, job->row->id);

    job_ref(job);
    job->hash_next = *bucket;
    *bucket = job;
    if (job_is_over(job)) {
        jobs_list_append(&j->finished, job);
        forget_some(j);
    } else {
        list_insert_by_age(&j->unfinished, job);
    }
}

void jobs_table_remove(struct jobs *j, struct job *job)
{
    for (struct job **p = bucket_of(j, job->row->id); *p; p = &(*p)->hash_next) {
        if (*p == job) {
            *p = job->hash_next;
            jobs_list_remove(job_is_over(job) ? &j->finished : &j->unfinished, job);
            job_unref(job);
            return;
        }
    }
}

/* Called with the new state set: the job is still in the other list. */
void jobs_table_finish(struct jobs *j, struct job *job)
{
    jobs_list_remove(&j->unfinished, job);
    jobs_list_append(&j->finished, job);
    forget_some(j);
}

struct job *jobs_find(struct jobs *j, const char *id)
{
    for (struct job *job = *bucket_of(j, id); job; job = job->hash_next) {
        if (strcmp(job->row->id, id) == 0) {
            return job;
        }
    }
    return NULL;
}
