/* test_embed_file.c - embeddings from .npy and .safetensors files. */
#include "../data_fixture.h"

#include <math.h>

#include "host/embed/embed.h"
#include "host/formats/npy.h"
#include "host/formats/safetensors.h"

/* A .npy file; the header is padded as numpy does it unless `raw_header`. */
static const char *write_npy(data_fixture *fixture, int major, const char *header, bool raw_header,
                             const void *data, size_t size) {
    unsigned char bytes[4096];
    const size_t prefix = major == 1 ? 10 : 12;
    size_t length = strlen(header);
    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (unsigned char)major;
    bytes[7] = 0;
    memcpy(bytes + prefix, header, length);
    if (!raw_header) {
        while ((prefix + length + 1) % 64 != 0)
            bytes[prefix + length++] = ' ';
        bytes[prefix + length++] = '\n';
    }
    for (size_t i = 0; i < prefix - 8; ++i)
        bytes[8 + i] = (unsigned char)(length >> (8 * i));
    memcpy(bytes + prefix + length, data, size);
    return fixture_write(fixture, "matrix.npy", bytes, prefix + length + size);
}

#define HEADER(descr, shape) "{'descr': '" descr "', 'fortran_order': False, 'shape': " shape ", }"

static void assert_matrix(const char *path, int64_t rows, int64_t columns, const float *expected) {
    rpo_matrix matrix;
    cr_assert_eq(rpo_npy_read(&matrix, path, rows), RPO_OK, "%s", rpo_last_error());
    cr_assert_eq(matrix.rows, rows);
    cr_assert_eq(matrix.columns, columns);
    for (int64_t i = 0; i < rows * columns; ++i)
        cr_assert_eq(matrix.values[i], expected[i]);
    rpo_free(matrix.values);
}

Test(npy, three_float_types_and_two_versions) {
    data_fixture fixture = fixture_open();
    static const float values[6] = {1, -2.5f, 0, 65504, 0.000060975552f, -0.333251953125f};
    static const double wide[6] = {1, -2.5, 0, 65504, 0.000060975552f, -0.333251953125};
    static const uint16_t half[6] = {0x3c00, 0xc100, 0x0000, 0x7bff, 0x03ff, 0xb555};
    for (int major = 1; major <= 2; ++major) {
        assert_matrix(write_npy(&fixture, major, HEADER("<f4", "(2, 3)"), false, values, sizeof values), 2, 3,
                      values);
        assert_matrix(write_npy(&fixture, major, HEADER("<f8", "(3, 2)"), false, wide, sizeof wide), 3, 2,
                      values);
        assert_matrix(write_npy(&fixture, major, HEADER("<f2", "(1, 6)"), false, half, sizeof half), 1, 6,
                      values);
    }
    assert_matrix(write_npy(&fixture, 1, "{\"shape\":(2,3,),\"descr\":\"<f4\",\"fortran_order\":False}\n",
                            true, values, sizeof values),
                  2, 3, values);
    fixture_close(&fixture);
}

