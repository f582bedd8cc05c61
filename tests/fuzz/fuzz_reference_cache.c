/* fuzz_reference_cache.c - the cache of reference log-probs: damage is found, never trusted. */
#include "fuzz.h"
#include "host/train/reference_cache.h"

/* The first byte chooses the number of records that the file must hold. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    float sides[2][16] = {{0}};
    if (size == 0)
        return 0;
    rpo_scores scores = {.chosen = sides[0], .rejected = sides[1], .count = data[0] & 15};
    if (!fuzz_accepted(rpo_reference_cache_read(&scores, fuzz_file(data + 1, size - 1))))
        return 0;
    const size_t side = (size_t)scores.count * sizeof(float);
    FUZZ_CHECK(size - 1 == 16 + 2 * side + 32);
    FUZZ_CHECK(memcmp(data + 1 + 16, sides[0], side) == 0 &&
               memcmp(data + 1 + 16 + side, sides[1], side) == 0);
    return 0;
}
