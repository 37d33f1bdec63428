/*
 * The checker on drawn clips, where it has to be right always, and on wrong ones, where it must not
 * see what is not there.
 */
#include "tests/demo/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/demo/captions.h"
#include "tests/demo/clip.h"
#include "tests/support/test.h"

enum {
    N_CLIPS = 64,
    N_FRAMES = 33,
    AT_30_SECONDS = 448, /* the first of the last frames */
};

static const char captions_file[] = "tests/demo/captions.tsv";

/* ---- chance, the same in each run ---- */

struct chance {
    uint64_t state; /* xorshift64*: never 0 */
};

static double chance(struct chance *c)
{
    c->state ^= c->state >> 12;
    c->state ^= c->state << 25;
    c->state ^= c->state >> 27;
    return (double)((c->state * 0x2545f4914f6cdd1dU) >> 11) / 9007199254740992.0;
}

static int choose(struct chance *c, int n)
{
    return (int)(chance(c) * n);
}

static float between(struct chance *c, float low, float high)
{
    return low + (float)chance(c) * (high - low);
}

/* ---- scenes ---- */

/* Where it starts. What moves straight or stands may be anywhere but cut by an edge at first. */
static void place(struct scene *s, struct chance *c)
{
    const float r = scene_radius(s->size);
    const float orbit = r + scene_orbit_radius(s->size);

    s->phase = (float)chance(c);
    s->x = between(c, r + 2, SCENE_WIDTH - r - 2);
    s->y = between(c, r + 2, SCENE_HEIGHT - r - 2);
    if (s->motion == MOTION_ORBIT) {
        s->x = between(c, orbit, SCENE_WIDTH - orbit);
        s->y = SCENE_HEIGHT / 2.0F;
    } else if (s->motion == MOTION_BOUNCE) {
        s->y = SCENE_HEIGHT - r - 3;
    }
}

static void held_out_scenes(struct scene scenes[N_CLIPS])
{
    struct captions *captions = test_alloc(sizeof(*captions));
    struct chance c = {1};
    struct err err;

    EXPECT_OK(captions_read(captions, captions_file, &err));
    EXPECT_INT(captions->n, N_CLIPS);
    for (int i = 0; i < N_CLIPS; i++) {
        scenes[i] = captions->of[i].scene;
        place(&scenes[i], &c);
    }
    free(captions);
}

/* Any size, speed and combination. */
static void random_scenes(struct scene scenes[N_CLIPS])
{
    struct chance c = {2};

    for (int i = 0; i < N_CLIPS;) {
        struct scene *s = &scenes[i];

        *s = (struct scene){.n_objects = 1,
                            .shape = {choose(&c, N_SHAPES)},
                            .colour = {choose(&c, N_COLOURS)},
                            .background = choose(&c, N_BACKGROUNDS),
                            .pattern = choose(&c, N_PATTERNS),
                            .motion = choose(&c, N_MOTIONS),
                            .size = choose(&c, N_SIZES),
                            .speed = choose(&c, N_SPEEDS)};
        place(s, &c);
        i += scene_possible(s->shape[0], s->colour[0], s->background, s->motion);
    }
}

/* ---- looking ---- */

