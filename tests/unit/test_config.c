/* test_config.c - configurations: defaults, every fault with its line, overrides, the way to JSON and back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "host/config/keys.h"
#include "kernels/op_table.h"

static char path[64];

static void make_path(void) {
    snprintf(path, sizeof path, "/tmp/rpo-test-config-XXXXXX");
    const int file = mkstemp(path);
    cr_assert(file >= 0);
}

static void remove_path(void) {
    remove(path);
}

TestSuite(config, .init = make_path, .fini = remove_path);

static rpo_status load(rpo_config **config, const char *text, const char *const *overrides, size_t count) {
    cr_assert_eq(rpo_write_file_atomic(path, text, strlen(text)), RPO_OK);
    return rpo_config_load(config, path, overrides, count);
}

static rpo_config *load_sound(const char *text, const char *const *overrides, size_t count) {
    rpo_config *config = NULL;
    cr_assert_eq(load(&config, text, overrides, count), RPO_OK, "%s", rpo_last_error());
    return config;
}

#define INIT                                                                                                 \
    "\"init\": {\"vocab_size\": 259, \"hidden_size\": 16, \"intermediate_size\": 32,"                        \
    " \"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1}"
#define REQUIRED                                                                                             \
    "\"model\": {\"path\": \"m\"}, \"data\": {\"train\": [\"t.jsonl\"]}, \"run\": {\"dir\": \"r\"}"

Test(config, defaults) {
    rpo_config *config = load_sound("{" REQUIRED "}", NULL, 0);
    cr_assert_str_eq(config->model.path, "m");
    cr_assert_not(config->model.has_init);
    cr_assert_eq(config->model.tokenizer, RPO_TOKENIZER_AUTO);
    cr_assert_eq(config->train.prefix_sharing, RPO_PREFIX_SHARING_AUTO);
    cr_assert(config->data.train.count == 1 && config->data.eval.count == 0);
    cr_assert_str_eq(config->data.train.items[0], "t.jsonl");
    cr_assert_eq(config->data.options.format, RPO_DATA_AUTO);
    cr_assert_eq(config->data.options.max_length, 512);
    cr_assert_eq(config->data.options.max_prompt_length, 256);
    cr_assert_eq(config->data.options.truncation, RPO_TRUNCATE_KEEP_END);
    cr_assert_eq(config->data.options.on_bad_record, RPO_BAD_RECORD_ERROR);
    cr_assert_eq(config->embedding.kind, RPO_EMBEDDING_HASHED);
    cr_assert(config->embedding.path == NULL && config->embedding.eval_path == NULL);
    cr_assert_eq(config->loss.kind, RPO_LOSS_RPO_PAIRED);
    cr_assert(config->loss.beta == 0.1 && config->loss.distance_temperature == 0.5);
    cr_assert(config->loss.diagonal_weight == 0.8 && config->loss.epsilon == 0.1);
    cr_assert_eq(config->loss.contrast_block, 8);
    cr_assert_eq(config->loss.weight_scale, RPO_WEIGHT_SCALE_NONE);
    cr_assert_eq(config->train.batch_size, 64);
    cr_assert_eq(config->train.micro_batch_tokens, 0);
    cr_assert(config->train.epochs == 1 && config->train.max_steps == 0);
    cr_assert(config->train.learning_rate == 5e-7 && config->train.optimizer == RPO_OPTIMIZER_RMSPROP);
    cr_assert(config->train.warmup_steps == 150 && config->train.max_grad_norm == 10);
    cr_assert(config->train.weight_decay == 0 && config->train.eval_every == 0);
    cr_assert(config->train.save_every == 0 && config->train.keep_checkpoints == 3);
    cr_assert_null(config->reference.path);
    cr_assert_str_eq(config->run.dir, "r");
    cr_assert(config->run.seed == 1 && config->run.device == RPO_RUN_DEVICE_AUTO);
    cr_assert(config->run.dtype == RPO_FLOAT32 && config->run.threads == 0);
    cr_assert_str_eq(config->source, path);
    rpo_config_free(config);
    rpo_config_free(NULL);
}

/* A value other than the default for every key: what is read is what was written. */
static const char everything[] =
    "{\"model\": {" INIT ", \"tokenizer\": \"bytes\"},\n"
    " \"data\": {\"train\": [\"a\", \"b.gz\"], \"eval\": [\"\\u00e9\"], \"format\": \"hh\", \"max_length\": "
    "100,\n"
    "  \"max_prompt_length\": 99, \"truncation\": \"keep_start\", \"on_bad_record\": \"skip\"},\n"
    " \"embedding\": {\"kind\": \"file\", \"path\": \"e.npy\", \"eval_path\": \"f.npy\"},\n"
    " \"loss\": {\"kind\": \"rpo-diagonal\", \"beta\": 0.30000000000000004, \"distance_temperature\": 0.1,\n"
    "  \"diagonal_weight\": 1, \"epsilon\": 0, \"contrast_block\": 0, \"weight_scale\": \"block\"},\n"
    " \"train\": {\"batch_size\": 7, \"micro_batch_tokens\": 4096, \"epochs\": 2.5, \"max_steps\": 12,\n"
    "  \"learning_rate\": 1e-3, \"optimizer\": \"adamw\", \"warmup_steps\": 3, \"max_grad_norm\": 0,\n"
    "  \"weight_decay\": 0.01, \"eval_every\": 4, \"save_every\": 5, \"keep_checkpoints\": 1,\n"
    "  \"prefix_sharing\": \"off\"},\n"
    " \"reference\": {\"path\": \"ref\\\"x\"},\n"
    " \"run\": {\"dir\": \"d\", \"seed\": 9007199254740991, \"device\": \"cpu\", \"dtype\": \"float32\","
    " \"threads\": 2}}";

