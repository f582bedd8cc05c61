/* grid.cpp - the block scheduler behind grid.h. */
#include "kernels/simt/grid.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#    include <sanitizer/asan_interface.h>
#endif

#include "kernels/simt/fiber.h"

namespace simt {

ThreadView *view = nullptr;

namespace {

constexpr size_t kMaxDeposit = 256; /* bytes a lane can hand over in one collective */
constexpr size_t kGuardBytes = 64;
constexpr size_t kSharedAlignment = 128;
constexpr size_t kStaticShared = 48 * 1024; /* what CUDA allows a kernel to declare */
constexpr size_t kMaxSharedArrays = 64;
constexpr size_t kMaxShared = 227 * 1024; /* what a block can have on sm_90 */
constexpr unsigned kMaxPendingCopies = 128;
constexpr unsigned char kGuard = 0xA5;
constexpr unsigned char kPoison = 0xFF; /* NaN as float, double, half and bfloat16; -1 as an integer */

enum class State { kReady, kAtBlock, kAtWarp, kDone };

/* A ring of fixed size: memory of its own would be taken and freed by different fibers. */
struct CopyRing {
    struct Entry {
        PendingCopy copy;
        unsigned group;
    } entries[kMaxPendingCopies];
    unsigned first = 0, count = 0, groups = 0;
};

struct Thread {
    Fiber fiber;
    CopyRing copies;
    ThreadView view;
    int index = 0;
    State state = State::kDone;
    const char *file = "";
    int line = 0;
    size_t deposit_size = 0;
    unsigned parity = 0; /* which of the two deposit buffers the next collective uses */
};

struct Warp {
    alignas(16) unsigned char deposits[2][kWarpSize][kMaxDeposit];
};

/* Addresses for ThreadSanitizer, new for every block: two blocks must not appear ordered by each other's
 * barriers. */
struct BlockSync {
    char block, warps[1024 / kWarpSize];
};

/* A shared array inside the block's arena, with guard bytes behind it. */
struct SharedArray {
    const void *site;
    unsigned char *memory;
    size_t size;
    const char *file;
    int line;
};

struct Grid {
    Launch launch{};
    void (*body)(void *) = nullptr;
    void *argument = nullptr;
    std::vector<std::unique_ptr<Thread>> threads; /* kept from launch to launch: stacks are costly */
    std::vector<Warp> warps;
    std::vector<SharedArray> shared;
    /* Shared memory of the block that runs. With ThreadSanitizer a new arena for every block, all kept until
     * the grid is done: memory that changed hands earlier would be reported against its next owner. */
    std::vector<std::unique_ptr<unsigned char[]>> arenas;
    size_t arena_size = 0, arena_used = 0;
    std::vector<int> order;
    Thread *current = nullptr;
    int count = 0; /* threads of a block */
    uint64_t random = 1;
    bool failed = false;
    char message[512] = "";
    std::vector<std::unique_ptr<BlockSync>> syncs; /* of every block of this launch */
    char grid_sync = 0, fence_sync = 0;
};

Grid grid;
Schedule schedule = Schedule::kCount;

constexpr const char *kScheduleNames[] = {"forward", "reverse", "shuffled", "warp-eager",
                                          "warp-eager-reverse"};

void set_fault(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));
void set_fault(const char *format, ...) {
    if (grid.failed)
        return; /* the first fault is the cause */
    grid.failed = true;
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const Dim3 &block = grid.threads[0]->view.block;
    snprintf(grid.message, sizeof grid.message, "kernel %s, block (%u,%u,%u), schedule %s: %s",
             grid.launch.name, block.x, block.y, block.z, schedule_name(current_schedule()), text);
}

const char *where(const Thread &thread, char *text, size_t size) {
    if (thread.state == State::kDone)
        snprintf(text, size, "thread %d has exited", thread.index);
    else
        snprintf(text, size, "thread %d is at %s:%d (%s)", thread.index, thread.file, thread.line,
                 thread.state == State::kAtWarp ? "warp collective" : "block barrier");
    return text;
}

void fault_of_two(const char *what, const Thread &one, const Thread &other) {
    char first[200], second[200];
    set_fault("%s: %s, but %s", what, where(one, first, sizeof first), where(other, second, sizeof second));
}

bool same_site(const Thread &one, const Thread &other) {
    return one.line == other.line && strcmp(one.file, other.file) == 0;
}

/* Written out because sanitizers see through memcpy and memset also in files they do not instrument: what the
 * runtime itself moves is not the kernel's doing. */
void fill_bytes(unsigned char *to, unsigned char value, size_t size) {
    for (volatile unsigned char *p = to; size > 0; --size)
        *p++ = value;
}

void copy_bytes(unsigned char *to, const void *from, size_t size) {
    const volatile unsigned char *p = static_cast<const unsigned char *>(from);
    for (volatile unsigned char *q = to; size > 0; --size)
        *q++ = *p++;
}

void thread_entry(void *argument) {
    auto *thread = static_cast<Thread *>(argument);
    grid.body(grid.argument);
    thread->state = State::kDone;
    release(&grid.grid_sync);
}

void run_thread(Thread &thread) {
    grid.current = &thread;
    view = &thread.view;
    thread.fiber.resume();
    grid.current = nullptr;
}

void wait(State state, const char *file, int line) {
    Thread *self = grid.current;
    self->state = state;
    self->file = file;
    self->line = line;
    self->fiber.yield();
}

int warp_end(int begin) {
    return std::min(begin + kWarpSize, grid.count);
}

/* Lets a warp go on whose lanes all wait at the same collective. False with a fault set when only some do and
 * no other lane can still arrive. */
bool release_warp(int begin) {
    const int end = warp_end(begin);
    int waiting = 0, ready = 0, first = -1;
    for (int i = begin; i < end; ++i) {
        const Thread &thread = *grid.threads[i];
        if (thread.state == State::kAtWarp) {
            ++waiting;
            if (first < 0)
                first = i;
        }
        ready += thread.state == State::kReady;
    }
    if (waiting == 0 || ready > 0)
        return false;
    for (int i = begin; i < end; ++i) {
        const Thread &thread = *grid.threads[i], &leader = *grid.threads[first];
        if (thread.state != State::kAtWarp || !same_site(thread, leader)) {
            fault_of_two("divergent warp collective", leader, thread);
            return false;
        }
        if (thread.deposit_size != leader.deposit_size) {
            fault_of_two("warp collective on values of different sizes", leader, thread);
            return false;
        }
    }
    for (int i = begin; i < end; ++i)
        grid.threads[i]->state = State::kReady;
    return true;
}

void run_warp_until_blocked(int begin) {
    do {
        for (int i = begin; i < warp_end(begin) && !grid.failed; ++i)
            if (grid.threads[i]->state == State::kReady)
                run_thread(*grid.threads[i]);
    } while (!grid.failed && release_warp(begin));
}

void run_pass() {
    switch (current_schedule()) {
    case Schedule::kWarpEager:
        for (int begin = 0; begin < grid.count && !grid.failed; begin += kWarpSize)
            run_warp_until_blocked(begin);
        return;
    case Schedule::kWarpEagerReverse:
        for (int begin = (grid.count - 1) / kWarpSize * kWarpSize; begin >= 0 && !grid.failed;
             begin -= kWarpSize)
            run_warp_until_blocked(begin);
        return;
    case Schedule::kShuffled:
        for (int i = grid.count - 1; i > 0; --i) {
            grid.random = grid.random * 6364136223846793005u + 1442695040888963407u;
            std::swap(grid.order[i], grid.order[(grid.random >> 33) % static_cast<uint64_t>(i + 1)]);
        }
        break;
    default:
        break;
    }
    for (int i : grid.order)
        if (grid.threads[i]->state == State::kReady && !grid.failed)
            run_thread(*grid.threads[i]);
    for (int begin = 0; begin < grid.count && !grid.failed; begin += kWarpSize)
        release_warp(begin);
}

/* Lets the block go on when all threads wait at the same barrier. Returns false when the block is done or
 * failed. */
bool release_block() {
    int at_block = 0, done = 0, ready = 0;
    for (int i = 0; i < grid.count; ++i) {
        const State state = grid.threads[i]->state;
        at_block += state == State::kAtBlock;
        done += state == State::kDone;
        ready += state == State::kReady;
    }
    if (grid.failed || done == grid.count)
        return false;
    if (ready > 0)
        return true;
    const Thread &first = *grid.threads[0];
    for (int i = 0; i < grid.count; ++i) {
        const Thread &thread = *grid.threads[i];
        if (thread.state != State::kAtBlock || first.state != State::kAtBlock || !same_site(thread, first)) {
            if (i == 0)
                continue;
            fault_of_two("divergent barrier", first, thread);
            return false;
        }
    }
    if (at_block != grid.count) {
        fault_of_two("divergent barrier", first, *grid.threads[grid.count - 1]);
        return false;
    }
    for (int i = 0; i < grid.count; ++i)
        grid.threads[i]->state = State::kReady;
    return true;
}

void poison(const void *memory, size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(memory, size);
#else
    (void)memory, (void)size;
#endif
}

void unpoison(const void *memory, size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(memory, size);
#else
    (void)memory, (void)size;
#endif
}

void prepare_arena() {
    const size_t size =
        grid.launch.shared_bytes + kStaticShared + kMaxSharedArrays * (kGuardBytes + kSharedAlignment);
#if defined(RPO_SIMT_TSAN)
    const bool fresh = true;
#else
    const bool fresh = grid.arenas.empty() || size > grid.arena_size;
#endif
    if (fresh) {
        grid.arenas.push_back(std::unique_ptr<unsigned char[]>(new unsigned char[size]));
        grid.arena_size = size;
    }
    grid.arena_used = 0;
    grid.shared.reserve(kMaxSharedArrays); /* never grown on a fiber: memory would change hands there */
    poison(grid.arenas.back().get(), grid.arena_size);
}

/* nullptr when the block has declared more than it can have. */
unsigned char *add_shared(const void *site, size_t size, const char *file, int line) {
    unsigned char *arena = grid.arenas.back().get();
    const uintptr_t start = reinterpret_cast<uintptr_t>(arena) + grid.arena_used;
    unsigned char *memory =
        arena + grid.arena_used + (kSharedAlignment - start % kSharedAlignment) % kSharedAlignment;
    if (memory + size + kGuardBytes > arena + grid.arena_size || grid.shared.size() == kMaxSharedArrays)
        return nullptr;
    grid.arena_used = static_cast<size_t>(memory - arena) + size + kGuardBytes;
    unpoison(memory, size + kGuardBytes);
    fill_bytes(memory, kPoison, size);
    fill_bytes(memory + size, kGuard, kGuardBytes);
    poison(memory + size, kGuardBytes);
    grid.shared.push_back({site, memory, size, file, line});
    return memory;
}

void check_guards() {
    unpoison(grid.arenas.back().get(), grid.arena_size);
    for (const SharedArray &array : grid.shared)
        for (size_t i = 0; i < kGuardBytes; ++i)
            if (array.memory[array.size + i] != kGuard) {
                set_fault("write beyond the end of the shared array of %zu bytes at %s:%d, %zu bytes past it",
                          array.size, array.file, array.line, i);
                break;
            }
    grid.shared.clear();
}

void prepare_block(const Dim3 &block) {
    const Dim3 dim = grid.launch.block;
    grid.syncs.push_back(std::make_unique<BlockSync>());
    prepare_arena();
    for (int i = 0; i < grid.count; ++i) {
        Thread &thread = *grid.threads[i];
        const unsigned linear = static_cast<unsigned>(i);
        thread.index = i;
        thread.view = {
            {linear % dim.x, linear / dim.x % dim.y, linear / (dim.x * dim.y)}, block, dim, grid.launch.grid};
        thread.state = State::kReady;
        thread.parity = 0;
        thread.copies.first = thread.copies.count = thread.copies.groups = 0;
        thread.fiber.start(thread_entry, &thread);
        grid.order[i] = current_schedule() == Schedule::kReverse ? grid.count - 1 - i : i;
    }
    if (grid.launch.shared_bytes > 0)
        add_shared(nullptr, grid.launch.shared_bytes, "the launch", 0);
}

void run_block(const Dim3 &block) {
    prepare_block(block);
    do
        run_pass();
    while (release_block());
    check_guards();
}

bool limits_hold(const Launch &launch) {
    const uint64_t threads = uint64_t{launch.block.x} * launch.block.y * launch.block.z;
    const char *wrong = nullptr;
    if (threads == 0 || threads > 1024)
        wrong = "block size is not 1 to 1024 threads";
    else if (threads % kWarpSize != 0)
        wrong = "block size is no multiple of 32";
    else if (launch.grid.x == 0 || launch.grid.y == 0 || launch.grid.z == 0)
        wrong = "grid is empty";
    else if (launch.grid.y > 65535 || launch.grid.z > 65535 || launch.grid.x > 2147483647u)
        wrong = "grid is beyond the device's limits";
    else if (launch.shared_bytes > kMaxShared)
        wrong = "more shared memory than a block can have (227 KiB)";
    if (wrong == nullptr)
        return true;
    grid.failed = true;
    snprintf(grid.message, sizeof grid.message,
             "kernel %s: invalid launch (%u,%u,%u) x (%u,%u,%u), %zu bytes: %s", launch.name, launch.grid.x,
             launch.grid.y, launch.grid.z, launch.block.x, launch.block.y, launch.block.z,
             launch.shared_bytes, wrong);
    return false;
}

} // namespace

