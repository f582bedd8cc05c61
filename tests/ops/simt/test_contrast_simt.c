/*
 * test_contrast_simt.c - the CUDA contrast loss, similarity and weights, run by simt on the CPU: the case
 * table against float64 for every dtype, aligned or not, bit for bit the same under every schedule.
 */
#include "kernels/simt/schedule.h"
#include "tests/ops/block_cases.h"
#include "tests/ops/contrast_cases.h"

static const rpo_dtype dtypes[] = {RPO_FLOAT32, RPO_BFLOAT16, RPO_FLOAT16};

/* Shapes that only the tiled version meets; the table's are small or thin. */
static const contrast_case tiled_cases[] = {
    {"tiles, three stages along k", RPO_LOSS_RPO_UNPAIRED, 140, 530, 104, 0.1f, 0.5f, 20, 0, 0, 0, 9, 0,
     false},
    {"tiles, block scale, sharp", RPO_LOSS_RPO_UNPAIRED, 530, 130, 32, 0.1f, 0.02f, 20, 0, 0,
     RPO_WEIGHT_SCALE_BLOCK, 0, 0, true},
    {"tiles, margins to 1e4", RPO_LOSS_RPO_UNPAIRED, 12, 700, 9, 0.5f, 1e-6f, 5e3f, 0, 0, 0, 0, 0, false},
    {"tiles, groups of two", RPO_LOSS_RPO_UNPAIRED, 8200, 5, 8, 0.1f, 0.5f, 20, 0, 0, 0, 0, 0, false},
    {"uniform tiles, groups of two", RPO_LOSS_RPO_UNIFORM, 9000, 131, 0, 0.1f, 0, 20, 0, 0, 0, 0, 0, false},
    {"diagonal tiles", RPO_LOSS_RPO_DIAGONAL, 600, 600, 0, 0.1f, 0, 20, 0.8f, 0, 0, 0, 0, false},
};

enum { TILED_CASES = sizeof tiled_cases / sizeof tiled_cases[0] };

static contrast_data new_data(const contrast_case *c, rpo_dtype dtype) {
    contrast_data data = contrast_data_new(c, 77);
    contrast_data_round(&data, dtype);
    return data;
}

static void expect_case(rpo_context *context, const contrast_case *c, rpo_dtype dtype, size_t misaligned) {
    contrast_data data = new_data(c, dtype);
    data.misaligned = misaligned;
    contrast_run run = contrast_run_new(context, &data, c->name);
    contrast_expect_all(&run, &data, 78, c->name);
    contrast_run_free(&run);
    contrast_data_free(&data);
}

static bool is_weighted(const contrast_case *c) {
    return rpo_loss_kind_needs_embeddings(c->kind) != 0;
}

/* Long vectors do not exist in float16. */
static bool dtype_holds(rpo_dtype dtype, const contrast_case *c) {
    return dtype != RPO_FLOAT16 || c->embedding_scale <= 1.0f;
}

Test(contrast_simt, every_case_agrees_with_float64) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    contrast_cases_run(context);
    rpo_context_free(context);
}

Test(contrast_simt, agrees_with_the_cpu) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1), *cpu = test_context(RPO_DEVICE_CPU, 1);
    for (int k = 0; k < CONTRAST_CASES; ++k)
        if (contrast_cases[k].m * contrast_cases[k].n <= 40000)
            contrast_case_compare(context, cpu, k);
    rpo_context_free(cpu);
    rpo_context_free(context);
}

Test(contrast_simt, tiled_cases_agree_with_float64) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int k = 0; k < TILED_CASES; ++k)
        expect_case(context, &tiled_cases[k], RPO_FLOAT32, 0);
    rpo_context_free(context);
}

Test(contrast_simt, sixteen_bit_embeddings_agree_with_float64) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int d = 1; d < 3; ++d) {
        for (int k = 0; k < CONTRAST_CASES; ++k) {
            const contrast_case *c = &contrast_cases[k];
            if (is_weighted(c) && dtype_holds(dtypes[d], c) && c->m * c->n <= 4096)
                contrast_case_run(context, k, dtypes[d]);
        }
        for (int k = 0; k < 3; ++k)
            expect_case(context, &tiled_cases[k], dtypes[d], 0);
    }
    rpo_context_free(context);
}

