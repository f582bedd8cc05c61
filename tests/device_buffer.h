/*
 * device_buffer.h - an op's argument on a device: elements of any dtype between red zones, with a copy on the
 * host that the test fills and reads as floats. For an op of the CPU the two are one, so both may run in one
 * process even where device memory is a GPU's.
 */
#ifndef RPO_TESTS_DEVICE_BUFFER_H
#define RPO_TESTS_DEVICE_BUFFER_H

#include "tests/device_memory.h"
#include "tests/logprob_testing.h"

enum { RED_ZONE = 256 };

typedef struct device_buffer {
    unsigned char *host, *device; /* red zone, `bytes`, red zone; the same for the CPU's ops */
    size_t bytes, offset;         /* of the data, from the start of either copy */
    rpo_dtype dtype;
} device_buffer;

static inline uint16_t bfloat16_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value))
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t float16_bits(float value) {
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    if (isnan(value))
        return 0x7fff;
    int exponent = 0;
    (void)frexpf(value, &exponent);
    if (isinf(value) || exponent > 16)
        return sign | 0x7c00;
    if (value == 0.0f || exponent < -13) /* steps of 2^-24 */
        return sign | (uint16_t)nearbyintf(fabsf(value) * 16777216.0f);
    const int steps = (int)nearbyintf(ldexpf(fabsf(value), 11 - exponent)); /* 1024 to 2048 */
    return (uint16_t)(sign |
                      ((exponent + 13) * 1024 + steps)); /* a carry runs into the exponent, as it should */
}

static inline float float16_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float value =
        exponent == 0 ? ldexpf((float)fraction, -24) : ldexpf((float)(fraction + 1024), exponent - 25);
    if (exponent == 31)
        value = fraction == 0 ? INFINITY : NAN;
    return bits & 0x8000 ? -value : value;
}

