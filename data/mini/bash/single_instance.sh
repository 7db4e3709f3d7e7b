#!/usr/bin/env bash
# Run a command unless an earlier call with the same lock is still busy.
#   single_instance.sh [-w SECONDS] LOCKNAME COMMAND [ARGUMENT...]
set -euo pipefail

wait_for=0
while getopts 'w:' o; do
    [[ $o == w ]] || exit 64
    wait_for=$OPTARG
done
shift $((OPTIND - 1))
(($# >= 2)) || { sed -n '2,3s/^# *//p' "$0" >&2; exit 64; }

lock="${XDG_RUNTIME_DIR:-/tmp}/$1.lock"
shift

# mkdir either creates the folder or fails: there is no moment in between.
acquire() {
    mkdir -- "$lock" 2> /dev/null || return 1
    echo "$$" > "$lock/pid"
}

holder_alive() {
    local pid
    pid=$(cat -- "$lock/pid" 2> /dev/null) || return 0
    kill -0 "$pid" 2> /dev/null
}

release() {
    rm -f -- "$lock/pid"
    rmdir -- "$lock"
}

deadline=$((SECONDS + wait_for))
until acquire; do
    if ! holder_alive; then
        echo "removing a stale lock left by $(< "$lock/pid")" >&2
        release
        continue
    fi
    if ((SECONDS >= deadline)); then
        echo "still locked: $lock" >&2
        exit 75
    fi
    sleep 0.5
done

trap release EXIT
trap 'exit 143' TERM
status=0
"$@" || status=$?
exit "$status"
