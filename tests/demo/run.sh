#!/bin/sh
# The demonstration model makes what captions ask for: a video of each line of captions.tsv, which the checker looks
# at, some that begin with a given picture, and some of half a minute, which it looks at after 10 seconds and at the end.
#   tests/demo/run.sh BINARY CHECKER [MODEL]
# Leaves the videos in build/demo-test, and for people contact-sheet.html and contact-sheet.png. IMAGE_CLIPS: how many
# begin with a picture [24]; LONG_CLIPS: how many are long [12]. Last line: "N passed, N failed, N skipped".
set -u
if [ $# -lt 2 ]; then
    echo "usage: tests/demo/run.sh BINARY CHECKER [MODEL]" >&2
    exit 2
fi
sanad=$(realpath "$1")
checker=$(realpath "$2")
model=${3:+$(realpath "$3")}
cd "$(dirname "$0")/../.." || exit 1
captions=tests/demo/captions.tsv pairs=tests/demo/pairs.tsv # of two objects
out=build/demo-test
passed=0 failed=0 lanes=''

if ! command -v ffmpeg >/dev/null; then
    echo "skip: the demonstration model's test needs ffmpeg"
    exit 77
fi
rm -rf "$out"
mkdir -p "$out/short" "$out/pairs" "$out/image" "$out/long" || exit 1
grep -v '^#' "$captions" >"$out/captions.tsv"
grep -v '^#' "$pairs" >"$out/pairs.tsv"
# shellcheck disable=SC2086
trap 'kill $lanes 2>/dev/null; wait; exit 130' INT TERM

check() { # STATUS NAME
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $2"
    else
        failed=$((failed + 1))
        echo "FAIL $2"
    fi
}

# Every second caption's video, one after the other.
lane() { # FIRST FOLDER FRAMES COUNT
    video='' list=$out/captions.tsv
    [ "$2" = pairs ] && list=$out/pairs.tsv
    # shellcheck disable=SC2086
    trap 'kill $video 2>/dev/null; wait; exit 1' TERM
    i=-1
    while IFS='	' read -r caption _; do
        i=$((i + 1))
        [ "$i" -lt "$4" ] || break
        [ $((i % 2)) -eq "$1" ] || continue
        file=$out/$2/$(printf %02d "$i")
        image=
        [ "$2" = image ] && image=$file.png
        "$sanad" generate "$caption" ${model:+-m "$model"} ${image:+-i "$image"} --device cpu -o "$file.mp4" \
            --seed "$i" --crf 8 -n "$3" --threads 1 >"$file.log" 2>&1 </dev/null &
        video=$!
        if wait "$video"; then
            rm -f "$file.log"
        else
            rm -f "$file.mp4"
            echo "    $file.log: $(tail -n 1 "$file.log")"
        fi
    done <"$list"
}

# Two lanes are two videos at a time.
generate() { # FOLDER FRAMES COUNT
    lane 0 "$@" &
    lanes=$!
    lane 1 "$@" &
    lanes="$lanes $!"
    wait
    lanes=
    made=$(find "$out/$1" -name '*.mp4' | wc -l)
    [ "$made" -eq "$3" ]
    check $? "$made of $3 videos of $2 frames were made"
}

# The checker's goals are checks of their own.
judge() { # NAME FOLDER OPTIONS...
    echo "$1:"
    folder=$2 list=$captions
    [ "$folder" = pairs ] && list=$pairs
    shift 2
    "$checker" "$list" "$out/$folder" "$@" >"$out/checker.log" 2>&1
    grep -v '^[0-9]* passed, ' "$out/checker.log"
    sum=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$out/checker.log")
    if [ -n "$sum" ]; then
        passed=$((passed + ${sum% *})) failed=$((failed + ${sum#* }))
    else
        check 1 "the checker has no result"
    fi
    rm -f "$out/checker.log"
}

# For people: six frames of each short video in a row.
contact_sheet() {
    for file in "$out"/short/*.mp4; do
        ffmpeg -nostdin -v error -y -i "$file" -frames:v 1 \
            -vf "select='not(mod(n,6))',scale=2*iw:2*ih:flags=neighbor,tile=6x1:padding=4:color=white" "${file%.mp4}.png" || return 1
    done
    ffmpeg -nostdin -v error -y -pattern_type glob -i "$out/short/*.png" -frames:v 1 -vf "tile=2x32:padding=8:color=white" \
        "$out/contact-sheet.png" || return 1
    awk -F '\t' '
        BEGIN {
            print "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>Contact sheet</title>"
            print "<style>body { font-family: sans-serif } b { color: #d00 } td { padding: 2px 8px }</style>"
            print "<p>What the demonstration model made of captions that it was not trained on, every sixth frame of two"
            print "seconds, and what the checker saw; mistakes are red.\n<table>"
        }
        NR == FNR { wanted[NR - 1] = $2 FS $3 FS $4 FS $5 FS $6 FS 1; next }
        {
            split(wanted[$1 + 0], want)
            print "<tr><td>" $1 "<td>" $2 "<td><img src=\"short/" $1 ".png\" alt=\"\"><td>"
            for (a = 1; a <= 6; a++) {
                seen = a == 6 ? "objects: " $8 : $(2 + a)
                print $(2 + a) == want[a] ? seen : "<b>" seen "</b>"
            }
        }
        END { print "</table>" }' "$out/captions.tsv" "$out/short.tsv" >"$out/contact-sheet.html"
}

# What each caption says, drawn at another place than videos from text begin.
draw_first_pictures() {
    "$checker" --draw "$captions" "$out/image" || return 1
    for file in "$out"/image/*.rgb; do
        ffmpeg -nostdin -v error -f rawvideo -pix_fmt rgb24 -s 96x64 -i "$file" "${file%.rgb}.png" || return 1
        rm "$file" # else the checker would take it for the video
    done
}

# The video's first frame is the given picture, as far as the autoencoder can show it.
begins_with_picture() {
    for file in "$out"/image/*.mp4; do
        psnr=$(ffmpeg -nostdin -v info -i "$file" -i "${file%.mp4}.png" -filter_complex \
            '[0:v]format=gbrp[a];[1:v]format=gbrp[b];[a][b]psnr=shortest=1' -frames:v 1 -f null - 2>&1 |
            sed -n 's/.*PSNR.*average:\([0-9.]*\).*/\1/p')
        awk "BEGIN { exit !(\"$psnr\" + 0 >= 20) }" || { echo "    $file: first frame at ${psnr:-no} dB"; return 1; }
    done
}

n_image=${IMAGE_CLIPS:-24}
n_long=${LONG_CLIPS:-12}
generate short 33 "$(wc -l <"$out/captions.tsv")"
judge "two seconds" short --report "$out/short.tsv" --need colour=90,motion=80,shape=70,background=90
contact_sheet
check $? "contact sheet: $out/contact-sheet.html"
# The path of two objects half a picture apart is none; where they are and how many they are can be told.
generate pairs 33 "$(wc -l <"$out/pairs.tsv")"
judge "two objects" pairs --need objects=85,background=90
if [ "$n_image" -gt 0 ]; then
    draw_first_pictures
    check $? "pictures drawn"
    generate image 33 "$n_image"
    begins_with_picture
    check $? "videos begin with the given picture"
    judge "from a picture" image --need colour=90,motion=80,shape=70,background=90
fi
if [ "$n_long" -gt 0 ]; then
    generate long 481 "$n_long"
    judge "half a minute, after 10 seconds" long --from 144 --need colour+objects=85
    judge "half a minute, the end" long --part last --need colour+objects=85
fi
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
