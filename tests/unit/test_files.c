/* test_files.c - folders, whole-file reading, atomic writing. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "core/descriptors.h"
#include "core/signals.h"

static char folder[64];

static void make_folder(void) {
    snprintf(folder, sizeof folder, "/tmp/rpo-test-files-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(void) {
    cr_assert_eq(rpo_remove_tree(folder), RPO_OK);
    cr_assert_not(rpo_path_exists(folder));
}

TestSuite(files, .init = make_folder, .fini = remove_folder);

/* A path in the test's folder; good until the next but three calls. */
static const char *in_folder(const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_plainly(const char *path, const char *text) {
    FILE *file = fopen(path, "wb");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

Test(files, join) {
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}, {"a//", "b/c", "a//b/c"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        char *path = rpo_path_join(cases[i][0], cases[i][1]);
        cr_assert_str_eq(path, cases[i][2]);
        rpo_free(path);
    }
}

Test(files, make_list_remove) {
    cr_assert_eq(rpo_make_folders(in_folder("a/b//c/")), RPO_OK);
    cr_assert_eq(rpo_make_folders(in_folder("a/b/c")), RPO_OK, "%s", rpo_last_error());
    cr_assert(rpo_path_is_folder(in_folder("a/b/c")));
    static const char *const names[] = {"b.txt", "a.txt", "c", "B.txt", ".hidden"};
    for (size_t i = 0; i < 5; ++i) {
        char name[64];
        snprintf(name, sizeof name, "a/b/c/%s", names[i]);
        write_plainly(in_folder(name), "x");
    }
    cr_assert_eq(symlink(folder, in_folder("a/b/c/link")), 0);
    char **listed = NULL;
    size_t count = 0;
    cr_assert_eq(rpo_list_folder(in_folder("a/b/c"), &listed, &count), RPO_OK);
    static const char *const sorted[] = {".hidden", "B.txt", "a.txt", "b.txt", "c", "link"};
    cr_assert_eq(count, 6);
    for (size_t i = 0; i < count; ++i)
        cr_assert_str_eq(listed[i], sorted[i]);
    rpo_free_names(listed, count);

    write_plainly(in_folder("kept"), "x");
    cr_assert_eq(rpo_remove_tree(in_folder("a")), RPO_OK);
    cr_assert_not(rpo_path_exists(in_folder("a")));
    cr_assert(rpo_path_exists(in_folder("kept")), "what a link points to must stay");
    cr_assert_eq(rpo_remove_tree(in_folder("a")), RPO_OK, "absent is fine");
    cr_assert_eq(rpo_list_folder(in_folder("a"), &listed, &count), RPO_ERROR_INVALID_INPUT);
    cr_assert_not_null(strstr(rpo_last_error(), in_folder("a")));
}

Test(files, empty_folder_lists_nothing) {
    char **listed = NULL;
    size_t count = 7;
    cr_assert_eq(rpo_list_folder(folder, &listed, &count), RPO_OK);
    cr_assert_eq(count, 0);
    rpo_free_names(listed, count);
}

Test(files, folder_below_a_file_is_refused) {
    write_plainly(in_folder("file"), "x");
    cr_assert_eq(rpo_make_folders(in_folder("file/below")), RPO_ERROR_INVALID_INPUT);
    cr_assert_not_null(strstr(rpo_last_error(), in_folder("file")));
    cr_assert_eq(rpo_folder_writable(in_folder("file/below"), 0), RPO_ERROR_INVALID_INPUT);
    cr_assert_eq(rpo_folder_writable(in_folder("file"), 0), RPO_ERROR_INVALID_INPUT);
    cr_assert_eq(rpo_folder_writable("", 0), RPO_ERROR_INVALID_INPUT);
}

Test(files, writable_folder_is_made_and_left_clean) {
    cr_assert_eq(rpo_folder_writable(in_folder("new/run"), 1000), RPO_OK, "%s", rpo_last_error());
    char **listed = NULL;
    size_t count = 0;
    cr_assert_eq(rpo_list_folder(in_folder("new/run"), &listed, &count), RPO_OK);
    cr_assert_eq(count, 0, "the probe must not stay");
    rpo_free_names(listed, count);
}

Test(files, a_folder_without_the_space_is_refused_and_not_made) {
    cr_assert_eq(rpo_folder_writable(in_folder("small/run"), UINT64_C(1) << 60), RPO_ERROR_IO);
    cr_assert_not_null(strstr(rpo_last_error(), "free"), "%s", rpo_last_error());
    cr_assert_not(rpo_path_exists(in_folder("small")));
}

Test(files, a_folder_that_nobody_can_write_is_refused) {
    if (!rpo_path_is_folder("/proc/self")) {
        cr_log_warn("no /proc: not tested");
        return;
    }
    cr_assert_eq(rpo_folder_writable("/proc/self", 0), RPO_ERROR_INVALID_INPUT);
    cr_assert_not_null(strstr(rpo_last_error(), "/proc/self"));
}

Test(files, reads_what_was_written) {
    static const size_t sizes[] = {0, 1, 63, 64, 65535, 65536, 65537, 300001};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
        char *data = malloc(sizes[i] + 1), *back = NULL;
        size_t size = 0;
        for (size_t at = 0; at < sizes[i]; ++at)
            data[at] = (char)rpo_random_u64(1, i, at);
        cr_assert_eq(rpo_write_file_atomic(in_folder("data"), data, sizes[i]), RPO_OK);
        cr_assert_eq(rpo_read_file(in_folder("data"), sizes[i], &back, &size), RPO_OK);
        cr_assert_eq(size, sizes[i]);
        cr_assert_eq(memcmp(data, back, size), 0);
        cr_assert_eq(back[size], '\0');
        rpo_free(back);
        if (sizes[i] > 0) {
            cr_assert_eq(rpo_read_file(in_folder("data"), sizes[i] - 1, &back, &size),
                         RPO_ERROR_INVALID_INPUT);
            cr_assert_null(back);
        }
        free(data);
    }
    cr_assert_not(rpo_path_exists(in_folder("data.tmp")));
}

