#!/bin/sh
# tests/hostsim/run.sh ORDER PLUGIN PROGRAM: a program of tests/cuda/ on the simulator of a GPU, whose threads run
# forward (0), backward (1) or in a mixed order (2).
set -eu
export SANAD_HOSTSIM_ORDER="$1"
SANAD_CUDA_PLUGIN=$(realpath "$2")
export SANAD_CUDA_PLUGIN TEST_NO_SKIP=1
shift 2
exec "$@"
