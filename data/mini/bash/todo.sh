#!/usr/bin/env bash
# A to-do list in one plain text file.
TODO_FILE=${TODO_FILE:-$HOME/.todo.txt}
touch "$TODO_FILE" || exit 1

add() {
    local priority=B
    if [[ $1 =~ ^[ABC]$ ]]; then
        priority=$1
        shift
    fi
    [[ -n $* ]] || { echo "nothing to add"; return 1; }
    printf '%s\t%s\t%s\n' "$priority" "$(date +%d.%m.)" "$*" >> "$TODO_FILE"
}

list() {
    local pattern=${1:-.}
    sort -t $'\t' -k1,1 "$TODO_FILE" | nl -w 3 -s '  ' | grep -i -- "$pattern" |
        while IFS=$'\t' read -r lead day text; do
            printf '%s  %-7s %s\n' "$lead" "$day" "$text"
        done
}

# Numbers refer to the sorted list, as printed by `list`.
finish() {
    [[ $1 =~ ^[0-9]+$ ]] || { echo "which number?"; return 1; }
    local scratch
    scratch=$(mktemp) || return
    sort -t $'\t' -k1,1 "$TODO_FILE" | tee "$scratch" | sed -n "${1}p" | cut -f3 |
        sed 's/^/done: /'
    sed "${1}d" "$scratch" > "$TODO_FILE"
    rm -f "$scratch"
}

count() {
    cut -f1 "$TODO_FILE" | sort | uniq -c | awk '{ printf "%s:%d ", $2, $1 } END { print "" }'
}

command=${1:-list}
[[ $# -gt 0 ]] && shift
case $command in
    add | list | finish | count) "$command" "$@" ;;
    *)
        cat <<HELP
todo.sh add [A|B|C] TEXT   store a task
todo.sh list [PATTERN]     show tasks, most urgent first
todo.sh finish NUMBER      remove a task
todo.sh count              how many of each priority
HELP
        exit 2
        ;;
esac
