#!/bin/sh
# clang-format, clang-tidy, who may include whom, banned functions, headers that stand alone, the manual.
# Last line: "N passed, N failed".
set -u
passed=0 failed=0

check() { # name, status
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
    fi
}

cd "$(dirname "$0")/.." || exit 1
sources=$(git ls-files 'base/*.[ch]' 'kernels/*.[ch]' 'engine/*.[ch]' 'media/*.[ch]' 'worker/*.[ch]' \
    'storage/*.[ch]' 'jobs/*.[ch]' 'api/*.[ch]' 'daemon/*.[ch]' 'tests/*.[ch]' 'bench/*.[ch]')
[ -n "$sources" ] || {
    echo "lint.sh: no sources; it needs a git checkout" >&2
    exit 1
}
cfiles=$(echo "$sources" | grep '\.c$')
mkdir -p build/lint
printf '#define SANAD_VERSION "0"\n#define SANAD_DATADIR "/"\n#define SANAD_LIBDIR "/"\n' >build/lint/version.h
flags="-std=c17 -D_GNU_SOURCE -I. -include build/lint/version.h $(pkg-config --cflags \
    openblas sentencepiece libcjson libavformat libavcodec libswscale libavutil libmicrohttpd libuv sqlite3)"

clang-format --dry-run -Werror $(git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.cuh') 2>&1 | head -n 40 >build/lint/out
[ ! -s build/lint/out ]
status=$?
cat build/lint/out
check clang-format $status

tests/check_layers.sh
check "layers: nothing includes upward" $?
tests/check_banned.sh
check "banned functions" $?
tests/check_manual.sh
check "the manual names every option" $?

# Those of the simulator and of cuBLASLt are C++ and CUDA.
# shellcheck disable=SC2086
echo "$sources" | grep '\.h$' | grep -vE '^(tests/hostsim/|kernels/cuda_blas)' | xargs -P 2 -n 16 sh -c '
    for h in "$@"; do
        gcc '"$flags"' -Wall -Wextra -x c -fsyntax-only "$h" 2>&1 | grep -v "pragma once" | head -n 5
    done' sh >build/lint/out
[ ! -s build/lint/out ]
status=$?
cat build/lint/out
check "every header compiles alone" $status

# shellcheck disable=SC2086
echo "$cfiles" | xargs -P 2 -n 4 sh -c 'clang-tidy --quiet "$@" -- '"$flags" sh 2>/dev/null
check clang-tidy $?

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
