#include "tests/demo/captions.h"

#include <stdio.h>
#include <string.h>

static int parse(struct caption *ret, char *line, struct err *err)
{
    char *rest = line;
    const char *text = strsep(&rest, "\t");
    int value[ATTRIBUTE_OBJECTS]; /* of all but that */

    if (text[0] == '\0' || strlen(text) >= sizeof(ret->text)) {
        return err_set(err, ERR_FORMAT, "a caption has 1 to %d bytes", CAPTION_BYTES - 1);
    }
    for (int a = 0; a < ATTRIBUTE_OBJECTS; a++) {
        const char *name = strsep(&rest, "\t");

        value[a] = name ? attribute_find(a, name) : SCENE_NOTHING;
        if (value[a] == SCENE_NOTHING) {
            return err_set(err, ERR_FORMAT, "'%s' is no %s", name ? name : "", attribute_name(a));
        }
    }
    if (rest && strcmp(rest, "2") != 0) {
        return err_set(err, ERR_FORMAT,
                       "more than %d columns, and the next is not 2, for two objects",
                       1 + ATTRIBUTE_OBJECTS);
    }
    *ret = (struct caption){
        .scene = {.n_objects = rest ? 2 : 1,
                  .shape = {value[ATTRIBUTE_SHAPE]},
                  .colour = {value[ATTRIBUTE_COLOUR]},
                  .background = value[ATTRIBUTE_BACKGROUND],
                  .pattern = value[ATTRIBUTE_PATTERN],
                  .motion = value[ATTRIBUTE_MOTION],
                  .size = SIZE_NORMAL,
                  .speed = SPEED_NORMAL,
                  .x = SCENE_WIDTH / 2.0F,
                  .y = SCENE_HEIGHT / 2.0F},
    };
    memcpy(ret->text, text, strlen(text));
    return ERR_OK;
}

int captions_read(struct captions *ret, const char *file, struct err *err)
{
    FILE *f = fopen(file, "re");
    char line[512];
    int rc = ERR_OK;

    if (!f) {
        return err_set(err, ERR_IO, "open %s: %m", file);
    }
    ret->n = 0;
    for (int number = 1; rc == ERR_OK && fgets(line, sizeof(line), f); number++) {
        if (line[0] == '#') {
            continue;
        }
        if (ret->n == CAPTIONS_MAX) {
            rc = err_set(err, ERR_FORMAT, "%s: more than %d captions", file, CAPTIONS_MAX);
            break;
        }
        line[strcspn(line, "\n")] = '\0';
        rc = parse(&ret->of[ret->n++], line, err);
        if (rc != ERR_OK) {
            err_prefix(err, "%s: line %d", file, number);
        }
    }
    if (rc == ERR_OK && ferror(f)) {
        rc = err_set(err, ERR_IO, "read %s: %m", file);
    }
    if (rc == ERR_OK && ret->n == 0) {
        rc = err_set(err, ERR_FORMAT, "%s: no captions", file);
    }
    fclose(f);
    return rc;
}
