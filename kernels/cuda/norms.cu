/* RMSNorm and LayerNorm, with the residual that comes before them.
 *
 * A warp a row up to WARP_WIDTH columns, a block a row beyond, any width. A row is read twice: the second time it comes
 * from the cache (a row of 16,384 bfloat16 is 32 KiB). Statistics in fp32, two passes for LayerNorm's variance. Bytes
 * of memory an element of E bytes: forward 2E, with a residual 4E; backward 4E and, where gains are trained, 2E more.
 */
#include "kernels/cuda/columns.cuh"

namespace
{

constexpr unsigned WARPS = 8, THREADS = 32 * WARPS;
constexpr size_t WARP_WIDTH = 1024;

/* Who works on a row: a warp, or the block. */
template <bool block_wide> struct team {
    static constexpr unsigned size = block_wide ? THREADS : 32;
    __device__ static unsigned member()
    {
        return block_wide ? threadIdx.x : threadIdx.x % 32;
    }
    /* The team's first row, and how many the grid takes at a time. */
    __device__ static size_t row()
    {
        return block_wide ? blockIdx.x : (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    }
    __device__ static size_t rows()
    {
        return block_wide ? gridDim.x : (size_t)gridDim.x * WARPS;
    }
    __device__ static float sum(float x)
    {
        if (block_wide) return block_sum(x, reinterpret_cast<float *>(shared_memory));
        return warp_sum(x);
    }
};

/* All teams take as many turns, so that no thread misses a sum; those without a row have nothing to add. */
template <typename T, bool block_wide, bool centred>
__global__ void __launch_bounds__(THREADS)
    norm_forward(size_t rows, size_t width, float epsilon, const T *residual, T *x, const float *gain,
                 const float *bias, T *y, float *mean, float *rstd)
{
    using who = team<block_wide>;
    for (size_t turn = 0; turn < rows; turn += who::rows()) {
        size_t row = turn + who::row(), n = row < rows ? width : 0;
        T *xr = x + row * width;
        float sum = 0, squares = 0;
        for (size_t i = who::member(); i < n; i += who::size) {
            if (residual) xr[i] = rounded<T>(number(xr[i]) + number(residual[row * width + i]));
            float value = number(xr[i]);
            sum += value;
            squares += value * value;
        }
        float center = 0;
        if (centred) {
            center = who::sum(sum) / (float)width;
            squares = 0;
            for (size_t i = who::member(); i < n; i += who::size) {
                float value = number(xr[i]) - center;
                squares += value * value;
            }
        }
        float factor = 1.0f / sqrtf(who::sum(squares) / (float)width + epsilon);
        for (size_t i = who::member(); i < n; i += who::size) {
            float normed = (number(xr[i]) - center) * factor * gain[i];
            y[row * width + i] = rounded<T>(centred ? normed + bias[i] : normed);
        }
        if (who::member() == 0 && n) {
            if (centred) mean[row] = center;
            rstd[row] = factor;
        }
    }
}

template <typename T, bool block_wide, bool centred>
__global__ void __launch_bounds__(THREADS) norm_backward(size_t rows, size_t width, const T *x, const float *gain,
                                                         const float *mean, const float *rstd, const T *dy, T *dx)
{
    using who = team<block_wide>;
    for (size_t turn = 0; turn < rows; turn += who::rows()) {
        size_t row = turn + who::row(), n = row < rows ? width : 0, first = row * width;
        float center = centred && n ? mean[row] : 0, factor = n ? rstd[row] : 0, sum = 0, dot = 0;
        for (size_t i = who::member(); i < n; i += who::size) {
            float d = number(dy[first + i]) * gain[i];
            sum += d;
            dot += d * (number(x[first + i]) - center);
        }
        float shift = centred ? who::sum(sum) * factor / (float)width : 0;
        float along = who::sum(dot) * factor * factor * factor / (float)width;
        for (size_t i = who::member(); i < n; i += who::size) {
            float d = number(dy[first + i]) * gain[i], value = number(x[first + i]) - center;
            dx[first + i] = rounded<T>(number(dx[first + i]) + (factor * d - shift - value * along));
        }
    }
}

/* What the gradients of gain and bias sum. */
template <typename T, bool centred> struct gain_terms {
    size_t width;
    const T *x, *dy;
    const float *mean, *rstd;
    __device__ terms<2> operator()(size_t row, size_t column) const
    {
        size_t at = row * width + column;
        float d = number(dy[at]), value = number(x[at]) - (centred ? mean[row] : 0);
        return {{d * value * rstd[row], d}};
    }
};

/* body(std::true_type or std::false_type): whether a row has a block. */
template <typename Body> void with_team(size_t width, Body body)
{
    if (width > WARP_WIDTH)
        body(std::true_type());
    else
        body(std::false_type());
}

template <bool centred>
void forward(struct device *device, size_t rows, size_t width, float epsilon, const real *residual, real *x,
             const float *gain, const float *bias, real *y, float *mean, float *rstd)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        with_team(width, [&](auto wide) {
            constexpr bool block_wide = decltype(wide)::value;
            launch(device, norm_forward<T, block_wide, centred>,
                   blocks_to_stride(device, rows, block_wide ? 1 : WARPS, 8), THREADS, 32 * sizeof(float), rows, width,
                   epsilon, as<T>(residual), as<T>(x), gain, bias, as<T>(y), mean, rstd);
        });
    });
}

template <bool centred>
void backward(struct device *device, size_t rows, size_t width, const real *x, const float *gain, const float *mean,
              const float *rstd, const real *dy, real *dx, float *dgain, float *dbias)
{
    if (rows == 0) return;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        with_team(width, [&](auto wide) {
            constexpr bool block_wide = decltype(wide)::value;
            launch(device, norm_backward<T, block_wide, centred>,
                   blocks_to_stride(device, rows, block_wide ? 1 : WARPS, 8), THREADS, 32 * sizeof(float), rows, width,
                   as<T>(x), gain, mean, rstd, as<T>(dy), as<T>(dx));
        });
        if (dgain || dbias)
            sum_columns<2>(device, rows, width, gain_terms<T, centred>{width, as<T>(x), as<T>(dy), mean, rstd},
                           column_sums<2>{{dgain, dbias}, true});
    });
}

} // namespace

void cuda_rms_norm_forward(struct device *device, size_t rows, size_t width, float epsilon, const real *residual,
                           real *x, const float *gain, real *y, float *rstd)
{
    forward<false>(device, rows, width, epsilon, residual, x, gain, nullptr, y, nullptr, rstd);
}

void cuda_rms_norm_backward(struct device *device, size_t rows, size_t width, const real *x, const float *gain,
                            const float *rstd, const real *dy, real *dx, float *dgain)
{
    backward<false>(device, rows, width, x, gain, nullptr, rstd, dy, dx, dgain, nullptr);
}

void cuda_layer_norm_forward(struct device *device, size_t rows, size_t width, float epsilon, const real *residual,
                             real *x, const float *gain, const float *bias, real *y, float *mean, float *rstd)
{
    forward<true>(device, rows, width, epsilon, residual, x, gain, bias, y, mean, rstd);
}

void cuda_layer_norm_backward(struct device *device, size_t rows, size_t width, const real *x, const float *gain,
                              const float *mean, const float *rstd, const real *dy, real *dx, float *dgain,
                              float *dbias)
{
    backward<true>(device, rows, width, x, gain, mean, rstd, dy, dx, dgain, dbias);
}
