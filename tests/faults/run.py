#!/usr/bin/env python3
"""run.py - a tiny training in which one call for memory or on a file goes wrong, again and again.

    tests/faults/run.py BUILD                 a fixed sample of all trials (what ctest runs)
    tests/faults/run.py BUILD --all           every call, every way it can go wrong: some 10 minutes
    tests/faults/run.py BUILD --only "SCENARIO FAULT"   one trial again, as a failure names it; its folder is kept

A trial runs `rpo train` with one fault (faults.c), on a fresh folder or on one that holds the first half of the run, and then
resumes it without. What must hold:

- the exit code: 0 where the fault is harmless (an interrupted or short call always is), otherwise 3 and one line that says so;
- there are never fewer sound checkpoints than before, nor an older newest one;
- after the resume: the model, the optimizer and the metrics of the run that nothing happened to, bit for bit;
- nothing half-written stays, and nothing sound was called damaged.
"""
import argparse
import concurrent.futures
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile

SEED, TIMEOUT_S = 20240215, 60
OF_EACH = {"io": 5, "alloc": 40}  # of a sample: so many of every call going wrong in every way in every scenario
STEPS, HALF, SAVE_EVERY, KEEP = 6, 4, 2, 2

CONFIG = {
    "model": {"init": {"vocab_size": 259, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64,
                       "tie_word_embeddings": True}},
    "data": {"train": ["train.jsonl"], "eval": ["eval.jsonl"], "max_length": 48, "max_prompt_length": 24},
    "loss": {"kind": "rpo-paired", "contrast_block": 2},
    "train": {"batch_size": 4, "optimizer": "adamw", "learning_rate": 1e-3, "warmup_steps": 2, "eval_every": 2,
              "save_every": SAVE_EVERY, "keep_checkpoints": KEEP},
    "run": {"dir": "run", "threads": 1},
}

# How each call can go wrong. A call that changes something on the disk can also be the last one.
INTERRUPTIBLE = ["EINTR"]
CHANGES = ["kill"]
WAYS = {
    "open": ["EIO", "EIO:on", "EMFILE"] + INTERRUPTIBLE + CHANGES,
    "fopen": ["EIO", "EIO:on"],
    "read": ["EIO", "EIO:on", "short", "short:on"] + INTERRUPTIBLE,
    "write": ["EIO", "EIO:on", "ENOSPC", "ENOSPC:on", "short", "short:on", "zero", "zero:on", "killhalf"] + INTERRUPTIBLE + CHANGES,
    "fsync": ["EIO", "EIO:on", "ENOSPC"] + INTERRUPTIBLE + CHANGES,
    "close": ["EIO", "EIO:on"] + INTERRUPTIBLE + CHANGES,
    "ftruncate": ["EIO", "EIO:on"] + INTERRUPTIBLE + CHANGES,
    "flock": ["EIO", "EIO:on"] + INTERRUPTIBLE + CHANGES,
    "rename": ["EIO", "EIO:on", "ENOSPC"] + CHANGES,
    "mkdir": ["EIO", "EIO:on", "ENOSPC"] + CHANGES,
    "unlink": ["EIO", "EIO:on"] + CHANGES,
    "stat": ["EIO", "EIO:on", "ENOMEM"],
    "statvfs": ["EIO"],
    "lseek": ["EIO"],
    "opendir": ["EIO", "EIO:on", "EMFILE"],
    "readdir": ["EIO", "EIO:on"],
}
HARMLESS = ("EINTR", "short")


