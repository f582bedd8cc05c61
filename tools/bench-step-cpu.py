#!/usr/bin/env python3
"""Times whole training steps of `rpo train` beside an older release, transformers and TRL on the CPU, in one run.

    tools/bench-step-cpu.py [--rpo build/bin/rpo] [--rpo-old OLD/bin/rpo] [--case NAME ...] [--rounds 3] [--steps 4]
                            [--peer PEER ...] [--out ROWS.jsonl] [--markdown FILE]
    tools/bench-step-cpu.py --from ROWS.jsonl [--markdown FILE]

hh-6, hh-12   Anthropic HH pairs, 6 and 12 layers, 512 wide, byte vocabulary, max_length 512, 16 pairs a step. `rpo train` contrasts
              blocks of 8 (rpo-paired); the peers minimise the DPO loss, which costs them no more.
half-32000    4 layers, 256 wide, vocabulary 32,000, 4 pairs a step of 128 prompt and 128 response tokens: DPO everywhere.

Every figure comes from a process of its own, contenders taking turns; a process runs --steps steps and the first one, which warms
up, does not count. Batches are the same everywhere (bench/peers/pairs.py), float32, RMSprop, gradient norm clipped at 10, reference
log-probs known beforehand and not timed. `rpo` rows are the whole program, read from its metrics.jsonl. A peer stands for its best way
(bench/peers/step.py lists them): in the table that with the highest median. Memory is the process's peak resident set; what
Python's imports hold is shown beside it.

All contenders run with OMP_WAIT_POLICY=passive and GOMP_SPINCOUNT=1000, as `rpo` sets them for itself, so that a busy neighbour hurts
nobody out of proportion, and with the OPENBLAS_CORETYPE that `rpo` uses, so that an older release has the same matrix products;
--as-is leaves the environment alone.
Needs an environment with PyTorch, transformers and TRL (tools/peers-venv).
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "..", "bench", "peers")
sys.path.insert(0, PEERS)
import pairs

HH = os.path.join(HERE, "..", "..", "shared", "data", "hh-harmless-train.jsonl.gz")
WIDE = {"hidden": 512, "intermediate": 1376, "heads": 8, "vocab": pairs.BYTE_VOCAB, "positions": 512}
GOALS = {"old": 1.6, "transformers": 2.8, "trl": 2.8}
MEMORY_GOAL = 3.0
SEED = 1

CASES = {
    "hh-6": {"model": {"layers": 6, **WIDE}, "batch": 16, "loss": "rpo-paired", "max_length": 512, "goals": GOALS,
             "title": "HH pairs, 6 layers, 512 wide, V=259, 16 pairs a step"},
    "hh-12": {"model": {"layers": 12, **WIDE}, "batch": 16, "loss": "rpo-paired", "max_length": 512, "goals": GOALS,
              "title": "HH pairs, 12 layers, 512 wide, V=259, 16 pairs a step"},
    "half-32000": {"model": {"layers": 4, "hidden": 256, "intermediate": 688, "heads": 4, "vocab": 32000, "positions": 512},
                   "batch": 4, "loss": "dpo", "max_length": 256, "goals": {"transformers": 2.6, "trl": 5.0},
                   "title": "DPO, 4 layers, 256 wide, V=32000, 4 pairs of 128 + 128 tokens"},
}
WAYS = ["transformers:padded", "transformers:sorted-4", "transformers:rows-4", "trl:padded-16", "trl:padded-4"]


def synthetic_pair(index):
    """128 tokens of prompt with BOS, 128 of response with EOS; printable and never the same."""
    def text(stream):
        return "".join(chr(97 + pairs.philox(SEED, stream, index * 127 + i) % 26) for i in range(127))

    return json.dumps({"prompt": text(1), "chosen": text(2), "rejected": text(3)}) + "\n"


def prepare(folder, name, steps, data):
    """Model and data of a case; what a contender needs to know, as a dictionary and as case.json."""
    case = CASES[name]
    folder = os.path.join(folder, name)
    pairs.write_model(os.path.join(folder, "model"), pairs.model_keys(**case["model"]), SEED)
    records = steps * case["batch"]
    lines = pairs.read_lines(data, records) if name.startswith("hh") else map(synthetic_pair, range(records))
    with open(os.path.join(folder, "pairs.jsonl"), "w") as out:
        out.writelines(lines)
    return {"name": name, "folder": folder, "model": os.path.join(folder, "model"), "data": os.path.join(folder, "pairs.jsonl"),
            "steps": steps, "batch": case["batch"], "loss": case["loss"], "max_length": case["max_length"],
            "max_prompt_length": case["max_length"] // 2, "vocab": case["model"]["vocab"], "seed": SEED}


def measured_process(command, environment, name):
    """(stdout, peak resident bytes) of a process."""
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    text, errors = child.stdout.read(), child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        lines = errors.strip().splitlines()
        sys.exit(f"bench-step-cpu: {name} ended with {child.returncode}: {lines[-1] if lines else 'no message'}")
    return text, usage.ru_maxrss * 1024


def run_rpo(case, program, environment, old):
    """The whole program over the case's records."""
    run = os.path.join(case["folder"], "run")
    subprocess.run(["rm", "-rf", run], check=True)
    config = {
        "model": {"path": case["model"]},
        "data": {"train": [case["data"]], "max_length": case["max_length"], "max_prompt_length": case["max_prompt_length"]},
        "loss": {"kind": case["loss"], "contrast_block": min(8, case["batch"])},
        "train": {"batch_size": case["batch"], "max_steps": case["steps"], "optimizer": "rmsprop"},
        "run": {"dir": run, "seed": case["seed"], "device": "cpu", "threads": case["threads"]},
    }
    if case["vocab"] != pairs.BYTE_VOCAB and not old:  # bytes on purpose; 0.1.0 does not ask
        config["model"]["tokenizer"] = "bytes"
    path = os.path.join(case["folder"], "config.json")
    with open(path, "w") as out:
        json.dump(config, out)
    _, peak = measured_process([program, "train", path], environment, program)
    with open(os.path.join(run, "metrics.jsonl")) as rows:
        rows = [row for row in map(json.loads, rows) if "loss" in row]
    return {"seconds": [row["seconds"] for row in rows], "tokens": [row["tokens"] for row in rows], "peak_resident_bytes": peak}


