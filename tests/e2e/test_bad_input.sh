#!/usr/bin/env bash
# test_bad_input.sh - every fault of the user's input ends rpo train with exit code 2 and one line that names what is at
# fault; nothing half-written stays behind.
set -euo pipefail
source "$RPO_SOURCE/tests/e2e/train_helpers.sh"

make_pairs train.jsonl 12 0
make_pairs eval.jsonl 6 1000
write_config config.json
train() { "$rpo" train config.json --set train.max_steps=2 "$@"; }

# refused WHAT TEXT... -- COMMAND...: exit code 2, one line on stderr that holds every TEXT, no run left behind.
refused() {
    local what=$1 code=0 texts=()
    shift
    while [ "$1" != -- ]; do
        texts+=("$1")
        shift
    done
    shift
    "$@" >out 2>err || code=$?
    [ $code = 2 ] || fail "$what: exit code $code, expected 2: $(cat out err)"
    [ "$(wc -l <err)" = 1 ] || fail "$what: must be one line: $(cat err)"
    local text
    for text in "rpo: " "${texts[@]}"; do expect_in "$text" err; done
    for left in metrics.jsonl config.json log.txt checkpoints final; do
        [ ! -e "run/$left" ] || fail "$what: leaves run/$left behind"
    done
}

# ---- arguments and configuration ----
refused "no configuration" "CONFIG.json" -- "$rpo" train
refused "an unknown option" "--fast" -- "$rpo" train config.json --fast
refused "a missing configuration" "none.json" -- "$rpo" train none.json
config_with() { sed "$1" config.json >bad.json; }
config_with 's/"loss"/"losss"/'
refused "an unknown key" "bad.json:" "losss" "loss" -- "$rpo" train bad.json
config_with 's/"eval_every": 5/"eval_every": 5, "eval_every": 6/'
refused "a duplicate key" "bad.json:" "eval_every" -- "$rpo" train bad.json
config_with 's/"batch_size": 8/"batch_size": "8"/'
refused "a mistyped key" "bad.json:" "train.batch_size" -- "$rpo" train bad.json
config_with 's/"batch_size": 8/"batch_size": 0/'
refused "a key out of range" "bad.json:" "train.batch_size" -- "$rpo" train bad.json
config_with 's/1e-3/NaN/'
refused "NaN" "bad.json:" -- "$rpo" train bad.json
config_with '$s/$/ x/'
refused "trailing text" "bad.json:" -- "$rpo" train bad.json
refused "a bad override" "--set" "train.epochs" -- train --set train.epochs=many
refused "an unknown override" "train.epoch" "train.epochs" -- train --set train.epoch=2
refused "no training files" "data.train" -- train --set 'data.train=[]'
refused "a vocabulary too small" "259" "100" -- train --set 'model.init={"vocab_size": 100, "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4}'
refused "sequences longer than the model's positions" "data.max_length" "max_position_embeddings" -- train --set 'model.init={
    "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 16}'

# ---- data: each fault as the third line of the training file ----
bad_line() { # WHAT TEXT LINE (printf format)
    head -2 train.jsonl >bad.jsonl
    printf "$3\n" >>bad.jsonl
    tail -2 train.jsonl >>bad.jsonl
    refused "$1" "bad.jsonl:3:" "$2" -- train --set 'data.train=["bad.jsonl"]'
}
bad_line "broken JSON" "" '{"prompt": "a", "chosen": "b", "rejected": }'
bad_line "invalid UTF-8" "" '{"prompt": "\xff", "chosen": "b", "rejected": "c"}'
bad_line "a raw NUL" "" '{"prompt": "a\000", "chosen": "b", "rejected": "c"}'
bad_line "an escaped NUL" "" '{"prompt": "a\\u0000", "chosen": "b", "rejected": "c"}'
bad_line "a missing field" "rejected" '{"prompt": "a", "chosen": "b"}'
bad_line "an empty response" "rejected" '{"prompt": "a", "chosen": "b", "rejected": ""}'
bad_line "a mistyped field" "chosen" '{"prompt": "a", "chosen": 1, "rejected": "c"}'
bad_line "a duplicate field" "chosen" '{"prompt": "a", "chosen": "b", "chosen": "b", "rejected": "c"}'
bad_line "trailing text" "" '{"prompt": "a", "chosen": "b", "rejected": "c"} x'
printf '{"chosen": "abc", "rejected": "xyz"}\n' >bad.jsonl
refused "HH without a shared prefix" "bad.jsonl:1:" -- train --set 'data.train=["bad.jsonl"]' --set data.format=hh
{
    printf '{"prompt": "'
    head -c 100000000 /dev/zero | tr '\0' a
    printf '", "chosen": "b", "rejected": "c"}\n'
} >bad.jsonl
refused "a 100 MB line" "bad.jsonl:1:" -- train --set 'data.train=["bad.jsonl"]'
gzip -c train.jsonl | head -c 200 >bad.jsonl.gz
refused "truncated gzip" "bad.jsonl.gz" -- train --set 'data.train=["bad.jsonl.gz"]'
refused "a missing data file" "none.jsonl" -- train --set 'data.train=["none.jsonl"]'
: >empty.jsonl
refused "an empty data file" "" -- train --set 'data.train=["empty.jsonl"]'
printf '{"prompt": "a", "completion": "b", "label": true}\n' >one-class.jsonl
refused "one class alone" "label" -- train --set 'data.train=["one-class.jsonl"]' --set 'data.eval=[]' \
    --set loss.kind=rpo-unpaired
