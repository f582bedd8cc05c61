/* test_safetensors.c - every way a file can lie about itself, the accepted dtypes, shards, the writer. */
#include "tests/model_testing.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/formats/safetensors.h"

static char folder[64];

static void make_folder(void) {
    make_test_folder(folder);
}

static void remove_folder(void) {
    cr_expect_eq(rpo_remove_tree(folder), RPO_OK);
}

TestSuite(safetensors, .init = make_folder, .fini = remove_folder);

static const char *path_of(const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(data, 1, size, file), size);
    fclose(file);
}

/* A file of this header and `data_size` bytes of data. */
static void write_case(const char *path, const char *header, size_t data_size) {
    char bytes[8192] = {0};
    const uint64_t length = strlen(header);
    cr_assert(8 + length + data_size <= sizeof bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    write_bytes(path, bytes, 8 + length + data_size);
}

static void expect_refused(const char *path, const char *part) {
    rpo_safetensors *file = (rpo_safetensors *)folder;
    rpo_error_clear();
    expect_error(rpo_safetensors_open(&file, path), RPO_ERROR_INVALID_INPUT, part);
    cr_expect_null(file, "a refused file left a handle");
    cr_expect_not_null(strstr(rpo_last_error(), folder), "the message names no file: %s", rpo_last_error());
}

#define F32(shape, range) "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" range "}"

static const struct {
    const char *header;
    size_t data_size;
    const char *part; /* of the message */
} lies[] = {
    {"", 0, ""},
    {"{", 0, ""},
    {"[]", 0, "no JSON object"},
    {"\"text\"", 0, "no JSON object"},
    {"{} {}", 0, ""},
    {"{\"a\":" F32("[1]", "[0,4]") "}", 3, "tensor a: ends at byte 4 of a data section of 3"},
    {"{\"a\":" F32("[1]", "[0,4]") "}", 5, "data section has 5"},
    {"{\"a\":" F32("[2]", "[0,4]") "}", 4, "tensor a: dtype and shape take 8 bytes"},
    {"{\"a\":" F32("[]", "[0,8]") "}", 8, "tensor a: dtype and shape take 4 bytes"},
    {"{\"a\":" F32("[1]", "[4,0]") "}", 4, "tensor a: begins at byte 4 after its end"},
    {"{\"a\":" F32("[1]", "[4,8]") "}", 8, "gaps"},
    {"{\"a\":" F32("[1]", "[0,4]") ",\"b\":" F32("[1]", "[8,12]") "}", 12, "tensor b"},
    {"{\"a\":" F32("[2]", "[0,8]") ",\"b\":" F32("[2]", "[4,12]") "}", 12, "overlap"},
    {"{\"a\":" F32("[1]", "[0,4]") ",\"b\":" F32("[1]", "[0,4]") "}", 4, "overlap"},
    {"{\"a\":" F32("[1]", "[0,4]") ",\"a\":" F32("[1]", "[4,8]") "}", 8, "a"},
    {"{\"a\":" F32("[1]", "[0,4]") ",\"\\u0061\":" F32("[1]", "[4,8]") "}", 8, "duplicate"},
    {"{\"a\":" F32("[-1]", "[0,4]") "}", 4, "tensor a: shape"},
    {"{\"a\":" F32("[1.5]", "[0,6]") "}", 6, "tensor a: shape"},
    {"{\"a\":" F32("[\"1\"]", "[0,4]") "}", 4, "tensor a: shape"},
    {"{\"a\":" F32("1", "[0,4]") "}", 4, "tensor a: shape"},
    {"{\"a\":" F32("[1e30]", "[0,4]") "}", 4, "tensor a: shape"},
    {"{\"a\":" F32("[4294967296,4294967296]", "[0,0]") "}", 0, "tensor a: shape's product overflows"},
    {"{\"a\":" F32("[2147483648,2147483648]", "[0,0]") "}", 0, "tensor a: "},
    {"{\"a\":" F32("[4503599627370496,1024]", "[0,0]") "}", 0, "tensor a: "},
    {"{\"a\":" F32("[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "more than 8 dimensions"},
    {"{\"a\":" F32("[1]", "[0]") "}", 4, "tensor a: data_offsets"},
    {"{\"a\":" F32("[1]", "[0,4,8]") "}", 4, "tensor a: data_offsets"},
    {"{\"a\":" F32("[1]", "[-4,0]") "}", 4, "tensor a: data_offsets"},
    {"{\"a\":" F32("[1]", "[0,4.5]") "}", 4, "tensor a: data_offsets"},
    {"{\"a\":" F32("[1]", "[0,18446744073709551620]") "}", 4, "tensor a: data_offsets"},
    {"{\"a\":" F32("[1]", "null") "}", 4, "tensor a: data_offsets"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor a: dtype"},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor a: dtype"},
    {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype F31"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor a: shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "unknown key x"},
    {"{\"a\":7}", 0, "tensor a"},
    {"{\"__metadata__\":{\"format\":1}}", 0, "__metadata__"},
    {"{\"__metadata__\":[]}", 0, "__metadata__"},
};

Test(safetensors, lies_are_refused) {
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; ++i) {
        write_case(path_of("lie.safetensors"), lies[i].header, lies[i].data_size);
        expect_refused(path_of("lie.safetensors"), lies[i].part);
    }
}

Test(safetensors, header_length_is_checked_first) {
    static const uint64_t lengths[] = {3, 100, 100000001, UINT64_C(1) << 40, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; ++i) {
        char bytes[10] = {0};
        memcpy(bytes, &lengths[i], 8);
        memcpy(bytes + 8, "{}", 2);
        write_bytes(path_of("long.safetensors"), bytes, sizeof bytes);
        expect_refused(path_of("long.safetensors"), "header length is");
    }
    for (size_t size = 0; size < 8; ++size) {
        write_bytes(path_of("short.safetensors"), "\2\0\0\0\0\0\0\0", size);
        expect_refused(path_of("short.safetensors"), "8 bytes");
    }
    /* Beyond the limit, though the (sparse) file is as long. */
    const uint64_t length = 100000001;
    write_bytes(path_of("sparse.safetensors"), &length, 8);
    cr_assert_eq(truncate(path_of("sparse.safetensors"), 8 + 100000001), 0);
    expect_refused(path_of("sparse.safetensors"), "header length is 100000001");
}

/* Every prefix of a sound file is refused, and none crashes the reader. */
Test(safetensors, truncated_files_are_refused) {
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":" F32("[2]", "[0,8]") "}";
    char bytes[512] = {0};
    const uint64_t length = sizeof header - 1;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t size = 0; size < 8 + length + 8; ++size) {
        write_bytes(path_of("cut.safetensors"), bytes, size);
        expect_refused(path_of("cut.safetensors"), "");
    }
    rpo_safetensors *file = NULL;
    write_bytes(path_of("cut.safetensors"), bytes, 8 + length + 8);
    MUST(rpo_safetensors_open(&file, path_of("cut.safetensors")));
    rpo_safetensors_close(file);
}

Test(safetensors, absent_and_unsuitable_paths) {
    expect_refused(path_of("absent.safetensors"), "absent.safetensors");
    expect_refused(folder, "model.safetensors.index.json");
    cr_assert_eq(mkfifo(path_of("pipe"), 0600), 0);
    expect_refused(path_of("pipe"), "regular file");
}

Test(safetensors, edges_are_accepted) {
    rpo_safetensors *file = NULL;
    write_case(path_of("empty.safetensors"), "{}", 0);
    MUST(rpo_safetensors_open(&file, path_of("empty.safetensors")));
    cr_expect_eq(rpo_safetensors_count(file), 0);
    cr_expect_null(rpo_safetensors_find(file, "a"));
    cr_expect_null(rpo_safetensors_at(file, 0));
    rpo_safetensors_close(file);

    /* Padding, a scalar, an empty tensor between others, an order that is not that of the bytes. */
    write_case(path_of("edge.safetensors"),
               "{\"b\":" F32("[]", "[4,8]") ",\"none\":" F32("[3,0]", "[4,4]") ",\"a\":" F32(
                   "[1,1]", "[0,4]") "}  \n ",
               8);
    MUST(rpo_safetensors_open(&file, path_of("edge.safetensors")));
    cr_expect_eq(rpo_safetensors_count(file), 3);
    cr_expect_eq(rpo_safetensors_find(file, "b")->num_dims, 0);
    cr_expect_eq(rpo_safetensors_find(file, "b")->count, 1);
    cr_expect_eq(rpo_safetensors_find(file, "none")->count, 0);
    cr_expect_str_eq(rpo_safetensors_at(file, 0)->name, "a");
    rpo_safetensors_close(file);
    rpo_safetensors_close(NULL);
}

Test(safetensors, dtypes_become_float) {
    static const char header[] = "{\"f32\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
                                 "\"bf16\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[12,20]},"
                                 "\"f16\":{\"dtype\":\"F16\",\"shape\":[8],\"data_offsets\":[20,36]},"
                                 "\"i64\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[36,44]}}";
    static const float f32[3] = {1.5f, -0.0f, 3.4e38f};
    static const uint16_t bf16[4] = {0x3f80, 0xc049, 0x7f80, 0x0001};
    /* 1, -2, largest, smallest normal, smallest and largest subnormal, -0, -infinity */
    static const uint16_t f16[8] = {0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x03ff, 0x8000, 0xfc00};
    static const float halves[8] = {1.0f,     -2.0f,           65504.0f, 0x1p-14f,
                                    0x1p-24f, 1023 * 0x1p-24f, -0.0f,    -INFINITY};
    char bytes[1024] = {0};
    const uint64_t length = sizeof header - 1;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length, f32, sizeof f32);
    memcpy(bytes + 8 + length + 12, bf16, sizeof bf16);
    memcpy(bytes + 8 + length + 20, f16, sizeof f16);
    write_bytes(path_of("types.safetensors"), bytes, 8 + length + 44);

    rpo_safetensors *file = NULL;
    float out[8];
    MUST(rpo_safetensors_open(&file, path_of("types.safetensors")));
    MUST(rpo_safetensors_read_float(file, rpo_safetensors_find(file, "f32"), out));
    cr_expect_eq(memcmp(out, f32, sizeof f32), 0);
    MUST(rpo_safetensors_read_float(file, rpo_safetensors_find(file, "bf16"), out));
    cr_expect(out[0] == 1.0f && out[1] == -3.140625f && out[2] == INFINITY && out[3] == 0x1p-133f);
    MUST(rpo_safetensors_read_float(file, rpo_safetensors_find(file, "f16"), out));
    cr_expect_eq(memcmp(out, halves, sizeof halves), 0);
    expect_error(rpo_safetensors_read_float(file, rpo_safetensors_find(file, "i64"), out),
                 RPO_ERROR_INVALID_INPUT, "tensor i64: dtype is I64; must be F32, BF16 or F16");
    rpo_safetensors_close(file);
}

/* More than one chunk of the reader. */
Test(safetensors, written_and_read_bit_for_bit) {
    const int64_t large = 300001;
    float *a = test_normals((size_t)large, 5, 1.0);
    float *b = test_normals(6, 6, 1.0);
    float *back = test_floats((size_t)large);
    const rpo_tensor_write tensors[] = {
        {.name = "large", .num_dims = 1, .shape = {large}, .data = a},
        {.name = "with \"quotes\" \\ \xc3\xa9", .num_dims = 2, .shape = {2, 3}, .data = b},
        {.name = "empty", .num_dims = 2, .shape = {0, 3}, .data = b},
    };
    rpo_safetensors *file = NULL;
    MUST(rpo_safetensors_write(path_of("out.safetensors"), tensors, 3));
    cr_expect_not(rpo_path_exists(path_of("out.safetensors.tmp")));
    MUST(rpo_safetensors_open(&file, path_of("out.safetensors")));
    cr_assert_eq(rpo_safetensors_count(file), 3);
    MUST(rpo_safetensors_read_float(file, rpo_safetensors_find(file, "large"), back));
    cr_expect_eq(memcmp(a, back, (size_t)large * sizeof *a), 0);
    MUST(rpo_safetensors_read_float(file, rpo_safetensors_find(file, tensors[1].name), back));
    cr_expect_eq(memcmp(b, back, 6 * sizeof *b), 0);
    rpo_safetensors_close(file);
    rpo_free(back);
    rpo_free(b);
    rpo_free(a);
}

typedef struct piece_log {
    const float *values;
    int64_t next; /* pieces follow each other without a gap */
    int64_t most; /* a fault beyond so many elements */
} piece_log;

static rpo_status give_piece(void *user, int64_t first, int64_t count, float *out) {
    piece_log *log = user;
    cr_assert_eq(first, log->next);
    if (first + count > log->most)
        return rpo_error_set(RPO_ERROR_DEVICE, "element %lld: is out of reach", (long long)log->most);
    memcpy(out, log->values + first, (size_t)count * sizeof *out);
    log->next += count;
    return RPO_OK;
}

static rpo_status take_piece(void *user, int64_t first, int64_t count, const float *values) {
    piece_log *log = user;
    cr_assert_eq(first, log->next);
    cr_expect_eq(memcmp(values, log->values + first, (size_t)count * sizeof *values), 0);
    log->next += count;
    return log->next > log->most ? rpo_error_set(RPO_ERROR_DEVICE, "no room") : RPO_OK;
}

/* What a device holds is written and read without ever being held whole: more than one piece of either. */
Test(safetensors, piece_by_piece) {
    const int64_t large = (1 << 21) + 3;
    float *values = test_normals((size_t)large, 5, 1.0);
    piece_log given = {values, 0, large}, taken = {values, 0, large};
    const rpo_tensor_write tensors[] = {
        {.name = "large", .num_dims = 1, .shape = {large}, .read = give_piece, .user = &given},
        {.name = "empty", .num_dims = 1, .shape = {0}, .read = give_piece, .user = &given},
    };
    rpo_safetensors *file = NULL;
    MUST(rpo_safetensors_write(path_of("pieces.safetensors"), tensors, 2));
    cr_expect_eq(given.next, large);
    MUST(rpo_safetensors_open(&file, path_of("pieces.safetensors")));
    MUST(rpo_safetensors_read_pieces(file, rpo_safetensors_find(file, "large"), take_piece, &taken));
    cr_expect_eq(taken.next, large);
    taken = (piece_log){values, 0, 10};
    expect_error(rpo_safetensors_read_pieces(file, rpo_safetensors_find(file, "large"), take_piece, &taken),
                 RPO_ERROR_DEVICE, "no room");
    cr_expect_lt(taken.next, large); /* the first fault ends it */
    rpo_safetensors_close(file);

    given = (piece_log){values, 0, large - 1};
    expect_error(rpo_safetensors_write(path_of("torn.safetensors"), tensors, 1), RPO_ERROR_DEVICE,
                 "out of reach");
    cr_expect_not(rpo_path_exists(path_of("torn.safetensors")));
    cr_expect_not(rpo_path_exists(path_of("torn.safetensors.tmp")));
    rpo_free(values);
}

Test(safetensors, a_failed_write_leaves_nothing) {
    const float one = 1.0f;
    const rpo_tensor_write tensor = {.name = "a", .num_dims = 1, .shape = {1}, .data = &one};
    cr_expect_neq(rpo_safetensors_write(path_of("no/such/folder.safetensors"), &tensor, 1), RPO_OK);
    cr_expect_not_null(strstr(rpo_last_error(), "no/such"));
    cr_assert_eq(mkdir(path_of("taken.safetensors"), 0700), 0); /* the rename must fail */
    cr_expect_neq(rpo_safetensors_write(path_of("taken.safetensors"), &tensor, 1), RPO_OK);
    cr_expect_not(rpo_path_exists(path_of("taken.safetensors.tmp")));
    const rpo_tensor_write negative = {.name = "a", .num_dims = 1, .shape = {-1}, .data = &one};
    cr_expect_eq(rpo_safetensors_write(path_of("negative.safetensors"), &negative, 1),
                 RPO_ERROR_INVALID_ARGUMENT);
    cr_expect_not(rpo_path_exists(path_of("negative.safetensors")));
}

/* ---- shards ---- */

static void write_index(const char *json) {
    write_bytes(path_of("model.safetensors.index.json"), json, strlen(json));
}

Test(safetensors, shards) {
    rpo_safetensors *file = NULL;
    write_case(path_of("one.safetensors"), "{\"a\":" F32("[1]", "[0,4]") "}", 4);
    write_case(path_of("two.safetensors"), "{\"b\":" F32("[1]", "[0,4]") ",\"c\":" F32("[1]", "[4,8]") "}",
               8);
    write_index("{\"metadata\":{\"total_size\":12},\"weight_map\":{\"b\":\"two.safetensors\","
                "\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}");
    MUST(rpo_safetensors_open(&file, folder));
    cr_expect_eq(rpo_safetensors_count(file), 3);
    rpo_safetensors_close(file);

    static const char *const lies_of_index[][2] = {
        {"{}", "weight_map"},
        {"[]", "weight_map"},
        {"{\"weight_map\":{}}", "weight_map"},
        {"{\"weight_map\":{\"a\":7}}", "shard file"},
        {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"\"}}", "plain name"},
        {"{\"weight_map\":{\"a\":\"absent.safetensors\"}}", "absent.safetensors"},
        {"{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"two.safetensors\",\"c\":\"two.safetensors\"}}",
         "tensor a: is not in its shard"},
        {"{\"weight_map\":{\"b\":\"two.safetensors\"}}", "tensor c: is not in"},
        {"{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\",\"c\":\"two.safetensors\"}}",
         "in another shard"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}}", "duplicate"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\"}} x", ""},
    };
    for (size_t i = 0; i < sizeof lies_of_index / sizeof lies_of_index[0]; ++i) {
        write_index(lies_of_index[i][0]);
        expect_refused(folder, lies_of_index[i][1]);
    }
    /* The same tensor in two shards: the index can name only one of them. */
    write_case(path_of("two.safetensors"), "{\"a\":" F32("[1]", "[0,4]") ",\"c\":" F32("[1]", "[4,8]") "}",
               8);
    write_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}");
    expect_refused(folder, "tensor a: is in another shard");
}

