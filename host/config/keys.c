/* keys.c - every key of a configuration: name, type, default, range, meaning. */
#include <math.h>
#include <string.h>

#include "host/config/keys.h"

static const char *const tokenizers[] = {
    [RPO_TOKENIZER_AUTO] = "auto", [RPO_TOKENIZER_BYTES] = "bytes", NULL};
static const char *optimizer_name(int index) {
    return index < RPO_OPTIMIZER_KINDS ? rpo_optimizer_kind_name((rpo_optimizer_kind)index) : NULL;
}

static const char *loss_kind_name(int index) {
    return index < RPO_LOSS_KIND_COUNT ? rpo_loss_kind_name((rpo_loss_kind)index) : NULL;
}

static const char *const data_formats[] = {[RPO_DATA_AUTO] = "auto",
                                           [RPO_DATA_PAIRS] = "pairs",
                                           [RPO_DATA_HH] = "hh",
                                           [RPO_DATA_UNPAIRED] = "unpaired",
                                           NULL};
static const char *const truncations[] = {
    [RPO_TRUNCATE_KEEP_END] = "keep_end", [RPO_TRUNCATE_KEEP_START] = "keep_start", NULL};
static const char *const bad_records[] = {
    [RPO_BAD_RECORD_ERROR] = "error", [RPO_BAD_RECORD_SKIP] = "skip", NULL};
static const char *const embedding_kinds[] = {
    [RPO_EMBEDDING_HASHED] = "hashed", [RPO_EMBEDDING_FILE] = "file", NULL};
static const char *const weight_scales[] = {
    [RPO_WEIGHT_SCALE_NONE] = "none", [RPO_WEIGHT_SCALE_BLOCK] = "block", NULL};
static const char *const prefix_sharings[] = {
    [RPO_PREFIX_SHARING_AUTO] = "auto", [RPO_PREFIX_SHARING_OFF] = "off", NULL};
static const char *const devices[] = {
    [RPO_RUN_DEVICE_AUTO] = "auto", [RPO_RUN_DEVICE_CPU] = "cpu", [RPO_RUN_DEVICE_CUDA] = "cuda", NULL};
static const char *const dtypes[] = {[RPO_FLOAT32] = "float32", [RPO_BFLOAT16] = "bfloat16", NULL};

/* Bounds that only keep nonsense out. */
#define MANY_TOKENS  1048576.0
#define MANY_PAIRS   1048576.0
#define MANY_STEPS   1e12
#define EXACT_DOUBLE 9007199254740991.0 /* 2^53 - 1, the largest integer JSON numbers hold safely */

#define AT(member) offsetof(rpo_config, member)

