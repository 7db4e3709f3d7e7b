#!/usr/bin/env bash
# Check that the programs a project needs are present and recent enough.

requirements() {
    # program   least version   what it is for
    cat <<'TABLE'
bash        4.4     this script
git         2.20    version control
python3     3.9     build scripts
make        4.0     build rules
gzip        1.5     archives
jq          1.5     reading JSON
TABLE
}

if [[ -t 1 ]]; then
    green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
    green="" red="" plain=""
fi

version_of() {
    "$1" --version 2>&1 | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1
}

# True when the first version is at least the second.
at_least() {
    [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]
}

report() {
    printf '  %s%-8s%s %-10s %s\n' "$1" "$2" "$plain" "$3" "$4"
}

missing=() old=()
while read -r program least purpose; do
    if ! command -v "$program" > /dev/null; then
        missing+=("$program")
        report "$red" absent "$program" "needed for $purpose"
        continue
    fi
    have=$(version_of "$program")
    if at_least "${have:-0}" "$least"; then
        report "$green" fine "$program" "$have"
    else
        old+=("$program")
        report "$red" "too old" "$program" "${have:-unknown}, $least wanted for $purpose"
    fi
done < <(requirements)

summary="${#missing[@]} missing, ${#old[@]} too old"
if [[ ${#missing[@]} -gt 0 || ${#old[@]} -gt 0 ]]; then
    echo "$summary: ${missing[*]} ${old[*]}"
    exit 1
fi
echo "All tools are in place."
