#!/bin/sh
# Functions that are not used in the product, with the few places that may.
set -u
bad=0

ban() { # pattern, files that may (regexp), why
    hits=$(grep -nE "(^|[^A-Za-z0-9_])($1)[[:space:]]*\(" $(git ls-files 'base/*.[ch]' 'kernels/*.[ch]' \
        'kernels/*.cu' 'engine/*.[ch]' 'engine/*.cc' 'media/*.[ch]' 'worker/*.[ch]' 'storage/*.[ch]' 'jobs/*.[ch]' \
        'api/*.[ch]' 'daemon/*.[ch]') |
        grep -vE "^($2):" | grep -vE '^[^:]*:[0-9]*:[[:space:]]*(/\*| \*)')
    [ -z "$hits" ] && return
    echo "$hits"
    echo "  -> banned: $3"
    bad=1
}

ban 'strcpy|strcat|sprintf|vsprintf|gets|strtok' none 'unbounded, or keeps state'
ban 'atoi|atol|atof' none 'no errors: strtoll, strtod'
ban 'alloca' none 'unbounded stack'
ban 'exit|_exit|quick_exit' 'daemon/main.c' 'only main ends the process'
ban 'abort' 'base/err.c' 'CHECK_BUG'
ban 'assert' none 'CHECK_BUG, or an error'
ban 'getenv|secure_getenv' 'base/log.c|daemon/config.c|daemon/cache_path.c|kernels/cuda_load.c|kernels/cuda_blas.cu' \
    'configuration is in one place'
ban 'usleep|system|popen' none 'blocks, or runs a shell'
ban 'cudaMalloc' 'kernels/cuda_memory.cu' 'device memory is planned'

todo=$(grep -nwE 'TODO|FIXME|XXX' $(git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.sh' Makefile) |
    grep -vE '^(tests/check_banned.sh|[^:]*:[0-9]*:.*\\u)')
if [ -n "$todo" ]; then
    echo "$todo"
    echo "  -> finish it, or open an issue"
    bad=1
fi
exit $bad
