/* export.h - symbol visibility of the public C ABI. */
#ifndef RPO_EXPORT_H
#define RPO_EXPORT_H

#if defined(__GNUC__) || defined(__clang__)
#    define RPO_API __attribute__((visibility("default")))
#else
#    define RPO_API
#endif

#endif