/* Names are looked up in a sorted index: comparing all with all would take minutes of CPU time here. */
Test(safetensors, many_tensors_are_found_by_name) {
    enum { MANY = 100000 };
    rpo_tensor_write *tensors = rpo_calloc_array(MANY, sizeof *tensors);
    char(*names)[64] = rpo_alloc_array(MANY, sizeof *names);
    const float one = 1.0f;
    cr_assert(tensors != NULL && names != NULL);
    for (int i = 0; i < MANY; ++i) {
        snprintf(names[i], sizeof names[i], "model.layers.%d.self_attn.q_proj.weight", (i * 7919) % MANY);
        tensors[i] = (rpo_tensor_write){.name = names[i], .num_dims = 1, .shape = {1}, .data = &one};
    }
    MUST(rpo_safetensors_write(path_of("many.safetensors"), tensors, MANY));
    rpo_safetensors *file = NULL;
    const clock_t start = clock();
    MUST(rpo_safetensors_open(&file, path_of("many.safetensors")));
    for (int i = 0; i < MANY; ++i)
        cr_assert_str_eq(rpo_safetensors_find(file, names[i])->name, names[i]);
    cr_expect_null(rpo_safetensors_find(file, "model.layers.0.self_attn.q_proj.weighs"));
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    cr_expect(seconds < 15, "%.1f s", seconds);
    rpo_safetensors_close(file);
    rpo_free(names);
    rpo_free(tensors);
}

