#!/bin/sh
# make gpu-check: everything that only a machine with a GPU can tell, in one command and under 8 minutes. It needs the
# CUDA toolkit, a C and C++ compiler and make; cJSON (golden cases), PyTorch with diffusers (the opponent),
# compute-sanitizer and ncu are used where they are there.
#
#   GPU_CHECK=quick               build, facts, the kernels' tests and the figures only
#   GPU_CHECK_PLUGIN=FILE         a plugin that is there already; "simulator": build and use the one of the tests
#   GPU_CHECK_TINY=1              a few channels, to try this script (the default with the simulator)
#   GPU_CHECK_SECONDS=N           for everything together [470]
#   OUT=DIR                       where results go [build/gpu-check]
#   CJSON=DIR                     cJSON's source
#   DIFFUSERS_SRC=DIR, PYTHON=P   a checkout of diffusers, where it is not installed; the interpreter [python3]
#
# Each step has its own time limit, appends to $OUT/gpu-check.json (JSON lines) at once, and stops nothing
# behind it. Exit status 0: nothing failed; what was skipped is said.
set -u
cd "$(dirname "$0")/../.." || exit 2

work=build/gpu-check
out=${OUT:-$work}
mkdir -p "$work" "$out/log" || exit 2
out=$(realpath "$out")
json=$out/gpu-check.json
jobs=$(nproc)
begin=$(date +%s)
limit=${GPU_CHECK_SECONDS:-470}
mode=${GPU_CHECK:-full}
chosen=${GPU_CHECK_PLUGIN:-}
tiny=${GPU_CHECK_TINY:-}
[ "$chosen" = simulator ] && tiny=${tiny:-1}
options="--json $json --dir $out"
[ -n "$tiny" ] && options="$options --tiny"
[ "$mode" = quick ] && options="$options --quick"
case $chosen in
'') plugin=$(realpath "$work")/libsanad_cuda.so ;;
simulator) plugin=$(realpath "$work")/libsanad_hostsim.so ;;
*) plugin=$(realpath "$chosen") || exit 2 ;;
esac
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that called
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
export PATH SANAD_CUDA_PLUGIN="$plugin" json out work jobs options chosen tiny
: >"$json"
: >"$out/steps"
bad=0

line() { printf '%s\n' "$1" >>"$json"; }

# A string without what JSON would want escaped.
plain() { printf '%s' "$1" | tr -d '\\"' | tr '\n\t' '  ' | cut -c 1-300; }

# step NAME SECONDS: runs it (gpu_steps.sh) under its limit and what is left of all.
step() {
    left=$((limit - ($(date +%s) - begin)))
    seconds=$2
    [ "$seconds" -lt "$left" ] || seconds=$left
    start=$(date +%s)
    echo "== $1"
    if [ "$seconds" -lt 1 ]; then
        echo "no time is left" >"$out/log/$1"
        status=77
    else
        timeout -k 5 "$seconds" sh bench/gpu/gpu_steps.sh "$1" >"$out/log/$1" 2>&1
        status=$?
    fi
    took=$(($(date +%s) - start))
    note=$(plain "$(tail -n 1 "$out/log/$1")")
    case $status in
    0) word=passed ;;
    77) word=skipped ;;
    124 | 137) word="out of time" bad=1 ;;
    *) word=failed bad=1 ;;
    esac
    echo "   $word, $took s: $note"
    [ "$status" -eq 0 ] || tail -n 40 "$out/log/$1"
    line "{\"step\":\"$1\",\"status\":\"$word\",\"seconds\":$took,\"note\":\"$note\"}"
    printf '%-12s %-12s %4d s  %s\n' "$1" "$word" "$took" "$note" >>"$out/steps"
}

commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
line "{\"step\":\"start\",\"date\":\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\",\"commit\":\"$commit\",\"version\":\"$(cat VERSION)\",\"driver\":\"$(plain "$driver")\",\"mode\":\"$mode\",\"cores\":$jobs}"

step plugin 200
step programs 120
step facts 30
step kernels 150
step figures 150
if [ "$mode" != quick ]; then
    step precision 90
    step same 60
    step golden 60
    step pytorch 180
    step sanitizer 120
    step ncu 45
fi

echo
for t in facts figures precision same pytorch; do
    [ -s "$out/log/$t" ] && cat "$out/log/$t"
done
echo
cat "$out/steps"
total=$(($(date +%s) - begin))
line "{\"step\":\"end\",\"status\":\"$([ $bad -eq 0 ] && echo passed || echo failed)\",\"seconds\":$total}"
echo "$total s; $json"
exit $bad
