/* test_model_files.c - config.json and weights of a folder: what is read, what is refused, and in which
 * words. */
#include "tests/model_testing.h"

#include "core/json.h"

static const char sizes[] =
    "\"vocab_size\":31,\"hidden_size\":16,\"intermediate_size\":28,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4";

/* Reads {SIZES, extra}. */
static rpo_status read_config(rpo_model_config *config, const char *extra, bool strict) {
    char text[1024];
    rpo_json *json = NULL;
    const int length = snprintf(text, sizeof text, "{%s%s%s}", sizes, extra[0] != '\0' ? ",\n" : "", extra);
    MUST(rpo_json_parse(&json, text, (size_t)length, "config.json", 1));
    const rpo_status status = rpo_model_config_read(config, json, rpo_json_root(json), strict);
    rpo_json_free(json);
    return status;
}

Test(model_config, defaults) {
    rpo_model_config config;
    MUST(read_config(&config, "", true));
    cr_expect_eq(config.num_key_value_heads, 4);
    cr_expect_eq(config.head_dim, 4);
    cr_expect_eq(config.max_position_embeddings, 2048);
    cr_expect(config.rms_norm_eps == 1e-6 && config.rope_theta == 10000.0 &&
              config.initializer_range == 0.02);
    cr_expect_not(config.tie_word_embeddings);
    cr_expect(config.bos_token_id == -1 && config.eos_token_id == -1 && config.pad_token_id == -1);
}

Test(model_config, both_styles_of_rope) {
    static const char *const same[] = {
        "\"rope_theta\":500000",
        "\"rope_theta\":500000.0,\"rope_scaling\":null",
        "\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"default\"}",
        "\"rope_theta\":500000.0,\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":500000}",
        "\"rope_theta\":500000.0,\"rope_scaling\":{\"type\":\"default\"}",
        "\"rope_parameters\":{\"rope_theta\":500000.0}",
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; ++i) {
        rpo_model_config config;
        MUST(read_config(&config, same[i], true));
        cr_expect(config.rope_theta == 500000.0, "%s", same[i]);
    }
}

Test(model_config, unsupported_features_are_refused_by_name) {
    static const char *const refused[][2] = {
        {"\"model_type\":\"mistral\"", "model_type: is mistral; only llama"},
        {"\"architectures\":[\"MistralForCausalLM\"]", "architectures"},
        {"\"architectures\":\"LlamaForCausalLM\"", "architectures"},
        {"\"hidden_act\":\"gelu\"", "hidden_act: is gelu; only silu"},
        {"\"attention_bias\":true", "attention_bias: is true; only false"},
        {"\"mlp_bias\":true", "mlp_bias: is true; only false"},
        {"\"attention_dropout\":0.1", "attention_dropout"},
        {"\"quantization_config\":{}", "quantization_config"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}", "type: is linear; only default"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\"}", "rope_type: is llama3; only default"},
        {"\"rope_parameters\":{\"rope_type\":\"yarn\"}", "rope_type: is yarn; only default"},
        {"\"rope_parameters\":{\"partial_rotary_factor\":0.5}", "partial_rotary_factor"},
        {"\"rope_parameters\":7", "rope_parameters"},
        {"\"rope_theta\":10000,\"rope_parameters\":{\"rope_theta\":500000}", "rope_theta"},
        {"\"num_key_value_heads\":3", "num_key_value_heads: is 3; must divide"},
        {"\"num_key_value_heads\":8", "num_key_value_heads"},
        {"\"head_dim\":5", "head_dim: is 5; must be even"},
        {"\"head_dim\":0", "head_dim"},
        {"\"rms_norm_eps\":0", "rms_norm_eps"},
        {"\"rope_theta\":-1", "rope_theta"},
        {"\"bos_token_id\":31", "bos_token_id"},
        {"\"eos_token_id\":[]", "eos_token_id"},
        {"\"eos_token_id\":[99]", "eos_token_id"},
        {"\"tie_word_embeddings\":1", "tie_word_embeddings"},
        {"\"max_position_embeddings\":0", "max_position_embeddings"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; ++i) {
        rpo_model_config config;
        expect_error(read_config(&config, refused[i][0], false), RPO_ERROR_INVALID_INPUT, refused[i][1]);
        cr_expect_not_null(strstr(rpo_last_error(), "config.json:2: "), "no line: %s", rpo_last_error());
    }
}

