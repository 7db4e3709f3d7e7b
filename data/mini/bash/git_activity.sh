#!/usr/bin/env bash
# Who committed how much to this repository, and at what time of the day?
set -euo pipefail

since="3 months ago"
paths=()
while [[ $# -gt 0 ]]; do
    case "$1" in
        --since) since="$2"; shift 2 ;;
        --)      shift; paths=("$@"); break ;;
        *)       echo "usage: git_activity.sh [--since WHEN] [-- PATH...]" >&2; exit 2 ;;
    esac
done

if ! top=$(git rev-parse --show-toplevel 2>/dev/null); then
    echo "this is not a git repository" >&2
    exit 1
fi

history() {
    git log --no-merges --since="$since" "$@" -- ${paths[@]+"${paths[@]}"}
}

heading() { printf '\n%s\n%s\n' "$1" "${1//?/-}"; }

echo "Repository ${top##*/}, since $since"

heading "Commits and lines by author"
history --numstat --format='@%aN' | awk -F'\t' '
    /^@/    { who = substr($0, 2); commits[who]++; next }
    NF == 3 { plus[who] += $1; minus[who] += $2 }
    END {
        for (w in commits)
            printf "%5d  +%-7d -%-7d %s\n", commits[w], plus[w], minus[w], w
    }' | sort -rn | head -n 12

heading "Hour of the day"
history --format='%ad' --date=format:%H | sort | uniq -c | while read -r n hour; do
    printf '%s:00 %4d %s\n' "$hour" "$n" "$(printf '%*s' $((n > 50 ? 50 : n)) '' | tr ' ' '*')"
done

heading "Files that change most often"
history --name-only --format= | sed '/^$/d' | sort | uniq -c | sort -k1,1rn | sed 10q

# Branches nobody has touched for half a year.
heading "Sleeping branches"
limit=$(date -d '6 months ago' +%s)
git for-each-ref --format='%(committerdate:unix) %(refname:short)' refs/heads |
    awk -v limit="$limit" '$1 < limit { print "  " $2; found = 1 } END { if (!found) print "  none" }'
