/* fuzz_embed_cache.c - the cache of embeddings: damage is found and warned about, never trusted. */
#include "fuzz.h"
#include "host/embed/embed_internal.h"

/* The first byte chooses the numbers of rows and columns that the file must hold. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    const int64_t count = data[0] & 15, dim = data[0] >> 4;
    rpo_embeddings embeddings = {0};
    bool found = false;
    FUZZ_CHECK(rpo_embed_cache_read(&embeddings, fuzz_file(data + 1, size - 1), count, dim, &found) ==
               RPO_OK);
    FUZZ_CHECK(found == (embeddings.rows != NULL));
    FUZZ_CHECK(found != (embeddings.warning[0] != '\0'));
    if (found) {
        FUZZ_CHECK(embeddings.count == count && embeddings.dim == dim && embeddings.from_cache);
        FUZZ_CHECK(rpo_embed_cache_write(&embeddings, fuzz_path("cache")) == RPO_OK);
        char *again = NULL;
        size_t length = 0;
        FUZZ_CHECK(rpo_read_file(fuzz_path("cache"), 1 << 20, &again, &length) == RPO_OK);
        FUZZ_CHECK(length == size - 1 && memcmp(again, data + 1, length) == 0);
        rpo_free(again);
    }
    rpo_free(embeddings.rows);
    return 0;
}
