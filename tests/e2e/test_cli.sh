#!/usr/bin/env bash
# test_cli.sh - the frame of the rpo program: help, exit codes, one line on stderr, lost output.
set -euo pipefail

rpo="$RPO_BUILD/bin/rpo"
. "$RPO_SOURCE/tests/e2e/helpers.sh"

# expect CODE PATTERN ARGUMENTS...: the exit code, and a pattern of stdout (code 0) or of the one line on stderr.
expect() {
    local code="$1" pattern="$2" got=0
    shift 2
    "$rpo" "$@" >"$work/out" 2>"$work/err" || got=$?
    [ "$got" = "$code" ] || fail "rpo $*: exit code $got, expected $code: $(cat "$work/err")"
    if [ "$code" = 0 ]; then
        grep -q -- "$pattern" "$work/out" || fail "rpo $*: stdout lacks '$pattern'"
        [ ! -s "$work/err" ] || fail "rpo $*: stderr is not empty: $(cat "$work/err")"
    else
        [ "$(wc -l <"$work/err")" = 1 ] || fail "rpo $*: stderr is not one line: $(cat "$work/err")"
        grep -q -- "^rpo: .*$pattern" "$work/err" || fail "rpo $*: stderr lacks '$pattern': $(cat "$work/err")"
        [ ! -s "$work/out" ] || fail "rpo $*: stdout is not empty"
    fi
}

# ---- help ----
expect 0 'usage: rpo COMMAND'
expect 0 'usage: rpo COMMAND' --help
expect 0 'usage: rpo COMMAND' -h
expect 0 'usage: rpo COMMAND' help
expect 0 '^rpo [0-9]*\.[0-9]*\.[0-9]*$' --version
expect 0 'train\.batch_size' help config
for command in train eval preview embed loss logprob info; do
    expect 0 "^  $command " --help
    expect 0 "usage: rpo $command" help "$command"
    expect 0 "usage: rpo $command" "$command" --help
done
"$rpo" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p' | sort >"$work/listed"
printf '%s\n' embed eval info logprob loss preview train | cmp -s - "$work/listed" ||
    fail "rpo --help lists other commands: $(tr '\n' ' ' <"$work/listed")"
expect 0 '^  --resume  *continues the run' help train
expect 0 'loss\.beta  *scale of the log-ratios' help loss.beta
expect 0 'default 0.1, a number from 1e-06 to 1000000' help loss.beta
expect 0 'num_key_value_heads' help model.init
expect 0 'default 2048, an integer from 1' help model.init
expect 0 '130 (SIGINT) or 143 (SIGTERM)' --help
expect 0 'backends  *cpu' info

# No line of help is wider than 100 columns.
for topic in --help "help config" "help records" "help model.init" "help train" "help eval" "help preview" "help embed" "help loss" "help logprob"; do
    # shellcheck disable=SC2086 # words on purpose
    "$rpo" $topic | awk 'length > 100 { exit 1 }' || fail "rpo $topic has a line of more than 100 columns"
done

# The examples of rpo help records are records: each kind is read as it stands there.
example() { # NUMBER: that of the examples, on one line
    "$rpo" help records | awk -v number="$1" '/^  \{/ { open = 1; ++n } open && n == number { sub(/^ +/, ""); printf "%s ", $0 }
        /\}$/ { open = 0 } END { printf "\n" }'
}
for number in 1:pairs 2:hh 3:unpaired 4:pairs 5:pairs; do
    example "${number%%:*}" >"$work/example.jsonl"
    cat >"$work/example.json" <<JSON
{"model": {"path": "absent"}, "data": {"train": ["$work/example.jsonl"]}, "run": {"dir": "absent"}}
JSON
    expect 0 "${number##*:}" preview "$work/example.json"
done
expect 0 'Human: Hi!.*' preview "$work/example.json"
expect 0 'cJSON .*zlib .*xxHash' info

# ---- the user's mistakes: 2 ----
expect 2 'trian: no such command; did you mean rpo train?' trian
expect 2 'no such command; rpo --help lists them' something-else
expect 2 'no such command' help something-else
expect 2 'recods: no such command or topic; did you mean rpo help records?' help recods
expect 2 'loss.bta: no such command or topic; did you mean rpo help loss.beta?' help loss.bta
expect 2 'train: --resum: unknown option; did you mean --resume?' train c.json --resum
expect 2 'preview: --record: unknown option; did you mean --records?' preview c.json --record 3
expect 2 'preview: --records: is "many"; must be a whole number from 0 to 1000000' preview c.json --records many
expect 2 'loss: --device: is "gpu"; must be cpu or cuda' loss c.json --device gpu
expect 2 'train: b.json: unknown argument; usage: rpo train CONFIG.json' train a.json b.json
expect 2 'info: x: unknown argument' info x
for command in train eval preview embed loss logprob; do
    expect 2 "$command" "$command"
    expect 2 'No such file' "$command" "$work/absent.json"
    expect 2 "--nonsense" "$command" "$work/absent.json" --nonsense
done

cat >"$work/config.json" <<'JSON'
{
  "model": {"path": "absent"},
  "data": {"train": ["absent.jsonl"]},
  "loss": {"bta": 0.1},
  "run": {"dir": "absent"}
}
JSON
for command in train eval preview embed; do
    expect 2 "config.json:4: loss.bta: unknown key; did you mean loss.beta?" "$command" "$work/config.json"
done
sed -i 's/bta/beta/' "$work/config.json"
for command in train eval preview embed; do
    expect 2 '--set loss.beta=-1: loss.beta: is -1; must be' "$command" "$work/config.json" --set loss.beta=-1
    expect 2 '--set' "$command" "$work/config.json" --set
done

# ---- the machine: 3 ----
if "$rpo" info | grep -A2 '^ *cuda ' | grep -q 'training: float32'; then
    echo "skipped: this build trains with CUDA, so asking for it is no fault"
else
    expect 3 'run.device: is cuda' train "$work/config.json" --set run.device=cuda
fi
cat >"$work/case.json" <<'JSON'
{"kind": "logps", "vocab": 2, "lens": [1], "logits": [[0, 0]], "labels": [1], "coef": [1], "average": false}
JSON
expect 0 'sequence_logps' logprob "$work/case.json"
if "$rpo" info | grep -q '^ *cuda  *\(not in this build\|no usable device\)'; then
    expect 3 'cuda\|device' logprob "$work/case.json" --device cuda
else
    expect 0 'sequence_logps' logprob "$work/case.json" --device cuda
fi

# ---- lost output: 3 ----
if [ -w /dev/full ]; then
    for arguments in info --help "help config"; do
        code=0
        # shellcheck disable=SC2086 # words on purpose
        "$rpo" $arguments >/dev/full 2>"$work/err" || code=$?
        [ "$code" = 3 ] || fail "rpo $arguments into a full disk: exit code $code, expected 3"
        grep -q '^rpo: standard output: cannot be written: ' "$work/err" ||
            fail "rpo $arguments into a full disk: $(cat "$work/err")"
    done
fi
# The reader is gone before anything is written.
{
    sleep 0.3
    code=0
    "$rpo" help config 2>"$work/err" || code=$?
    echo "$code" >"$work/code"
} | true
[ "$(cat "$work/code")" = 3 ] || fail "rpo help config into a closed pipe: exit code $(cat "$work/code"), expected 3"
grep -q '^rpo: standard output: cannot be written: ' "$work/err" ||
    fail "rpo help config into a closed pipe: $(cat "$work/err")"

finish