/* The same values from embeddings that no 16-byte load may touch. */
Test(contrast_simt, misaligned_embeddings_agree_with_float64) {
    const contrast_case small = {.name = "misaligned, small",
                                 .kind = RPO_LOSS_RPO_UNPAIRED,
                                 .m = 9,
                                 .n = 21,
                                 .dim = 40,
                                 .beta = 0.1f,
                                 .tau = 0.5f,
                                 .spread = 20};
    contrast_case tiled = small;
    tiled.name = "misaligned, tiled";
    tiled.n = 530;
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int d = 0; d < 3; ++d) {
        expect_case(context, &small, dtypes[d], rpo_dtype_size(dtypes[d]));
        expect_case(context, &tiled, dtypes[d], rpo_dtype_size(dtypes[d]));
    }
    rpo_context_free(context);
}

static void expect_same_under_every_schedule(rpo_context *context, const contrast_case *c, rpo_dtype dtype) {
    contrast_data data = new_data(c, dtype);
    rpo_simt_set_schedule(0);
    contrast_run first = contrast_run_new(context, &data, c->name);
    for (int schedule = 1; schedule < rpo_simt_schedules(); ++schedule) {
        rpo_simt_set_schedule(schedule);
        contrast_run run = contrast_run_new(context, &data, c->name);
        contrast_runs_equal(&first, &run, c->name, rpo_simt_schedule_name(schedule));
        contrast_run_free(&run);
    }
    rpo_simt_set_schedule(0);
    contrast_run_free(&first);
    contrast_data_free(&data);
}

Test(contrast_simt, schedule_changes_no_bit) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int k = 0; k < CONTRAST_CASES; ++k) {
        const contrast_case *c = &contrast_cases[k];
        if (c->m * c->n <= 1000)
            expect_same_under_every_schedule(context, c, dtypes[k % 3]);
    }
    for (int d = 0; d < 3; ++d)
        expect_same_under_every_schedule(context, &tiled_cases[2], dtypes[d]);
    expect_same_under_every_schedule(context, &tiled_cases[5], RPO_FLOAT32);
    rpo_context_free(context);
}

/* A bad value in any input that the kind reads must show in the loss. */
Test(contrast_simt, non_finite_input_gives_non_finite_loss) {
    const float bad_values[] = {NAN, INFINITY, -INFINITY};
    const int64_t columns[] = {19, 530}; /* small, tiled */
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind)
        for (int where = 0; where < 6; ++where) {
            const bool tiled = kind == RPO_LOSS_RPO_UNPAIRED || kind == RPO_LOSS_RPO_UNIFORM;
            const contrast_case c = {.name = rpo_loss_kind_name((rpo_loss_kind)kind),
                                     .kind = (rpo_loss_kind)kind,
                                     .m = 19,
                                     .n = columns[tiled && where % 2],
                                     .dim = 6,
                                     .beta = 0.1f,
                                     .tau = 0.5f,
                                     .spread = 20,
                                     .diagonal_weight = 0.8f,
                                     .epsilon = 0.1f};
            contrast_data data = new_data(&c, dtypes[where % 3]);
            float *inputs[] = {data.chosen,
                               data.rejected,
                               data.reference_chosen,
                               data.reference_rejected,
                               data.chosen_embeddings,
                               data.rejected_embeddings};
            if (inputs[where] != NULL && (kind != RPO_LOSS_SFT || where == 0)) {
                inputs[where][where < 4 ? 18 : 18 * 6] = bad_values[(kind + where) % 3];
                contrast_run run = contrast_run_new(context, &data, c.name);
                cr_assert(!isfinite(*(float *)run.loss.data), "%s: a bad value in input %d gave loss %g",
                          c.name, where, (double)*(float *)run.loss.data);
                contrast_run_free(&run);
            }
            contrast_data_free(&data);
        }
    rpo_context_free(context);
}

