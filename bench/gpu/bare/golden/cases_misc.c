/*
 * Cases about pictures need FFmpeg, which a bare machine does not have.
 */
#include "tests/golden_runner/golden.h"

int golden_misc(struct golden_case *c, struct err *err)
{
    return golden_mismatch(err, "%s: this build reads no pictures", c->name);
}
