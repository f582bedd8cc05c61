/*
 * cpu.h - what the CPU ops share: their declarations, the thread count and the BLAS calls.
 *
 * Threads: an op runs `#pragma omp parallel num_threads(rpo_cpu_threads(context))` and splits its work so that
 * the result does not depend on how many threads there are. CBLAS is called either outside any parallel region
 * (the library then threads by itself) or on small tiles inside one.
 */
#ifndef RPO_KERNELS_CPU_CPU_H
#define RPO_KERNELS_CPU_CPU_H

#include "core/error.h"
#include "kernels/op_table.h"

/* The context's `state`: the CPU's clock, read when asked for. Stamps are 0 until made. */
typedef struct rpo_cpu_state {
    double timer_started;
    double stamps[RPO_STAMP_SLOTS];
} rpo_cpu_state;

static inline int rpo_cpu_threads(const rpo_context *context) {
    return context->num_threads > 0 ? context->num_threads : 1;
}

/* kernels/cpu/device.c */
extern const rpo_device_ops rpo_cpu_device_ops;

#endif
