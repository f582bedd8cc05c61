/* optimizer.h - the CPU's optimizer ops, as they stand in the op table. Contracts: kernels/optimizer_ops.h.
 */
#ifndef RPO_KERNELS_CPU_OPTIMIZER_H
#define RPO_KERNELS_CPU_OPTIMIZER_H

#include "kernels/cpu/cpu.h"

rpo_status rpo_cpu_adamw(rpo_context *context, float *parameter, float *first_moment, float *second_moment,
                         const float *gradient, int64_t count, const rpo_optimizer_options *options);
rpo_status rpo_cpu_rmsprop(rpo_context *context, float *parameter, float *square_average,
                           const float *gradient, int64_t count, const rpo_optimizer_options *options);
rpo_status rpo_cpu_sum_of_squares(rpo_context *context, double *sum, const float *values, int64_t count);

#endif