static const rpo_config_key keys[] = {
    {.name = "model.path",
     .type = RPO_KEY_STRING,
     .offset = AT(model.path),
     .meaning = "HF-style folder: config.json, model.safetensors; either this or model.init"},
    {.name = "model.init",
     .type = RPO_KEY_MODEL,
     .offset = AT(model.init),
     .meaning = "a fresh Llama-architecture model instead of a path; rpo help model.init lists its keys"},
    {.name = "model.tokenizer",
     .type = RPO_KEY_CHOICE,
     .offset = AT(model.tokenizer),
     .initial = RPO_TOKENIZER_AUTO,
     .choices = tokenizers,
     .meaning = "auto: the folder's own; bytes: one token a byte, whatever the folder says"},

    {.name = "data.train",
     .type = RPO_KEY_STRING_LIST,
     .offset = AT(data.train),
     .required = true,
     .meaning = "training files, .jsonl or .jsonl.gz"},
    {.name = "data.eval",
     .type = RPO_KEY_STRING_LIST,
     .offset = AT(data.eval),
     .meaning = "held-out files; none: no evaluation"},
    {.name = "data.format",
     .type = RPO_KEY_CHOICE,
     .offset = AT(data.options.format),
     .initial = RPO_DATA_AUTO,
     .choices = data_formats,
     .meaning = "what a record looks like; auto: by the first record"},
    {.name = "data.max_length",
     .type = RPO_KEY_INT32,
     .offset = AT(data.options.max_length),
     .initial = 512,
     .low = 2,
     .high = MANY_TOKENS,
     .meaning = "most tokens of a prompt with its response"},
    {.name = "data.max_prompt_length",
     .type = RPO_KEY_INT32,
     .offset = AT(data.options.max_prompt_length),
     .initial = 256,
     .low = 1,
     .high = MANY_TOKENS,
     .meaning = "most tokens of the prompt where both are too long; below max_length (not given: at most "
                "half of it)"},
    {.name = "data.truncation",
     .type = RPO_KEY_CHOICE,
     .offset = AT(data.options.truncation),
     .initial = RPO_TRUNCATE_KEEP_END,
     .choices = truncations,
     .meaning = "which end of a long prompt stays"},
    {.name = "data.on_bad_record",
     .type = RPO_KEY_CHOICE,
     .offset = AT(data.options.on_bad_record),
     .initial = RPO_BAD_RECORD_ERROR,
     .choices = bad_records,
     .meaning = "stop at a bad record, or skip and count it"},

    {.name = "embedding.kind",
     .type = RPO_KEY_CHOICE,
     .offset = AT(embedding.kind),
     .initial = RPO_EMBEDDING_HASHED,
     .choices = embedding_kinds,
     .meaning = "where prompt embeddings come from"},
    {.name = "embedding.path",
     .type = RPO_KEY_STRING,
     .offset = AT(embedding.path),
     .meaning = "kind file: .npy or .safetensors, one row per training record"},
    {.name = "embedding.eval_path",
     .type = RPO_KEY_STRING,
     .offset = AT(embedding.eval_path),
     .meaning = "kind file: the same for the held-out records"},

    {.name = "loss.kind",
     .type = RPO_KEY_CHOICE,
     .offset = AT(loss.kind),
     .initial = RPO_LOSS_RPO_PAIRED,
     .choice_name = loss_kind_name,
     .meaning = "the objective; sft trains on the chosen responses alone; ipo takes sums over a response's "
                "tokens where TRL takes means"},
    {.name = "loss.beta",
     .type = RPO_KEY_DOUBLE,
     .offset = AT(loss.beta),
     .initial = 0.1,
     .low = 1e-6,
     .high = 1e6,
     .meaning = "scale of the log-ratios"},
    {.name = "loss.distance_temperature",
     .type = RPO_KEY_DOUBLE,
     .offset = AT(loss.distance_temperature),
     .initial = 0.5,
     .low = 1e-6,
     .high = 1e6,
     .meaning = "tau: smaller weighs like prompts more"},
    {.name = "loss.diagonal_weight",
     .type = RPO_KEY_DOUBLE,
     .offset = AT(loss.diagonal_weight),
     .initial = 0.8,
     .low = 0,
     .high = 1,
     .meaning = "rpo-diagonal: share of a prompt's own pair"},
    {.name = "loss.epsilon",
     .type = RPO_KEY_DOUBLE,
     .offset = AT(loss.epsilon),
     .initial = 0.1,
     .low = 0,
     .high = 0.5,
     .meaning = "cdpo: label smoothing"},
    {.name = "loss.contrast_block",
     .type = RPO_KEY_INT64,
     .offset = AT(loss.contrast_block),
     .initial = 8,
     .low = 0,
     .high = MANY_PAIRS,
     .meaning = "pairs contrasted with each other; 0: the whole batch (not given: at most the batch)"},
    {.name = "loss.weight_scale",
     .type = RPO_KEY_CHOICE,
     .offset = AT(loss.weight_scale),
     .initial = RPO_WEIGHT_SCALE_NONE,
     .choices = weight_scales,
     .meaning = "none: weights of a row sum to 1; block: their mean is 1"},

    {.name = "train.batch_size",
     .type = RPO_KEY_INT64,
     .offset = AT(train.batch_size),
     .initial = 64,
     .low = 1,
     .high = MANY_PAIRS,
     .meaning = "pairs of one step, over all micro-batches and ranks"},
    {.name = "train.micro_batch_tokens",
     .type = RPO_KEY_INT64,
     .offset = AT(train.micro_batch_tokens),
     .low = 0,
     .high = 1e9,
     .may_change = true,
     .meaning = "most tokens of one forward; 0: chosen from the model; no effect on results"},
    {.name = "train.prefix_sharing",
     .type = RPO_KEY_CHOICE,
     .offset = AT(train.prefix_sharing),
     .initial = RPO_PREFIX_SHARING_AUTO,
     .choices = prefix_sharings,
     .may_change = true,
     .meaning = "auto: a prompt is computed once for all its responses; off: once for each"},
    {.name = "train.epochs",
     .type = RPO_KEY_DOUBLE,
     .offset = AT(train.epochs),
     .initial = 1,
     .low = 0,
     .high = 1e6,
     .above_low = true,
     .may_change = true,
     .meaning = "passes over the data"},
    {.name = "train.max_steps",
     .type = RPO_KEY_INT64,
     .offset = AT(train.max_steps),
     .low = 0,
     .high = MANY_STEPS,
     .may_change = true,
     .meaning = "stop after so many steps; 0: as many as the epochs give"},
    {.name = "train.learning_rate",
     .type = RPO_KEY_DOUBLE,
     .offset = AT(train.learning_rate),
     .initial = 5e-7,
     .low = 0,
     .high = 100,
     .meaning = "after the warm-up"},
    {.name = "train.optimizer",
     .type = RPO_KEY_CHOICE,
     .offset = AT(train.optimizer),
     .initial = RPO_OPTIMIZER_RMSPROP,
     .choice_name = optimizer_name,
     .meaning = "the update rule"},
    {.name = "train.warmup_steps",
     .type = RPO_KEY_INT64,
     .offset = AT(train.warmup_steps),
     .initial = 150,
     .low = 0,
     .high = MANY_STEPS,
     .meaning = "steps over which the learning rate rises: step k of them takes k / warmup_steps of it"},
    {.name = "train.max_grad_norm",
     .type = RPO_KEY_DOUBLE,
     .offset = AT(train.max_grad_norm),
     .initial = 10,
     .low = 0,
     .high = 1e9,
     .meaning = "gradients are scaled down to this norm; 0: never"},
    {.name = "train.weight_decay",
     .type = RPO_KEY_DOUBLE,
     .offset = AT(train.weight_decay),
     .low = 0,
     .high = 100,
     .meaning = "decay of matrices, none of norms"},
    {.name = "train.eval_every",
     .type = RPO_KEY_INT64,
     .offset = AT(train.eval_every),
     .low = 0,
     .high = MANY_STEPS,
     .may_change = true,
     .meaning = "steps between evaluations; 0: before and after only"},
    {.name = "train.save_every",
     .type = RPO_KEY_INT64,
     .offset = AT(train.save_every),
     .low = 0,
     .high = MANY_STEPS,
     .may_change = true,
     .meaning = "steps between checkpoints; 0: at the end only"},
    {.name = "train.keep_checkpoints",
     .type = RPO_KEY_INT64,
     .offset = AT(train.keep_checkpoints),
     .initial = 3,
     .low = 1,
     .high = 1e6,
     .may_change = true,
     .meaning = "older ones are removed"},

    {.name = "reference.path",
     .type = RPO_KEY_STRING,
     .offset = AT(reference.path),
     .meaning = "the frozen model; not given: the policy as it starts"},

    {.name = "run.dir",
     .type = RPO_KEY_STRING,
     .offset = AT(run.dir),
     .required = true,
     .may_change = true,
     .meaning = "folder of metrics, checkpoints and the final model"},
    {.name = "run.seed",
     .type = RPO_KEY_UINT64,
     .offset = AT(run.seed),
     .initial = 1,
     .low = 0,
     .high = EXACT_DOUBLE,
     .meaning = "of fresh weights and of the order of records"},
    {.name = "run.device",
     .type = RPO_KEY_CHOICE,
     .offset = AT(run.device),
     .initial = RPO_RUN_DEVICE_AUTO,
     .choices = devices,
     .meaning = "auto: an accelerator where there is one"},
    {.name = "run.dtype",
     .type = RPO_KEY_CHOICE,
     .offset = AT(run.dtype),
     .initial = RPO_FLOAT32,
     .choices = dtypes,
     .meaning = "of weights and activations; the CPU computes in float32"},
    {.name = "run.threads",
     .type = RPO_KEY_INT64,
     .offset = AT(run.threads),
     .low = 0,
     .high = 4096,
     .may_change = true,
     .meaning = "host threads; 0: all"},
};

