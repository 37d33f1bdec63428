#!/bin/sh
# gpu_steps.sh NAME: one step of gpu_check.sh, which sets the variables and the time limit. Exit status 77: skipped;
# the last line says why.
# shellcheck disable=SC2154,SC2086
set -u
bare=$work/bare

line() { printf '%s\n' "$1" >>"$json"; }

build_plugin() {
    case $chosen in
    '')
        make -j"$jobs" B="$work" cuda CUDA_ARCHS="${CUDA_ARCHS:-native}" || return 1
        ;;
    simulator) make -j"$jobs" B="$work" "$work/libsanad_hostsim.so" || return 1 ;;
    esac
    ls -l "$SANAD_CUDA_PLUGIN" || return 1
    if command -v cuobjdump >/dev/null && [ "$chosen" != simulator ]; then
        cuobjdump --dump-sass "$SANAD_CUDA_PLUGIN" | awk -v json="$json" '
            / HMMA/ { h++ } / HGMMA/ { g++ } / LDL/ { l++ } / STL/ { s++ }
            END {
                printf "{\"step\":\"build\",\"sass\":{\"HMMA\":%d,\"HGMMA\":%d,\"LDL\":%d,\"STL\":%d}}\n", h, g, l, s >>json
                printf "SASS: %d HMMA, %d HGMMA, %d LDL, %d STL\n", h, g, l, s
            }'
    else
        echo "built; no cuobjdump to count instructions with"
    fi
}

build_programs() {
    make -f bench/gpu/bare.mk -j"$jobs" B="$work" programs && echo "built"
}

# Not all of them fit the time that a simulator takes.
test_programs() {
    for t in "$bare"/tests/cuda/test_*; do
        case $t in *.o | *.d) continue ;; esac
        case ${tiny:+$t} in '' | */test_noise | */test_timestep | */test_embed | */test_device) echo "$t" ;; esac
    done
}

kernels() {
    # shellcheck disable=SC2046
    TEST_NO_SKIP=1 TEST_TIMEOUT=60 sh tests/run.sh $(test_programs)
}

# sanitize TOOL PROGRAM: 0 clean, 1 not, 3 this GPU is not supported.
sanitize() {
    log=$out/log/$1.$(basename "$2")
    timeout 40 compute-sanitizer --tool "$1" --error-exitcode 9 --report-api-errors no "$2" >"$log" 2>&1
    status=$?
    if grep -qi 'not supported' "$log"; then
        echo "unsupported $1 $(basename "$2")"
    elif [ "$status" -eq 0 ]; then
        echo "clean $1 $(basename "$2")"
    elif [ "$status" -eq 124 ]; then
        echo "slow $1 $(basename "$2")"
    else
        echo "dirty $1 $(basename "$2"): $(grep -m 1 '=========.*[a-z]' "$log")"
    fi
}

sanitizer() {
    command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer"; return 77; }
    : >"$out/sanitizer"
    running=0
    for tool in memcheck racecheck initcheck synccheck; do
        for t in $(test_programs); do
            sanitize $tool "$t" >>"$out/sanitizer" &
            running=$((running + 1))
            [ $((running % 8)) -ne 0 ] || wait
        done
    done
    wait
    grep -v '^clean' "$out/sanitizer"
    for word in clean dirty slow unsupported; do
        eval "$word=\$(grep -c '^$word' '$out/sanitizer')"
    done
    {
        line "{\"step\":\"sanitizer\",\"clean\":$clean,\"dirty\":$dirty,\"slow\":$slow,\"unsupported\":$unsupported}"
        echo "$clean clean, $dirty dirty, $slow too slow, $unsupported not supported on this GPU"
        [ "$dirty" -eq 0 ] || return 1
        [ "$clean" -gt 0 ] || return 77
    }
}

# Cases that need no tokenizer, which this build does not have.
golden() {
    [ -x "$bare/golden" ] || { echo "no cJSON: set CJSON=DIR to its source"; return 77; }
    parts="time_embed caption. block. fwd. causal. sampler. long.4step long.interactive wan. ltx2. gemma2."
    [ -n "$tiny" ] && parts="time_embed caption. block. wan.decode.1f"
    passed=0 failed=0
    for precision in f32 bf16; do
        for part in $parts; do
            "$bare/golden" tests/golden "$part" --device cuda --precision $precision >"$out/log/golden.$part" 2>&1
            grep '^FAIL' "$out/log/golden.$part"
            sum=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$out/log/golden.$part" | tail -n 1)
            p=${sum%% *}
            f=${sum#* passed, }
            f=${f%% *}
            passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
        done
    done
    line "{\"step\":\"golden\",\"passed\":$passed,\"failed\":$failed}"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

# What the device is, and the engine's own parts.
engine() {
    if [ "$1" = facts ] && command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit,memory.total --format=csv,noheader
    fi
    "$bare/gpu-check" "$1" $options
}

pytorch() {
    python=${PYTHON:-python3}
    "$python" -c 'import torch' 2>/dev/null || { echo "$python has no torch"; return 77; }
    "$bare/gpu-check" dump $options || return 1
    "$python" bench/gpu/pytorch.py $options
}

# The third launch of each kernel that matters, in a forward and a decode; what is not recorded as a graph.
profile() {
    command -v ncu >/dev/null || { echo "no ncu"; return 77; }
    ncu --clock-control none --csv --log-file "$out/ncu.csv" --launch-count 24 \
        --metrics gpu__time_duration.sum,sm__throughput.avg.pct_of_peak_sustained_elapsed,dram__throughput.avg.pct_of_peak_sustained_elapsed \
        --kernel-id '::regex:(adaln|state_mma|out_mma|attention_mma|glu_dwconv|temporal_tail|conv3d_mma|channel_norm)_kernel:3' \
        "$bare/gpu-check" dump $options >"$out/log/ncu" 2>&1
    if grep -q 'ERR_NVGPUCTRPERM\|permission' "$out/ncu.csv" "$out/log/ncu" 2>/dev/null; then
        echo "the GPU's counters may not be read here"
        return 77
    fi
    [ -s "$out/ncu.csv" ] && echo "$(grep -c '^"' "$out/ncu.csv") lines in ncu.csv"
}

case $1 in
plugin) build_plugin ;;
programs) build_programs ;;
facts | figures | precision | same) engine "$1" ;;
kernels) kernels ;;
golden) golden ;;
pytorch) pytorch ;;
sanitizer) sanitizer ;;
ncu) profile ;;
*) exit 2 ;;
esac
