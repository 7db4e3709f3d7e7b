#!/usr/bin/env bash
# Prepare a release: bump VERSION, collect the change log, commit and tag.
# Nothing is written unless --go is given.
set -euo pipefail

die() { echo "release: $*" >&2; exit 1; }

bump() {
    local IFS=. major minor patch
    read -r major minor patch <<< "$1"
    case $2 in
        major) echo "$((major + 1)).0.0" ;;
        minor) echo "$major.$((minor + 1)).0" ;;
        patch) echo "$major.$minor.$((patch + 1))" ;;
        *)     die "unknown part: $2" ;;
    esac
}

changes_since() {
    local tag=$1
    git log --no-merges --reverse --format='%s' "${tag:+$tag..}HEAD" |
        sed -nE 's/^(feat|fix|docs)(\([^)]*\))?: */\1\t/p' |
        sort -s -k1,1 |
        awk -F'\t' '
            $1 != kind { kind = $1; printf "\n### %s\n\n", toupper(kind) }
            { print "- " $2 }'
}

part=patch go=""
for word in "$@"; do
    case $word in
        --go) go=1 ;;
        *)    part=$word ;;
    esac
done

[[ -f VERSION ]] || die "no VERSION file here"
git diff --quiet HEAD || die "commit or stash your changes first"

old=$(< VERSION)
[[ $old =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "odd version: $old"
new=$(bump "$old" "$part")
last_tag=$(git describe --tags --abbrev=0 2> /dev/null || true)
notes=$(printf '## %s (%s)\n' "$new" "$(date +%F)"; changes_since "$last_tag")

echo "$notes"
[[ -n $go ]] || { echo "(dry run: $old -> $new)"; exit 0; }

echo "$new" > VERSION
{ echo "$notes"; echo; [[ ! -f CHANGES.md ]] || cat CHANGES.md; } > CHANGES.new
mv CHANGES.new CHANGES.md
git add VERSION CHANGES.md
git commit -q -m "Release $new" && git tag -a "v$new" -m "Version $new"
