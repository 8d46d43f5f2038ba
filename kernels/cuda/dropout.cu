/* Dropout: each thread draws one block of Philox, four columns of a row, in the words of kernels/random.c.
 *
 * Bytes an element of E bytes: 2E, 3E where it adds. Nothing is stored but the result. */
#include "kernels/cuda/cuda.cuh"

namespace
{

constexpr unsigned THREADS = 256;

struct words {
    uint32_t x[4];
};

__device__ inline words philox(uint64_t seed, uint64_t stream, uint64_t counter)
{
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream,
             c3 = (uint32_t)(stream >> 32), k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint32_t n0 = __umulhi(0xCD9E8D57u, c2) ^ c1 ^ k0, n2 = __umulhi(0xD2511F53u, c0) ^ c3 ^ k1;
        c1 = 0xCD9E8D57u * c2;
        c3 = 0xD2511F53u * c0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

/* Words below the threshold drop: it lies in 1 .. 2^32. blocks: of a whole row; here: those that the columns touch. */
template <typename T>
__global__ void drop(struct dropout how, uint64_t threshold, float kept, uint64_t blocks, size_t here, size_t rows,
                     size_t width, const T *x, bool add, T *y)
{
    const struct dropout_key key = *how.key;
    size_t first = how.first_column / 4, stride = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < rows * here; i += stride) {
        size_t row = i / here, block = first + i % here;
        words w = philox(key.seed, key.stream, (key.first_row + row) * blocks + block);
        for (size_t j = 0; j < 4; j++) {
            size_t column = 4 * block + j - how.first_column; /* of those given; wraps around before the first */
            if (column >= width) continue;
            size_t at = row * width + column;
            float value = number(x[at]) * (w.x[j] < threshold ? 0.0f : kept);
            y[at] = rounded<T>(add ? number(y[at]) + value : value);
        }
    }
}

} // namespace

void cuda_dropout(struct device *device, const struct dropout *how, size_t rows, size_t width, const real *x, bool add,
                  real *y)
{
    if (rows == 0 || width == 0) return;
    double threshold = how->rate * 4294967296.0;
    uint64_t least = (uint64_t)threshold + ((double)(uint64_t)threshold < threshold); /* word < rate 2^32 */
    size_t here = (how->first_column + width + 3) / 4 - how->first_column / 4, n = rows * here;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, drop<T>, blocks_to_stride(device, n, THREADS, 16), THREADS, 0, *how, least,
               (float)(1 / (1 - how->rate)), (uint64_t)((how->total + 3) / 4), here, rows, width, as<T>(x), add,
               as<T>(y));
    });
}
