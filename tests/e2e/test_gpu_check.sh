#!/usr/bin/env bash
# test_gpu_check.sh - tools/gpu-check without a GPU: what it reports where there is none, and, with stand-ins for the
# machine's tools and programs, that every step runs, that findings and hangs are recorded and do not stop the rest.
set -euo pipefail

. "$RPO_SOURCE/tests/e2e/helpers.sh"

# check CODE ARGUMENTS...: runs gpu-check with the stand-ins in $work/bin; its output goes to $work/log.
check() {
    local code=$1 got=0
    shift
    PATH=$work/bin:$PATH "$RPO_SOURCE/tools/gpu-check" --work "$work/place" --bundle "$work" "$@" >"$work/log" 2>&1 || got=$?
    [ "$got" = "$code" ] || fail "gpu-check $*: exit code $got instead of $code: $(tail -n 5 "$work/log")"
}

expect() { grep -q -- "$1" "$work/out/report.md" || fail "the report lacks '$1'"; }

# stand_in FILE: a program, from stdin.
stand_in() {
    mkdir -p "$(dirname "$1")"
    { echo '#!/usr/bin/env bash' && cat; } >"$1"
    chmod +x "$1"
}

check 2 --only bench
check 2 "$work/out" --only bench,lunch
grep -q 'no step lunch; there are: build, ops' "$work/log" || fail "an unknown step: $(cat "$work/log")"
check 2 "$work/out" --work

# No GPU.
stand_in "$work/bin/nvidia-smi" <<<'exit 9'
check 3 "$work/out" --only ops,oracle,bench,sanitizer,profile,peers,cases
[ "$(grep -c 'skipped: no device' "$work/out/report.md")" = 7 ] || fail "not all steps are skipped without a device"
python3 -c 'import json, sys; assert json.load(open(sys.argv[1]))["device"] == "none"' "$work/out/report.json" ||
    fail "report.json lacks the device"

# A GPU that is none: simt's programs under the names of the real ones, small shapes, tools that say what they would.
stand_in "$work/bin/nvidia-smi" <<<'echo "Stand-in GPU, 580.1, 9.0"'
stand_in "$work/bin/compute-sanitizer" <<'STAND_IN'
while [ "$1" != --error-exitcode ]; do [ "$1" = --tool ] && tool=$2; shift; done
shift 2
[ "$tool" = racecheck ] && { echo "========= RACECHECK SUMMARY: 1 hazard displayed"; exit 99; }
"$@" && echo "========= ERROR SUMMARY: 0 errors"
STAND_IN
stand_in "$work/bin/ncu" <<'STAND_IN'
cat <<CSV
==PROF== Connected
"ID","Kernel Name","Block Size","Grid Size","dram__bytes_read.sum","dram__bytes_write.sum","gpu__time_duration.sum","launch__registers_per_thread","sm__warps_active.avg.pct_of_peak_sustained_active"
"","","","","byte","byte","ns","register/thread","%"
"0","void gather_kernel<float>(const float *, int)","(256, 1, 1)","(64, 1, 1)","3,000,000","1000000","2,000","40","50.0"
"1","void gather_kernel<float>(const float *, int)","(256, 1, 1)","(64, 1, 1)","3000000","1000000","2000","40","70.0"
CSV
STAND_IN
stand_in "$work/place/build/bin/rpo" <<<"exec '$RPO_BUILD/bin/rpo-simt' \"\$@\""
stand_in "$work/place/build/bin/rpo-bench" <<STAND_IN
exec '$RPO_BUILD/bin/rpo-bench-simt' logprob-gather --backend simt --shape rows=5,vocab=301,sequences=2 --repeats 2 --json
STAND_IN
stand_in "$work/place/build/bin/cuda_every_op" <<<'echo "every op ran"'
stand_in "$work/place/build/bin/cuda_test_cases" <<<'sleep 0.1'

check 1 "$work/out" --only ops,bench,sanitizer,profile,peers,cases
expect '| device | Stand-in GPU |'
expect '| bench | ok: 1 rows, 0 not correct |'
expect '| sanitizer | failed |'
expect 'racecheck .*exit code 99 .*1 hazard'
expect 'memcheck .*exit code 0 .*0 errors'
expect '| peers | ok: '
expect '| logprob-gather | bfloat16 |'
expect '`gather_kernel<float>` | 2 | 4.0 | 8.0 | 2000 | 60 % | 40 |'
python3 - "$work/out/report.json" <<'PY' || fail "report.json"
import json, sys
report = json.load(open(sys.argv[1]))
assert [row["op"] for row in report["bench"]] == ["logprob-gather"], report["bench"]
assert {row["launches"] for row in report["profile"]} == {2}, report["profile"]
assert all("failed" in row or "error" in row for row in report["peers"]) and report["peers"], report["peers"]
PY
[ -s "$work/out/bench.svg" ] && [ -s "$work/out/logs.tar.gz" ] || fail "no plot or no logs"

if [ -d "$RPO_SHARED/oracle" ]; then
    check 0 "$work/out" --only oracle
    expect 'golden cases, 0 failures'
fi

# A program that hangs is ended with its step, and the report is written all the same.
stand_in "$work/place/build/bin/rpo-bench" <<<'sleep 60'
check 1 "$work/out" --only bench,peers --seconds 3
expect '| bench | out of time |'
expect '| peers | '
check 2 "$work/out" --seconds soon

finish
