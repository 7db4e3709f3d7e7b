#!/usr/bin/env bash
# Most frequent words of some text files, without the commonest function words.
set -o errexit -o nounset -o pipefail

limit=15
shortest=3

stop_words() {
    tr ' ' '\n' <<'WORDS'
the and for with that this from are was were has have had not but you his her
its they them their there which when will would can could into than then out
one two all any about over under after before more most such only very also
WORDS
}

words_of() {
    cat -- "$@" |
        tr '[:upper:]' '[:lower:]' |
        tr -cs "[:alpha:]'" '\n' |
        sed "s/^'*//; s/'s\$//; s/'*\$//" |
        awk -v least="$shortest" 'length($0) >= least'
}

while getopts n:s: option; do
    case $option in
        n) limit=$OPTARG ;;
        s) shortest=$OPTARG ;;
        \?) exit 64 ;;
    esac
done
shift "$((OPTIND - 1))"
if (($# == 0)); then
    echo "give at least one text file" >&2
    exit 64
fi

counted=$(words_of "$@" | grep -vxFf <(stop_words) | sort | uniq -c | sort -k1,1nr -k2)
highest=$(awk 'NR == 1 { print $1 }' <<< "$counted")

# A bar of at most forty signs beside every word.
awk -v limit="$limit" -v highest="${highest:-1}" '
    NR > limit { exit }
    {
        bar = sprintf("%*s", int(40 * $1 / highest + 0.5), "")
        gsub(/ /, "=", bar)
        printf "%-18s %5d %s\n", $2, $1, bar
    }' <<< "$counted"

printf '%d different words in %d file(s)\n' "$(wc -l <<< "$counted")" "$#"