const char *schedule_name(Schedule value) {
    return kScheduleNames[static_cast<int>(value)];
}

void set_schedule(Schedule value) {
    schedule = value;
}

Schedule current_schedule() {
    if (schedule == Schedule::kCount) {
        schedule = Schedule::kForward;
        const char *wanted = getenv("RPO_SIMT_SCHEDULE");
        for (int i = 0; wanted != nullptr && i < static_cast<int>(Schedule::kCount); ++i)
            if (strcmp(wanted, kScheduleNames[i]) == 0)
                schedule = static_cast<Schedule>(i);
    }
    return schedule;
}

const char *run_grid(const Launch &launch, void (*body)(void *), void *argument) {
    grid.failed = false;
    grid.message[0] = '\0';
    grid.launch = launch;
    if (!limits_hold(launch))
        return grid.message;
    grid.body = body;
    grid.argument = argument;
    grid.count = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
    grid.random = 12345;
    while (grid.threads.size() < static_cast<size_t>(grid.count))
        grid.threads.push_back(std::make_unique<Thread>());
    grid.warps.resize(static_cast<size_t>(grid.count / kWarpSize));
    grid.order.resize(static_cast<size_t>(grid.count));
    for (unsigned z = 0; z < launch.grid.z; ++z)
        for (unsigned y = 0; y < launch.grid.y; ++y)
            for (unsigned x = 0; x < launch.grid.x && !grid.failed; ++x)
                run_block({x, y, z});
    acquire(&grid.grid_sync);
    grid.arenas.clear();
    forget_fibers();
    grid.syncs.clear();
    return grid.failed ? grid.message : nullptr;
}

