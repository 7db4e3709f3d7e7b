#!/usr/bin/env bash
# List files with identical content. Sizes are compared first, so that only
# candidates have to be read in full. Nothing is ever removed.
set -euo pipefail

min_size=1
roots=()
for arg; do
    case $arg in
        --min=*) min_size=${arg#--min=} ;;
        *)       roots+=("$arg") ;;
    esac
done
((${#roots[@]})) || roots=(.)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

find "${roots[@]}" -type f -size "+$((min_size - 1))c" -printf '%s\t%p\n' |
    sort -n > "$work/sizes"

# Keep the lines whose size occurs at least twice.
awk -F'\t' '
    NR == FNR { seen[$1]++; next }
    seen[$1] > 1 { print substr($0, length($1) + 2) }
' "$work/sizes" "$work/sizes" > "$work/candidates"

tr '\n' '\0' < "$work/candidates" |
    xargs -0 -r sha256sum |
    sort > "$work/sums"

groups=0 wasted=0 previous="" first=""
while read -r sum path; do
    if [[ $sum == "$previous" ]]; then
        if [[ -n $first ]]; then
            groups=$((groups + 1))
            printf '\n%s\n' "$first"
            first=""
        fi
        printf '  = %s\n' "$path"
        wasted=$((wasted + $(stat -c %s "$path")))
    else
        previous=$sum
        first=$path
    fi
done < "$work/sums"

checked=$(wc -l < "$work/candidates")
total=$(wc -l < "$work/sizes")
printf '\n%d of %d files read, %d groups, %s could be saved\n' \
    "$checked" "$total" "$groups" "$(numfmt --to=iec "$wasted")"
