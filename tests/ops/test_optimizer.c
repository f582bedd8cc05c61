/*
 * test_optimizer.c - AdamW and RMSprop against torch.optim; runs of different weight decay, the working copy, a step
 * that is skipped; odd lengths, guards, thread counts bit for bit.
 *
 * The expected values are torch.optim.AdamW(lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1) and
 * torch.optim.RMSprop(lr=0.01, alpha=0.9, eps=1e-8, weight_decay=0.05) of PyTorch 2.15, run in float64 on
 * gradients scaled with 0.25: parameters after each of three steps, then the state.
 */
#include "core/float16.h"
#include "kernels/op_table.h"
#include "tests/logprob_testing.h"

enum { SIZE = 7, STEPS = 3 };

static const float start[SIZE] = {1.5f, -0.75f, 0.0f, 3.25f, -2.0f, 0.125f, 0.001f};
static const float gradients[STEPS][SIZE] = {{0.5f, -1.25f, 0.0f, 2.0f, 1e-4f, -30.0f, 7.5f},
                                             {-0.25f, 0.5f, 1.0f, 2.5f, 1e-6f, 10.0f, -7.5f},
                                             {0.125f, 0.25f, -0.5f, -1.0f, 0.0f, 1e3f, 1e-3f}};
static const float adamw_parameters[STEPS][SIZE] = {
    {1.4885f, -0.73925f, 0.0f, 3.23675f, -2.007996f, 0.134875f, -0.0090009999f},
    {1.48432781f, -0.735022785f, -0.00734959961f, 3.22354431f, -2.0128456f, 0.138783192f, -0.00846568311f},
    {1.47937666f, -0.732798484f, -0.00961793884f, 3.21481331f, -2.01620149f, 0.132510313f, -0.00804572386f}};
static const float adamw_first[SIZE] = {0.007625f,       -0.0078125f, 0.01f,    0.07175f,
                                        2.04749995e-06f, 24.6175f,    -0.01685f};
static const float adamw_second[SIZE] = {0.000939453125f, 0.00534423828f, 0.00375f,    0.0329609375f,
                                         2.82060923e-11f, 3127.83516f,    0.325634769f};
static const float rmsprop_parameters[STEPS][SIZE] = {
    {1.46837723f, -0.718377226f, 0.0f, 3.21837722f, -1.96837723f, 0.156622776f, -0.030622776f},
    {1.46656042f, -0.726571373f, -0.0316227726f, 3.19368042f, -1.94560694f, 0.146102917f, -0.00767262416f},
    {1.45069411f, -0.729100847f, -0.0167332233f, 3.19665875f, -1.92662953f, 0.114493071f, -0.00767090143f}};
static const float rmsprop_square[SIZE] = {0.00434438619f, 0.0107051848f, 0.00722727847f, 0.0919572649f,
                                           0.00262770172f, 6255.47995f,   0.601704035f};

static const rpo_optimizer_options adamw_options = {
    .learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f};
static const rpo_optimizer_options rmsprop_options = {.learning_rate = 0.01f, .alpha = 0.9f, .eps = 1e-8f};
static const float adamw_decay = 0.1f, rmsprop_decay = 0.05f;

static void check_values(const char *what, const float *found, const float *expected, double floor) {
    for (int i = 0; i < SIZE; ++i)
        cr_assert(fabs((double)found[i] - (double)expected[i]) <=
                      1e-6 * fmax(fabs((double)expected[i]), floor),
                  "%s[%d]: %.9g, expected %.9g", what, i, (double)found[i], (double)expected[i]);
}

Test(optimizer, adamw_is_torch) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    float parameter[SIZE], first[SIZE] = {0}, second[SIZE] = {0};
    const rpo_optimizer_run run = {.count = SIZE, .weight_decay = adamw_decay};
    memcpy(parameter, start, sizeof start);
    for (int step = 0; step < STEPS; ++step) {
        const rpo_optimizer_arrays arrays = {.master = parameter,
                                             .gradients = gradients[step],
                                             .moments = {first, second},
                                             .runs = &run,
                                             .num_runs = 1,
                                             .count = SIZE};
        const rpo_step_control control = {.updates = step + 1, .clip_scale = 0.25f};
        cr_assert_eq(context->backend->optimizer.adamw(context, &arrays, &control, &adamw_options), RPO_OK);
        check_values("parameter", parameter, adamw_parameters[step], 0.1);
    }
    check_values("first moment", first, adamw_first, 1e-3);
    check_values("second moment", second, adamw_second, 0.0);
    rpo_context_free(context);
}