Test(contrast_simt, every_output_but_the_loss_may_be_null) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind) {
        const bool pairs = rpo_loss_kind_needs_pairs((rpo_loss_kind)kind) != 0;
        for (int64_t n = 5; n <= 600; n += 595) {
            const contrast_case c = {.name = rpo_loss_kind_name((rpo_loss_kind)kind),
                                     .kind = (rpo_loss_kind)kind,
                                     .m = pairs ? n : 7,
                                     .n = n,
                                     .dim = 3,
                                     .beta = 0.1f,
                                     .tau = 0.5f,
                                     .spread = 20,
                                     .diagonal_weight = 0.8f};
            if (pairs && is_weighted(&c) && n > 5)
                continue; /* rpo-unpaired shows the same */
            contrast_data data = new_data(&c, RPO_FLOAT32);
            contrast_run run = contrast_run_new(context, &data, c.name);
            contrast_placed placed = contrast_place(context, &data);
            device_buffer loss = buffer_new(context, 1, RPO_FLOAT32, 0);
            const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs,
                                                  .loss = buffer_device(&loss)};
            size_t size = 0;
            cr_assert_eq(rpo_contrast_loss_workspace_size(context, &size, &placed.inputs, &data.options),
                         RPO_OK);
            device_scratch workspace = scratch_new(context, size);
            cr_assert_eq(rpo_contrast_loss(context, &outputs, &placed.inputs, &data.options,
                                           scratch_device(&workspace), size),
                         RPO_OK, "%s: %s", c.name, rpo_last_error());
            buffer_pull(&loss, c.name);
            const float value = buffer_get(&loss, 0);
            cr_assert(same_bits(&value, run.loss.data, sizeof value),
                      "%s: another loss without other outputs", c.name);
            scratch_free(&workspace);
            buffer_free(&loss);
            contrast_placed_free(&placed);
            contrast_run_free(&run);
            contrast_data_free(&data);
        }
    }
    rpo_context_free(context);
}

Test(contrast_simt, workspace_is_linear_in_m_and_n) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    rpo_contrast_inputs inputs = {.struct_size = sizeof inputs, .dim = 384};
    for (int64_t m = 2048; m <= 1 << 20; m *= 2) {
        size_t size = 0;
        inputs.m = inputs.n = m;
        cr_assert_eq(rpo_contrast_loss_workspace_size(context, &size, &inputs, NULL), RPO_OK, "%s",
                     rpo_last_error());
        cr_assert_leq(size, (size_t)m * 64 * 40 + 8192, "%zu bytes at m = n = %lld", size, (long long)m);
    }
    rpo_context_free(context);
}

/* ---- several blocks in one call ---- */

/* Beyond the 128 columns from which four are taken at a time, and in more than one thread block of the table. */
static const block_case simt_blocks = {"columns by four", 3, {9, 2, 5}, {140, 300, 1}, 40};

Test(contrast_simt, blocks_as_one_by_one) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind) {
        for (int k = 0; k < BLOCK_CASES; ++k) {
            block_case_run(context, &block_cases[k], (rpo_loss_kind)kind, 0.0, dtypes[(kind + k) % 3], true);
            if (k == 1 || k == 3)
                block_case_run(context, &block_cases[k], (rpo_loss_kind)kind, 1000.0, RPO_FLOAT32, true);
        }
        block_case_run(context, &simt_blocks, (rpo_loss_kind)kind, 0.0, dtypes[kind % 3], true);
    }
    rpo_context_free(context);
}

