# gpu-check-steps.sh - the steps of tools/gpu-check. Sourced by each step's process, which has a time limit. A step's exit
# code is its outcome: 0 well, 77 skipped (the last line says why), anything else failed. RPO_CHECK_* come from gpu-check.

skip() {
    echo "skipped: $1"
    exit 77
}

need_device() { [ "$RPO_CHECK_DEVICE" != none ] || skip "no device"; }
need_program() { [ -x "$RPO_CHECK_BUILD/bin/$1" ] || skip "$1 was not built"; }

configure() {
    # shellcheck disable=SC2086
    cmake -S "$RPO_ROOT" -B "$RPO_CHECK_BUILD" $RPO_CHECK_GENERATOR -DCMAKE_BUILD_TYPE=Release -DRPO_CUDA=ON \
        -DRPO_SIMT=OFF "$@" ${RPO_CHECK_ARCHITECTURE:+-DCMAKE_CUDA_ARCHITECTURES=$RPO_CHECK_ARCHITECTURE}
}

step_build() {
    command -v cmake >/dev/null || { echo "no cmake on this machine or in the bundle"; exit 1; }
    command -v nvcc >/dev/null || [ -n "${CUDACXX:-}" ] || { echo "no nvcc on this machine"; exit 1; }
    local tests=ON jobs
    jobs=$(nproc)
    if ! configure -DRPO_TESTS=ON; then # without Criterion everything but the op cases is still worth having
        echo "configuring with tests failed; going on without them"
        rm -rf "$RPO_CHECK_BUILD" && tests=OFF
        configure -DRPO_TESTS=OFF || exit 1
    fi
    cmake --build "$RPO_CHECK_BUILD" -j "$jobs" --target rpo_program rpo_bench || exit 1
    [ "$tests" = ON ] || { echo "the tests were not built"; exit 1; }
    cmake --build "$RPO_CHECK_BUILD" -j "$jobs" --target rpo_cuda_tests
}

step_ops() {
    need_device
    ls "$RPO_CHECK_BUILD"/bin/cuda_test_* >/dev/null 2>&1 || skip "the op tests were not built"
    local log=$RPO_CHECK_WORK/logs/ctest.log status=0
    (cd "$RPO_CHECK_BUILD" && ctest -L cuda --output-on-failure --timeout 50) 2>&1 | tee "$log" || status=$?
    if grep -q '(Skipped)' "$log"; then
        echo "the programs find no device where nvidia-smi does"
        return 1
    fi
    grep 'tests passed' "$log"
    return $status
}

step_oracle() {
    need_device
    need_program rpo
    python3 "$RPO_ROOT/tools/lib/compare-oracle.py" "$RPO_CHECK_BUILD/bin/rpo" "${RPO_CHECK_ORACLE:-none}"
}

step_bench() {
    need_device
    need_program rpo-bench
    "$RPO_CHECK_BUILD/bin/rpo-bench" all --backend cuda --json >"$RPO_CHECK_OUT/bench.jsonl"
    local code=$?
    echo "$(wc -l <"$RPO_CHECK_OUT/bench.jsonl") rows, $(grep -c '"correct": false' "$RPO_CHECK_OUT/bench.jsonl") not correct"
    return $code
}

# sanitize TOOL NAME COMMAND...: one tool over one program, in the background; its log beside the steps' logs.
sanitize() {
    local tool=$1 name=$2 status
    shift 2
    timeout -k 2 $((RPO_CHECK_LIMIT - 3)) compute-sanitizer --tool "$tool" --target-processes all --error-exitcode 99 \
        "$@" >"$RPO_CHECK_WORK/logs/sanitizer-$tool-$name.log" 2>&1
    status=$?
    printf '%-10s %-22s exit code %-3d %s\n' "$tool" "$name" "$status" \
        "$(grep -a 'ERROR SUMMARY\|RACECHECK SUMMARY' "$RPO_CHECK_WORK/logs/sanitizer-$tool-$name.log" | tail -n 1)"
    return $status
}

