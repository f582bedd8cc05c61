/*
 * faults.c - a preloaded library that makes one call of a program go wrong.
 *
 *     LD_PRELOAD=librpo_faults.so RPO_FAULT=CLASS:N:KIND[:on] rpo train ...
 *
 * CLASS  io (calls on files and folders) | alloc (calls for memory)
 * N      which call of the class, from 1; 0 = none
 * KIND   an errno's name: EIO ENOSPC EINTR EMFILE ENOMEM | short: half of what a read or write was to move |
 *        zero: a write of nothing | kill: SIGKILL before the call | killhalf: after half of a write | stop: SIGSTOP
 * on     every later call too
 *
 * With RPO_FAULT_TRACE=FILE each counted call is written there, a line each: CLASS N CALL PATH. A kind that a call cannot
 * have (zero of an open) leaves the call as it is.
 *
 * Counted are calls that the program itself makes, and calls for memory by the small libraries it hands its data to
 * (cJSON, zlib, xxHash): those are told by the caller's address. What libc does inside of itself is not seen.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- what is to go wrong ---- */

typedef enum kind { NONE, FAIL, SHORT, ZERO, KILL, KILL_HALF, STOP } kind;
typedef enum call_class { IO, ALLOC, NUM_CLASSES } call_class;

static const char *const class_names[NUM_CLASSES] = {"io", "alloc"};
static const struct {
    const char *name;
    kind kind;
    int error_number;
} kinds[] = {
    {"EIO", FAIL, EIO},         {"ENOSPC", FAIL, ENOSPC}, {"EINTR", FAIL, EINTR}, {"EMFILE", FAIL, EMFILE},
    {"ENOMEM", FAIL, ENOMEM},   {"short", SHORT, 0},      {"zero", ZERO, 0},      {"kill", KILL, 0},
    {"killhalf", KILL_HALF, 0}, {"stop", STOP, 0},
};

static struct {
    bool ready, lasts;
    call_class at_class;
    long at;
    kind kind;
    int error_number;
    int trace;
    long counts[NUM_CLASSES];
} fault = {.trace = -1};

/* ---- who calls ---- */

typedef struct module {
    uintptr_t begin, end;
    bool is_program;
} module;

enum { MAX_MODULES = 8 };
static module modules[MAX_MODULES];
static int num_modules;

/* The program is the first object that the loader names. */
static int add_module(struct dl_phdr_info *info, size_t size, void *user) {
    static const char *const watched[] = {"libcjson", "libz.so", "libxxhash"};
    int *seen = user;
    (void)size;
    bool wanted = (*seen)++ == 0;
    for (size_t i = 0; i < sizeof watched / sizeof watched[0]; ++i)
        wanted = wanted || strstr(info->dlpi_name, watched[i]) != NULL;
    if (!wanted || num_modules == MAX_MODULES)
        return 0;
    module *added = &modules[num_modules++];
    *added = (module){UINTPTR_MAX, 0, *seen == 1};
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        const uintptr_t end = begin + info->dlpi_phdr[i].p_memsz;
        added->begin = begin < added->begin ? begin : added->begin;
        added->end = end > added->end ? end : added->end;
    }
    return 0;
}

/*
 * Only what main does counts: before it, CUDA's static runtime registers the program's kernels, and it does not survive a
 * failed allocation there.
 */
typedef int main_function(int, char **, char **);
static main_function *program_main;
static bool is_running;

static int watched_main(int argc, char **argv, char **environment) {
    is_running = true;
    return program_main(argc, argv, environment);
}

int __libc_start_main(main_function *entry, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end);

int __libc_start_main(main_function *entry, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end) {
    int (*next)(main_function *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *) = NULL;
    *(void **)&next = dlsym(RTLD_NEXT, "__libc_start_main");
    program_main = entry;
    return next(watched_main, argc, argv, init, fini, rtld_fini, stack_end);
}

