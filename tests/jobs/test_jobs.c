/*
 * The lives of jobs, with a device that does what the test says. All storage is real.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/jobs_fixture.h"
#include "tests/support/test.h"

static void expect_events(const struct fixture *f, const char *id, const char *want)
{
    char got[2048];

    fixture_events(f, id, got, sizeof(got));
    EXPECT_STR(got, want);
}

/* "" if there is none. */
static void read_file(const struct fixture *f, const char *id, enum job_file file, char *ret,
                      size_t size)
{
    struct err err;
    int64_t bytes;
    int fd;
    ssize_t n = 0;

    if (job_files_open_read(f->files, id, file, &fd, &bytes, &err) == ERR_OK) {
        n = read(fd, ret, size - 1);
        close(fd);
    }
    ret[n > 0 ? n : 0] = '\0';
}

TEST(jobs_a_job_goes_from_queued_to_completed)
{
    struct fixture f;
    struct job *job;
    char text[256];
    size_t len;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 2);
    EXPECT(job);
    EXPECT_INT(f.starts, 1);
    EXPECT_INT(job_status(job), STATUS_IN_PROGRESS);
    EXPECT_INT(job->row->init_bytes, FIXTURE_INIT_BYTES);
    fixture_block(&f, job, 0);
    EXPECT_INT(job->row->blocks, 1);
    EXPECT_CONTAINS(job_json(job, &len), "\"status\":\"in_progress\"");
    EXPECT_CONTAINS(job_json(job, &len), "\"blocks\":{\"done\":1,\"total\":2,\"frames_ready\":4}");
    EXPECT_INT(f.finishes, 0);
    fixture_block(&f, job, 1);
    EXPECT_INT(f.finishes, 0); /* only when the worker says that it was the last */
    fixture_rendered(&f, job);
    EXPECT_INT(f.finishes, 1);
    EXPECT(job->detail.progress < 100);
    fixture_finished(&f, job);
    EXPECT_INT(job_status(job), STATUS_COMPLETED);
    EXPECT_CONTAINS(job_json(job, &len), "\"progress\":100");
    EXPECT_CONTAINS(job_json(job, &len), "\"size_bytes\":1234");
    EXPECT_CONTAINS(job_json(job, &len), "\"seconds\":\"0.5\"");
    expect_events(&f, job->row->id, "queued in_progress block block completed");
    read_file(&f, job->row->id, JOB_FRAGMENTS, text, sizeof(text));
    EXPECT_STR(text, "INIT-XY[block 0][block 1]");
    read_file(&f, job->row->id, JOB_LATENTS, text, sizeof(text));
    EXPECT_STR(text, ""); /* trimmed */
    fixture_close(&f);
}

TEST(jobs_a_crash_of_the_daemon_continues_at_the_last_block)
{
    struct fixture f;
    struct job *job;
    char id[JOB_ID_SIZE];
    char text[256];
    int64_t last;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 3);
    snprintf(id, sizeof(id), "%s", job->row->id);
    fixture_block(&f, job, 0);
    fixture_block(&f, job, 1);
    last = events_last(jobs_events(f.jobs));
    fixture_crash(&f);
    job = jobs_find(f.jobs, id);
    EXPECT(job);
    EXPECT_INT(f.starts, 1);
    EXPECT_INT(f.first_block, 2);
    EXPECT_INT(job->row->restarts, 1);
    EXPECT_INT(job_status(job), STATUS_IN_PROGRESS);
    EXPECT_INT(job->n_blocks, 2);
    fixture_block(&f, job, 2);
    EXPECT(events_last(jobs_events(f.jobs)) > last);
    fixture_rendered(&f, job);
    fixture_finished(&f, job);
    read_file(&f, id, JOB_FRAGMENTS, text, sizeof(text));
    EXPECT_STR(text, "INIT-XY[block 0][block 1][block 2]");
    fixture_close(&f);
}

TEST(jobs_a_crash_before_the_end_only_finishes)
{
    struct fixture f;
    struct job *job;
    char id[JOB_ID_SIZE];

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 2);
    snprintf(id, sizeof(id), "%s", job->row->id);
    fixture_block(&f, job, 0);
    fixture_block(&f, job, 1);
    fixture_rendered(&f, job);
    fixture_crash(&f);
    EXPECT_INT(f.starts, 0);
    EXPECT_INT(f.finishes, 1);
    fixture_finished(&f, f.told);
    EXPECT_INT(job_status(jobs_find(f.jobs, id)), STATUS_COMPLETED);
    fixture_close(&f);
}

