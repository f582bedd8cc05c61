/* fuzz_trainer_state.c - trainer_state.json. What is accepted, written and read again, is the same state. */
#include "fuzz.h"
#include "host/checkpoint/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rpo_trainer_state state, again;
    if (!fuzz_accepted(rpo_trainer_state_read(&state, fuzz_file(data, size))))
        return 0;
    FUZZ_CHECK(state.step >= 0 && state.position >= 0 && state.metrics_bytes >= 0);
    char *first = NULL, *second = NULL;
    size_t length = 0;
    FUZZ_CHECK(rpo_trainer_state_write(&state, fuzz_path("trainer_state.json")) == RPO_OK);
    FUZZ_CHECK(rpo_read_file(fuzz_path("trainer_state.json"), 1 << 20, &first, &length) == RPO_OK);
    FUZZ_CHECK(rpo_trainer_state_read(&again, fuzz_path("trainer_state.json")) == RPO_OK);
    FUZZ_CHECK(rpo_trainer_state_write(&again, fuzz_path("trainer_state.json")) == RPO_OK);
    FUZZ_CHECK(rpo_read_file(fuzz_path("trainer_state.json"), 1 << 20, &second, &length) == RPO_OK);
    FUZZ_CHECK(strcmp(first, second) == 0);
    rpo_free(second);
    rpo_free(first);
    return 0;
}
