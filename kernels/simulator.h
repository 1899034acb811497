// Runs CUDA device code on the CPU. A `.cu` file that includes "tinynet.cuh" compiles with a host
// compiler (C++17) instead of nvcc; this header supplies the words of CUDA and the machine below them:
//
//     fibers      every CUDA thread of a block has a stack of its own; a switch takes a few ns
//     scheduler   blocks run in turn; a thread runs until it must wait for others (a barrier, a
//                 shuffle), then the next one does. When nobody can go on, the kernel is wrong.
//     words       threadIdx, __syncthreads, shuffles, votes, atomics, shared memory, mathematics
//     launch      arguments come from Python in 16-byte slots; a fault goes back as a message
//
// Two modes. Fast: In<T>, Out<T> and SHARED are plain pointers. Checking (-DTINYNET_CHECK=1): they are
// the spans of checks.h, and each launch runs with its threads in several orders that must agree.
#ifndef TINYNET_SIMULATOR_H
#define TINYNET_SIMULATOR_H

#include <initializer_list>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tuple>
#include <type_traits>
#include <utility>

#ifndef TINYNET_CHECK
#define TINYNET_CHECK 0
#endif

template <typename T, int N> struct Vec;    // defined in tinynet.cuh
struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
constexpr int warpSize = 32;

#define NOINLINE __attribute__((noinline))    // compiled once, not at each use: half the time to compile

