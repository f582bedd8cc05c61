/* take.c - one figure per sequence from one order to another. */
#include "kernels/cpu/model.h"

/* A few numbers: not worth a second thread. */
rpo_status rpo_cpu_take(rpo_context *context, float *out, const float *in, const int32_t *index,
                        int64_t count) {
    (void)context;
    for (int64_t i = 0; i < count; ++i)
        out[i] = index[i] >= 0 ? in[index[i]] : 0.0f;
    return RPO_OK;
}
