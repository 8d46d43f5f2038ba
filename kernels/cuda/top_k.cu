/* The k largest logits of a row: a block a row, k looks at it.
 *
 * Generation has some hundred rows and k of at most some tens; a row of 262,144 bfloat16 (512 KiB) is read from memory
 * once and k - 1 times from the cache: k E bytes a logit at most. The i-th look finds the largest that comes after the
 * last one found, in the order of values and, of equal ones, of ids, so that nothing is marked or moved. */
#include "kernels/cuda/cuda.cuh"

namespace
{

constexpr unsigned THREADS = 256;

struct candidate {
    float value;
    int32_t id;
};

/* Larger ones come first, of equal ones the smaller id. */
__device__ inline bool before(candidate a, candidate b)
{
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

__device__ inline candidate warp_first(candidate x)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        candidate other = {__shfl_xor_sync(ALL_LANES, x.value, offset), __shfl_xor_sync(ALL_LANES, x.id, offset)};
        if (before(other, x)) x = other;
    }
    return x;
}

__device__ inline candidate block_first(candidate x, candidate *room)
{
    return block_fold(x, candidate{-INFINITY, INT32_MAX}, room, [](candidate y) { return warp_first(y); });
}

template <typename T>
__global__ void __launch_bounds__(THREADS) largest(size_t rows, size_t vocabulary, int32_t first, size_t k,
                                                   const T *logits, float *values, int32_t *ids, float *sums)
{
    candidate *room = reinterpret_cast<candidate *>(shared_memory);
    for (size_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *row = logits + r * vocabulary;
        candidate last = {INFINITY, -1}, top = {-INFINITY, -1};
        for (size_t i = 0; i < k; i++) {
            candidate best = {-INFINITY, INT32_MAX};
            for (size_t j = threadIdx.x; j < vocabulary; j += blockDim.x) {
                candidate c = {number(row[j]), (int32_t)j};
                if (before(last, c) && before(c, best)) best = c; /* a NaN comes before nothing and after nothing */
            }
            best = block_first(best, room);
            bool found = best.value > -INFINITY;
            if (i == 0) top = best;
            if (threadIdx.x == 0) {
                values[r * k + i] = best.value;
                ids[r * k + i] = found ? first + best.id : -1;
            }
            last = best;
        }
        if (!sums) continue;
        double sum = 0;
        for (size_t j = threadIdx.x; j < vocabulary; j += blockDim.x)
            sum += expf(number(row[j]) - top.value);
        sum = block_sum(sum, reinterpret_cast<double *>(shared_memory));
        if (threadIdx.x == 0) sums[r] = (float)sum;
    }
}

} // namespace

void cuda_top_k(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t k, const real *logits,
                float *values, int32_t *ids, float *sums)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, largest<T>, blocks_of(rows), THREADS, 32 * sizeof(double), rows, vocabulary, (int32_t)first, k,
               as<T>(logits), values, ids, sums);
    });
}
