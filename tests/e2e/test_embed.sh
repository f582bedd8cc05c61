#!/usr/bin/env bash
# test_embed.sh - `rpo embed`: computes, caches, notices damage, reads files made elsewhere.
set -euo pipefail

rpo="$RPO_BUILD/bin/rpo"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

cat > train.jsonl << 'END'
{"prompt": "Where do cats sleep?", "chosen": " In the sun.", "rejected": " No."}
{"prompt": "Where do dogs sleep?", "chosen": " On the bed.", "rejected": " Go."}
END
head -n 1 train.jsonl > eval.jsonl
cat > run.json << 'END'
{
  "model": { "init": { "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "num_key_value_heads": 2 } },
  "data": { "train": ["train.jsonl"], "eval": ["eval.jsonl"] },
  "run": { "dir": "run" }
}
END

# --- computed once, then found ---
"$rpo" embed run.json > first.txt
grep -q '^data.train  2 prompts x 384 dimensions, computed in .*: run/cache/embeddings-.*\.bin$' first.txt ||
    fail "$(cat first.txt)"
grep -q '^data.eval   1 prompts x 384 dimensions, computed in ' first.txt || fail "$(cat first.txt)"
[ "$(find run/cache -name 'embeddings-*.bin' | wc -l)" -eq 2 ] || fail "there are not two cache files"
sha256sum run/cache/* > sums.txt
"$rpo" embed run.json > second.txt
[ "$(grep -c 'found in the cache' second.txt)" -eq 2 ] || fail "$(cat second.txt)"
sha256sum --quiet -c sums.txt || fail "a second run changed the cache"

# --- a damaged one is noticed, said and replaced by the same bytes ---
for file in run/cache/*; do printf 'X' | dd of="$file" bs=1 seek=100 conv=notrunc status=none; done
"$rpo" embed run.json > third.txt 2> err.txt
[ "$(grep -c '^rpo: warning: run/cache/embeddings-.* computed anew$' err.txt)" -eq 2 ] || fail "$(cat err.txt)"
[ "$(grep -c ' computed in ' third.txt)" -eq 2 ] || fail "$(cat third.txt)"
sha256sum --quiet -c sums.txt || fail "the new cache differs"

# --- other data, other cache ---
sed 's/cats/hens/' train.jsonl > other.jsonl
"$rpo" embed run.json --set 'data.train=["other.jsonl"]' > other.txt
[ "$(grep -c ' computed in ' other.txt)" -eq 2 ] || fail "another data set found a cache: $(cat other.txt)"

# --- a matrix made elsewhere: 2 x 2 float32 ---
header="{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"
{
    printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "$header"
    printf '\x00\x00\x80\x3f\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x3f'
} > rows.npy
"$rpo" embed run.json --set 'data.eval=[]' --set embedding.kind=file --set embedding.path=rows.npy > file.txt
grep -q '^data.train  2 prompts x 2 dimensions, read in .*: rows.npy$' file.txt || fail "$(cat file.txt)"
code=0
"$rpo" embed run.json --set 'data.train=["eval.jsonl"]' --set 'data.eval=[]' --set embedding.kind=file \
    --set embedding.path=rows.npy > /dev/null 2> err.txt || code=$?
[ "$code" -eq 2 ] || fail "exit code $code for a matrix of the wrong height"
grep -q '^rpo: rows.npy: has 2 rows; must have one for each of the 1 records$' err.txt || fail "$(cat err.txt)"
[ "$(wc -l < err.txt)" -eq 1 ] || fail "stderr is not one line"
echo "embed: all as expected"
