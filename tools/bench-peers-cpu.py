#!/usr/bin/env python3
"""Times rpo-bench beside PyTorch and transformers on the CPU, in one run, and prints a Markdown table.

    tools/bench-peers-cpu.py [--rpo-bench build/bin/rpo-bench] [--threads 2] [--rounds 3] [--only NAME]

Every figure comes from a process of its own; ours and the peer's take turns, and the median of the rounds counts.
What is compared, float32 on both sides and with the same number of threads:

contrast loss   M = N = 1024, D = 384: the published formula as written down (cosine matrix, row softmax,
                -log sigmoid(beta w s), mean) with autograd, against one rpo_contrast_loss call; gradients of the
                log-probs on both sides.
linear logprob  T = 2048, H = 512, V = 32000, all rows count: hidden @ head.T, log_softmax, gather, sum with the
                gradient of each sequence, backward to hidden and head, against rpo_linear_logprob_backward (log-probs
                and both gradients in one sweep). "frozen": the same without the head's gradient.
training step   4 layers, 256 wide, 8 sequences of 256 tokens: forward, log-probs, DPO loss against constant reference
                log-probs, backward, gradient norm and clipping, RMSprop. The peer is transformers'
                LlamaForCausalLM with its default attention (sdpa), log_softmax + gather over its logits. With
                "half prompt" only the second half of each sequence counts.

Extra memory is the growth of the resident set during the work beyond inputs, parameters and gradients.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench", "peers"))
import common
import formulas

STEP = {"layers": 4, "hidden": 256, "intermediate": 688, "heads": 4, "kv_heads": 4, "rows": 2048, "sequences": 8}

# name, op of rpo-bench, sizes, what the table calls it, the goal as a ratio of times
WORK = [
    ("contrast", "contrast-loss", {"m": 1024, "n": 1024, "dim": 384}, "contrast loss + gradient, 1024 x 1024, D=384", 2.0),
    ("linear", "linear-logprob-backward", {"rows": 2048, "hidden": 512, "vocab": 32000, "sequences": 8},
     "linear log-prob fwd + bwd, T=2048, H=512, V=32000", 1.3),
    ("linear-frozen", "linear-logprob-backward-frozen", {"rows": 2048, "hidden": 512, "vocab": 32000, "sequences": 8},
     "the same, frozen head", None),
    ("step", "training-step", {**STEP, "vocab": 32000, "valid_percent": 100},
     "training step, 4 layers, 256 wide, T=2048, V=32000", 1.2),
    ("step-half", "training-step", {**STEP, "vocab": 32000, "valid_percent": 50}, "the same, half prompt", None),
    ("step-bytes", "training-step", {**STEP, "vocab": 512, "valid_percent": 100}, "the same, V=512", None),
]


def measure(work, gradients, repeats):
    """Median seconds of work() and its peak memory beyond the gradients it leaves (`gradients` bytes)."""
    import torch

    return common.measure(common.Device(torch, cpu=True), work, gradients, repeats)


def peer_contrast(torch, sizes, repeats):
    m, n, dim, beta, tau = sizes["m"], sizes["n"], sizes["dim"], 0.1, 0.5
    chosen, rejected = torch.randn(m, dim), torch.randn(n, dim)
    policy_chosen, policy_rejected = (torch.randn(k).mul(30).requires_grad_() for k in (m, n))
    reference_chosen, reference_rejected = torch.randn(m) * 30, torch.randn(n) * 30

    def work():
        policy_chosen.grad = policy_rejected.grad = None
        formulas.contrast_loss(torch, policy_chosen, policy_rejected, reference_chosen, reference_rejected, chosen,
                               rejected, beta, tau).backward()

    return measure(work, 0, repeats)


def peer_linear(torch, sizes, repeats, frozen):
    rows, width, vocab = sizes["rows"], sizes["hidden"], sizes["vocab"]
    hidden = torch.randn(rows, width, requires_grad=True)
    head = (torch.randn(vocab, width) * width**-0.5).requires_grad_(not frozen)
    labels = torch.randint(0, vocab, (rows,))
    gradients = torch.randn(sizes["sequences"]).repeat_interleave(rows // sizes["sequences"])

    def work():
        hidden.grad = head.grad = None
        logps = formulas.linear_token_logps(torch, hidden, head, labels)
        (logps * gradients).sum().backward()

    def clean():
        hidden.grad = head.grad = None

    work()
    clean()
    return measure(lambda: (work(), clean()), 4 * (rows * width + (0 if frozen else vocab * width)), repeats)


def peer_step(torch, sizes, repeats):
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=sizes["vocab"], hidden_size=sizes["hidden"], intermediate_size=sizes["intermediate"],
        num_hidden_layers=sizes["layers"], num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["kv_heads"], max_position_embeddings=sizes["rows"], use_cache=False)
    model = transformers.LlamaForCausalLM(config).float()
    length, pairs = sizes["rows"] // sizes["sequences"], sizes["sequences"] // 2
    tokens = torch.randint(0, sizes["vocab"], (sizes["sequences"], length))
    mask = (torch.arange(1, length) >= max(1, length * (100 - sizes["valid_percent"]) // 100)).float()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-7, alpha=0.99)
    reference = None

    def logps():
        logits = model(input_ids=tokens).logits[:, :-1]
        return (torch.log_softmax(logits, -1).gather(2, tokens[:, 1:, None]).squeeze(2) * mask).sum(-1)

    with torch.no_grad():
        reference = logps()

    def work():
        optimizer.zero_grad(set_to_none=True)
        ratios = logps() - reference
        margins = 0.1 * (ratios[:pairs] - ratios[pairs:])
        (-torch.nn.functional.logsigmoid(margins)).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    work()
    optimizer.zero_grad(set_to_none=True)
    return measure(work, 4 * sum(p.numel() for p in model.parameters()), repeats)


def run_peer(name, threads, repeats):
    """In a process of its own: one peer, one JSON object on stdout."""
    import torch

    torch.manual_seed(1)
    torch.set_num_threads(threads)
    sizes = next(work[2] for work in WORK if work[0] == name)
    if name == "contrast":
        result = peer_contrast(torch, sizes, repeats)
    elif name.startswith("linear"):
        result = peer_linear(torch, sizes, repeats, name.endswith("frozen"))
    else:
        result = peer_step(torch, sizes, repeats)
    print(json.dumps(result))


def call(command, threads):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"bench-peers-cpu: {' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(work, arguments):
    name, op, sizes, _, _ = work
    shape = ",".join(f"{key}={value}" for key, value in sizes.items())
    options = ["--threads", str(arguments.threads), "--repeats", str(arguments.repeats)]
    ours, peer = [], []
    for _ in range(arguments.rounds):
        ours.append(call([arguments.rpo_bench, op, "--json", "--shape", shape, *options], arguments.threads))
        peer.append(call([sys.executable, os.path.abspath(__file__), "--peer", name, *options], arguments.threads))
    return [{key: statistics.median(run[key] for run in runs)
             for key in ("median_seconds", "extra_resident_bytes")} for runs in (ours, peer)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rpo-bench", default="build/bin/rpo-bench", help="path of the program")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs in each process")
    parser.add_argument("--only", choices=[work[0] for work in WORK], help="one row of the table")
    parser.add_argument("--peer", choices=[work[0] for work in WORK], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        run_peer(arguments.peer, arguments.threads, arguments.repeats)
        return

    import torch
    import transformers

    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {arguments.threads} threads, "
          f"median of {arguments.rounds} processes x {arguments.repeats} runs, turn about; "
          f"load average at the start {os.getloadavg()[0]:.2f} (anything but 0 disturbs)\n")
    print("| work | rpo ms | peer ms | faster by | goal | rpo extra MB | peer extra MB | memory ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for work in WORK:
        if arguments.only and work[0] != arguments.only:
            continue
        ours, peer = compare(work, arguments)
        ratio = peer["median_seconds"] / ours["median_seconds"]
        memory = [side["extra_resident_bytes"] / 1e6 for side in (ours, peer)]
        goal = f">= {work[4]:g}x" if work[4] else ""
        share = f"1/{memory[1] / memory[0]:.1f}" if memory[0] > 0 else "0"
        print(f"| {work[3]} | {ours['median_seconds'] * 1e3:.1f} | {peer['median_seconds'] * 1e3:.1f} "
              f"| {ratio:.2f}x | {goal} | {memory[0]:.1f} | {memory[1]:.1f} | {share} |", flush=True)


if __name__ == "__main__":
    main()