/* A pipe tells no size: read on until it ends, or until the limit. */
Test(files, reads_from_a_pipe) {
    for (int limit = 0; limit < 2; ++limit) {
        int ends[2];
        char path[64], *data = NULL, block[1000];
        size_t size = 0;
        cr_assert_eq(pipe(ends), 0);
        memset(block, 'x', sizeof block);
        cr_assert_eq(fcntl(ends[1], F_SETPIPE_SZ, 1 << 17) > 0, 1);
        for (int i = 0; i < 100; ++i)
            cr_assert_eq(write(ends[1], block, sizeof block), (ssize_t)sizeof block);
        close(ends[1]);
        snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
        const rpo_status status = rpo_read_file(path, limit == 0 ? 100000 : 99999, &data, &size);
        cr_assert_eq(status, limit == 0 ? RPO_OK : RPO_ERROR_INVALID_INPUT, "%s", rpo_last_error());
        if (limit == 0)
            cr_assert_eq(size, 100000);
        rpo_free(data);
        close(ends[0]);
    }
}

/* A pipe that nobody writes to: never waited for where a regular file must stand. */
Test(files, only_regular_files_are_opened_and_hashed, .timeout = 20) {
    int file = 0;
    uint64_t size = 0;
    char hex[33];
    cr_assert_eq(mkfifo(in_folder("pipe"), 0600), 0);
    static const char *const special[] = {"pipe", "", "absent"};
    static const char *const reasons[] = {"regular file", "is a folder", "cannot be opened: No such file"};
    for (size_t i = 0; i < 3; ++i) {
        cr_expect_eq(rpo_open_regular(in_folder(special[i]), &file, NULL), RPO_ERROR_INVALID_INPUT);
        cr_expect_eq(file, -1);
        cr_expect_not_null(strstr(rpo_last_error(), reasons[i]), "%s", rpo_last_error());
        cr_expect_eq(rpo_hash_file(in_folder(special[i]), true, hex), RPO_ERROR_INVALID_INPUT);
    }
    cr_expect_eq(rpo_open_regular("/dev/zero", &file, NULL), RPO_ERROR_INVALID_INPUT);
    write_plainly(in_folder("plain"), "12345");
    cr_assert_eq(rpo_open_regular(in_folder("plain"), &file, &size), RPO_OK);
    cr_expect_eq(size, 5);
    close(file);
}

/* Reading a pipe that nobody writes to, and hashing, end with a signal; a hash that must be finished does not. */
Test(files, a_signal_ends_reading, .timeout = 20) {
    char *data = NULL, hex[33];
    size_t size = 0;
    rpo_signals signals;
    cr_assert_eq(mkfifo(in_folder("pipe"), 0600), 0);
    write_plainly(in_folder("plain"), "12345");
    rpo_signals_catch(&signals);
    raise(SIGHUP);
    cr_expect_eq(rpo_read_file(in_folder("pipe"), 10, &data, &size), RPO_ERROR_INTERRUPTED);
    cr_expect_str_eq(rpo_last_error(), "stopped by SIGHUP");
    cr_expect_eq(rpo_hash_file(in_folder("plain"), true, hex), RPO_ERROR_INTERRUPTED);
    cr_expect_eq(rpo_hash_file(in_folder("plain"), false, hex), RPO_OK);
    rpo_signals_release(&signals);
}

