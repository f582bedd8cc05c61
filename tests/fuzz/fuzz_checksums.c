/* fuzz_checksums.c - a checkpoint's list of checksums, over a folder of sound files: whatever the list holds, it can be
 * told whether it vouches for them. */
#include "fuzz.h"
#include "host/checkpoint/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char *sound; /* the list as it is written */
    static size_t sound_size;
    if (sound == NULL) {
        fuzz_write("config.json", "", 0);
        fuzz_write(RPO_CHECKPOINT_OPTIMIZER, "", 0);
        fuzz_write(RPO_CHECKPOINT_STATE, "", 0);
        fuzz_write("model.safetensors", "abc", 3);
        FUZZ_CHECK(rpo_checksums_write(fuzz_path("")) == RPO_OK);
        FUZZ_CHECK(rpo_read_file(fuzz_path(RPO_CHECKPOINT_CHECKSUMS), 1 << 20, &sound, &sound_size) ==
                   RPO_OK);
    }
    fuzz_write(RPO_CHECKPOINT_CHECKSUMS, data, size);
    rpo_text damage = {0}, extra = {0};
    FUZZ_CHECK(rpo_checksums_verify(fuzz_path(""), &damage, &extra) == RPO_OK);
    if (size == sound_size && memcmp(data, sound, size) == 0)
        FUZZ_CHECK(damage.length == 0 && extra.length == 0);
    if (damage.length == 0) /* four files at least are listed */
        FUZZ_CHECK(size > 4 * 34);
    rpo_text_free(&extra);
    rpo_text_free(&damage);
    return 0;
}
