#!/usr/bin/env python3
"""gpu-check-report.py WORK_DIR OUT_DIR NAME=VALUE...: writes report.json and report.md of tools/gpu-check, prints the
outcome. Exit code 1 when a step failed."""

import csv
import json
import os
import re
import subprocess
import sys

STATES = {0: "ok", 77: "skipped", 124: "out of time"}
TAIL_LINES = 30
KERNELS_SHOWN = 6  # of each profiled op, those that took longest


def read_text(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def read_steps(work):
    steps = []
    for line in read_text(os.path.join(work, "steps.tsv")).splitlines():
        name, code, seconds, limit = line.split("\t")
        log = read_text(os.path.join(work, "logs", name + ".log")).splitlines()
        step = {"step": name, "state": STATES.get(int(code), "failed"), "exit_code": int(code), "seconds": float(seconds),
                "limit_seconds": int(limit)}
        if int(code) == 77 and log:
            step["reason"] = log[-1].removeprefix("skipped: ")
        elif int(code) != 0:
            step["tail"] = log[-TAIL_LINES:]
        elif log:
            step["summary"] = log[-1]
        steps.append(step)
    return steps


def read_rows(path):
    """Whole rows: a bench that ran out of time may leave half a line."""
    rows = []
    for line in read_text(path).splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def bench_tables(out):
    """bench/report.py over what was measured, and its plot beside it."""
    names = [name for name in ("bench.jsonl", "peers.jsonl") if read_rows(os.path.join(out, name))]
    if not names:
        return ""
    for name in names:  # without a torn last line
        rows = read_rows(os.path.join(out, name))
        with open(os.path.join(out, name), "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "report.py")
    done = subprocess.run([sys.executable, script, *[os.path.join(out, name) for name in names], "--title", "Bench",
                           "--svg", os.path.join(out, "bench.svg")], capture_output=True, text=True)
    return done.stdout.replace("# Bench", "## Bench", 1) if done.returncode == 0 else f"No table: {done.stderr.strip()}\n"


def read_profile(out):
    """Launches of ncu's CSV, those of one kernel and grid taken together: [{op, kernel, launches, ...}]."""
    found, names = {}, None
    for op, *fields in csv.reader(read_text(os.path.join(out, "profile.csv")).splitlines()):
        if fields and fields[0] == "ID":
            names = fields
        if names is None or len(fields) != len(names) or not fields[0].isdigit():
            continue  # the head, its units, a torn last line
        launch = dict(zip(names, fields))

        def figure(name):
            return float((launch.get(name) or "nan").replace(",", ""))

        kernel = re.sub(r"^void |\(.*$", "", launch["Kernel Name"])
        entry = found.setdefault((op, kernel, launch.get("Grid Size")), {
            "op": op, "kernel": kernel, "grid": launch.get("Grid Size"), "block": launch.get("Block Size"),
            "registers": figure("launch__registers_per_thread"), "launches": 0, "seconds": 0.0, "dram_bytes": 0.0,
            "occupancy_percent": 0.0})
        entry["launches"] += 1
        entry["seconds"] += figure("gpu__time_duration.sum") * 1e-9
        entry["dram_bytes"] += figure("dram__bytes_read.sum") + figure("dram__bytes_write.sum")
        entry["occupancy_percent"] += figure("sm__warps_active.avg.pct_of_peak_sustained_active")
    for entry in found.values():
        entry["occupancy_percent"] /= entry["launches"]
    return list(found.values())


def profile_table(profile):
    if not profile:
        return []
    lines = ["", "## Profile", "", "| work | kernel | launches | us | DRAM MB | GB/s | occupancy | registers | grid | block |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for op in dict.fromkeys(entry["op"] for entry in profile):
        entries = sorted((entry for entry in profile if entry["op"] == op), key=lambda entry: -entry["seconds"])
        for entry in entries[:KERNELS_SHOWN]:
            rate = entry["dram_bytes"] / entry["seconds"] * 1e-9 if entry["seconds"] > 0 else float("nan")
            lines.append(f"| {op} | `{entry['kernel'][:60]}` | {entry['launches']} | {entry['seconds'] * 1e6:.1f} "
                         f"| {entry['dram_bytes'] * 1e-6:.1f} | {rate:.0f} | {entry['occupancy_percent']:.0f} % "
                         f"| {entry['registers']:.0f} | {entry['grid']} | {entry['block']} |")
    return lines


def markdown(facts, steps, tables, profile):
    lines = ["# gpu-check", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "| step | outcome | seconds | limit |", "|---|---|---|---|"]
    for step in steps:
        reason = f": {step['reason']}" if "reason" in step else f": {step['summary']}" if "summary" in step else ""
        lines.append(f"| {step['step']} | {step['state']}{reason} | {step['seconds']:.1f} | {step['limit_seconds']} |")
    lines += ["", tables] if tables else []
    lines += profile_table(profile)
    for step in steps:
        if step.get("tail"):
            lines += ["", f"## End of the log of {step['step']}", "", "```", *step["tail"], "```"]
    return "\n".join(lines) + "\n"


def main():
    work, out = sys.argv[1:3]
    facts = dict(argument.split("=", 1) for argument in sys.argv[3:])
    steps = read_steps(work)
    profile = read_profile(out)
    report = {**facts, "steps": steps, "bench": read_rows(os.path.join(out, "bench.jsonl")),
              "peers": read_rows(os.path.join(out, "peers.jsonl")), "profile": profile}
    text = markdown(facts, steps, bench_tables(out), profile)
    with open(os.path.join(out, "report.json"), "w") as file:
        json.dump(report, file, indent=1)
    with open(os.path.join(out, "report.md"), "w") as file:
        file.write(text)
    print(text)
    sys.exit(1 if any(step["state"] in ("failed", "out of time") for step in steps) else 0)


if __name__ == "__main__":
    main()
