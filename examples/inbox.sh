#!/bin/sh
# inbox.sh N: makes a video with sound in done/ from every video of inbox/N; what fails goes to failed/ with the reason.
# docs/APPLIANCE.md starts it with systemd. BASE is the folder of the installation.
n=$1
cd "${BASE:-/srv/maskvat}" || exit 1
rm -rf "work/$n" && mkdir -p "work/$n" || exit 1

fail() { # fail FILE: folders too, because systemd would start the service again if anything stayed
    rm -rf "failed/$(basename "$1")" && mv "$1" failed/
}

set -- # the videos of this batch: others may come while it runs
for file in "inbox/$n"/*; do
    [ -e "$file" ] || [ -L "$file" ] || continue
    case $file in
    *.[cC][sS][vV]) ;; # not from here: a table could name any file of this machine
    *) [ -f "$file" ] && set -- "$@" "$file" && continue ;;
    esac
    echo "this is not a video file" > "failed/$(basename "$file").txt"
    fail "$file"
done
[ $# -gt 0 ] || exit 0

log=failed/inbox-$n.log
current/bin/maskvat batch --out-dir "work/$n" --mux --keep-going "$@" 2> "$log"
status=$?
cat "$log" >&2
[ $status -le 1 ] || exit $status # stopped: the videos stay in the inbox

for video in "$@"; do
    name=$(basename "$video")
    sound="work/$n/${name%.*}.wav"
    if [ -e "$sound" ]; then
        mv -f "$sound" "done/$name.wav" && mv -f "work/$n/${name%.*}.sound.${name##*.}" "done/$name" && rm "$video"
        rm -f "failed/$name.txt"
    else
        grep -F "$video" "$log" > "failed/$name.txt" || cp "$log" "failed/$name.txt"
        fail "$video"
    fi
done
rm -f "$log"
