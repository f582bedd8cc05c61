/*
 * grid.h - runs a kernel's grid on the CPU: blocks one after another, the threads of a block as fibers under
 * a schedule, with barriers, warp collectives and shared memory that tell misuse from use.
 *
 * What is found, each with the kernel's name, block, thread(s) and source line:
 *   - a barrier or collective that some threads of the block or warp do not reach, or reach at another line;
 *   - writes beyond a shared array (guard bytes; with AddressSanitizer every access, at its line);
 *   - shared memory read before it is written: it is filled with NaN patterns at the start of every block, so
 * the result is NaN, which no comparison of the tests accepts;
 *   - races, in builds with ThreadSanitizer, at their lines;
 *   - code that only works under one order of threads: the same launch is run under several schedules.
 */
#ifndef RPO_SIMT_GRID_H
#define RPO_SIMT_GRID_H

#include <cstddef>
#include <cstdint>

namespace simt {

struct Dim3 {
    unsigned x, y, z;
};

enum class Schedule {
    kForward,          /* threads in order, each up to its next barrier or collective */
    kReverse,          /* the same from the last thread */
    kShuffled,         /* in an order drawn anew for every pass, seeded */
    kWarpEager,        /* one warp runs on until the block barrier, then the next: what real warps may do */
    kWarpEagerReverse, /* the same from the last warp */
    kCount
};

const char *schedule_name(Schedule schedule);

/* Process-wide, set by tests; RPO_SIMT_SCHEDULE=forward|reverse|shuffled|warp-eager|warp-eager-reverse sets
 * it too. */
void set_schedule(Schedule schedule);
Schedule current_schedule();

struct Launch {
    const char *name;
    Dim3 grid, block;
    size_t shared_bytes;
};

/* Runs body(argument) once per thread of the grid. Returns nullptr, or a one-line description of the fault,
 * valid until the next call; the rest of the grid is then not run. */
const char *run_grid(const Launch &launch, void (*body)(void *argument), void *argument);

/* ---- called by kernels while they run (through device.h) ---- */

struct ThreadView {
    Dim3 thread, block, block_dim, grid_dim;
};
extern ThreadView *view; /* of the thread that runs now */

constexpr int kWarpSize = 32;

int lane();
void block_barrier(const char *file, int line);

/* Deposits `size` bytes of this lane, waits for the whole warp, and returns the warp's deposits, `stride`
 * bytes from one lane to the next, in place until this lane's next collective but one. */
const unsigned char *warp_exchange(const void *value, size_t size, size_t *stride, const char *file,
                                   int line);

/* Shared memory: `dynamic_shared` is the launch's; static arrays are told apart by `site`, unique per
 * declaration. */
void *dynamic_shared();
void *static_shared(const void *site, size_t size, const char *file, int line);

/* Copies that the calling thread has asked for and not yet waited for (async_copy.h). `from` is nullptr for
 * zeros. */
struct PendingCopy {
    void *to;
    const void *from;
};
void queue_copy(const PendingCopy &copy);
void close_copy_group();
/* Takes the oldest copy out of all groups but the latest `groups_left`; false when there is none. */
bool take_copy(unsigned groups_left, PendingCopy *copy);

/* What a thread wrote before its fence is visible to a thread after its own. */
void fence();

/* Reports a fault of the calling thread and gives up the launch; does not return. */
[[noreturn]] void fault(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

} // namespace simt

#endif