TEST(jobs_a_dead_worker_costs_a_restart_and_three_without_a_block_the_job)
{
    const struct model_facts facts = {.id = "tiny"};
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 3);
    for (int i = 0; i < 2; i++) {
        jobs_on_down(f.device, "killed by signal 9", false);
        fixture_settle(&f);
        EXPECT_INT(job_status(job), STATUS_IN_PROGRESS);
        jobs_on_ready(f.device, &facts);
        fixture_settle(&f);
    }
    EXPECT_INT(f.starts, 3);
    fixture_block(&f, job, 0); /* the count starts anew */
    for (int i = 0; i < 2; i++) {
        jobs_on_down(f.device, "killed by signal 9", false);
        fixture_settle(&f);
        jobs_on_ready(f.device, &facts);
        fixture_settle(&f);
        EXPECT_INT(job_status(job), STATUS_IN_PROGRESS);
    }
    EXPECT_INT(f.first_block, 1);
    job_ref(job);
    jobs_on_down(f.device, "killed by signal 9", false);
    fixture_settle(&f);
    EXPECT_INT(job_status(job), STATUS_FAILED);
    EXPECT_STR(job->row->error_code, "generation_failed");
    EXPECT_CONTAINS(job->row->error_message, "killed by signal 9");
    EXPECT_INT(job->row->restarts, 4);
    job_unref(job);
    jobs_on_ready(f.device, &facts); /* the daemon goes on */
    job = fixture_create(&f, "", 0, 1);
    fixture_complete(&f, job, 0, 1);
    EXPECT_INT(job_status(job), STATUS_COMPLETED);
    fixture_close(&f);
}

TEST(jobs_whose_worker_dies_while_the_last_block_is_stored_only_finish)
{
    const struct model_facts facts = {.id = "tiny"};
    const struct jobs_rendered rendered = {.inference_s = 1, .stages = "{}"};
    struct jobs_block last = {.index = 1, .first_frame = 4, .frames = 4, .fragment_bytes = 3};
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 2);
    fixture_block(&f, job, 0);
    last.fragment = strdup("end");
    EXPECT(jobs_on_block(f.device, job, &last));
    jobs_on_rendered(f.device, job, &rendered);
    jobs_on_down(f.device, "killed by signal 9", false);
    fixture_settle(&f);
    EXPECT_INT(f.finishes, 0); /* nobody is there to do it */
    EXPECT_INT(job->row->blocks, 2);
    jobs_on_ready(f.device, &facts);
    fixture_settle(&f);
    EXPECT_INT(f.starts, 1);
    EXPECT_INT(f.finishes, 1);
    fixture_finished(&f, job);
    EXPECT_INT(job_status(job), STATUS_COMPLETED);
    EXPECT_INT(job->row->restarts, 1);
    fixture_close(&f);
}

TEST(jobs_cancelling_a_queued_one_is_immediate)
{
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    fixture_create(&f, "", 0, 2);
    job = fixture_create(&f, "", 0, 2);
    EXPECT_INT(job->queue_position, 1);
    jobs_cancel(f.jobs, job->row->id, NULL, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_OK);
    EXPECT_INT(job_status(job), STATUS_FAILED);
    EXPECT_STR(job->row->error_code, "cancelled");
    EXPECT_INT(f.cancels, 0);
    expect_events(&f, job->row->id, "queued failed");
    jobs_cancel(f.jobs, job->row->id, NULL, fixture_answer, &f); /* again: unchanged */
    EXPECT_INT(f.outcome, JOBS_OK);
    fixture_close(&f);
}

TEST(jobs_cancelling_a_running_one_stops_the_device)
{
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 3);
    fixture_block(&f, job, 0);
    jobs_cancel(f.jobs, job->row->id, NULL, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.cancels, 1);
    EXPECT_INT(job_status(job), STATUS_IN_PROGRESS);
    EXPECT(job->row->cancel_requested);
    fixture_block(&f, job, 1); /* too late: it does not count any more */
    EXPECT_INT(job->row->blocks, 1);
    jobs_on_fail(f.device, job, "cancelled", "cancelled in block 2 of 3");
    fixture_settle(&f);
    EXPECT_INT(job_status(job), STATUS_FAILED);
    EXPECT_STR(job->row->error_code, "cancelled");
    EXPECT_INT(job->row->blocks, 1);
    fixture_close(&f);
}

