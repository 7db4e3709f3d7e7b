#!/usr/bin/env bash
# Alternate periods of work and rest, and keep a diary of both.

work=25 rest=5 rounds=4 unit=60
diary=${TIMER_DIARY:-$HOME/timer_diary.csv}

while getopts w:r:n:d:x key; do
    case $key in
        w) work=$OPTARG ;;
        r) rest=$OPTARG ;;
        n) rounds=$OPTARG ;;
        d) diary=$OPTARG ;;
        x) unit=1 ;;        # seconds instead of minutes, for a trial
        *) exit 2 ;;
    esac
done

[[ -s $diary ]] || echo "date,time,kind,minutes,finished" > "$diary"

note() {
    printf '%(%F,%R)T,%s,%s,%s\n' -1 "$1" "$2" "$3" >> "$diary"
}

current=""
length=0
abandon() {
    printf '\n%s interrupted\n' "$current"
    note "$current" "$length" no
    exit 130
}
trap abandon INT TERM

count_down() {
    current=$1 length=$2
    local left=$(($2 * unit))
    while ((left > 0)); do
        printf '\r%-5s %02d:%02d ' "$current" $((left / 60)) $((left % 60))
        sleep 1
        left=$((left - 1))
    done
    printf '\r%-5s done \a\n' "$current"
    note "$current" "$length" yes
}

for ((round = 1; round <= rounds; round++)); do
    echo "Round $round of $rounds"
    count_down work "$work"
    ((round == rounds)) || count_down rest "$rest"
done

awk -F, -v today="$(date +%F)" '
    $1 == today && $3 == "work" && $5 == "yes" { sum += $4 }
    END { printf "Worked %d minutes today.\n", sum }
' "$diary"
