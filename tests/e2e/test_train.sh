#!/usr/bin/env bash
# test_train.sh - whole runs on tiny data: every loss, the run folder, metrics, stopping, resuming, evaluating.
set -euo pipefail
source "$RPO_SOURCE/tests/e2e/train_helpers.sh"

make_pairs train.jsonl 60 0
make_pairs eval.jsonl 18 1000
make_unpaired train-unpaired.jsonl 60 0
make_unpaired eval-unpaired.jsonl 24 1000
write_config config.json

# ---- every loss learns what its data prefers ----
check_run() { # FOLDER KIND
    local metrics=$1/metrics.jsonl key
    [ "$(grep -c '"loss"' "$metrics")" = 12 ] || fail "$2: not 12 training rows: $(cat "$metrics")"
    [ "$(grep -c '"eval_loss"' "$metrics")" = 4 ] || fail "$2: evaluations must be at steps 0, 5, 10, 12"
    for key in step epoch loss logps/chosen grad_norm learning_rate tokens seconds tokens_per_second; do
        [ "$(grep -cF "\"$key\": " "$metrics")" -ge 12 ] || fail "$2: $key is not in every row"
    done
    for file in config.json log.txt final/config.json final/model.safetensors checkpoints/step-12/checksums; do
        [ -s "$1/$file" ] || fail "$2: $1/$file is missing"
    done
    [ "$(ls "$1/checkpoints")" = "step-12
step-9" ] || fail "$2: must keep two checkpoints, has $(ls "$1/checkpoints")"
    local first last
    first=$(grep -F '"eval_loss": ' "$metrics" | head -1 | sed -E 's|.*"eval_loss": ([^,}]*).*|\1|')
    last=$(value eval_loss "$metrics")
    awk -v a="$first" -v b="$last" 'BEGIN { exit !(b + 0 < a + 0) }' ||
        fail "$2: held-out loss did not fall: $first to $last"
}

for kind in rpo-paired rpo-unpaired rpo-uniform rpo-diagonal dpo cdpo ipo kto-simple sft; do
    expect_code 0 log "$rpo" train config.json --set loss.kind=$kind --set run.dir=run-$kind
    check_run run-$kind $kind
    expect_in "held out" log
    expect_in "run-$kind/final" log
    ! grep -q "warning" log || fail "$kind: a healthy run is warned of: $(grep warning log)"
    case $kind in
    sft) ! grep -q rewards run-sft/metrics.jsonl || fail "sft: has no rewards" ;;
    *)
        for key in rewards/chosen rewards/rejected rewards/accuracies rewards/margins logps/rejected; do
            [ "$(grep -cF "\"$key\": " run-$kind/metrics.jsonl)" = 12 ] || fail "$kind: $key is not in every row"
            [ "$(grep -cF "\"eval_$key\": " run-$kind/metrics.jsonl)" = 4 ] || fail "$kind: eval_$key is missing"
        done
        [ "$(value eval_rewards/accuracies run-$kind/metrics.jsonl)" != 0 ] || fail "$kind: no pair is won"
        ;;
    esac
done
for kind in rpo-unpaired kto-simple sft; do
    expect_code 0 log "$rpo" train config.json --set loss.kind=$kind --set run.dir=unpaired-$kind \
        --set 'data.train=["train-unpaired.jsonl"]' --set 'data.eval=["eval-unpaired.jsonl"]' --set train.max_steps=12
    check_run unpaired-$kind $kind
done
expect_code 2 log "$rpo" train config.json --set run.dir=nothing --set 'data.train=["train-unpaired.jsonl"]'
expect_in "loss.kind" log
expect_in "rpo-unpaired" log

# Blocks of two unpaired records are often all of one class: counted, and no reason to stop.
expect_code 0 log "$rpo" train config.json --set loss.kind=rpo-unpaired --set run.dir=sparse --set loss.contrast_block=1 \
    --set 'data.train=["train-unpaired.jsonl"]' --set 'data.eval=["eval-unpaired.jsonl"]'
expect_in '"empty_blocks": ' sparse/metrics.jsonl
expect_in '"eval_empty_blocks": ' sparse/metrics.jsonl

