/* single.h - the communicator of one process. */
#ifndef RPO_HOST_COMM_SINGLE_H
#define RPO_HOST_COMM_SINGLE_H

#include "host/comm/comm.h"

rpo_status rpo_comm_open_single(rpo_comm **comm);

#endif
