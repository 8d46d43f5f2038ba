/* Operations that take one number a column: biases, and factors (IA3).
 *
 * Up to 10^6 rows of width 16,384. Bytes an element of E bytes: bias forward 2E and backward E; factors forward 2E,
 * backward 3E, 4E where it adds. Rows that follow each other go to one block, so that the columns' numbers stay in its
 * cache. */
#include "kernels/cuda/columns.cuh"

namespace
{

constexpr unsigned THREADS = 256;

/* y = f(x, number of the column), a row at a time for each block. */
template <typename T, typename F>
__global__ void __launch_bounds__(THREADS)
    by_column(size_t rows, size_t width, const T *x, const float *numbers, T *y, F f)
{
    for (size_t row = blockIdx.x; row < rows; row += gridDim.x)
        for (size_t i = threadIdx.x; i < width; i += blockDim.x)
            y[row * width + i] = rounded<T>(f(number(x[row * width + i]), numbers[i]));
}

/* The same with 16 bytes at once: width in vectors. */
template <typename T, typename F>
__global__ void __launch_bounds__(THREADS)
    by_column_vectors(size_t rows, size_t width, const vector<T> *x, const float *numbers, vector<T> *y, F f)
{
    for (size_t row = blockIdx.x; row < rows; row += gridDim.x)
        for (size_t i = threadIdx.x; i < width; i += blockDim.x) {
            vector<T> v = x[row * width + i];
            for (int j = 0; j < vector<T>::size; j++)
                v.x[j] = rounded<T>(f(number(v.x[j]), numbers[i * vector<T>::size + j]));
            y[row * width + i] = v;
        }
}

template <typename T, typename F>
void columns(struct device *device, size_t rows, size_t width, const T *x, const float *numbers, T *y, F f)
{
    if (rows == 0 || width == 0) return;
    unsigned blocks = blocks_to_stride(device, rows, 1, 32);
    if (width % vector<T>::size == 0 && whole_vectors(x) && whole_vectors(y))
        launch(device, by_column_vectors<T, F>, blocks, THREADS, 0, rows, width / vector<T>::size,
               reinterpret_cast<const vector<T> *>(x), numbers, reinterpret_cast<vector<T> *>(y), f);
    else
        launch(device, by_column<T, F>, blocks, THREADS, 0, rows, width, x, numbers, y, f);
}

struct plus {
    __device__ float operator()(float a, float b) const
    {
        return a + b;
    }
};

struct times {
    __device__ float operator()(float a, float b) const
    {
        return a * b;
    }
};

template <typename T> struct bias_terms {
    size_t width;
    const T *dy;
    __device__ terms<1> operator()(size_t row, size_t column) const
    {
        return {{number(dy[row * width + column])}};
    }
};

/* dx may be dy: an element is read before it is written. */
template <typename T> struct factor_terms {
    size_t width;
    const T *x, *dy;
    const float *factors;
    bool add;
    T *dx;
    __device__ terms<1> operator()(size_t row, size_t column) const
    {
        size_t at = row * width + column;
        float d = number(dy[at]), back = d * factors[column];
        terms<1> term = {{d * number(x[at])}};
        dx[at] = rounded<T>(add ? number(dx[at]) + back : back);
        return term;
    }
};

} // namespace

void cuda_bias_forward(struct device *device, size_t rows, size_t width, const float *bias, real *x)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        columns(device, rows, width, as<T>(static_cast<const real *>(x)), bias, as<T>(x), plus());
    });
}

void cuda_bias_backward(struct device *device, size_t rows, size_t width, const real *dy, float *dbias)
{
    if (rows == 0) return;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        sum_columns<1>(device, rows, width, bias_terms<T>{width, as<T>(dy)}, column_sums<1>{{dbias}, true});
    });
}

void cuda_scale_columns(struct device *device, size_t rows, size_t width, const real *x, const float *factors, real *y)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        columns(device, rows, width, as<T>(x), factors, as<T>(y), times());
    });
}

void cuda_scale_columns_backward(struct device *device, size_t rows, size_t width, const real *x, const float *factors,
                                 const real *dy, bool add, real *dx, float *dfactors)
{
    if (rows == 0) return;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        sum_columns<1>(device, rows, width, factor_terms<T>{width, as<T>(x), as<T>(dy), factors, add, as<T>(dx)},
                       column_sums<1>{{dfactors}, true});
    });
}
