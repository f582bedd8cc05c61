/* single.c - collectives of one rank: a gather is a copy, a reduction is the value itself. */
#include "host/comm/single.h"

#include <string.h>

static rpo_status gather(rpo_comm *comm, void *out, const void *in, const int64_t *counts,
                         size_t element_size) {
    (void)comm;
    if (counts[0] > 0 && out != in)
        memmove(out, in, (size_t)counts[0] * element_size);
    return RPO_OK;
}

static rpo_status sum_float(rpo_comm *comm, float *values, int64_t count) {
    (void)comm, (void)values, (void)count;
    return RPO_OK;
}

static rpo_status sum_double(rpo_comm *comm, double *values, int64_t count) {
    (void)comm, (void)values, (void)count;
    return RPO_OK;
}

static rpo_status max_int(rpo_comm *comm, int64_t *values, int64_t count) {
    (void)comm, (void)values, (void)count;
    return RPO_OK;
}

static rpo_status broadcast(rpo_comm *comm, void *data, size_t size, int root) {
    (void)comm, (void)data, (void)size;
    if (root != 0)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "root: is %d; a single rank has only rank 0", root);
    return RPO_OK;
}

static rpo_status barrier(rpo_comm *comm) {
    (void)comm;
    return RPO_OK;
}

static void close_single(rpo_comm *comm) {
    rpo_free(comm);
}

static const rpo_comm_ops single_ops = {
    .name = "single",
    .all_gather_v = gather,
    .all_reduce_sum_float = sum_float,
    .all_reduce_sum_double = sum_double,
    .all_reduce_max_int = max_int,
    .broadcast = broadcast,
    .barrier = barrier,
    .close = close_single,
};

rpo_status rpo_comm_open_single(rpo_comm **comm) {
    *comm = rpo_calloc_array(1, sizeof **comm);
    if (*comm == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    (*comm)->ops = &single_ops;
    (*comm)->rank = 0;
    (*comm)->size = 1;
    return RPO_OK;
}
