#!/bin/sh
# Crashes, races and load, against the real daemon: short versions, or all of it.
#   tests/crash/run.sh [BINARY] [full]
# Needs node >= 20, sqlite3 and ffprobe. Last line: "N passed, N failed, N skipped".
set -u
here=$(cd "$(dirname "$0")" && pwd)
size=short
binary=$here/../../build/release/sanad
for argument in "$@"; do
    case $argument in
        full) size=full ;;
        *) binary=$argument ;;
    esac
done
SANAD=$(realpath "$binary")
export SANAD

for program in node sqlite3 ffprobe; do
    if ! command -v "$program" >/dev/null; then
        echo "skip: the crash tests need $program"
        exit 77
    fi
done
if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)'; then
    echo "skip: the crash tests need node 20 or newer; this is $(node --version)"
    exit 77
fi

# A descriptor for each reader, on both sides, and one for each file that is followed.
# shellcheck disable=SC3045
ulimit -n 8192 2>/dev/null || ulimit -n "$(ulimit -H -n)"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

# part NAME ARGUMENTS...
part() {
    name=$1
    shift
    echo "== $name $*"
    node "$here/$name.mjs" "$@" 2>&1 | tee "$log"
    sum=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
    p=$(echo "$sum" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
    f=$(echo "$sum" | sed -n 's/.* \([0-9]*\) failed.*/\1/p')
    if [ -z "$sum" ]; then
        echo "FAIL $name ended without a sum"
        f=1
    fi
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0}))
}

if [ $size = full ]; then
    part crash --kills 240
    part races --rounds 100 --deletes 20 --keys 20
    part load --rounds 5 --frames 49
else
    part crash --kills 24
    part races --rounds 20 --deletes 5 --keys 5
    part load --rounds 3 --frames 33
fi
if [ -e "$(dirname "$SANAD")/libsanad_hostsim.so" ]; then
    part gpu
else
    echo "no simulator of a GPU beside $SANAD: nothing is lost there"
fi
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
