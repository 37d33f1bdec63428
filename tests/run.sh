#!/bin/sh
# Runs test programs and adds up what their last lines say: "N passed, N failed, N skipped".
#   tests/run.sh PROGRAM...      (with its arguments in one word)
# A program that dies, or says nothing, is a failure. What a failing program printed is shown.
set -u
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

for t in "$@"; do
    start=$(date +%s%N)
    # shellcheck disable=SC2086
    timeout "${TEST_TIMEOUT:-600}" $t >"$log" 2>&1 </dev/null
    status=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    sum=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$log" | tail -n 1)
    p=$(echo "$sum" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
    f=$(echo "$sum" | sed -n 's/.* \([0-9]*\) failed.*/\1/p')
    s=$(echo "$sum" | sed -n 's/.* \([0-9]*\) skipped.*/\1/p')
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
    name=${t#build/*/}
    if [ "$status" -eq 0 ] && [ -n "$sum" ]; then
        printf 'ok   %6d ms  %s: %s\n' "$ms" "$name" "$sum"
    elif [ "$status" -eq 77 ]; then
        printf 'skip %6d ms  %s\n' "$ms" "$name"
        grep '^skip' "$log"
    else
        [ "${f:-0}" -gt 0 ] || failed=$((failed + 1))
        printf 'FAIL %6d ms  %s (exit status %d)\n' "$ms" "$name" "$status"
        grep -v -E '^(ok  |pass) ' "$log" | tail -n 60
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
