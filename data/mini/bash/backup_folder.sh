#!/usr/bin/env bash
# Dated archive of one folder, with checksum and a limit on old archives.
set -euo pipefail

source_dir=${1:?first argument: folder to save}
target_dir=${2:?second argument: folder for the archives}
max_archives=${3:-7}

stamp=$(date +%Y%m%d-%H%M%S)
base=$(basename -- "$source_dir")
archive="$target_dir/$base-$stamp.tar.gz"
partial="$archive.part"

say() { printf '%(%H:%M:%S)T  %s\n' -1 "$*"; }

on_exit() {
    local code=$?
    rm -f -- "$partial"
    if ((code != 0)); then
        say "backup failed with status $code" >&2
    fi
}
trap on_exit EXIT
trap 'exit 130' INT TERM

mkdir -p -- "$target_dir"

say "saving $source_dir"
tar --create --gzip --file "$partial" \
    --exclude='*.tmp' --exclude='.cache' \
    --directory "$(dirname -- "$source_dir")" -- "$base"

# An archive that cannot be listed is worth nothing.
entries=$(tar --list --file "$partial" | wc -l)
mv -- "$partial" "$archive"
(cd "$target_dir" && sha256sum "${archive##*/}" > "${archive##*/}.sha256")
say "wrote ${archive##*/}: $entries entries, $(du -h "$archive" | cut -f1)"

mapfile -t found < <(find "$target_dir" -maxdepth 1 -name "$base-*.tar.gz" | sort -r)
if ((${#found[@]} > max_archives)); then
    say "more than $max_archives archives; these could go:"
    printf '    %s\n' "${found[@]:max_archives}"
fi
