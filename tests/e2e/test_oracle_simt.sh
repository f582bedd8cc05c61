#!/usr/bin/env bash
# Every golden case through `rpo-simt loss|logprob --device cuda`, the CUDA kernels run on the CPU: the values expected
# (float64) within 1e-5, the CPU backend's within twice that, under two orders of threads with the same bits.
# RPO_BUILD, RPO_SHARED: folders of the build and of the golden values.
set -euo pipefail

program=$RPO_BUILD/bin/rpo-simt
. "$RPO_SOURCE/tests/e2e/helpers.sh"

# values FILE: the numbers of an answer, or of a case's expect object, as "NAME NUMBER" lines, lists flattened.
values() {
    tr -d ' \n' <"$1" | sed -e 's/.*"expect"://' -e 's/}.*//' -e 's/^{//' -e 's/[][]//g' |
        tr ',' '\n' | awk -F: 'NF == 2 { name = $1 } { print name, $NF == "" ? "empty" : $NF }' | sort -s -k1,1
}

# same FILE_A FILE_B TOLERANCE: the same names, each with the same number of values, and every value of A within
# TOLERANCE times the larger of 1 and the largest value of its name in B. What is no number fails, unless both say null or
# both lists are empty.
same() {
    paste -d' ' <(values "$1") <(values "$2") | awk -v tolerance="$3" '
        function is_number(text) { return text ~ /^-?[0-9.]+([eE][-+]?[0-9]+)?$/ }
        { name[NR] = $3; a[NR] = $2; b[NR] = $4
          if (NF != 4 || $1 != $3) { print "other values: " $0; wrong = 1; exit }
          size = $4 < 0 ? -$4 : $4
          if (size > largest[$3]) largest[$3] = size }
        END {
            if (wrong || NR == 0) exit 1
            for (i = 1; i <= NR; ++i) {
                if (a[i] == b[i] && (a[i] == "null" || a[i] == "empty")) continue
                bound = tolerance * (largest[name[i]] > 1 ? largest[name[i]] : 1)
                d = a[i] - b[i]
                if (!is_number(a[i]) || !is_number(b[i]) || !(d <= bound && d >= -bound)) {
                    print name[i] ": " a[i] " must be " b[i]
                    exit 1
                }
            }
        }'
}

# The comparison itself must be able to fail.
echo '{"loss":1,"list":[1,2]}' >"$work/a"
for wrong in '{"loss":1.1,"list":[1,2]}' '{"loss":1,"list":[1]}' '{"loss":1,"list":[1,nan]}' '{"loss":null,"list":[1,2]}' \
    '{"loss":1}' '{"loss":1,"lists":[1,2]}' '{"loss":1,"list":[]}' ''; do
    echo "$wrong" >"$work/b"
    ! same "$work/b" "$work/a" 1e-5 >/dev/null || fail "the comparison takes '$wrong' for $(cat "$work/a")"
done
same "$work/a" "$work/a" 1e-5 || fail "the comparison is never content"

"$program" info | grep -q '^ *simt ' || fail "rpo-simt info shows no simt backend"

cases=0
for case_file in "$RPO_SHARED"/oracle/*.json; do
    [ -e "$case_file" ] || { echo "skipped: no golden cases in $RPO_SHARED/oracle"; break; }
    name=$(basename "$case_file" .json)
    command=loss
    [[ $name != logps-* ]] || command=logprob
    "$program" "$command" "$case_file" --device cpu >"$work/cpu" || fail "$name: fails on the CPU"
    for schedule in forward warp-eager-reverse; do
        RPO_SIMT_SCHEDULE=$schedule "$program" "$command" "$case_file" --device cuda >"$work/$schedule" ||
            fail "$name: fails under $schedule"
    done
    difference=$(same "$work/forward" "$case_file" 1e-5) || fail "$name: not as expected: $difference"
    difference=$(same "$work/forward" "$work/cpu" 2e-5) || fail "$name: not as on the CPU: $difference"
    cmp -s "$work/forward" "$work/warp-eager-reverse" || fail "$name: other bits under warp-eager-reverse"
    cases=$((cases + 1))
done

# Launches can be watched, and nothing but the answer goes to stdout.
case_file=$work/pairs.json
cat >"$case_file" <<'JSON'
{"kind": "rpo-paired", "m": 2, "n": 2, "beta": 0.1, "tau": 0.5, "dim": 2,
 "policy_chosen_logps": [-10, -20], "policy_rejected_logps": [-12, -18],
 "reference_chosen_logps": [-11, -21], "reference_rejected_logps": [-11, -19],
 "emb_chosen": [[1, 0], [0, 1]], "emb_rejected": [[1, 0], [0, 1]]}
JSON
"$program" loss "$case_file" --device cuda >"$work/quiet" 2>"$work/err"
[ ! -s "$work/err" ] || fail "without RPO_TRACE_LAUNCH stderr says: $(cat "$work/err")"
RPO_TRACE_LAUNCH=1 RPO_DEBUG_SYNC=1 "$program" loss "$case_file" --device cuda >"$work/out" 2>"$work/err"
cmp -s "$work/quiet" "$work/out" || fail "RPO_TRACE_LAUNCH changes the answer"
grep -Eq '^rpo: launch [a-z_]*contrast[a-z_]* grid [0-9]+,[0-9]+,[0-9]+ block [0-9]+,[0-9]+,[0-9]+ shared [0-9]+$' "$work/err" ||
    fail "RPO_TRACE_LAUNCH=1 shows no contrast kernel: $(cat "$work/err")"
! grep -Evq '^rpo: launch ' "$work/err" || fail "stderr holds more than launches: $(cat "$work/err")"

# Sides without members have answers too.
printf '{"kind": "rpo-uniform", "m": 0, "n": 1, "beta": 0.1, "policy_chosen_logps": [], "policy_rejected_logps": [-1],
 "reference_chosen_logps": [], "reference_rejected_logps": [-1]}\n' >"$work/empty.json"
for device in cpu cuda; do
    "$program" loss "$work/empty.json" --device "$device" >"$work/empty.$device" || fail "an empty side fails on $device"
done
difference=$(same "$work/empty.cuda" "$work/empty.cpu" 0) || fail "an empty side: $difference"

finish "$cases golden cases"
