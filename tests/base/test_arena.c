#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

static bool is_all(const unsigned char *p, size_t n, unsigned char value)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != value) {
            return false;
        }
    }
    return true;
}

static void fill_and_check(struct arena *arena)
{
    static const size_t size[] = {1, 31, 64, 65, 257, 4096, 70000, 65536, 3, 200000, 1};
    unsigned char *p[ARRAY_LEN(size)];

    for (size_t i = 0; i < ARRAY_LEN(size); i++) {
        p[i] = arena_alloc(arena, size[i], 1);
        EXPECT(p[i]);
        EXPECT_INT((uintptr_t)p[i] % 64, 0);
        EXPECT(is_all(p[i], size[i], 0));
        memset(p[i], (int)i + 1, size[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(size); i++) {
        EXPECT(is_all(p[i], size[i], (unsigned char)(i + 1)));
    }
}

TEST(arena_gives_zeroed_aligned_memory_that_does_not_overlap)
{
    struct arena arena;

    arena_init(&arena, 1 << 20);
    for (int round = 0; round < 3; round++) { /* what malloc gives again is not zero */
        fill_and_check(&arena);
        arena_done(&arena);
    }
}

TEST(arena_refuses_what_passes_its_maximum)
{
    struct arena arena;

    arena_init(&arena, 100);
    EXPECT(!arena_alloc(&arena, 101, 1));
    EXPECT(arena_alloc(&arena, 1, 1)); /* counts as 64 */
    EXPECT(!arena_alloc(&arena, 37, 1));
    EXPECT(arena_alloc(&arena, 9, 4));
    EXPECT(!arena_alloc(&arena, 1, 1));
    EXPECT(!arena_strdup(&arena, ""));
    arena_done(&arena);
    EXPECT(arena_alloc(&arena, 100, 1)); /* the maximum stays, what was used does not */
    EXPECT(!arena_alloc(&arena, 1, 1));
    arena_done(&arena);
}

TEST(arena_refuses_sizes_that_overflow)
{
    struct arena arena;

    arena_init(&arena, SIZE_MAX);
    EXPECT(!arena_alloc(&arena, SIZE_MAX, 2));
    EXPECT(!arena_alloc(&arena, SIZE_MAX / 2 + 1, 2));
    EXPECT(!arena_alloc(&arena, SIZE_MAX, 1)); /* no room for the header */
    EXPECT(arena_alloc(&arena, 10, 10));
    arena_done(&arena);
    arena_done(&arena); /* idempotent */
}

TEST(arena_allocates_nothing_for_a_count_of_zero)
{
    struct arena arena;

    arena_init(&arena, 0);
    EXPECT(arena_alloc(&arena, 0, 8));
    EXPECT_INT(arena.used, 0);
    arena_done(&arena);
}

TEST(arena_copies_text)
{
    char source[] = "latent";
    struct arena arena;
    char *copy;

    arena_init(&arena, 1 << 20);
    copy = arena_strdup(&arena, source);
    source[0] = 'p';
    EXPECT_STR(copy, "latent");
    EXPECT_STR(arena_strdup(&arena, ""), "");
    arena_done(&arena);
}

static bool fill(struct arena *arena)
{
    return arena_strdup(arena, "one") && arena_alloc(arena, 100, 1000) &&
           arena_strdup(arena, "two") && arena_alloc(arena, 1, 65536);
}

/* Fills with the n-th allocation failing; false when there was none to fail. */
static bool fill_failing_at(long n)
{
    struct arena arena;
    size_t used;
    bool done;
    bool failed;

    arena_init(&arena, 1 << 20);
    alloc_fail_at(n);
    done = fill(&arena);
    failed = alloc_fail_stop();
    EXPECT(done == !failed);
    used = arena.used;
    EXPECT(arena_alloc(&arena, 64, 1)); /* a failure spoils nothing */
    EXPECT_INT(arena.used, used + 64);
    arena_done(&arena);
    return failed;
}

TEST(arena_survives_every_failed_allocation)
{
    long n = 1;

    while (fill_failing_at(n)) {
        n++;
    }
    EXPECT_INT(n, 5); /* four chunks */
}
