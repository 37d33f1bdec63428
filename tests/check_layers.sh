#!/bin/sh
# The direction of dependence (docs/architecture.md): a room includes only itself and those below it,
# and third-party headers only where they belong. Prints each violation.
set -u
bad=0

room() { # name, allowed rooms (regexp), allowed third-party headers (regexp)
    for f in $(git ls-files "$1/*.[ch]" "$1/*.cc" "$1/*.cu"); do
        ours=$(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$f" | grep -vE "^($2)/")
        theirs=$(sed -n 's/^#include <\([^>]*\)>.*/\1/p' "$f" |
            grep -E '^(cjson|cblas|openblas|sentencepiece|libav|libsw|unicase|uninorm|unistr|microhttpd|uv\.h|sqlite3|cuda)' |
            grep -vE "^($3)")
        [ -z "$ours$theirs" ] && continue
        echo "$f: may not include" $ours $theirs
        bad=1
    done
}

room base base none
room kernels 'base|kernels' 'cblas|openblas|cuda'
room engine 'base|kernels|engine' 'cjson|sentencepiece|unicase|uninorm|unistr'
room media 'base|media' 'libav|libsw'
room worker 'base|kernels|engine|media|worker' 'cjson'
room storage 'base|storage' 'sqlite3'
room jobs 'base|storage|jobs' 'cjson'
room api 'base|media|storage|jobs|api' 'microhttpd|cjson|uv\.h'
room daemon 'base|kernels|engine|media|worker|storage|jobs|api|daemon' 'cjson|uv\.h'

# x_internal.h belongs to its own folder and to tests.
for f in $(git ls-files '*.c' '*.h' '*.cc' | grep -v '^tests/'); do
    for h in $(sed -n 's/^#include "\([^"]*_internal\.h\)".*/\1/p' "$f"); do
        if [ "$(dirname "$h")" != "$(dirname "$f")" ]; then
            echo "$f: $h is internal to $(dirname "$h")"
            bad=1
        fi
    done
done
exit $bad
