#include "tests/demo/draw.h"

#include <stdio.h>

/* In turn at three columns and three rows, as far as the motion leaves a choice. */
static void place(struct scene *s, int i)
{
    const float r = scene_radius(s->size);

    s->x = (float)(SCENE_WIDTH * (1 + i % 3)) / 4;
    s->y = (float)SCENE_HEIGHT / 2 + (float)(i / 3 % 3 - 1) * 8;
    if (s->motion == MOTION_BOUNCE) {
        s->y = SCENE_HEIGHT - r - 3; /* the ground */
    } else if (s->motion == MOTION_ORBIT) {
        s->x = (float)SCENE_WIDTH / 2;
        s->y = (float)SCENE_HEIGHT / 2;
        s->phase = (float)(i % 4) / 4;
    }
}

int draw_first_pictures(const struct captions *captions, const char *dir, struct err *err)
{
    uint8_t picture[SCENE_VALUES];
    char file[4096];

    for (int i = 0; i < captions->n; i++) {
        struct scene s = captions->of[i].scene;
        FILE *f;

        place(&s, i);
        scene_render(picture, &s, 0, 1);
        snprintf(file, sizeof(file), "%s/%02d.rgb", dir, i);
        f = fopen(file, "wbe");
        if (!f || fwrite(picture, 1, sizeof(picture), f) != sizeof(picture) || fclose(f) != 0) {
            return err_set(err, ERR_IO, "write %s: %m", file);
        }
    }
    return ERR_OK;
}
