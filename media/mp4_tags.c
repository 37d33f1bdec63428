#include "media/mp4_tags.h"

#include <libavutil/dict.h>
#include <string.h>

int mp4_tags_set(struct AVDictionary **dict, const struct mp4_tag *tags, int n_tags)
{
    int av = 0;

    for (int i = 0; av >= 0 && i < n_tags; i++) {
        /* In bit-exact mode the muxer leaves "encoder" out, as it would be its own version; the
         * other name of the same field, (c)too, is written. */
        const char *key = strcmp(tags[i].key, "encoder") == 0 ? "encoding_tool" : tags[i].key;

        av = av_dict_set(dict, key, tags[i].value, 0);
    }
    return av < 0 ? av : 0;
}
