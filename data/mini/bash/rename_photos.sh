#!/usr/bin/env bash
# Give photos a name made of their date: IMG_0042.JPG -> 2024-05-17_001.jpg
set -euo pipefail
shopt -s nullglob nocaseglob

apply=no
folder=.

while (($#)); do
    case $1 in
        --apply) apply=yes ;;
        --help)
            echo "rename_photos.sh [--apply] [FOLDER]   (without --apply it only lists)"
            exit 0
            ;;
        -*) echo "unknown option $1" >&2; exit 2 ;;
        *)  folder=$1 ;;
    esac
    shift
done

declare -A counter=()
declare -i planned=0 skipped=0

next_free() {
    local day=$1 ext=$2 name
    while :; do
        counter[$day]=$((${counter[$day]:-0} + 1))
        name=$(printf '%s_%03d.%s' "$day" "${counter[$day]}" "$ext")
        [[ -e $folder/$name ]] || break
    done
    REPLY=$name
}

for photo in "$folder"/*.{jpg,jpeg,png,heic}; do
    old=${photo##*/}
    if [[ $old =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{3}\. ]]; then
        skipped+=1
        continue
    fi
    day=$(date -r "$photo" +%Y-%m-%d)
    ext=${old##*.}
    next_free "$day" "${ext,,}"
    printf '%-28s -> %s\n' "$old" "$REPLY"
    if [[ $apply == yes ]]; then
        mv --no-clobber -- "$photo" "$folder/$REPLY"
    fi
    planned+=1
done

echo "$planned to rename, $skipped already named, applied: $apply"