static void check_everything(const rpo_config *config) {
    cr_assert(config->model.path == NULL && config->model.has_init);
    cr_assert_eq(config->model.init.hidden_size, 16);
    cr_assert_eq(config->model.init.num_key_value_heads, 1);
    cr_assert_eq(config->model.tokenizer, RPO_TOKENIZER_BYTES);
    cr_assert_eq(config->train.prefix_sharing, RPO_PREFIX_SHARING_OFF);
    cr_assert_eq(config->data.train.count, 2);
    cr_assert_str_eq(config->data.train.items[1], "b.gz");
    cr_assert_str_eq(config->data.eval.items[0], "\xc3\xa9");
    cr_assert_eq(config->data.options.format, RPO_DATA_HH);
    cr_assert_eq(config->data.options.max_length, 100);
    cr_assert_eq(config->data.options.max_prompt_length, 99);
    cr_assert_eq(config->data.options.truncation, RPO_TRUNCATE_KEEP_START);
    cr_assert_eq(config->data.options.on_bad_record, RPO_BAD_RECORD_SKIP);
    cr_assert_eq(config->embedding.kind, RPO_EMBEDDING_FILE);
    cr_assert_str_eq(config->embedding.path, "e.npy");
    cr_assert_str_eq(config->embedding.eval_path, "f.npy");
    cr_assert_eq(config->loss.kind, RPO_LOSS_RPO_DIAGONAL);
    cr_assert_eq(config->loss.beta, 0.30000000000000004);
    cr_assert(config->loss.distance_temperature == 0.1 && config->loss.diagonal_weight == 1);
    cr_assert(config->loss.epsilon == 0 && config->loss.contrast_block == 0);
    cr_assert_eq(config->loss.weight_scale, RPO_WEIGHT_SCALE_BLOCK);
    cr_assert(config->train.batch_size == 7 && config->train.micro_batch_tokens == 4096);
    cr_assert(config->train.epochs == 2.5 && config->train.max_steps == 12);
    cr_assert(config->train.learning_rate == 1e-3 && config->train.optimizer == RPO_OPTIMIZER_ADAMW);
    cr_assert(config->train.warmup_steps == 3 && config->train.max_grad_norm == 0);
    cr_assert(config->train.weight_decay == 0.01 && config->train.eval_every == 4);
    cr_assert(config->train.save_every == 5 && config->train.keep_checkpoints == 1);
    cr_assert_str_eq(config->reference.path, "ref\"x");
    cr_assert_eq(config->run.seed, UINT64_C(9007199254740991));
    cr_assert(config->run.device == RPO_RUN_DEVICE_CPU && config->run.threads == 2);
}

