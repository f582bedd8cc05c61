#!/usr/bin/env bash
# test_run_folder.sh - a run and its folder when other things happen to them than a run expects: removed, replaced, files of
# others in it, a closed terminal, closed descriptors, a file size limit, pipes where files should be.
set -euo pipefail
source "$RPO_SOURCE/tests/e2e/train_helpers.sh"

make_pairs train.jsonl 40 0
make_pairs eval.jsonl 10 1000
write_config config.json
sha() { sha256sum "$1" | cut -d' ' -f1; }

# wait_for_rows COUNT FILE: until a run has written so many.
wait_for_rows() {
    for _ in $(seq 1200); do
        [ "$(cat "$2" 2>/dev/null | wc -l)" -ge "$1" ] && return
        sleep 0.05
    done
    fail "$2 has no $1 rows after a minute"
}

# ---- a folder that is removed while a run goes on, and taken by another one ----
"$rpo" train config.json --set train.max_steps=100000 --set train.save_every=50 >first.log 2>&1 &
first=$!
wait_for_rows 3 run/metrics.jsonl
rm -rf run
expect_code 0 log "$rpo" train config.json --set run.seed=2
model=$(sha run/final/model.safetensors)
checkpoints=$(ls run/checkpoints)
code=0
wait $first || code=$?
[ $code = 3 ] || fail "the run whose folder was removed: exit code $code, expected 3: $(cat first.log)"
expect_in "run.dir: run was removed or replaced" first.log
[ "$(sha run/final/model.safetensors) $(ls run/checkpoints)" = "$model $checkpoints" ] ||
    fail "the run whose folder was removed wrote into the new one"
expect_code 0 log "$rpo" train config.json --set run.seed=2 --resume
"$rpo" train config.json --set run.dir=removed --set train.max_steps=100000 --set train.save_every=50 >first.log 2>&1 &
first=$!
wait_for_rows 3 removed/metrics.jsonl
rm -rf removed
code=0
wait $first || code=$?
[ $code = 3 ] || fail "a removed folder: exit code $code, expected 3: $(cat first.log)"
[ ! -e removed ] || fail "a removed folder is not made again: $(find removed)"

# ---- what a kill between the two renames of a replacement leaves: the only checkpoint stands aside ----
cp -r run aside
rm -r aside/checkpoints/step-9
mv aside/checkpoints/step-12 aside/checkpoints/.old-step-12
mv aside/final aside/.old-final
expect_code 0 log "$rpo" train config.json --set run.seed=2 --set run.dir=aside --resume
expect_in "resume     from aside/checkpoints/step-12" log
[ "$(ls -A aside/checkpoints)" = step-12 ] || fail "after the resume: $(ls -A aside/checkpoints)"

# ---- names that look like checkpoints, and files that are none of theirs ----
cp -r run strange
mkdir strange/checkpoints/step-0099 strange/checkpoints/step-7x
mkfifo strange/checkpoints/step-12/pipe
echo hello >strange/checkpoints/step-12/note.txt
touch strange/.rpo-probe-abcdef # what a kill of an older version leaves
expect_code 0 log timeout -s KILL 120 "$rpo" train config.json --set run.seed=2 --set run.dir=strange \
    --set train.max_steps=18 --resume
expect_in "holds files that are none of the checkpoint's (note.txt, pipe); they are ignored" log
expect_in "resume     from strange/checkpoints/step-12" log
[ "$(ls -A strange/checkpoints | sort)" = "$(printf '%s\n' step-0099 step-15 step-18 step-7x | sort)" ] ||
    fail "names of others are not ours to prune: $(ls -A strange/checkpoints)"
[ ! -e strange/.rpo-probe-abcdef ] || fail "the probe of a killed run stays"

