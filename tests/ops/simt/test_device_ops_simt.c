/* test_device_ops_simt.c - memory, copies and time of the CUDA backend, and what an instrumented context counts of it. */
#include "kernels/instrument.h"
#include "tests/ops/device_ops_cases.h"

Test(device_ops, cuda) {
    check_device_ops(RPO_DEVICE_CUDA);
}

/* Two kernels (inverse norms of both sides, then the products) or more: launches are the op's, copies and fills are not. */
Test(device_ops, launches_are_counted_by_op) {
    setenv("RPO_TRACE_STEP", "1", 1);
    rpo_context *context = device_ops_context(RPO_DEVICE_CUDA);
    const rpo_device_ops *ops = context->backend->device_ops;
    void *memory = NULL;
    size_t size = 0;
    cr_assert_eq(ops->allocate(context, &memory, 1 << 16), RPO_OK);
    cr_assert_eq(ops->fill(context, memory, 0, 1 << 16), RPO_OK);
    rpo_similarity_inputs inputs = RPO_SIMILARITY_INPUTS_INIT;
    inputs.chosen_embeddings = (char *)memory + 1024;
    inputs.rejected_embeddings = (char *)memory + 2048;
    inputs.m = inputs.n = 2;
    inputs.dim = 8;
    cr_assert_eq(rpo_prompt_similarity_workspace_size(context, &size, &inputs), RPO_OK);
    cr_assert_leq(size, (size_t)1 << 15);
    rpo_context_reset_counts(context);
    for (int i = 0; i < 2; ++i)
        cr_assert_eq(rpo_prompt_similarity(context, memory, &inputs, (char *)memory + 4096, size), RPO_OK,
                     "%s", rpo_last_error());
    rpo_counts counts;
    cr_assert(rpo_context_counts(context, &counts));
    const rpo_op_counts similarity = counts.ops[RPO_COUNTED_PROMPT_SIMILARITY],
                        all = rpo_counts_of_ops(&counts);
    cr_assert_eq(similarity.calls, 2);
    cr_assert_geq(similarity.launches, 4);
    cr_assert_eq(similarity.launches % 2, 0, "the same twice");
    cr_assert_eq(all.launches, similarity.launches);
    cr_assert_eq(counts.waits, 0, "an op does not wait");
    cr_assert_eq(counts.allocations, 0, "nor allocate");
    ops->release(context, memory);
    rpo_context_free(context);
}