Test(optimizer, rmsprop_is_torch) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    float parameter[SIZE], square[SIZE] = {0};
    const rpo_optimizer_run run = {.count = SIZE, .weight_decay = rmsprop_decay};
    memcpy(parameter, start, sizeof start);
    for (int step = 0; step < STEPS; ++step) {
        const rpo_optimizer_arrays arrays = {.master = parameter,
                                             .gradients = gradients[step],
                                             .moments = {square},
                                             .runs = &run,
                                             .num_runs = 1,
                                             .count = SIZE};
        const rpo_step_control control = {.updates = step + 1, .clip_scale = 0.25f};
        cr_assert_eq(context->backend->optimizer.rmsprop(context, &arrays, &control, &rmsprop_options),
                     RPO_OK);
        check_values("parameter", parameter, rmsprop_parameters[step], 0.1);
    }
    check_values("square average", square, rmsprop_square, 0.0);
    rpo_context_free(context);
}

Test(optimizer, adamw_refuses_update_zero) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 1);
    float one[4] = {0};
    const rpo_optimizer_run run = {.count = 1};
    const rpo_optimizer_arrays arrays = {.master = one,
                                         .gradients = one + 1,
                                         .moments = {one + 2, one + 3},
                                         .runs = &run,
                                         .num_runs = 1,
                                         .count = 1};
    const rpo_step_control control = {.clip_scale = 1.0f};
    cr_assert_eq(context->backend->optimizer.adamw(context, &arrays, &control, &adamw_options),
                 RPO_ERROR_INVALID_ARGUMENT);
    cr_assert_not_null(strstr(rpo_last_error(), "control.updates"));
    rpo_context_free(context);
}

/* ---- one call over many runs ---- */

enum { MASTER, FIRST, SECOND, GRADIENTS, ARRAYS };

/* A flat space from seeded values between guards; `working` begins as ones in every bit. */
typedef struct flat_space {
    guarded arrays[ARRAYS], working;
    int64_t count;
    rpo_dtype dtype;
} flat_space;

static size_t size_of(rpo_dtype dtype) {
    return dtype == RPO_FLOAT32 ? 4 : 2;
}

static flat_space flat_space_new(int64_t count, rpo_dtype dtype) {
    flat_space made = {
        .count = count, .dtype = dtype, .working = guarded_new((size_t)count * size_of(dtype))};
    uint64_t state = 5;
    for (int i = 0; i < ARRAYS; ++i)
        made.arrays[i] = guarded_new((size_t)count * sizeof(float));
    for (int64_t k = 0; k < count; ++k) {
        ((float *)made.arrays[MASTER].data)[k] = test_uniform(&state, 1.0f);
        ((float *)made.arrays[FIRST].data)[k] = test_uniform(&state, 0.1f);
        ((float *)made.arrays[SECOND].data)[k] = fabsf(test_uniform(&state, 0.1f));
        ((float *)made.arrays[GRADIENTS].data)[k] = test_uniform(&state, 2.0f);
    }
    return made;
}

static void flat_space_free(flat_space *space) {
    for (int i = 0; i < ARRAYS; ++i) {
        guarded_check(&space->arrays[i], "an array of the flat space");
        guarded_free(&space->arrays[i]);
    }
    guarded_check(&space->working, "the working copy");
    guarded_free(&space->working);
}

static bool same_space(const flat_space *a, const flat_space *b) {
    bool same = same_bits(a->working.data, b->working.data, a->working.bytes);
    for (int i = 0; i < ARRAYS; ++i)
        same = same && same_bits(a->arrays[i].data, b->arrays[i].data, a->arrays[i].bytes);
    return same;
}

/* One update of `space` shifted by `offset` elements, so that a run can be updated as if it were alone. */
static void update(rpo_context *context, flat_space *space, int64_t offset, const rpo_optimizer_run *runs,
                   int64_t num_runs, const rpo_step_control *control, bool adamw) {
    float *data[ARRAYS];
    for (int i = 0; i < ARRAYS; ++i)
        data[i] = (float *)space->arrays[i].data + offset;
    const rpo_optimizer_arrays arrays = {
        .master = data[MASTER],
        .gradients = data[GRADIENTS],
        .moments = {adamw ? data[FIRST] : data[SECOND], adamw ? data[SECOND] : NULL},
        .working = (unsigned char *)space->working.data + (size_t)offset * size_of(space->dtype),
        .working_dtype = space->dtype,
        .runs = runs,
        .num_runs = num_runs,
        .count = space->count - offset};
    const rpo_optimizer_ops *ops = &context->backend->optimizer;
    const rpo_status status = adamw ? ops->adamw(context, &arrays, control, &adamw_options)
                                    : ops->rmsprop(context, &arrays, control, &rmsprop_options);
    cr_assert_eq(status, RPO_OK, "%s", rpo_last_error());
}

