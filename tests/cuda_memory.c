/*
 * cuda_memory.c - the test table of device memory for a GPU, and simt's schedules as a GPU has them (one, its own), so
 * that the cases of tests/ops/simt run on the device as they are.
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/op_table.h"
#include "kernels/simt/schedule.h"
#include "tests/device_memory.h"

/* One context a process, opened by the first use; the default stream orders it with the context of the test. */
static rpo_context *memory_context(void) {
    static rpo_context *context = NULL;
    rpo_context_options options = RPO_CONTEXT_OPTIONS_INIT;
    options.device = RPO_DEVICE_CUDA;
    if (context == NULL && rpo_context_create(&context, &options) != RPO_OK) {
        fprintf(stderr, "%s\n", rpo_last_error());
        exit(1);
    }
    return context;
}

static void insist(rpo_status status) {
    if (status != RPO_OK) {
        fprintf(stderr, "%s\n", rpo_last_error());
        exit(1);
    }
}

static void *allocate(size_t bytes) {
    void *memory = NULL;
    rpo_context *context = memory_context();
    return context->backend->device_ops->allocate(context, &memory, bytes > 0 ? bytes : 1) == RPO_OK ? memory
                                                                                                     : NULL;
}

static void release(void *memory) {
    if (memory != NULL)
        memory_context()->backend->device_ops->release(memory_context(), memory);
}

static void fill(void *device, int byte, size_t bytes) {
    insist(memory_context()->backend->device_ops->fill(memory_context(), device, byte, bytes));
}

static void upload(void *device, const void *host, size_t bytes) {
    insist(memory_context()->backend->device_ops->copy_in(memory_context(), device, host, bytes));
}

static void download(void *host, const void *device, size_t bytes) {
    insist(memory_context()->backend->device_ops->copy_out(memory_context(), host, device, bytes));
}

const device_memory rpo_test_device_memory = {allocate, release, fill, upload, download};

int rpo_simt_schedules(void) {
    return 1;
}

void rpo_simt_set_schedule(int schedule) {
    (void)schedule;
}

const char *rpo_simt_schedule_name(int schedule) {
    (void)schedule;
    return "device";
}
