#include "kernels/rope3d.h"

#include <math.h>

void rope3d_fill(float *out, int64_t first, int64_t n, int64_t pairs)
{
    for (int64_t p = 0; p < n; p++) {
        for (int64_t j = 0; j < pairs; j++) {
            const double angle = (double)(first + p) * pow(10000.0, -(double)j / (double)pairs);

            out[(p * pairs + j) * 2] = (float)cos(angle);
            out[(p * pairs + j) * 2 + 1] = (float)sin(angle);
        }
    }
}