static const rpo_step_control third = {.updates = 3, .clip_scale = 0.25f};

/* Runs of every length around the CPU's blocks of 4,096, with and without gaps, an empty one among them. */
static const rpo_optimizer_run runs[] = {{1, 5, 0.1f, 0},        {6, 4090, 0.0f, 0},    {4096, 1, 0.2f, 0},
                                         {4100, 0, 0.3f, 0},     {4160, 9000, 0.1f, 0}, {13161, 64, 0.0f, 0},
                                         {16384, 4096, 0.05f, 0}};
enum { NUM_RUNS = sizeof runs / sizeof runs[0], FLAT = 20483 };

/* Each run alone, as an array of its own, by the same op. */
static void update_one_by_one(rpo_context *context, flat_space *space, bool adamw) {
    for (int r = 0; r < NUM_RUNS; ++r) {
        const rpo_optimizer_run alone = {.count = runs[r].count, .weight_decay = runs[r].weight_decay};
        update(context, space, runs[r].first, &alone, 1, &third, adamw);
    }
}

static void check_gaps(const flat_space *space, const flat_space *before) {
    int64_t at = 0;
    for (int r = 0; r <= NUM_RUNS; ++r) {
        const int64_t end = r < NUM_RUNS ? runs[r].first : FLAT;
        for (int i = 0; i < ARRAYS; ++i)
            cr_assert(same_bits((float *)space->arrays[i].data + at, (float *)before->arrays[i].data + at,
                                (size_t)(end - at) * sizeof(float)),
                      "array %d changed before run %d", i, r);
        const size_t size = size_of(space->dtype);
        cr_assert(same_bits((char *)space->working.data + (size_t)at * size,
                            (char *)before->working.data + (size_t)at * size, (size_t)(end - at) * size),
                  "the working copy changed before run %d", r);
        at = r < NUM_RUNS ? runs[r].first + runs[r].count : FLAT;
    }
}

Test(optimizer, runs_have_their_own_decay_and_gaps_stay) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    for (int adamw = 0; adamw < 2; ++adamw) {
        flat_space before = flat_space_new(FLAT, RPO_BFLOAT16);
        flat_space together = flat_space_new(FLAT, RPO_BFLOAT16);
        flat_space alone = flat_space_new(FLAT, RPO_BFLOAT16);
        update(context, &together, 0, runs, NUM_RUNS, &third, adamw == 1);
        update_one_by_one(context, &alone, adamw == 1);
        cr_assert(same_space(&together, &alone), "adamw %d: runs of one call are not each by itself", adamw);
        cr_assert_not(same_space(&together, &before));
        check_gaps(&together, &before);
        flat_space_free(&alone), flat_space_free(&together), flat_space_free(&before);
    }
    rpo_context_free(context);
}

Test(optimizer, threads_do_not_change_the_bits) {
    static const int64_t counts[] = {0, 1, 15, 17, 1000, 100003};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i)
        for (int adamw = 0; adamw < 2; ++adamw) {
            const rpo_optimizer_run whole = {.count = counts[i], .weight_decay = 0.1f};
            flat_space first = flat_space_new(counts[i], RPO_FLOAT16);
            for (int threads = 1; threads <= 3; ++threads) {
                rpo_context *context = test_context(RPO_DEVICE_CPU, threads);
                flat_space made = flat_space_new(counts[i], RPO_FLOAT16);
                update(context, &made, 0, &whole, 1, &third, adamw == 1);
                if (threads == 1)
                    update(context, &first, 0, &whole, 1, &third, adamw == 1);
                cr_assert(same_space(&first, &made), "%lld elements", (long long)counts[i]);
                flat_space_free(&made);
                rpo_context_free(context);
            }
            flat_space_free(&first);
        }
}

Test(optimizer, a_skipped_step_leaves_everything) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    static const int32_t reasons[] = {RPO_SKIP_LOSS, RPO_SKIP_GRADIENT};
    for (int adamw = 0; adamw < 2; ++adamw)
        for (int i = 0; i < 2; ++i) {
            const rpo_step_control control = {.updates = 0, .clip_scale = NAN, .skip = reasons[i]};
            flat_space before = flat_space_new(FLAT, RPO_BFLOAT16);
            flat_space after = flat_space_new(FLAT, RPO_BFLOAT16);
            ((float *)before.arrays[GRADIENTS].data)[3] = ((float *)after.arrays[GRADIENTS].data)[3] = NAN;
            update(context, &after, 0, runs, NUM_RUNS, &control, adamw == 1);
            cr_assert(same_space(&before, &after), "reason %d", (int)reasons[i]);
            flat_space_free(&after), flat_space_free(&before);
        }
    rpo_context_free(context);
}