TEST(jobs_a_cancel_between_rendering_and_finishing_ends_the_job_either_way)
{
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 1);
    fixture_block(&f, job, 0);
    fixture_rendered(&f, job); /* FINISH is on its way */
    jobs_cancel(f.jobs, job->row->id, NULL, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.cancels, 0);
    fixture_finished(&f, job);
    EXPECT_INT(job_status(job), STATUS_COMPLETED);
    fixture_close(&f);
}

TEST(jobs_a_cancelled_job_whose_worker_dies_is_cancelled)
{
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 2);
    jobs_cancel(f.jobs, job->row->id, NULL, fixture_answer, &f);
    fixture_settle(&f);
    jobs_on_down(f.device, "it did not stop when it was cancelled", false);
    fixture_settle(&f);
    EXPECT_STR(job->row->error_code, "cancelled");
    fixture_close(&f);
}

TEST(jobs_a_cancelled_job_is_over_after_a_crash)
{
    struct fixture f;
    struct job *job;
    char id[JOB_ID_SIZE];

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 2);
    snprintf(id, sizeof(id), "%s", job->row->id);
    jobs_cancel(f.jobs, id, NULL, fixture_answer, &f);
    fixture_settle(&f);
    fixture_crash(&f);
    EXPECT_INT(f.starts, 0);
    job = jobs_find(f.jobs, id);
    EXPECT(job);
    EXPECT_STR(job->row->error_code, "cancelled");
    fixture_close(&f);
}

TEST(jobs_a_deleted_job_does_not_come_back)
{
    struct fixture f;
    struct job *job;
    char id[JOB_ID_SIZE];
    char text[64];

    fixture_open(&f);
    job = job_ref(fixture_create(&f, "", 0, 3));
    snprintf(id, sizeof(id), "%s", job->row->id);
    fixture_block(&f, job, 0);
    jobs_delete(f.jobs, id, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_OK);
    EXPECT(job->deleted);
    EXPECT_INT(f.cancels, 1);
    EXPECT(!jobs_find(f.jobs, id));
    fixture_block(&f, job, 1); /* late */
    fixture_rendered(&f, job);
    fixture_settle(&f);
    read_file(&f, id, JOB_FRAGMENTS, text, sizeof(text));
    EXPECT_STR(text, "");
    job_unref(job);
    jobs_get(f.jobs, id, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_NOT_FOUND);
    job = fixture_create(&f, "", 0, 1); /* the device is free */
    EXPECT_INT(f.starts, 2);
    fixture_complete(&f, job, 0, 1);
    fixture_close(&f);
}

TEST(jobs_a_higher_priority_overtakes_and_the_first_goes_on_where_it_was)
{
    struct fixture f;
    struct job *slow;
    struct job *urgent;

    fixture_open(&f);
    slow = fixture_create(&f, "", 0, 3);
    fixture_block(&f, slow, 0);
    fixture_create(&f, "", 0, 1); /* same priority: waits */
    EXPECT_INT(f.pauses, 0);
    urgent = fixture_create(&f, "", 50, 1);
    EXPECT_INT(f.pauses, 1);
    EXPECT_INT(f.starts, 1);
    fixture_block(&f, slow, 1); /* the block in work is kept */
    jobs_on_paused(f.device, slow);
    fixture_settle(&f);
    EXPECT(f.told == urgent);
    EXPECT_STR(slow->phase, "paused");
    EXPECT_INT(job_status(slow), STATUS_IN_PROGRESS);
    fixture_complete(&f, urgent, 0, 1);
    EXPECT(f.told == slow); /* before the one that was not begun */
    EXPECT_INT(f.first_block, 2);
    EXPECT_INT(slow->row->restarts, 0);
    fixture_complete(&f, slow, 2, 3);
    EXPECT_INT(job_status(slow), STATUS_COMPLETED);
    fixture_close(&f);
}

TEST(jobs_clients_take_turns)
{
    struct fixture f;
    struct job *a[3];
    struct job *b;

    fixture_open(&f);
    for (int i = 0; i < 3; i++) {
        a[i] = fixture_create(&f, "anna", 0, 1);
    }
    b = fixture_create(&f, "bert", 0, 1);
    fixture_complete(&f, a[0], 0, 1);
    EXPECT(f.told == b);
    fixture_complete(&f, b, 0, 1);
    EXPECT(f.told == a[1]);
    fixture_complete(&f, a[1], 0, 1);
    EXPECT(f.told == a[2]);
    fixture_close(&f);
}

