/* RMSNorm of rows that are spread over several devices (norms of queries and keys): a warp a row.
 *
 * Bytes an element of E bytes: squares E, forward 2E, dots 2E, backward 3E and, where gains are trained, 2E more. */
#include "kernels/cuda/columns.cuh"

namespace
{

constexpr unsigned WARPS = 8, THREADS = 32 * WARPS;

__device__ inline size_t first_row()
{
    return (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
}

__device__ inline size_t row_step()
{
    return (size_t)gridDim.x * WARPS;
}

/* sums[row] = sum of f(row, column) over columns from `begin` on. A warp's lanes have the same row. */
template <typename F>
__global__ void __launch_bounds__(THREADS) row_sums(size_t rows, size_t begin, size_t width, F f, float *sums)
{
    for (size_t row = first_row(); row < rows; row += row_step()) {
        float sum = 0;
        for (size_t i = begin + threadIdx.x % 32; i < width; i += 32)
            sum += f(row, i);
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) sums[row] = sum;
    }
}

template <typename T> struct square {
    size_t width;
    const T *x;
    __device__ float operator()(size_t row, size_t i) const
    {
        float value = number(x[row * width + i]);
        return value * value;
    }
};

template <typename T> struct dot {
    size_t width;
    const T *x, *dy;
    const float *gain;
    __device__ float operator()(size_t row, size_t i) const
    {
        return number(dy[row * width + i]) * gain[i] * number(x[row * width + i]);
    }
};

template <typename T>
__global__ void __launch_bounds__(THREADS) scale_rows(size_t rows, size_t width, float total, float epsilon, const T *x,
                                                      const float *gain, const float *squares, T *y, float *rstd)
{
    for (size_t row = first_row(); row < rows; row += row_step()) {
        float factor = 1.0f / sqrtf(squares[row] / total + epsilon);
        for (size_t i = threadIdx.x % 32; i < width; i += 32)
            y[row * width + i] = rounded<T>(number(x[row * width + i]) * factor * gain[i]);
        if (threadIdx.x % 32 == 0) rstd[row] = factor;
    }
}

/* dx may be dy: the gradients of the gain have been summed before. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    back(size_t rows, size_t width, size_t shared, float total, const T *x, const float *gain, const float *rstd,
         const float *dots, const T *dy, T *dx)
{
    for (size_t row = first_row(); row < rows; row += row_step()) {
        float factor = rstd[row], along = dots[row] * factor * factor * factor / total;
        for (size_t i = threadIdx.x % 32; i < width; i += 32) {
            size_t at = row * width + i;
            float own = i >= shared ? number(x[at]) * along : 0;
            dx[at] = rounded<T>(factor * number(dy[at]) * gain[i] - own);
        }
    }
}

template <typename T> struct gain_term {
    size_t width;
    const T *x, *dy;
    const float *rstd;
    __device__ terms<1> operator()(size_t row, size_t column) const
    {
        size_t at = row * width + column;
        return {{number(dy[at]) * number(x[at]) * rstd[row]}};
    }
};

} // namespace

void cuda_row_squares(struct device *device, size_t rows, size_t width, size_t shared, const real *x, float *squares)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, row_sums<square<T>>, blocks_to_stride(device, rows, WARPS, 8), THREADS, 0, rows, shared, width,
               square<T>{width, as<T>(x)}, squares);
    });
}

void cuda_row_norm_forward(struct device *device, size_t rows, size_t width, size_t total, float epsilon, const real *x,
                           const float *gain, const float *squares, real *y, float *rstd)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, scale_rows<T>, blocks_to_stride(device, rows, WARPS, 8), THREADS, 0, rows, width, (float)total,
               epsilon, as<T>(x), gain, squares, as<T>(y), rstd);
    });
}

void cuda_row_norm_dots(struct device *device, size_t rows, size_t width, const real *x, const float *gain,
                        const real *dy, float *dots)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, row_sums<dot<T>>, blocks_to_stride(device, rows, WARPS, 8), THREADS, 0, rows, 0, width,
               dot<T>{width, as<T>(x), as<T>(dy), gain}, dots);
    });
}

void cuda_row_norm_backward(struct device *device, size_t rows, size_t width, size_t shared, size_t total,
                            const real *x, const float *gain, const float *rstd, const float *dots, const real *dy,
                            real *dx, float *dgain)
{
    if (rows == 0) return;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        if (dgain)
            sum_columns<1>(device, rows, width, gain_term<T>{width, as<T>(x), as<T>(dy), rstd},
                           column_sums<1>{{dgain}, true});
        launch(device, back<T>, blocks_to_stride(device, rows, WARPS, 8), THREADS, 0, rows, width, shared, (float)total,
               as<T>(x), gain, rstd, dots, as<T>(dy), as<T>(dx));
    });
}
