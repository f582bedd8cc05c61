/* safetensors_find.c - a tensor by its name, through an index that is sorted once. */
#include <stdlib.h>
#include <string.h>

#include "host/formats/safetensors_internal.h"

static int compare_names(const void *a, const void *b) {
    return strcmp(((const rpo_safetensors_name *)a)->name, ((const rpo_safetensors_name *)b)->name);
}

rpo_status rpo_safetensors_sort_names(rpo_safetensors *file) {
    file->names = rpo_alloc_array(file->count, sizeof *file->names);
    if (file->names == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < file->count; ++i)
        file->names[i] = (rpo_safetensors_name){file->tensors[i].name, i};
    if (file->count > 0)
        qsort(file->names, file->count, sizeof *file->names, compare_names);
    return RPO_OK;
}

const rpo_tensor_info *rpo_safetensors_find(const rpo_safetensors *file, const char *name) {
    if (file->count == 0)
        return NULL;
    const rpo_safetensors_name key = {name, 0};
    const rpo_safetensors_name *found =
        bsearch(&key, file->names, file->count, sizeof *file->names, compare_names);
    return found != NULL ? &file->tensors[found->index] : NULL;
}
