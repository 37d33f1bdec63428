#!/bin/bash
# sanad's command line as a user meets it: what it makes, what it refuses, and how.
#   tests/cli/test_cli.sh BINARY [NAME_PART]
# Last line: "N passed, N failed, N skipped".
set -u
sanad=$(realpath "$1")
only=${2:-}
root=$(pwd)
long=$root/tests/golden/tiny-long
wan=$root/tests/golden/tiny-480p
ltx=$root/tests/golden/tiny-720p
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
passed=0 failed=0 skipped=0

fail() {
    echo "    $*"
    problems=1
}

skip() {
    echo "skip $*"
    problems=77
}

# Runs sanad; output in out, errors in err, status in $status.
run() {
    timeout 120 "$sanad" "$@" >out 2>err </dev/null
    status=$?
}

# A failing call: status, and one line on stderr that says all of the given texts.
refuses() { # status, texts..., --, arguments...
    local want=$1 texts=() line part
    shift
    while [ "$1" != -- ]; do texts+=("$1"); shift; done
    shift
    run "$@"
    [ "$status" -eq "$want" ] || fail "exit status $status, expected $want: $*"
    line=$(tail -n 1 err)
    case "$line" in "sanad"*) ;; *) fail "the last line is not sanad's: $line" ;; esac
    [ "$(grep -c '^sanad' err)" -eq 1 ] || fail "not one line: $(cat err)"
    for part in "${texts[@]}"; do
        case "$line" in *"$part"*) ;; *) fail "'$line' does not say '$part'" ;; esac
    done
}

# A test of its own name; commands run in this shell.
t() {
    case "$1" in *"$only"*) ;; *) return ;; esac
    problems=0
    "$1"
    if [ "$problems" -eq 77 ]; then
        skipped=$((skipped + 1))
    elif [ "$problems" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
    fi
}

frames_of() { ffprobe -v error -count_frames -select_streams v -show_entries stream=nb_read_frames -of csv=p=0 "$1"; }
size_of() { ffprobe -v error -select_streams v -show_entries stream=width,height -of csv=p=0 "$1"; }
small=(--exact-size --size 64x48 --seed 7 --threads 2)

makes_a_video_with_each_model() {
    local m steps
    for m in "$long" "$wan" "$ltx"; do
        steps=(--steps 3)
        [ "$m" = "$long" ] && steps=()
        run generate "A cat walking on grass" -m "$m" "${small[@]}" "${steps[@]}" -n 22 -o v.mp4
        [ "$status" -eq 0 ] || fail "status $status: $(tail -n 1 err)"
        [ "$(frames_of v.mp4)" = 22 ] || fail "$(frames_of v.mp4) frames, expected 22"
        [ "$(size_of v.mp4)" = 64,48 ] || fail "size $(size_of v.mp4)"
        ffmpeg -v error -i v.mp4 -f null - 2>err.ff || fail "does not decode"
        [ -s err.ff ] && fail "$(head -n 2 err.ff)"
    done
}

result_is_a_normal_mp4_with_metadata() {
    run generate "Ein Schiff" -m "$long" "${small[@]}" -n 33 -o v.mp4
    head -c 4096 v.mp4 | grep -aq moov || fail "no moov at the front"
    grep -aq moof v.mp4 && fail "still fragmented"
    tags=$(ffprobe -v error -show_entries format_tags -of json v.mp4)
    for part in '"title": "Ein Schiff"' '\"seed\":7' '\"sanad\":' '\"model\":' '"encoder": "sanad '; do
        case "$tags" in *"$part"*) ;; *) fail "no $part in $tags" ;; esac
    done
    [ "$(ffprobe -v error -show_entries stream=color_space,color_range,start_time -of csv=p=0 v.mp4)" \
        = "tv,bt709,0.000000" ] || fail "colour or start time"
}

same_seed_same_file() {
    run generate "a b" -m "$long" "${small[@]}" -n 50 -o a.mp4
    run generate "a b" -m "$long" "${small[@]}" -n 50 -o b.mp4
    cmp -s a.mp4 b.mp4 || fail "two runs differ"
    run generate "a b" -m "$long" --exact-size --size 64x48 --seed 7 --threads 1 -n 50 -o c.mp4
    cmp -s a.mp4 c.mp4 || fail "one thread and two differ"
    run generate "a b" -m "$long" --exact-size --size 64x48 --seed 8 -n 50 -o d.mp4
    cmp -s a.mp4 d.mp4 && fail "another seed gives the same file"
}