/* Random bytes anywhere in a sound file: refused or accepted, never a crash (run under the sanitizers). */
Test(safetensors, random_damage) {
    static const char header[] = "{\"a\":" F32("[2,1]", "[0,8]") ",\"b\":" F32("[1]", "[8,12]") "}";
    int accepted = 0;
    int refused = 0;
    for (uint64_t trial = 0; trial < 2000; ++trial) {
        char bytes[512] = {0};
        const uint64_t length = sizeof header - 1;
        memcpy(bytes, &length, 8);
        memcpy(bytes + 8, header, length);
        const uint64_t size = 8 + length + 12;
        for (uint64_t i = 0; i <= trial % 3; ++i)
            bytes[rpo_random_u64(1, trial, 2 * i) % size] = (char)rpo_random_u64(1, trial, 2 * i + 1);
        write_bytes(path_of("damaged.safetensors"), bytes, size);
        rpo_safetensors *file = NULL;
        float out[16];
        if (rpo_safetensors_open(&file, path_of("damaged.safetensors")) == RPO_OK) {
            ++accepted;
            for (size_t t = 0; t < rpo_safetensors_count(file); ++t)
                if (rpo_safetensors_at(file, t)->count <= 16)
                    (void)rpo_safetensors_read_float(file, rpo_safetensors_at(file, t), out);
            rpo_safetensors_close(file);
        } else {
            ++refused;
        }
    }
    cr_expect(accepted > 0 && refused > 1000, "%d accepted, %d refused", accepted, refused);
}
