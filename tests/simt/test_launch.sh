#!/usr/bin/env bash
# Faults of launches, and the two environment variables that help to find them.
# RPO_BUILD: folder of the build.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "test_launch: $*" >&2
    exit 1
}

for sync in 0 1; do
    RPO_DEBUG_SYNC=$sync "$RPO_BUILD/bin/simt_launch" >"$work/out" 2>"$work/err" ||
        fail "RPO_DEBUG_SYNC=$sync: $(cat "$work/out" "$work/err")"
    grep -qx 'launches: right' "$work/out" || fail "RPO_DEBUG_SYNC=$sync: $(cat "$work/out")"
    [ ! -s "$work/err" ] || fail "not asked for a trace, it says: $(cat "$work/err")"
done

cat >"$work/expected" <<'TRACE'
rpo: launch refused_kernel grid 1,1,1 block 64,1,1 shared 1048576
rpo: launch wide_kernel grid 1,1,1 block 2048,1,1 shared 0
rpo: launch tall_kernel grid 1,65536,1 block 64,1,1 shared 0
rpo: launch divergent_kernel grid 1,1,1 block 64,1,1 shared 0
rpo: launch fill_kernel grid 1,1,1 block 64,1,1 shared 0
TRACE
RPO_TRACE_LAUNCH=1 "$RPO_BUILD/bin/simt_launch" >/dev/null 2>"$work/trace" || fail "fails with RPO_TRACE_LAUNCH=1"
diff "$work/expected" "$work/trace" || fail "the trace above differs"

RPO_TRACE_LAUNCH=1 "$RPO_BUILD/bin/rpo-bench-simt" linear-logprob-backward --backend simt --check-only \
    --shape rows=9,hidden=16,vocab=101,sequences=2,valid_percent=50 >/dev/null 2>"$work/trace" || fail "the bench fails when traced"
grep -q '^rpo: plan linear_logprob backward rows [0-9]* cached 0 sweep [0-9]* chunk [0-9]* tile 1 x 104' "$work/trace" ||
    fail "no plan is printed: $(head -n 3 "$work/trace")"
