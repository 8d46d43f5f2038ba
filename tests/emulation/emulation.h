/* Grids of threads on the CPU: what the CUDA headers beside this are made of.
 *
 * A block's threads are fibers of one host thread; one launch runs at a time in the whole program. A fiber runs until
 * it waits: for the block (barrier), or for the 32 lanes of its warp (exchange). No thread may stay away from the one
 * and no lane from the other. Where a kernel does what a device would not forgive, the program ends with one line that
 * names the kernel and code EMULATION_FAILED. */
#ifndef TUNELAW_TESTS_EMULATION_H
#define TUNELAW_TESTS_EMULATION_H

#include <cstddef>
#include <functional>
#include <vector>

constexpr int EMULATION_FAILED = 3;

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z)
    {
    }
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;
extern unsigned char shared_memory[];

/* body once for each thread of each block. `kernel` is where its code lies, for messages. */
void emulate(dim3 grid, dim3 block, size_t shared, const void *kernel, const std::function<void()> &body);
[[noreturn]] void emulation_fail(const char *what);
/* Shared memory that a block can have: 227 KiB as compute capability 9.0, or EMULATION_SHARED bytes, at most as many.
 */
size_t emulated_shared_bytes();

/* All threads of the block have come: how many of them with `flag`. */
unsigned emulated_barrier(bool flag);

/* What the warp's lanes brought: slots of EXCHANGE bytes, by lane, until the next exchange. */
constexpr size_t EXCHANGE = 64;
const unsigned char *emulated_exchange(unsigned mask, const void *mine, size_t bytes);
unsigned emulated_lane();
size_t emulated_thread(); /* its number in the block */

/* Copies to shared memory that a thread has asked for and not waited for. */
struct emulated_copy {
    void *to;
    const void *from; /* NULL: zeros */
    size_t group;
};
struct emulated_copies {
    std::vector<emulated_copy> waiting;
    size_t groups = 0; /* committed so far */
};
emulated_copies &emulated_copies_here();

#endif