# ---- the first step's loss is what theory says ----
for pair in rpo-paired:0.6931471 dpo:0.6931471 cdpo:0.6931471 ipo:25 kto-simple:0.5; do
    kind=${pair%%:*}
    awk -v got="$(grep '"loss"' run-$kind/metrics.jsonl | head -1 | sed -E 's/.*"loss": ([^,]*).*/\1/')" \
        -v want="${pair##*:}" 'BEGIN { d = got / want - 1; exit !(d < 1e-4 && d > -1e-4) }' ||
        fail "$kind: loss of the first step"
done

# ---- neither micro-batches nor threads change the run (rounding aside) ----
for change in train.micro_batch_tokens=1 train.micro_batch_tokens=200 train.micro_batch_tokens=400 run.threads=2; do
    expect_code 0 log "$rpo" train config.json --set run.dir="changed-$change" --set $change
    for key in loss grad_norm eval_loss; do
        awk -v a="$(value $key run-rpo-paired/metrics.jsonl)" -v b="$(value $key changed-$change/metrics.jsonl)" \
            'BEGIN { d = a - b; exit !(d < 1e-4 * a && d > -1e-4 * a) }' ||
            fail "$change changes $key to $(value $key changed-$change/metrics.jsonl)"
    done
done

# ---- the same run twice is the same run ----
expect_code 0 log "$rpo" train config.json --set run.dir=again
[ "$(rows run-rpo-paired/metrics.jsonl)" = "$(rows again/metrics.jsonl)" ] || fail "two runs differ"
cmp run-rpo-paired/final/model.safetensors again/final/model.safetensors || fail "two runs end in different models"

# ---- the run says where it comes from: in config.json, which still is the configuration, and in log.txt ----
version=$("$rpo" --version | cut -d' ' -f2)
commit=unknown
[ "$(git -C "$RPO_SOURCE" rev-parse --show-toplevel 2>/dev/null)" != "$(realpath "$RPO_SOURCE")" ] ||
    commit=$(git -C "$RPO_SOURCE" rev-parse HEAD)
expect_in "$("$rpo" info | sed -n 's/^commit  *//p')" again/config.json
[ "$("$rpo" info | sed -n 's/^commit  *//p')" = "$commit" ] || fail "rpo info: the commit is not $commit"
python3 - again/config.json "$version" "$commit" <<'PY' || fail "the record in config.json: $(tail -5 again/config.json)"
import json, re, sys
path, version, commit = sys.argv[1:]
records = json.load(open(path))["run_record"]
assert len(records) == 1, records
record = records[0]
assert (record["version"], record["commit"]) == (version, commit), record
assert record["command"] == "rpo train config.json --set run.dir=again", record
assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["date"]), record
assert record["machine"]["cpu"] and record["machine"]["os"], record
assert record["machine"]["cores"] >= 1 and record["machine"]["threads"] == 1, record
PY
expect_in "record     rpo $version, commit $commit, 20" again/log.txt
expect_in "command    rpo train config.json --set run.dir=again" again/log.txt
expect_in "machine    " again/log.txt
[ "$(grep -cE '"time": "[0-9-]{10}T[0-9:]{8}Z"\}$' again/metrics.jsonl)" = 16 ] || fail "not every row has its time"
expect_code 0 log "$rpo" train again/config.json --set run.dir=from-config
cmp again/final/model.safetensors from-config/final/model.safetensors || fail "a run's config.json gives another run"

# ---- a run folder is not run over ----
expect_code 2 log "$rpo" train config.json --set run.dir=again
expect_in "again already holds a run" log
expect_in "--resume" log

# ---- resume: complete, longer, changed, without a checkpoint ----
expect_code 0 log "$rpo" train config.json --set run.dir=again --resume
expect_in "resume     from again/checkpoints/step-12" log
[ "$(rows run-rpo-paired/metrics.jsonl)" = "$(rows again/metrics.jsonl)" ] || fail "resuming a complete run changed it"
expect_code 0 log "$rpo" train config.json --set run.dir=again --set train.max_steps=14 --resume
[ "$(value step again/metrics.jsonl)" = 14 ] || fail "a longer schedule must go on to step 14"
expect_code 0 log "$rpo" train config.json --set run.dir=again --set train.max_steps=15 \
    --set train.micro_batch_tokens=200 --set train.eval_every=0 --resume
