/* safetensors_find.c - a tensor by its name. */
#include <string.h>

#include "host/formats/safetensors_internal.h"

const rpo_tensor_info *rpo_safetensors_find(const rpo_safetensors *file, const char *name) {
    for (size_t i = 0; i < file->count; ++i)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}
