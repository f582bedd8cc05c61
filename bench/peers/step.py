#!/usr/bin/env python3
"""One peer's training steps over preference pairs, in a process of its own; tools/bench-step-cpu.py starts it.

    bench/peers/step.py CASE.json PEER

PEER says who computes and how:

    transformers:padded        LlamaForCausalLM, the whole batch in one padded forward, cross_entropy over its logits
    transformers:sorted-K      micro-batches of K pairs of like length, gradients accumulated
    transformers:rows-K        the same, logits of the labelled rows alone
    transformers:compiled-K    rows-K with torch.compile(dynamic=True)
    trl:padded-K               TRL's DPOTrainer, K pairs a forward, gradients accumulated up to the batch

All minimise the DPO loss in float32 against constant reference log-probs, clip the gradient norm at 10 and update with RMSprop.
The batches are those of `rpo train` on the same file and seed. Prints one JSON object: seconds of each step, pairs, tokens.
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pairs
from common import resident

BETA, MAX_NORM, LEARNING_RATE = 0.1, 10.0, 5e-7


def batches_of(case):
    """Each step's records, in the order in which `rpo train` visits them in its first epoch."""
    lines = pairs.read_lines(case["data"], case["steps"] * case["batch"])
    records = [pairs.encode(line, case["max_length"], case["max_prompt_length"]) for line in lines]
    order = pairs.epoch_order(len(records), case["seed"])
    return [[records[i] for i in order[first:first + case["batch"]]] for first in range(0, len(order), case["batch"])]


def longest(record):
    return len(record["prompt_ids"]) + max(len(record["chosen_ids"]), len(record["rejected_ids"]))


def padded(torch, records):
    """ids, attention mask and labels (-100: ignored), chosen sequences first; labels stand where they are predicted."""
    sequences = [(record["prompt_ids"], record[side]) for side in ("chosen_ids", "rejected_ids") for record in records]
    width = max(len(prompt) + len(response) for prompt, response in sequences)
    ids = torch.full((len(sequences), width), pairs.PAD)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (prompt, response) in enumerate(sequences):
        length = len(prompt) + len(response)
        ids[row, :length] = torch.tensor(prompt + response)
        mask[row, :length] = 1
        labels[row, len(prompt) - 1:length - 1] = torch.tensor(response)
    return ids, mask, labels


def logps_of_all(torch, model, ids, mask, labels):
    logits = model(input_ids=ids, attention_mask=mask).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none")
    return -losses.view(labels.shape).sum(-1)


def logps_of_rows(torch, model, ids, mask, labels):
    hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
    chosen = labels != -100
    losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[chosen]), labels[chosen], reduction="none")
    sequence = torch.arange(len(ids))[:, None].expand_as(ids)[chosen]
    return -torch.zeros(len(ids)).index_add(0, sequence, losses)


def dpo_loss(torch, logps, reference):
    ratios = logps - reference
    count = len(logps) // 2
    return -torch.nn.functional.logsigmoid(BETA * (ratios[:count] - ratios[count:]))


def run_transformers(torch, case, way, size):
    model = pairs.load_llama(case["model"])
    score = logps_of_all if way in ("padded", "sorted") else logps_of_rows
    if way == "compiled":
        model.model = torch.compile(model.model, dynamic=True)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=LEARNING_RATE)
    seconds = []
    for records in batches_of(case):
        start = time.perf_counter()
        if size < len(records):
            records = sorted(records, key=longest)
        optimizer.zero_grad(set_to_none=True)
        for first in range(0, len(records), size):
            logps = score(torch, model, *padded(torch, records[first:first + size]))
            # A reference equal to the policy is what a run's first step has; its log-probs are constants here.
            (dpo_loss(torch, logps, logps.detach()).sum() / len(records)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def byte_tokenizer():
    """A tokenizer of the ids in use; nothing is tokenized with it, but the trainer asks for one."""
    import tokenizers
    import transformers

    vocab = {f"<{i}>": i for i in range(pairs.BYTE_VOCAB)}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<0>")),
        bos_token=f"<{pairs.BOS}>", eos_token=f"<{pairs.EOS}>", pad_token=f"<{pairs.PAD}>")


def run_trl(torch, case, size):
    import datasets
    import transformers
    import trl

    class Trainer(trl.DPOTrainer):
        """The product's own steps, on records that are tokenized already and in the order given."""

        def _prepare_dataset(self, dataset, *arguments, **named):
            return dataset

        def _precompute_ref_logps(self, dataset, *arguments, **named):
            return dataset

        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(self.train_dataset if dataset is None else dataset)

    class Clock(transformers.TrainerCallback):
        ends = []

        def on_train_begin(self, *arguments, **named):
            self.ends.append(time.perf_counter())

        def on_step_end(self, *arguments, **named):
            self.ends.append(time.perf_counter())

    constants = {"ref_chosen_logps": -1000.0, "ref_rejected_logps": -1000.0}
    records = [{**record, **constants} for batch in batches_of(case) for record in batch]
    options = trl.DPOConfig(
        output_dir=os.path.join(case["folder"], "trl"), use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False,
        per_device_train_batch_size=size, gradient_accumulation_steps=case["batch"] // size, num_train_epochs=1,
        optim="rmsprop", learning_rate=LEARNING_RATE, lr_scheduler_type="constant", max_grad_norm=MAX_NORM, beta=BETA,
        max_length=case["max_length"], precompute_ref_log_probs=True, save_strategy="no", eval_strategy="no",
        logging_strategy="no", report_to="none", disable_tqdm=True, dataloader_pin_memory=False, seed=case["seed"])
    clock = Clock()
    trainer = Trainer(model=pairs.load_llama(case["model"]), args=options, train_dataset=datasets.Dataset.from_list(records),
                      processing_class=byte_tokenizer(), callbacks=[clock])
    trainer.train()
    return [end - begin for begin, end in zip(clock.ends, clock.ends[1:])]


def main():
    with open(sys.argv[1]) as source:
        case = json.load(source)
    maker, _, way = sys.argv[2].partition(":")
    way, _, size = way.partition("-")
    size = int(size) if size else case["batch"]

    import torch

    torch.set_num_threads(case["threads"])
    loaded = resident("VmRSS")
    if maker == "transformers":
        seconds = run_transformers(torch, case, way, size)
    else:
        seconds = run_trl(torch, case, size)
    tokens = [sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in batch)
              for batch in batches_of(case)]
    print(json.dumps({"seconds": seconds, "tokens": tokens, "imports_resident_bytes": loaded}))


if __name__ == "__main__":
    main()