Test(config, every_key_is_read) {
    rpo_config *config = load_sound(everything, NULL, 0);
    check_everything(config);
    rpo_config_free(config);
}

/* Written, read back and written again: the same configuration, the same bytes. */
Test(config, resolved_json_is_the_same_configuration) {
    static const char *const texts[] = {everything, "{" REQUIRED "}",
                                        "{" REQUIRED
                                        ", \"train\": {\"batch_size\": 2, \"learning_rate\": 3e-05}}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; ++i) {
        rpo_text first = {0}, second = {0};
        rpo_config *config = load_sound(texts[i], NULL, 0);
        cr_assert_eq(rpo_config_to_json(config, NULL, &first), RPO_OK);
        const rpo_model_config init = config->model.init;
        rpo_config_free(config);
        config = load_sound(first.data, NULL, 0);
        cr_assert_eq(rpo_config_to_json(config, NULL, &second), RPO_OK);
        cr_assert_str_eq(first.data, second.data);
        if (i == 0) {
            check_everything(config);
            cr_assert_eq(init.head_dim, config->model.init.head_dim);
            cr_assert_eq(init.rms_norm_eps, config->model.init.rms_norm_eps);
            cr_assert_eq(init.eos_token_id, config->model.init.eos_token_id);
        }
        rpo_config_free(config);
        rpo_text_free(&first);
        rpo_text_free(&second);
    }
}

/* Records of a run stand beside the sections and change nothing; all other unknown members are faults as before. */
Test(config, a_record_says_nothing_about_the_configuration) {
    rpo_text plain = {0}, recorded = {0}, again = {0};
    rpo_config *config = load_sound("{" REQUIRED "}", NULL, 0);
    cr_assert_eq(rpo_config_to_json(config, NULL, &plain), RPO_OK);
    cr_assert_eq(rpo_config_to_json(config, "[{\"beta\": 7}]", &recorded), RPO_OK);
    cr_expect_not_null(strstr(recorded.data, "\"run_record\": [{\"beta\": 7}]\n}\n"));
    rpo_config_free(config);
    config = load_sound(recorded.data, NULL, 0);
    cr_assert_eq(rpo_config_to_json(config, NULL, &again), RPO_OK);
    cr_expect_str_eq(again.data, plain.data);
    rpo_config_free(config);
    rpo_text_free(&again);
    rpo_text_free(&recorded);
    rpo_text_free(&plain);
}

Test(config, null_counts_as_absent) {
    rpo_config *config = load_sound(
        "{" REQUIRED ", \"loss\": null, \"train\": {\"batch_size\": null}, \"reference\": {\"path\": null}}",
        NULL, 0);
    cr_assert(config->loss.beta == 0.1 && config->train.batch_size == 64 && config->reference.path == NULL);
    rpo_config_free(config);
}

Test(config, defaults_follow_smaller_neighbours) {
    static const char *const overrides[] = {"train.batch_size=4", "data.max_length=100"};
    rpo_config *config = load_sound("{" REQUIRED "}", overrides, 2);
    cr_assert_eq(config->loss.contrast_block, 4);
    cr_assert_eq(config->data.options.max_prompt_length, 50);
    rpo_config_free(config);
}

/* ---- faults ---- */

typedef struct fault {
    const char *text;
    int line; /* 0: the message names the file alone */
    const char *says;
} fault;

