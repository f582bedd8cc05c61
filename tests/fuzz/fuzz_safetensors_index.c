/* fuzz_safetensors_index.c - model.safetensors.index.json over two sound shards. */
#include "fuzz.h"
#include "host/formats/safetensors.h"

static void write_shards(void) {
    static const float values[4] = {1, 2, 3, 4};
    static const rpo_tensor_write one[] = {{"a", 1, {2}, values}},
                                  two[] = {{"b", 1, {1}, values}, {"c", 0, {0}, values}};
    FUZZ_CHECK(rpo_safetensors_write(fuzz_path("1"), one, 1) == RPO_OK);
    FUZZ_CHECK(rpo_safetensors_write(fuzz_path("2"), two, 2) == RPO_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool written;
    if (!written)
        write_shards();
    written = true;
    fuzz_write("model.safetensors.index.json", data, size);
    rpo_safetensors *file = NULL;
    if (fuzz_accepted(rpo_safetensors_open(&file, fuzz_path("")))) {
        const size_t count = rpo_safetensors_count(file);
        FUZZ_CHECK(count >= 1 && count <= 3);
        FUZZ_CHECK((rpo_safetensors_find(file, "b") == NULL) == (rpo_safetensors_find(file, "c") == NULL));
    }
    rpo_safetensors_close(file);
    return 0;
}
