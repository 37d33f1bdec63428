#!/bin/sh
# Installs the Debian packages that building and testing need, where they are missing.
#   tools/setup.sh build | test | lint | bench | train
set -eu

build="gcc g++ libc6-dev make pkg-config libopenblas-pthread-dev libsentencepiece-dev libcjson-dev
libavformat-dev libavcodec-dev libswscale-dev libavutil-dev libunistring-dev libmicrohttpd-dev
libuv1-dev libsqlite3-dev curl"
test="ffmpeg sqlite3"
command -v node >/dev/null && command -v npm >/dev/null || test="$test nodejs npm" # or a newer one of your own
train="python3-torch python3-numpy python3-sentencepiece libopenblas0-pthread"
lint="clang clang-format clang-tidy libclang-rt-14-dev man-db"

case "${1:-build}" in
build) want="$build" ;;
test) want="$build $test" ;;
lint) want="$build $test $lint" ;;
bench) want="$build $test wrk" ;;
train) want="$build $test $train" ;;
*)
    echo "usage: tools/setup.sh build|test|lint|bench|train" >&2
    exit 2
    ;;
esac

missing=""
for p in $want; do
    if ! dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed; then
        missing="$missing $p"
    fi
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
    sudo=""
elif command -v sudo >/dev/null; then
    sudo="sudo"
else
    echo "sanad: please install as root: apt-get install$missing" >&2
    exit 1
fi
echo "sanad: installing$missing"
$sudo apt-get update -q >/dev/null
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >/dev/null
