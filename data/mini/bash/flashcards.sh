#!/usr/bin/env bash
# Vocabulary trainer. A deck has one card per line: question = answer
set -u

deck=${1:-}
max=${2:-10}

if [[ ! -f $deck ]]; then
    deck=$(mktemp)
    trap 'rm -f "$deck"' EXIT
    cat > "$deck" <<'CARDS'
# Italian animals
dog = il cane
cat = il gatto
horse = il cavallo
butterfly = la farfalla
owl = il gufo
hedgehog = il riccio
CARDS
    echo "No deck given, using a short one."
fi

normal() {
    # Case and surplus blanks do not count as mistakes.
    tr '[:upper:]' '[:lower:]' <<< "$1" | tr -s '[:blank:]' ' ' | sed 's/^ //; s/ $//'
}

ask() {
    local question=$1 answer=$2 reply
    read -r -p "$question? " reply || { echo; return 2; }
    if [[ $(normal "$reply") == "$(normal "$answer")" ]]; then
        echo "  correct"
    else
        echo "  no: $answer"
        return 1
    fi
}

mapfile -t cards < <(grep '=' "$deck" | grep -v '^#' | shuf -n "$max")
right=0 asked=0 again=()

for card in "${cards[@]}"; do
    ask "${card%% = *}" "${card#* = }"
    case $? in
        0) right=$((right + 1)) ;;
        1) again+=("$card") ;;
        2) break ;;
    esac
    asked=$((asked + 1))
done

if ((asked)); then
    echo "$right of $asked known ($((100 * right / asked)) %)"
fi
if ((${#again[@]})); then
    printf 'Look at these once more:\n'
    printf '   %s\n' "${again[@]}" | column -t -s '='
fi
