/*
 * shared.cuh - shared memory, declared so that simt/ can hand it out poisoned and guarded.
 *
 *     RPO_SHARED(float, partial, 32);          a static array of the block
 *     RPO_SHARED_DYNAMIC(float, tile);         the launch's shared_bytes
 */
#ifndef RPO_CUDA_DEVICE_SHARED_CUH
#define RPO_CUDA_DEVICE_SHARED_CUH

#include <cuda_runtime.h>

#if defined(RPO_SIMT)
#    define RPO_SHARED(type, name, count)                                                                    \
        static const char name##_site = 0;                                                                   \
        type *name = static_cast<type *>(                                                                    \
            simt::static_shared(&name##_site, sizeof(type) * (count), __FILE__, __LINE__))
#    define RPO_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(simt::dynamic_shared())
#else
#    define RPO_SHARED(type, name, count) __shared__ type name[count]
#    define RPO_SHARED_DYNAMIC(type, name)                                                                   \
        extern __shared__ __align__(128) unsigned char rpo_dynamic_shared[];                                 \
        type *name = reinterpret_cast<type *>(rpo_dynamic_shared)
#endif

#endif
