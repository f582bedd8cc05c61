/* test_device_ops_simt.c - memory, copies and time of the CUDA backend. */
#include "tests/ops/device_ops_cases.h"

Test(device_ops, cuda) {
    check_device_ops(RPO_DEVICE_CUDA);
}
