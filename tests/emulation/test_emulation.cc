/* The emulation itself: kernels that are right give what they should in every order of threads, and each thing that a
 * device would not forgive, or that would give other numbers there, is seen. */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/cuda.cuh"
#include "mma_emulation.h"

namespace
{

enum { THREADS = 96 };
float in[1024], out[1024];

template <typename... Parameters, typename... Arguments>
void run(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, Arguments... arguments)
{
    cudaLaunchConfig_t config = {grid, block, shared, nullptr};
    cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

/* ---- right ---- */

__global__ void sum(const float *x, float *y)
{
    y[blockIdx.x * blockDim.x + threadIdx.x] = block_sum(x[threadIdx.x], reinterpret_cast<float *>(shared_memory));
}

bool sums_are_right()
{
    float expected = 0;
    for (int i = 0; i < THREADS; i++)
        expected += in[i] = (float)(i % 7);
    run(sum, 3, THREADS, 32 * sizeof(float), in, out);
    for (int i = 0; i < 3 * THREADS; i++)
        if (out[i] != expected) return false;
    return true;
}

__global__ void reverse(const float *x, float *y, bool wait)
{
    float *all = reinterpret_cast<float *>(shared_memory);
    all[threadIdx.x] = x[threadIdx.x];
    if (wait) __syncthreads();
    y[threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}

bool reverses(bool wait)
{
    for (int i = 0; i < THREADS; i++)
        in[i] = (float)i;
    run(reverse, 1, THREADS, THREADS * sizeof(float), in, out, wait);
    for (int i = 0; i < THREADS; i++)
        if (out[i] != (float)(THREADS - 1 - i)) return false;
    return true;
}

__global__ void votes(float *y)
{
    y[threadIdx.x] = (float)__syncthreads_count(threadIdx.x % 3 == 0) +
                     (__syncthreads_or(threadIdx.x == 5) && !__syncthreads_and(threadIdx.x != 5) ? 0.5f : 0) +
                     (__ballot_sync(ALL_LANES, threadIdx.x % 2) == 0xaaaaaaaau ? 0.25f : 0);
}

bool votes_are_right()
{
    run(votes, 1, THREADS, 0, out);
    for (int i = 0; i < THREADS; i++)
        if (out[i] != THREADS / 3 + 0.75f) return false;
    return true;
}

/* c[16][8] = a[16][16] b[16][8] by fragments as ldmatrix gives them, b transposed out of its rows. */
__global__ void multiply(const bf16 *a, const bf16 *b, float *c)
{
    bf16 *rows = reinterpret_cast<bf16 *>(shared_memory), *columns = rows + 256;
    unsigned lane = threadIdx.x;
    uint32_t x[4], y[2];
    float d[4] = {0, 0, 0, 0};
    copy_async_16(rows + 8 * lane, a + 8 * lane);
    copy_async_16(columns + 8 * (lane % 16), b + 8 * (lane % 16));
    copy_async_commit();
    copy_async_wait<0>();
    __syncwarp();
    ldmatrix_x4(x, rows + lane % 16 * 16 + lane / 16 * 8);
    ldmatrix_x2_transposed(y, columns + lane % 16 * 8);
    mma_16x8x16(d, x, y);
    for (unsigned i = 0; i < 4; i++)
        c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}

bool products_are_right()
{
    alignas(16) static bf16 a[256], b[128];
    for (int i = 0; i < 256; i++)
        a[i] = rounded<bf16>((float)(i * 7 % 11 - 5));
    for (int i = 0; i < 128; i++)
        b[i] = rounded<bf16>((float)(i * 5 % 13 - 6));
    run(multiply, 1, 32, 1024, a, b, out);
    for (int i = 0; i < 128; i++) {
        float expected = 0;
        for (int k = 0; k < 16; k++)
            expected += number(a[i / 8 * 16 + k]) * number(b[k * 8 + i % 8]);
        if (out[i] != expected) return false;
    }
    return true;
}

bool bf16_is_right()
{
    return number(rounded<bf16>(1.00390625f)) == 1.0f && number(rounded<bf16>(1.01171875f)) == 1.015625f &&
           std::isnan(number(rounded<bf16>(NAN))) && std::isinf(number(rounded<bf16>(3.4e38f)));
}

/* ---- wrong ---- */

__global__ void one_stays_away()
{
    if (threadIdx.x) __syncthreads();
}

__global__ void lane_stays_away(float *y)
{
    if (threadIdx.x != 40) y[threadIdx.x] = warp_sum(1.0f);
}

__global__ void half_a_warp(float *y)
{
    y[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 1);
}

__global__ void overrun()
{
    shared_memory[128 + threadIdx.x] = 1;
}

__global__ void misaligned(const float *x, float *y)
{
    *reinterpret_cast<vector<float> *>(y) = *reinterpret_cast<const vector<float> *>(x + 1);
}

__global__ void astray(float *y)
{
    y[threadIdx.x] = 1;
}

__global__ void deep(float *y, int depth) // NOLINT(misc-no-recursion)
{
    volatile float room[4096];
    room[0] = y[0];
    if (depth) deep(y, depth - 1);
    y[0] = room[0];
}

__global__ void unfinished(const float *x)
{
    copy_async_16(shared_memory, x);
    copy_async_commit();
}

/* What `body` says on stderr before it ends the program, "" where it returns false, "right" where true. */
std::string in_a_process(int order, const std::function<bool()> &body)
{
    int ends[2], status;
    char text[1024], number[2] = {(char)('0' + order), 0};
    if (pipe(ends)) return "no pipe";
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        setenv("EMULATION_ORDER", number, 1);
        _exit(body() ? 0 : 1);
    }
    close(ends[1]);
    std::string said;
    for (ssize_t n; (n = read(ends[0], text, sizeof text)) > 0;)
        said.append(text, (size_t)n);
    close(ends[0]);
    waitpid(child, &status, 0);
    if (!WIFEXITED(status)) return "a signal";
    if (WEXITSTATUS(status) == EMULATION_FAILED) return said;
    return WEXITSTATUS(status) ? "" : "right";
}

int check(bool as_expected, const char *what)
{
    if (!as_expected) printf("FAILED  %s\n", what);
    return as_expected ? 0 : 1;
}

int check_right()
{
    int failed = 0, seen = 0;
    for (int order = 0; order < 3; order++) {
        failed += check(in_a_process(order, sums_are_right) == "right", "sums of a block");
        failed += check(in_a_process(order, [] { return reverses(true); }) == "right", "values through shared memory");
        failed += check(in_a_process(order, votes_are_right) == "right", "votes");
        failed += check(in_a_process(order, products_are_right) == "right", "products of fragments");
        seen += in_a_process(order, [] { return reverses(false); }) != "right";
    }
    failed += check(bf16_is_right(), "rounding to bf16");
    return failed + check(seen == 3, "a barrier that is not there, in every order");
}

/* The line names the kernel and says `why`. */
int check_wrong(const char *name, const char *why, const std::function<void()> &launch)
{
    std::string said = in_a_process(0, [&] {
        launch();
        return true;
    });
    bool seen = said.find(why) != std::string::npos && said.find(name) != std::string::npos;
    if (!seen) printf("said: %s\n", said.c_str());
    return check(seen, name);
}

} // namespace

int main()
{
    int failed = check_right();
    failed += check_wrong("one_stays_away", "do not come", [] { run(one_stays_away, 1, THREADS, 0); });
    failed += check_wrong("lane_stays_away", "do not come", [] { run(lane_stays_away, 1, THREADS, 0, out); });
    failed += check_wrong("half_a_warp", "all 32 lanes", [] { run(half_a_warp, 1, 32, 0, out); });
    failed += check_wrong("overrun", "behind its shared memory", [] { run(overrun, 1, 32, 128 + 31); });
    failed += check_wrong("misaligned", "not aligned", [] { run(misaligned, 1, 1, 0, in, out); });
    failed += check_wrong("astray", "no memory", [] { run(astray, 1, 1, 0, reinterpret_cast<float *>(64)); });
    failed += check_wrong("deep", "no memory", [] { run(deep, 1, 1, 0, out, 100); });
    failed += check_wrong("unfinished", "copies", [] { run(unfinished, 1, 1, 16, in); });
    failed += check_wrong("astray", "block of that size", [] { run(astray, 1, 1025, 0, out); });
    failed += check_wrong("astray", "grid of that size", [] { run(astray, dim3(1, 65536), 1, 0, out); });
    failed += check_wrong("astray", "more shared memory", [] { run(astray, 1, 1, 227 * 1024 + 1, out); });
    printf(failed ? "FAILED: %d\n" : "passed\n", failed);
    return failed ? 1 : 0;
}
