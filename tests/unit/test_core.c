/* test_core.c - memory, text, random numbers and hashes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/core.h"

/* ---- memory ---- */

Test(memory, arrays_are_aligned_and_zeroed) {
    for (size_t count = 0; count < 200; count += 7) {
        unsigned char *bytes = rpo_calloc_array(count, 3);
        cr_assert_not_null(bytes);
        cr_assert_eq((uintptr_t)bytes % 64, 0);
        for (size_t i = 0; i < 3 * count; ++i)
            cr_assert_eq(bytes[i], 0);
        rpo_free(bytes);
    }
    rpo_free(NULL);
}

Test(memory, overflowing_sizes_are_refused) {
    rpo_error_clear();
    cr_assert_null(rpo_alloc_array(SIZE_MAX / 2, 3));
    cr_assert_not_null(strstr(rpo_last_error(), "more than can be addressed"));
    cr_assert_null(rpo_alloc_array(SIZE_MAX, 1));
    cr_assert_null(rpo_calloc_array(SIZE_MAX / 4, 8));
}

Test(memory, grown_arrays_keep_their_content) {
    void *array = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; ++i) {
        cr_assert_eq(rpo_grow_array(&array, &capacity, (size_t)i + 1, sizeof(int)), RPO_OK);
        ((int *)array)[i] = i * i;
    }
    for (int i = 0; i < 1000; ++i)
        cr_assert_eq(((int *)array)[i], i * i);
    const void *before = array;
    cr_assert_eq(rpo_grow_array(&array, &capacity, 10, sizeof(int)), RPO_OK);
    cr_assert_eq(array, before, "an array that is large enough must stay where it is");
    cr_assert_eq(rpo_grow_array(&array, &capacity, SIZE_MAX / 2, sizeof(int)), RPO_ERROR_OUT_OF_MEMORY);
    cr_assert_eq(((int *)array)[999], 999 * 999, "a failed growth must leave the array whole");
    rpo_free(array);
}

/* ---- what a terminal may be shown ---- */

Test(text, a_line_is_shown_as_it_is) {
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"two\nlines\tand \x1b[31m", "two lines and  [31m"},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8d\xb5",
         "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8d\xb5"},
        {"\xc2\x9b"
         "31m",
         "\\u009b31m"}, /* C1: the same as ESC [ */
        {"a\xe2\x80\xae"
         "b\xe2\x81\xa6",
         "a\\u202eb\\u2066"},        /* right to left from here */
        {"\xe2\x80\xa8", "\\u2028"}, /* a line break of another kind */
        {"\x9b"
         "31m \xff\xc3",
         "\\x9b31m \\xff\\xc3"}, /* no UTF-8 */
    };
    char shown[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        rpo_show_line(shown, sizeof shown, cases[i][0]);
        cr_expect_str_eq(shown, cases[i][1], "case %zu", i);
        rpo_error_set(RPO_ERROR_INTERNAL, "%s", cases[i][0]);
        cr_expect_str_eq(rpo_last_error(), cases[i][1], "case %zu", i);
    }
    rpo_show_line(shown, 6, "ab\xc2\x9b");
    cr_expect_str_eq(shown, "ab", "an escape is shown whole or not at all");
    rpo_show_line(shown, 1, "ab");
    cr_expect_str_eq(shown, "");
}

/* ---- text ---- */

Test(text, appends_and_formats) {
    rpo_text text = {0};
    cr_assert_eq(rpo_text_append(&text, "", 0), RPO_OK);
    cr_assert_str_eq(text.data, "");
    for (int i = 0; i < 300; ++i)
        cr_assert_eq(rpo_text_printf(&text, "%d,", i), RPO_OK);
    cr_assert_eq(text.length, strlen(text.data));
    cr_assert_eq(strncmp(text.data, "0,1,2,3,", 8), 0);
    cr_assert_str_eq(text.data + text.length - 8, "298,299,");
    rpo_text_free(&text);
    cr_assert_null(text.data);
}