seconds_are_frames_times_rate() {
    run generate x -m "$long" "${small[@]}" --seconds 1.5 -o v.mp4
    [ "$(frames_of v.mp4)" = 24 ] || fail "$(frames_of v.mp4) frames"
}

size_is_resized_to_what_was_asked() {
    run generate x -m "$long" --exact-size --size 70x50 --seed 1 -n 5 -o v.mp4
    [ "$(size_of v.mp4)" = 70,50 ] || fail "size $(size_of v.mp4)"
}

image_is_the_first_frame() {
    ffmpeg -v error -f lavfi -i testsrc=size=80x60:rate=1 -frames:v 1 i.png -frames:v 1 i.jpg -frames:v 1 i.webp
    for f in i.png i.jpg i.webp; do
        run generate x -m "$wan" -i $f "${small[@]}" -n 5 --steps 2 -o "$f.mp4"
        [ "$status" -eq 0 ] || fail "$f: $(tail -n 1 err)"
    done
    run generate x -m "$wan" "${small[@]}" -n 5 --steps 2 -o none.mp4
    cmp -s none.mp4 i.png.mp4 && fail "the image changes nothing"
}

prompt_at_changes_later_blocks_only() {
    run generate "a cat" -m "$long" "${small[@]}" -n 125 -o a.mp4
    run generate "a cat" -m "$long" "${small[@]}" -n 125 --prompt-at "1:a dog in space" -o b.mp4
    first() { ffmpeg -v error -i "$1" -frames:v 41 -f framemd5 - | grep -v '^#' | md5sum; }
    whole() { ffmpeg -v error -i "$1" -f framemd5 - | grep -v '^#' | md5sum; }
    [ "$(first a.mp4)" = "$(first b.mp4)" ] || fail "frames of block 0 differ"
    [ "$(whole a.mp4)" = "$(whole b.mp4)" ] && fail "no frame differs"
}

file_grows_and_is_playable_while_it_grows() {
    "$sanad" generate x -m "$long" --exact-size --size 160x96 --seed 1 -n 481 -o g.mp4 2>/dev/null &
    local pid=$! seen=0
    for _ in $(seq 600); do
        kill -0 $pid 2>/dev/null || break
        if [ "$(stat -c %s g.mp4 2>/dev/null || echo 0)" -gt 3000 ]; then
            cp g.mp4 part.mp4
            kill -0 $pid 2>/dev/null && seen=$(frames_of part.mp4 2>/dev/null)
            break
        fi
        sleep 0.02
    done
    wait $pid
    [ "${seen:-0}" -ge 41 ] 2>/dev/null || fail "a growing file had ${seen:-no} frames"
    [ "$(frames_of g.mp4)" = 481 ] || fail "$(frames_of g.mp4) frames at the end"
}

interrupt_leaves_a_playable_file() {
    "$sanad" generate x -m "$long" --exact-size --size 160x96 --seed 1 -n 2001 -o i.mp4 2>err &
    local pid=$!
    for _ in $(seq 600); do
        [ "$(stat -c %s i.mp4 2>/dev/null || echo 0)" -gt 3000 ] && break
        sleep 0.02
    done
    kill -INT $pid
    wait $pid
    status=$?
    [ "$status" -eq 130 ] || fail "exit status $status"
    local n
    n=$(frames_of i.mp4)
    [ "${n:-0}" -ge 41 ] && [ "$n" -lt 2001 ] || fail "$n frames"
    grep -q cancelled err || fail "says nothing: $(tail -n 1 err)"
}

interrupt_before_the_first_block_leaves_nothing() {
    "$sanad" generate x -m "$wan" --exact-size --size 320x192 --steps 200 -n 81 -o n.mp4 2>err &
    local pid=$!
    sleep 0.4
    kill -INT $pid
    wait $pid
    [ $? -eq 130 ] || fail "exit status"
    [ -e n.mp4 ] && fail "left a file without a frame"
}

streams_to_standard_output() {
    "$sanad" generate x -m "$long" "${small[@]}" -n 50 -o - 2>err >s.mp4 || fail "status"
    [ "$(frames_of s.mp4)" = 50 ] || fail "$(frames_of s.mp4) frames"
    "$sanad" generate x -m "$long" "${small[@]}" -n 500 -o - 2>err | head -c 100 >/dev/null
    [ "${PIPESTATUS[0]}" -eq 1 ] || fail "a closed pipe is not an error"
}

