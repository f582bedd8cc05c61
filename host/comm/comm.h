/*
 * comm.h - the ranks of a run. One process is a run of one rank; other implementations (MPI, NCCL) fill the
 * same struct. Every collective is called by all ranks in the same order; buffers are host memory.
 */
#ifndef RPO_HOST_COMM_COMM_H
#define RPO_HOST_COMM_COMM_H

#include "core/core.h"

typedef struct rpo_comm rpo_comm;

typedef struct rpo_comm_ops {
    const char *name;
    /* out: every rank's `in` one after another; counts[size] elements each. */
    rpo_status (*all_gather_v)(rpo_comm *comm, void *out, const void *in, const int64_t *counts,
                               size_t element_size);
    rpo_status (*all_reduce_sum_float)(rpo_comm *comm, float *values, int64_t count);
    rpo_status (*all_reduce_sum_double)(rpo_comm *comm, double *values, int64_t count);
    rpo_status (*all_reduce_max_int)(rpo_comm *comm, int64_t *values, int64_t count);
    rpo_status (*broadcast)(rpo_comm *comm, void *data, size_t size, int root);
    rpo_status (*barrier)(rpo_comm *comm);
    void (*close)(rpo_comm *comm);
} rpo_comm_ops;

struct rpo_comm {
    const rpo_comm_ops *ops;
    int rank, size;
    void *state;
};

/* Opens the communicator this process was started for; without a launcher a single rank. */
rpo_status rpo_comm_open(rpo_comm **comm);
void rpo_comm_close(rpo_comm *comm);

/*
 * Called by every rank before a collective that a failed rank would never reach: returns `status` where it is
 * a failure, INTERRUPTED or COMM where another rank brought one, RPO_OK when all are well.
 */
rpo_status rpo_comm_agree(rpo_comm *comm, rpo_status status);

#endif