TEST(jobs_the_queue_has_limits)
{
    struct fixture f;

    fixture_open(&f);
    f.limits.queue_capacity = 3;
    f.limits.queue_per_client = 2;
    jobs_configure(f.jobs, &f.limits);
    fixture_create(&f, "anna", 0, 1); /* runs */
    fixture_create(&f, "anna", 0, 1);
    EXPECT(fixture_create(&f, "anna", 0, 1));
    EXPECT(!fixture_create(&f, "anna", 0, 1));
    EXPECT_INT(f.outcome, JOBS_CLIENT_FULL);
    EXPECT(fixture_create(&f, "bert", 0, 1));
    EXPECT(!fixture_create(&f, "carl", 0, 1));
    EXPECT_INT(f.outcome, JOBS_QUEUE_FULL);
    f.limits.queue_capacity = 100;
    f.limits.min_free_bytes = INT64_MAX;
    jobs_configure(f.jobs, &f.limits);
    EXPECT(!fixture_create(&f, "carl", 0, 1));
    EXPECT_INT(f.outcome, JOBS_NO_SPACE);
    fixture_close(&f);
}

TEST(jobs_a_full_disk_fails_the_running_job_and_then_all_goes_on)
{
    struct fixture f;
    struct job *job;
    struct jobs_block b = {.index = 1, .first_frame = 4, .frames = 4};

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 3);
    fixture_block(&f, job, 0);
    f.limits.min_free_bytes = INT64_MAX / 2; /* as if the disk were full */
    jobs_configure(f.jobs, &f.limits);
    b.fragment = strdup("[block 1]");
    b.fragment_bytes = 9;
    EXPECT(jobs_on_block(f.device, job, &b));
    fixture_settle(&f);
    EXPECT_INT(f.cancels, 1);
    jobs_on_fail(f.device, job, "cancelled", "");
    fixture_settle(&f);
    EXPECT_INT(job_status(job), STATUS_FAILED);
    EXPECT_STR(job->row->error_code, "insufficient_storage");
    f.limits.min_free_bytes = 0;
    jobs_configure(f.jobs, &f.limits);
    job = fixture_create(&f, "", 0, 1);
    EXPECT(job);
    fixture_complete(&f, job, 0, 1);
    EXPECT_INT(job_status(job), STATUS_COMPLETED);
    fixture_close(&f);
}

TEST(jobs_deadlines_count_waiting_too)
{
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    fixture_create(&f, "", 0, 1);
    job = fixture_create(&f, "", 0, 1);
    job->row->deadline_ms = fixture_now_ms + 1000;
    jobs_tick(f.jobs);
    fixture_settle(&f);
    EXPECT_INT(job_status(job), STATUS_QUEUED);
    fixture_now_ms += 1000;
    jobs_tick(f.jobs);
    fixture_settle(&f);
    EXPECT_INT(job_status(job), STATUS_FAILED);
    EXPECT_STR(job->row->error_code, "deadline_exceeded");
    fixture_close(&f);
}

TEST(jobs_progress_never_falls_and_is_told_four_times_a_second)
{
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 2);
    jobs_on_step(f.device, job, "denoise", 1, 4, 0, 0.5);
    EXPECT_INT(job->detail.progress, 49);
    jobs_on_step(f.device, job, "denoise", 1, 4, 0, 0.2);
    EXPECT_INT(job->detail.progress, 49);
    jobs_on_step(f.device, job, "denoise", 2, 4, 0, 0.6);
    fixture_now_ms += 250;
    jobs_on_step(f.device, job, "denoise", 3, 4, 0, 0.7);
    jobs_on_step(f.device, job, "denoise", 3, 4, 0, 1.0 / 0.0);
    fixture_settle(&f);
    EXPECT_INT(job->detail.progress, 68);
    expect_events(&f, job->row->id, "queued in_progress progress progress");
    jobs_on_step(f.device, job, "vae_decode", 1, 1, 1, 1.0);
    EXPECT(job->detail.progress < 100);
    fixture_close(&f);
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

