/*
 * demo-check: what the clips of a folder show, against what their captions say.
 *
 *   demo-check CAPTIONS.tsv DIR [--part first|last|all] [--from FRAME] [--report FILE.tsv]
 *              [--need KEY=PERCENT,...]
 *   demo-check --draw CAPTIONS.tsv DIR
 *
 * DIR has NN.mp4 or NN.rgb for caption NN, from 00 on; captions without a file do not count.
 * Two seconds of each are looked at: the first, the last, or from a frame on. Each KEY=PERCENT is a
 * goal; KEY is shape, colour, background, pattern, motion or objects, or several with + between
 * them, which then have to be right in the same clip.
 * The report has a line for each clip: number, caption, and what was seen in the order of the keys.
 * The last line is "N passed, N failed", of goals. Exit status 0: no goal missed, 1: some were, 2: errors.
 * --draw writes DIR/NN.rgb: a first picture of what each caption says.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"
#include "tests/demo/captions.h"
#include "tests/demo/check.h"
#include "tests/demo/clip.h"
#include "tests/demo/draw.h"

enum {
    WINDOW = 2 * SCENE_FPS + 1, /* frames */
    MAX_GOALS = 16,
};

struct goal {
    char name[64];
    unsigned attributes; /* a bit for each that has to be right */
    int percent;
    int right; /* clips */
};

enum part {
    PART_FROM,
    PART_LAST,
    PART_ALL,
};

struct options {
    const char *captions;
    const char *dir;
    const char *report;
    enum part part;
    bool draw;
    int from;
    int n_goals;
    struct goal goal[MAX_GOALS];
};

/* ---- the command line ---- */

static int usage(const char *what)
{
    fprintf(stderr,
            "demo-check: %s\n"
            "usage: demo-check CAPTIONS.tsv DIR [--part first|last|all] [--from FRAME]\n"
            "                  [--report FILE.tsv] [--need KEY=PERCENT,...]\n"
            "       demo-check --draw CAPTIONS.tsv DIR\n",
            what);
    return -1;
}

static bool parse_number(int *ret, const char *text, int max)
{
    char *end;
    const long n = strtol(text, &end, 10);

    if (end == text || *end != '\0' || n < 0 || n > max) {
        return false;
    }
    *ret = (int)n;
    return true;
}

static unsigned attribute_bit(const char *name)
{
    for (int a = 0; a < N_ATTRIBUTES; a++) {
        if (strcmp(attribute_name(a), name) == 0) {
            return 1U << a;
        }
    }
    return 0;
}

/* "colour+objects=85" */
static bool parse_goal(struct goal *ret, char *text)
{
    char *percent = text;
    char *names = strsep(&percent, "=");

    *ret = (struct goal){0};
    snprintf(ret->name, sizeof(ret->name), "%s", names);
    while (names) {
        const unsigned bit = attribute_bit(strsep(&names, "+"));

        if (bit == 0) {
            return false;
        }
        ret->attributes |= bit;
    }
    return percent && parse_number(&ret->percent, percent, 100);
}

static int parse_goals(struct options *o, char *text)
{
    while (text) {
        if (o->n_goals == MAX_GOALS) {
            return usage("too many goals");
        }
        if (!parse_goal(&o->goal[o->n_goals++], strsep(&text, ","))) {
            return usage("--need takes KEY=PERCENT,... with 0 to 100 percent");
        }
    }
    return 0;
}

static int parse_part(struct options *o, const char *text)
{
    static const struct {
        const char *name;
        enum part part;
    } parts[] = {{"first", PART_FROM}, {"last", PART_LAST}, {"all", PART_ALL}};

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (strcmp(parts[i].name, text) == 0) {
            o->part = parts[i].part;
            return 0;
        }
    }
    return usage("--part takes first, last or all");
}

static int parse_options(struct options *o, int argc, char **argv)
{
    static const struct option names[] = {
        {"part", required_argument, NULL, 'p'},   {"from", required_argument, NULL, 'f'},
        {"report", required_argument, NULL, 'r'}, {"need", required_argument, NULL, 'n'},
        {"draw", no_argument, NULL, 'd'},         {NULL, 0, NULL, 0}};
    int rc = 0;

    opterr = 0;
    for (int c; rc == 0 && (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (c == 'p') {
            rc = parse_part(o, optarg);
        } else if (c == 'f') {
            o->part = PART_FROM;
            rc = parse_number(&o->from, optarg, 1000000) ? 0 : usage("--from takes a frame");
        } else if (c == 'r') {
            o->report = optarg;
        } else if (c == 'n') {
            rc = parse_goals(o, optarg);
        } else if (c == 'd') {
            o->draw = true;
        } else {
            rc = usage("unknown option, or one without its value");
        }
    }
    if (rc == 0 && argc - optind != 2) {
        rc = usage("needs a file of captions and a folder");
    }
    if (rc == 0) {
        o->captions = argv[optind];
        o->dir = argv[optind + 1];
    }
    return rc;
}

/* ---- clips ---- */

/* The name of clip i's file, or false. */
static bool find_clip(char *ret, size_t size, const char *dir, int i)
{
    static const char *const kinds[] = {"mp4", "rgb"};

    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        snprintf(ret, size, "%s/%02d.%s", dir, i, kinds[k]);
        if (access(ret, F_OK) == 0) {
            return true;
        }
    }
    return false;
}

