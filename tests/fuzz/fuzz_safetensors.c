/* fuzz_safetensors.c - one safetensors file: its header, finding tensors, reading the small ones. */
#include "fuzz.h"
#include "host/formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rpo_safetensors *file = NULL;
    if (!fuzz_accepted(rpo_safetensors_open(&file, fuzz_file(data, size)))) {
        FUZZ_CHECK(file == NULL);
        return 0;
    }
    for (size_t i = 0; i < rpo_safetensors_count(file); ++i) {
        const rpo_tensor_info *info = rpo_safetensors_at(file, i);
        FUZZ_CHECK(rpo_safetensors_find(file, info->name) == info);
        FUZZ_CHECK(info->begin <= info->end && info->end <= size);
        float *values = rpo_alloc_array((size_t)info->count, sizeof *values);
        FUZZ_CHECK(values != NULL);
        (void)fuzz_accepted(rpo_safetensors_read_float(file, info, values));
        rpo_free(values);
    }
    FUZZ_CHECK(rpo_safetensors_find(file, "no such tensor, by any chance") == NULL);
    rpo_safetensors_close(file);
    return 0;
}