/* ---- the working copy ---- */

/* Parameters that a gradient of 0 leaves as they are, so that the copy alone is seen. */
static void copy_unchanged(const float *values, int64_t count, rpo_dtype dtype, void *working) {
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    float *master = calloc((size_t)(3 * count), sizeof *master);
    cr_assert_not_null(master);
    memcpy(master, values, (size_t)count * sizeof *master);
    const rpo_optimizer_run run = {.count = count};
    const rpo_optimizer_arrays arrays = {.master = master,
                                         .gradients = master + count,
                                         .moments = {master + 2 * count},
                                         .working = working,
                                         .working_dtype = dtype,
                                         .runs = &run,
                                         .num_runs = 1,
                                         .count = count};
    cr_assert_eq(context->backend->optimizer.rmsprop(context, &arrays, &third, &rmsprop_options), RPO_OK);
    cr_assert(same_bits(master, values, (size_t)count * sizeof *values));
    free(master);
    rpo_context_free(context);
}

/* Ties go to the even neighbour, up and down; the next number beyond a tie goes to the nearer one. */
Test(optimizer, working_copy_is_rounded_to_nearest_even) {
    static const float to_bfloat16[] = {1.0f,       0x1.01p0f,  0x1.03p0f, 0x1.010002p0f, 0x1.02fffep0f,
                                        -0x1.01p0f, -0x1.03p0f, 0x1.ffp0f, 0x1.fp-130f,   0x1.ffp127f};
    static const uint16_t bfloat16[] = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x3f81,
                                        0xbf80, 0xbf82, 0x4000, 0x0010, 0x7f80};
    static const float to_float16[] = {1.0f,     0x1.002p0f, 0x1.006p0f, 0x1.002002p0f, -0x1.002p0f,
                                       0x1p-25f, 0x1.8p-24f, 0x1.ffep0f, 65519.0f,      65520.0f};
    static const uint16_t float16[] = {0x3c00, 0x3c00, 0x3c02, 0x3c01, 0xbc00,
                                       0x0000, 0x0002, 0x4000, 0x7bff, 0x7c00};
    uint16_t working[10];
    float same[10];
    copy_unchanged(to_bfloat16, 10, RPO_BFLOAT16, working);
    for (int i = 0; i < 10; ++i)
        cr_expect_eq(working[i], bfloat16[i], "%a: bfloat16 is %04x, expected %04x", (double)to_bfloat16[i],
                     working[i], bfloat16[i]);
    copy_unchanged(to_float16, 10, RPO_FLOAT16, working);
    for (int i = 0; i < 10; ++i)
        cr_expect_eq(working[i], float16[i], "%a: float16 is %04x, expected %04x", (double)to_float16[i],
                     working[i], float16[i]);
    copy_unchanged(to_float16, 10, RPO_FLOAT32, same);
    cr_expect(same_bits(same, to_float16, sizeof same));
}

/* Of a real update: the parameters as they are after it, not before. */
Test(optimizer, working_copy_is_of_the_new_parameters) {
    static const rpo_dtype dtypes[] = {RPO_FLOAT32, RPO_BFLOAT16, RPO_FLOAT16};
    static const double half_units[] = {0.0, 0x1p-8, 0x1p-11}; /* relative; subnormals aside */
    rpo_context *context = test_context(RPO_DEVICE_CPU, 2);
    const rpo_optimizer_run whole = {.count = FLAT, .weight_decay = 0.1f};
    for (int d = 0; d < 3; ++d)
        for (int adamw = 0; adamw < 2; ++adamw) {
            flat_space space = flat_space_new(FLAT, dtypes[d]);
            update(context, &space, 0, &whole, 1, &third, adamw == 1);
            for (int i = 0; i < FLAT; ++i) {
                const double value = (double)((float *)space.arrays[MASTER].data)[i];
                const uint16_t half = ((uint16_t *)space.working.data)[i];
                const double copy = d == 0   ? (double)((float *)space.working.data)[i]
                                    : d == 1 ? (double)rpo_float_from_bfloat16(half)
                                             : (double)rpo_float_from_float16(half);
                cr_assert(fabs(copy - value) <= half_units[d] * fabs(value) + (d == 2 ? 0x1p-25 : 0.0),
                          "dtype %d: %a of %a", d, copy, value);
            }
            flat_space_free(&space);
        }
    rpo_context_free(context);
}
