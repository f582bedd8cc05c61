/* test_device_ops.c - memory, copies and time of the CPU as a device. */
#include "tests/ops/device_ops_cases.h"

Test(device_ops, cpu) {
    check_device_ops(RPO_DEVICE_CPU);
}
