#!/usr/bin/env bash
# test_bench.sh - rpo-bench on the CPU with small shapes, bench/report.py and the peers' driver over its rows.
set -euo pipefail

bench=$RPO_BUILD/bin/rpo-bench
. "$RPO_SOURCE/tests/e2e/bench_helpers.sh"

rows=$work/rows.jsonl
while read -r op shape; do
    expect_row cpu float32 "$op" "$shape"
    cat "$work/row" >>"$rows"
done <<'SHAPES'
contrast-loss m=65,n=33,dim=24
logprob-gather rows=17,vocab=501,sequences=3
logprob-gather-backward rows=17,vocab=501,sequences=3
linear-logprob rows=33,hidden=24,vocab=301,sequences=4
linear-logprob-backward rows=33,hidden=24,vocab=301,sequences=4,valid_percent=50
linear-logprob-backward-frozen rows=33,hidden=24,vocab=301,sequences=4
training-step rows=64,layers=1,hidden=32,intermediate=64,vocab=97
SHAPES

expect_fault 2 'float32' logprob-gather --dtype bfloat16 --shape rows=8,vocab=32,sequences=1
expect_fault 2 'no size colour' logprob-gather --shape colour=3
expect_fault 2 '--backend: is abacus' logprob-gather --backend abacus
expect_fault 2 'unknown op' logprob-father
"$bench" contrast-loss --shape m=5,n=7,dim=3 --check-only | grep -q '^contrast-loss float32: error .*, correct$' ||
    fail "--check-only prints no outcome"

# The table and the plot: every row is there, a peer's ratio is right, another device's rows are refused.
python3 - "$rows" "$work/peers.jsonl" "$work/other.jsonl" <<'PY'
import json, sys
row = json.loads(open(sys.argv[1]).readline())
peer = {**row, "backend": "peer:<double>", "device": "CPU, 2 threads", "median_seconds": 2 * row["median_seconds"]}
open(sys.argv[2], "w").write(json.dumps(peer) + "\n" + json.dumps({"backend": "peer:none", "failed": "not importable"}) + "\n")
open(sys.argv[3], "w").write(json.dumps({**row, "op": "other", "device": "another"}) + "\n")
PY
report=$RPO_SOURCE/bench/report.py
python3 "$report" "$rows" "$work/peers.jsonl" --svg "$work/plot.svg" --markdown "$work/table.md" || fail "report.py fails"
[ "$(grep -c '| yes |' "$work/table.md")" = 7 ] || fail "the table lacks rows"
grep -q '| <double> .*| 2.00x |' "$work/table.md" || fail "the table lacks the peer's ratio"
grep -q 'peer:none.*not importable' "$work/table.md" || fail "the table hides what was not measured"
python3 -c 'import sys, xml.dom.minidom as x; assert len(x.parse(sys.argv[1]).getElementsByTagName("rect")) == 8' \
    "$work/plot.svg" || fail "the plot lacks bars"
! python3 "$report" "$rows" "$work/other.jsonl" >/dev/null 2>&1 || fail "report.py mixes devices"

# The peers' driver: each one gives rows or a reason, and never a figure without an error column.
head -n 1 "$rows" >"$work/one.jsonl"
python3 "$RPO_SOURCE/bench/peers/run.py" --like "$work/one.jsonl" --only liger --repeats 1 >"$work/liger" 2>/dev/null ||
    fail "the peers' driver fails"
python3 -c '
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert all("failed" in row or "error" in row for row in rows), rows' "$work/liger" || fail "a peer gives neither rows nor a reason"

finish
