#!/usr/bin/env python3
"""Loads a model folder that rpo wrote in transformers and compares its tokenizer with the byte tokenizer's ids.

    python3 tools/check-tokenizer.py MODEL_FOLDER [COPY]        needs transformers; tried with 5.24

Exits 0 when every text gives exactly the ids that rpo feeds (BOS and the UTF-8 bytes, or the bytes alone without special
tokens), decoding gives the text back, the folder's config.json names the same special ids, and all of that still holds of
what transformers writes again. COPY receives the latter, to see that rpo takes it. Where the files change on purpose, check
them so and put them into tests/golden/tokenizer.
"""
import json
import os
import random
import sys
import tempfile

import transformers

BOS, EOS, PAD, VOCAB = 256, 257, 258, 259


def texts():
    yield from ["", " ", "\n\nHuman: hello\n\nAssistant:", "<bos>", "a<eos>b<pad>", "tabs\tand\r\nbreaks", "e\u0301 \u00e9 \ufb01"]
    yield "".join(chr(point) for point in range(1, 0x250))
    yield "\u65e5\u672c\u8a9e \U0001f600 \u0627\u0644\u0639"
    random.seed(1)
    for _ in range(500):
        points = [random.choice([random.randrange(1, 128), random.randrange(1, 0xD800), random.randrange(0xE000, 0x110000)])
                  for _ in range(random.randrange(1, 40))]
        yield "".join(map(chr, points))


def check(tokenizer, what):
    count = 0
    for text in texts():
        ids = list(text.encode())
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids, (what, text)
        assert tokenizer(text)["input_ids"] == [BOS] + ids, (what, text)
        assert tokenizer.decode(ids) == text, (what, text)
        count += 1
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)) == (BOS, EOS, PAD, VOCAB), what
    assert tokenizer.decode([BOS, 97, EOS]) == "<bos>a<eos>", what
    assert tokenizer.decode([BOS, 97, EOS], skip_special_tokens=True) == "a", what
    return count


def main():
    folder = sys.argv[1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    count = check(tokenizer, "as rpo wrote it")
    with tempfile.TemporaryDirectory() as scratch:
        again = sys.argv[2] if len(sys.argv) > 2 else scratch
        tokenizer.save_pretrained(again)
        check(transformers.AutoTokenizer.from_pretrained(again), "as transformers wrote it again")
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (BOS, EOS, PAD), config
    print(f"{folder}: {count} texts give rpo's ids in transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