refused "unpaired data for a paired loss" "loss.kind" "rpo-unpaired" -- train --set 'data.train=["one-class.jsonl"]'

# CRLF, a byte order mark and blank lines are no faults; a bad record may be skipped where that is asked for.
{
    printf '\xef\xbb\xbf'
    sed 's/$/\r/' train.jsonl
    printf '\r\n'
} >crlf.jsonl
expect_code 0 log train --set run.dir=crlf --set 'data.train=["crlf.jsonl"]'
expect_in "data       12 pairs" log
{
    cat train.jsonl
    echo '{"prompt": "a"}'
} >some-bad.jsonl
expect_code 0 log train --set run.dir=skipped --set 'data.train=["some-bad.jsonl"]' --set data.on_bad_record=skip
expect_in "1 bad records skipped; the first: some-bad.jsonl:13:" log

# ---- models ----
expect_code 0 log train --set run.dir=good --set loss.kind=sft
from() { train --set model.init=null --set model.path="$1" "${@:2}"; }
refused "a missing model" "none" -- from none
damaged_model() { # WHAT TEXT COMMAND...: a copy of the model, changed by COMMAND in its folder
    local what=$1 text=$2
    shift 2
    rm -rf model
    cp -r good/final model
    (cd model && "$@")
    refused "$what" "model" "$text" -- from model
}
# header_length BYTES...: overwrites the 8 bytes of the header's length
header_length() { printf "$1" | dd of=model.safetensors conv=notrunc status=none; }
damaged_model "a header beyond the file" "safetensors" header_length '\xff\xff\xff\x7f\0\0\0\0'
damaged_model "a header beyond reason" "safetensors" header_length '\xff\xff\xff\xff\xff\xff\xff\xff'
damaged_model "a truncated file" "safetensors" truncate -s -100 model.safetensors
damaged_model "an empty file" "safetensors" truncate -s 0 model.safetensors
damaged_model "a missing file" "model" rm model.safetensors
damaged_model "a missing configuration" "config.json" rm config.json
damaged_model "a wrong dtype" "" sed -i '1s/"F32"/"I32"/' model.safetensors
damaged_model "a renamed tensor" "" sed -i '1s/"model.norm.weight"/"model.worm.weight"/' model.safetensors
damaged_model "another architecture" "model_type" sed -i 's/"llama"/"gpt2"/' config.json
damaged_model "another shape" "" sed -i 's/"intermediate_size": 64/"intermediate_size": 48/' config.json
refused "a missing reference" "none" -- train --set reference.path=none

# ---- tokenizers: wrong ids are never fed, to the policy or to the reference ----
other_tokenizer() { # WHAT TEXT COMMAND...: as damaged_model, and as the reference; bytes are fed where the user says so
    damaged_model "$@"
    refused "$1, as the reference" "model" "$2" -- train --set reference.path=model
    rm -rf bytes
    expect_code 0 log from model --set model.tokenizer=bytes --set loss.kind=sft --set run.dir=bytes
    expect_code 0 log from bytes/final --set loss.kind=sft --set run.dir=bytes-again
    rm -rf bytes-again
}
other_tokenizer "a foreign tokenizer.json" "tokenizer.json" eval 'echo {} >tokenizer.json'
other_tokenizer "a sentencepiece model" "tokenizer.model" touch tokenizer.model
other_tokenizer "another end of sequence" "eos_token_id: is 2" sed -i 's/"eos_token_id": 257/"eos_token_id": 2/' config.json
other_tokenizer "another class" "tokenizer_class" sed -i 's/PreTrainedTokenizerFast/ByT5Tokenizer/' tokenizer_config.json

# ---- embeddings ----
refused "a missing embedding file" "none.npy" -- train --set embedding.kind=file --set embedding.path=none.npy \
    --set embedding.eval_path=none.npy

# ---- the run folder ----
touch occupied
refused "a run folder that is a file" "occupied" -- train --set run.dir=occupied
refused "a run folder under a file" "occupied" -- train --set run.dir=occupied/run
refused "a run folder nobody may write to" "/proc/run" -- train --set run.dir=/proc/run
printf 'half' >run-note
mkdir -p run/cache
expect_code 0 log train # caches alone are no run
refused_again() {
    rm -rf kept
    cp -r run kept
    expect_code 2 log train
    expect_in "already holds a run" log
    diff -r run kept >/dev/null || fail "a refused start changed the run folder"
}
refused_again

# ---- altered checkpoints: none whole is left ----
for file in run/checkpoints/*/trainer_state.json; do truncate -s 10 "$file"; done
expect_code 0 log train --resume
expect_in "falling back to the beginning" log
expect_in "holds no checkpoint; starting from the beginning" log
[ "$(rows run/metrics.jsonl)" = "$(rows kept/metrics.jsonl)" ] || fail "the run from the beginning differs"

# Metrics shorter than the checkpoint says: the history is gone, and going on would hide that, unless the user agrees.
: >run/metrics.jsonl
expect_code 2 log train --resume
expect_in "run/metrics.jsonl: " log
expect_in "put the file back, or remove it to resume without the rows so far" log
rm run/metrics.jsonl
expect_code 0 log train --set train.max_steps=3 --resume
expect_in "run/metrics.jsonl is gone: it begins anew" log
grep -q '"step": 3,' run/metrics.jsonl || fail "no row of the step after: $(cat run/metrics.jsonl)"
! grep -q '"step": 1,' run/metrics.jsonl || fail "a row that was gone"

echo "ok: test_bad_input"