static int look_at(struct seen *ret, const char *file, const struct options *o, struct err *err)
{
    struct clip clip = {0};
    int from = o->from;
    int n = WINDOW;
    int rc = clip_open(&clip, file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (o->part == PART_LAST) {
        from = clip.n_frames > n ? clip.n_frames - n : 0;
    } else if (o->part == PART_ALL) {
        from = 0;
        n = clip.n_frames > 2 ? clip.n_frames : 2;
    }
    if (from + n > clip.n_frames) {
        rc = err_set(err, ERR_INVALID, "%s: %d frames; to look at are %d from frame %d on", file,
                     clip.n_frames, n, from);
    } else {
        rc = check_describe(ret, clip.frames + (size_t)from * SCENE_VALUES, n, err);
    }
    clip_close(&clip);
    return rc;
}

static void write_report(FILE *report, int i, const char *caption, const struct seen *seen)
{
    char name[SCENE_NAME];

    fprintf(report, "%02d\t%s", i, caption);
    for (int a = 0; a < N_ATTRIBUTES; a++) {
        fprintf(report, "\t%s", attribute_value_name(name, a, seen->value[a]));
    }
    fprintf(report, "\n");
}

/* Two objects together have no shape, colour or path. */
static bool can_be_told(const struct scene *s, int a)
{
    return s->n_objects == 1 ||
           (a != ATTRIBUTE_SHAPE && a != ATTRIBUTE_COLOUR && a != ATTRIBUTE_MOTION);
}

/* Returns a bit for each attribute that is right. */
static unsigned compare(int i, const struct caption *caption, const struct seen *seen)
{
    const struct seen want = check_expected(&caption->scene);
    unsigned right = 0;
    char wanted[SCENE_NAME];
    char got[SCENE_NAME];

    for (int a = 0; a < N_ATTRIBUTES; a++) {
        if (!can_be_told(&caption->scene, a)) {
            continue;
        }
        if (seen->value[a] == want.value[a]) {
            right |= 1U << a;
            continue;
        }
        printf("clip %02d: %s is %s, seen as %s   (%s)\n", i, attribute_name(a),
               attribute_value_name(wanted, a, want.value[a]),
               attribute_value_name(got, a, seen->value[a]), caption->text);
    }
    return right;
}

/* Each attribute's figure, then the goals. Returns how many of those are missed. */
static int sum_up(const struct options *o, const int *right, int n)
{
    int n_failed = 0;

    for (int a = 0; a < N_ATTRIBUTES; a++) {
        printf("%s %d/%d\n", attribute_name(a), right[a], n);
    }
    for (int g = 0; g < o->n_goals; g++) {
        const struct goal *goal = &o->goal[g];
        const bool ok = goal->right * 100 >= goal->percent * n;

        n_failed += !ok;
        printf("%s %s: %d of %d clips are right, the goal is %d %%\n", ok ? "ok  " : "FAIL",
               goal->name, goal->right, n, goal->percent);
    }
    printf("%d passed, %d failed\n", o->n_goals - n_failed, n_failed);
    return n_failed;
}

/* Returns the number of goals that are missed, or an error. */
static int check_all(struct options *o, const struct captions *captions, FILE *report,
                     struct err *err)
{
    int right[N_ATTRIBUTES] = {0};
    int n = 0;
    int rc;

    for (int i = 0; i < captions->n; i++) {
        const struct caption *caption = &captions->of[i];
        char file[4096];
        struct seen seen = {0};
        unsigned bits;

        if (!find_clip(file, sizeof(file), o->dir, i)) {
            continue;
        }
        rc = look_at(&seen, file, o, err);
        if (rc != ERR_OK) {
            return rc;
        }
        n++;
        if (report) {
            write_report(report, i, caption->text, &seen);
        }
        bits = compare(i, caption, &seen);
        for (int a = 0; a < N_ATTRIBUTES; a++) {
            right[a] += (bits >> a & 1) != 0;
        }
        for (int g = 0; g < o->n_goals; g++) {
            o->goal[g].right += (bits & o->goal[g].attributes) == o->goal[g].attributes;
        }
    }
    if (n == 0) {
        return err_set(err, ERR_NOT_FOUND, "%s: no clips 00.mp4 (or .rgb), 01.mp4, ...", o->dir);
    }
    return sum_up(o, right, n);
}

/* As check_all, with the report opened and closed. */
static int check_and_report(struct options *o, const struct captions *captions, struct err *err)
{
    FILE *report = o->report ? fopen(o->report, "we") : NULL;
    int missed;

    if (o->report && !report) {
        return err_set(err, ERR_IO, "open %s: %m", o->report);
    }
    missed = check_all(o, captions, report, err);
    if (report && fclose(report) != 0 && missed >= 0) {
        missed = err_set(err, ERR_IO, "write %s: %m", o->report);
    }
    return missed;
}

int main(int argc, char **argv)
{
    static struct captions captions;
    struct options o = {0};
    struct err err = {0};
    int missed;

    if (parse_options(&o, argc, argv) != 0) {
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    missed = captions_read(&captions, o.captions, &err);
    if (missed == ERR_OK) {
        missed = o.draw ? draw_first_pictures(&captions, o.dir, &err)
                        : check_and_report(&o, &captions, &err);
    }
    if (missed < 0) {
        fprintf(stderr, "demo-check: %s\n", err.msg);
        return 2;
    }
    return missed > 0 ? 1 : 0;
}
