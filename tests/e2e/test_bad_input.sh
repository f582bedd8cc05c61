#!/usr/bin/env bash
# test_bad_input.sh - every fault of the user's input ends rpo train with exit code 2 and one line that names what is at
# fault (bad_input.tsv, to the letter); nothing half-written stays behind.
set -euo pipefail
source "$RPO_SOURCE/tests/e2e/train_helpers.sh"

make_pairs train.jsonl 12 0
make_pairs eval.jsonl 6 1000
write_config config.json
train() { "$rpo" train config.json --set train.max_steps=2 "$@"; }
expect_code 0 log train --set run.dir=good --set loss.kind=sft

# ---- what the table's rows are prepared with; each has a folder of its own ----
config_with() { sed "$1" config.json >bad.json; }
init() { # KEY VALUE: the model of config.json with one key changed
    local all='{"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}'
    printf 'model.init=%s' "$all" | tr -s '\n ' ' ' | sed -E "s/(\"$1\": )[0-9]+/\\1$2/"
}
bad_line() { # LINE (printf format): the third of a data file
    head -2 train.jsonl >bad.jsonl
    printf "$1\n" >>bad.jsonl
    tail -2 train.jsonl >>bad.jsonl
}
long_line() { # of 100 MB
    printf '{"prompt": "'
    head -c 100000000 /dev/zero | tr '\0' a
    printf '", "chosen": "b", "rejected": "c"}\n'
}
model() { # COMMAND...: a copy of a model, changed by COMMAND in its folder
    cp -r "$work/good/final" model
    (cd model && "$@")
}
header_length() { printf "$1" | dd of=model.safetensors conv=notrunc status=none; } # BYTES: the first 8 of the file
pipe_for() { rm "$1" && mkfifo "$1"; }

# check_row WHAT CODE PREPARE ARGUMENTS LINE
check_row() {
    local code=0 left
    mkdir row
    cp config.json train.jsonl eval.jsonl row
    cd row
    [ "$3" = - ] || eval "$3"
    eval "timeout -s KILL 120 $rpo $4" >out 2>err || code=$?
    [ "$code" = "$2" ] || fail "$1: exit code $code, expected $2: $(cat out err)"
    [ "$(cat err)" = "$5" ] || fail "$1: stderr must be
$5
and is
$(cat err)"
    for left in metrics.jsonl config.json log.txt checkpoints final; do
        [ ! -e "run/$left" ] || fail "$1: leaves run/$left behind"
    done
    cd ..
    rm -r row
}

rows_checked=0
while IFS= read -r row; do
    case $row in '#'* | '') continue ;; esac
    mapfile -t -d $'\t' columns < <(printf '%s' "$row")
    [ ${#columns[@]} = 5 ] || fail "bad_input.tsv: ${#columns[@]} columns, expected 5: $row"
    check_row "${columns[@]}"
    rows_checked=$((rows_checked + 1))
done <"$RPO_SOURCE/tests/e2e/bad_input.tsv"

# ---- what is no fault ----
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

# ---- the run folder ----
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

echo "ok: test_bad_input ($rows_checked rows)"
