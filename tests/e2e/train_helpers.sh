# train_helpers.sh - tiny data, a tiny configuration and checks for the trainer's end-to-end tests. Sourced.

rpo="$RPO_BUILD/bin/rpo"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export RPO_CACHE=$work/shared-cache # nobody else's, and gone with the test
export OMP_WAIT_POLICY=passive # threads that wait must not starve those that work on a busy machine

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# make_pairs FILE COUNT FIRST: preference pairs over a few topics, of ragged lengths.
make_pairs() {
    awk -v count="$2" -v first="$3" 'BEGIN {
        split("the sea,old bridges,tea,a long walk home", topic, ",")
        for (i = first; i < first + count; ++i) {
            answer = ""
            for (k = 0; k < i % 5; ++k) answer = answer " Surely."
            printf "{\"prompt\": \"Tell me of %s, part %d.\", \"chosen\": \"Yes, gladly %d.%s\", \"rejected\": \"No %d!\"}\n",
                topic[i % 4 + 1], i, i, answer, i * 7
        }
    }' >"$1"
}

# make_unpaired FILE COUNT FIRST: every third record is a bad answer.
make_unpaired() {
    awk -v count="$2" -v first="$3" 'BEGIN {
        for (i = first; i < first + count; ++i)
            printf "{\"prompt\": \"Question %d?\", \"completion\": \"%s %d.\", \"label\": %s}\n",
                i, i % 3 == 0 ? "No" : "Yes, gladly", i, i % 3 == 0 ? "false" : "true"
    }' >"$1"
}

# write_config FILE: the tiny run; tests change keys with --set.
write_config() {
    cat >"$1" <<'JSON'
{
  "model": {
    "init": {
      "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": true
    }
  },
  "data": { "train": ["train.jsonl"], "eval": ["eval.jsonl"], "max_length": 128, "max_prompt_length": 64 },
  "loss": { "kind": "rpo-paired", "contrast_block": 4 },
  "train": {
    "batch_size": 8, "optimizer": "adamw", "learning_rate": 1e-3, "warmup_steps": 5, "max_steps": 12,
    "eval_every": 5, "save_every": 3, "keep_checkpoints": 2
  },
  "run": { "dir": "run", "threads": 1 }
}
JSON
}

# expect_code CODE LOG COMMAND...: runs it, its output in LOG, and checks the exit code.
expect_code() {
    local expected=$1 log=$2 code=0
    shift 2
    "$@" >"$log" 2>&1 || code=$?
    [ "$code" = "$expected" ] || fail "exit code $code, expected $expected: $*
$(cat "$log")"
}

expect_in() { # TEXT FILE
    grep -qF -- "$1" "$2" || fail "\"$1\" is not in $2:
$(cat "$2")"
}

# rows FILE: metrics without the wall-clock fields.
rows() {
    sed -E 's/"((eval_)?(seconds|tokens_per_second)|time)": [^,}]*[,]? ?//g' "$1"
}

# value KEY FILE: the last row's figure of that name.
value() {
    grep -F "\"$1\": " "$2" | tail -1 | sed -E "s|.*\"$1\": ([^,}]*).*|\1|"
}