TEST(jobs_draining_sets_the_running_job_aside)
{
    struct fixture f;
    struct job *job;
    bool drained = false;
    char id[JOB_ID_SIZE];

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 3);
    snprintf(id, sizeof(id), "%s", job->row->id);
    jobs_drain(f.jobs, 1000, set_true, &drained);
    EXPECT(!fixture_create(&f, "", 0, 1));
    EXPECT_INT(f.outcome, JOBS_DRAINS);
    jobs_tick(f.jobs);
    EXPECT_INT(f.pauses, 0);
    fixture_now_ms += 1000;
    jobs_tick(f.jobs);
    EXPECT_INT(f.pauses, 1);
    fixture_block(&f, job, 0);
    EXPECT(!drained);
    jobs_on_paused(f.device, job);
    fixture_settle(&f);
    EXPECT(drained);
    EXPECT_INT(job->row->state, JOB_QUEUED);
    EXPECT_INT(job->row->restarts, 0);
    EXPECT_INT(f.starts, 1);
    fixture_crash(&f);
    EXPECT_INT(f.first_block, 1);
    EXPECT_INT(jobs_find(f.jobs, id)->row->restarts, 0);
    fixture_close(&f);
}

TEST(jobs_finished_videos_expire)
{
    struct fixture f;
    struct job *job;
    char text[64];

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 1);
    fixture_complete(&f, job, 0, 1);
    EXPECT_INT(job->row->expires_ms, job->row->ended_ms + f.limits.ttl_ms);
    fixture_now_ms += f.limits.ttl_ms + 1;
    jobs_tick(f.jobs);
    fixture_settle(&f);
    EXPECT(job_is_expired(job));
    read_file(&f, job->row->id, JOB_FRAGMENTS, text, sizeof(text));
    EXPECT_STR(text, "");
    fixture_close(&f);
}

static void check_page(void *ctx, const struct jobs_page *page)
{
    struct fixture *f = ctx;

    EXPECT(page);
    f->answers = page->n;
    EXPECT_INT(page->has_more, true);
    EXPECT(strcmp(page->job[0]->row->id, page->job[1]->row->id) > 0);
}

TEST(jobs_lists_see_what_memory_sees)
{
    const struct store_query query = {.limit = 2, .status = -1};
    struct fixture f;

    fixture_open(&f);
    for (int i = 0; i < 3; i++) {
        fixture_create(&f, "", 0, 1);
    }
    jobs_list(f.jobs, &query, check_page, &f);
    fixture_settle(&f);
    EXPECT_INT(f.answers, 2);
    fixture_close(&f);
}

TEST(jobs_a_failed_preparation_fails_the_job_with_its_reason)
{
    struct fixture f;
    struct job *job;
    char message[128];

    fixture_open(&f);
    f.no_prepare = true;
    job = fixture_create(&f, "", 0, 1);
    EXPECT_INT(f.starts, 0);
    snprintf(message, sizeof(message), "/srv/x/videos/%s/reference: not an image", job->row->id);
    jobs_on_fail(f.device, job, "invalid", message);
    fixture_settle(&f);
    EXPECT_STR(job->row->error_code, "generation_failed");
    EXPECT_STR(job->row->error_message, "reference: not an image");
    fixture_close(&f);
}

TEST(jobs_that_left_memory_can_be_changed)
{
    const int priority = 3;
    const struct jobs_update update = {.tags = "[\"x\"]", .priority = &priority};
    struct fixture f;
    struct job *job;
    char id[JOB_ID_SIZE];

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 1);
    snprintf(id, sizeof(id), "%s", job->row->id);
    fixture_complete(&f, job, 0, 1);
    fixture_crash(&f);
    EXPECT(!jobs_find(f.jobs, id));
    jobs_cancel(f.jobs, id, NULL, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_OK); /* over: unchanged */
    EXPECT_STR(f.id, id);
    jobs_table_remove(f.jobs, jobs_find(f.jobs, id));
    jobs_update(f.jobs, id, &update, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_BUSY); /* its priority counts no more */
    jobs_table_remove(f.jobs, jobs_find(f.jobs, id));
    jobs_delete(f.jobs, id, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_OK);
    jobs_delete(f.jobs, id, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_NOT_FOUND);
    fixture_close(&f);
}