def run_peer(case, peer, environment):
    path = os.path.join(case["folder"], "case.json")
    with open(path, "w") as out:
        json.dump(case, out)
    text, peak = measured_process([sys.executable, os.path.join(PEERS, "step.py"), path, peer], environment, peer)
    return {**json.loads(text.splitlines()[-1]), "peak_resident_bytes": peak}


def blas_core(program):
    """The kernels of OpenBLAS that the program uses: the word before MAX_THREADS of `rpo info`; None with another BLAS."""
    text = subprocess.run([program, "info"], stdout=subprocess.PIPE, text=True, check=True).stdout
    core = re.search(r"OpenBLAS .*?(\S+) MAX_THREADS", text)
    return core.group(1) if core else None


def run_contender(case, contender, arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "TOKENIZERS_PARALLELISM": "false",
                   "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": os.path.join(case["folder"], "cache")}
    if not arguments.as_is:
        environment.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="1000")
        if arguments.blas_core:
            environment["OPENBLAS_CORETYPE"] = arguments.blas_core
    if contender == "rpo":
        found = run_rpo(case, arguments.rpo, environment, False)
    elif contender == "old":
        found = run_rpo(case, arguments.rpo_old, environment, True)
    else:
        found = run_peer(case, contender, environment)
    timed = found["seconds"][1:]
    if len(timed) != case["steps"] - 1:
        sys.exit(f"bench-step-cpu: {contender} ran {len(found['seconds'])} steps of {case['steps']}")
    return {**found, "case": case["name"], "contender": contender, "threads": arguments.threads,
            "pairs_per_second": case["batch"] * len(timed) / sum(timed)}


def device():
    with open("/proc/cpuinfo") as info:
        model = re.search(r"^model name\s*:\s*(.*)", info.read(), re.M)
    return f"{model.group(1) if model else 'CPU'}, {os.cpu_count()} cores"


