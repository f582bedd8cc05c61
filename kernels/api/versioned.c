/* versioned.c - structs that cross the ABI, taken from a caller of any version. */
#include "kernels/api/versioned.h"

#include <string.h>

#include "core/error.h"

/* The first byte from `begin` on that is not zero; `end` when all are. */
static size_t first_set(const unsigned char *bytes, size_t begin, size_t end) {
    while (begin < end && bytes[begin] == 0)
        ++begin;
    return begin;
}

rpo_status rpo_versioned_take(void *ours, size_t size, size_t first, const void *theirs, const char *name) {
    if (theirs == NULL)
        return rpo_error_set(RPO_ERROR_INVALID_ARGUMENT, "%s: is NULL; is needed", name);
    size_t given = 0;
    memcpy(&given, theirs, sizeof given);
    if (given < first)
        return rpo_error_set(
            RPO_ERROR_INVALID_ARGUMENT,
            "%s.struct_size: is %zu; must be at least %zu (its sizeof, as its initializer sets it)", name,
            given, first);
    if (given > size && first_set(theirs, size, given) < given)
        return rpo_error_set(
            RPO_ERROR_INVALID_ARGUMENT,
            "%s: byte %zu of %zu is set; librpo %s knows %zu and takes more only where it is zero", name,
            first_set(theirs, size, given), given, rpo_version(), size);
    memcpy(ours, theirs, given < size ? given : size);
    memcpy(ours, &size, sizeof size);
    return RPO_OK;
}