json_events() {
    run generate x -m "$long" "${small[@]}" -n 90 -o v.mp4 --json
    for e in start progress block done; do
        grep -q "^{\"event\":\"$e\"" out || fail "no $e event"
    done
    grep -vq '^{"event":' out && fail "something else on standard output"
    [ "$(grep -c '"event":"block"' out)" -eq 2 ] || fail "$(grep -c '"event":"block"' out) block events"
    last=0
    while read -r f; do
        awk "BEGIN { exit !($f >= $last) }" || fail "progress went from $last to $f"
        last=$f
    done < <(sed -n 's/.*"fraction":\([0-9.e-]*\).*/\1/p' out)
    run generate x -m "$long" "${small[@]}" -n 0 --json
    grep -q '^{"event":"error","code":"invalid_value","message":"--frames' out || fail "no error event: $(cat out)"
}

# A plugin that is not there stands for a machine without a GPU.
device_is_chosen_and_said() {
    export SANAD_CUDA_PLUGIN=$dir/none.so
    run generate x -m "$long" "${small[@]}" -n 5 -o auto.mp4
    [ "$status" -eq 0 ] || fail "auto: status $status"
    grep -q "device: cpu, 2 threads (CUDA plugin: .*none.so" err || fail "auto says: $(head -n 1 err)"
    run generate x -m "$long" "${small[@]}" -n 5 -o cpu.mp4 --device cpu --precision f32 --deterministic --vram-limit 1MiB
    [ "$status" -eq 0 ] || fail "cpu: status $status"
    grep -q "device: cpu, 2 threads$" err || fail "cpu says: $(head -n 1 err)"
    cmp -s auto.mp4 cpu.mp4 || fail "cpu and auto differ"
    refuses 1 "CUDA plugin" "none.so" -- generate x -m "$long" --device cuda -o no.mp4
    [ -e no.mp4 ] && fail "left no.mp4"
    echo "not a library" >none.so
    refuses 1 "CUDA plugin" "none.so" -- generate x -m "$long" --device cuda:1 -o no.mp4
    run generate x -m "$long" "${small[@]}" -n 5 -o auto.mp4
    [ "$status" -eq 0 ] || fail "auto with a broken plugin: status $status"
    unset SANAD_CUDA_PLUGIN
}

# The simulator of a GPU, where the build has made it.
makes_a_video_on_a_simulated_gpu() {
    local plugin
    plugin=$(dirname "$sanad")/libsanad_hostsim.so
    if [ ! -e "$plugin" ]; then
        skip "no $plugin"
        return
    fi
    export SANAD_CUDA_PLUGIN=$plugin XDG_CACHE_HOME=$dir
    run generate x -m "$long" --exact-size --size 64x48 --seed 7 -n 5 -o g.mp4
    [ "$status" -eq 0 ] || fail "status $status: $(tail -n 1 err)"
    grep -q "device: cuda:0, .*, bf16 (.*own kernels)$" err || fail "says: $(head -n 1 err)"
    [ "$(frames_of g.mp4)" = 5 ] || fail "$(frames_of g.mp4) frames"
    refuses 1 "limit of 1.0 MiB" -- generate x -m "$long" "${small[@]}" -n 5 -o no.mp4 --device cuda --vram-limit 1MiB
    refuses 1 "cuda:7" "counted from 0" -- generate x -m "$long" "${small[@]}" -n 5 -o no.mp4 --device cuda:7
    [ -e no.mp4 ] && fail "left no.mp4"
    unset SANAD_CUDA_PLUGIN XDG_CACHE_HOME
}

# As `make install` lays it out, away from the source.
bundled_model_is_the_default() {
    mkdir -p i/bin i/share/sanad/models
    cp "$sanad" i/bin/sanad
    cp -r "$root/models/demo" i/share/sanad/models/demo
    local sanad=$dir/i/bin/sanad
    run generate "a red circle moves right on a blue background" --device cpu --seed 7 -n 17 -o b.mp4
    [ "$status" -eq 0 ] || fail "status $status: $(tail -n 1 err)"
    [ "$(size_of b.mp4)" = 96,64 ] || fail "size $(size_of b.mp4)"
    run generate "a red circle moves right on a blue background" --device cpu --seed 7 -n 17 --size 1280x720 -o b.mp4
    [ "$(size_of b.mp4)" = 1280,720 ] || fail "size $(size_of b.mp4): $(tail -n 1 err)"
    ffprobe -v error -show_entries format_tags -of json b.mp4 | grep -q 'sanad-demo' || fail "another model"
}