static const fault faults[] = {
    /* the file */
    {"", 1, "empty"},
    {"[]", 1, "must be {"},
    {"{" REQUIRED "} x", 1, "text after the end"},
    {"{" REQUIRED ",\n\"loss\": {\"beta\": NaN}}", 2, "NaN is not JSON; numbers must be finite"},
    {"{" REQUIRED ",\n\"loss\": {\"beta\": 1e999}}", 2, "must be finite"},
    {"{" REQUIRED ",\n\"loss\": {\"beta\": Infinity}}", 2, "Infinity is not JSON"},
    {"{" REQUIRED ",\n\"loss\": {},\n\"loss\": {}}", 3, "loss: duplicate key"},
    {"{" REQUIRED ",\n\"loss\": {\"beta\": 1,\n\"beta\": 1}}", 3, "beta: duplicate key"},
    /* unknown keys */
    {"{" REQUIRED ",\n\"loss\": {\n\"bta\": 1}}", 3, "loss.bta: unknown key; did you mean loss.beta?"},
    {"{" REQUIRED ",\n\"train\": {\"beta\": 1}}", 2, "train.beta: unknown key; did you mean loss.beta?"},
    {"{" REQUIRED ",\n\"batch_size\": 1}", 2, "batch_size: unknown key; did you mean train.batch_size?"},
    {"{" REQUIRED ",\n\"train\": {\"lr\": 1}}", 2, "train.lr: unknown key"},
    {"{" REQUIRED ",\n\"qqqqqqqqq\": {}}", 2, "qqqqqqqqq: unknown key; rpo help config lists all"},
    {"{" REQUIRED ",\n\"trian\": {\"batch_size\": 1}}", 2, "trian: unknown key"},
    {"{" REQUIRED ",\n\"run_records\": []}", 2, "run_records: unknown key"},
    {"{" REQUIRED ",\n\"loss\": {\"run_record\": []}}", 2, "loss.run_record: unknown key"},
    {"{" REQUIRED ",\n\"loss\": 3}", 2, "loss: must be an object"},
    {"{" REQUIRED ",\n\"loss\": []}", 2, "loss: must be an object"},
    /* types */
    {"{" REQUIRED ",\n\"loss\": {\"beta\": \"0.1\"}}", 2,
     "loss.beta: is \"0.1\"; must be a number from 1e-06"},
    {"{" REQUIRED ",\n\"loss\": {\"beta\": true}}", 2, "loss.beta: is true; must be a number"},
    {"{" REQUIRED ",\n\"loss\": {\"beta\": [1]}}", 2, "loss.beta: is a list; must be a number"},
    {"{" REQUIRED ",\n\"loss\": {\"kind\": \"rpo\"}}", 2,
     "loss.kind: is \"rpo\"; must be one of rpo-paired, rpo-unpaired, rpo-uniform, rpo-diagonal, dpo, cdpo, "
     "ipo, "
     "kto-simple, sft"},
    {"{" REQUIRED ",\n\"loss\": {\"kind\": 1}}", 2, "loss.kind: is 1; must be one of"},
    {"{" REQUIRED ",\n\"loss\": {\"kind\": {}}}", 2, "loss.kind: is an object; must be one of"},
    {"{" REQUIRED ",\n\"train\": {\"batch_size\": 1.5}}", 2,
     "train.batch_size: is 1.5; must be an integer from 1"},
    {"{" REQUIRED ",\n\"train\": {\"batch_size\": \"8\"}}", 2,
     "train.batch_size: is \"8\"; must be an integer"},
    {"{" REQUIRED ",\n\"train\": {\"optimizer\": \"sgd\"}}", 2, "must be one of rmsprop, adamw"},
    {"{" REQUIRED ",\n\"reference\": {\"path\": 1}}", 2, "reference.path: is 1; must be a string"},
    {"{" REQUIRED ",\n\"reference\": {\"path\": \"\"}}", 2,
     "reference.path: is \"\"; must be a string that is not"},
    {"{\"model\": {\"path\": \"m\"}, \"run\": {\"dir\": \"r\"},\n\"data\": {\"train\": \"t.jsonl\"}}", 2,
     "data.train: is \"t.jsonl\"; must be a list"},
    {"{\"model\": {\"path\": \"m\"}, \"run\": {\"dir\": \"r\"},\n\"data\": {\"train\": [\"a\",\n1]}}", 3,
     "data.train: item 2"},
    {"{\"model\": {\"path\": \"m\"}, \"run\": {\"dir\": \"r\"},\n\"data\": {\"train\": [\"\"]}}", 2,
     "data.train: item 1"},
    /* ranges */
    {"{" REQUIRED ",\n\"loss\": {\"beta\": 0}}", 2,
     "loss.beta: is 0; must be a number from 1e-06 to 1000000"},
    {"{" REQUIRED ",\n\"loss\": {\"beta\": -1}}", 2, "loss.beta: is -1"},
    {"{" REQUIRED ",\n\"loss\": {\"distance_temperature\": 0}}", 2, "loss.distance_temperature: is 0"},
    {"{" REQUIRED ",\n\"loss\": {\"diagonal_weight\": 1.01}}", 2, "must be a number from 0 to 1"},
    {"{" REQUIRED ",\n\"loss\": {\"epsilon\": 0.51}}", 2, "must be a number from 0 to 0.5"},
    {"{" REQUIRED ",\n\"loss\": {\"contrast_block\": -1}}", 2,
     "loss.contrast_block: is -1; must be an integer"},
    {"{" REQUIRED ",\n\"train\": {\"batch_size\": 0}}", 2,
     "train.batch_size: is 0; must be an integer from 1"},
    {"{" REQUIRED ",\n\"train\": {\"batch_size\": 1e300}}", 2, "train.batch_size: is 1e+300"},
    {"{" REQUIRED ",\n\"train\": {\"epochs\": 0}}", 2, "train.epochs: is 0; must be a number above 0"},
    {"{" REQUIRED ",\n\"train\": {\"learning_rate\": -1e-7}}", 2, "train.learning_rate: is -1e-07"},
    {"{" REQUIRED ",\n\"train\": {\"keep_checkpoints\": 0}}", 2, "train.keep_checkpoints: is 0"},
    {"{" REQUIRED ",\n\"train\": {\"max_steps\": -1}}", 2, "train.max_steps: is -1"},
    {"{\"model\": {\"path\": \"m\"}, \"data\": {\"train\": [\"t\"]},\n\"run\": {\"dir\": \"r\", \"seed\": "
     "-1}}",
     2, "run.seed: is -1; must be an integer from 0 to 9007199254740991"},
    {"{\"model\": {\"path\": \"m\"}, \"data\": {\"train\": [\"t\"]},\n\"run\": {\"dir\": \"r\",\n"
     "\"seed\": 9007199254740992}}",
     3, "run.seed: is 9007199254740992; must be"},
    /* missing */
    {"{\"model\": {\"path\": \"m\"}, \"run\": {\"dir\": \"r\"}}", 1,
     "data.train: is missing; must be a list"},
    {"{\"model\": {\"path\": \"m\"}, \"run\": {\"dir\": \"r\"},\n\"data\": {\"train\": []}}", 2,
     "data.train: is an empty list; must name at least one file"},
    {"{\"model\": {\"path\": \"m\"}, \"data\": {\"train\": [\"t\"]}}", 1,
     "run.dir: is missing; must be a string"},
    {"{\"data\": {\"train\": [\"t\"]}, \"run\": {\"dir\": \"r\"}}", 0,
     "model.path: is missing; give model.path (a folder) or model.init"},
    /* between keys */
    {"{\"data\": {\"train\": [\"t\"]}, \"run\": {\"dir\": \"r\"},\n\"model\": {\"path\": \"m\",\n" INIT "}}",
     3, "model.init: is given beside model.path; give one of the two"},
    {"{\"model\": {\"path\": \"m\"}, \"run\": {\"dir\": \"r\"},\n\"data\": {\"train\": [\"t\"], "
     "\"max_length\": 8,\n"
     "\"max_prompt_length\": 8}}",
     3, "data.max_prompt_length: is 8; must be below data.max_length, 8"},
    {"{" REQUIRED ",\n\"train\": {\"batch_size\": 4},\n\"loss\": {\"contrast_block\": 5}}", 3,
     "loss.contrast_block: is 5; must be at most train.batch_size, 4"},
    {"{" REQUIRED ",\n\"embedding\": {\"kind\": \"file\"}}", 0, "embedding.path: is missing"},
    {"{\"model\": {\"path\": \"m\"}, \"run\": {\"dir\": \"r\"}, \"data\": {\"train\": [\"t\"], \"eval\": "
     "[\"e\"]},\n"
     "\"embedding\": {\"kind\": \"file\", \"path\": \"p\"}}",
     0, "embedding.eval_path: is missing"},
    {"{\"model\": {\"path\": \"m\"}, \"run\": {\"dir\": \"r\"}, \"data\": {\"train\": [\"t\"], \"format\": "
     "\"unpaired\"},\n"
     "\"loss\": {\"kind\": \"dpo\"}}",
     2, "loss.kind: is dpo, which needs pairs, but data.format is unpaired; must be one of rpo-unpaired, "},
    {"{\"model\": {\"path\": \"m\"}, \"data\": {\"train\": [\"t\"]},\n\"run\": {\"dir\": \"r\", \"device\": "
     "\"cpu\",\n"
     "\"dtype\": \"bfloat16\"}}",
     3, "run.dtype: is bfloat16; must be float32 on the CPU"},
    /* model.init */
    {"{\"data\": {\"train\": [\"t\"]}, \"run\": {\"dir\": \"r\"}, \"model\": {\n\"init\": "
     "{\n\"hidden_sise\": 1}}}",
     3, "model.init.hidden_sise: unknown key; did you mean hidden_size?"},
    {"{\"data\": {\"train\": [\"t\"]}, \"run\": {\"dir\": \"r\"}, \"model\": {\n\"init\": {\n\"vocab_size\": "
     "0}}}",
     3, "model.init.vocab_size: is 0; must be"},
    {"{\"data\": {\"train\": [\"t\"]}, \"run\": {\"dir\": \"r\"}, \"model\": {\n\"init\": {}}}", 2,
     "model.init.vocab_size: is missing"},
    {"{\"data\": {\"train\": [\"t\"]}, \"run\": {\"dir\": \"r\"}, \"model\": {\n\"init\": 3}}", 2,
     "model.init: is 3; must be an object"},
};

