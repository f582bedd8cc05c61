#!/usr/bin/env bash
# test_resume.sh - a run killed with SIGKILL at random moments and resumed is, bit for bit, the run that was not killed.
set -euo pipefail
source "$RPO_SOURCE/tests/e2e/train_helpers.sh"

trials=20
seed=20240215
echo "test_resume: seed $seed, $trials trials"

make_pairs train.jsonl 60 0
make_pairs eval.jsonl 18 1000
write_config config.json
# An array, not a function: a function in the background would be a shell around the process to be killed.
train=("$rpo" train config.json --set train.max_steps=30 --set train.eval_every=4 --set train.save_every=3)

start=$(date +%s%N)
"${train[@]}" --set run.dir=whole >log 2>&1 || fail "the uninterrupted run: $(cat log)"
whole_ms=$((($(date +%s%N) - start) / 1000000))
rows whole/metrics.jsonl >whole.rows
[ "$(wc -l <whole.rows)" = 39 ] || fail "expected 30 steps and 9 evaluations: $(cat whole.rows)"

# Moments as shares of the whole run's time, from a fixed seed.
awk -v seed=$seed -v n=$trials 'BEGIN { srand(seed); for (i = 0; i < n; ++i) printf "%.4f\n", rand() }' >moments

interrupted=0
resumed_from_checkpoint=0
trial=0
while read -r moment; do
    trial=$((trial + 1))
    rm -rf run
    export RPO_CACHE=$work/cache-$trial # each trial has its reference pass to do, and to be killed in
    delay=$(awk -v ms=$whole_ms -v share="$moment" 'BEGIN { printf "%.3f", ms * share / 1000 }')
    "${train[@]}" --set run.dir=run >log 2>&1 &
    pid=$!
    sleep "$delay"
    if kill -KILL $pid 2>/dev/null; then interrupted=$((interrupted + 1)); fi
    { wait $pid || true; } 2>/dev/null
    rows_then=$({ cat run/metrics.jsonl 2>/dev/null || true; } | wc -l) # killed before the file was there: none
    "${train[@]}" --set run.dir=run --resume >log 2>&1 || fail "trial $trial (killed after $delay s): $(cat log)"
    if grep -q "resume     from run/checkpoints" log; then resumed_from_checkpoint=$((resumed_from_checkpoint + 1)); fi
    echo "trial $trial: killed after $delay s with $rows_then rows; $(grep '^resume' log || echo 'nothing to resume')"
    rows run/metrics.jsonl | cmp - whole.rows || fail "trial $trial: the metrics differ"
    for file in final/model.safetensors checkpoints/step-30/model.safetensors checkpoints/step-30/optimizer.safetensors; do
        cmp "run/$file" "whole/$file" || fail "trial $trial: $file differs"
    done
    [ -z "$(find run -name '.tmp-*' -o -name '.old-*')" ] || fail "trial $trial: leftovers: $(find run)"
done <moments

[ $interrupted -ge $((trials / 2)) ] || fail "only $interrupted of $trials runs were still going when killed"
[ $resumed_from_checkpoint -ge 1 ] || fail "no trial resumed from a checkpoint"

# One run killed again and again still arrives at the same end.
rm -rf run
"${train[@]}" --set run.dir=run >log 2>&1 &
for share in 0.3 0.3 0.3; do
    pid=$!
    sleep "$(awk -v ms=$whole_ms -v share=$share 'BEGIN { printf "%.3f", ms * share / 1000 }')"
    kill -KILL $pid 2>/dev/null || true
    { wait $pid || true; } 2>/dev/null
    "${train[@]}" --set run.dir=run --resume >log 2>&1 &
done
wait $! || fail "killed three times: $(cat log)"
rows run/metrics.jsonl | cmp - whole.rows || fail "killed three times: the metrics differ"
cmp run/final/model.safetensors whole/final/model.safetensors || fail "killed three times: the model differs"

echo "ok: test_resume ($interrupted of $trials killed in mid-run, $resumed_from_checkpoint resumed from a checkpoint)"
