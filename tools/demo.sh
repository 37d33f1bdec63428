#!/bin/sh
# Makes a short video with the model that comes with the project, and says where it is.
#   tools/demo.sh SANAD_BINARY
set -eu
sanad=$1
model=tests/golden/tiny-long

cat <<'TEXT'
No trained model comes with the project yet. This demo runs the whole pipeline (tokenizer, text
encoder, transformer, sampler, VAE, H.264) with a tiny test model of RANDOM WEIGHTS: the video is
colourful noise, whatever the prompt says. With downloaded weights: sanad generate "..." --model DIR
TEXT
"$sanad" generate "a red circle moves right on a blue background" \
    --model "$model" --exact-size --size 160x96 --seconds 3 --seed 1 -o demo.mp4
echo "The video is in $(pwd)/demo.mp4"
