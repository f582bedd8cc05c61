#!/usr/bin/env bash
# test_preview.sh - `rpo preview`: what it shows, that it fits a terminal, and how it answers bad input.
set -euo pipefail

rpo="$RPO_BUILD/bin/rpo"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
export LC_ALL=C.UTF-8

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# write_config FILE DATA [VOCAB_SIZE [EXTRA_DATA_KEYS]]
write_config() {
    cat > "$1" << END
{
  "model": {
    "init": {
      "vocab_size": ${3:-259},
      "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
      "num_attention_heads": 2, "num_key_value_heads": 2
    }
  },
  "data": { "train": ["$2"]${4:-} },
  "run": { "dir": "$work/run" }
}
END
}

# expect_fault TEXT ARGUMENTS...: exit code 2 and one line on stderr that holds TEXT
expect_fault() {
    local text="$1" code=0
    shift
    "$rpo" preview "$@" > out.txt 2> err.txt || code=$?
    [ "$code" -eq 2 ] || fail "exit code $code instead of 2 for: $*"
    [ "$(wc -l < err.txt)" -eq 1 ] || fail "stderr is not one line: $(cat err.txt)"
    grep -qF -- "$text" err.txt || fail "\"$text\" is not in: $(cat err.txt)"
    grep -q '^rpo: ' err.txt || fail "no \"rpo: \" in front: $(cat err.txt)"
}

# --- pairs: counts, masks, escapes ---
cat > pairs.jsonl << 'END'
{"prompt": "Where do \u001bcats\u0007 sleep?", "chosen": " In the\n sun.", "rejected": " No."}

{"prompt": "Who built the tall tower?", "chosen": " A king.", "rejected": " A king."}
{"prompt": "Where do small cats sleep at night?", "chosen": " Near\u202e you, 東京.", "rejected": " Go."}
END
write_config pairs.json pairs.jsonl
"$rpo" preview pairs.json --records 1 > one.txt
"$rpo" preview pairs.json --records 7 > all.txt
grep -q '^data.train  3 paired records' all.txt || fail "no record count"
grep -Eq '^  pairs +pairs.jsonl$' all.txt || fail "no format"
grep -Eq '^  chosen = rejected +1$' all.txt || fail "duplicates are not counted"
grep -Eq '^  blank lines +1$' all.txt || fail "blank lines are not counted"
[ "$(grep -c '^record ' one.txt)" -eq 1 ] || fail "--records 1 shows another number"
[ "$(grep -c '^record ' all.txt)" -eq 3 ] || fail "--records 7 of 3 does not show 3"
grep -q 'chosen: 37 tokens = 23 prompt + 14 labels' one.txt ||
    fail "lengths: $(grep 'chosen:' one.txt)"
grep -qF '\x1bcats\x07' all.txt || fail "control bytes are not escaped"
grep -qF 'Near\u202e you' all.txt || fail "direction marks are not escaped"
if grep -q $'[\x01-\x09\x0b-\x1f\x7f]' all.txt; then fail "a control byte reached the output"; fi
# The rejected side: <bos>, 20 characters and two escapes of four columns; then " No." and <eos>.
grep -qE '^    \.{33}\^{9}$' one.txt || fail "mask: $(grep '\^' one.txt)"
grep -q 'nearest prompts' one.txt || fail "no neighbours"
grep -m1 -A1 'nearest prompts' one.txt | grep -q 'record       2  Where do small cats' || fail "wrong neighbour"
grep -q 'contrast block in epoch 0  3 chosen x 3 rejected' one.txt || fail "no contrast block"
awk '/contrast block/ { on = 1; next } on { gsub(/[0-9]+:/, ""); gsub(/\*/, ""); for (i = 1; i <= NF; ++i) sum += $i }
     END { exit !(sum > 0.9995 && sum < 1.0005) }' one.txt || fail "the weights do not sum to 1"
if grep -E '^.{101,}$' all.txt; then fail "a line is wider than 100 columns"; fi
[ ! -e run ] || fail "preview created the run folder"

# --- unpaired, skipping, truncation ---
cat > unpaired.jsonl << 'END'
{"prompt": "Is water wet?", "completion": " Yes.", "label": true}
{"prompt": "Is water wet?", "completion": "", "label": true}
{"prompt": "Is the desert a dry place?", "completion": " A long answer that is cut.", "label": false}
END
write_config unpaired.json unpaired.jsonl 259 ', "max_length": 24, "max_prompt_length": 10'
expect_fault 'unpaired.jsonl:2: completion: the response is empty' unpaired.json
"$rpo" preview unpaired.json --set data.on_bad_record=skip > out.txt
grep -q '^data.train  2 unpaired records' out.txt || fail "unpaired records are not counted"
grep -Eq '^  skipped records +1$' out.txt || fail "skipped records are not counted"
grep -q 'first: unpaired.jsonl:2: completion' out.txt || fail "the first skipped record is not quoted"
grep -q 'rejected: 24 tokens = 10 prompt + 14 labels; cut: prompt 17 (its start), response 14' out.txt ||
    fail "truncation: $(grep 'rejected:' out.txt)"

# --- bad input ---
write_config small.json pairs.jsonl 258
expect_fault 'model.init.vocab_size: is 258; must be at least 259' small.json
write_config absent.json absent.jsonl
expect_fault 'absent.jsonl: cannot be opened' absent.json
printf '{"prompt": "a", "chosen": "b"\n' > broken.jsonl
write_config broken.json broken.jsonl
expect_fault 'broken.jsonl:1: ' broken.json
printf '{"chosen": "\\n\\nHuman: a\\n\\nAssistant: b", "rejected": "\\n\\nHuman: c\\n\\nAssistant: d"}\n' > hh.jsonl
write_config hh.json hh.jsonl
expect_fault 'hh.jsonl:1: rejected: shares no prompt with chosen' hh.json
gzip -c pairs.jsonl | head -c 60 > cut.jsonl.gz
write_config cut.json cut.jsonl.gz
expect_fault 'cut.jsonl.gz:1: gzip: the stream is cut short' cut.json
expect_fault '--records: is "-1"' pairs.json --records -1
expect_fault '--records: is "2x"' pairs.json --records 2x
expect_fault '--records: is the last argument' pairs.json --records
expect_fault 'preview: --more: unknown option; usage: rpo preview CONFIG.json' pairs.json --more
expect_fault 'preview: CONFIG.json: is missing'

# --- real data ---
hh="$RPO_SHARED/data/hh-harmless-train.jsonl.gz"
if [ -r "$hh" ]; then
    ln -s "$hh" hh-train.jsonl.gz
    write_config real.json hh-train.jsonl.gz
    "$rpo" preview real.json --records 20 > out.txt
    lines="$(zcat "$hh" | wc -l)"
    shown="$(sed -n 's/^data.train  \([0-9,]*\) paired records$/\1/p' out.txt | tr -d ,)"
    [ "$shown" = "$lines" ] || fail "$shown records of $lines lines"
    if grep -E '^.{101,}$' out.txt; then fail "a line is wider than 100 columns"; fi
else
    echo "skipped: $hh is not there"
fi
echo "preview: all as expected"