Test(config, faults_name_file_line_key_and_what_is_allowed) {
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; ++i) {
        rpo_config *config = (rpo_config *)&config;
        rpo_error_clear();
        cr_assert_eq(load(&config, faults[i].text, NULL, 0), RPO_ERROR_INVALID_INPUT,
                     "case %zu was accepted: %s", i, faults[i].text);
        cr_assert_null(config);
        char place[96];
        if (faults[i].line > 0)
            snprintf(place, sizeof place, "%s:%d: ", path, faults[i].line);
        else
            snprintf(place, sizeof place, "%s: ", path);
        cr_assert_eq(strncmp(rpo_last_error(), place, strlen(place)), 0,
                     "case %zu: \"%s\" names another line than %s", i, rpo_last_error(), place);
        cr_assert_not_null(strstr(rpo_last_error(), faults[i].says), "case %zu: \"%s\" does not say \"%s\"",
                           i, rpo_last_error(), faults[i].says);
    }
}

Test(config, a_device_the_build_lacks_is_the_machines_fault) {
    static const char *const overrides[] = {"run.device=cuda"};
    rpo_config *config = NULL;
    const rpo_backend *backend = rpo_backend_find(RPO_DEVICE_CUDA);
    if (backend != NULL && backend->supports(RPO_OP_MODEL, RPO_FLOAT32))
        cr_skip_test("this build trains with CUDA");
    cr_assert_eq(load(&config, "{" REQUIRED "}", overrides, 1), RPO_ERROR_UNSUPPORTED);
    cr_assert_str_eq(rpo_last_error(), "--set run.device=cuda: run.device: is cuda, but this build cannot "
                                       "train with CUDA; must be auto or cpu");
}

