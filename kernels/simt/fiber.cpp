/* fiber.cpp - fibers, their stacks, and the sanitizers' view of them. */
#include "kernels/simt/fiber.h"

#include <cstdlib>
#include <sys/mman.h>
#include <vector>

#include <boost/context/detail/fcontext.hpp>

#if defined(__SANITIZE_ADDRESS__)
#    include <sanitizer/asan_interface.h>
#    include <sanitizer/common_interface_defs.h>
#endif
/* The runtime itself is not instrumented for races, only told of: RPO_SIMT_TSAN stands for -fsanitize=thread
 * here. */
#if defined(RPO_SIMT_TSAN)
#    include <sanitizer/tsan_interface.h>
#endif

namespace simt {
namespace context = boost::context::detail;

namespace {
#if defined(RPO_SIMT_TSAN)
constexpr unsigned kNoSync = 1; /* __tsan_switch_to_fiber_no_sync */
/* What the frames of a kernel can take; the frames below them are the runtimes' own and not looked at. */
constexpr size_t kKernelFrames = 16 * 1024;
#endif
constexpr size_t kStackSize = 256 * 1024; /* sanitizers make frames several times as large */

/* New pages, at `where` unless that is nullptr. */
unsigned char *map_pages(void *where, size_t size) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (where != nullptr ? MAP_FIXED : 0);
    void *memory = mmap(where, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED)
        abort(); /* a test machine without memory for its tests: nothing sensible is left to do */
    return static_cast<unsigned char *>(memory);
}
} // namespace

struct FiberTransfer {
    context::transfer_t inner;
};

Fiber::~Fiber() {
    if (stack_ != nullptr)
        munmap(stack_, kStackSize);
}

#if defined(RPO_SIMT_TSAN)
namespace {
/* ThreadSanitizer takes two fibers for the same thread when the second is the first one, used again, and would miss a
 * race between them. So each thread of a grid has its own, 2,048 of them before the first comes round again (every
 * synchronisation costs time in proportion). Grids follow one another and share them: making one takes a millisecond. */
std::vector<void *> tsan_fibers;
size_t tsan_fibers_used = 0;
constexpr size_t kMaxTsanFibers = 2048;

void *next_tsan_fiber() {
    if (tsan_fibers_used == kMaxTsanFibers)
        tsan_fibers_used = 0;
    if (tsan_fibers_used == tsan_fibers.size())
        tsan_fibers.push_back(__tsan_create_fiber(0));
    return tsan_fibers[tsan_fibers_used++];
}
} // namespace

void forget_fibers() {
    tsan_fibers_used = 0;
}
#else
void forget_fibers() {}
#endif

void Fiber::start(FiberEntry entry, void *argument) {
    if (stack_ == nullptr)
        stack_ = map_pages(nullptr, kStackSize);
#if defined(RPO_SIMT_TSAN)
    else /* mapped anew, which ThreadSanitizer sees: the locals of one fiber after another are no race */
        map_pages(stack_ + kStackSize - kKernelFrames, kKernelFrames);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack_, kStackSize); /* frames of a fiber that was given up half-way */
    fake_stack_ = nullptr;
#endif
#if defined(RPO_SIMT_TSAN)
    tsan_fiber_ = next_tsan_fiber();
#endif
    release(this); /* what the scheduler did so far, mapping the stack included, is before the entry */
    entry_ = entry;
    argument_ = argument;
    finished_ = false;
    context_ = context::make_fcontext(stack_ + kStackSize, kStackSize, [](context::transfer_t transfer) {
        static_cast<Fiber *>(transfer.data)->scheduler_ = transfer.fctx;
        Fiber::run({transfer});
    });
}

void Fiber::run(FiberTransfer transfer) {
    Fiber *self = static_cast<Fiber *>(transfer.inner.data);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &self->scheduler_stack_, &self->scheduler_stack_size_);
#endif
    acquire(self);
    self->entry_(self->argument_);
    self->finished_ = true;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(nullptr, self->scheduler_stack_, self->scheduler_stack_size_);
#endif
#if defined(RPO_SIMT_TSAN)
    __tsan_switch_to_fiber(self->tsan_scheduler_, kNoSync);
#endif
    context::jump_fcontext(self->scheduler_, nullptr);
    abort(); /* a finished fiber is never resumed */
}

void Fiber::resume() {
#if defined(__SANITIZE_ADDRESS__)
    void *scheduler_fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, stack_, kStackSize);
#endif
#if defined(RPO_SIMT_TSAN)
    tsan_scheduler_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_fiber_, kNoSync);
#endif
    const context::transfer_t back = context::jump_fcontext(context_, this);
    context_ = back.fctx;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

void Fiber::yield() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fake_stack_, scheduler_stack_, scheduler_stack_size_);
#endif
#if defined(RPO_SIMT_TSAN)
    __tsan_switch_to_fiber(tsan_scheduler_, kNoSync);
#endif
    const context::transfer_t back = context::jump_fcontext(scheduler_, nullptr);
    scheduler_ = back.fctx;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack_, &scheduler_stack_, &scheduler_stack_size_);
#endif
}

#if defined(RPO_SIMT_TSAN)
void acquire(void *object) {
    __tsan_acquire(object);
}
void release(void *object) {
    __tsan_release(object);
}
#else
void acquire(void *) {}
void release(void *) {}
#endif

} // namespace simt
