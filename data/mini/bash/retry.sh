#!/bin/sh
# Repeat a command until it succeeds, waiting longer after each failure.

tries=5
delay=1
factor=2
ceiling=60
quiet=false

complain() {
    $quiet || echo "retry: $*" >&2
}

help() {
    sed 's/^    //' <<END
    retry.sh [-t TRIES] [-d DELAY] [-f FACTOR] [-c CEILING] [-q] COMMAND...

    The pause starts with DELAY seconds and is multiplied by FACTOR after
    every failure, but never grows beyond CEILING. The exit status is that
    of the last attempt.
END
}

while getopts "t:d:f:c:qh" letter; do
    case "$letter" in
        t) tries=$OPTARG ;;
        d) delay=$OPTARG ;;
        f) factor=$OPTARG ;;
        c) ceiling=$OPTARG ;;
        q) quiet=true ;;
        h) help; exit 0 ;;
        *) help >&2; exit 2 ;;
    esac
done
shift "$((OPTIND - 1))"

if [ "$#" -eq 0 ]; then
    help >&2
    exit 2
fi

attempt=1
while true; do
    "$@"
    result=$?
    [ "$result" -eq 0 ] && exit 0
    if [ "$attempt" -ge "$tries" ]; then
        complain "giving up on '$1' after $attempt attempts"
        exit "$result"
    fi
    complain "attempt $attempt of $tries ended with $result, next in $delay s"
    sleep "$delay"
    attempt=$((attempt + 1))
    delay=$((delay * factor))
    if [ "$delay" -gt "$ceiling" ]; then delay=$ceiling; fi
done
