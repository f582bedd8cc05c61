/*
 * logprob.h - the CPU's log-prob ops, as they stand in the op table (op_table.h). Contracts: rpo/logprob.h
 * and rpo/linear_logprob.h; arguments arrive checked but for labels and cu_seqlens, which these functions
 * check.
 */
#ifndef RPO_KERNELS_CPU_LOGPROB_H
#define RPO_KERNELS_CPU_LOGPROB_H

#include "kernels/cpu/cpu.h"

__typeof__(rpo_logprob_gather_workspace_size) rpo_cpu_logprob_gather_workspace_size;
__typeof__(rpo_logprob_gather) rpo_cpu_logprob_gather;
__typeof__(rpo_logprob_gather_backward) rpo_cpu_logprob_gather_backward;

__typeof__(rpo_linear_logprob_workspace_size) rpo_cpu_linear_logprob_workspace_size;
__typeof__(rpo_linear_logprob_cache_size) rpo_cpu_linear_logprob_cache_size;
__typeof__(rpo_linear_logprob) rpo_cpu_linear_logprob;
__typeof__(rpo_linear_logprob_backward) rpo_cpu_linear_logprob_backward;

#endif
