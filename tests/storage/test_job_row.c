#include "storage/job_row.h"

#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/store_contract.h"
#include "tests/support/test.h"

TEST(job_row_ids_are_checked)
{
    EXPECT(job_id_valid("video_01jd3x8q6v7k2n9r5t4w8y0zab"));
    EXPECT(job_id_valid("A-z_0"));
    EXPECT(job_id_valid("1234567890123456789012345678901234567890123456789012345678901234"));
    EXPECT(!job_id_valid("12345678901234567890123456789012345678901234567890123456789012345"));
    EXPECT(!job_id_valid(""));
    EXPECT(!job_id_valid("."));
    EXPECT(!job_id_valid("a/b"));
    EXPECT(!job_id_valid("a\n"));
}

TEST(job_row_is_ready_to_be_filled)
{
    struct job_row *row = job_row_create();

    EXPECT(row);
    EXPECT_STR(row->id, "");
    EXPECT_STR(row->client, "");
    EXPECT_STR(row->detail, "");
    EXPECT(!row->group && !row->user && !row->error_code);
    EXPECT(job_row_set(&row->group, "g") && job_row_set(&row->group, "h"));
    EXPECT_STR(row->group, "h");
    EXPECT(job_row_set(&row->group, NULL));
    EXPECT(!row->group);
    job_row_free(row);
    job_row_free(NULL);
}

TEST(job_row_copy_is_deep)
{
    struct job_row *row = store_contract_row("video_a");
    struct job_row *copy;

    row->state = JOB_FAILED;
    row->epoch = 9;
    EXPECT(job_row_set(&row->error_code, "cancelled"));
    copy = job_row_copy(row);
    EXPECT(copy);
    store_contract_same(copy, row);
    EXPECT(job_row_set(&row->spec, "changed"));
    EXPECT(strcmp(copy->spec, "changed") != 0);
    job_row_free(row);
    EXPECT_STR(copy->error_code, "cancelled");
    job_row_free(copy);
}

TEST(job_row_survives_every_failed_allocation)
{
    struct job_row *row = store_contract_row("video_a");
    bool failed = true;

    for (long n = 1; failed; n++) {
        struct job_row *made;
        struct job_row *copy;

        alloc_fail_at(n);
        made = job_row_create();
        copy = job_row_copy(row);
        failed = alloc_fail_stop();
        EXPECT(failed == (!made || !copy));
        job_row_free(made);
        job_row_free(copy);
    }
    alloc_fail_at(1);
    EXPECT(!job_row_set(&row->spec, "new"));
    EXPECT(alloc_fail_stop());
    EXPECT(strcmp(row->spec, "new") != 0); /* as it was */
    job_row_free(row);
}
