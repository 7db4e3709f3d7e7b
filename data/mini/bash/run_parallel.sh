#!/usr/bin/env bash
# Run the commands listed in a file, at most N at the same time.
set -uo pipefail

slots=$(nproc)
stop_early=0
while getopts 'j:e' arg; do
    case $arg in
        j) slots=$OPTARG ;;
        e) stop_early=1 ;;
        *) printf 'usage: %s [-j JOBS] [-e] COMMANDS.txt\n' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
list=${1:?a file with one command per line}

declare -A name_of=() begun=()
running=0 good=0 bad=0
logs=$(mktemp -d)

cleanup() {
    ((${#name_of[@]})) && kill "${!name_of[@]}" 2> /dev/null
    rm -rf -- "$logs"
}
trap cleanup EXIT
trap 'echo interrupted >&2; exit 130' INT

reap() {
    local pid status
    wait -n -p pid
    status=$?
    running=$((running - 1))
    printf '[%3ds] %s: %s\n' "$((SECONDS - begun[$pid]))" \
        "$([[ $status == 0 ]] && echo done || echo "FAILED ($status)")" "${name_of[$pid]}"
    if ((status == 0)); then
        good=$((good + 1))
    else
        bad=$((bad + 1))
        tail -n 5 "$logs/$pid" 2> /dev/null | sed 's/^/        /'
    fi
    unset "name_of[$pid]"
}

while IFS= read -r line <&3; do
    [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
    ((stop_early && bad)) && break
    while ((running >= slots)); do reap; done
    (exec > "$logs/$BASHPID" 2>&1; eval "$line") &
    name_of[$!]=$line
    begun[$!]=$SECONDS
    running=$((running + 1))
done 3< "$list"

while ((running > 0)); do reap; done
echo "$good succeeded, $bad failed"
exit $((bad > 0))
