"""Preference pairs as `rpo train` makes them of its files, for peers that are to see the very same batches: the byte
tokenizer, truncation, each epoch's order, and a model folder that both sides load."""
import gzip
import json
import os

BOS, EOS, PAD, BYTE_VOCAB = 256, 257, 258, 259
TURN = b"\n\nAssistant:"
MASK64 = (1 << 64) - 1


def read_lines(path, count):
    """The first `count` lines of a .jsonl or .jsonl.gz file."""
    opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path)
    with opened as lines:
        found = [line for _, line in zip(range(count), lines)]
    if len(found) < count:
        raise SystemExit(f"{path}: has {len(found)} records; {count} are needed")
    return found


def split(line):
    """(prompt, chosen, rejected) of a record of pairs, or of an HH record, as bytes."""
    record = {key: value.encode() for key, value in json.loads(line).items() if isinstance(value, str)}
    chosen, rejected = record["chosen"], record["rejected"]
    if "prompt" in record:
        return record["prompt"], chosen, rejected
    shared = len(os.path.commonprefix([chosen, rejected]))
    end = chosen.rfind(TURN, 0, shared) + len(TURN)
    return chosen[:end], chosen[end:], rejected[end:]


def encode(line, max_length, max_prompt_length):
    """{"prompt_ids", "chosen_ids", "rejected_ids"}: BOS and the prompt's end, the responses with EOS (host/data/truncate.h)."""
    prompt, chosen, rejected = split(line)
    prompt, chosen, rejected = [BOS, *prompt], [*chosen, EOS], [*rejected, EOS]
    if len(prompt) + max(len(chosen), len(rejected)) > max_length and len(prompt) > max_prompt_length:
        prompt = [BOS, *prompt[len(prompt) - max_prompt_length + 1:]]
    kept = max_length - len(prompt)
    return {"prompt_ids": prompt, "chosen_ids": chosen[:kept], "rejected_ids": rejected[:kept]}


def philox(seed, stream, counter):
    """The first 64 bits of Philox4x32-10, as core/random.c draws them."""
    x = [counter & 0xFFFFFFFF, counter >> 32, stream & 0xFFFFFFFF, stream >> 32]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(b >> 32) ^ x[1] ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ x[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return x[1] << 32 | x[0]


def epoch_order(count, seed, epoch=0):
    """The order of the records in an epoch (rpo_dataset_shuffle)."""
    order, counter, stream = list(range(count)), 0, (0x73687566 << 32) + epoch
    for i in range(count - 1, 0, -1):
        bound = i + 1
        while True:
            drawn = philox(seed, stream, counter)
            counter += 1
            if drawn >= (MASK64 - bound + 1) % bound:
                break
        j = drawn % bound
        order[i], order[j] = order[j], order[i]
    return order


def model_keys(layers, hidden, intermediate, heads, vocab, positions):
    """HF's keys of a Llama model whose ids are the byte tokenizer's."""
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab, "hidden_size": hidden,
            "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": heads, "max_position_embeddings": positions, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "tie_word_embeddings": False, "bos_token_id": BOS, "eos_token_id": EOS}


def load_llama(folder):
    """The folder's model in transformers, float32; with `keys` written but no weights yet, a fresh one."""
    import torch
    import transformers
    from safetensors.torch import load_file

    with open(os.path.join(folder, "config.json")) as config:
        keys = json.load(config)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**keys, use_cache=False)).to(torch.float32)
    weights = os.path.join(folder, "model.safetensors")
    if os.path.exists(weights):
        model.load_state_dict(load_file(weights))
    return model


def write_model(folder, keys, seed):
    """A fresh model as a folder."""
    import torch
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as config:
        json.dump(keys, config)
    torch.manual_seed(seed)
    state = {name: value.contiguous().clone() for name, value in load_llama(folder).state_dict().items()}
    save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