[ "$(value step again/metrics.jsonl)" = 15 ] || fail "packing and evaluations may change when a run goes on"
for change in train.learning_rate=2e-3:train.learning_rate loss.beta=0.2:loss.beta loss.kind=dpo:loss.kind \
    data.max_length=100:data.max_length run.seed=2:run.seed train.batch_size=4:train.batch_size; do
    expect_code 2 log "$rpo" train config.json --set run.dir=again --resume --set "${change%%:*}"
    expect_in "${change##*:}: is " log
    expect_in "began with" log
done
cp train.jsonl saved.jsonl
sed -i 's/gladly 17/gladly 71/' train.jsonl
expect_code 2 log "$rpo" train config.json --set run.dir=again --set train.max_steps=15 --resume
expect_in "data.train: its records" log
mv saved.jsonl train.jsonl
expect_code 0 log "$rpo" train config.json --set run.dir=fresh --resume
expect_in "fresh holds no checkpoint; starting from the beginning" log
cmp run-rpo-paired/final/model.safetensors fresh/final/model.safetensors || fail "--resume in a fresh folder differs"

[ "$(grep -c '"version":' again/config.json)" = 4 ] || fail "not one record a process: $(tail -8 again/config.json)"

# ---- a damaged checkpoint: the one before is used, and said to be ----
cp -r run-rpo-paired damaged
printf 'x' | dd of=damaged/checkpoints/step-12/model.safetensors bs=1 seek=5000 conv=notrunc status=none
expect_code 0 log "$rpo" train config.json --set run.dir=damaged --resume
expect_in "step-12/model.safetensors: differs from its checksum; falling back to the checkpoint of step 9" log
expect_in "resume     from damaged/checkpoints/step-9" log
[ "$(rows run-rpo-paired/metrics.jsonl)" = "$(rows damaged/metrics.jsonl)" ] || fail "the run after the fallback differs"
cmp run-rpo-paired/final/model.safetensors damaged/final/model.safetensors || fail "fallback ends in another model"

# ---- the reference cache: used, and rebuilt from the original start when it is gone ----
expect_in "log-probs computed" run-rpo-paired/log.txt
expect_in "log-probs from the cache" damaged/log.txt
cp -r run-rpo-paired uncached
rm -r "$RPO_CACHE" uncached/cache uncached/checkpoints/step-12
expect_code 0 log "$rpo" train config.json --set run.dir=uncached --resume
expect_in "log-probs computed" log
[ "$(rows run-rpo-paired/metrics.jsonl)" = "$(rows uncached/metrics.jsonl)" ] || fail "a rebuilt reference differs"

# ---- signals: the step is finished, saved, and the rest is what it would have been ----
for signal in TERM:143 INT:130 HUP:143; do
    folder=signal-${signal%%:*}
    mkdir "$folder"
    # A job started with & in a script ignores SIGINT; set -m gives it the default back.
    set -m
    "$rpo" train config.json --set run.dir="$folder" --set train.max_steps=4000 --set train.save_every=0 >log 2>&1 &
    pid=$!
    set +m
    for _ in $(seq 600); do
        [ "$(grep -c '"loss"' "$folder/metrics.jsonl" 2>/dev/null || true)" -ge 3 ] 2>/dev/null && break
        sleep 0.05
    done
    expect_code 2 log2 "$rpo" train config.json --set run.dir="$folder" --set train.max_steps=4000 --set train.save_every=0 --resume
    expect_in "is in use by another process" log2
    kill -"${signal%%:*}" $pid
    code=0
    wait $pid || code=$?
    [ $code = "${signal##*:}" ] || fail "SIG${signal%%:*}: exit code $code: $(cat log)"
    expect_in "stopped by SIG${signal%%:*}" log
    step=$(value step "$folder/metrics.jsonl")
    [ -s "$folder/checkpoints/step-$step/checksums" ] || fail "SIG${signal%%:*}: step $step was not saved"
    expect_code 0 log "$rpo" train config.json --set run.dir="$folder" --set train.max_steps=$((step + 3)) --resume
    expect_code 0 log "$rpo" train config.json --set run.dir="$folder-whole" --set train.max_steps=$((step + 3))
    [ "$(rows "$folder/metrics.jsonl")" = "$(rows "$folder-whole/metrics.jsonl")" ] ||
        fail "SIG${signal%%:*}: the resumed run differs from one that was not stopped"
done

