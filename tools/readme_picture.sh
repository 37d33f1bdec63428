#!/bin/sh
# The README's first picture: a row of six frames, thirteen apart, for each of some prompts, made by the bundled
# model.
#   tools/readme_picture.sh SANAD_BINARY OUT.png
set -eu
sanad=$(realpath "$1")
out=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
inputs="" rows=""
n=0

row() { # a prompt
    "$sanad" generate "$1" --device cpu --frames 81 --seed 1 --crf 4 -o "$dir/$n.mp4" 2>"$dir/log" || {
        cat "$dir/log" >&2
        exit 1
    }
    inputs="$inputs -i $dir/$n.mp4"
    rows="${rows}[$n:v]select=not(mod(n\\,13)),scale=2*iw:2*ih:flags=neighbor,tile=6x1:padding=6:margin=3:color=white[r$n];"
    n=$((n + 1))
}

row "a red circle moves to the right on a blue background"
row "a yellow star spins on a plain black background"
row "a green square bounces on a white background"
row "a purple triangle circles around on a gray checkered background"
# shellcheck disable=SC2086
ffmpeg -v error -y $inputs -filter_complex \
    "${rows}[r0][r1][r2][r3]vstack=inputs=4" -frames:v 1 -update 1 "$out"
bytes=$(wc -c <"$out")
echo "$out: $bytes bytes"
[ "$bytes" -lt 300000 ]
