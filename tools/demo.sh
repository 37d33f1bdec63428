#!/bin/sh
# Starts the daemon, posts a video with curl, streams it to demo.mp4 while it is made, and leaves nothing running.
#   tools/demo.sh SANAD_BINARY
set -eu
sanad=$(realpath "$1")
work=build/demo
prompt='a red circle moves to the right on a blue background'

cat <<'TEXT'
The bundled model (models/demo) makes 96x64 pixels of simple shapes; it was trained in two hours on two CPU cores.
What the video should show, for four seconds: a red circle on plain blue that moves to the right, leaves the
picture and comes back at the left.

TEXT

rm -rf "$work"
mkdir -p "$work"
"$sanad" serve --listen 127.0.0.1:0 --data-dir "$work/data" 2>"$work/log" &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

server=""
tries=0
until [ -n "$server" ] && curl -sf "$server/readyz" >/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 200 ] || ! kill -0 "$daemon" 2>/dev/null; then
        cat "$work/log"
        echo "the daemon did not become ready" >&2
        exit 1
    fi
    sleep 0.1
    address=$(sed -n 's/.*listening address=//p' "$work/log")
    server=${address:+http://$address}
done

show() { # a command, before it runs
    echo "\$ $*"
}

show "curl -s $server/v1/videos -F prompt='$prompt' -F seconds=4 -F size=480x320 -F seed=1"
curl -sf "$server/v1/videos" -F prompt="$prompt" -F seconds=4 -F size=480x320 -F seed=1 >"$work/video.json"
id=$(sed -n 's/.*"id":"\(video_[a-z0-9]*\)".*/\1/p' "$work/video.json")
cut -c 1-150 "$work/video.json"
echo " ..."
echo
show "curl -N $server/v1/videos/$id/content?stream=true -o demo.mp4      # while it is made"
curl -sfN "$server/v1/videos/$id/content?stream=true" -o demo.mp4
echo
show "curl -s $server/v1/videos/$id?wait=30"
curl -sf "$server/v1/videos/$id?wait=30" >"$work/video.json"
grep -o '"status":"[a-z_]*","progress":[0-9]*' "$work/video.json"
grep -q '"status":"completed"' "$work/video.json"
echo
kill "$daemon"
wait "$daemon"
trap - EXIT
echo "The video is in $(pwd)/demo.mp4; the daemon has ended (its log: $work/log)."