Test(text, nearest_word) {
    static const char *const words[] = {"loss.beta", "loss.kind", "train.batch_size", "train.epochs",
                                        "run.dir"};
    static const struct {
        const char *typed, *expected;
    } cases[] = {
        {"loss.bta", "loss.beta"},
        {"loss.ebta", "loss.beta"},
        {"train.batchsize", "train.batch_size"},
        {"train.epoch", "train.epochs"},
        {"run.dir", "run.dir"},
        {"something.else.entirely", NULL},
        {"", NULL},
        {"x", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        const char *near = rpo_nearest_word(cases[i].typed, words, 5);
        if (cases[i].expected == NULL)
            cr_assert_null(near, "\"%s\" is near nothing, but got %s", cases[i].typed, near);
        else
            cr_assert(near != NULL && strcmp(near, cases[i].expected) == 0, "\"%s\": got %s, expected %s",
                      cases[i].typed, near != NULL ? near : "nothing", cases[i].expected);
    }
    char longer[1000];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    cr_assert_null(rpo_nearest_word(longer, words, 5));
    cr_assert_null(rpo_nearest_word("a", words, 0));
}

/* Decodes by the definition: what a code point's one encoding is. An independent check of the table-driven
 * one. */
static size_t encode(uint32_t point, char out[4]) {
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xc0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xe0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (point & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (point & 0x3f));
    return 4;
}

Test(text, utf8_accepts_every_scalar_and_no_surrogate) {
    for (uint32_t point = 0; point < 0x110400; ++point) {
        char bytes[4];
        const size_t length = encode(point, bytes);
        const bool scalar = point < 0x110000 && (point < 0xd800 || point > 0xdfff);
        cr_assert_eq(rpo_utf8_valid(bytes, length, NULL), scalar, "U+%04X", (unsigned)point);
        for (size_t cut = 1; cut < length; ++cut)
            cr_assert_not(rpo_utf8_valid(bytes, cut, NULL), "U+%04X cut to %zu bytes", (unsigned)point, cut);
    }
}

Test(text, utf8_finds_the_bad_byte) {
    static const struct {
        const char *text;
        size_t bad;
    } cases[] = {
        {"\xc0\x80", 0},          {"abcdefghij\x80", 10},  {"\xe0\x80\x80", 0},
        {"a\xf0\x80\x80\x80", 1}, {"ok\xff", 2},           {"12345678\xc3\xa9 \xed\xa0\x80", 11},
        {"\xf4\x90\x80\x80", 0},  {"\xf5\x80\x80\x80", 0}, {"x\xc3", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        size_t bad = 999;
        cr_assert_not(rpo_utf8_valid(cases[i].text, strlen(cases[i].text), &bad), "case %zu", i);
        cr_assert_eq(bad, cases[i].bad, "case %zu: got %zu, expected %zu", i, bad, cases[i].bad);
    }
}

/* ---- random numbers ---- */

/* Known answers of Philox4x32-10 (Random123, kat_vectors). */
Test(random, philox_known_answers) {
    /* counter 0, key 0: 6627e8d5 e169c58d bc57ac4c 9b00dbd8 */
    cr_assert_eq(rpo_random_u64(0, 0, 0), UINT64_C(0xe169c58d6627e8d5));
    /* all ones: 408f276d 41c83b0e a20bc7c6 6d5451fd */
    cr_assert_eq(rpo_random_u64(UINT64_MAX, UINT64_MAX, UINT64_MAX), UINT64_C(0x41c83b0e408f276d));
    /* counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0: d16cfe09 94fdcceb 5001e420 24126ea1
     */
    cr_assert_eq(rpo_random_u64(UINT64_C(0x299f31d0a4093822), UINT64_C(0x0370734413198a2e),
                                UINT64_C(0x85a308d3243f6a88)),
                 UINT64_C(0x94fdccebd16cfe09));
}

Test(random, moments) {
    enum { DRAWS = 200000 };
    double sum = 0, squares = 0, normal_sum = 0, normal_squares = 0, fourth = 0;
    for (uint64_t i = 0; i < DRAWS; ++i) {
        const double u = rpo_random_uniform(7, 3, i), z = rpo_random_normal(7, 4, i);
        cr_assert(u >= 0 && u < 1 && isfinite(z));
        sum += u;
        squares += u * u;
        normal_sum += z;
        normal_squares += z * z;
        fourth += z * z * z * z;
    }
    cr_assert(fabs(sum / DRAWS - 0.5) < 0.003);
    cr_assert(fabs(squares / DRAWS - 1.0 / 3) < 0.003);
    cr_assert(fabs(normal_sum / DRAWS) < 0.01);
    cr_assert(fabs(normal_squares / DRAWS - 1) < 0.015);
    cr_assert(fabs(fourth / DRAWS - 3) < 0.15);
}

Test(random, permutation_is_one_and_depends_on_seed_and_stream) {
    enum { COUNT = 1000 };
    static int64_t a[COUNT], b[COUNT];
    static const uint64_t pairs[][2] = {{1, 0}, {1, 1}, {2, 0}};
    rpo_random_permutation(a, COUNT, 1, 0);
    rpo_random_permutation(b, COUNT, 1, 0);
    cr_assert_arr_eq(a, b, sizeof a);
    for (size_t p = 0; p < 3; ++p) {
        bool seen[COUNT] = {false};
        rpo_random_permutation(b, COUNT, pairs[p][0], pairs[p][1]);
        for (int i = 0; i < COUNT; ++i) {
            cr_assert(b[i] >= 0 && b[i] < COUNT && !seen[b[i]]);
            seen[b[i]] = true;
        }
        if (p > 0)
            cr_assert_neq(memcmp(a, b, sizeof a), 0);
    }
    rpo_random_permutation(b, 0, 1, 0);
    rpo_random_permutation(b, 1, 1, 0);
    cr_assert_eq(b[0], 0);
}

/* All 24 orders of four things, equally often (chi-squared with 23 degrees of freedom, 99.9 % below 49.7). */
Test(random, permutation_is_unbiased) {
    enum { DRAWS = 48000, ORDERS = 24 };
    int counts[256] = {0};
    for (uint64_t seed = 0; seed < DRAWS; ++seed) {
        int64_t order[4];
        rpo_random_permutation(order, 4, seed, 9);
        ++counts[order[0] << 6 | order[1] << 4 | order[2] << 2 | order[3]];
    }
    double chi_squared = 0;
    int orders = 0;
    for (int i = 0; i < 256; ++i)
        if (counts[i] > 0) {
            const double expected = (double)DRAWS / ORDERS, off = counts[i] - expected;
            chi_squared += off * off / expected;
            ++orders;
        }
    cr_assert_eq(orders, ORDERS);
    cr_assert(chi_squared < 49.7, "chi-squared %g", chi_squared);
}

/* ---- hashes ---- */

static void hash_bytes(const char *bytes, size_t size, char hex[33]) {
    rpo_hash *hash = rpo_hash_new();
    cr_assert_not_null(hash);
    rpo_hash_add(hash, bytes, size);
    rpo_hash_finish(hash, hex);
}

Test(hash, known_answer_and_parts) {
    char whole[33], parts[33];
    hash_bytes("", 0, whole);
    cr_assert_str_eq(whole, "99aa06d3014798d86001c324468d497f"); /* XXH3-128 of nothing, xxhsum -H2 */
    hash_bytes("relative preference", 19, whole);
    rpo_hash *hash = rpo_hash_new();
    cr_assert_not_null(hash);
    rpo_hash_add(hash, "relative ", 9);
    rpo_hash_add(hash, "preference", 10);
    rpo_hash_finish(hash, parts);
    cr_assert_str_eq(whole, parts);
    cr_assert_eq(strlen(whole), 32);
}

Test(hash, strings_do_not_run_together) {
    char a[33], b[33];
    rpo_hash *hash = rpo_hash_new();
    cr_assert_not_null(hash);
    rpo_hash_add_string(hash, "ab");
    rpo_hash_add_string(hash, "c");
    rpo_hash_finish(hash, a);
    hash = rpo_hash_new();
    cr_assert_not_null(hash);
    rpo_hash_add_string(hash, "a");
    rpo_hash_add_string(hash, "bc");
    rpo_hash_finish(hash, b);
    cr_assert_str_neq(a, b);
}

Test(clock, moves_forward) {
    const double before = rpo_now();
    cr_assert(rpo_now() >= before && before > 0);
}
