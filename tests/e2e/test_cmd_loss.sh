#!/usr/bin/env bash
# rpo loss: golden cases in, their expected values out; faults give one line, the right exit code and no answer.
set -euo pipefail

rpo=$RPO_BUILD/bin/rpo
. "$RPO_SOURCE/tests/e2e/helpers.sh"

# values FILE KEY: the numbers of an answer's (or an expect object's) member, one a line; "null" for null.
values() {
    tr -d ' \n' <"$1" | sed -e 's/.*"expect"://' |
        awk -v key="\"$2\":" '{
            at = index($0, key)
            if (at == 0) { print "missing"; exit }
            text = substr($0, at + length(key))
            if (match(text, /,"|}/)) text = substr(text, 1, RSTART - 1)
            gsub(/[][]/, "", text)
            gsub(/,/, "\n", text)
            print text
        }'
}

# same FILE_A FILE_B KEY: within 1e-5 of the larger of 1 and the largest value; anything that is no number fails.
same() {
    paste <(values "$1" "$3") <(values "$2" "$3") | awk '
        { a[NR] = $1; b[NR] = $2; size = $2 < 0 ? -$2 : $2; if (size > largest) largest = size }
        END {
            if (largest < 1) largest = 1
            for (i = 1; i <= NR; ++i) {
                if (a[i] == "null" && b[i] == "null") continue
                if (a[i] !~ /^-?[0-9]/ || b[i] !~ /^-?[0-9]/) exit 1
                d = a[i] - b[i]
                if (!(d <= 1e-5 * largest && d >= -1e-5 * largest)) exit 1
            }
            exit NR == 0
        }'
}

# refused CODE WORDS ARGUMENT...: exit code, exactly one line on stderr with the words, nothing on stdout.
refused() {
    local code=$1 words=$2 got=0
    shift 2
    "$rpo" loss "$@" >"$work/out" 2>"$work/err" || got=$?
    [[ $got -eq $code ]] || fail "rpo loss $*: exit code $got instead of $code: $(cat "$work/err")"
    [[ $(wc -l <"$work/err") -eq 1 ]] || fail "rpo loss $*: stderr is not one line: $(cat "$work/err")"
    grep -qF -- "$words" "$work/err" || fail "rpo loss $*: does not say \"$words\": $(cat "$work/err")"
    grep -q '^rpo: ' "$work/err" || fail "rpo loss $*: does not begin with rpo:"
    [[ ! -s $work/out ]] || fail "rpo loss $*: an answer in spite of the fault"
}

# ---- golden cases ----

keys="loss row_losses weights grad_policy_chosen_logps grad_policy_rejected_logps chosen_rewards rejected_rewards"
cases=0
for case in "$RPO_SHARED"/oracle/*.json; do
    if [[ ! -e $case ]]; then
        echo "no golden cases under $RPO_SHARED/oracle: that part is skipped"
        break
    fi
    [[ $(basename "$case") == logps-* ]] && continue
    "$rpo" loss "$case" --device cpu >"$work/answer.json" || fail "$case: exit code $?"
    for key in $keys; do
        same "$work/answer.json" "$case" "$key" || fail "$case: $key differs"
    done
    cases=$((cases + 1))
done

# ---- a small case, written here ----

cat >"$work/good.json" <<'JSON'
{
  "kind": "rpo-paired", "m": 2, "n": 2, "dim": 2, "beta": 0.1, "tau": 0.5, "diagonal_weight": null,
  "policy_chosen_logps": [-10, -20], "policy_rejected_logps": [-30, -5],
  "reference_chosen_logps": [-10, -20], "reference_rejected_logps": [-30, -5],
  "emb_chosen": [[1, 0], [0, 1]],
  "emb_rejected": [[1, 0], [0, 1]]
}
JSON
"$rpo" loss "$work/good.json" >"$work/answer.json"
echo '{"expect": {"loss": 0.693147181, "weights": [[0.880797078, 0.119202922], [0.119202922, 0.880797078]],
"chosen_rewards": [0, 0]}}' >"$work/expected.json"
for key in loss weights chosen_rewards; do
    same "$work/answer.json" "$work/expected.json" "$key" || fail "small case: $key differs"
done
"$rpo" loss --help | grep -q 'usage: rpo loss' || fail "--help shows no usage"

# A comparison that cannot fail shows nothing: a wrong expectation must be noticed.
echo '{"expect": {"loss": 0.69318, "weights": null}}' >"$work/wrong.json"
same "$work/answer.json" "$work/wrong.json" loss && fail "a wrong loss passed"
same "$work/answer.json" "$work/wrong.json" weights && fail "weights passed as null"

# refused_when WORDS SED: exit code 2 for the small case with one thing changed.
refused_when() {
    sed -e "$2" "$work/good.json" >"$work/spoiled.json"
    ! cmp -s "$work/good.json" "$work/spoiled.json" || fail "$2: nothing was spoiled"
    refused 2 "$1" "$work/spoiled.json"
}

refused_when "unknown key" 's/"tau"/"tua"/'
refused_when "tau" 's/"tau"/"tua"/'
refused_when "duplicate key" 's/"beta": 0.1/"beta": 0.1, "beta": 0.2/'
refused_when "kind" 's/rpo-paired/rpo-pared/'
refused_when "rpo-unpaired" 's/rpo-paired/rpo-pared/'
refused_when "beta: is 0" 's/"beta": 0.1/"beta": 0/'
refused_when "beta: is missing" 's/"beta": 0.1,//'
refused_when "beta: must be a number" 's/"beta": 0.1/"beta": "x"/'
refused_when "tau" 's/"tau": 0.5/"tau": -1/'
refused_when "tau: is missing" 's/"tau": 0.5/"tau": null/'
refused_when ":2: n: is 3; rpo-paired needs as many as m" 's/"n": 2/"n": 3/'
refused_when ":3: policy_chosen_logps" 's/\[-10, -20\], "policy_rej/[-10], "policy_rej/'
refused_when ":6: emb_rejected" 's/"emb_rejected": \[\[1, 0\], \[0, 1\]\]/"emb_rejected": [[1, 0], [0]]/'
refused_when "emb_chosen: is missing" '/"emb_chosen"/d'
refused_when "dim" 's/"dim": 2/"dim": 1000000000/'
refused_when "m: " 's/"m": 2/"m": 2.5/'
refused_when "policy_chosen_logps" 's/\[-10, -20\], "policy_rej/[-1e39, -20], "policy_rej/'
refused_when ":3:" 's/\[-10, -20\], "policy_rej/[NaN, -20], "policy_rej/'
refused_when ":7: text after" '$s/$/ x/'
refused 2 "cpu or cuda" "$work/good.json" --device tpu
refused 2 "unknown option" "$work/good.json" --frobnicate
refused 2 "CASE.json: is missing" --device cpu
if "$rpo" info | grep -q '^ *cuda  *\(not in this build\|no usable device\)'; then
    refused 3 "device" "$work/good.json" --device cuda
fi

# A case of log-probs is no loss case.
echo '{"kind": "logps"}' >"$work/logps.json"
refused 2 "kind" "$work/logps.json"
echo '[1]' >"$work/list.json"
refused 2 "must be an object" "$work/list.json"

# A full disk under stdout is the machine's fault.
code=0
"$rpo" loss "$work/good.json" >/dev/full 2>"$work/err" || code=$?
[[ $code -eq 3 ]] || fail "/dev/full: exit code $code"

finish "$cases golden cases"
