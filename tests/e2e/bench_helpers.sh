# bench_helpers.sh - what the tests of rpo-bench share. Sourced with `bench` set to the program.

. "$RPO_SOURCE/tests/e2e/helpers.sh"

# expect_row BACKEND DTYPE OP SHAPE: one row of JSON with every figure there, finite and correct.
expect_row() {
    local backend=$1 dtype=$2 op=$3 shape=$4
    if ! "$bench" "$op" --backend "$backend" --dtype "$dtype" --shape "$shape" --repeats 2 --json \
        >"$work/row" 2>"$work/err"; then
        fail "$op $dtype on $backend: $(cat "$work/err" "$work/row")"
        return
    fi
    python3 - "$work/row" "$backend" "$dtype" "$op" "$shape" <<'PY' || fail "$op $dtype on $backend: the row above"
import json, math, sys
path, backend, dtype, op, shape = sys.argv[1:]
lines = open(path).read().splitlines()
assert len(lines) == 1, f"{len(lines)} lines instead of one"
row = json.loads(lines[0])
print(lines[0])
assert (row["backend"], row["dtype"], row["op"]) == (backend, dtype, op), "another row"
for part in shape.split(","):
    name, value = part.split("=")
    assert row["shape"][name] == int(value), f"shape.{name}"
for name in ("median_seconds", "min_seconds", "max_seconds", "flops", "bytes", "limit_flops_per_second",
             "limit_bytes_per_second", "limit_share"):
    assert math.isfinite(row[name]) and row[name] > 0, name
assert row["min_seconds"] <= row["median_seconds"] <= row["max_seconds"], "times out of order"
assert row["batch"] >= 1 and row["workspace_bytes"] >= 0, "batch, workspace"
assert row["correct"] is True and row["error"] <= row["tolerance"], "not correct"
assert row["limit"] in ("matmul", "copy") and row["device"], "limit, device"
PY
}

# expect_correct BACKEND DTYPE OP SHAPE: --check-only runs the op once and finds it right.
expect_correct() {
    local backend=$1 dtype=$2 op=$3 shape=$4
    "$bench" "$op" --backend "$backend" --dtype "$dtype" --shape "$shape" --check-only >"$work/out" 2>"$work/err" ||
        fail "$op $dtype on $backend: exit code $?: $(cat "$work/err" "$work/out")"
    grep -q "^$op $dtype: error .*, correct\$" "$work/out" || fail "$op $dtype on $backend: says $(cat "$work/out")"
}

# expect_fault CODE PATTERN ARGUMENTS...: one line on stderr, nothing on stdout but the table's head.
expect_fault() {
    local code=$1 pattern=$2 got=0
    shift 2
    "$bench" "$@" >"$work/out" 2>"$work/err" || got=$?
    [ "$got" = "$code" ] || fail "rpo-bench $*: exit code $got, expected $code"
    [ "$(wc -l <"$work/err")" = 1 ] || fail "rpo-bench $*: stderr is not one line: $(cat "$work/err")"
    grep -q -- "^rpo-bench: .*$pattern" "$work/err" || fail "rpo-bench $*: stderr lacks '$pattern': $(cat "$work/err")"
}