Test(config, an_absent_file_is_named) {
    rpo_config *config = NULL;
    cr_assert_eq(rpo_config_load(&config, "/nonexistent/c.json", NULL, 0), RPO_ERROR_INVALID_INPUT);
    cr_assert_str_eq(rpo_last_error(), "/nonexistent/c.json: cannot be read: No such file or directory");
}

/* ---- overrides ---- */

Test(config, overrides_replace_values) {
    static const char *const overrides[] = {
        "loss.kind=dpo",
        "loss.beta=0.25",
        "data.train=[\"x\", \"y\"]",
        "train.batch_size=16",
        "run.dir=some folder/run",
        "train.batch_size=32",
        "reference.path=\"quoted\"",
        "model.path=null",
        "model.init.vocab_size=300",
        "model.init.hidden_size=8",
        "model.init.intermediate_size=8",
        "model.init.num_hidden_layers=1",
        "model.init.num_attention_heads=1",
        "model.init.num_key_value_heads=1",
    };
    rpo_config *config = load_sound("{" REQUIRED ", \"loss\": {\"kind\": \"sft\"}}", overrides, 14);
    cr_assert_eq(config->loss.kind, RPO_LOSS_DPO);
    cr_assert_eq(config->loss.beta, 0.25);
    cr_assert_eq(config->data.train.count, 2);
    cr_assert_str_eq(config->data.train.items[1], "y");
    cr_assert_eq(config->train.batch_size, 32, "the last of two overrides holds");
    cr_assert_str_eq(config->run.dir, "some folder/run");
    cr_assert_str_eq(config->reference.path, "quoted");
    cr_assert(config->model.path == NULL && config->model.init.vocab_size == 300);
    rpo_config_free(config);
}