Test(model_config, unknown_keys) {
    rpo_model_config config;
    MUST(read_config(&config, "\"use_cache\":true,\"transformers_version\":\"5.0\",\"pretraining_tp\":1",
                     false));
    expect_error(read_config(&config, "\"hiden_size\":4", true), RPO_ERROR_INVALID_INPUT,
                 "did you mean hidden_size?");
    expect_error(read_config(&config, "\"xyzzyx_quux\":4", true), RPO_ERROR_INVALID_INPUT, "unknown key");
    MUST(read_config(&config, "\"eos_token_id\":[7,8],\"pad_token_id\":null", false));
    cr_expect_eq(config.eos_token_id, 7);
}

Test(model_config, sizes_are_required_and_bounded) {
    static const char *const texts[][2] = {
        {"{}", "vocab_size"},
        {"{\"vocab_size\":0}", "vocab_size"},
        {"{\"vocab_size\":1e18}", "vocab_size"},
        {"{\"vocab_size\":\"31\"}", "vocab_size"},
        {"{\"vocab_size\":31,\"hidden_size\":1073741824}", "hidden_size"},
        {"{\"vocab_size\":31,\"hidden_size\":10,\"intermediate_size\":8,\"num_hidden_layers\":1,"
         "\"num_attention_heads\":4}",
         "hidden_size: is 10; must be a multiple of num_attention_heads (4)"},
        {"{\"vocab_size\":31,\"hidden_size\":12,\"intermediate_size\":8,\"num_hidden_layers\":1,"
         "\"num_attention_heads\":4}",
         "head_dim: is 3; must be even"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; ++i) {
        rpo_json *json = NULL;
        rpo_model_config config;
        MUST(rpo_json_parse(&json, texts[i][0], strlen(texts[i][0]), "config.json", 1));
        expect_error(rpo_model_config_read(&config, json, rpo_json_root(json), false),
                     RPO_ERROR_INVALID_INPUT, texts[i][1]);
        rpo_json_free(json);
    }
}

Test(model_config, written_and_read_again) {
    rpo_model_config config;
    rpo_model_config again;
    rpo_text text = {0};
    rpo_json *json = NULL;
    MUST(read_config(
        &config,
        "\"num_key_value_heads\":2,\"head_dim\":6,\"rope_theta\":123456.789,\"rms_norm_eps\":3.3e-6,"
        "\"tie_word_embeddings\":true,\"bos_token_id\":1,\"max_position_embeddings\":99",
        true));
    MUST(rpo_model_config_append_json(&config, &text));
    MUST(rpo_json_parse(&json, text.data, text.length, "config.json", 1));
    MUST(rpo_model_config_read(&again, json, rpo_json_root(json), false));
    cr_expect(config.head_dim == again.head_dim && config.num_key_value_heads == again.num_key_value_heads &&
              config.rope_theta == again.rope_theta && config.rms_norm_eps == again.rms_norm_eps &&
              config.tie_word_embeddings == again.tie_word_embeddings &&
              config.bos_token_id == again.bos_token_id && config.eos_token_id == again.eos_token_id &&
              config.max_position_embeddings == again.max_position_embeddings &&
              config.initializer_range == again.initializer_range);
    rpo_json_free(json);
    rpo_text_free(&text);
}

/* The text, as transformers 4 and 5 read it; also what checkpoints' hashes rest on. */
Test(model_config, written_as_ever) {
    static const char expected[] =
        "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"model_type\": \"llama\",\n  \"vocab_size\": "
        "31,\n"
        "  \"hidden_size\": 16,\n  \"intermediate_size\": 28,\n  \"num_hidden_layers\": 2,\n"
        "  \"num_attention_heads\": 4,\n  \"num_key_value_heads\": 4,\n  \"head_dim\": 4,\n"
        "  \"max_position_embeddings\": 2048,\n  \"rms_norm_eps\": 1e-06,\n  \"rope_theta\": 10000,\n"
        "  \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000},\n"
        "  \"initializer_range\": 0.02,\n  \"bos_token_id\": null,\n  \"eos_token_id\": 7,\n"
        "  \"pad_token_id\": null,\n  \"tie_word_embeddings\": false,\n  \"hidden_act\": \"silu\",\n"
        "  \"attention_bias\": false,\n  \"attention_dropout\": 0.0,\n  \"mlp_bias\": false,\n"
        "  \"torch_dtype\": \"float32\"\n}\n";
    rpo_model_config config;
    rpo_text text = {0};
    MUST(read_config(&config, "\"eos_token_id\":7", true));
    MUST(rpo_model_config_append_json(&config, &text));
    cr_expect_str_eq(text.data, expected);
    rpo_text_free(&text);
}

Test(model_config, help_names_what_is_read) {
    static const char *const expected[] = {
        "  num_hidden_layers           decoder layers\n",
        "required, an integer from 1 to 4096\n",
        "default num_attention_heads, an integer from 1 to 4096\n",
        "default 1e-06, a number from 1e-12 to 1\n",
        "only \"silu\"\n",
    };
    rpo_text text = {0};
    MUST(rpo_model_config_append_help(&text));
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; ++i)
        cr_expect_not_null(strstr(text.data, expected[i]), "%s in %s", expected[i], text.data);
    cr_expect_null(strstr(text.data, "torch_dtype"));
    rpo_text_free(&text);
}

