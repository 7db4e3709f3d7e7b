#!/bin/sh
# Sum one column of a simple CSV file, grouped by another column.
# Example: csv_totals.sh -g town -s amount sales.csv

sep=,
group=
column=
while getopts g:s:d: o
do
    case $o in
    g) group=$OPTARG ;;
    s) column=$OPTARG ;;
    d) sep=$OPTARG ;;
    ?) echo "usage: $0 -g GROUP -s SUM [-d SEPARATOR] [FILE]" >&2
       exit 2 ;;
    esac
done
shift `expr $OPTIND - 1`

if [ -z "$group" ] || [ -z "$column" ]
then
    echo "both -g and -s are needed" >&2
    exit 2
fi

awk -F "$sep" -v g="$group" -v s="$column" '
NR == 1 {
    sub(/\r$/, "")
    for (i = 1; i <= NF; i++) {
        if ($i == g) gi = i
        if ($i == s) si = i
    }
    if (!gi || !si) {
        print "column not found in: " $0 > "/dev/stderr"
        failed = 1
        exit
    }
    next
}
NF >= si {
    total[$gi] += $si
    rows[$gi]++
    all += $si
}
END {
    if (failed) exit 1
    for (k in total)
        printf "%-20s %6d %12.2f %5.1f%%\n", k, rows[k], total[k], all ? 100 * total[k] / all : 0 | "sort -k3,3nr"
}' "$@"
