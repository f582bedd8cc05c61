#!/usr/bin/env bash
# test_bench_simt.sh - the bench's code for a GPU, over the CUDA sources on the CPU: every op and dtype comes out correct,
# and one row is whole. Times and limits of simt mean nothing, so they are taken once.
set -euo pipefail

bench=$RPO_BUILD/bin/rpo-bench-simt
. "$RPO_SOURCE/tests/e2e/bench_helpers.sh"

for dtype in float32 bfloat16 float16; do
    expect_correct simt "$dtype" contrast-loss m=9,n=5,dim=24
    expect_correct simt "$dtype" logprob-gather rows=5,vocab=301,sequences=2
    expect_correct simt "$dtype" logprob-gather-backward rows=5,vocab=301,sequences=2
    expect_correct simt "$dtype" linear-logprob rows=9,hidden=16,vocab=101,sequences=2
    expect_correct simt "$dtype" linear-logprob-backward rows=9,hidden=16,vocab=101,sequences=2,valid_percent=50
    expect_correct simt "$dtype" linear-logprob-backward-frozen rows=9,hidden=16,vocab=101,sequences=2
done
expect_row simt bfloat16 logprob-gather-backward rows=5,vocab=301,sequences=2
expect_fault 2 'no model ops' training-step --backend simt

finish
