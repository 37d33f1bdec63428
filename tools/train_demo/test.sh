#!/bin/sh
# The recipe: its models compute what the engine's golden cases say, its captions are those of tests/demo, and every
# stage runs for a few seconds and leaves a model that the engine takes. What it learns in that time is not judged.
#   tools/train_demo/test.sh PYTHON SANAD
set -eu
python=$1 sanad=$2
here=tools/train_demo
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

check() { # name, command...
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        tail -n 20 "$work/log"
    fi
}

stage() { # name
    "$python" $here/train.py "$1" --work "$work/run" --out "$work/model" --batch 4 --clips 16 --log 1 \
        --vae-minutes 0.3 --latents-minutes 0.2 --dit-minutes 0.3
}

captions() {
    "$python" $here/data.py >"$work/captions.tsv"
    diff "$work/captions.tsv" tests/demo/captions.tsv
}

check "golden cases" "$python" $here/test_golden.py tests/golden
check "captions" captions
for s in vae latents dit export; do
    check "stage $s" stage $s
done
check "inspect" "$sanad" inspect "$work/model"
check "generate" "$sanad" generate "a red circle" --device cpu -m "$work/model" -n 33 -o "$work/video.mp4"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
