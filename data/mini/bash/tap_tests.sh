#!/usr/bin/env bash
# A test runner in the style of TAP: every function named test_* is one test.

slugify() {
    local s=${1,,}
    s=${s//[^a-z0-9]/-}
    while [[ $s == *--* ]]; do s=${s//--/-}; done
    s=${s#-}
    printf '%s\n' "${s%-}"
}

human_time() {
    local t=$1
    ((t >= 3600)) && printf '%dh ' "$((t / 3600))"
    ((t >= 60)) && printf '%dm ' "$((t % 3600 / 60))"
    printf '%ds\n' "$((t % 60))"
}

assert_equal() {
    if [[ $1 != "$2" ]]; then
        printf '# expected: %q\n# received: %q\n' "$2" "$1"
        return 1
    fi
}

test_slug_of_plain_words()   { assert_equal "$(slugify 'Hello World')" 'hello-world'; }
test_slug_without_edges()    { assert_equal "$(slugify '  (draft) ')" 'draft'; }
test_slug_of_nothing()       { assert_equal "$(slugify '')" ''; }
test_seconds_only()          { assert_equal "$(human_time 42)" '42s'; }
test_minutes_and_seconds()   { assert_equal "$(human_time 125)" '2m 5s'; }
test_full_hours()            { assert_equal "$(human_time 7200)" '2h 0m 0s'; }

main() {
    local -a tests
    local t number=0 failures=0 output
    mapfile -t tests < <(compgen -A function test_ | grep -e "${1:-}")
    echo "1..${#tests[@]}"
    for t in "${tests[@]}"; do
        number=$((number + 1))
        # Each test runs in a subshell, so it cannot disturb the others.
        if output=$(set -e; "$t" 2>&1); then
            echo "ok $number - ${t#test_}"
        else
            failures=$((failures + 1))
            echo "not ok $number - ${t#test_}"
        fi
        [[ -z $output ]] || echo "$output"
    done
    return "$((failures > 0))"
}

main "$@"
