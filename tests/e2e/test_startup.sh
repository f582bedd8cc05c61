#!/usr/bin/env bash
# test_startup.sh - the programs put a patient wait policy, and kernels for this machine's vectors, into their own environment
# by starting themselves again: the user's own choice wins, and process, arguments, name, signals and exit codes are what
# they were. No times.
set -euo pipefail

rpo="$RPO_BUILD/bin/rpo"
. "$RPO_SOURCE/tests/e2e/helpers.sh"
unset OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME OPENBLAS_CORETYPE
exec 3>&- # who runs the tests may have left a log open there; the programs compared here must start alike

case_text='{"kind": "logps", "vocab": 2, "lens": [1], "logits": [[0, 0]], "labels": [1], "coef": [1], "average": false}'
mkfifo "$work/case.json"

# start [NAME=VALUE ...]: the program in the background, its id in $pid. It has read nothing of its case yet and stands
# still until `give`: opening the pipe waits until the program has opened it, which is after it started itself again.
start() {
    env "$@" "$rpo" logprob "$work/case.json" >"$work/out" 2>"$work/err" &
    pid=$!
    exec 3>"$work/case.json"
}

give() {
    echo "$case_text" >&3
    exec 3>&-
    code=0
    wait "$pid" || code=$?
    [ "$code" = 0 ] || fail "exit code $code: $(cat "$work/err")"
    grep -q sequence_logps "$work/out" || fail "no answer: $(cat "$work/out")"
}

# has NAME [VALUE]: the environment of $pid holds exactly this; without VALUE, none of that name.
has() {
    local found
    found=$(tr '\0' '\n' <"/proc/$pid/environ" | grep "^$1=" || true)
    [ "$found" = "${2+$1=$2}" ] || fail "$1: the environment holds '$found', expected '${2+$1=$2}'"
}

# What a start must not change: name, arguments, signals, open files.
process_state() {
    tr '\0' '\n' <"/proc/$pid/cmdline"
    grep -E '^(Name|PPid|SigBlk|SigIgn|SigCgt|ShdPnd|Threads):' "/proc/$pid/status"
    for file in /proc/"$pid"/fd/*; do echo "${file##*/} $(readlink "$file")"; done
}

# ---- nothing set: the policy is there ----
start
has OMP_WAIT_POLICY passive
has GOMP_SPINCOUNT 1000
has KMP_BLOCKTIME
process_state >"$work/again"
core=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^OPENBLAS_CORETYPE=//p') # nothing where OpenBLAS knows the machine
settled=(OMP_WAIT_POLICY=passive ${core:+OPENBLAS_CORETYPE=$core})
give

# ---- the user's own setting wins, whatever it is ----
for setting in OMP_WAIT_POLICY=active OMP_WAIT_POLICY=passive OMP_WAIT_POLICY= GOMP_SPINCOUNT=7 KMP_BLOCKTIME=1; do
    start "$setting"
    for name in OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME; do
        if [ "${setting%%=*}" = $name ]; then has $name "${setting#*=}"; else has $name; fi
    done
    give
done
start "${settled[@]}"
process_state >"$work/once"
give
diff "$work/once" "$work/again" || fail "starting again changed the process"

# ---- OpenBLAS takes kernels that use the machine's vectors, unless told which ----
if grep -q '^flags.* avx2 ' /proc/cpuinfo && "$rpo" info | grep -q 'OpenBLAS .*DYNAMIC_ARCH'; then
    "$rpo" info | grep -qE 'OpenBLAS .* (Prescott|Core2|Nehalem|Barcelona) ' && fail "no vectors: $("$rpo" info | grep OpenBLAS)"
    OPENBLAS_CORETYPE=Prescott "$rpo" info | grep -q 'OpenBLAS .* Prescott ' || fail "the user's OPENBLAS_CORETYPE is not kept"
    start OPENBLAS_CORETYPE=Nehalem
    has OPENBLAS_CORETYPE Nehalem
    has OMP_WAIT_POLICY passive
    give
fi

# ---- signals ----
start
kill -TERM $pid
code=0
wait $pid || code=$?
exec 3>&-
[ $code = 143 ] || fail "SIGTERM while it waits: exit code $code, expected 143"

# ---- arguments and exit codes pass unchanged ----
# same PROGRAM ARGUMENT ...: the same exit code and words whether it starts itself again or not.
same() {
    local again=0 once=0
    (exec -a 'another name' "$@") >"$work/out" 2>"$work/err" || again=$?
    (export "${settled[@]}" && exec -a 'another name' "$@") >"$work/out.once" 2>"$work/err.once" || once=$?
    [ $again = $once ] || fail "$*: exit code $again, without the second start $once"
    cmp "$work/out" "$work/out.once" || fail "$*: other words on stdout"
    cmp "$work/err" "$work/err.once" || fail "$*: other words on stderr"
    codes="$codes $again"
}
codes=
same "$rpo"
same "$rpo" ''
same "$rpo" $'two\nlines' 'and a space'
same "$rpo" train "$work/absent.json" --set a.b=
printf '%s' '{"model": {"path": "absent"}, "data": {"train": ["absent"]}, "run": {"dir": "absent", "device": "cuda"}}' >"$work/config.json"
same "$rpo" train "$work/config.json"
same "$RPO_BUILD/bin/rpo-bench" ''
same "$RPO_BUILD/bin/rpo-bench" contrast-loss --check-only --shape m=3,n=5,dim=8
case "$codes" in " 0 2 2 2 "[23]" 2 0") ;; *) fail "exit codes$codes" ;; esac

# ---- the bench has the policy too ----
"$RPO_BUILD/bin/rpo-bench" linear-logprob --repeats 1000 >"$work/out" 2>&1 &
pid=$!
for ((tries = 0; tries < 1200; ++tries)); do
    if ! kill -0 $pid || grep -qz '^OMP_WAIT_POLICY=' "/proc/$pid/environ"; then break; fi
    sleep 0.05
done
has OMP_WAIT_POLICY passive
has GOMP_SPINCOUNT 1000
kill -TERM $pid || fail "rpo-bench is gone: $(cat "$work/out")"
code=0
wait $pid || code=$?
[ $code = 143 ] || fail "rpo-bench, SIGTERM: exit code $code, expected 143"

# ---- started by the loader: /proc/self/exe is another program then, which must not be started ----
loader=$(ldd "$rpo" | sed -n 's/^[[:space:]]*\(\/[^ ]*ld-[^ ]*\) .*/\1/p')
if [ -x "$loader" ]; then
    "$loader" "$rpo" --version >"$work/out" 2>"$work/err" || fail "through $loader: $(cat "$work/err")"
    grep -q '^rpo [0-9]' "$work/out" || fail "through $loader: $(cat "$work/out")"
fi

finish
