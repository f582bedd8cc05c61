#!/usr/bin/env python3
"""compare-oracle.py RPO_PROGRAM ORACLE_DIR: every golden case on cuda, against float64 and against the CPU backend.

A value counts as right within 1e-5 (2e-5 against the CPU) of the larger of 1 and the largest value beside it.
"""

import glob
import json
import math
import os
import subprocess
import sys


def answer(program, case, device):
    command = "logprob" if os.path.basename(case).startswith("logps") else "loss"
    done = subprocess.run([program, command, case, "--device", device], capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise ValueError(f"{device}: exit code {done.returncode}: {done.stderr.strip()[:200]}")
    return json.loads(done.stdout)


def flat(value):
    if isinstance(value, list):
        return [number for part in value for number in flat(part)]
    return [value]


def difference(found, expected, tolerance):
    """What differs, in words, or None. A NaN is never within a tolerance."""
    if set(found) != set(expected):
        return f"other keys: {sorted(set(found) ^ set(expected))}"
    for name in expected:
        ours, theirs = flat(found[name]), flat(expected[name])
        if len(ours) != len(theirs):
            return f"{name}: {len(ours)} values instead of {len(theirs)}"
        size = max([1.0] + [abs(x) for x in theirs if isinstance(x, (int, float)) and math.isfinite(x)])
        for i, (x, y) in enumerate(zip(ours, theirs)):
            if x is None and y is None:
                continue
            if x is None or y is None or not abs(x - y) <= tolerance * size:
                return f"{name}[{i}]: {x} must be {y}"
    return None


def main():
    program, folder = sys.argv[1:3]
    cases = sorted(glob.glob(os.path.join(folder, "*.json")))
    if not cases:
        print("skipped: no golden cases here")
        sys.exit(77)
    failures = 0
    for case in cases:
        with open(case) as file:
            expected = json.load(file)["expect"]
        try:
            cuda = answer(program, case, "cuda")
            wrong = difference(cuda, expected, 1e-5) or difference(cuda, answer(program, case, "cpu"), 2e-5)
        except (ValueError, subprocess.TimeoutExpired) as problem:
            wrong = str(problem)
        if wrong:
            failures += 1
            print(f"FAILED: {os.path.basename(case)}: {wrong}")
    print(f"{len(cases)} golden cases, {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
