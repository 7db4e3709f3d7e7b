#!/usr/bin/env bash
# Rotate *.log files in a folder: app.log -> app.log.1 -> app.log.2.gz ...
set -euo pipefail

keep=5
min_kb=64
dry=""

usage() {
    cat >&2 <<TEXT
usage: ${0##*/} [-k COPIES] [-m KILOBYTES] [-n] FOLDER
  -k  rotated copies to keep (default $keep)
  -m  leave files smaller than this alone (default $min_kb)
  -n  print the steps, change nothing
TEXT
    exit 64
}

step() {
    if [[ -n $dry ]]; then
        printf 'would run: %s\n' "$*"
    else
        "$@"
    fi
}

rotate() {
    local log=$1 i
    for ((i = keep - 1; i >= 2; i--)); do
        [[ -f $log.$i.gz ]] && step mv -f -- "$log.$i.gz" "$log.$((i + 1)).gz"
    done
    if [[ -f $log.1 ]]; then
        step gzip -c -- "$log.1" | { [[ -n $dry ]] && cat || cat > "$log.2.gz"; }
    fi
    step cp -p -- "$log" "$log.1"
    # Truncate in place, since the writer still holds the file open.
    step truncate -s 0 -- "$log"
}

while getopts ':k:m:n' flag; do
    case $flag in
        k) keep=$OPTARG ;;
        m) min_kb=$OPTARG ;;
        n) dry=yes ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[[ $# -eq 1 && -d $1 ]] || usage

shopt -s nullglob
for log in "$1"/*.log; do
    size=$(stat -c %s -- "$log")
    ((size / 1024 >= min_kb)) || continue
    echo "rotating $log ($((size / 1024)) KiB)"
    rotate "$log"
done