Test(npy, bad_headers_are_refused) {
    static const struct {
        const char *header, *message;
    } cases[] = {
        {HEADER(">f4", "(2, 3)"), "descr: is '>f4'"},
        {HEADER("<i4", "(2, 3)"), "descr: is '<i4'"},
        {HEADER("|O", "(2, 3)"), "descr: is '|O'"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }", "descr: is not one string"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", "fortran_order: must be False"},
        {HEADER("<f4", "(6,)"), "shape: must have two dimensions"},
        {HEADER("<f4", "()"), "shape: must have two dimensions"},
        {HEADER("<f4", "(1, 2, 3)"), "shape: must have two dimensions"},
        {HEADER("<f4", "(-2, -3)"), "shape: must have two dimensions"},
        {HEADER("<f4", "(2, 99999999999999999999)"), "shape: must have two dimensions"},
        {HEADER("<f4", "(2, 4)"), "the file must hold exactly those"},
        {HEADER("<f4", "(2, 2)"), "the file must hold exactly those"},
        {HEADER("<f4", "(2, 0)"), "at least one column"},
        {HEADER("<f4", "(4611686018427387905, 4)"), "the file must hold exactly those"},
        {HEADER("<f8", "(2, 3)"), "the file must hold exactly those"},
        {"{'descr': '<f4', 'fortran_order': False, }", "lacks a key"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", "descr: "},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}", "has the key 'more'"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (2, 3)}", "is damaged"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)", "is damaged"},
        {HEADER("<f4", "(2, 3)") " x", "is damaged"},
        {"", "is no dictionary"},
        {"{", "is damaged"},
    };
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    data_fixture fixture = fixture_open();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        rpo_matrix matrix;
        const char *path = write_npy(&fixture, 1, cases[i].header, false, values, sizeof values);
        cr_expect_eq(rpo_npy_read(&matrix, path, -1), RPO_ERROR_INVALID_INPUT, "accepted: %s",
                     cases[i].header);
        cr_assert_null(matrix.values);
        assert_message_has(path);
        assert_message_has(cases[i].message);
    }
    fixture_close(&fixture);
}

Test(npy, files_that_are_none) {
    static const struct {
        const char *data;
        size_t size;
        const char *message;
    } cases[] = {{"", 0, "is no .npy file"},
                 {"\x93NUMPX\1\0\0\0", 10, "is no .npy file"},
                 {"\x93NUMPY\3\0\0\0\0\0", 12, "version 3"},
                 {"\x93NUMPY\1\0\1", 9, "cut short"},
                 {"\x93NUMPY\1\0\x40\0{'descr", 16, "cut short"},
                 {"\x93NUMPY\2\0\xff\xff\xff\xff{", 13, "at most 65536 are allowed"},
                 {"\x93NUMPY\1\0\4\0{\0}\n", 14, "holds a NUL byte"}};
    data_fixture fixture = fixture_open();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        rpo_matrix matrix;
        const char *path = fixture_write(&fixture, "none.npy", cases[i].data, cases[i].size);
        cr_assert_eq(rpo_npy_read(&matrix, path, -1), RPO_ERROR_INVALID_INPUT);
        assert_message_has(cases[i].message);
    }
    fixture_close(&fixture);
}

/* ---- as embeddings ---- */

static rpo_dataset *load_three(data_fixture *fixture) {
    return fixture_load_text(fixture, "{\"prompt\":\"a\",\"chosen\":\"x\",\"rejected\":\"y\"}\n"
                                      "{\"prompt\":\"b\",\"chosen\":\"x\",\"rejected\":\"y\"}\n"
                                      "{\"prompt\":\"c\",\"chosen\":\"x\",\"rejected\":\"y\"}\n");
}

static rpo_status embed_file(const rpo_dataset *dataset, const char *path, rpo_embeddings *embeddings) {
    const rpo_embedding_options options = {.kind = RPO_EMBEDDING_FILE, .path = path};
    return rpo_embeddings_compute(embeddings, dataset, dataset, &options, NULL, 1);
}

static void assert_unit_rows(const rpo_embeddings *embeddings) {
    static const float expected[6] = {0.6f, -0.8f, 0, 0, 1, 0}; /* of rows 3 -4, 0 0, 1e20 0 */
    cr_assert_eq(embeddings->count, 3);
    cr_assert_eq(embeddings->dim, 2);
    cr_assert(!embeddings->from_cache);
    for (int i = 0; i < 6; ++i)
        cr_assert(fabsf(embeddings->rows[i] - expected[i]) <= 1e-6f);
}

static const float three_rows[6] = {3, -4, 0, 0, 1e20f, 0};