/* Every list key takes a file as it is, whatever its name looks like, and a JSON string or list as well. */
Test(config, a_string_where_a_list_belongs_is_a_list_of_one) {
    static const struct {
        const char *value, *items[3];
    } cases[] = {
        {"t.jsonl", {"t.jsonl"}},
        {"\"quoted.jsonl\"", {"quoted.jsonl"}},
        {"some folder/a \"b\\.jsonl", {"some folder/a \"b\\.jsonl"}},
        {"[x", {"[x"}},
        {"[\"a\", \"b\"]", {"a", "b"}},
    };
    size_t num_keys = 0, lists = 0;
    const rpo_config_key *keys = rpo_config_keys(&num_keys);
    for (size_t k = 0; k < num_keys; ++k) {
        lists += keys[k].type == RPO_KEY_STRING_LIST;
        for (size_t i = 0; keys[k].type == RPO_KEY_STRING_LIST && i < sizeof cases / sizeof cases[0]; ++i) {
            rpo_text override = {0};
            cr_assert_eq(rpo_text_printf(&override, "%s=%s", keys[k].name, cases[i].value), RPO_OK);
            const char *overrides[] = {"data.train=first.jsonl", override.data};
            rpo_config *config = load_sound("{" REQUIRED "}", overrides, 2);
            const rpo_string_list *list = (const void *)((const char *)config + keys[k].offset);
            for (size_t item = 0; item < list->count; ++item)
                cr_expect_str_eq(list->items[item], cases[i].items[item]);
            cr_expect(list->count > 0 && cases[i].items[list->count] == NULL, "%s", override.data);
            rpo_config_free(config);
            rpo_text_free(&override);
        }
    }
    cr_expect_eq(lists, 2, "data.train and data.eval");
}