/* ---- folders ---- */

typedef struct model_folder {
    char path[64];
    rpo_context *context;
    test_model m;
} model_folder;

static model_folder save_tiny(bool tied) {
    model_folder f = {.context = model_test_context(1)};
    const rpo_model_config config = tiny_config(tied);
    make_test_folder(f.path);
    f.m = test_model_create(f.context, &config, 9);
    MUST(rpo_model_save(f.m.model, f.path));
    return f;
}

static void remove_tiny(model_folder *f) {
    test_model_free(&f->m);
    rpo_context_free(f->context);
    cr_expect_eq(rpo_remove_tree(f->path), RPO_OK);
}

/* Rewrites the folder's weights with one tensor changed (or left out, or added). */
typedef enum change { DROP, RENAME, RESHAPE, ADD_HEAD, ADD_FREQUENCIES, POISON } change;

static void rewrite(const model_folder *f, change what, size_t at) {
    rpo_tensor_write tensors[32];
    size_t held = 0;
    char path[128];
    const rpo_tensor_table *table = rpo_model_tensors(f->m.model);
    float *weights = test_weights(&f->m);
    for (size_t p = 0; p < table->count; ++p) {
        const rpo_tensor *q = &table->items[p];
        if (what == DROP && p == at)
            continue;
        tensors[held] = test_tensor_write(q, weights + q->offset);
        if (what == RENAME && p == at)
            tensors[held].name = "model.layers.0.self_attn.qkv_proj.weight";
        if (what == RESHAPE && p == at) {
            tensors[held].num_dims = 2;
            tensors[held].shape[0] = q->count / 4;
            tensors[held].shape[1] = 4;
        }
        ++held;
    }
    if (what == ADD_HEAD)
        tensors[held++] =
            (rpo_tensor_write){.name = "lm_head.weight", .num_dims = 2, .shape = {31, 16}, .data = weights};
    if (what == ADD_FREQUENCIES)
        tensors[held++] = (rpo_tensor_write){.name = "model.layers.0.self_attn.rotary_emb.inv_freq",
                                             .num_dims = 1,
                                             .shape = {2},
                                             .data = weights};
    if (what == POISON)
        weights[table->items[at].offset + 3] = NAN;
    snprintf(path, sizeof path, "%s/model.safetensors", f->path);
    MUST(rpo_safetensors_write(path, tensors, held));
    rpo_free(weights);
}

static void expect_load_fails(const model_folder *f, const char *part) {
    test_model loaded = f->m;
    expect_error(test_model_try_load(&loaded, f->context, f->path), RPO_ERROR_INVALID_INPUT, part);
    cr_expect_null(loaded.model);
}

/* Refused without any memory of the model's size. */
static void expect_check_fails(const model_folder *f, const char *part) {
    rpo_model_config config;
    rpo_model *model = NULL;
    MUST(rpo_model_config_load(&config, f->path));
    MUST(rpo_model_new(&model, f->context, &config));
    cr_expect_null(rpo_model_memory(model));
    expect_error(rpo_model_check_folder(model, f->path), RPO_ERROR_INVALID_INPUT, part);
    rpo_model_free(model);
}

