#!/bin/sh
# Runs fuzz targets, two at a time, each with its corpus.   tools/fuzz.sh SECONDS TARGET...
# Last line: "N passed, N failed".
set -u
seconds=$1
shift
dir=build/fuzz

run_one() {
    name=$(basename "$1")
    corpus=tests/fuzz/corpus/${name#fuzz_}
    mkdir -p "$dir/work/$name"
    if "$1" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$dir/$name-" "$dir/work/$name" "$corpus" >"$dir/$name.log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$name.log")
        echo "pass $name: $runs runs in $seconds s"
    else
        echo "FAIL $name: see $dir/$name.log"
        tail -n 40 "$dir/$name.log"
    fi
}

out=$(mktemp)
trap 'rm -f "$out"' EXIT
while [ $# -gt 0 ]; do
    run_one "$1" >>"$out" &
    if [ $# -gt 1 ]; then
        shift
        run_one "$1" >>"$out" &
    fi
    shift
    wait
done
cat "$out"
passed=$(grep -c '^pass' "$out")
failed=$(grep -c '^FAIL' "$out")
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
