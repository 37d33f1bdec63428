#!/bin/bash
# `sanad bench` on the simulator of a GPU: every row, the same rows as JSON, and what it says without a GPU.
#   tests/cli/test_bench.sh BINARY PLUGIN
# Last line: "N passed, N failed, N skipped".
set -u
sanad=$(realpath "$1")
plugin=$(realpath "$2")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export XDG_CACHE_HOME=$dir
passed=0 failed=0
keys="ceiling.copy ceiling.product longsana.first longsana.rate longsana.parts forward.block decode.wan longsana.session
longsana.minute clip.step clip.total memory.peak"

fail() {
    echo "    $*"
    problems=1
}

t() {
    problems=0
    "$1"
    if [ "$problems" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
    fi
}

measures_everything() {
    local key
    SANAD_CUDA_PLUGIN=$plugin timeout 500 "$sanad" bench --device cuda --tiny --json f.json >out 2>err </dev/null ||
        fail "exit status $?: $(tail -n 1 err)"
    for key in $keys; do
        grep -q "^{\"key\":\"$key\",\"name\":\"[^\"]*\",\"unit\":\"[^\"]*\",\"value\":[0-9.e+-]*[,}]" f.json ||
            fail "no figure $key in the file"
    done
    [ "$(grep -c '"key"' f.json)" -eq "$(echo "$keys" | wc -w)" ] || fail "other figures than expected"
    [ "$(wc -l <out)" -eq $(($(echo "$keys" | wc -w) + 2)) ] || fail "the table has other rows: $(cat out)"
    grep -q '"value":\(0\|null\)[,}]' f.json && fail "a figure is 0: $(cat f.json)"
    if command -v python3 >/dev/null; then
        python3 -c 'import json; d = json.load(open("f.json")); assert d["tiny"] and d["figures"] and d["device"]' ||
            fail "not JSON"
    fi
}

says_that_it_needs_a_gpu() {
    local device
    for device in auto cpu; do
        SANAD_CUDA_PLUGIN=$dir/none.so timeout 60 "$sanad" bench --device $device --tiny >out 2>err </dev/null
        [ $? -eq 1 ] || fail "exit status for $device"
        tail -n 1 err | grep -q '^sanad bench: .*GPU' || fail "$device: $(tail -n 1 err)"
        [ ! -s out ] || fail "$device: printed $(cat out)"
    done
}

refuses_wrong_command_lines() {
    local args
    for args in "--device tpu" "--precision f64" "--json" "extra" "--json $dir/no/f.json"; do
        # shellcheck disable=SC2086
        SANAD_CUDA_PLUGIN=$plugin timeout 60 "$sanad" bench --tiny $args >out 2>err </dev/null
        case "$?,$args" in 2,* | 1,"--json $dir"*) ;; *) fail "exit status for $args" ;; esac
        tail -n 1 err | grep -q '^sanad bench: ' || fail "$args: $(tail -n 1 err)"
    done
}

t measures_everything
t says_that_it_needs_a_gpu
t refuses_wrong_command_lines
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
