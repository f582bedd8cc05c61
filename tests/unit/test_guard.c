/*
 * test_guard.c - device memory of the CPU that only ops and copies may touch, where the build can guard it: planted
 * mistakes die at their line, legal use does not.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "kernels/guard.h"
#include "kernels/op_table.h"

enum { COUNT = 100 };

typedef struct fixture {
    rpo_context *context;
    const rpo_device_ops *ops;
    float *device; /* COUNT ones */
} fixture;

static fixture open_fixture(void) {
    fixture f = {0};
    float ones[COUNT];
    void *memory = NULL;
    for (int i = 0; i < COUNT; ++i)
        ones[i] = 1.0f;
    cr_assert_eq(rpo_context_create(&f.context, NULL), RPO_OK, "%s", rpo_last_error());
    f.ops = f.context->backend->device_ops;
    cr_assert_eq(f.ops->allocate(f.context, &memory, sizeof ones), RPO_OK);
    cr_assert_eq(f.ops->copy_in(f.context, memory, ones, sizeof ones), RPO_OK);
    f.device = memory;
    return f;
}

static void close_fixture(fixture *f) {
    f->ops->release(f->context, f->device);
    rpo_context_free(f->context);
}

/* y = x W^T for a row of x against a weight of one row: the sum of ten squares. */
static rpo_status sum_of_squares(const fixture *f, float *out) {
    const rpo_linear_shape shape = {1, 10, 1, 10, 1, RPO_FLOAT32};
    return f->context->backend->model.linear(f->context, out, f->device, f->device, NULL, &shape);
}

static void use_legally(const fixture *f) {
    float found[COUNT] = {0};
    cr_assert_eq(sum_of_squares(f, f->device + 20), RPO_OK);
    cr_assert_eq(f->ops->fill(f->context, f->device + 30, 0, 4), RPO_OK);
    cr_assert_eq(f->ops->copy_device(f->context, f->device + 40, f->device + 20, 4), RPO_OK);
    cr_assert_eq(f->ops->copy_out(f->context, found, f->device, sizeof found), RPO_OK);
    cr_assert_eq(found[0], 1.0f);
    cr_assert_eq(found[20], 10.0f);
    cr_assert_eq(found[30], 0.0f);
    cr_assert_eq(found[40], 10.0f);
}

Test(guard, ops_and_copies_are_let_in) {
    fixture f = open_fixture();
    for (int i = 0; i < 3; ++i)
        use_legally(&f);
    close_fixture(&f);
}

static void *use_many_times(void *argument) {
    (void)argument;
    for (int i = 0; i < 200; ++i) {
        fixture f = open_fixture();
        use_legally(&f);
        close_fixture(&f);
    }
    return NULL;
}

/* One thread leaves while another is inside. */
Test(guard, several_threads_are_let_in) {
    pthread_t threads[4];
    for (int i = 0; i < 4; ++i)
        cr_assert_eq(pthread_create(&threads[i], NULL, use_many_times, NULL), 0);
    for (int i = 0; i < 4; ++i)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
}

Test(guard, pinned_memory_is_the_hosts) {
    fixture f = open_fixture();
    void *pinned = NULL;
    cr_assert_eq(f.ops->allocate_pinned(f.context, &pinned, sizeof(float)), RPO_OK);
    *(float *)pinned = 2.0f;
    cr_assert_eq(f.ops->copy_in_async(f.context, f.device, pinned, sizeof(float)), RPO_OK);
    cr_assert_eq(*(volatile float *)pinned, 2.0f);
    f.ops->release_pinned(f.context, pinned);
    close_fixture(&f);
}

#if defined(RPO_GUARDS_MEMORY)

/* ---- planted mistakes, each a function whose name the report must give ---- */

static volatile float sink;

static __attribute__((noinline)) void host_reads(const fixture *f) {
    sink = f->device[7];
}

static __attribute__((noinline)) void host_writes(const fixture *f) {
    *(volatile float *)&f->device[COUNT - 1] = 1.0f;
}

static __attribute__((noinline)) void host_reads_what_an_op_left(const fixture *f) {
    if (sum_of_squares(f, f->device + 20) == RPO_OK)
        sink = f->device[20];
}

static __attribute__((noinline)) void host_copies_plainly(const fixture *f) {
    float host[COUNT];
    memcpy(host, f->device, sizeof host);
    sink = host[0];
}

static __attribute__((noinline)) void copy_goes_past_the_end(const fixture *f) {
    float host[COUNT + 1];
    if (f->ops->copy_out(f->context, host, f->device, sizeof host) == RPO_OK)
        sink = host[0];
}

/* The words of a child that makes the mistake; its exit status in *status. */
static void words_of_child(char *words, size_t size, int *status, void (*mistake)(const fixture *)) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        fixture f = open_fixture();
        mistake(&f);
        _exit(0);
    }
    close(ends[1]);
    FILE *file = fdopen(ends[0], "r");
    cr_assert_not_null(file);
    words[fread(words, 1, size - 1, file)] = '\0';
    fclose(file);
    cr_assert_eq(waitpid(child, status, 0), child);
}

static void must_die(void (*mistake)(const fixture *), const char *function) {
    char words[1 << 16];
    int status = 0;
    words_of_child(words, sizeof words, &status, mistake);
    cr_assert(WIFEXITED(status) ? WEXITSTATUS(status) != 0 : WIFSIGNALED(status), "%s goes unseen", function);
    cr_assert_not_null(strstr(words, "use-after-poison"), "%s: dies of something else", function);
    const char *place = strstr(words, function);
    cr_assert_not_null(place, "%s: is not named", function);
    cr_assert_not_null(strstr(place, "test_guard.c:"), "%s: its line is not named", function);
}

Test(guard, a_mistake_of_the_host_dies_at_its_line) {
    must_die(host_reads, "host_reads");
    must_die(host_writes, "host_writes");
    must_die(host_reads_what_an_op_left, "host_reads_what_an_op_left");
    must_die(host_copies_plainly, "host_copies_plainly");
    must_die(copy_goes_past_the_end, "copy_goes_past_the_end");
}

#endif