Test(model_files, faults_name_the_tensor) {
    model_folder f = save_tiny(true);
    rewrite(&f, DROP, 2);
    expect_load_fails(
        &f, "tensor model.layers.0.self_attn.q_proj.weight: is missing; config.json calls for one of "
            "shape [16, 16]");
    rewrite(&f, RENAME, 2);
    expect_load_fails(&f, "tensor model.layers.0.self_attn.q_proj.weight: is missing");
    rewrite(&f, RESHAPE, 3);
    expect_load_fails(
        &f, "tensor model.layers.0.self_attn.k_proj.weight: shape is [32, 4]; config.json calls for "
            "[8, 16]");
    rewrite(&f, ADD_HEAD, 0);
    expect_load_fails(&f, "tensor lm_head.weight: not expected");
    rewrite(&f, POISON, 4);
    expect_load_fails(&f, "tensor model.layers.0.self_attn.v_proj.weight: element 3 is nan");
    rewrite(&f, ADD_FREQUENCIES, 0); /* derived from config.json: passed over */
    test_model loaded = test_model_load(f.context, f.path);
    test_model_free(&loaded);
    remove_tiny(&f);
}

Test(model_files, an_untied_model_needs_its_head) {
    model_folder f = save_tiny(false);
    rewrite(&f, DROP, rpo_model_tensors(f.m.model)->count - 1);
    expect_load_fails(&f, "tensor lm_head.weight: is missing");
    remove_tiny(&f);
}

Test(model_files, wrong_dtype) {
    model_folder f = save_tiny(true);
    char path[128];
    char *data = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/model.safetensors", f.path);
    MUST(rpo_read_file(path, 1 << 20, &data, &size));
    char *dtype = strstr(data + 8, "\"F32\"");
    cr_assert_not_null(dtype);
    memcpy(dtype, "\"I32\"", 5);
    MUST(rpo_write_file_atomic(path, data, size));
    expect_load_fails(&f, "tensor model.embed_tokens.weight: dtype is I32; must be F32, BF16 or F16");
    rpo_free(data);
    remove_tiny(&f);
}

/* A config.json that asks for terabytes is refused by what the file holds, before any of it is allocated. */
Test(model_files, sizes_are_checked_before_memory) {
    model_folder f = save_tiny(true);
    char path[128];
    const char *huge = "{\"vocab_size\":2000000000,\"hidden_size\":1048576,\"intermediate_size\":4194304,"
                       "\"num_hidden_layers\":4096,\"num_attention_heads\":4096}";
    snprintf(path, sizeof path, "%s/config.json", f.path);
    MUST(rpo_write_file_atomic(path, huge, strlen(huge)));
    expect_check_fails(&f, "tensor model.embed_tokens.weight: shape is [31, 16]");
    MUST(rpo_write_file_atomic(path, "{", 1));
    expect_load_fails(&f, "config.json");
    cr_assert_eq(remove(path), 0);
    expect_load_fails(&f, "config.json");
    remove_tiny(&f);
}

/* A fault of the reading alone leaves the weights before it as they were: every tensor is checked first. */
Test(model_files, nothing_is_read_of_a_folder_that_does_not_fit) {
    model_folder f = save_tiny(true);
    const size_t bytes = (size_t)rpo_model_tensors(f.m.model)->weights * sizeof(float);
    MUST(rpo_model_initialise(f.m.model, 10));
    float *before = test_weights(&f.m);
    rewrite(&f, DROP, rpo_model_tensors(f.m.model)->count - 1);
    expect_error(rpo_model_read(f.m.model, f.path), RPO_ERROR_INVALID_INPUT,
                 "tensor model.norm.weight: is missing");
    float *after = test_weights(&f.m);
    cr_expect_eq(memcmp(before, after, bytes), 0);
    rpo_free(after);
    rpo_free(before);
    remove_tiny(&f);
}

Test(model_files, tokens_and_lengths_are_checked) {
    rpo_context *context = model_test_context(1);
    rpo_model_config config = tiny_config(true);
    rpo_batch batch = {0};
    float logps[2];
    config.max_position_embeddings = 10;
    test_model m = test_model_create(context, &config, 1);
    add_sequence(&batch, 10, 1, 31, 1);
    MUST(test_score(&m, &batch, logps, NULL));
    add_sequence(&batch, 11, 1, 31, 1);
    expect_error(test_score(&m, &batch, logps, NULL), RPO_ERROR_INVALID_INPUT,
                 "sequence of the batch: has 11 tokens; the model takes at most 10");
    rpo_batch_clear(&batch);
    add_sequence(&batch, 10, 10, 31, 1);
    batch.tokens[4] = 31;
    expect_error(
        test_score(&m, &batch, logps, NULL), RPO_ERROR_INVALID_INPUT,
        "token id 31 (token 4 of segment 0 of the batch): is not in the model's vocabulary; allowed are "
        "0..30");
    batch.tokens[4] = -1;
    expect_error(test_score(&m, &batch, logps, NULL), RPO_ERROR_INVALID_INPUT, "token id -1");
    batch.tokens[4] = 3;
    batch.labels[7] = 31; /* of a token whose own row another batch holds */
    expect_error(test_score(&m, &batch, logps, NULL), RPO_ERROR_INVALID_INPUT,
                 "token id 31 (token 8 of segment 0 of the batch)");
    rpo_batch_clear(&batch);
    MUST(test_score(&m, &batch, logps, NULL)); /* nothing to do is no fault */
    MUST(test_record(&m, &batch, logps));
    rpo_batch_free(&batch);
    test_model_free(&m);
    rpo_context_free(context);
}

