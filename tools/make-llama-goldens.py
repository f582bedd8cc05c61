#!/usr/bin/env python3
"""Writes tests/golden/llama-*/: tiny random Llama models and what transformers computes with them.

Needs torch, transformers, numpy and safetensors from the Python registry; the suite itself never runs this.
Each folder holds
    config.json, model.safetensors   as LlamaForCausalLM.save_pretrained writes them
    expect.safetensors               tokens, cu_seqlens, label_starts, coefficients (integers kept as float32),
                                     logits [tokens][vocab], sequence_logps, and grad.<parameter> of
                                     sum(coefficients * sequence_logps)
Weights are float32 numbers; everything is computed from them in float64 and cast at the end. Sequences run one
by one, so that packing itself is under test.

usage: make-llama-goldens.py [FOLDER]    (default: tests/golden of this checkout)
"""
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

CASES = {
    "llama-tied-mha": dict(
        seed=1, lengths=[7, 1, 2, 12], vocab_size=37, hidden_size=16, intermediate_size=40, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
    ),
    "llama-untied-gqa-4-2": dict(
        seed=2, lengths=[9, 2, 17, 1, 5], vocab_size=53, hidden_size=32, intermediate_size=44, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False, rope_theta=500000.0,
    ),
    "llama-tied-gqa-4-1": dict(
        seed=3, lengths=[3, 31, 6], vocab_size=41, hidden_size=48, intermediate_size=56, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, tie_word_embeddings=True, rms_norm_eps=1e-5,
    ),
    # head_dim 6 is no power of two and heads * head_dim is not the hidden size; the long sequence crosses tiles.
    "llama-untied-head-dim": dict(
        seed=4, lengths=[70, 2, 1, 13], vocab_size=29, hidden_size=24, intermediate_size=24, num_hidden_layers=3,
        num_attention_heads=3, num_key_value_heads=3, head_dim=6, tie_word_embeddings=False,
    ),
}


def build_model(case):
    rope_theta = case.pop("rope_theta", 10000.0)
    config = LlamaConfig(
        max_position_embeddings=128, initializer_range=0.3, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta}, attn_implementation="eager", **case,
    )
    model = LlamaForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0, 0.2) if "norm" in name else parameter.normal_(0.0, 0.25)
    return model


def expected_values(model, lengths):
    """Logits, log-probs and gradients in float64."""
    vocab = model.config.vocab_size
    logits, logps, tokens, label_starts = [], [], [], []
    coefficients = torch.randn(len(lengths), dtype=torch.float64)
    for length in lengths:
        ids = torch.randint(0, vocab, (length,))
        start = int(torch.randint(1, length + 1, (1,))) if length > 1 else 1
        out = model(ids[None], use_cache=False).logits[0]
        by_token = torch.log_softmax(out[:-1], -1).gather(1, ids[1:, None])[:, 0]
        logps.append(by_token[start - 1 :].sum())
        logits.append(out)
        tokens.append(ids)
        label_starts.append(start)
    sequence_logps = torch.stack(logps)
    model.zero_grad()
    (coefficients * sequence_logps).sum().backward()
    starts = torch.tensor([0] + lengths).cumsum(0)
    values = {
        "tokens": torch.cat(tokens), "cu_seqlens": starts, "label_starts": torch.tensor(label_starts),
        "coefficients": coefficients, "logits": torch.cat(logits), "sequence_logps": sequence_logps,
    }
    for name, parameter in model.named_parameters():
        values["grad." + name] = parameter.grad
    return {name: value.detach().to(torch.float32).contiguous() for name, value in values.items()}


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "tests" / "golden"
    for name, case in CASES.items():
        case = dict(case)
        torch.manual_seed(case.pop("seed"))
        lengths = case.pop("lengths")
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        model = build_model(case)
        model.save_pretrained(target)
        (target / "generation_config.json").unlink(missing_ok=True)
        values = expected_values(model.double(), lengths)
        save_file(values, target / "expect.safetensors")
        size = sum(path.stat().st_size for path in target.iterdir())
        print(f"{name}: {len(lengths)} sequences, {sum(lengths)} tokens, {size} bytes")


if __name__ == "__main__":
    main()