def write_inputs(folder):
    for name, count, first in (("train.jsonl", 24, 0), ("eval.jsonl", 4, 100)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            for i in range(first, first + count):
                record = {"prompt": f"Of tea {i}?", "chosen": f"Gladly {i}.", "rejected": f"No {i * 7}!"}
                file.write(json.dumps(record) + "\n")
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(CONFIG, file)


class Bench:
    """The program, the preloaded library, and the undisturbed run that all others are held against."""

    def __init__(self, build, scratch):
        self.rpo = os.path.join(build, "bin", "rpo")
        self.library = os.path.join(build, "lib", "librpo_faults.so")
        self.scratch = scratch
        self.inputs = os.path.join(scratch, "inputs")
        os.mkdir(self.inputs)
        write_inputs(self.inputs)
        self.whole = self.new_folder("whole")
        self.expect_done(self.train(self.whole, ["--set", "train.keep_checkpoints=9"]))
        self.half = self.new_folder("half")
        self.expect_done(self.train(self.half, [], steps=HALF))
        self.rows = read_rows(self.whole)

    def new_folder(self, name, start=None):
        folder = os.path.join(self.scratch, name)
        shutil.copytree(start or self.inputs, folder)
        return folder

    def train(self, folder, arguments, fault=None, trace=None, steps=STEPS):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RPO_FAULT")}
        environment.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive", RPO_CACHE="shared-cache")
        if fault is not None:
            environment.update(LD_PRELOAD=self.library, RPO_FAULT=fault)
        if trace is not None:
            environment["RPO_FAULT_TRACE"] = trace
        return subprocess.run([self.rpo, "train", "config.json", "--set", f"train.max_steps={steps}"] + arguments,
                              cwd=folder, env=environment, capture_output=True, text=True, errors="replace",
                              timeout=TIMEOUT_S, check=False)

    @staticmethod
    def expect_done(result):
        if result.returncode != 0:
            sys.exit(f"faults: the undisturbed run ends with {result.returncode}: {result.stderr}")

    def start_of(self, scenario):
        return (self.inputs, []) if scenario == "fresh" else (self.half, ["--resume"])

    def list_trials(self, scenario):
        """Every fault of every call that this scenario makes, from a trace of it."""
        start, arguments = self.start_of(scenario)
        folder, trace = self.new_folder("trace-" + scenario, start), os.path.join(self.scratch, scenario + ".trace")
        self.expect_done(self.train(folder, arguments, "io:0:EIO", trace))
        trials = []
        with open(trace, encoding="utf-8", errors="replace") as file:
            for line in file:
                kind, number, call = line.split()[:3]
                ways = ["ENOMEM", "ENOMEM:on"] if kind == "alloc" else WAYS[call]
                trials += [(scenario, f"{kind}:{number}:{way}", call) for way in ways]
        shutil.rmtree(folder)
        return trials

    # ---- what must hold ----

    def is_sound(self, folder, step):
        """The bits of the undisturbed run, and every file that the list of checksums names."""
        place, pattern = f"run/checkpoints/step-{step}", os.path.join(self.whole, f"run/checkpoints/step-{step}")
        try:
            for name in ("model.safetensors", "optimizer.safetensors"):
                if read_bytes(os.path.join(folder, place, name)) != read_bytes(os.path.join(pattern, name)):
                    return False
            json.loads(read_bytes(os.path.join(folder, place, "trainer_state.json")))
            listed = read_bytes(os.path.join(folder, place, "checksums")).decode().splitlines()
            return len(listed) >= 4 and all(os.path.isfile(os.path.join(folder, place, line[34:])) for line in listed)
        except (OSError, ValueError):
            return False

    def sound_steps(self, folder):
        """Also those that stand aside for a moment: the next start puts them back."""
        checkpoints = os.path.join(folder, "run", "checkpoints")
        names = os.listdir(checkpoints) if os.path.isdir(checkpoints) else []
        for name in names:
            if name.startswith(".old-") and name[5:] not in names:
                os.rename(os.path.join(checkpoints, name), os.path.join(checkpoints, name[5:]))
        steps = [int(name[5:]) for name in names if re.fullmatch(r"step-[1-9][0-9]*", name)]
        steps += [int(name[10:]) for name in names if name.startswith(".old-step-") and name[5:] not in names]
        return sorted(step for step in steps if self.is_sound(folder, step))

    @staticmethod
    def check_ending(result, fault):
        way = fault.split(":")[2]
        lines = [line for line in result.stderr.splitlines() if not line.startswith("rpo: warning: ")]
        if way.startswith("kill"):
            return [] if result.returncode == -9 else [f"was to be killed, ends with {result.returncode}"]
        if result.returncode == 0:
            return [f"ends with 0 and says {lines}"] if lines else []
        if way in HARMLESS:
            return [f"{way} ends the run with {result.returncode}: {lines}"]
        if result.returncode != 3:
            return [f"ends with {result.returncode}: {lines}"]
        good = len(lines) == 1 and lines[0].startswith("rpo: ") and len(lines[0]) > 10
        return [] if good else [f"must say one line, says {lines}"]

    def check_result(self, folder):
        """The run is over and came to its end."""
        faults = []
        for name in ("run/final/model.safetensors", f"run/checkpoints/step-{STEPS}/model.safetensors",
                     f"run/checkpoints/step-{STEPS}/optimizer.safetensors"):
            try:
                if read_bytes(os.path.join(folder, name)) != read_bytes(os.path.join(self.whole, name)):
                    faults.append(f"{name} differs from the undisturbed run's")
            except OSError as error:
                faults.append(f"{name}: {error.strerror}")
        try:
            if read_rows(folder) != self.rows:
                faults.append("the metrics differ from the undisturbed run's")
        except (OSError, ValueError) as error:
            faults.append(f"metrics.jsonl: {error}")
        return faults

    def check_leftovers(self, folder):
        faults = []
        for place, folders, files in os.walk(os.path.join(folder, "run")):
            for name in folders + files:
                if re.match(r"\.tmp-|\.old-|\.rpo-probe-|aside-", name) or name.endswith(".tmp"):
                    faults.append(f"{os.path.relpath(os.path.join(place, name), folder)} is left behind")
        return faults

    def run_trial(self, trial, keep=False):
        """The faults that were found; none when all is well."""
        scenario, fault = trial[:2]
        start, arguments = self.start_of(scenario)
        folder = self.new_folder("trial-" + scenario + "-" + fault.replace(":", "-"), start)
        before = self.sound_steps(folder)
        try:
            result = self.train(folder, arguments, fault)
            faults = self.check_ending(result, fault)
            if result.returncode == 0:
                faults += self.check_result(folder)
                if scenario == "resumed" and f"resume     from run/checkpoints/step-{HALF}\n" not in result.stdout:
                    faults.append("a sound checkpoint was passed over")
                if trial[2:] == ("flock",) and fault.endswith((":EIO", ":EIO:on")):
                    faults.append("goes on without a lock")
            after = self.sound_steps(folder)
            if len(after) < len(before) or max(after, default=0) < max(before, default=0):
                faults.append(f"sound checkpoints before: {before}, after: {after}")
            again = self.train(folder, ["--resume"])
            if again.returncode != 0 or again.stderr != "":
                faults.append(f"the resume ends with {again.returncode} and says {again.stderr!r}")
            else:
                faults += self.check_result(folder) + self.check_leftovers(folder)
        except subprocess.TimeoutExpired:
            faults = [f"does not end within {TIMEOUT_S} s"]
        if keep:
            print(result.stdout, result.stderr, "---", again.stdout, again.stderr, sep="\n")
        else:
            shutil.rmtree(folder)
        return faults


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def read_rows(folder):
    """The metrics without what depends on the clock."""
    rows = [json.loads(line) for line in read_bytes(os.path.join(folder, "run", "metrics.jsonl")).splitlines()]
    clock = re.compile(r"(eval_)?(seconds|tokens_per_second|mfu)|time")
    return [{key: value for key, value in row.items() if not clock.fullmatch(key)} for row in rows]


def sample(trials):
    """Some of every kind, always the same ones."""
    groups = {}
    for trial in trials:
        kind, _, way = trial[1].split(":", 2)
        groups.setdefault((trial[0], kind, trial[2], way), []).append(trial)
    draw = random.Random(SEED)
    return [trial for key, group in groups.items() for trial in draw.sample(group, min(OF_EACH[key[1]], len(group)))]


def check_lock_comes_first(bench):
    """A start that looked at an empty folder, and got its lock when another run was over, must not begin anew."""
    folder, trace = bench.new_folder("two-runs"), os.path.join(bench.scratch, "lock.trace")
    flock = next(fault for _, fault, call in bench.list_trials("fresh") if call == "flock").split(":")[1]
    environment = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive", RPO_CACHE="shared-cache", LD_PRELOAD=bench.library,
                       RPO_FAULT=f"io:{flock}:stop", RPO_FAULT_TRACE=trace)
    late = subprocess.Popen([bench.rpo, "train", "config.json", "--set", "run.seed=7"], cwd=folder, env=environment,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    os.waitpid(late.pid, os.WUNTRACED)
    bench.expect_done(bench.train(folder, []))
    model = read_bytes(os.path.join(folder, "run/final/model.safetensors"))
    late.send_signal(signal.SIGCONT)
    words = late.communicate(timeout=TIMEOUT_S)[1]
    if late.returncode != 2 or "already holds a run" not in words:
        return [f"the late start ends with {late.returncode}: {words}"]
    return [] if read_bytes(os.path.join(folder, "run/final/model.safetensors")) == model else ["the run was overwritten"]


def run_all(bench, trials, jobs):
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for trial, faults in zip(trials, pool.map(bench.run_trial, trials)):
            for fault in faults:
                print(f'FAIL --only "{trial[0]} {trial[1]}": {fault}', flush=True)
            failed += bool(faults)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder of a release build with RPO_TESTS")
    parser.add_argument("--all", action="store_true", help="every trial, not a sample")
    parser.add_argument("--only", metavar="TRIAL", help='one trial, such as "fresh io:17:EIO"')
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trials at a time (default: the processors)")
    options = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    scratch = tempfile.mkdtemp(prefix="rpo-faults-", dir=memory)
    try:
        bench = Bench(os.path.abspath(options.build), scratch)
        if options.only:
            faults = bench.run_trial(tuple(options.only.split()), keep=True)
            print("\n".join(faults) or "as it should be")
            print(f"folder: {scratch}")
            return 1 if faults else 0
        every = bench.list_trials("fresh") + bench.list_trials("resumed")
        trials = every if options.all else sample(every)
        print(f"faults: {len(trials)} of {len(every)} trials" + ("" if options.all else f", seed {SEED}"), flush=True)
        failed = run_all(bench, trials, options.jobs)
        late = check_lock_comes_first(bench)
        print("\n".join(f"FAIL two runs of one folder: {fault}" for fault in late), end="\n" if late else "")
        print(f"faults: {failed} of {len(trials)} trials failed")
        return 1 if failed or late else 0
    finally:
        if not options.only:
            shutil.rmtree(scratch)


if __name__ == "__main__":
    sys.exit(main())