Test(config, override_faults_name_the_override) {
    static const struct {
        const char *override, *message;
    } cases[] = {
        {"loss.bta=1", "--set loss.bta=1: loss.bta: unknown key; did you mean loss.beta?"},
        {"beta=1", "--set beta=1: beta: unknown key; did you mean loss.beta?"},
        {"loss={}", "--set loss={}: loss: unknown key; rpo help config lists all"},
        {"run_record=[]", "--set run_record=[]: run_record: unknown key; rpo help config lists all"},
        {"loss.beta", "--set loss.beta: is no override; must be section.key=value"},
        {"=1", "--set =1: is no override; must be section.key=value"},
        {"", "--set : is no override; must be section.key=value"},
        {"loss.beta=NaN",
         "--set loss.beta=NaN: loss.beta: is \"NaN\"; must be a number from 1e-06 to 1000000"},
        {"loss.beta=", "--set loss.beta=: loss.beta: is \"\"; must be a number from 1e-06 to 1000000"},
        {"loss.beta=0", "--set loss.beta=0: loss.beta: is 0; must be a number from 1e-06 to 1000000"},
        {"data.train=7", "--set data.train=7: data.train: is 7; must be a list of file names"},
        {"data.train=",
         "--set data.train=: data.train: item 1 is no file name; must be a list of file names"},
        {"data.train=[]", "--set data.train=[]: data.train: is an empty list; must name at least one file"},
        {"data.train=[\"x\", 1]",
         "--set data.train=[\"x\", 1]: data.train: item 2 is no file name; must be a list of file names"},
        {"train.optimizer=sgd",
         "--set train.optimizer=sgd: train.optimizer: is \"sgd\"; must be one of rmsprop, adamw"},
        {"loss.contrast_block=65",
         "--set loss.contrast_block=65: loss.contrast_block: is 65; must be at most train.batch_size, 64"},
        {"model.init.vocab_size=0",
         "--set model.init.vocab_size=0: model.init.vocab_size: is 0; must be from 1 to "
         "2147483647"},
        {"model.init.a.b=0", "--set model.init.a.b=0: model.init.a.b: unknown key; did you mean model.init?"},
        {"run.dir=\xff", "--set run.dir=\\xff: invalid UTF-8; text must be UTF-8"},
        {"run.dir=null", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        rpo_config *config = NULL;
        cr_assert_eq(load(&config, "{" REQUIRED "}", &cases[i].override, 1), RPO_ERROR_INVALID_INPUT, "%s",
                     cases[i].override);
        cr_assert_null(config);
        if (cases[i].message != NULL)
            cr_assert_str_eq(rpo_last_error(), cases[i].message);
        else
            cr_assert_not_null(strstr(rpo_last_error(), "run.dir: is missing"));
    }
}

/* ---- faults found later ---- */

Test(config, later_faults_name_where_the_key_stands) {
    static const char *const overrides[] = {"loss.beta=0.2"};
    rpo_config *config =
        load_sound("{\"run\": {\"dir\": \"r\"},\n\"data\": {\"train\": [\"t\"]},\n\"model\": {\n" INIT "}}",
                   overrides, 1);
    char expected[128];
    cr_assert_eq(rpo_config_fault(config, "data.train", "bad %d", 7), RPO_ERROR_INVALID_INPUT);
    snprintf(expected, sizeof expected, "%s:2: data.train: bad 7", path);
    cr_assert_str_eq(rpo_last_error(), expected);
    rpo_config_fault(config, "model.init.vocab_size", "bad");
    snprintf(expected, sizeof expected, "%s:4: model.init.vocab_size: bad", path);
    cr_assert_str_eq(rpo_last_error(), expected);
    rpo_config_fault(config, "train.epochs", "bad");
    snprintf(expected, sizeof expected, "%s: train.epochs: bad", path);
    cr_assert_str_eq(rpo_last_error(), expected);
    rpo_config_fault(config, "loss.beta", "bad");
    cr_assert_str_eq(rpo_last_error(), "--set loss.beta=0.2: loss.beta: bad");
    rpo_config_free(config);
}

/* The help names every key that the resolved configuration has. */
Test(config, help_lists_every_key) {
    rpo_config *config = load_sound(everything, NULL, 0);
    rpo_text help = {0};
    cr_assert_eq(rpo_config_append_help(&help), RPO_OK);
    static const char *const some[] = {"model.path",          "model.init",   "data.on_bad_record",
                                       "embedding.eval_path", "loss.epsilon", "train.save_every",
                                       "reference.path",      "run.threads"};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; ++i)
        cr_assert_not_null(strstr(help.data, some[i]), "%s", some[i]);
    cr_assert_not_null(strstr(help.data, "default rpo-paired, one of rpo-paired"));
    rpo_text_free(&help);
    rpo_config_free(config);
}
