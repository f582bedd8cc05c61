#!/usr/bin/env python3
"""Times what a user would pick instead, on the device and shapes of rpo-bench, and writes rows of the same form.

    bench/peers/run.py --like RPO_BENCH.jsonl [--out PEERS.jsonl] [--only PEER] [--budget SECONDS]
    bench/peers/run.py --op linear-logprob-backward --shape rows=8192,hidden=4096,vocab=128256 --dtype bfloat16

--like takes ops, shapes and dtypes from what `rpo-bench all --json` printed in the same run, so that both sides do the
same work on the same machine. Each peer has a process of its own. A peer that is not installed, or that fails at a row,
leaves an object {"backend": "peer:NAME", "failed": REASON} instead of figures; nothing else is lost by it.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = {"pytorch-eager": "pytorch_eager", "pytorch-compile": "pytorch_compile", "liger": "liger",
         "cut-cross-entropy": "cut_cross_entropy_peer", "trl": "trl_logps"}


def reason(problem):
    lines = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {lines[0] if lines else ''}"[:300]


def emit(row):
    print(json.dumps(row), flush=True)


def run_row(torch, device, name, functions, job, repeats):
    import work

    dtype = getattr(torch, job["dtype"])
    for variant, function in work.variants(job["op"], functions):
        row = {"op": job["op"], "shape": job["shape"], "backend": f"peer:{name}{':' + variant if variant else ''}",
               "dtype": job["dtype"], "device": device.title}
        torch.compiler.reset()  # its cache of shapes is small, and beyond it nothing is compiled any more
        try:
            error = work.error(torch, job["op"], function, dtype, device.name)
            row.update(work.time_op(device, job["op"], function, job["shape"], dtype, repeats))
            row.update({"error": error if error == error else None, "checked": "a small twin against float64"})
        except Exception as problem:  # out of memory, a compiler's fault: this row alone is lost
            row["failed"] = reason(problem)
        emit(row)
        device.reset_peak()


def run_peer(name, jobs, repeats, deadline):
    """In a process of its own: one peer over all jobs, a JSON object a line."""
    try:
        import torch
        from common import Device

        device = Device(torch)
        functions, version = importlib.import_module(PEERS[name]).load(torch)
    except Exception as problem:
        emit({"backend": f"peer:{name}", "failed": f"not importable: {reason(problem)}"})
        return
    print(f"peers: {name} {version} on {device.title}", file=sys.stderr)
    for job in jobs:
        if time.time() > deadline:
            emit({"backend": f"peer:{name}", "op": job["op"], "shape": job["shape"], "dtype": job["dtype"],
                  "failed": "no time left"})
        else:
            run_row(torch, device, name, functions, job, repeats)


def read_jobs(arguments):
    import work

    if arguments.like:
        with open(arguments.like) as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
        return [{key: row[key] for key in ("op", "shape", "dtype")} for row in rows if row.get("op") in work.OPS]
    shape = {name: int(value) for name, value in (part.split("=") for part in arguments.shape.split(","))}
    return [{"op": arguments.op, "shape": shape, "dtype": arguments.dtype}]


def main():
    sys.path.insert(0, HERE)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", help="rows of rpo-bench --json")
    parser.add_argument("--op")
    parser.add_argument("--shape", default="")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds for all peers together")
    parser.add_argument("--only", choices=sorted(PEERS))
    parser.add_argument("--out", help="file for the rows; stdout without it")
    parser.add_argument("--peer", choices=sorted(PEERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.like and not (arguments.op and arguments.shape):
        parser.error("give --like FILE, or --op and --shape")
    jobs = read_jobs(arguments)
    if arguments.peer:
        run_peer(arguments.peer, jobs, arguments.repeats, time.time() + arguments.budget)
        return

    names = [arguments.only] if arguments.only else list(PEERS)
    end = time.time() + arguments.budget
    out = open(arguments.out, "w") if arguments.out else sys.stdout
    for done, name in enumerate(names):
        share = (end - time.time()) / (len(names) - done)  # what one peer leaves over, the others get
        command = [sys.executable, os.path.abspath(__file__), "--peer", name, "--repeats", str(arguments.repeats),
                   "--budget", f"{max(share * 0.8, 0.0):.0f}"]
        command += (["--like", arguments.like] if arguments.like else
                    ["--op", arguments.op, "--shape", arguments.shape, "--dtype", arguments.dtype])
        text, failed = "", None
        try:
            child = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=max(share, 1.0))
            text = child.stdout
            failed = f"ended with {child.returncode}" if child.returncode else None
        except subprocess.TimeoutExpired as late:
            text = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
            failed = "no time left"
        for line in text.splitlines():
            print(line, file=out, flush=True)
        if failed:
            print(json.dumps({"backend": f"peer:{name}", "failed": failed}), file=out, flush=True)


if __name__ == "__main__":
    main()
