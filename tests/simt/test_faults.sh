#!/usr/bin/env bash
# Runs every planted fault of faults.cu and requires that it is found: by AddressSanitizer or ThreadSanitizer at its
# line, by the runtime's message, or by values that are not right. The clean kernel must pass everywhere.
# RPO_BUILD, RPO_SOURCE: folders of the build and the sources.
set -u
source_file=$RPO_SOURCE/tests/simt/faults.cu
failures=0

run() { # build name schedule
    # ThreadSanitizer needs the address space laid out as usual
    local fixed=()
    command -v setarch >/dev/null && fixed=(setarch "$(uname -m)" -R)
    "${fixed[@]}" "$RPO_BUILD/bin/simt_faults_$1" "$2" "$3" 2>&1
}

line_of() {
    grep -n "FAULT $1 " "$source_file" | cut -d: -f1
}

# require WHAT BUILD NAME SCHEDULE PATTERN...: the output must match every pattern
require() {
    local what=$1 build=$2 name=$3 schedule=$4 output
    shift 4
    output=$(run "$build" "$name" "$schedule")
    for pattern in "$@"; do
        if ! grep -Eq -- "$pattern" <<<"$output"; then
            printf 'not found: %s (%s, %s): no "%s" in:\n%s\n\n' "$what" "$build" "$schedule" "$pattern" "$output"
            failures=$((failures + 1))
            return
        fi
    done
    printf 'found: %s (%s, %s)\n' "$what" "$build" "$schedule"
}

at() { # file and line of a fault, as sanitizers and the runtime write it
    printf 'faults\\.cu:%s\\b' "$(line_of "$1")"
}

# memory
require "overrun of a shared array" asan shared-overrun forward "AddressSanitizer: use-after-poison" "$(at shared-overrun)"
require "overrun of a shared array, by its guard" tsan shared-overrun forward "fault: .*write beyond the end of the shared array"
require "overrun of a global array" asan global-overrun forward "AddressSanitizer: heap-buffer-overflow" "$(at global-overrun)"
require "read of unwritten shared memory" asan unwritten-shared forward "values: wrong"
require "asynchronous copy without a wait" asan missing-copy-wait forward "values: wrong"

# order
require "missing barrier, by a warp that runs ahead" asan missing-barrier warp-eager "values: wrong"
require "missing barrier, by a warp that runs ahead" asan missing-barrier warp-eager-reverse "values: wrong"
require "missing barrier hidden by warps in step" asan missing-barrier forward "values: right"
require "missing barrier" tsan missing-barrier forward "ThreadSanitizer: data race" "$(at missing-barrier)"
require "race between blocks" tsan race-between-blocks forward "ThreadSanitizer: data race" "$(at race-between-blocks)"
require "ticket without a fence" tsan missing-fence forward "ThreadSanitizer: data race" "$(at missing-fence)"

# divergence
for schedule in forward reverse shuffled warp-eager warp-eager-reverse; do
    require "divergent barrier" asan divergent-barrier "$schedule" "fault: .*divergent barrier" "$(at divergent-barrier)"
    require "divergent collective" asan divergent-collective "$schedule" "fault: .*divergent warp collective" \
        "$(at divergent-collective)"
done

# the clean kernel: right values and not a word from a sanitizer
for schedule in forward reverse shuffled warp-eager warp-eager-reverse; do
    for build in asan tsan; do
        output=$(run "$build" clean "$schedule")
        if [ "$output" = "values: right" ]; then
            printf 'clean: %s, %s\n' "$build" "$schedule"
        else
            printf 'the clean kernel is accused (%s, %s):\n%s\n\n' "$build" "$schedule" "$output"
            failures=$((failures + 1))
        fi
    done
done

[ "$failures" -eq 0 ]