int lane() {
    return grid.current->index % kWarpSize;
}

void block_barrier(const char *file, int line) {
    char *sync = &grid.syncs.back()->block;
    release(sync);
    wait(State::kAtBlock, file, line);
    acquire(sync);
}

const unsigned char *warp_exchange(const void *value, size_t size, size_t *stride, const char *file,
                                   int line) {
    Thread *self = grid.current;
    if (size > kMaxDeposit)
        fault("warp collective on %zu bytes at %s:%d; at most %zu are allowed", size, file, line,
              kMaxDeposit);
    Warp &warp = grid.warps[static_cast<size_t>(self->index / kWarpSize)];
    const unsigned parity = self->parity;
    self->parity ^= 1u;
    self->deposit_size = size;
    copy_bytes(warp.deposits[parity][self->index % kWarpSize], value, size);
    char *sync = &grid.syncs.back()->warps[self->index / kWarpSize];
    release(sync);
    wait(State::kAtWarp, file, line);
    acquire(sync);
    *stride = kMaxDeposit;
    return warp.deposits[parity][0];
}

void *dynamic_shared() {
    return grid.launch.shared_bytes > 0 ? static_cast<void *>(grid.shared[0].memory) : nullptr;
}

void *static_shared(const void *site, size_t size, const char *file, int line) {
    for (SharedArray &array : grid.shared)
        if (array.site == site)
            return array.memory;
    unsigned char *memory = add_shared(site, size, file, line);
    if (memory == nullptr)
        fault("more than %zu bytes or %zu arrays of static shared memory at %s:%d", kStaticShared,
              kMaxSharedArrays, file, line);
    return memory;
}

void queue_copy(const PendingCopy &copy) {
    CopyRing &ring = grid.current->copies;
    if (ring.count == kMaxPendingCopies)
        fault("more than %u asynchronous copies are under way", kMaxPendingCopies);
    ring.entries[(ring.first + ring.count++) % kMaxPendingCopies] = {copy, ring.groups};
}

void close_copy_group() {
    ++grid.current->copies.groups;
}

bool take_copy(unsigned groups_left, PendingCopy *copy) {
    CopyRing &ring = grid.current->copies;
    if (ring.count == 0 || ring.entries[ring.first].group + groups_left >= ring.groups)
        return false;
    *copy = ring.entries[ring.first].copy;
    ring.first = (ring.first + 1) % kMaxPendingCopies;
    --ring.count;
    return true;
}

void fence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    acquire(&grid.fence_sync);
    release(&grid.fence_sync);
}

void fault(const char *format, ...) {
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    set_fault("thread %d: %s", grid.current->index, text);
    for (;;)
        grid.current->fiber.yield(); /* the scheduler gives the block up */
}

} // namespace simt