inspect_says_what_is_there() {
    run inspect "$long"
    [ "$status" -eq 0 ] || fail "status $status"
    grep -q LongSANA out || fail "no family"
    run inspect "$wan" --json
    grep -q '"complete": *true' out || fail "json: $(head -c 200 out)"
}

help_and_version() {
    run --help
    [ "$status" -eq 0 ] && grep -q generate out || fail "--help"
    run generate --help
    [ "$status" -eq 0 ] && grep -q -- --prompt-at out || fail "generate --help"
    run inspect --help
    [ "$status" -eq 0 ] || fail "inspect --help"
    run --version
    grep -q "^sanad [0-9]" out || fail "--version"
    run
    [ "$status" -eq 2 ] || fail "no arguments: status $status"
}

# ---- refusals ----

refuses_wrong_command_lines() {
    refuses 2 "unknown command 'foo'" -- foo
    refuses 2 "unknown option '--sizes'" -- generate x --sizes 1x1
    refuses 2 "no prompt" -- generate -m "$long"
    refuses 2 "unexpected argument 'y'" -- generate x y -m "$long"
    refuses 2 "--size" "is not WIDTHxHEIGHT" -- generate x -m "$long" --size 64
    refuses 2 "--frames" "1..14400" -- generate x -m "$long" --frames 0
    refuses 2 "--frames" "1..14400" -- generate x -m "$long" --frames -3
    refuses 2 "--frames" "1..14400" -- generate x -m "$long" --frames 14401
    refuses 2 "--frames" "'12x'" -- generate x -m "$long" --frames 12x
    refuses 2 "--seconds" -- generate x -m "$long" --seconds 0
    refuses 2 "--seconds" "0.001..900" -- generate x -m "$long" --seconds 1e9
    refuses 2 "--seconds" -- generate x -m "$long" --seconds nan
    refuses 2 "contradict" -- generate x -m "$long" --seconds 1 --frames 3
    refuses 2 "--steps" "1..200" -- generate x -m "$long" --steps 201
    refuses 2 "--guidance" "0..20" -- generate x -m "$long" --guidance 21
    refuses 2 "--seed" -- generate x -m "$long" --seed 9007199254740992
    refuses 2 "--device: 'tpu'" "auto, cpu, cuda and cuda:N" -- generate x -m "$long" --device tpu
    refuses 2 "--device: 'cuda:x'" -- generate x -m "$long" --device cuda:x
    refuses 2 "--precision: 'f16'" "bf16" "f32" -- generate x -m "$long" --precision f16
    refuses 2 "--text-encoder: 'disk'" "auto" "gpu" "host" -- generate x -m "$long" --text-encoder disk
    refuses 2 "--vram-limit: '3 apples'" "GiB" -- generate x -m "$long" --vram-limit "3 apples"
    refuses 2 "--prompt-at" "BLOCK:TEXT" -- generate x -m "$long" --prompt-at dog
    refuses 2 "given twice" -- generate x -m "$long" --steps 3 --steps 4
    refuses 2 "needs a value" -- generate x -m
    refuses 2 "standard output" -- generate x -m "$long" --json -o -
    refuses 2 "no model directory" -- inspect
}

refuses_requests_the_model_cannot_do() {
    refuses 1 "size: 63x48" even -- generate x -m "$long" --size 63x48
    refuses 1 "size: 16x16" 32 -- generate x -m "$long" --size 16x16
    refuses 1 "size: 4000x3000" 1920 -- generate x -m "$long" --size 4000x3000
    refuses 1 "size: 640x96" "0.5..2" -- generate x -m "$long" --size 640x96
    refuses 1 "steps" "exactly 4" -- generate x -m "$long" --steps 9
    refuses 1 "prompt_at" "cannot change" -- generate x -m "$wan" --prompt-at 1:y
    refuses 1 "prompt_at: block 5" -- generate x -m "$long" -n 41 --prompt-at 5:y
    refuses 1 "prompt" "UTF-8" "byte" -- generate $'caf\xe9' -m "$long"
    refuses 1 "negative_prompt" "UTF-8" -- generate x -m "$wan" --negative $'\xff'
    refuses 1 "MiB" limit -- generate x -m "$long" --memory-limit 1
    [ -e out.mp4 ] && fail "left out.mp4"
}