def versions(arguments):
    import torch
    import transformers
    import trl

    def program(path):
        return subprocess.run([path, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]

    found = {"rpo": program(arguments.rpo), "PyTorch": torch.__version__, "transformers": transformers.__version__,
             "TRL": trl.__version__}
    if arguments.rpo_old:
        found["old rpo"] = program(arguments.rpo_old)
    return found


def measure(arguments):
    """Rows of all processes; written as they come."""
    contenders = ["rpo"] + (["old"] if arguments.rpo_old else []) + arguments.peer
    head = {"device": device(), "versions": versions(arguments), "threads": arguments.threads, "steps": arguments.steps,
            "as_is": arguments.as_is, "blas_core": arguments.blas_core,
            "rounds": arguments.rounds, "load_average": os.getloadavg()[0]}
    rows = []
    out = open(arguments.out, "w") if arguments.out else None

    def keep(row):
        rows.append(row)
        if out:
            print(json.dumps(row), file=out, flush=True)

    keep(head)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.case:
            case = {**prepare(folder, name, arguments.steps, arguments.data), "threads": arguments.threads}
            # More pairs a forward than a step has are the step's own number: such a way is there once only.
            ways = list(dict.fromkeys(re.sub(r"\d+$", lambda size: str(min(int(size.group()), case["batch"])), contender)
                                      for contender in contenders))
            for turn in range(arguments.rounds):
                for contender in ways:
                    keep({**run_contender(case, contender, arguments), "round": turn})
                    print(f"{name} round {turn + 1}: {contender:22} {rows[-1]['pairs_per_second']:7.3f} pairs/s, "
                          f"{rows[-1]['peak_resident_bytes'] / 1e6:.0f} MB", file=sys.stderr, flush=True)
    return rows


def summarize(rows, name):
    """{contender: {"rate", "slowest", "fastest", "peak", "imports"}} of a case, medians over the rounds."""
    found = {}
    for contender in dict.fromkeys(row["contender"] for row in rows if row.get("case") == name):
        runs = [row for row in rows if row.get("case") == name and row["contender"] == contender]
        rates = [row["pairs_per_second"] for row in runs]
        found[contender] = {"rate": statistics.median(rates), "slowest": min(rates), "fastest": max(rates),
                            "peak": statistics.median(row["peak_resident_bytes"] for row in runs),
                            "imports": runs[0].get("imports_resident_bytes", 0)}
    return found


def verdict(found, case):
    """Lines that hold the case's goals against the best way of each maker."""
    ours = found["rpo"]
    for maker, goal in case["goals"].items():
        ways = [way for way in found if way.partition(":")[0] == maker]
        if not ways:
            continue
        best = max(ways, key=lambda way: found[way]["rate"])
        ratio, memory = ours["rate"] / found[best]["rate"], found[best]["peak"] / ours["peak"]
        line = f"- {best}: {ratio:.2f}x its pairs per second (goal {goal:g}x: {'met' if ratio >= goal else 'NOT met'})"
        if maker != "old":
            least = min(found[way]["peak"] for way in ways) / ours["peak"]
            line += (f"; its peak memory is {memory:.1f} times ours (goal {MEMORY_GOAL:g}: {'met' if memory >= MEMORY_GOAL else 'NOT met'}), "
                     f"that of its thriftiest way {least:.1f} times")
        yield line


def markdown(rows):
    head = rows[0]
    named = ", ".join(f"{name} {version}" for name, version in head["versions"].items())
    yield f"{head['device']}, {head['threads']} threads; {named}; {head['rounds']} rounds of {head['steps']} steps, turn about, medians; "
    if head["blas_core"]:
        yield f"OpenBLAS's kernels: {head['blas_core']}{' for rpo, others as they choose' if head['as_is'] else ''}; "
    yield f"load average at the start {head['load_average']:.2f} (anything but 0 disturbs)."
    for name in dict.fromkeys(row["case"] for row in rows[1:]):
        found = summarize(rows[1:], name)
        yield f"\n### {CASES[name]['title']} ({name})\n"
        yield "| contender | pairs/s | slowest to fastest round | rpo is faster by | peak MB | of which imports | rpo's peak is |"
        yield "|---|---|---|---|---|---|---|"
        for contender, figures in found.items():
            imports = f"{figures['imports'] / 1e6:.0f}" if figures["imports"] else ""
            yield (f"| {contender} | {figures['rate']:.3f} | {figures['slowest']:.3f} to {figures['fastest']:.3f} "
                   f"| {found['rpo']['rate'] / figures['rate']:.2f}x | {figures['peak'] / 1e6:.0f} | {imports} "
                   f"| 1/{figures['peak'] / found['rpo']['peak']:.1f} |")
        yield ""
        yield from verdict(found, CASES[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rpo", default="build/bin/rpo", help="the program to time")
    parser.add_argument("--rpo-old", help="an older release of it")
    parser.add_argument("--case", action="append", choices=list(CASES), help="may be repeated; all without it")
    parser.add_argument("--peer", action="append", help=f"a way of bench/peers/step.py; may be repeated; without it {', '.join(WAYS)}")
    parser.add_argument("--no-peers", action="store_true", help="only the programs")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contender")
    parser.add_argument("--steps", type=int, default=4, help="steps of a process, the first one not timed")
    parser.add_argument("--data", default=HH, help="the HH file")
    parser.add_argument("--as-is", action="store_true", help="leave OpenMP's wait policy to the environment")
    parser.add_argument("--out", help="file for the rows, one JSON object a line")
    parser.add_argument("--from", dest="source", help="no run: the tables of such a file")
    parser.add_argument("--markdown", help="file for the tables; stdout without it")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error("--steps: must be 2 or more, the first one is not timed")
    arguments.case = arguments.case or list(CASES)
    arguments.peer = [] if arguments.no_peers else arguments.peer or WAYS
    if arguments.source:
        with open(arguments.source) as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
    else:
        arguments.blas_core = blas_core(arguments.rpo)
        rows = measure(arguments)
    text = "\n".join(markdown(rows)) + "\n"
    if arguments.markdown:
        with open(arguments.markdown, "w") as out:
            out.write(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