Test(embed_file, npy) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = load_three(&fixture);
    rpo_embeddings embeddings;
    write_npy(&fixture, 1, HEADER("<f4", "(3, 2)"), false, three_rows, sizeof three_rows);
    cr_assert_eq(embed_file(dataset, fixture.path, &embeddings), RPO_OK, "%s", rpo_last_error());
    assert_unit_rows(&embeddings);
    rpo_embeddings_free(&embeddings);

    write_npy(&fixture, 1, HEADER("<f4", "(2, 3)"), false, three_rows, sizeof three_rows);
    cr_assert_eq(embed_file(dataset, fixture.path, &embeddings), RPO_ERROR_INVALID_INPUT);
    assert_message_has("has 2 rows; must have one for each of the 3 records");
    cr_assert_null(embeddings.rows);

    const float bad[2] = {NAN, -INFINITY};
    for (int i = 0; i < 2; ++i) {
        float rows[6] = {1, 2, 3, 4, 5, 6};
        rows[3] = bad[i];
        write_npy(&fixture, 1, HEADER("<f4", "(3, 2)"), false, rows, sizeof rows);
        cr_assert_eq(embed_file(dataset, fixture.path, &embeddings), RPO_ERROR_INVALID_INPUT);
        assert_message_has("row 1 holds NaN or infinity");
    }
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

static const char *write_tensors(data_fixture *fixture, const rpo_tensor_write *tensors, size_t count) {
    snprintf(fixture->path, sizeof fixture->path, "%s/rows.safetensors", fixture->folder);
    cr_assert_eq(rpo_safetensors_write(fixture->path, tensors, count), RPO_OK, "%s", rpo_last_error());
    return fixture->path;
}

Test(embed_file, safetensors) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = load_three(&fixture);
    rpo_embeddings embeddings;
    const rpo_tensor_write rows = {.name = "rows", .num_dims = 2, .shape = {3, 2}, .data = three_rows};
    const rpo_tensor_write named = {.name = "embeddings", .num_dims = 2, .shape = {3, 2}, .data = three_rows};
    const rpo_tensor_write flat = {.name = "flat", .num_dims = 1, .shape = {6}, .data = three_rows};
    const rpo_tensor_write wide = {.name = "wide", .num_dims = 2, .shape = {2, 3}, .data = three_rows};

    cr_assert_eq(embed_file(dataset, write_tensors(&fixture, &rows, 1), &embeddings), RPO_OK, "%s",
                 rpo_last_error());
    assert_unit_rows(&embeddings);
    rpo_embeddings_free(&embeddings);
    const rpo_tensor_write two[2] = {wide, named};
    cr_assert_eq(embed_file(dataset, write_tensors(&fixture, two, 2), &embeddings), RPO_OK, "%s",
                 rpo_last_error());
    assert_unit_rows(&embeddings);
    rpo_embeddings_free(&embeddings);

    const rpo_tensor_write unnamed[2] = {wide, rows};
    cr_assert_eq(embed_file(dataset, write_tensors(&fixture, unnamed, 2), &embeddings),
                 RPO_ERROR_INVALID_INPUT);
    assert_message_has("none named embeddings");
    cr_assert_eq(embed_file(dataset, write_tensors(&fixture, &flat, 1), &embeddings),
                 RPO_ERROR_INVALID_INPUT);
    assert_message_has("flat: must have two dimensions");
    cr_assert_eq(embed_file(dataset, write_tensors(&fixture, &wide, 1), &embeddings),
                 RPO_ERROR_INVALID_INPUT);
    assert_message_has("has 2 rows; must have one for each of the 3 records");
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}

Test(embed_file, paths_at_fault) {
    data_fixture fixture = fixture_open();
    rpo_dataset *dataset = load_three(&fixture);
    rpo_embeddings embeddings;
    cr_assert_eq(embed_file(dataset, NULL, &embeddings), RPO_ERROR_INVALID_INPUT);
    assert_message_has("embedding.path: is missing");
    cr_assert_eq(embed_file(dataset, "rows.bin", &embeddings), RPO_ERROR_INVALID_INPUT);
    assert_message_has("must be a .npy or .safetensors file");
    cr_assert_eq(embed_file(dataset, "no/such.npy", &embeddings), RPO_ERROR_INVALID_INPUT);
    assert_message_has("cannot be opened");
    rpo_dataset_free(dataset);
    fixture_close(&fixture);
}