Test(contrast_simt, schedule_changes_no_bit_of_blocks) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind)
        for (int k = 1; k < 4; ++k) {
            block_call call;
            block_call_new(&call, &block_cases[k], (rpo_loss_kind)kind, 0.0, dtypes[k % 3]);
            rpo_simt_set_schedule(0);
            contrast_run first = contrast_run_new(context, &call.data, block_cases[k].name);
            for (int schedule = 1; schedule < rpo_simt_schedules(); ++schedule) {
                rpo_simt_set_schedule(schedule);
                contrast_run run = contrast_run_new(context, &call.data, block_cases[k].name);
                contrast_runs_equal(&first, &run, block_cases[k].name, rpo_simt_schedule_name(schedule));
                contrast_run_free(&run);
            }
            rpo_simt_set_schedule(0);
            contrast_run_free(&first);
            contrast_data_free(&call.data);
        }
    rpo_context_free(context);
}

/* The tiled version weighs its one block, with bounds or without. */
Test(contrast_simt, total_rows_weighs_one_large_block) {
    static const block_case large = {"one large block", 1, {12}, {530}, 8};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    block_case_run(context, &large, RPO_LOSS_RPO_UNPAIRED, 1000.0, RPO_FLOAT32, true);
    block_case_run(context, &large, RPO_LOSS_RPO_UNIFORM, 0.0, RPO_FLOAT32, true);
    rpo_context_free(context);
}

Test(contrast_simt, several_large_blocks_are_refused) {
    static const block_case large = {"large blocks", 2, {12, 3}, {530, 4}, 8};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    block_call call;
    size_t size = 0;
    block_call_new(&call, &large, RPO_LOSS_RPO_UNIFORM, 0.0, RPO_FLOAT32);
    cr_assert_eq(rpo_contrast_loss_workspace_size(context, &size, &call.data.inputs, &call.data.options),
                 RPO_ERROR_UNSUPPORTED);
    cr_assert_not_null(
        strstr(rpo_last_error(), "are 12 and 530; several blocks in one call have at most 512"), "%s",
        rpo_last_error());
    contrast_data_free(&call.data);
    rpo_context_free(context);
}

/* The device cannot refuse bounds: whatever they hold, nothing outside the arrays is touched and the loss is NaN. */
Test(contrast_simt, broken_bounds_give_a_nan_loss) {
    static const int32_t bad[][4] = {{1, 4, 7, 8},  {0, 5, 3, 8},         {0, 2, 4, 7},
                                     {0, -1, 4, 8}, {0, INT32_MAX, 4, 8}, {0, 1, 7, 8},
                                     {0, 3, 5, 9},  {0, INT32_MIN, 0, 8}, {INT32_MIN, 2, 4, 8}};
    static const block_case good = {"bounds", 3, {2, 3, 3}, {2, 3, 3}, 8};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int kind = 0; kind < RPO_LOSS_KIND_COUNT; ++kind)
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i)
            for (int side = 0; side < 2; ++side) {
                block_call call;
                block_call_new(&call, &good, (rpo_loss_kind)kind, 0.0, RPO_FLOAT32);
                memcpy(side == 0 ? call.chosen_bounds : call.rejected_bounds, bad[i], sizeof bad[i]);
                contrast_run run = contrast_run_new(context, &call.data, good.name);
                cr_assert(isnan(*(float *)run.loss.data), "%s: bounds %zu of side %d give a loss of %g",
                          rpo_loss_kind_name((rpo_loss_kind)kind), i, side, (double)*(float *)run.loss.data);
                contrast_run_free(&run);
                contrast_data_free(&call.data);
            }
    rpo_context_free(context);
}

/* ---- the two matrix ops ---- */

static device_buffer run_matrix(rpo_context *context, const contrast_data *data, bool weights,
                                const char *name) {
    contrast_placed placed = contrast_place(context, data);
    const rpo_contrast_inputs *of = &placed.inputs;
    const rpo_similarity_inputs in = {sizeof in, of->chosen_embeddings, of->rejected_embeddings, of->m, of->n,
                                      of->dim,   of->embedding_dtype};
    size_t size = 0;
    cr_assert_eq(rpo_prompt_similarity_workspace_size(context, &size, &in), RPO_OK);
    device_scratch workspace = scratch_new(context, size);
    device_buffer matrix = buffer_new(context, in.m * in.n, RPO_FLOAT32, 4);
    float *out = buffer_device(&matrix);
    void *memory = scratch_device(&workspace);
    const rpo_status status = weights ? rpo_contrast_weights(context, out, &in, data->options.tau,
                                                             data->options.weight_scale, memory, size)
                                      : rpo_prompt_similarity(context, out, &in, memory, size);
    cr_assert_eq(status, RPO_OK, "%s: %s", name, rpo_last_error());
    buffer_pull(&matrix, name);
    scratch_check(&workspace, name);
    scratch_free(&workspace);
    contrast_placed_free(&placed);
    return matrix;
}

