/* fuzz_npy.c - NumPy's .npy matrices. */
#include "fuzz.h"
#include "host/formats/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rpo_matrix matrix = {0};
    if (fuzz_accepted(rpo_npy_read(&matrix, fuzz_file(data, size), -1))) {
        FUZZ_CHECK(matrix.columns >= 1 && matrix.rows >= 0);
        FUZZ_CHECK((uint64_t)matrix.rows * (uint64_t)matrix.columns * 2 <= size);
    } else {
        FUZZ_CHECK(matrix.values == NULL);
    }
    rpo_free(matrix.values);
    return 0;
}
