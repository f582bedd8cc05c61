/* optimizer.h - the CPU's optimizer ops. Contracts: kernels/optimizer_ops.h. */
#ifndef RPO_KERNELS_CPU_OPTIMIZER_H
#define RPO_KERNELS_CPU_OPTIMIZER_H

#include "kernels/cpu/cpu.h"

rpo_grad_norm_workspace_size_op rpo_cpu_grad_norm_workspace_size;
rpo_grad_norm_op rpo_cpu_grad_norm;
rpo_optimizer_op rpo_cpu_adamw;
rpo_optimizer_op rpo_cpu_rmsprop;

#endif
