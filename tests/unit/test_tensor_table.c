/*
 * test_tensor_table.c - names, shapes and places of a model's tensors; which of them one product computes; the
 * optimizer's runs over them.
 */
#include "tests/model_testing.h"

#include "host/train/optimizer.h"

static rpo_tensor_table table_of(bool tied) {
    const rpo_model_config config = tiny_config(tied);
    rpo_tensor_table table;
    MUST(rpo_tensor_table_build(&table, &config));
    return table;
}

static void expect_tensor(const rpo_tensor *tensor, const char *name, int64_t rows, int64_t columns,
                          rpo_tensor_role role) {
    cr_expect_str_eq(tensor->name, name);
    cr_expect(tensor->shape[0] == rows && tensor->shape[1] == columns, "%s: shape is [%lld, %lld]", name,
              (long long)tensor->shape[0], (long long)tensor->shape[1]);
    cr_expect_eq(tensor->count, rows * (columns == 0 ? 1 : columns), "%s", name);
    cr_expect_eq(tensor->role, role, "%s", name);
    cr_expect(tensor->trainable && tensor->dtype == RPO_FLOAT32, "%s", name);
}

/* The names and shapes that LlamaForCausalLM gives tiny_config's model. */
Test(tensor_table, as_transformers_names_them) {
    static const struct {
        const char *name;
        int64_t rows, columns;
    } layer[RPO_LAYER_TENSORS] = {
        {"input_layernorm.weight", 16, 0},   {"self_attn.q_proj.weight", 16, 16},
        {"self_attn.k_proj.weight", 8, 16},  {"self_attn.v_proj.weight", 8, 16},
        {"self_attn.o_proj.weight", 16, 16}, {"post_attention_layernorm.weight", 16, 0},
        {"mlp.gate_proj.weight", 28, 16},    {"mlp.up_proj.weight", 28, 16},
        {"mlp.down_proj.weight", 16, 28},
    };
    rpo_tensor_table table = table_of(false);
    cr_assert_eq(table.count, 2 * RPO_LAYER_TENSORS + 3);
    expect_tensor(&table.items[table.embedding], "model.embed_tokens.weight", 31, 16, RPO_TENSOR_EMBEDDING);
    expect_tensor(&table.items[table.final_norm], "model.norm.weight", 16, 0, RPO_TENSOR_NORM);
    expect_tensor(&table.items[table.head], "lm_head.weight", 31, 16, RPO_TENSOR_EMBEDDING);
    for (int64_t l = 0; l < 2; ++l)
        for (int which = 0; which < RPO_LAYER_TENSORS; ++which) {
            char name[RPO_TENSOR_NAME_SIZE];
            snprintf(name, sizeof name, "model.layers.%d.%s", (int)l, layer[which].name);
            expect_tensor(rpo_tensor_table_layer(&table, l, (rpo_layer_tensor)which), name, layer[which].rows,
                          layer[which].columns,
                          layer[which].columns == 0 ? RPO_TENSOR_NORM : RPO_TENSOR_MATRIX);
        }
    rpo_tensor_table_free(&table);
    rpo_tensor_table_free(&table);
}

Test(tensor_table, a_tied_head_is_the_embedding) {
    rpo_tensor_table tied = table_of(true), untied = table_of(false);
    cr_expect_eq(tied.head, tied.embedding);
    cr_expect_eq(tied.count + 1, untied.count);
    cr_expect_neq(untied.head, untied.embedding);
    cr_expect_eq(rpo_tensor_table_elements(&untied) - rpo_tensor_table_elements(&tied), 31 * 16);
    /* 31 * 16 + 2 (16 + 16 * 16 + 2 (8 * 16) + 16 * 16 + 16 + 3 (28 * 16)) + 16 */
    cr_expect_eq(rpo_tensor_table_elements(&tied), 4800);
    rpo_tensor_table_free(&untied);
    rpo_tensor_table_free(&tied);
}

/* In order, without overlap, on the grid but for a product's later members; both spaces end on it. */
Test(tensor_table, places) {
    for (int tied = 0; tied < 2; ++tied) {
        rpo_tensor_table table = table_of(tied != 0);
        int64_t weights = 0, trainable = 0;
        for (size_t i = 0; i < table.count; ++i) {
            const rpo_tensor *tensor = &table.items[i];
            const bool goes_on = i > 0 && rpo_tensor_is_continued_by(tensor - 1, tensor);
            cr_expect(tensor->offset >= weights && tensor->offset - weights < RPO_TENSOR_ALIGNMENT, "%s",
                      tensor->name);
            cr_expect(tensor->slot >= trainable && tensor->slot - trainable < RPO_TENSOR_ALIGNMENT, "%s",
                      tensor->name);
            cr_expect(goes_on || (tensor->offset % RPO_TENSOR_ALIGNMENT == 0 &&
                                  tensor->slot % RPO_TENSOR_ALIGNMENT == 0),
                      "%s", tensor->name);
            weights = tensor->offset + tensor->count;
            trainable = tensor->slot + tensor->count;
        }
        cr_expect(table.weights % RPO_TENSOR_ALIGNMENT == 0 &&
                  table.weights - weights < RPO_TENSOR_ALIGNMENT);
        cr_expect(table.trainable % RPO_TENSOR_ALIGNMENT == 0 &&
                  table.trainable - trainable < RPO_TENSOR_ALIGNMENT);
        rpo_tensor_table_free(&table);
    }
}