namespace simulator {

// Where in the .cu file: as a default argument it is the line of the caller.
struct Where { const char* file; int line; };
#define WHERE simulator::Where where = {__builtin_FILE(), __builtin_LINE()}

// ---- Fibers --------------------------------------------------------------------------------------
// `simulator_switch(save, load)` stores the stack pointer of whoever runs in *save and goes on where
// `load` was stored. Only what the calling convention makes the callee keep has to be pushed.

constexpr size_t STACK = 64 * 1024;    // a page at its end is closed, so that overflow is a fault

extern "C" __attribute__((visibility("hidden"))) void simulator_switch(void** save, void* load)
    __asm__("simulator_switch");

#if defined(__x86_64__) && !defined(SIMULATOR_UCONTEXT)
__asm__(R"(
    .text
    .p2align 4
simulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

static void* fresh_fiber(char* stack_end, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack_end);
    *--top = nullptr;                              // keeps the stack aligned at entry, as after a call
    *--top = reinterpret_cast<void*>(entry);       // `ret` goes there
    return top - 6;                                // the six registers hold anything
}
#elif defined(__aarch64__) && !defined(SIMULATOR_UCONTEXT)
__asm__(R"(
    .text
    .p2align 2
simulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");

static void* fresh_fiber(char* stack_end, void (*entry)()) {
    void** frame = reinterpret_cast<void**>(stack_end - 160);
    frame[10] = nullptr;                           // x29, the frame pointer: the end of the chain
    frame[11] = reinterpret_cast<void*>(entry);    // x30, where `ret` goes
    return frame;
}
#else    // any other processor: the C library's contexts, which cost two system calls a switch
}
#include <ucontext.h>
namespace simulator {
extern "C" void simulator_switch(void** save, void* load) {
    ucontext_t here;
    *save = &here;
    swapcontext(&here, static_cast<ucontext_t*>(load));
}

static void* fresh_fiber(char* stack_end, void (*entry)()) {
    constexpr size_t usable = STACK - 16384;
    auto* context = reinterpret_cast<ucontext_t*>(stack_end - 4096);
    getcontext(context);
    context->uc_stack.ss_sp = stack_end - 4096 - usable;
    context->uc_stack.ss_size = usable;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    return context;
}
#endif

// ---- Scheduler -----------------------------------------------------------------------------------

constexpr int MOST_THREADS = 1024;               // of a block, as on every CUDA device
constexpr int WARPS = MOST_THREADS / warpSize;
constexpr unsigned ENDLESS_LOOP = 1u << 24;      // accesses of one thread that waits for nobody
constexpr unsigned ENDLESS_WAIT = 1u << 30;      // waits in one block

enum State : char { UNSTARTED, RUNNING, WAITING, RETURNED };
constexpr int VOTE = -1, SYNC = -2;              // as the `source` of a meeting: what is not a shuffle

struct alignas(64) Thread {      // one cache line: a switch touches two of them
    void* fiber;                 // its stack pointer while another runs
    unsigned long long value;    // what it brings to a shuffle or vote; then what it gets
    const char* what;            // what it waits in ("__syncthreads"),
    Where where;                 // at which line,
    unsigned mask;               // and with which lanes; 0: all threads of the block
    unsigned warp_sync;          // the clock at its last __syncwarp
    unsigned short x, y;         // threadIdx; z at most 63
    signed char z, source;       // source: the lane whose value it wants, or VOTE or SYNC
    State state;
};

static Thread threads[MOST_THREADS];
static Thread* self;                             // the thread that runs now
static void* host;                               // the stack that launched
static char* stacks;
static int count, order[MOST_THREADS];           // threads of a block; the order in which they start
static int started, stacks_used, returned, arrived;
static unsigned waiting_lanes[WARPS];
static Thread* ready[MOST_THREADS];              // a ring: those whose wait is over
static unsigned ready_first, ready_end;
static long long block, blocks_run;              // this block's number; all blocks since the library was loaded
static unsigned clock_, block_sync;              // barriers completed in this block; the last of the whole block
static unsigned steps, waits;                    // accesses since somebody last waited; waits of this block
static Where last_seen;                          // the last checked access
static void (*body)(void*);
static void* body_arguments;
static const char* kernel_name;
static char message[1024];                       // what went wrong; "" while all is well

static int number(const Thread* t) { return int(t - threads); }
static int warp_of(const Thread* t) { return number(t) / warpSize; }
static int lane_of(const Thread* t) { return number(t) % warpSize; }

struct Words { char text[200]; };
static Words name_of(const Thread* t) {
    Words words;
    snprintf(words.text, sizeof words.text, "thread (%u, %u, %u)", t->x, t->y, t->z);
    return words;
}

// Ends the launch: the message goes to Python, the other fibers are dropped where they stand.
[[noreturn]] __attribute__((format(printf, 2, 3))) static void fault(Where where, const char* format, ...) {
    int n = snprintf(message, sizeof message, "%s:%d: %s: %s of block (%u, %u, %u) ", where.file, where.line,
                     kernel_name, name_of(self).text, blockIdx.x, blockIdx.y, blockIdx.z);
    va_list rest;
    va_start(rest, format);
    vsnprintf(message + n, sizeof message - size_t(n), format, rest);
    void* dropped;
    simulator_switch(&dropped, host);
    __builtin_unreachable();
}

// Nobody can go on: say who waits for whom. Waits within a warp come first, since threads that stand
// at a barrier are often only the victims of those that do not come.
[[noreturn]] static void stuck() {
    for (bool whole_block : {false, true}) {
        for (self = threads; self < threads + count; self++) {
            if (self->state != WAITING || (self->mask == 0) != whole_block) continue;
            int first = whole_block ? 0 : warp_of(self) * warpSize, end = whole_block ? count : first + warpSize;
            for (int k = first; k < end; k++) {
                if (!whole_block && !(self->mask >> (k - first) & 1)) continue;
                Thread* other = &threads[k];
                if (k >= count)
                    fault(self->where, "waits in %s for lane %d, but its warp ends at lane %d: the block has"
                          " %d threads", self->what, k - first, (count - 1) % warpSize, count);
                if (other->state == RETURNED)
                    fault(self->where, "waits in %s for %s, which has returned%s", self->what,
                          name_of(other).text, whole_block ? " before this barrier" : "");
                if (other->where.line != self->where.line || other->mask != self->mask)
                    fault(self->where, "waits in %s (mask 0x%x) for %s, which waits in %s at line %d (mask 0x%x)",
                          self->what, self->mask, name_of(other).text, other->what, other->where.line,
                          other->mask);
            }
        }
    }
    abort();    // not reached: somebody waits, or the block would be over
}

static void fiber_main();

// A new fiber. Stacks all end at different places of their pages: they would share cache lines otherwise. Each is
// closed below when it is first used; all at once would use up, in 32 libraries, the mappings of a process.
static void* next_fiber() {
    static size_t closed;
    size_t k = size_t(stacks_used++);
    if (k == closed) mprotect(stacks + STACK * closed++, 4096, PROT_NONE);
    return fresh_fiber(stacks + STACK * (k + 1) - k * 320 % 4096, fiber_main);
}

static bool start_next() {    // the next thread of the block becomes `self`, on whatever stack runs
    if (started == count) return false;
    self = &threads[order[started++]];
    self->state = RUNNING;
    threadIdx = {self->x, self->y, (unsigned)self->z};
    return true;
}

// `from` waits or is done: go on with one whose wait is over, or with one that has not begun.
static void leave(Thread* from) {
    void* to;
    steps = 0;
    if (++waits > ENDLESS_WAIT) fault(from->where, "goes round this %s without end", from->what);
    if (ready_first != ready_end) {
        self = ready[ready_first++ % MOST_THREADS];
        self->state = RUNNING;
        threadIdx = {self->x, self->y, (unsigned)self->z};
        to = self->fiber;
    } else if (start_next()) {
        to = next_fiber();
    } else if (returned == count) {
        self = nullptr;
        to = host;
    } else {
        stuck();
    }
    if (from != self) simulator_switch(&from->fiber, to);
}

static void fiber_main() {
    for (;;) {
        body(body_arguments);
        self->state = RETURNED;
        returned++;
        if (!start_next()) leave(self);    // a kernel that never waits needs one stack for all threads
    }
}

static void release(Thread* t) { ready[ready_end++ % MOST_THREADS] = t; }

static void begin_wait(const char* what, unsigned mask, Where where) {
    self->state = WAITING;
    self->what = what;
    self->mask = mask;
    self->where = where;
}

// All threads of the block meet here.
static void barrier(Where where) {
    begin_wait("__syncthreads", 0, where);
    if (++arrived < count) {
        leave(self);
        return;
    }
    for (int k = 0; k < count; k++)
        if (threads[k].where.line != where.line)
            fault(where, "is at another __syncthreads than %s, which waits at line %d",
                  name_of(&threads[k]).text, threads[k].where.line);
    arrived = 0;
    block_sync = ++clock_;
    for (int k = 0; k < count; k++) release(&threads[order[k]]);
    leave(self);
}

// All lanes in `mask` meet here; each brings a value and gets the one of lane `source`, or a vote.
static unsigned long long meet(const char* what, unsigned mask, unsigned long long value, int source, Where where) {
    unsigned& waiting = waiting_lanes[warp_of(self)];
    Thread* warp = &threads[warp_of(self) * warpSize];
    if (!(mask >> lane_of(self) & 1))
        fault(where, "calls %s with mask 0x%x, which leaves out its own lane %d", what, mask, lane_of(self));
    begin_wait(what, mask, where);
    self->value = value;
    self->source = (signed char)source;
    waiting |= 1u << lane_of(self);
    bool complete = (waiting & mask) == mask;
    for (int k = 0; complete && k < warpSize; k++)
        if (mask >> k & 1) complete = warp[k].mask == mask && warp[k].where.line == where.line;
    if (complete) {
        waiting &= ~mask;
        unsigned long long brought[warpSize], votes = 0;
        for (int k = 0; k < warpSize; k++) {
            brought[k] = warp[k].value;
            if (mask >> k & 1 && brought[k]) votes |= 1ull << k;
        }
        if (source == SYNC) clock_++;
        for (int k = 0; k < warpSize; k++) {
            if (!(mask >> k & 1)) continue;
            Thread& t = warp[k];
            if (t.source >= 0 && !(mask >> t.source & 1)) {
                self = &t;
                fault(where, "takes the value of lane %d, which is not in mask 0x%x", t.source, mask);
            }
            t.value = t.source >= 0 ? brought[t.source] : votes;
            if (source == SYNC) t.warp_sync = clock_;
            release(&t);
        }
    }
    leave(self);
    return self->value;
}

// ---- Launch --------------------------------------------------------------------------------------

struct Launch { unsigned grid[3], block[3]; long long shared_bytes, orders; };
struct Slot { void* data; long long count; };            // an array; or the bytes of a scalar
struct Parameter { const char* name; char access; };     // of an array: 'I'n, 'O'ut or 'B'oth

static long long shared_bytes, static_bytes;             // dynamic and static shared memory of a block
constexpr long long MOST_STATIC = 48 * 1024;

// The k-th of several permutations of 0 … n-1: ascending, descending, then random ones.
template <typename Int> static void permute(Int* p, long long n, int k) {
    for (long long i = 0; i < n; i++) p[i] = Int(k == 1 ? n - 1 - i : i);
    unsigned long long random = 0x9e3779b97f4a7c15ull * unsigned(k);
    for (long long i = n - 1; k > 1 && i > 0; i--) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        long long j = (long long)((random >> 33) % (unsigned long long)(i + 1));
        Int keep = p[i];
        p[i] = p[j];
        p[j] = keep;
    }
}

static void run_block() {
    started = stacks_used = returned = arrived = 0;
    ready_first = ready_end = 0;
    waits = steps = 0;
    clock_ = block_sync = 1;
    static_bytes = 0;
    blocks_run++;
    memset(waiting_lanes, 0, sizeof waiting_lanes);
    for (int k = 0; k < count; k++) threads[k].warp_sync = 0;
    start_next();
    simulator_switch(&host, next_fiber());
}

static void run_grid(int kind) {
    long long blocks = (long long)gridDim.x * gridDim.y * gridDim.z;
    auto* sequence = static_cast<long long*>(kind ? malloc(sizeof(long long) * size_t(blocks)) : nullptr);
    if (sequence) permute(sequence, blocks, kind);
    permute(order, count, kind);
    for (long long k = 0; k < blocks && !message[0]; k++) {
        block = sequence ? sequence[k] : k;
        blockIdx = {unsigned(block % gridDim.x), unsigned(block / gridDim.x % gridDim.y),
                    unsigned(block / gridDim.x / gridDim.y)};
        run_block();
    }
    free(sequence);
}

// A kernel that runs into a closed page or divides an integer by zero must not end Python. The handler
// runs on a stack of its own and simply goes back to the host's, like every other fault.
static pthread_t launching;
static void on_signal(int signal, siginfo_t* info, void*) {
    if (!pthread_equal(pthread_self(), launching)) raise(SIGABRT);
    const char* at = static_cast<const char*>(info->si_addr);
    bool full = signal != SIGFPE && at >= stacks && at < stacks + STACK * MOST_THREADS;
    fault(last_seen, "was stopped after this line by signal %d (%s)", signal,
          signal == SIGFPE ? "an integer division by zero"
          : full ? "its local variables and calls take more than the 64 kB of a simulated thread: a full stack"
                 : "an access far outside of every array");
}

struct Signals {
    static constexpr int caught[4] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction before[4];
    stack_t stack_before;
    Signals() {
        static char handler_stack[32 * 1024];
        stack_t stack = {};
        stack.ss_sp = handler_stack;
        stack.ss_size = sizeof handler_stack;
        sigaltstack(&stack, &stack_before);
        struct sigaction action = {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_ONSTACK | SA_NODEFER | SA_SIGINFO;
        launching = pthread_self();
        for (int k = 0; k < 4; k++) sigaction(caught[k], &action, &before[k]);
    }
    ~Signals() {
        for (int k = 0; k < 4; k++) sigaction(caught[k], &before[k], nullptr);
        sigaltstack(&stack_before, nullptr);
    }
};

static void make_stacks() {
    size_t bytes = STACK * MOST_THREADS;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
    stacks = memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
}

}  // namespace simulator

#if TINYNET_CHECK
#include "checks.h"
#else
namespace simulator {
struct Arrays {                                          // fast mode: nothing is known about arrays
    void add(Parameter, void*, long long, int) {}
    void run(int) { run_grid(0); }
};
template <typename T> struct Argument {
    static constexpr size_t bytes = sizeof(T);
    static T take(const Slot* slot, Parameter, Arrays&) {
        T value;
        memcpy(&value, slot, sizeof value);
        return value;
    }
};

// Shared memory is static memory here. The first thread of a block that comes by fills it with NaN.
template <typename T, int n> struct SharedArray {
    alignas(16) char bytes[n * sizeof(T)];
    long long filled;
    T* enter() {
        if (filled != blocks_run) memset(bytes, 0xff, sizeof bytes);
        filled = blocks_run;
        return reinterpret_cast<T*>(bytes);
    }
};
alignas(16) static char dynamic_bytes[228 * 1024];
static long long dynamic_filled;
template <typename T> static T* dynamic_shared() {
    if (dynamic_filled != blocks_run) memset(dynamic_bytes, 0xff, size_t(shared_bytes));
    dynamic_filled = blocks_run;
    return reinterpret_cast<T*>(dynamic_bytes);
}
template <typename T> static T& atomic_cell(T* address) { return *address; }
}  // namespace simulator

template <typename T> using In = const T*;
template <typename T> using Out = T*;
template <typename T> using InOut = T*;
template <typename T> using Shared = T*;
#define SHARED(T, name, n)                         \
    static simulator::SharedArray<T, (n)> name##_; \
    T* const name = name##_.enter()
#define SHARED_2D(T, name, rows, cols)                       \
    static simulator::SharedArray<T, (rows) * (cols)> name##_; \
    T(*const name)[cols] = reinterpret_cast<T(*)[cols]>(name##_.enter())
#define DYNAMIC_SHARED(T, name) T* const name = simulator::dynamic_shared<T>()
template <int N, typename T> static Vec<T, N> load(const T* x, long long i) {
    Vec<T, N> v;
    memcpy(&v, x + i, sizeof v);
    return v;
}
template <typename T, int N> static void store(T* y, long long i, const Vec<T, N>& v) {
    memcpy(y + i, &v, sizeof v);
}
#endif

namespace simulator {

static const char* run(Arrays& arrays, const char* name, const Launch* how, void (*thread)(void*), void* arguments) {
    if (!stacks) make_stacks();
    if (!stacks) return "no memory for the stacks of the simulator's threads";
    gridDim = {how->grid[0], how->grid[1], how->grid[2]};
    blockDim = {how->block[0], how->block[1], how->block[2]};
    count = int(blockDim.x * blockDim.y * blockDim.z);
    shared_bytes = how->shared_bytes;
    kernel_name = name;
    body = thread;
    body_arguments = arguments;
    message[0] = 0;
    last_seen = {TINYNET_CHECK ? "<before the first access>" : "<a line that checking mode names>", 0};
    for (int k = 0; k < count; k++)
        threads[k].x = (unsigned short)(unsigned(k) % blockDim.x),
        threads[k].y = (unsigned short)(unsigned(k) / blockDim.x % blockDim.y),
        threads[k].z = (signed char)(unsigned(k) / blockDim.x / blockDim.y);
    Signals signals;
    arrays.run(int(how->orders));
    return message;
}

// Entry<kernel>::launch is what Python calls: the launcher writes one such call for each kernel of a file.
// Signature reads the arguments, each from the next 16-byte slots; kernels that take the same share it.
template <typename... P> struct Signature {
    using Arguments = std::tuple<P...>;
    NOINLINE static const char* launch(void (*thread)(void*), const char* name, const Parameter* parameters,
                                       const Launch* how, const Slot* slots) {
        static Arrays arrays;
        arrays = Arrays();
        Arguments arguments{take<P>(arrays, parameters, slots)...};
        return run(arrays, name, how, thread, &arguments);
    }
    template <typename A> static A take(Arrays& arrays, const Parameter*& parameter, const Slot*& slot) {
        const Slot* mine = slot;
        slot += (Argument<A>::bytes + sizeof(Slot) - 1) / sizeof(Slot);
        return Argument<A>::take(mine, *parameter++, arrays);
    }
};
template <auto kernel> struct Entry;
template <typename... P, void (*kernel)(P...)> struct Entry<kernel> {
    template <size_t... k> static void call(std::tuple<P...>& a, std::index_sequence<k...>) {
        kernel(std::get<k>(a)...);
    }
    static void thread(void* a) { call(*static_cast<std::tuple<P...>*>(a), std::index_sequence_for<P...>()); }
    static const char* launch(const char* name, const Parameter* parameters, const Launch* how, const Slot* slots) {
        return Signature<P...>::launch(thread, name, parameters, how, slots);
    }
};

}  // namespace simulator

// ---- The words of CUDA ---------------------------------------------------------------------------

#define __global__ static
#define __device__
#define __host__
#define __shared__ static                     // raw CUDA runs as it is; only SHARED is filled and checked
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

static inline void __syncthreads(WHERE) { simulator::barrier(where); }
static inline void __syncwarp(unsigned mask = 0xffffffffu, WHERE) {
    simulator::meet("__syncwarp", mask, 0, simulator::SYNC, where);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

static inline unsigned __ballot_sync(unsigned mask, int vote, WHERE) {
    return unsigned(simulator::meet("__ballot_sync", mask, vote != 0, simulator::VOTE, where));
}
static inline int __any_sync(unsigned mask, int vote, WHERE) {
    return simulator::meet("__any_sync", mask, vote != 0, simulator::VOTE, where) != 0;
}
static inline int __all_sync(unsigned mask, int vote, WHERE) {
    return simulator::meet("__all_sync", mask, vote != 0, simulator::VOTE, where) == mask;
}

namespace simulator {
template <typename T> static T shuffle(const char* what, unsigned mask, T value, int source, int width, Where where) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes: read a shared element into a variable first");
    unsigned long long bits = 0;
    int lane = lane_of(self), first = lane & ~(width - 1);
    memcpy(&bits, &value, sizeof value);
    bits = meet(what, mask, bits, source < first || source >= first + width ? lane : source, where);
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline int this_lane() { return lane_of(self); }
}  // namespace simulator

template <typename T> static T __shfl_sync(unsigned mask, T value, int source, int width = 32, WHERE) {
    int first = simulator::this_lane() & ~(width - 1);
    return simulator::shuffle("__shfl_sync", mask, value, first + (source & (width - 1)), width, where);
}
template <typename T> static T __shfl_up_sync(unsigned mask, T value, unsigned d, int width = 32, WHERE) {
    return simulator::shuffle("__shfl_up_sync", mask, value, simulator::this_lane() - int(d), width, where);
}
template <typename T> static T __shfl_down_sync(unsigned mask, T value, unsigned d, int width = 32, WHERE) {
    return simulator::shuffle("__shfl_down_sync", mask, value, simulator::this_lane() + int(d), width, where);
}
template <typename T> static T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, WHERE) {
    return simulator::shuffle("__shfl_xor_sync", mask, value, simulator::this_lane() ^ bits, width, where);
}

// Nobody interrupts a fiber, so an atomic is an ordinary update (that the checks know as atomic).
#define ATOMIC(name, result)                                               \
    template <typename P, typename V> static auto name(P address, V operand) { \
        auto& cell = simulator::atomic_cell(address);                      \
        auto old = cell, value = decltype(old)(operand);                   \
        cell = decltype(old)(result);                                      \
        return old;                                                        \
    }
ATOMIC(atomicAdd, old + value)
ATOMIC(atomicSub, old - value)
ATOMIC(atomicExch, value)
ATOMIC(atomicMin, value < old ? value : old)
ATOMIC(atomicMax, old < value ? value : old)
ATOMIC(atomicAnd, old & value)
ATOMIC(atomicOr, old | value)
ATOMIC(atomicXor, old ^ value)
#undef ATOMIC
template <typename P, typename V, typename W> static auto atomicCAS(P address, V compare, W operand) {
    auto& cell = simulator::atomic_cell(address);
    auto old = cell;
    if (old == decltype(old)(compare)) cell = decltype(old)(operand);
    return old;
}

#define FOR_EACH_NUMBER(X) X(int) X(unsigned) X(long) X(unsigned long) X(long long) X(unsigned long long) X(float) X(double)
#define MIN_MAX(T)                                                     \
    static inline T min(T a, T b) { return b < a || a != a ? b : a; }  \
    static inline T max(T a, T b) { return a < b || a != a ? b : a; }
FOR_EACH_NUMBER(MIN_MAX)
#undef MIN_MAX

#define __expf expf
#define __logf logf
#define __log2f log2f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __fdividef(a, b) ((a) / (b))
#define rsqrtf(x) (1.0f / sqrtf(x))
#define rsqrt(x) (1 / sqrt(x))
static inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

namespace simulator {
template <typename To, typename From> static To bits_of(From x) {
    static_assert(sizeof(To) == sizeof(From), "");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
}  // namespace simulator
static inline int __float_as_int(float x) { return simulator::bits_of<int>(x); }
static inline float __int_as_float(int x) { return simulator::bits_of<float>(x); }
static inline unsigned __float_as_uint(float x) { return simulator::bits_of<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return simulator::bits_of<float>(x); }

// The 16-bit types only store: they become floats to be calculated with, and round to even on the way
// back. half: 5 bits of exponent and 10 of mantissa; bfloat16: the upper half of a float.
struct half {
    unsigned short bits;
    half() = default;
    half(float x) {
        unsigned u = __float_as_uint(x), sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
        float a = __uint_as_float(magnitude);
        if (magnitude > 0x7f800000) bits = 0x7e00;                                     // NaN
        else if (a >= 65520) bits = 0x7c00;                                            // too large: infinity
        else if (a < 0x1p-14f) bits = (unsigned short)lrintf(a * 0x1p24f);             // subnormal
        else bits = (unsigned short)(((magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13) - (112 << 10));
        bits = (unsigned short)(bits | sign);
    }
    operator float() const {
        unsigned sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
        if (magnitude < 0x400) return __uint_as_float(sign | __float_as_uint(float(magnitude) * 0x1p-24f));
        return __uint_as_float(sign | ((magnitude << 13) + (magnitude < 0x7c00 ? 112u << 23 : 224u << 23)));
    }
};
struct bfloat16 {
    unsigned short bits;
    bfloat16() = default;
    bfloat16(float x) {
        unsigned u = __float_as_uint(x);
        bits = (unsigned short)(x != x ? 0x7fc0 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
    operator float() const { return __uint_as_float(unsigned(bits) << 16); }
};

#undef WHERE

#endif