Test(files, an_ignored_hangup_stays_ignored) {
    rpo_signals signals;
    signal(SIGHUP, SIG_IGN); /* what nohup does */
    rpo_signals_catch(&signals);
    raise(SIGHUP);
    cr_expect_eq(rpo_signals_received(), 0);
    rpo_signals_release(&signals);
    cr_expect_eq(signal(SIGHUP, SIG_DFL), SIG_IGN);
}

Test(files, what_lies_at_a_path) {
    rpo_path_kind kind;
    write_plainly(in_folder("plain"), "1");
    cr_assert_eq(mkfifo(in_folder("pipe"), 0600), 0);
    static const struct {
        const char *name;
        rpo_path_kind kind;
    } cases[] = {{"plain", RPO_PATH_FILE},
                 {"", RPO_PATH_FOLDER},
                 {"pipe", RPO_PATH_SPECIAL},
                 {"absent", RPO_PATH_ABSENT},
                 {"plain/below", RPO_PATH_ABSENT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        cr_expect_eq(rpo_path_examine(in_folder(cases[i].name), &kind), RPO_OK);
        cr_expect_eq(kind, cases[i].kind, "%s", cases[i].name);
    }
    cr_assert_eq(symlink("loop", in_folder("loop")), 0); /* "cannot be told" is not "absent" */
    cr_expect_eq(rpo_path_examine(in_folder("loop"), &kind), RPO_ERROR_INVALID_INPUT);
}

Test(files, faults_name_the_path) {
    char *data = NULL, hex[33];
    size_t size = 0;
    const char *absent = in_folder("absent");
    cr_assert_eq(rpo_read_file(absent, 10, &data, &size), RPO_ERROR_INVALID_INPUT);
    cr_assert_eq(strncmp(rpo_last_error(), absent, strlen(absent)), 0);
    cr_assert_not_null(strstr(rpo_last_error(), "No such file"));
    cr_assert_eq(rpo_read_file(folder, 10, &data, &size), RPO_ERROR_INVALID_INPUT);
    cr_assert_not_null(strstr(rpo_last_error(), "is a folder"));
    cr_assert_eq(rpo_hash_file(absent, false, hex), RPO_ERROR_INVALID_INPUT);
    cr_assert_eq(rpo_write_file_atomic(in_folder("no/such/file"), "x", 1), RPO_ERROR_IO);
    cr_assert_not_null(strstr(rpo_last_error(), "no/such/file"));
}

Test(files, hash_of_a_file_is_the_hash_of_its_bytes) {
    char of_file[33], of_bytes[33];
    write_plainly(in_folder("f"), "some bytes");
    cr_assert_eq(rpo_hash_file(in_folder("f"), false, of_file), RPO_OK);
    rpo_hash *hash = rpo_hash_new();
    cr_assert_not_null(hash);
    rpo_hash_add(hash, "some bytes", 10);
    rpo_hash_finish(hash, of_bytes);
    cr_assert_str_eq(of_file, of_bytes);
}

Test(files, a_failed_write_leaves_the_old_file) {
    cr_assert_eq(rpo_write_file_atomic(in_folder("kept"), "old", 3), RPO_OK);
    cr_assert_eq(mkdir(in_folder("kept.tmp"), 0777), 0); /* stands where the temporary file would */
    cr_assert_eq(rpo_write_file_atomic(in_folder("kept"), "new", 3), RPO_ERROR_IO);
    char *data = NULL;
    size_t size = 0;
    cr_assert_eq(rpo_read_file(in_folder("kept"), 10, &data, &size), RPO_OK);
    cr_assert_str_eq(data, "old");
    rpo_free(data);
}

/* /dev/full takes no byte: the write fails as on a full disk, and nothing half-written stays. */
Test(files, a_full_disk_is_an_io_fault) {
    if (!rpo_path_exists("/dev/full")) {
        cr_log_warn("no /dev/full: not tested");
        return;
    }
    cr_assert_eq(symlink("/dev/full", in_folder("out.tmp")), 0);
    cr_assert_eq(rpo_write_file_atomic(in_folder("out"), "x", 1), RPO_ERROR_IO);
    cr_assert_not_null(strstr(rpo_last_error(), "No space left"), "%s", rpo_last_error());
    cr_assert_not(rpo_path_exists(in_folder("out")));
    cr_assert_not(rpo_path_exists(in_folder("out.tmp")));
}

Test(files, rename_replaces_folders_of_the_same_kind) {
    cr_assert_eq(rpo_make_folders(in_folder("step-1.tmp")), RPO_OK);
    cr_assert_eq(rpo_rename_synced(in_folder("step-1.tmp"), in_folder("step-1")), RPO_OK);
    cr_assert(rpo_path_is_folder(in_folder("step-1")));
    cr_assert_eq(rpo_rename_synced(in_folder("absent"), in_folder("step-2")), RPO_ERROR_IO);
}