# ---- the disk fills while a checkpoint is written: the one before survives, nothing half-written stays ----
cp -r run-rpo-paired full
code=0
(
    trap '' XFSZ
    ulimit -f 100
    exec "$rpo" train config.json --set run.dir=full --set train.max_steps=20 --resume
) >log 2>&1 || code=$?
[ $code = 3 ] || fail "a write that fails must exit with 3, not $code: $(cat log)"
[ "$(ls -A full/checkpoints)" = "step-12
step-9" ] || fail "after a failed save: $(ls -A full/checkpoints)"
expect_code 0 log "$rpo" train config.json --set run.dir=full --set train.max_steps=20 --resume

# ---- another reference; training goes on from a trained model ----
expect_code 0 log "$rpo" train config.json --set model.init=null --set model.path=run-sft/final --set run.dir=after-sft
expect_code 0 log "$rpo" train config.json --set reference.path=run-sft/final --set run.dir=other-reference
expect_in "reference  run-sft/final" log

# ---- a run that goes wrong: one word, once, for each sign of it ----
expect_code 0 log "$rpo" train config.json --set loss.kind=dpo --set run.dir=forgets --set train.max_steps=60 \
    --set train.optimizer=rmsprop --set train.learning_rate=1
[ "$(grep -c "warning: step [0-9]*: .*, chosen responses have lost [0-9.]* nats a token since the start" log)" = 1 ] ||
    fail "chosen responses are forgotten: $(cat log)"
expect_in "(chosen responses became less likely, rejected ones even less:" log
expect_in "warning: step" forgets/log.txt
sed 's/"chosen"/"other"/;s/"rejected"/"chosen"/;s/"other"/"rejected"/' eval.jsonl >swapped.jsonl
expect_code 0 log "$rpo" train config.json --set run.dir=opposite --set data.eval=swapped.jsonl
[ "$(grep -c "warning: step 5: held out, the reward accuracy is 0.0 %, below the 50.0 % of guessing" log)" = 1 ] ||
    fail "swapped responses are not noticed: $(cat log)"
[ "$(grep -c warning log)" = 1 ] || fail "warned of more than once: $(cat log)"

# ---- a run that diverges stops and says so ----
# A decay of 100 at a rate of 100 multiplies every weight by about -10,000 a step.
expect_code 3 log "$rpo" train config.json --set run.dir=diverged --set train.learning_rate=100 \
    --set train.warmup_steps=0 --set train.max_steps=200 --set train.weight_decay=100
expect_in "is skipped (1 in a row" log
expect_in "not finite 5 times in a row" log
[ ! -e diverged/final ] || fail "a run that diverged has no final model"

# ---- a model that nothing was trained into, or that the last steps could not use, is no result ----
cp -r run-sft/final huge
python3 - huge/model.safetensors <<'PY' # every weight 1e30
import struct, sys
data = open(sys.argv[1], "rb").read()
start = 8 + struct.unpack("<Q", data[:8])[0]
open(sys.argv[1], "wb").write(data[:start] + struct.pack("<f", 1e30) * ((len(data) - start) // 4))
PY
expect_code 3 log "$rpo" train config.json --set model.init=null --set model.path=huge --set train.max_steps=4 \
    --set 'data.eval=[]' --set run.dir=nothing-trained
expect_in "the last 4 of 4 steps were skipped" log
expect_in "nothing was trained" log
[ ! -e nothing-trained/final ] || fail "nothing was trained: there must be no final model"

# ---- without held-out data ----
expect_code 0 log "$rpo" train config.json --set 'data.eval=[]' --set run.dir=no-eval
expect_in "training batch (first, last)" log
! grep -q eval_ no-eval/metrics.jsonl || fail "no held-out data, no eval rows"

# ---- rpo eval ----
"$rpo" eval config.json --set model.init=null --set model.path=run-rpo-paired/final >eval.json 2>table
[ "$(wc -l <eval.json)" = 1 ] || fail "rpo eval prints one line: $(cat eval.json)"
expect_in '"eval_rewards/margins": 0,' eval.json
expect_in "reward accuracy" table
# Against where training began: the closing figures again.
"$rpo" train config.json --set run.dir=start --set train.max_steps=1 --set train.learning_rate=0 >log 2>&1
"$rpo" eval config.json --set model.init=null --set model.path=run-rpo-paired/final \
    --set reference.path=start/final >eval.json 2>table
for key in eval_loss eval_rewards/accuracies eval_rewards/margins eval_logps/chosen; do
    [ "$(value $key eval.json)" = "$(value $key run-rpo-paired/metrics.jsonl)" ] ||
        fail "rpo eval: $key is $(value $key eval.json), the run said $(value $key run-rpo-paired/metrics.jsonl)"
done
# A run folder: its final model against what it began with, whatever that was. The run's last evaluation again, digit for digit.
same_as_run() { # WHAT FOLDER
    local key
    for key in $(grep -o '"eval_[a-z/]*": ' "$2/metrics.jsonl" | sort -u | tr -d '": ' | grep -v 'seconds\|per'); do
        [ "$(sed 's/, "files".*//' eval.json | tee one.json | wc -l)" = 1 ] || fail "$1: not one line"
        [ "$(value "$key" one.json)" = "$(value "$key" "$2/metrics.jsonl")" ] ||
            fail "$1: $key is $(value "$key" one.json), the run said $(value "$key" "$2/metrics.jsonl")"
    done
}
eval_run() { "$rpo" eval "$@" >eval.json 2>table || fail "rpo eval $*: $(cat table)"; }
for folder in run-rpo-paired run-dpo run-sft after-sft other-reference unpaired-kto-simple; do
    eval_run $folder
    same_as_run "rpo eval $folder" $folder
done
expect_in '"files": {"eval-unpaired.jsonl": {"records": 24, "eval_loss": ' eval.json
eval_run run-rpo-paired
expect_in "reference  the fresh model that the run began with" table
eval_run after-sft
expect_in "reference  run-sft/final" table
cp -r after-sft moved
eval_run moved/
same_as_run "a moved run" after-sft

# Several files: each as if it were alone, and all together as the run evaluated them.
make_pairs more.jsonl 10 2000
expect_code 0 log "$rpo" train config.json --set run.dir=two-files --set 'data.eval=["eval.jsonl", "more.jsonl"]'
eval_run two-files
same_as_run "two files" two-files
cp eval.json both.json
cp table both
for file in eval more; do
    eval_run two-files --set data.eval=$file.jsonl
    alone=$(sed -E "s|.*\"files\": (.*)}|\1|" eval.json)
    grep -qF -- "${alone:1:-1}" both.json || fail "$file.jsonl beside another file is not $alone: $(cat both.json)"
    grep -q "^  $file.jsonl  *[0-9.]*  *[0-9.]* %  *[-0-9.]*  *[-0-9.]*\$" both || fail "no line for $file.jsonl: $(cat both)"
done
grep -q '^  held out  *loss  *reward accuracy  *reward margin  *log-prob of chosen$' both || fail "no head: $(cat both)"
grep -q '^  together  *[0-9.]* ' both || fail "no line for both together: $(cat both)"
awk 'length > 100 { exit 1 }' both || fail "a line of more than 100 columns: $(cat both)"
eval_run two-files --set 'data.eval=["more.jsonl", "eval.jsonl", "more.jsonl"]'
python3 -c 'import json; assert list(json.load(open("eval.json"))["files"]) == ["more.jsonl", "eval.jsonl"]' ||
    fail "a file that is named twice: $(cat eval.json)"

# What cannot be evaluated so is refused.
expect_code 2 log "$rpo" eval run-rpo-paired --set model.path=run-sft/final
expect_in "model.path: a run folder has its model" log
expect_code 2 log "$rpo" eval run-rpo-paired/final/.. --set loss.bta=1
expect_in "did you mean loss.beta" log
mkdir no-run
expect_code 2 log "$rpo" eval no-run
expect_in "no-run: is no run folder" log
cp run-rpo-paired/config.json no-run
expect_code 2 log "$rpo" eval no-run
expect_in "no-run/final: is missing, so the run has not ended" log
cp -r run-sft saved-sft
printf 'x' | dd of=run-sft/final/model.safetensors bs=1 seek=5000 conv=notrunc status=none
expect_code 2 log "$rpo" eval after-sft
expect_in "model.path: its weights are not those the run in after-sft had as its reference" log
eval_run after-sft --set reference.path=saved-sft/final
same_as_run "the reference named anew" after-sft

expect_code 2 log "$rpo" eval config.json --set 'data.eval=[]'
expect_in "data.eval" log

echo "ok: test_train"