/* Both are with the storage thread at once; whatever comes first, the files go. */
TEST(jobs_a_deletion_while_the_end_is_stored_leaves_nothing)
{
    struct fixture f;
    struct job *job;
    struct jobs_finished r = {.bytes = 1234};
    char id[JOB_ID_SIZE];
    char text[64];

    memset(r.sha256, 'a', sizeof(r.sha256) - 1);
    fixture_open(&f);
    for (int deletion_first = 0; deletion_first < 2; deletion_first++) {
        job = fixture_create(&f, "", 0, 1);
        snprintf(id, sizeof(id), "%s", job->row->id);
        fixture_block(&f, job, 0);
        fixture_rendered(&f, job);
        if (deletion_first) {
            jobs_delete(f.jobs, id, fixture_answer, &f);
        }
        jobs_on_finished(f.device, job, &r);
        if (!deletion_first) {
            jobs_delete(f.jobs, id, fixture_answer, &f);
        }
        fixture_settle(&f);
        EXPECT_INT(f.outcome, JOBS_OK);
        read_file(&f, id, JOB_FRAGMENTS, text, sizeof(text));
        EXPECT_STR(text, "");
        EXPECT(!jobs_find(f.jobs, id));
    }
    fixture_complete(&f, fixture_create(&f, "", 0, 1), 0, 1); /* the device is free */
    fixture_close(&f);
}

TEST(jobs_whose_data_was_lost_fail_with_an_event)
{
    struct fixture f;
    struct job *job;
    char id[JOB_ID_SIZE];
    char path[JOB_PATH_SIZE];
    struct err err;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 2);
    snprintf(id, sizeof(id), "%s", job->row->id);
    fixture_block(&f, job, 0);
    EXPECT_OK(job_files_path(f.files, id, JOB_FRAGMENTS, 0, path, &err));
    EXPECT_INT(truncate(path, 3), 0);
    fixture_crash(&f);
    EXPECT_INT(f.starts, 0);
    job = jobs_find(f.jobs, id);
    EXPECT(job);
    EXPECT_INT(job_status(job), STATUS_FAILED);
    EXPECT(job->row->expires_ms > 0);
    fixture_close(&f);
}

TEST(jobs_cancelled_on_their_way_back_to_the_queue_end)
{
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 3);
    fixture_create(&f, "", 9, 1); /* wants to overtake */
    EXPECT_INT(f.pauses, 1);
    jobs_on_paused(f.device, job); /* its way back is being stored */
    jobs_cancel(f.jobs, job->row->id, NULL, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(job_status(job), STATUS_FAILED);
    EXPECT_STR(job->row->error_code, "cancelled");
    fixture_close(&f);
}

TEST(jobs_that_kill_the_worker_while_it_prepares_them_are_found)
{
    const struct model_facts facts = {.id = "tiny"};
    struct fixture f;
    struct job *running;
    struct job *poison;
    struct job *innocent;

    fixture_open(&f);
    running = fixture_create(&f, "", 0, 3);
    f.no_prepare = true;
    poison = job_ref(fixture_create(&f, "", 0, 1));
    innocent = fixture_create(&f, "", 0, 1);
    for (int i = 0; i < 3; i++) {
        jobs_on_down(f.device, "killed by signal 11", false);
        fixture_settle(&f);
        jobs_on_ready(f.device, &facts);
        fixture_settle(&f);
    }
    EXPECT_INT(job_status(poison), STATUS_FAILED);
    EXPECT_CONTAINS(poison->row->error_message, "killed by signal 11");
    EXPECT_INT(job_status(innocent), STATUS_QUEUED);
    EXPECT_INT(innocent->deaths,
               1); /* only of the first, when it was not known whose fault it was */
    EXPECT_INT(job_status(running), STATUS_IN_PROGRESS);
    job_unref(poison);
    fixture_close(&f);
}

TEST(jobs_draining_ends_even_if_the_device_does_not_answer)
{
    struct fixture f;
    bool drained = false;

    fixture_open(&f);
    fixture_create(&f, "", 0, 3);
    jobs_drain(f.jobs, 1000, set_true, &drained);
    fixture_now_ms += 1000;
    jobs_tick(f.jobs);
    jobs_tick(f.jobs);
    EXPECT_INT(f.pauses, 1);
    EXPECT(!drained);
    fixture_now_ms += JOBS_DRAIN_GRACE_MS;
    jobs_tick(f.jobs);
    EXPECT(drained);
    fixture_close(&f);
}