refuses_unreadable_images() {
    echo "not a picture" >text.png
    : >empty.png
    ffmpeg -v error -f lavfi -i testsrc=size=80x60:rate=1 -frames:v 1 -y ok.png
    head -c $(($(stat -c %s ok.png) / 2)) ok.png >cut.png
    # A PNG header that claims 60000x60000.
    { printf '\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0\x0f\xb0\xe2\x15'; head -c 400 /dev/zero; } >huge.png
    refuses 1 "missing.png" -- generate x -m "$wan" "${small[@]}" -i missing.png
    refuses 1 "text.png" -- generate x -m "$wan" "${small[@]}" -i text.png
    refuses 1 "empty.png" -- generate x -m "$wan" "${small[@]}" -i empty.png
    refuses 1 "cut.png" -- generate x -m "$wan" "${small[@]}" -i cut.png
    refuses 1 "huge.png" 8192 -- generate x -m "$wan" "${small[@]}" -i huge.png
    refuses 1 "frames" image -- generate x -m "$wan" "${small[@]}" -i ok.png -n 1
}

refuses_broken_model_directories() {
    local file=transformer/diffusion_pytorch_model.safetensors
    copy() { rm -rf m; cp -rL "$wan" m; chmod -R u+w m; }
    refuses 1 "nowhere" -- generate x -m nowhere
    mkdir -p empty
    refuses 1 "empty" model_index.json -- generate x -m empty
    copy; rm m/tokenizer/tokenizer.model
    refuses 1 tokenizer.model -- generate x -m m "${small[@]}" -n 1
    copy; rm m/$file
    refuses 1 transformer -- generate x -m m "${small[@]}" -n 1
    copy; truncate -s 100000 m/$file
    refuses 1 "$file" -- generate x -m m "${small[@]}" -n 1
    copy; printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of=m/$file conv=notrunc status=none
    refuses 1 "$file" -- generate x -m m "${small[@]}" -n 1
    copy; : >m/vae/diffusion_pytorch_model.safetensors
    refuses 1 vae -- generate x -m m "${small[@]}" -n 1
    copy; sed -i 's/"num_layers": 3/"num_layers": 4/' m/transformer/config.json
    refuses 1 "transformer_blocks.3." -- generate x -m m "${small[@]}" -n 1
    copy; sed -i 's/"num_attention_heads": 4/"num_attention_heads": 0/' m/transformer/config.json
    refuses 1 transformer/config.json num_attention_heads -- generate x -m m "${small[@]}" -n 1
    copy; sed -i 's/AutoencoderKLWan/AutoencoderDC/' m/model_index.json m/vae/config.json
    refuses 1 AutoencoderDC -- generate x -m m "${small[@]}" -n 1
    copy; echo '{"stepz": 3}' >m/sanad.json
    refuses 1 sanad.json stepz -- generate x -m m "${small[@]}" -n 1
    copy; echo garbage >m/tokenizer/tokenizer.model
    refuses 1 tokenizer.model -- generate x -m m "${small[@]}" -n 1
    rm -rf m; cp -rL "$long" m; chmod -R u+w m; rm m/transformer/*00002-of-00002.safetensors
    refuses 1 00002-of-00002.safetensors -- generate x -m m "${small[@]}" -n 1
    refuses 1 00002-of-00002.safetensors -- inspect m
}

names_the_stage_that_produced_nan() {
    local file size
    for file in transformer/diffusion_pytorch_model.safetensors text_encoder/model.safetensors \
        vae/diffusion_pytorch_model.safetensors; do
        rm -rf m; cp -rL "$wan" m; chmod -R u+w m
        size=$(stat -c %s m/$file)
        # The last half of the file's numbers becomes NaN.
        yes $'\xc0\x7f\xc0\x7f\xc0\x7f\xc0\x7f' | tr -d '\n' | head -c $((size / 2 / 4 * 4)) |
            dd of=m/$file bs=1M seek=$((size - size / 2 / 4 * 4)) oflag=seek_bytes conv=notrunc status=none
        refuses 1 "the $(echo "${file%%/*}" | tr _ " ")" "NaN or infinity" -- generate x -m m "${small[@]}" -n 5 --steps 2
        [ -e out.mp4 ] && fail "left out.mp4"
    done
}

full_disk_keeps_whole_blocks() {
    (
        ulimit -f 500
        timeout 60 "$sanad" generate x -m "$long" --exact-size --size 160x96 --seed 1 -n 961 -o f.mp4 >out 2>err
        echo $? >status
    )
    [ "$(cat status)" -eq 1 ] || fail "exit status $(cat status)"
    grep -q "sanad generate: write 'f.mp4'" err || fail "$(tail -n 1 err)"
    n=$(frames_of f.mp4)
    [ "${n:-0}" -ge 41 ] || fail "${n:-no} frames are playable"
    ffmpeg -v error -i f.mp4 -f null - 2>err.ff || fail "does not decode"
    refuses 1 "/dev/full" -- generate x -m "$long" "${small[@]}" -n 5 -o /dev/full
    refuses 1 "no/such/dir" -- generate x -m "$long" "${small[@]}" -n 5 -o no/such/dir/v.mp4
}

closed_streams_do_not_end_up_in_the_video() {
    "$sanad" generate x -m "$long" "${small[@]}" -n 5 -o a.mp4 2>/dev/null
    "$sanad" generate x -m "$long" "${small[@]}" -n 5 -o b.mp4 2>&- >&- <&-
    cmp -s a.mp4 b.mp4 || fail "closed streams change the file"
    "$sanad" inspect "$long" >/dev/full 2>err && fail "lost output is not an error"
    "$sanad" --help >/dev/full 2>err && fail "lost help is not an error"
}

image_is_never_overwritten() {
    ffmpeg -v error -f lavfi -i testsrc=size=80x60:rate=1 -frames:v 1 -y pic.png
    cp pic.png before.png
    refuses 2 pic.png -- generate x -m "$wan" "${small[@]}" -i pic.png -n 5 -o pic.png
    cmp -s pic.png before.png || fail "the picture is gone"
}

output_keeps_link_and_mode() {
    : >target.mp4
    chmod 600 target.mp4
    ln -sf target.mp4 link.mp4
    run generate x -m "$long" "${small[@]}" -n 5 -o link.mp4
    [ -L link.mp4 ] || fail "the link was replaced"
    [ "$(stat -c %a target.mp4)" = 600 ] || fail "mode $(stat -c %a target.mp4)"
    [ "$(frames_of target.mp4)" = 5 ] || fail "the target is not the video"
    grep -aq moof target.mp4 && fail "the target is still fragmented"
}

errors_are_one_clean_line() {
    refuses 2 "unknown option '--foo?bar'" -- generate x $'--foo\nbar'
    run generate x -m "$long" --json --size $'a\xff'
    grep -q '"message":"--size: .a?' out || fail "json: $(cat out)"
    refuses 1 "no?[31mwhere" -- generate x -m $'no\x1b[31mwhere'
}

little_address_space_is_an_error() {
    if ! (ulimit -v 600000 && "$sanad" --version) >/dev/null 2>&1; then
        skip "a sanitized binary does not start with little address space"
        return
    fi
    (
        ulimit -v 600000
        timeout -s KILL 20 "$sanad" generate x -m "$long" "${small[@]}" -n 5 -o l.mp4 >out 2>err
        echo $? >status
    )
    [ "$(cat status)" -eq 1 ] || fail "exit status $(cat status)"
    grep -q "sanad generate: .*address space" err || fail "$(tail -n 1 err)"
}

failure_leaves_an_existing_file_alone() {
    echo precious >keep.mp4
    refuses 1 "size" -- generate x -m "$long" --size 63x48 -o keep.mp4
    [ "$(cat keep.mp4)" = precious ] || fail "overwritten"
}

for name in makes_a_video_with_each_model result_is_a_normal_mp4_with_metadata same_seed_same_file \
    seconds_are_frames_times_rate size_is_resized_to_what_was_asked image_is_the_first_frame \
    prompt_at_changes_later_blocks_only file_grows_and_is_playable_while_it_grows \
    interrupt_leaves_a_playable_file interrupt_before_the_first_block_leaves_nothing \
    streams_to_standard_output json_events device_is_chosen_and_said makes_a_video_on_a_simulated_gpu \
    bundled_model_is_the_default inspect_says_what_is_there help_and_version \
    refuses_wrong_command_lines refuses_requests_the_model_cannot_do refuses_unreadable_images \
    refuses_broken_model_directories names_the_stage_that_produced_nan full_disk_keeps_whole_blocks \
    closed_streams_do_not_end_up_in_the_video image_is_never_overwritten output_keeps_link_and_mode \
    errors_are_one_clean_line little_address_space_is_an_error failure_leaves_an_existing_file_alone; do
    t $name
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