static inline float bfloat16_value(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* The nearest value a dtype has. */
static inline float round_to(rpo_dtype dtype, float value) {
    return dtype == RPO_FLOAT32    ? value
           : dtype == RPO_BFLOAT16 ? bfloat16_value(bfloat16_bits(value))
                                   : float16_value(float16_bits(value));
}

/* Half of a dtype's last bit, relative; and absolute near zero. */
static inline double rounding_of(rpo_dtype dtype) {
    return dtype == RPO_FLOAT32 ? 0x1p-24 : dtype == RPO_BFLOAT16 ? 0x1p-9 : 0x1p-11;
}
static inline double underflow_of(rpo_dtype dtype) {
    return dtype == RPO_FLOAT16 ? 0x1p-25 : 0.0;
}

static inline void *buffer_device(const device_buffer *buffer) {
    return buffer->device + buffer->offset;
}

static inline float buffer_get(const device_buffer *buffer, int64_t index) {
    const unsigned char *at = buffer->host + buffer->offset + (size_t)index * rpo_dtype_size(buffer->dtype);
    float value;
    uint16_t bits;
    if (buffer->dtype == RPO_FLOAT32) {
        memcpy(&value, at, sizeof value);
        return value;
    }
    memcpy(&bits, at, sizeof bits);
    return buffer->dtype == RPO_BFLOAT16 ? bfloat16_value(bits) : float16_value(bits);
}

static inline void buffer_set(device_buffer *buffer, int64_t index, float value) {
    unsigned char *at = buffer->host + buffer->offset + (size_t)index * rpo_dtype_size(buffer->dtype);
    const uint16_t bits = buffer->dtype == RPO_BFLOAT16 ? bfloat16_bits(value) : float16_bits(value);
    if (buffer->dtype == RPO_FLOAT32)
        memcpy(at, &value, sizeof value);
    else
        memcpy(at, &bits, sizeof bits);
}

/* To the device, red zones and all. */
static inline void buffer_push(const device_buffer *buffer) {
    if (buffer->device != buffer->host)
        device_memory_table()->upload(buffer->device, buffer->host,
                                      buffer->offset + buffer->bytes + RED_ZONE);
}

static inline bool is_cpu(const rpo_context *context) {
    return rpo_context_device(context) == RPO_DEVICE_CPU;
}

/* For an op of `context`, `misalignment` bytes past a 256-byte boundary; the data are NaN until set, also on
 * the device. */
static inline device_buffer buffer_new(const rpo_context *context, int64_t count, rpo_dtype dtype,
                                       size_t misalignment) {
    if (count < 0 || count > INT64_C(1) << 40) /* tells the compiler, too, that the sizes below do not wrap */
        abort();
    device_buffer buffer = {
        .bytes = (size_t)count * rpo_dtype_size(dtype), .offset = RED_ZONE + misalignment, .dtype = dtype};
    const size_t room = buffer.offset + buffer.bytes + RED_ZONE;
    void *host = NULL;
    cr_assert(posix_memalign(&host, 256, room) == 0, "no memory");
    buffer.host = host;
    buffer.device = is_cpu(context) ? host : device_memory_table()->allocate(room);
    cr_assert_not_null(buffer.device, "no memory");
    memset(buffer.host, GUARD_VALUE, room);
    memset(buffer.host + buffer.offset, 0xff, buffer.bytes);
    buffer_push(&buffer);
    return buffer;
}

static inline device_buffer buffer_of_ints(const rpo_context *context, const int32_t *values, int64_t count) {
    device_buffer buffer = buffer_new(context, count, RPO_FLOAT32, 4);
    if (count > 0)
        memcpy(buffer.host + buffer.offset, values, (size_t)count * sizeof *values);
    buffer_push(&buffer);
    return buffer;
}

static inline device_buffer buffer_of_floats(const rpo_context *context, const float *values, int64_t count) {
    return buffer_of_ints(context, (const int32_t *)(const void *)values, count);
}

static inline void buffer_check_zones(const device_buffer *buffer, const char *what) {
    for (size_t i = 0; i < buffer->offset; ++i)
        cr_assert_eq(buffer->host[i], GUARD_VALUE, "%s: written %zu bytes before its start", what,
                     buffer->offset - i);
    for (size_t i = 0; i < RED_ZONE; ++i)
        cr_assert_eq(buffer->host[buffer->offset + buffer->bytes + i], GUARD_VALUE,
                     "%s: written %zu bytes past its end", what, i);
}

/* From the device; the red zones must be whole. */
static inline void buffer_pull(device_buffer *buffer, const char *what) {
    if (buffer->device != buffer->host)
        device_memory_table()->download(buffer->host, buffer->device,
                                        buffer->offset + buffer->bytes + RED_ZONE);
    buffer_check_zones(buffer, what);
}

/* The red zones alone, of what an op only reads. */
static inline void buffer_check(device_buffer *buffer, const char *what) {
    const size_t end = buffer->offset + buffer->bytes;
    if (buffer->device != buffer->host) {
        device_memory_table()->download(buffer->host, buffer->device, buffer->offset);
        device_memory_table()->download(buffer->host + end, buffer->device + end, RED_ZONE);
    }
    buffer_check_zones(buffer, what);
}

static inline bool buffer_same(const device_buffer *a, const device_buffer *b) {
    return a->bytes == b->bytes && same_bits(a->host + a->offset, b->host + b->offset, a->bytes);
}

static inline void buffer_free(device_buffer *buffer) {
    if (buffer->device != buffer->host)
        device_memory_table()->release(buffer->device);
    free(buffer->host);
    *buffer = (device_buffer){0};
}

/* A workspace or cache: aligned to 64 bytes and no better, NaN inside, red zones around, never read by the
 * test. */
typedef struct device_scratch {
    unsigned char *device;
    size_t bytes;
    bool on_host;
} device_scratch;

enum { SCRATCH_OFFSET = RED_ZONE + 64 };

static inline void scratch_fill(const device_scratch *scratch, size_t at, int byte, size_t bytes) {
    if (scratch->on_host)
        memset(scratch->device + at, byte, bytes);
    else
        device_memory_table()->fill(scratch->device + at, byte, bytes);
}

static inline void scratch_read(const device_scratch *scratch, size_t at, void *host, size_t bytes) {
    if (scratch->on_host)
        memcpy(host, scratch->device + at, bytes);
    else
        device_memory_table()->download(host, scratch->device + at, bytes);
}

static inline device_scratch scratch_new(const rpo_context *context, size_t bytes) {
    const size_t room = SCRATCH_OFFSET + bytes + RED_ZONE;
    device_scratch scratch = {NULL, bytes, is_cpu(context)};
    void *memory = NULL;
    if (!scratch.on_host)
        memory = device_memory_table()->allocate(room);
    else if (posix_memalign(&memory, 256, room) != 0)
        memory = NULL;
    cr_assert_not_null(memory, "no memory");
    scratch.device = memory;
    scratch_fill(&scratch, 0, GUARD_VALUE, SCRATCH_OFFSET);
    scratch_fill(&scratch, SCRATCH_OFFSET, 0xff, bytes);
    scratch_fill(&scratch, SCRATCH_OFFSET + bytes, GUARD_VALUE, RED_ZONE);
    return scratch;
}

static inline void *scratch_device(const device_scratch *scratch) {
    return scratch->device + SCRATCH_OFFSET;
}

static inline void scratch_check(const device_scratch *scratch, const char *what) {
    unsigned char zones[SCRATCH_OFFSET + RED_ZONE];
    scratch_read(scratch, 0, zones, SCRATCH_OFFSET);
    scratch_read(scratch, SCRATCH_OFFSET + scratch->bytes, zones + SCRATCH_OFFSET, RED_ZONE);
    for (size_t i = 0; i < sizeof zones; ++i)
        cr_assert_eq(zones[i], GUARD_VALUE, "%s: byte %zu of the red zones around it is written", what, i);
}

static inline void scratch_free(device_scratch *scratch) {
    if (scratch->on_host)
        free(scratch->device);
    else
        device_memory_table()->release(scratch->device);
    *scratch = (device_scratch){0};
}

#endif
