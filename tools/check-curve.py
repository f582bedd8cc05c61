#!/usr/bin/env python3
"""Holds the curve of `rpo train` against plain PyTorch: the same model, pairs, order, warm-up and clipping, step by step.

    tools/check-curve.py [--rpo build/bin/rpo] [--data FILE.jsonl[.gz]] [--steps 22] [--limit 1e-4] [--json FILE]

Two losses (rpo-paired in blocks, dpo) with two optimizers (RMSprop, AdamW), float32 on both sides. The other side is
transformers' LlamaForCausalLM, torch's optimizers and clip_grad_norm_, and the losses as formulas; it makes its own batches
from the data file (bench/peers/pairs.py). Differences of losses and gradient norms are relative; one beyond --limit fails.
Needs an environment with PyTorch and transformers (tools/peers-venv).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "bench", "peers"))
import pairs

MODEL = {"layers": 2, "hidden": 64, "intermediate": 176, "heads": 4, "vocab": pairs.BYTE_VOCAB, "positions": 512}
MAX_LENGTH, MAX_PROMPT_LENGTH, DIM = 320, 160, 32
BATCH, BLOCK, BETA, TAU, SEED = 8, 4, 0.1, 0.5, 7
WARMUP, MAX_NORM = 5, 0.5
LEARNING_RATES = {"rmsprop": 1e-4, "adamw": 1e-3}


def write_inputs(folder, data, records):
    """Model, data and prompt embeddings that both sides read."""
    import numpy

    pairs.write_model(os.path.join(folder, "model"), pairs.model_keys(**MODEL), SEED)
    lines = pairs.read_lines(data, records)
    with open(os.path.join(folder, "pairs.jsonl"), "w") as out:
        out.writelines(lines)
    embeddings = numpy.random.default_rng(SEED).standard_normal((records, DIM)).astype(numpy.float32)
    numpy.save(os.path.join(folder, "embeddings.npy"), embeddings)
    return [pairs.encode(line, MAX_LENGTH, MAX_PROMPT_LENGTH) for line in lines], embeddings


def run_rpo(rpo, folder, loss, optimizer, steps):
    """[(loss, gradient norm)] of the program's steps."""
    name = f"{loss}-{optimizer}"
    config = {
        "model": {"path": os.path.join(folder, "model")},
        "data": {"train": [os.path.join(folder, "pairs.jsonl")], "max_length": MAX_LENGTH,
                 "max_prompt_length": MAX_PROMPT_LENGTH},
        "embedding": {"kind": "file", "path": os.path.join(folder, "embeddings.npy")},
        "loss": {"kind": loss, "beta": BETA, "distance_temperature": TAU, "contrast_block": BLOCK},
        "train": {"batch_size": BATCH, "max_steps": steps, "epochs": 1, "optimizer": optimizer, "warmup_steps": WARMUP,
                  "learning_rate": LEARNING_RATES[optimizer], "max_grad_norm": MAX_NORM},
        "run": {"dir": os.path.join(folder, name), "seed": SEED, "device": "cpu"},
    }
    path = os.path.join(folder, f"{name}.json")
    with open(path, "w") as out:
        json.dump(config, out)
    done = subprocess.run([rpo, "train", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"check-curve: {rpo} ended with {done.returncode}: {done.stderr.strip()}")
    with open(os.path.join(folder, name, "metrics.jsonl")) as rows:
        rows = [row for row in map(json.loads, rows) if "loss" in row]
    return [(row["loss"], row["grad_norm"]) for row in rows]


def sequence_logps(torch, model, records):
    """Summed log-probs of the labels: the chosen sequences, then the rejected ones; one forward, padded on the right."""
    sequences = [(record["prompt_ids"], record[side]) for side in ("chosen_ids", "rejected_ids") for record in records]
    longest = max(len(prompt) + len(response) for prompt, response in sequences)
    ids = torch.full((len(sequences), longest), pairs.PAD)
    mask, labels = torch.zeros_like(ids), torch.zeros(len(sequences), longest)
    for row, (prompt, response) in enumerate(sequences):
        length = len(prompt) + len(response)
        ids[row, :length] = torch.tensor(prompt + response)
        mask[row, :length] = 1
        labels[row, len(prompt):length] = 1
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    logps = torch.log_softmax(logits.float(), -1).gather(2, ids[:, 1:, None]).squeeze(2)
    return (logps * labels[:, 1:]).sum(-1)


def block_loss(torch, kind, ratios, embeddings):
    """rpo-paired: mean_ij -log sigmoid(beta w_ij (a_i - b_j)); dpo: the diagonal without a weight."""
    chosen, rejected = ratios
    scores = chosen[:, None] - rejected[None, :]
    if kind == "dpo":
        return -torch.nn.functional.logsigmoid(BETA * scores.diagonal())
    unit = torch.nn.functional.normalize(embeddings, dim=-1)
    weights = torch.softmax(-(1 - unit @ unit.T) / TAU, dim=-1)
    return -torch.nn.functional.logsigmoid(BETA * weights * scores).mean(dim=1)


def make_optimizer(torch, name, model):
    kind = torch.optim.RMSprop if name == "rmsprop" else torch.optim.AdamW
    decay = {} if name == "rmsprop" else {"weight_decay": 0.0}
    return kind(model.parameters(), lr=LEARNING_RATES[name], **decay)


def run_torch(torch, folder, records, embeddings, loss, optimizer_name, steps):
    """The same steps in PyTorch."""
    model = pairs.load_llama(os.path.join(folder, "model"))
    optimizer = make_optimizer(torch, optimizer_name, model)
    order = pairs.epoch_order(len(records), SEED)
    embeddings = torch.from_numpy(embeddings)
    batches = [order[first:first + BATCH] for first in range(0, steps * BATCH, BATCH)]
    with torch.no_grad():
        reference = [sequence_logps(torch, model, [records[i] for i in batch]) for batch in batches]
    curve = []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATES[optimizer_name] * min(1.0, (step + 1) / WARMUP)
        optimizer.zero_grad()
        ratios = (sequence_logps(torch, model, [records[i] for i in batch]) - reference[step]).view(2, len(batch))
        vectors = embeddings[torch.tensor(batch)]
        value = torch.cat([block_loss(torch, loss, ratios[:, first:first + BLOCK], vectors[first:first + BLOCK])
                           for first in range(0, len(batch), BLOCK)]).mean()
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        curve.append((value.item(), norm.item()))
    return curve


def compare(ours, theirs):
    """The largest relative difference of losses and of norms, and the curve's ends."""
    def largest(which):
        return max(abs(a[which] - b[which]) / abs(b[which]) for a, b in zip(ours, theirs, strict=True))

    return {"steps": len(ours), "loss_difference": largest(0), "grad_norm_difference": largest(1),
            "loss": [theirs[0][0], theirs[-1][0]], "grad_norm": [theirs[0][1], theirs[-1][1]]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rpo", default="build/bin/rpo", help="the program to check")
    parser.add_argument("--data", default=os.path.join(HERE, "..", "..", "shared", "data", "hh-harmless-train.jsonl.gz"))
    parser.add_argument("--steps", type=int, default=22)
    parser.add_argument("--limit", type=float, default=1e-4, help="the largest relative difference that passes")
    parser.add_argument("--json", help="file for the figures, one JSON object a line")
    arguments = parser.parse_args()

    import torch
    import transformers

    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}; {arguments.steps} steps of {BATCH} pairs, "
          f"{MODEL['layers']} layers, {MODEL['hidden']} wide, float32\n")
    print("| loss | optimizer | loss, first to last | gradient norm, first to last | largest difference of losses | of norms |")
    print("|---|---|---|---|---|---|")
    good, lines = True, []
    with tempfile.TemporaryDirectory() as folder:
        records, embeddings = write_inputs(folder, arguments.data, arguments.steps * BATCH)
        for loss in ("rpo-paired", "dpo"):
            for optimizer in ("rmsprop", "adamw"):
                found = compare(run_rpo(arguments.rpo, folder, loss, optimizer, arguments.steps),
                                run_torch(torch, folder, records, embeddings, loss, optimizer, arguments.steps))
                worst = max(found["loss_difference"], found["grad_norm_difference"])
                good = good and worst <= arguments.limit  # false for NaN too
                lines.append(json.dumps({"loss": loss, "optimizer": optimizer, "curve": found}))
                print(f"| {loss} | {optimizer} | {found['loss'][0]:.4f} to {found['loss'][1]:.4f} | {found['grad_norm'][0]:.2f} to "
                      f"{found['grad_norm'][1]:.2f} | {found['loss_difference']:.1e} | {found['grad_norm_difference']:.1e} |", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as out:
            out.write("\n".join(lines) + "\n")
    print(f"\nwithin {arguments.limit:g}: {'yes' if good else 'NO'}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
