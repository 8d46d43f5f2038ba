/* Vocabulary-parallel cross-entropy: a block a row, up to 262,144 words.
 *
 * Bytes a logit of E bytes: partial E (the second look at a row finds it in the cache), finish 2E. Of many terms a
 * thread adds DEPTH in fp32 and goes on in double: in fp32 alone nothing is left of terms far below the most likely
 * token's 1. */
#include "kernels/cuda/cuda.cuh"

namespace
{

constexpr unsigned THREADS = 256;
constexpr size_t DEPTH = 8, ROOM = 32 * sizeof(double);

/* To the block: the sum over a row of exp(x - maximum), and, where it is wanted, of x. */
template <typename T>
__device__ inline double row_sums(const T *row, size_t n, float maximum, double *logits, double *room)
{
    double exponentials = 0, plain = 0;
    for (size_t first = threadIdx.x; first < n; first += DEPTH * blockDim.x) {
        float some = 0, some_plain = 0;
        for (size_t j = 0; j < DEPTH; j++) {
            size_t i = first + j * blockDim.x;
            if (i >= n) break;
            float x = number(row[i]);
            some += expf(x - maximum);
            some_plain += x;
        }
        exponentials += some;
        plain += some_plain;
    }
    if (logits) *logits = block_sum(plain, room);
    return block_sum(exponentials, room);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    partial_sums(size_t rows, size_t vocabulary, size_t first, const T *logits, const int32_t *targets, float *partial)
{
    double *room = reinterpret_cast<double *>(shared_memory);
    for (size_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *row = logits + r * vocabulary;
        float maximum = -INFINITY;
        for (size_t i = threadIdx.x; i < vocabulary; i += blockDim.x)
            maximum = fmaxf(maximum, number(row[i]));
        maximum = block_max(maximum, reinterpret_cast<float *>(room));
        double plain, exponentials = row_sums(row, vocabulary, maximum, &plain, room);
        if (threadIdx.x != 0) continue;
        int64_t at = (int64_t)targets[r] - (int64_t)first;
        partial[r] = maximum;
        partial[rows + r] = (float)exponentials;
        partial[2 * rows + r] = at >= 0 && (size_t)at < vocabulary ? number(row[at]) : 0.0f;
        partial[3 * rows + r] = (float)plain;
    }
}

/* Of a row over all devices. */
struct whole {
    double lse, target, logits;
};

__device__ inline whole join(size_t rows, size_t r, size_t devices, const float *partials)
{
    whole all = {0, 0, 0};
    double maximum = partials[r], sum = 0;
    for (size_t d = 1; d < devices; d++)
        maximum = fmax(maximum, (double)partials[d * 4 * rows + r]);
    for (size_t d = 0; d < devices; d++) {
        const float *partial = partials + d * 4 * rows;
        sum += partial[rows + r] * exp(partial[r] - maximum);
        all.target += partial[2 * rows + r];
        all.logits += partial[3 * rows + r];
    }
    all.lse = maximum + log(sum);
    return all;
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    finish(size_t rows, size_t vocabulary, size_t first, size_t devices, const float *partials, const int32_t *targets,
           size_t total, float smoothing, float scale, T *logits, float *loss)
{
    for (size_t r = blockIdx.x; r < rows; r += gridDim.x) {
        whole row = join(rows, r, devices, partials);
        double uniform = (double)smoothing / (double)total, rest = 1 - (double)smoothing;
        int64_t target = (int64_t)targets[r] - (int64_t)first;
        if (threadIdx.x == 0) loss[r] = (float)(row.lse - rest * row.target - uniform * row.logits);
        if (scale == 0) continue;
        T *x = logits + r * vocabulary;
        for (size_t i = threadIdx.x; i < vocabulary; i += blockDim.x) {
            float wanted = (float)uniform + ((int64_t)i == target ? (float)rest : 0.0f);
            x[i] = rounded<T>((expf((float)(number(x[i]) - row.lse)) - wanted) * scale);
        }
    }
}

} // namespace

void cuda_cross_entropy_partial(struct device *device, size_t rows, size_t vocabulary, size_t first, const real *logits,
                                const int32_t *targets, float *partial)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, partial_sums<T>, blocks_of(rows), THREADS, ROOM, rows, vocabulary, first, as<T>(logits), targets,
               partial);
    });
}

void cuda_cross_entropy_finish(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t devices,
                               const float *partials, const int32_t *targets, size_t total, float smoothing,
                               float scale, real *logits, float *loss)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, finish<T>, blocks_of(rows), THREADS, 0, rows, vocabulary, first, devices, partials, targets,
               total, smoothing, scale, as<T>(logits), loss);
    });
}