enum { NUM_KEYS = sizeof keys / sizeof keys[0] };

const rpo_config_key *rpo_config_keys(size_t *count) {
    *count = NUM_KEYS;
    return keys;
}

const rpo_config_key *rpo_config_find_key(const char *name) {
    for (size_t i = 0; i < NUM_KEYS; ++i)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

bool rpo_config_is_section(const char *name, size_t length) {
    for (size_t i = 0; i < NUM_KEYS; ++i)
        if (strncmp(keys[i].name, name, length) == 0 && keys[i].name[length] == '.')
            return true;
    return false;
}

static const char *last_part(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot != NULL ? dot + 1 : name;
}

const char *rpo_config_nearest_key(const char *name) {
    const char *names[NUM_KEYS], *parts[NUM_KEYS];
    for (size_t i = 0; i < NUM_KEYS; ++i) {
        names[i] = keys[i].name;
        parts[i] = last_part(keys[i].name);
        if (strcmp(parts[i], last_part(name)) == 0)
            return names[i]; /* right name, wrong section */
    }
    const char *near = rpo_nearest_word(name, names, NUM_KEYS);
    if (near != NULL)
        return near;
    const char *near_part = rpo_nearest_word(last_part(name), parts, NUM_KEYS);
    for (size_t i = 0; i < NUM_KEYS; ++i)
        if (near_part == parts[i])
            return names[i];
    return NULL;
}

const char *rpo_config_choice_name(const rpo_config_key *key, int index) {
    return key->choice_name != NULL ? key->choice_name(index) : key->choices[index];
}

static rpo_status append_range(const rpo_config_key *key, const char *kind, rpo_text *text) {
    return rpo_text_printf(text, "%s %s %.16g %s %.16g", kind, key->above_low ? "above" : "from", key->low,
                           key->above_low ? "and at most" : "to", key->high);
}

rpo_status rpo_config_append_allowed(const rpo_config_key *key, rpo_text *text) {
    switch (key->type) {
    case RPO_KEY_STRING:
        return rpo_text_printf(text, "a string that is not empty");
    case RPO_KEY_STRING_LIST:
        return rpo_text_printf(text, "a list of file names");
    case RPO_KEY_CHOICE:
        RPO_TRY(rpo_text_printf(text, "one of"));
        for (int i = 0; rpo_config_choice_name(key, i) != NULL; ++i)
            RPO_TRY(rpo_text_printf(text, "%s %s", i > 0 ? "," : "", rpo_config_choice_name(key, i)));
        return RPO_OK;
    case RPO_KEY_INT32:
    case RPO_KEY_INT64:
    case RPO_KEY_UINT64:
        return append_range(key, "an integer", text);
    case RPO_KEY_DOUBLE:
        return append_range(key, "a number", text);
    case RPO_KEY_MODEL:
        return rpo_text_printf(text, "an object of HF model keys");
    }
    return rpo_error_set(RPO_ERROR_INTERNAL, "%s: has no type", key->name);
}