TEST(jobs_whose_claim_is_stored_while_draining_are_not_started)
{
    struct fixture f;
    struct job *job;
    bool drained = false;

    fixture_open(&f);
    f.no_prepare = true;
    job = fixture_create(&f, "", 0, 1);
    f.no_prepare = false;
    job->preparing = false;
    jobs_prepare(f.jobs, job);
    while (!job->run) { /* until the claim is on its way */
        store_thread_dispatch(f.storage);
    }
    jobs_drain(f.jobs, 1000, set_true, &drained);
    EXPECT(!drained);
    fixture_settle(&f);
    EXPECT_INT(f.starts, 0);
    EXPECT(drained);
    EXPECT_INT(job->row->state, JOB_QUEUED);
    fixture_close(&f);
}

TEST(jobs_a_deadline_in_the_last_moment_is_asked_once)
{
    struct fixture f;
    struct job *job;

    fixture_open(&f);
    job = fixture_create(&f, "", 0, 1);
    fixture_block(&f, job, 0);
    fixture_rendered(&f, job);
    job->row->deadline_ms = fixture_now_ms;
    jobs_tick(f.jobs);
    fixture_settle(&f);
    EXPECT(job->row->cancel_requested);
    jobs_tick(f.jobs);
    EXPECT_INT(store_thread_pending(f.storage), 0);
    fixture_finished(&f, job);
    EXPECT_INT(job_status(job), STATUS_COMPLETED);
    fixture_close(&f);
}

static struct jobs_new keyed(const char *prompt)
{
    struct jobs_new n = {
        .spec = {.prompt = strdup(prompt),
                 .width = 64,
                 .height = 64,
                 .num_frames = 4,
                 .fps = 16,
                 .generated_frames = 5,
                 .steps = 4,
                 .guidance_scale = 1,
                 .flow_shift = 7,
                 .quality = "standard"},
        .client = "anna",
        .model = "tiny",
        .fingerprint = "f00d",
        .key = {.client = "anna", .route = "/v1/videos", .key = "k1"},
    };

    return n;
}

TEST(jobs_a_repeated_key_finds_its_job_though_the_queue_is_full)
{
    struct fixture f;
    struct jobs_new n = keyed("a");
    char id[JOB_ID_SIZE];

    fixture_open(&f);
    jobs_create(f.jobs, &n, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_OK);
    snprintf(id, sizeof(id), "%s", f.id);
    f.limits.queue_capacity = 0;
    jobs_configure(f.jobs, &f.limits);
    n = keyed("a");
    jobs_create(f.jobs, &n, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_REPLAYED);
    EXPECT_STR(f.id, id);
    n = keyed("a");
    snprintf(n.key.key, sizeof(n.key.key), "another");
    jobs_create(f.jobs, &n, fixture_answer, &f);
    fixture_settle(&f);
    EXPECT_INT(f.outcome, JOBS_QUEUE_FULL);
    fixture_close(&f);
}

TEST(jobs_the_limit_of_a_client_counts_what_is_being_stored)
{
    struct fixture f;

    fixture_open(&f);
    jobs_pause_queue(f.jobs, true);
    f.limits.queue_per_client = 2;
    jobs_configure(f.jobs, &f.limits);
    for (int i = 0; i < 4; i++) {
        struct jobs_new n = keyed("a");

        n.key.key[0] = '\0';
        jobs_create(f.jobs, &n, fixture_answer, &f);
    }
    EXPECT_INT(f.outcome, JOBS_CLIENT_FULL);
    fixture_settle(&f);
    EXPECT_INT(f.jobs->queued, 2);
    fixture_close(&f);
}

TEST(jobs_nothing_is_told_behind_the_last_event)
{
    struct fixture f;
    struct job *running;
    struct job *queued;
    char id[2][JOB_ID_SIZE];

    fixture_open(&f);
    running = job_ref(fixture_create(&f, "", 0, 3));
    queued = fixture_create(&f, "", 0, 1);
    snprintf(id[0], sizeof(id[0]), "%s", running->row->id);
    snprintf(id[1], sizeof(id[1]), "%s", queued->row->id);
    jobs_delete(f.jobs, id[0], fixture_answer, &f);
    jobs_delete(f.jobs, id[1], fixture_answer, &f);
    fixture_now_ms += 1000;
    queued->queue_position = 7; /* it has moved, as far as anybody knows */
    f.jobs->positions_changed = true;
    jobs_tick(f.jobs);
    jobs_on_step(f.device, running, "denoise", 1, 4, 0, 0.5);
    fixture_settle(&f);
    expect_events(&f, id[0], "queued in_progress deleted");
    expect_events(&f, id[1], "queued deleted");
    job_unref(running);
    fixture_close(&f);
}
