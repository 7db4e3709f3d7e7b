#!/usr/bin/env bash
# Poll a folder and run a command whenever a file in it changes.
# usage: watch_folder.sh FOLDER [SECONDS] -- COMMAND...
set -u

root=$1
pause=2
shift
if [[ ${1:-} != -- ]]; then
    pause=$1
    shift
fi
[[ ${1:-} == -- ]] && shift
if [[ $# -eq 0 ]]; then
    echo "no command given after --" >&2
    exit 64
fi

state=$(mktemp -d "${TMPDIR:-/tmp}/watch.XXXXXX")
runs=0
started=$SECONDS

finish() {
    rm -r -- "$state"
    echo
    echo "watched $root for $((SECONDS - started)) s, ran the command $runs times"
}
trap finish EXIT
trap 'exit 0' INT TERM

snapshot() {
    find "$root" -type f ! -path '*/.git/*' -printf '%T@ %s %P\n' | sort -k3 > "$1"
}

snapshot "$state/before"
echo "watching $(wc -l < "$state/before") files in $root"

while sleep "$pause"; do
    snapshot "$state/after"
    changed=$(comm -3 <(sort "$state/before") <(sort "$state/after") |
        sed 's/^\t//' | cut -d' ' -f3- | sort -u)
    if [[ -n $changed ]]; then
        sed 's/^/  * /' <<< "$changed"
        # The command sees the list in an environment variable.
        if CHANGED_FILES=$changed "$@"; then
            echo "ok"
        else
            echo "command ended with status $?"
        fi
        runs=$((runs + 1))
        mv "$state/after" "$state/before"
    fi
done