static void expect_matrices(rpo_context *context, const contrast_case *c, rpo_dtype dtype) {
    contrast_data data = new_data(c, dtype);
    const int64_t count = c->m * c->n;
    double *expected = malloc((size_t)(count + 1) * sizeof *expected);
    double *plain = malloc((size_t)(count + 1) * sizeof *plain);
    for (int weights = 0; weights < 2; ++weights) {
        device_buffer matrix = run_matrix(context, &data, weights, c->name);
        if (weights) {
            reference_double_weights(expected, data.chosen_embeddings, data.rejected_embeddings, c->m, c->n,
                                     c->dim, c->tau, c->scale);
            reference_float_weights(plain, data.chosen_embeddings, data.rejected_embeddings, c->m, c->n,
                                    c->dim, c->tau, c->scale);
        } else {
            reference_double_similarity(expected, data.chosen_embeddings, data.rejected_embeddings, c->m,
                                        c->n, c->dim);
            reference_float_similarity(plain, data.chosen_embeddings, data.rejected_embeddings, c->m, c->n,
                                       c->dim);
        }
        contrast_expect((const float *)(const void *)(matrix.host + matrix.offset), plain, expected, count,
                        c->name, weights ? "weights" : "similarity");
        buffer_free(&matrix);
    }
    free(plain);
    free(expected);
    contrast_data_free(&data);
}

Test(contrast_simt, similarity_and_weights_agree_with_float64) {
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int k = 0; k < CONTRAST_CASES; ++k) {
        const contrast_case *c = &contrast_cases[k];
        const rpo_dtype dtype = dtypes[k % 3];
        if (is_weighted(c) && dtype_holds(dtype, c) && c->m * c->n * c->dim <= 300000 && c->m < 2000)
            expect_matrices(context, c, dtype);
    }
    for (int d = 0; d < 3; ++d)
        expect_matrices(context, &tiled_cases[0], dtypes[d]);
    rpo_context_free(context);
}

/* A NaN or an infinity stays in its row or column of the similarities. */
Test(contrast_simt, non_finite_embeddings_stay_in_their_row_or_column) {
    const float bad_values[] = {NAN, INFINITY, -INFINITY};
    const contrast_case c = {.name = "non-finite",
                             .kind = RPO_LOSS_RPO_UNPAIRED,
                             .m = 37,
                             .n = 21,
                             .dim = 11,
                             .beta = 1,
                             .tau = 1};
    rpo_context *context = test_context(RPO_DEVICE_CUDA, 1);
    for (int d = 0; d < 3; ++d)
        for (int b = 0; b < 3; ++b) {
            contrast_data data = new_data(&c, dtypes[d]);
            data.chosen_embeddings[5 * c.dim + 3] = bad_values[b];
            data.rejected_embeddings[8 * c.dim + 10] = bad_values[b];
            device_buffer matrix = run_matrix(context, &data, false, c.name);
            for (int64_t i = 0; i < c.m; ++i)
                for (int64_t j = 0; j < c.n; ++j)
                    cr_assert_eq(isfinite(buffer_get(&matrix, i * c.n + j)) != 0, i != 5 && j != 8,
                                 "%s, %g: [%lld][%lld]", rpo_dtype_name(dtypes[d]), (double)bad_values[b],
                                 (long long)i, (long long)j);
            buffer_free(&matrix);
            contrast_data_free(&data);
        }
    rpo_context_free(context);
}
