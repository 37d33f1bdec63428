#!/bin/sh
# Runs test programs and adds up what their last lines say: "N passed, N failed, N skipped".
#   tests/run.sh PROGRAM... [-jN PROGRAM...]      (a program with its arguments in one word)
# A program that dies, or says nothing, is a failure. What a failing program printed is shown. Programs after -jN
# run N at a time and are reported in the order given.
set -u
passed=0 failed=0 skipped=0 children=
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# shellcheck disable=SC2086
trap 'kill $children 2>/dev/null; wait; exit 130' INT TERM

run() { # PROGRAM NAME: leaves NAME.log, and NAME.end with the exit status and the milliseconds
    start=$(date +%s%N)
    # shellcheck disable=SC2086
    timeout "${TEST_TIMEOUT:-1200}" $1 >"$dir/$2.log" 2>&1 </dev/null &
    children=$!
    wait "$children"
    echo "$? $((($(date +%s%N) - start) / 1000000))" >"$dir/$2.end"
}

report() { # PROGRAM NAME
    log=$dir/$2.log status=1 ms=0
    read -r status ms <"$dir/$2.end"
    sum=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$log" | tail -n 1)
    p=$(echo "$sum" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
    f=$(echo "$sum" | sed -n 's/.* \([0-9]*\) failed.*/\1/p')
    s=$(echo "$sum" | sed -n 's/.* \([0-9]*\) skipped.*/\1/p')
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
    name=${1#build/*/}
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
    rm -f "$log" "$dir/$2.end"
}

# A lane takes the next program that no other has taken: mkdir tells who was first.
lane() { # PROGRAM...
    trap 'kill $children 2>/dev/null; wait; exit 1' TERM
    n=0
    for t in "$@"; do
        n=$((n + 1))
        mkdir "$dir/$n" 2>/dev/null || continue
        run "$t" "$n"
    done
}

while [ $# -gt 0 ]; do
    case $1 in
    -j*)
        lanes=${1#-j}
        shift
        children=
        while [ "$lanes" -gt 0 ]; do
            lane "$@" &
            children="$children $!"
            lanes=$((lanes - 1))
        done
        wait
        n=0
        for t in "$@"; do
            n=$((n + 1))
            report "$t" "$n"
        done
        break
        ;;
    esac
    run "$1" 0
    report "$1" 0
    shift
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