# wait_for PID...: how many of them there were and how many failed; fails when one did.
wait_for() {
    local pid failures=0
    for pid in "$@"; do
        wait "$pid" || failures=$((failures + 1))
    done
    echo "$# runs, $failures with findings or out of time"
    [ "$failures" -eq 0 ]
}

# All tools at once, each over every op in every dtype at small shapes. initcheck gets memory that nothing has filled.
step_sanitizer() {
    need_device
    need_program cuda_every_op
    command -v compute-sanitizer >/dev/null || skip "no compute-sanitizer"
    local tool pids=()
    for tool in memcheck racecheck synccheck; do
        sanitize "$tool" every-op "$RPO_CHECK_BUILD/bin/cuda_every_op" &
        pids+=($!)
    done
    sanitize initcheck every-op "$RPO_CHECK_BUILD/bin/cuda_every_op" --leave-unfilled &
    pids+=($!)
    wait_for "${pids[@]}"
}

# The op case table itself under memcheck and racecheck, program by program as long as time is left.
step_cases() {
    need_device
    command -v compute-sanitizer >/dev/null || skip "no compute-sanitizer"
    local program tool pids=()
    for program in "$RPO_CHECK_BUILD"/bin/cuda_test_*; do
        [ -x "$program" ] || skip "the op tests were not built"
        for tool in memcheck racecheck; do
            sanitize "$tool" "$(basename "$program")" "$program" --short-filename -j4 &
            pids+=($!)
        done
    done
    wait_for "${pids[@]}"
}

# What bounds each kernel: time, memory traffic, occupancy, registers.
step_profile() {
    need_device
    need_program rpo-bench
    local ncu op rows=$RPO_CHECK_OUT/profile.csv
    ncu=$(command -v ncu || ls /opt/nvidia/nsight-compute/*/ncu 2>/dev/null | tail -n 1)
    [ -n "$ncu" ] || skip "no ncu"
    : >"$rows"
    local work=("contrast-loss --dtype float32 --shape m=64,n=64,dim=384"
        "contrast-loss --dtype float32 --shape m=4096,n=4096,dim=384"
        "contrast-loss --dtype bfloat16 --shape m=4096,n=4096,dim=384"
        "logprob-gather --dtype bfloat16 --shape rows=2048,vocab=128256"
        "logprob-gather-backward --dtype bfloat16 --shape rows=2048,vocab=128256"
        "linear-logprob-backward --dtype bfloat16 --shape rows=2048,hidden=1024,vocab=32000,valid_percent=50")
    for op in "${work[@]}"; do
        # shellcheck disable=SC2086
        # With a wait policy set the program does not start itself again, and ncu need not follow it.
        OMP_WAIT_POLICY=passive "$ncu" --csv --page raw --print-units base --clock-control none --launch-count 200 --metrics \
            gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum,sm__warps_active.avg.pct_of_peak_sustained_active,launch__registers_per_thread,launch__grid_size,launch__block_size,launch__shared_mem_per_block \
            "$RPO_CHECK_BUILD/bin/rpo-bench" $op --backend cuda --check-only 2>&1 | tee -a "$RPO_CHECK_WORK/logs/ncu.log" |
            grep '^"' | sed "s/^/\"$op\",/" >>"$rows"
    done
    [ -s "$rows" ] || { tail -n 5 "$RPO_CHECK_WORK/logs/ncu.log"; exit 1; }
    echo "$(wc -l <"$rows") lines of profile"
}

step_peers() {
    need_device
    [ -s "$RPO_CHECK_OUT/bench.jsonl" ] || skip "no rows of the bench to compare with"
    PYTHONPATH="$RPO_CHECK_WORK/site${PYTHONPATH:+:$PYTHONPATH}" python3 "$RPO_ROOT/bench/peers/run.py" \
        --like "$RPO_CHECK_OUT/bench.jsonl" --out "$RPO_CHECK_OUT/peers.jsonl" --budget $((RPO_CHECK_LIMIT - 5)) || return
    echo "$(grep -c median_seconds "$RPO_CHECK_OUT/peers.jsonl") rows, $(grep -c '"failed"' "$RPO_CHECK_OUT/peers.jsonl") not measured"
}
