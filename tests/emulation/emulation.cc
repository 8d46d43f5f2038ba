/* Blocks of fibers: the scheduler of the emulation. */
#include "tests/emulation/emulation.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <mutex>
#include <random>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace
{
constexpr size_t SHARED_MOST = 227 * 1024, CANARY = 1024;
} // namespace

alignas(128) unsigned char shared_memory[SHARED_MOST + CANARY];

size_t emulated_shared_bytes()
{
    static const char *wanted = getenv("EMULATION_SHARED");
    static const size_t bytes = wanted ? std::min((size_t)atol(wanted), SHARED_MOST) : SHARED_MOST;
    return bytes;
}

namespace
{

constexpr size_t PAGE = 4096, STACK = 256 * 1024, THREADS = 1024, LANES = 32;
enum class state { runnable, barrier, exchange, done };
enum order { FORWARDS, BACKWARDS, RANDOM };

struct fiber {
    jmp_buf context;
    ucontext_t start;
    state waits = state::done;
    dim3 index;
    unsigned parity = 0; /* of its warp's exchanges */
    emulated_copies copies;
};

struct warp {
    alignas(16) unsigned char slots[2][LANES][EXCHANGE];
    size_t bytes[LANES];
};

/* Of the launch that runs now: there is one in the program. */
std::mutex one_launch;
fiber *fibers;
warp warps[THREADS / LANES];
fiber *current;
jmp_buf scheduler;
const std::function<void()> *body; /* NULL: none runs */
const void *kernel;
size_t started; /* fibers that have a stack */
unsigned flags, flags_of_all;
std::mt19937 numbers(2026);

void crashed(int signal)
{
    ::signal(signal, SIG_DFL);
    if (!body) return; /* not a kernel's: it happens again, and ends the program */
    emulation_fail(signal == SIGILL ? "reads or writes at an address that is not aligned"
                                    : "reads or writes where there is no memory");
}

void wait_for(state what)
{
    current->waits = what;
    if (!_setjmp(current->context)) _longjmp(scheduler, 1);
    threadIdx = current->index;
}

void fiber_main()
{
    for (;;) {
        threadIdx = current->index;
        (*body)();
        if (!current->copies.waiting.empty()) emulation_fail("ends before its copies to shared memory have come");
        wait_for(state::done);
    }
}

/* A stack above a page that cannot be written, and to the first wait: the fiber comes back before it has done anything.
 */
void start_one(fiber &f)
{
    static const std::function<void()> nothing = [] {};
    unsigned char *stack = static_cast<unsigned char *>(
        mmap(nullptr, PAGE + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stack == MAP_FAILED || mprotect(stack, PAGE, PROT_NONE) || getcontext(&f.start))
        emulation_fail("no memory for a thread");
    f.start.uc_stack.ss_sp = stack + PAGE;
    f.start.uc_stack.ss_size = STACK;
    f.start.uc_link = nullptr;
    makecontext(&f.start, fiber_main, 0);
    current = &f;
    body = &nothing;
    if (!_setjmp(scheduler)) setcontext(&f.start);
}

/* Signals have a stack of their own, of each host thread: a kernel's may be what is full. */
void catch_crashes()
{
    static thread_local unsigned char room[64 * 1024];
    static thread_local bool ready;
    if (ready) return;
    stack_t stack = {};
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    sigaltstack(&stack, nullptr);
    struct sigaction action = {};
    action.sa_handler = crashed;
    action.sa_flags = SA_ONSTACK;
    for (int caught : {SIGILL, SIGSEGV, SIGBUS})
        sigaction(caught, &action, nullptr);
    ready = true;
}

void start(size_t count)
{
    catch_crashes();
    if (!fibers) fibers = new fiber[THREADS];
    for (; started < count; started++)
        start_one(fibers[started]);
}

void resume(fiber &f)
{
    current = &f;
    if (!_setjmp(scheduler)) _longjmp(f.context, 1);
}

bool all(size_t first, size_t count, state what)
{
    for (size_t i = first; i < first + count; i++)
        if (fibers[i].waits != what) return false;
    return true;
}

void release(size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++)
        fibers[i].waits = state::runnable;
}

/* Whoever has what it waited for may go on; false: nobody has. */
bool release_waiting(size_t count)
{
    bool any = false;
    for (size_t first = 0; first < count; first += LANES) {
        size_t lanes = count - first < LANES ? count - first : LANES;
        if (!all(first, lanes, state::exchange)) continue;
        if (lanes < LANES) emulation_fail("a warp of less than 32 threads exchanges values");
        for (size_t i = 1; i < lanes; i++)
            if (warps[first / LANES].bytes[i] != warps[first / LANES].bytes[0])
                emulation_fail("lanes of a warp are at different exchanges");
        release(first, lanes);
        any = true;
    }
    if (!any && all(0, count, state::barrier)) {
        release(0, count);
        flags_of_all = flags;
        flags = 0;
        any = true;
    }
    return any;
}

int mode()
{
    static const char *wanted = getenv("EMULATION_ORDER");
    static const int mode = wanted ? atoi(wanted) : FORWARDS;
    return mode;
}

/* 0 .. order.size() - 1 as EMULATION_ORDER says: 0 forwards, 1 backwards, 2 at random, anew each time. */
void put_in_order(std::vector<size_t> &order)
{
    size_t count = order.size();
    for (size_t i = 0; i < count; i++)
        order[i] = mode() == BACKWARDS ? count - 1 - i : i;
    for (size_t i = count; mode() == RANDOM && i > 1; i--)
        std::swap(order[i - 1], order[numbers() % i]);
}

/* In random order warps are held back for some rounds, so that others run ahead of them as far as barriers let them. */
struct holds {
    unsigned rounds[THREADS / LANES] = {};