# ---- a checkpoint that cannot be read is not damaged: the run ends, and everything is as it was ----
cp -r run unreadable
rm unreadable/checkpoints/step-12/optimizer.safetensors
ln -s optimizer.safetensors unreadable/checkpoints/step-12/optimizer.safetensors # a loop: ELOOP, for root too
expect_code 2 log "$rpo" train config.json --set run.seed=2 --set run.dir=unreadable --set train.max_steps=15 --resume
expect_in "step-12/optimizer.safetensors" log
[ "$(ls unreadable/checkpoints)" = "$(ls run/checkpoints)" ] || fail "an unreadable checkpoint was passed over: $(cat log)"

# ---- damaged ones are kept under another name ----
cp -r run damaged
printf 'x' | dd of=damaged/checkpoints/step-12/model.safetensors bs=1 seek=5000 conv=notrunc status=none
expect_code 0 log "$rpo" train config.json --set run.seed=2 --set run.dir=damaged --set train.keep_checkpoints=1 --resume
expect_in "checkpoints/step-12: is kept as damaged/checkpoints/aside-step-12" log
[ "$(ls damaged/checkpoints)" = "$(printf 'aside-step-12\nstep-12')" ] || fail "damaged: $(ls damaged/checkpoints)"
cmp -s damaged/final/model.safetensors run/final/model.safetensors || fail "damaged: another model at the end"

# ---- pipes where files must be: refused at once, and a signal ends loading ----
mkfifo pipe
for key in data.train embedding; do
    case $key in
    data.train) set -- --set data.train=pipe ;;
    embedding)
        mkfifo pipe.npy
        set -- --set embedding.kind=file --set embedding.path=pipe.npy --set embedding.eval_path=pipe.npy
        ;;
    esac
    expect_code 2 log timeout -s KILL 60 "$rpo" train config.json --set run.dir=piped "$@"
    expect_in "must be a regular file" log
done
mkdir piped-model
cp run/final/* piped-model/
rm piped-model/model.safetensors
mkfifo piped-model/model.safetensors
expect_code 2 log timeout -s KILL 60 "$rpo" train config.json --set model.init=null --set model.path=piped-model \
    --set run.dir=piped
expect_in "must be a regular file" log
rm piped-model/config.json
mkfifo piped-model/config.json
"$rpo" train config.json --set model.init=null --set model.path=piped-model --set run.dir=piped >log 2>&1 &
loading=$!
sleep 0.5
kill -TERM $loading
code=0
wait $loading || code=$?
[ $code = 143 ] || fail "SIGTERM while a pipe is read: exit code $code: $(cat log)"
expect_in "stopped by SIGTERM" log

# ---- closed descriptors: nothing meant for the terminal lands in a file of the run ----
"$rpo" train config.json --set run.seed=2 --set run.dir=closed <&- >&- 2>&- || fail "closed descriptors: exit code $?"
[ "$(rows closed/metrics.jsonl)" = "$(rows run/metrics.jsonl)" ] || fail "closed descriptors: $(head -3 closed/metrics.jsonl)"

# ---- a limit on the size of files is a failed write, not the end without a word ----
code=0
(
    ulimit -f 20
    exec "$rpo" train config.json --set run.dir=limited
) >log 2>&1 || code=$?
[ $code = 3 ] || fail "a file size limit: exit code $code, expected 3: $(cat log)"
expect_in "File too large" log
[ -z "$(ls -A limited/checkpoints)" ] || fail "a file size limit: $(ls -A limited/checkpoints)"

# ---- nohup's promise is kept ----
(
    trap '' HUP
    exec "$rpo" train config.json --set run.dir=nohup --set train.max_steps=400
) >log 2>&1 &
ignoring=$!
wait_for_rows 3 nohup/metrics.jsonl
kill -HUP $ignoring
sleep 0.2
kill -TERM $ignoring
code=0
wait $ignoring || code=$?
[ $code = 143 ] || fail "SIGHUP was ignored, SIGTERM was not: exit code $code: $(cat log)"
expect_in "stopped by SIGTERM" log

# ---- threads out of all reason ----
OMP_NUM_THREADS=100000 expect_code 0 log "$rpo" train config.json --set run.dir=threads --set run.threads=0 --set train.max_steps=1
expect_in "OMP_NUM_THREADS: asks for 100000 threads" log

echo "ok: test_run_folder"
