/* error.c - the thread-local message behind rpo_last_error. */
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/core.h"

enum { MESSAGE_SIZE = 2048 };

static _Thread_local char message[MESSAGE_SIZE];

rpo_status rpo_error_set(rpo_status status, const char *format, ...) {
    char text[MESSAGE_SIZE]; /* arguments may point into `message` itself */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    rpo_show_line(message, sizeof message, text);
    return status;
}

rpo_status rpo_error_prefix(rpo_status status, const char *format, ...) {
    if (status == RPO_OK)
        return status;
    char text[MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length > 0 && (size_t)length < sizeof text)
        snprintf(text + length, sizeof text - (size_t)length, "%s", message);
    rpo_show_line(message, sizeof message, text);
    return status;
}

void rpo_error_clear(void) {
    message[0] = '\0';
}

const char *rpo_last_error(void) {
    return message;
}

const char *rpo_status_name(rpo_status status) {
    switch (status) {
    case RPO_OK:
        return "RPO_OK";
    case RPO_ERROR_INVALID_ARGUMENT:
        return "RPO_ERROR_INVALID_ARGUMENT";
    case RPO_ERROR_INVALID_INPUT:
        return "RPO_ERROR_INVALID_INPUT";
    case RPO_ERROR_OUT_OF_MEMORY:
        return "RPO_ERROR_OUT_OF_MEMORY";
    case RPO_ERROR_IO:
        return "RPO_ERROR_IO";
    case RPO_ERROR_UNSUPPORTED:
        return "RPO_ERROR_UNSUPPORTED";
    case RPO_ERROR_DEVICE:
        return "RPO_ERROR_DEVICE";
    case RPO_ERROR_COMM:
        return "RPO_ERROR_COMM";
    case RPO_ERROR_INTERRUPTED:
        return "RPO_ERROR_INTERRUPTED";
    case RPO_ERROR_NONFINITE:
        return "RPO_ERROR_NONFINITE";
    case RPO_ERROR_WORKSPACE:
        return "RPO_ERROR_WORKSPACE";
    case RPO_ERROR_INTERNAL:
        return "RPO_ERROR_INTERNAL";
    }
    return "RPO_ERROR_UNKNOWN";
}
