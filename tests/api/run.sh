#!/bin/sh
# The tests of the HTTP API: real clients against the real daemon.
#   tests/api/run.sh [BINARY] [FILE.test.mjs...]
# Needs node >= 20.10, npm, curl and ffmpeg. Last line: "N passed, N failed, N skipped".
set -u
here=$(cd "$(dirname "$0")" && pwd)
SANAD=$(realpath "${1:-$here/../../build/release/sanad}")
export SANAD
[ $# -gt 0 ] && shift

for program in node npm curl ffmpeg ffprobe; do
    if ! command -v "$program" >/dev/null; then
        echo "skip: the tests of the API need $program"
        exit 77
    fi
done
if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 10) ? 0 : 1)'; then
    echo "skip: the tests of the API need node 20.10 or newer; this is $(node --version)"
    exit 77
fi
cd "$here" || exit 1
stamp=node_modules/.package-lock.json
if [ ! -e $stamp ] || [ package-lock.json -nt $stamp ]; then
    if ! npm ci --no-audit --no-fund --ignore-scripts --loglevel=error; then
        echo "npm ci failed"
        exit 1
    fi
    touch $stamp
fi

[ $# -gt 0 ] || set -- ./*.test.mjs
tap=$(mktemp)
trap 'rm -f "$tap"' EXIT
node --test --test-concurrency="${API_TEST_JOBS:-2}" --test-timeout=240000 \
    --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=tap --test-reporter-destination="$tap" "$@"
status=$?

# The totals are comments at the end: "# pass 12". A test that was cut off (a time limit, a process that
# died) is cancelled: failed, for us.
total() {
    n=0
    for name in "$@"; do
        value=$(sed -n "s/^# $name \([0-9][0-9]*\)\$/\1/p" "$tap" | tail -n 1)
        n=$((n + ${value:-0}))
    done
    echo "$n"
}
passed=$(total pass) failed=$(total fail cancelled) skipped=$(total skipped todo)
grep -E '^ *(not )?ok .*# (SKIP|TO[D]O)' "$tap" | sed 's/^ *\(not \)\{0,1\}ok [0-9]* - /skip /'
# Whatever went wrong without a number of its own.
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    failed=1
fi
if [ $((passed + failed + skipped)) -eq 0 ]; then
    failed=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
