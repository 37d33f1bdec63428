#include "media/av_error.h"

#include <errno.h>
#include <libavutil/error.h>

#include "tests/support/test.h"

TEST(av_error_keeps_what_matters)
{
    struct err err;

    EXPECT_INT(av_error_set(&err, ERR_FORMAT, AVERROR_INVALIDDATA, "file '%s'", "x"), ERR_FORMAT);
    EXPECT_STR(err.msg, "file 'x': Invalid data found when processing input");
    EXPECT_INT(av_error_set(&err, ERR_IO, AVERROR(ENOMEM), "x"), ERR_NO_MEMORY);
    EXPECT_INT(av_error_set_errno(&err, ERR_IO, ENOSPC, "write"), ERR_NO_SPACE);
    EXPECT_STR(err.msg, "write: No space left on device");
    EXPECT_INT(av_error_set_errno(&err, ERR_IO, EDQUOT, "write"), ERR_NO_SPACE);
    EXPECT_INT(av_error_set_errno(&err, ERR_IO, EFBIG, "write"), ERR_NO_SPACE);
    EXPECT_INT(av_error_set_errno(&err, ERR_IO, EIO, "write"), ERR_IO);
    EXPECT_INT(err.code, ERR_IO);
}