static void check_distribution(const rpo_tensor *tensor, const float *weights) {
    const double n = (double)tensor->count;
    double sum = 0.0;
    double squares = 0.0;
    for (int64_t i = 0; i < tensor->count; ++i) {
        sum += (double)weights[i];
        squares += pow((double)weights[i], 2.0);
    }
    if (tensor->role == RPO_TENSOR_NORM) {
        cr_expect(sum == n && squares == n && !rpo_tensor_decays(tensor), "%s", tensor->name);
        return;
    }
    cr_expect(rpo_tensor_decays(tensor));
    cr_expect(fabs(sum / n) <= 5.0 * 0.3 / sqrt(n), "%s: mean %g", tensor->name, sum / n);
    cr_expect(fabs(squares / n / 0.09 - 1.0) <= 5.0 * sqrt(2.0 / n), "%s: variance %g", tensor->name,
              squares / n);
}

Test(model_files, initialisation_is_a_function_of_the_seed) {
    rpo_context *one = model_test_context(1);
    rpo_context *two = model_test_context(2);
    const rpo_model_config config = tiny_config(false);
    test_model models[3] = {test_model_create(one, &config, 1), test_model_create(two, &config, 1),
                            test_model_create(two, &config, 2)};
    char hashes[3][33];
    for (int i = 0; i < 3; ++i)
        MUST(rpo_model_hash(models[i].model, hashes[i]));
    cr_expect_str_eq(hashes[0], hashes[1]);
    cr_expect_str_neq(hashes[0], hashes[2]);
    const rpo_tensor_table *tensors = rpo_model_tensors(models[0].model);
    float *weights = test_weights(&models[0]);
    for (size_t p = 0; p < tensors->count; ++p)
        check_distribution(&tensors->items[p], weights + tensors->items[p].offset);
    rpo_free(weights);
    for (int i = 0; i < 3; ++i)
        test_model_free(&models[i]);
    rpo_context_free(two);
    rpo_context_free(one);
}

/* ---- batches ---- */

Test(model_batch, labels_positions_boundaries) {
    rpo_batch batch = {0};
    const int32_t tokens[] = {5, 6, 7, 8};
    static const int32_t labels[] = {RPO_IGNORE_LABEL, 7, 8, RPO_IGNORE_LABEL, RPO_IGNORE_LABEL};
    static const int32_t positions[] = {0, 1, 2, 3, 0};
    static const int32_t boundaries[] = {0, 4, 5};
    for (int repeat = 0; repeat < 2; ++repeat) {
        MUST(rpo_batch_add(&batch, tokens, 4, 2));
        MUST(rpo_batch_add(&batch, tokens, 1, 1));
        cr_expect(batch.num_rows == 5 && batch.num_segments == 2 && batch.num_labels == 2);
        cr_expect_eq(memcmp(batch.labels, labels, sizeof labels), 0);
        cr_expect_eq(memcmp(batch.positions, positions, sizeof positions), 0);
        cr_expect_eq(memcmp(batch.cu_seqlens, boundaries, sizeof boundaries), 0);
        rpo_batch_clear(&batch);
    }
    expect_error(rpo_batch_add(&batch, tokens, 0, 1), RPO_ERROR_INVALID_ARGUMENT, "length");
    expect_error(rpo_batch_add(&batch, tokens, 4, 0), RPO_ERROR_INVALID_ARGUMENT, "label_start");
    expect_error(rpo_batch_add(&batch, tokens, 4, 5), RPO_ERROR_INVALID_ARGUMENT, "label_start");
    for (int i = 0; i < 1000; ++i)
        MUST(rpo_batch_add(&batch, tokens, 1 + i % 4, 1));
    cr_expect_eq(batch.cu_seqlens[1000], batch.num_rows);
    rpo_batch_free(&batch);
    rpo_batch_free(&batch);
}