/* Normal noise, by Box and Muller. */
static void add_noise(uint8_t *frames, size_t n, double deviation, struct chance *c)
{
    for (size_t i = 0; i < n; i++) {
        const double normal = sqrt(-2 * log(1 - chance(c))) * cos(6.283185307179586 * chance(c));
        const double v = frames[i] + deviation * normal;

        frames[i] = (uint8_t)lrint(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

static struct seen look(const struct scene *s, int first, double noise, int seed)
{
    const size_t bytes = (size_t)N_FRAMES * SCENE_VALUES;
    uint8_t *frames = test_alloc(bytes);
    struct chance c = {0x9e3779b97f4a7c15U * (uint64_t)(seed + 1)};
    struct seen seen = {0};
    struct err err;

    scene_render(frames, s, first, N_FRAMES);
    if (noise > 0) {
        add_noise(frames, bytes, noise, &c);
    }
    EXPECT_OK(check_describe(&seen, frames, N_FRAMES, &err));
    free(frames);
    return seen;
}

/* How many attributes are not as in the scene. */
static int count_wrong(const struct seen *seen, const struct scene *s)
{
    const struct seen want = check_expected(s);
    int wrong = 0;

    for (int a = 0; a < N_ATTRIBUTES; a++) {
        wrong += seen->value[a] != want.value[a];
    }
    return wrong;
}

static void expect_all_right(const struct scene scenes[N_CLIPS], int first, double noise)
{
    for (int i = 0; i < N_CLIPS; i++) {
        const struct seen seen = look(&scenes[i], first, noise, i);
        const struct seen want = check_expected(&scenes[i]);

        for (int a = 0; a < N_ATTRIBUTES; a++) {
            char got[SCENE_NAME];
            char wanted[SCENE_NAME];

            attribute_value_name(got, a, seen.value[a]);
            attribute_value_name(wanted, a, want.value[a]);
            if (strcmp(got, wanted) != 0) {
                test_fail(__FILE__, __LINE__, "clip %02d: %s is %s, seen as %s", i,
                          attribute_name(a), wanted, got);
            }
        }
    }
}

TEST(clips_of_all_captions_are_seen_right)
{
    struct scene scenes[N_CLIPS];

    held_out_scenes(scenes);
    expect_all_right(scenes, 0, 0);
}

TEST(so_are_their_last_seconds_after_half_a_minute)
{
    struct scene scenes[N_CLIPS];

    held_out_scenes(scenes);
    expect_all_right(scenes, AT_30_SECONDS, 0);
}

TEST(so_are_clips_with_noise)
{
    struct scene scenes[N_CLIPS];

    held_out_scenes(scenes);
    expect_all_right(scenes, 0, 0.05 * 255); /* 0.1 of [-1, 1] */
}

TEST(so_are_all_sizes_and_speeds)
{
    struct scene scenes[N_CLIPS];

    random_scenes(scenes);
    expect_all_right(scenes, 0, 0);
}

TEST(another_clip_is_not_taken_for_the_right_one)
{
    struct scene scenes[N_CLIPS];

    held_out_scenes(scenes);
    for (int i = 0; i < N_CLIPS / 2; i++) {
        const struct seen seen = look(&scenes[i], 0, 0, 0);

        EXPECT(count_wrong(&seen, &scenes[i]) == 0);
        EXPECT(count_wrong(&seen, &scenes[i + N_CLIPS / 2]) > 0);
    }
}

TEST(an_empty_background_has_no_object)
{
    const struct scene s = {.pattern = PATTERN_CHECKER, .motion = MOTION_STILL};
    const struct seen seen = look(&s, 0, 0, 0);

    EXPECT_INT(seen.value[ATTRIBUTE_BACKGROUND], BACKGROUND_RED);
    EXPECT_INT(seen.value[ATTRIBUTE_PATTERN], PATTERN_CHECKER);
    EXPECT_INT(seen.value[ATTRIBUTE_SHAPE], SCENE_NOTHING);
    EXPECT_INT(seen.value[ATTRIBUTE_COLOUR], SCENE_NOTHING);
    EXPECT_INT(seen.value[ATTRIBUTE_MOTION], SCENE_NOTHING);
    EXPECT_INT(seen.value[ATTRIBUTE_OBJECTS], 0);
}

TEST(two_objects_are_two)
{
    const struct scene s = {.n_objects = 2,
                            .shape = {SHAPE_CIRCLE, SHAPE_STAR},
                            .colour = {COLOUR_BLUE, COLOUR_WHITE},
                            .motion = MOTION_RIGHT,
                            .speed = SPEED_NORMAL,
                            .x = SCENE_WIDTH / 2.0F,
                            .y = SCENE_HEIGHT / 2.0F};
    const struct seen seen = look(&s, 0, 0, 0);

    EXPECT_INT(seen.value[ATTRIBUTE_OBJECTS], 2);
}

/* ---- captions and files ---- */

TEST(captions_differ_and_were_never_trained_on)
{
    struct captions *captions = test_alloc(sizeof(*captions));
    char name[SCENE_NAME];
    struct err err;

    EXPECT_OK(captions_read(captions, captions_file, &err));
    for (int i = 0; i < captions->n; i++) {
        const char *text = captions->of[i].text;
        const struct scene *s = &captions->of[i].scene;
        const struct seen want = check_expected(s);

        EXPECT(scene_held_out(s->shape[0], s->colour[0], s->motion));
        EXPECT(scene_possible(s->shape[0], s->colour[0], s->background, s->motion));
        for (int a = 0; a <= ATTRIBUTE_BACKGROUND; a++) {
            EXPECT_CONTAINS(text, attribute_value_name(name, a, want.value[a]));
        }
        for (int k = 0; k < i; k++) {
            EXPECT(strcmp(text, captions->of[k].text) != 0);
        }
    }
    free(captions);
}

static const char *write_file(char ret[512], const char *name, const void *data, size_t bytes)
{
    FILE *f;

    snprintf(ret, 512, "%s/%s", test_dir(), name);
    f = fopen(ret, "wbe");
    EXPECT(f && fwrite(data, 1, bytes, f) == bytes && fclose(f) == 0);
    return ret;
}

static void expect_bad_captions(const char *text, const char *complaint)
{
    struct captions *captions = test_alloc(sizeof(*captions));
    char file[512];
    struct err err = {0};

    write_file(file, "bad.tsv", text, strlen(text));
    EXPECT(captions_read(captions, file, &err) != ERR_OK);
    EXPECT_CONTAINS(err.msg, complaint);
    free(captions);
}

TEST(captions_of_two_objects_say_so)
{
    struct captions *captions = test_alloc(sizeof(*captions));
    struct err err;

    EXPECT_OK(captions_read(captions, "tests/demo/pairs.tsv", &err));
    for (int i = 0; i < captions->n; i++) {
        EXPECT_INT(captions->of[i].scene.n_objects, 2);
        EXPECT_CONTAINS(captions->of[i].text, " and a ");
    }
    free(captions);
}

TEST(bad_captions_are_refused_by_line)
{
    expect_bad_captions("# nothing\n", "no captions");
    expect_bad_captions("# it\na\tcircle\tred\tblue\tplain\n", "line 2: '' is no motion");
    expect_bad_captions("a\tcube\tred\tblue\tplain\tup\n", "line 1: 'cube' is no shape");
    expect_bad_captions("a\tcircle\tred\tblue\tplain\tup\tx\n", "more than 6 columns");
    expect_bad_captions("\n", "a caption has");
}

static void expect_clip(const char *file, const uint8_t *frames, int n, int tolerance)
{
    struct clip clip;
    struct err err;
    int worst = 0;

    EXPECT_OK(clip_open(&clip, file, &err));
    EXPECT_INT(clip.n_frames, n);
    for (int i = 0; i < n * SCENE_VALUES; i++) {
        const int d = abs(clip.frames[i] - frames[i]);

        worst = d > worst ? d : worst;
    }
    EXPECT(worst <= tolerance);
    clip_close(&clip);
}

TEST(clips_are_read_raw_and_by_ffmpeg)
{
    static const char head[] = "P6\n96 64\n255\n";
    const struct scene s = {.n_objects = 1, .x = 20, .y = 30, .motion = MOTION_RIGHT};
    uint8_t *frames = test_alloc((size_t)N_FRAMES * SCENE_VALUES);
    uint8_t *picture = test_alloc(SCENE_VALUES + sizeof(head) - 1);
    char file[512];

    scene_render(frames, &s, 0, N_FRAMES);
    expect_clip(write_file(file, "a b'$x.rgb", frames, (size_t)N_FRAMES * SCENE_VALUES), frames,
                N_FRAMES, 0);
    memcpy(picture, head, sizeof(head) - 1);
    memcpy(picture + sizeof(head) - 1, frames, SCENE_VALUES);
    expect_clip(write_file(file, "a b'$x:-.ppm", picture, SCENE_VALUES + sizeof(head) - 1), frames,
                1, 0);
    free(picture);
    free(frames);
}

static void expect_bad_clip(const char *name, const char *data, size_t bytes, const char *complaint)
{
    struct clip clip;
    char file[512];
    struct err err = {0};

    write_file(file, name, data, bytes);
    EXPECT(clip_open(&clip, file, &err) != ERR_OK);
    EXPECT_CONTAINS(err.msg, name);
    EXPECT_CONTAINS(err.msg, complaint);
}

TEST(bad_clips_are_refused_by_name)
{
    static const char other_size[] = "P6\n2 1\n255\nabcdef";
    char *half = test_alloc(SCENE_VALUES * 3 / 2);
    struct clip clip;
    struct err err = {0};

    memset(half, 0, SCENE_VALUES * 3 / 2);
    expect_bad_clip("empty.rgb", "", 0, "no frames");
    expect_bad_clip("half.rgb", half, SCENE_VALUES * 3 / 2, "9216 bytes after 1 frames of 96x64");
    expect_bad_clip("size.ppm", other_size, sizeof(other_size) - 1, "not of 96x64");
    EXPECT(clip_open(&clip, "/nonexistent/clip.rgb", &err) == ERR_IO);
    EXPECT_CONTAINS(err.msg, "/nonexistent/clip.rgb: open: No such file");
    free(half);
}
