/*
 * comm.c - which communicator this process belongs to. This build has the single rank; a launcher that
 * started several processes is noticed and refused, because they would train the same run twice over each
 * other's files.
 */
#include <errno.h>
#include <stdlib.h>

#include "host/comm/comm.h"
#include "host/comm/single.h"

/* How torchrun, Open MPI and MPICH tell a process how many there are. */
static const char *const size_variables[] = {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};

static rpo_status refuse_launchers(void) {
    for (size_t i = 0; i < sizeof size_variables / sizeof size_variables[0]; ++i) {
        const char *text = getenv(size_variables[i]);
        if (text == NULL || *text == '\0')
            continue;
        char *end = NULL;
        errno = 0;
        const long size = strtol(text, &end, 10);
        if (errno != 0 || *end != '\0' || size < 1)
            return rpo_error_set(RPO_ERROR_INVALID_INPUT,
                                 "environment: %s is \"%s\"; must be a number of ranks", size_variables[i],
                                 text);
        if (size > 1)
            return rpo_error_set(RPO_ERROR_UNSUPPORTED,
                                 "environment: %s asks for %ld ranks; this build runs a single one",
                                 size_variables[i], size);
    }
    return RPO_OK;
}

rpo_status rpo_comm_open(rpo_comm **comm) {
    *comm = NULL;
    RPO_TRY(refuse_launchers());
    return rpo_comm_open_single(comm);
}

void rpo_comm_close(rpo_comm *comm) {
    if (comm != NULL)
        comm->ops->close(comm);
}

rpo_status rpo_comm_agree(rpo_comm *comm, rpo_status status) {
    if (comm->size == 1)
        return status;
    int64_t worst = (int64_t)status;
    const rpo_status reduced = comm->ops->all_reduce_max_int(comm, &worst, 1);
    if (status != RPO_OK)
        return status; /* this rank's own fault is the better message */
    RPO_TRY(reduced);
    if (worst == RPO_OK)
        return RPO_OK;
    if (worst == RPO_ERROR_INTERRUPTED)
        return rpo_error_set(RPO_ERROR_INTERRUPTED, "another rank was asked to stop");
    return rpo_error_set(RPO_ERROR_COMM, "another rank failed: %s", rpo_status_name((rpo_status)worst));
}