static void expect_continued(const rpo_tensor_table *table, rpo_layer_tensor which, rpo_layer_tensor next,
                             int64_t layer) {
    const rpo_tensor *a = rpo_tensor_table_layer(table, layer, which);
    const rpo_tensor *b = rpo_tensor_table_layer(table, layer, next);
    cr_expect(rpo_tensor_is_continued_by(a, b), "%s, %s", a->name, b->name);
    cr_expect(a->offset + a->count == b->offset && a->slot + a->count == b->slot, "%s, %s", a->name, b->name);
    cr_expect_not(rpo_tensor_is_continued_by(b, a));
}

/* Sizes at which nothing but the table's own rule makes one end where the next begins. */
Test(tensor_table, members_of_a_product_have_no_gap) {
    rpo_model_config config = tiny_config(true);
    rpo_tensor_table table;
    config.hidden_size = 12;
    config.num_attention_heads = 2;
    config.num_key_value_heads = 1;
    config.head_dim = 2;
    config.intermediate_size = 7;
    MUST(rpo_tensor_table_build(&table, &config));
    for (int64_t layer = 0; layer < 2; ++layer) {
        expect_continued(&table, RPO_LAYER_QUERY, RPO_LAYER_KEY, layer);
        expect_continued(&table, RPO_LAYER_KEY, RPO_LAYER_VALUE, layer);
        expect_continued(&table, RPO_LAYER_GATE, RPO_LAYER_UP, layer);
    }
    int continued = 0;
    for (size_t i = 0; i + 1 < table.count; ++i)
        continued += rpo_tensor_is_continued_by(&table.items[i], &table.items[i + 1]);
    cr_expect_eq(continued, 6);
    rpo_tensor frozen = table.items[0];
    frozen.slot = -1;
    cr_expect_not(rpo_tensor_is_continued_by(&frozen, &table.items[1]));
    rpo_tensor_table_free(&table);
}

Test(tensor_table, what_decays) {
    rpo_tensor tensor = {.role = RPO_TENSOR_EMBEDDING};
    cr_expect(rpo_tensor_decays(&tensor));
    tensor.role = RPO_TENSOR_MATRIX;
    cr_expect(rpo_tensor_decays(&tensor));
    tensor.role = RPO_TENSOR_ADAPTER;
    cr_expect(rpo_tensor_decays(&tensor));
    tensor.role = RPO_TENSOR_NORM;
    cr_expect_not(rpo_tensor_decays(&tensor));
    tensor.role = RPO_TENSOR_BIAS;
    cr_expect_not(rpo_tensor_decays(&tensor));
}

/* ---- the optimizer's runs ---- */

typedef struct run_check {
    rpo_context *context;
    rpo_model *model;
    rpo_optimizer optimizer;
} run_check;

static run_check open_runs(bool tied, double weight_decay) {
    run_check made = {.context = model_test_context(1)};
    const rpo_model_config config = tiny_config(tied);
    const rpo_optimizer_settings settings = {.kind = RPO_OPTIMIZER_ADAMW, .weight_decay = weight_decay};
    MUST(rpo_model_new(&made.model, made.context, &config));
    MUST(rpo_optimizer_open(&made.optimizer, &settings, made.model));
    return made;
}

static void close_runs(run_check *check) {
    rpo_optimizer_close(&check->optimizer);
    rpo_model_free(check->model);
    rpo_context_free(check->context);
}

/* The decay of an element by the runs; -1 where no run holds it. */
static double decay_at(const rpo_optimizer *optimizer, int64_t element) {
    double found = -1.0;
    for (int64_t r = 0; r < optimizer->num_runs; ++r) {
        const rpo_optimizer_run *run = &optimizer->runs[r];
        if (element < run->first || element >= run->first + run->count)
            continue;
        cr_expect(found < 0.0, "element %lld: is in two runs", (long long)element);
        found = (double)run->weight_decay;
    }
    return found;
}

static void check_runs(bool tied, double weight_decay) {
    run_check check = open_runs(tied, weight_decay);
    const rpo_tensor_table *table = rpo_model_tensors(check.model);
    int64_t end = 0;
    for (int64_t r = 0; r < check.optimizer.num_runs; ++r) {
        const rpo_optimizer_run *run = &check.optimizer.runs[r];
        cr_expect(run->first >= end && run->count > 0 && run->reserved == 0.0f);
        end = run->first + run->count;
    }
    cr_expect_leq(end, table->trainable);
    for (size_t i = 0; i < table->count; ++i) {
        const rpo_tensor *tensor = &table->items[i];
        const double expected = rpo_tensor_decays(tensor) ? (double)(float)weight_decay : 0.0;
        for (int64_t e = tensor->slot; e < tensor->slot + tensor->count; ++e)
            cr_assert_eq(decay_at(&check.optimizer, e), expected, "%s", tensor->name);
    }
    close_runs(&check);
}

Test(optimizer_runs, every_element_in_one_with_its_decay) {
    check_runs(true, 0.1);
    check_runs(false, 0.1);
    check_runs(false, 0.0);
}

/* Neighbours of the same decay share a run: two a layer, the norms' and the matrices', after the embedding's. */
Test(optimizer_runs, neighbours_share_one) {
    run_check check = open_runs(false, 0.1);
    cr_expect_eq(check.optimizer.num_runs, 1 + 2 * 4 + 2);
    close_runs(&check);
    check = open_runs(true, 0.0);
    cr_expect_eq(check.optimizer.num_runs, 1);
    close_runs(&check);
}
