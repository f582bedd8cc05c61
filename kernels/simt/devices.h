/*
 * devices.h - the devices that simt shows: two, which differ, so that a figure, a limit or an address of one that is used
 * on the other is noticed.
 */
#ifndef RPO_SIMT_DEVICES_H
#define RPO_SIMT_DEVICES_H

#include "kernels/simt/include/cuda_runtime.h"

namespace simt {

struct Device {
    int major, minor;
    int multiprocessors;
    int l2_bytes;
    int shared_bytes; /* the most that a block can ask for */
};

constexpr int kDevices = 2;
constexpr size_t kMemoryBytes = size_t{4} << 30; /* of each */

/* nullptr where there is none. */
const Device *device_at(int index);

/* Device of the calling thread's topmost context; 0 where it has none. */
int current_device();

/* The same for a call that needs a context: where the thread has none, device 0 is opened. */
int use_current_device();

/* Remembers a failed call's error as the thread's last one, and gives it back. */
cudaError_t failed(cudaError_t error);

/* What a launch on `stream` is refused for before it is enqueued: a stream of another device, more shared memory than
 * was allowed for the kernel there. */
cudaError_t refused_launch(const void *kernel, size_t shared_bytes, cudaStream_t stream);

} // namespace simt

#endif