    void next()
    {
        for (unsigned &left : rounds) {
            if (left)
                left--;
            else if (numbers() % 8 == 0)
                left = (unsigned)(numbers() % 64);
        }
    }

    /* false: nobody was held */
    bool release()
    {
        bool any = false;
        for (unsigned &left : rounds) {
            any = any || left;
            left = 0;
        }
        return any;
    }
};

void run_block(size_t count)
{
    static std::vector<size_t> order;
    holds held;
    order.resize(count);
    for (size_t i = 0; i < count; i++) {
        fibers[i].waits = state::runnable;
        fibers[i].parity = 0;
        fibers[i].copies.groups = 0;
    }
    while (!all(0, count, state::done)) {
        bool ran = false;
        put_in_order(order);
        if (mode() == RANDOM) held.next();
        for (size_t i : order) {
            if (fibers[i].waits != state::runnable || held.rounds[i / LANES]) continue;
            resume(fibers[i]);
            ran = true;
        }
        if (!release_waiting(count) && !ran && !held.release())
            emulation_fail("threads wait for others that do not come");
    }
}

void check_launch(dim3 grid, dim3 block, size_t shared)
{
    size_t threads = (size_t)block.x * block.y * block.z;
    if (threads == 0 || threads > THREADS || block.z > 64) emulation_fail("a block of that size cannot be launched");
    if (grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535)
        emulation_fail("a grid of that size cannot be launched");
    if (shared > emulated_shared_bytes()) emulation_fail("more shared memory than a block can have");
}

void run_grid(dim3 grid, size_t count, size_t shared)
{
    static std::vector<size_t> order;
    order.resize((size_t)grid.x * grid.y * grid.z);
    put_in_order(order);
    for (size_t b : order) {
        blockIdx = dim3((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y));
        memset(shared_memory, 0xff, shared); /* NaN as a float, as a bfloat16 and as a double */
        memset(shared_memory + shared, 0xa5, CANARY);
        run_block(count);
        for (size_t i = 0; i < CANARY; i++)
            if (shared_memory[shared + i] != 0xa5) emulation_fail("writes behind its shared memory");
    }
}

} // namespace

void emulation_fail(const char *what)
{
    Dl_info info = {};
    char command[4096], name[1024] = "a kernel\n";
    body = nullptr;
    if (kernel && dladdr(kernel, &info)) {
        size_t offset = (size_t)(static_cast<const char *>(kernel) - static_cast<const char *>(info.dli_fbase));
        snprintf(command, sizeof command, "addr2line -C -f -e '%s' 0x%zx", info.dli_fname, offset);
        FILE *lines = popen(command, "r");
        if (lines && !fgets(name, sizeof name, lines)) strcpy(name, "a kernel\n");
    }
    name[strcspn(name, "\n")] = 0;
    fprintf(stderr, "emulation: %s: block %u %u %u, thread %u %u %u: %s\n", name, blockIdx.x, blockIdx.y, blockIdx.z,
            threadIdx.x, threadIdx.y, threadIdx.z, what);
    fflush(stdout);
    _Exit(EMULATION_FAILED);
}

unsigned emulated_barrier(bool flag)
{
    flags += flag;
    wait_for(state::barrier);
    return flags_of_all;
}

unsigned emulated_lane()
{
    return (unsigned)(emulated_thread() % LANES);
}

size_t emulated_thread()
{
    return (size_t)(current - fibers);
}

emulated_copies &emulated_copies_here()
{
    return current->copies;
}

const unsigned char *emulated_exchange(unsigned mask, const void *mine, size_t bytes)
{
    size_t at = emulated_thread();
    warp &w = warps[at / LANES];
    if (mask != 0xffffffffu) emulation_fail("a warp function is for all 32 lanes");
    unsigned parity = current->parity ^= 1; /* those who still read the last exchange read the other half */
    memcpy(w.slots[parity][at % LANES], mine, bytes);
    w.bytes[at % LANES] = bytes;
    wait_for(state::exchange);
    return w.slots[parity][0];
}

void emulate(dim3 grid, dim3 block, size_t shared, const void *of, const std::function<void()> &call)
{
    std::lock_guard<std::mutex> guard(one_launch);
    kernel = of;
    check_launch(grid, block, shared);
    size_t count = (size_t)block.x * block.y * block.z;
    start(count);
    body = &call;
    gridDim = grid;
    blockDim = block;
    for (size_t i = 0; i < count; i++)
        fibers[i].index =
            dim3((unsigned)(i % block.x), (unsigned)(i / block.x % block.y), (unsigned)(i / block.x / block.y));
    run_grid(grid, count, shared);
    body = nullptr;
}
