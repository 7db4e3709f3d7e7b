#!/usr/bin/env bash
# Read settings from an INI file: ini_get.sh FILE [SECTION.KEY [DEFAULT]]

declare -A setting
declare -a order

trim() {
    local s=$1
    s="${s#"${s%%[![:space:]]*}"}"
    s="${s%"${s##*[![:space:]]}"}"
    printf '%s' "$s"
}

load_ini() {
    local file=$1 section=main number=0 raw line key value
    while IFS= read -r raw || [[ -n $raw ]]; do
        number=$((number + 1))
        line=$(trim "${raw%$'\r'}")
        case $line in
            '' | ';'* | '#'*)
                continue
                ;;
            '['*']')
                section=$(trim "${line:1:-1}")
                ;;
            *=*)
                key=$section.$(trim "${line%%=*}")
                value=$(trim "${line#*=}")
                # Quotes around a value are dropped.
                [[ $value =~ ^\"(.*)\"$ ]] && value=${BASH_REMATCH[1]}
                [[ -v setting[$key] ]] || order+=("$key")
                setting[$key]=$value
                ;;
            *)
                echo "$file:$number: cannot read '$line'" >&2
                return 1
                ;;
        esac
    done < "$file"
}

[[ -r ${1:-} ]] || { echo "cannot open '${1:-}'" >&2; exit 66; }
load_ini "$1" || exit 65

if [[ -z ${2:-} ]]; then
    for key in "${order[@]}"; do
        printf '%-30s %q\n' "$key" "${setting[$key]}"
    done
elif [[ -v setting[$2] ]]; then
    echo "${setting[$2]}"
elif (($# > 2)); then
    echo "$3"
else
    exit 1
fi