static bool is_counted(call_class class, const void *caller) {
    if (!is_running)
        return false;
    const uintptr_t address = (uintptr_t)caller;
    for (int i = 0; i < num_modules; ++i)
        if (address >= modules[i].begin && address < modules[i].end)
            return class == ALLOC || modules[i].is_program;
    return false;
}

/* ---- counting ---- */

static void refuse(const char *what) {
    static const char start[] = "faults: cannot understand RPO_FAULT: ";
    (void)!syscall(SYS_write, 2, start, sizeof start - 1);
    (void)!syscall(SYS_write, 2, what, strlen(what));
    (void)!syscall(SYS_write, 2, "\n", 1);
    _exit(99);
}

static void read_fault(const char *text) {
    char class[8] = "", name[16] = "", rest[4] = "";
    if (sscanf(text, "%7[a-z]:%ld:%15[A-Za-z]:%3s", class, &fault.at, name, rest) < 3)
        refuse(text);
    fault.at_class = strcmp(class, class_names[IO]) == 0 ? IO : ALLOC;
    fault.lasts = strcmp(rest, "on") == 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; ++i)
        if (strcmp(name, kinds[i].name) == 0) {
            fault.kind = kinds[i].kind;
            fault.error_number = kinds[i].error_number;
        }
    if (fault.kind == NONE || strcmp(class, class_names[fault.at_class]) != 0)
        refuse(text);
}

