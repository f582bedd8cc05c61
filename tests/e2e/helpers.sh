# helpers.sh - what end-to-end tests that count their failures share. Sourced; a test ends with `finish`.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# finish [WHAT WAS LOOKED AT]: the closing line and the exit code.
finish() {
    echo "${1:+$1, }$failures failures"
    [ "$failures" -eq 0 ]
}
