/* librpo.c - the shared library's own translation unit; its contents are the archive of ops. */
#include "rpo/rpo.h"

typedef int rpo_translation_unit_is_not_empty;