__attribute__((constructor)) static void start(void) {
    int seen = 0;
    const char *text = getenv("RPO_FAULT"), *trace = getenv("RPO_FAULT_TRACE");
    dl_iterate_phdr(add_module, &seen);
    if (text != NULL)
        read_fault(text);
    if (trace != NULL)
        fault.trace = (int)syscall(SYS_openat, AT_FDCWD, trace,
                                   O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
    fault.ready = true;
}

static void write_trace(call_class class, long number, const char *call, const char *path) {
    char line[1200];
    const int length = snprintf(line, sizeof line, "%s %ld %s %s\n", class_names[class], number, call, path);
    if (length > 0)
        (void)!syscall(SYS_write, fault.trace, line,
                       (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
}

/* Counts a call; what it is to suffer. Signals that come before a call are sent here. */
static kind count(call_class class, const char *call, const char *path, const void *caller) {
    if (!fault.ready || !is_counted(class, caller))
        return NONE;
    const long number = ++fault.counts[class]; /* the run under test has one thread */
    if (fault.trace >= 0)
        write_trace(class, number, call, path);
    if (class != fault.at_class || fault.at == 0 || number < fault.at || (number > fault.at && !fault.lasts))
        return NONE;
    if (fault.kind == KILL)
        raise(SIGKILL);
    if (fault.kind == STOP)
        raise(SIGSTOP);
    if (fault.kind == FAIL)
        errno = fault.error_number;
    return fault.kind;
}

/* The path of a descriptor, for the trace. */
static const char *path_of(int file) {
    static char path[1000];
    char link[40];
    if (fault.trace < 0)
        return "-";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = syscall(SYS_readlink, link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    return path;
}

/* ---- the calls ---- */

#define CALLER __builtin_return_address(0)

/* The function that this one stands in front of. */
#define NEXT(name)                                                                                           \
    static __typeof__(name) *next;                                                                           \
    if (next == NULL)                                                                                        \
    next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define FAILS(call, path) (count(IO, call, path, CALLER) == FAIL)

/* glibc's own, which dlsym must not be asked for: it allocates. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

void *malloc(size_t size) {
    return count(ALLOC, "malloc", "-", CALLER) == FAIL ? NULL : __libc_malloc(size);
}

void *calloc(size_t items, size_t size) {
    return count(ALLOC, "calloc", "-", CALLER) == FAIL ? NULL : __libc_calloc(items, size);
}

void *realloc(void *memory, size_t size) {
    return count(ALLOC, "realloc", "-", CALLER) == FAIL ? NULL : __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return count(ALLOC, "aligned_alloc", "-", CALLER) == FAIL ? NULL : __libc_memalign(alignment, size);
}

int open(const char *path, int flags, ...) {
    NEXT(open);
    mode_t mode = 0;
    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return FAILS("open", path) ? -1 : next(path, flags, mode);
}

int mkostemp(char *path, int flags) {
    NEXT(mkostemp);
    return FAILS("open", path) ? -1 : next(path, flags);
}

FILE *fopen(const char *path, const char *mode) {
    NEXT(fopen);
    return FAILS("fopen", path) ? NULL : next(path, mode);
}

/* A close that fails has closed all the same, as on Linux. */
int close(int file) {
    NEXT(close);
    const kind suffers = count(IO, "close", path_of(file), CALLER);
    const int error_number = errno, result = next(file);
    errno = suffers == FAIL ? error_number : errno;
    return suffers == FAIL ? -1 : result;
}

static size_t half(size_t size, kind suffers) {
    return suffers == SHORT && size > 1 ? size / 2 : size;
}

ssize_t read(int file, void *data, size_t size) {
    NEXT(read);
    const kind suffers = count(IO, "read", path_of(file), CALLER);
    return suffers == FAIL ? -1 : next(file, data, half(size, suffers));
}

ssize_t pread(int file, void *data, size_t size, off_t offset) {
    NEXT(pread);
    const kind suffers = count(IO, "read", path_of(file), CALLER);
    return suffers == FAIL ? -1 : next(file, data, half(size, suffers), offset);
}

ssize_t write(int file, const void *data, size_t size) {
    NEXT(write);
    const kind suffers = count(IO, "write", path_of(file), CALLER);
    if (suffers == KILL_HALF) {
        (void)!next(file, data, size / 2);
        raise(SIGKILL);
    }
    if (suffers == FAIL || suffers == ZERO)
        return suffers == FAIL ? -1 : 0;
    return next(file, data, half(size, suffers));
}

int fsync(int file) {
    NEXT(fsync);
    return FAILS("fsync", path_of(file)) ? -1 : next(file);
}

int ftruncate(int file, off_t size) {
    NEXT(ftruncate);
    return FAILS("ftruncate", path_of(file)) ? -1 : next(file, size);
}

off_t lseek(int file, off_t offset, int whence) {
    NEXT(lseek);
    return FAILS("lseek", path_of(file)) ? -1 : next(file, offset, whence);
}

int flock(int file, int operation) {
    NEXT(flock);
    return FAILS("flock", path_of(file)) ? -1 : next(file, operation);
}

int rename(const char *from, const char *to) {
    NEXT(rename);
    return FAILS("rename", to) ? -1 : next(from, to);
}

int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    return FAILS("mkdir", path) ? -1 : next(path, mode);
}

int unlink(const char *path) {
    NEXT(unlink);
    return FAILS("unlink", path) ? -1 : next(path);
}

int remove(const char *path) {
    NEXT(remove);
    return FAILS("unlink", path) ? -1 : next(path);
}

int stat(const char *path, struct stat *facts) {
    NEXT(stat);
    return FAILS("stat", path) ? -1 : next(path, facts);
}

int lstat(const char *path, struct stat *facts) {
    NEXT(lstat);
    return FAILS("stat", path) ? -1 : next(path, facts);
}

int fstat(int file, struct stat *facts) {
    NEXT(fstat);
    return FAILS("stat", path_of(file)) ? -1 : next(file, facts);
}

int statvfs(const char *path, struct statvfs *facts) {
    NEXT(statvfs);
    return FAILS("statvfs", path) ? -1 : next(path, facts);
}

DIR *opendir(const char *path) {
    NEXT(opendir);
    return FAILS("opendir", path) ? NULL : next(path);
}

struct dirent *readdir(DIR *folder) {
    NEXT(readdir);
    return FAILS("readdir", "-") ? NULL : next(folder);
}
