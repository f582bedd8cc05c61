#!/usr/bin/env bash
# test_cmd_logprob.sh - `rpo logprob` on good and bad cases: values, exit codes, one line on stderr.
set -euo pipefail

rpo="$RPO_BUILD/bin/rpo"
. "$RPO_SOURCE/tests/e2e/helpers.sh"

# A case that is right; the faults below are edits of it.
good='{"kind": "logps", "vocab": 3, "lens": [2, 1], "average": false,
 "logits": [[1, 2, 3], [0, 0, 0], [-1, 0, 1e4]],
 "labels": [2, -100, 0],
 "coef": [1, -0.5]}'

# fault NAME EXPECTED-WORDS JSON: exit 2, one line on stderr that holds the words, nothing on stdout.
fault() {
    local name=$1 words=$2 status=0
    printf '%s\n' "$3" >"$work/$name.json"
    "$rpo" logprob "$work/$name.json" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" -eq 2 ] || fail "$name: exit code $status, expected 2"
    [ "$(wc -l <"$work/err")" -eq 1 ] || fail "$name: stderr is not one line: $(cat "$work/err")"
    grep -qF -- "$words" "$work/err" || fail "$name: '$(cat "$work/err")' lacks '$words'"
    [ ! -s "$work/out" ] || fail "$name: wrote to stdout"
}

printf '%s\n' "$good" >"$work/good.json"
"$rpo" logprob "$work/good.json" >"$work/good.out"
# log softmax of (1, 2, 3) at 2 is -0.407606; the ignored row is 0; the last is -10001.
python_free_check=$(tr -d ' \n' <"$work/good.out")
case $python_free_check in
'{"token_logps":[-0.40760'*',0,-10001],"sequence_logps":[-0.40760'*',-10001],"grad_logits":[['*) ;;
*) fail "unexpected answer: $(head -c 400 "$work/good.out")" ;;
esac
grep -qF '[0, 0, 0]' "$work/good.out" || fail "the ignored row has a gradient"
"$rpo" logprob "$work/good.json" --device cpu | cmp - "$work/good.out" || fail "--device cpu differs"
"$rpo" logprob --help | grep -q 'usage: rpo logprob' || fail "--help"

fault trailing 'trailing.json:4' "$good x"
fault unknown 'good_kind' "${good/\"kind\"/\"good_kind\"}"
fault kind 'kind: is dpo; must be logps' "${good/logps/dpo}"
fault vocab 'vocab: is 0' "${good/\"vocab\": 3/\"vocab\": 0}"
fault label 'label.json:3: labels: item 2 must be an integer from 0 to 2' "${good/-100, 0]/-100, 3]}"
fault fraction 'labels: item 0' "${good/\"labels\": [2/\"labels\": [1.5}"
fault lens 'lens: item 0' "${good/"[2, 1]"/[-2, 1]}"
fault rows 'labels: has 3 items; must have 4' "${good/"[2, 1]"/[2, 2]}"
fault short 'logits: row 1 must be a list of 3 numbers' "${good/"[0, 0, 0]"/[0, 0]}"
fault long 'logits: row 1 must be a list of 3 numbers' "${good/"[0, 0, 0]"/[0, 0, 0, 0]}"
fault text 'logits: row 0 item 1' "${good/"[1, 2, 3]"/[1, \"2\", 3]}"
fault huge 'logits: row 2 item 2' "${good/1e4/1e300}"
fault coef 'coef: has 1 numbers; must have 2' "${good/"[1, -0.5]"/[1]}"
fault average 'average: must be true or false' "${good/false/1}"
fault array 'must be an object' '[1, 2]'
fault nan 'nan.json' "${good/1e4/NaN}"

expect_exit() {
    local expected=$1 status=0
    shift
    "$rpo" logprob "$@" >/dev/null 2>"$work/err" || status=$?
    [ "$status" -eq "$expected" ] || fail "rpo logprob $*: exit code $status, expected $expected"
}
expect_exit 2
expect_exit 2 "$work/absent.json"
expect_exit 2 "$work/good.json" --device tpu
expect_exit 2 "$work/good.json" --devise cpu
expect_exit 2 "$work/good.json" "$work/good.json"

# Golden cases are accepted as they are, `expect` and all.
for case_file in "$RPO_SHARED"/oracle/logps-*.json; do
    [ -e "$case_file" ] || { echo "skipped: no golden cases in $RPO_SHARED/oracle"; break; }
    "$rpo" logprob "$case_file" >"$work/golden.out" || fail "$case_file"
    grep -q '"grad_logits"' "$work/golden.out" || fail "$case_file: no grad_logits"
done

finish
