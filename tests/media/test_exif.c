#include "media/exif.h"

#include <string.h>

#include "tests/support/test.h"

/* "II": one directory of two entries, the second the orientation. */
static const uint8_t little[] = {'I',  'I',  42, 0, 8, 0, 0, 0,                   /* head */
                                 2,    0,                                         /* count */
                                 0x0f, 0x01, 2,  0, 4, 0, 0, 0, 'a', 'b', 'c', 0, /* Make */
                                 0x12, 0x01, 3,  0, 1, 0, 0, 0, 6,   0,   0,   0, /* it */
                                 8,    0,    0,  0};                              /* next: itself */
static const uint8_t big[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0,
                              3,   0,   0, 0,  1, 0, 8, 0, 0, 0, 0,    0,    0};

TEST(exif_orientation_reads_both_byte_orders)
{
    EXPECT_INT(exif_orientation(little, sizeof(little)), 6);
    EXPECT_INT(exif_orientation(big, sizeof(big)), 8);
}

TEST(exif_orientation_is_upright_when_cut_off)
{
    for (size_t len = 0; len <= sizeof(little); len++) {
        const int want = len >= 34 ? 6 : 1; /* the entry ends at 34 */

        EXPECT_INT(exif_orientation(little, len), want);
    }
}

TEST(exif_orientation_is_upright_when_wrong)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 'X'}, {2, 43}, {4, 0},  {4, 7},  {4, 255}, {7, 255}, {22, 0x13},
                 {24, 4},  {26, 2}, {26, 0}, {30, 0}, {30, 9},  {31, 1},  {8, 1}};
    uint8_t copy[sizeof(little)];

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        memcpy(copy, little, sizeof(copy));
        copy[wrong[i].at] = wrong[i].value;
        EXPECT_INT(exif_orientation(copy, sizeof(copy)), 1);
    }
}

/* A count of 65535 entries ends with the bytes. */
TEST(exif_orientation_stops_at_the_end)
{
    uint8_t data[200] = {'I', 'I', 42, 0, 8, 0, 0, 0, 0xff, 0xff};

    EXPECT_INT(exif_orientation(data, sizeof(data)), 1);
}
