/* dispatch.cuh - from an rpo_dtype to the element type that a kernel is compiled for. */
#ifndef RPO_CUDA_DISPATCH_CUH
#define RPO_CUDA_DISPATCH_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/cuda.h"

/* Names a type as a value: rpo_with_dtype(dtype, [&](auto tag) { using T = typename decltype(tag)::type; ...
 * }). */
template <typename T> struct rpo_type_tag { using type = T; };

template <typename Body> rpo_status rpo_with_dtype(rpo_dtype dtype, Body body) {
    switch (dtype) {
    case RPO_BFLOAT16:
        return body(rpo_type_tag<__nv_bfloat16>{});
    case RPO_FLOAT16:
        return body(rpo_type_tag<__half>{});
    case RPO_FLOAT32:
        break;
    }
    return body(rpo_type_tag<float>{});
}

#endif
