/* Sums down the columns of a matrix, without atomics: blocks sum tiles of COLUMN_ROWS rows, then COLUMN_WARPS threads a
 * column add the tiles' sums up, in double and in one order. For some 10^6 rows, as head norms have them (a row a head
 * of a token): 4,000 tiles, 500 a thread. */
#ifndef TUNELAW_KERNELS_CUDA_COLUMNS_CUH
#define TUNELAW_KERNELS_CUDA_COLUMNS_CUH

#include "kernels/cuda/cuda.cuh"

constexpr unsigned COLUMN_LANES = 32, COLUMN_WARPS = 8;
constexpr size_t COLUMN_ROWS = 256;

/* N numbers to be summed at once, of one element. */
template <int N> struct terms {
    float x[N];
};

/* f(row, column) -> terms<N>, called once for each element; it may write there, too. partials[N][tiles][width]. */
template <int N, typename F>
__global__ void __launch_bounds__(COLUMN_LANES *COLUMN_WARPS)
    column_tiles(size_t rows, size_t width, size_t tiles, F f, float *partials)
{
    float *room = reinterpret_cast<float *>(shared_memory); /* [N][COLUMN_WARPS][COLUMN_LANES] */
    size_t column = (size_t)blockIdx.x * COLUMN_LANES + threadIdx.x;
    for (size_t tile = blockIdx.y; tile < tiles; tile += gridDim.y) {
        size_t first = tile * COLUMN_ROWS, last = first + COLUMN_ROWS < rows ? first + COLUMN_ROWS : rows;
        terms<N> sums = {};
        for (size_t row = first + threadIdx.y; column < width && row < last; row += COLUMN_WARPS) {
            terms<N> one = f(row, column);
            for (int n = 0; n < N; n++)
                sums.x[n] += one.x[n];
        }
        for (int n = 0; n < N; n++)
            room[(n * COLUMN_WARPS + threadIdx.y) * COLUMN_LANES + threadIdx.x] = sums.x[n];
        __syncthreads();
        for (unsigned n = threadIdx.y; column < width && n < N; n += COLUMN_WARPS) {
            float sum = 0;
            for (unsigned warp = 0; warp < COLUMN_WARPS; warp++)
                sum += room[(n * COLUMN_WARPS + warp) * COLUMN_LANES + threadIdx.x];
            partials[(n * tiles + tile) * width + column] = sum;
        }
        __syncthreads();
    }
}

/* Where the sums go; NULL: not wanted. add: += */
template <int N> struct column_sums {
    float *out[N];
    bool add;
};

template <int N>
__global__ void __launch_bounds__(COLUMN_LANES *COLUMN_WARPS)
    column_finish(size_t width, size_t tiles, const float *partials, column_sums<N> sums)
{
    double *room = reinterpret_cast<double *>(shared_memory); /* [COLUMN_WARPS][COLUMN_LANES] */
    size_t column = (size_t)blockIdx.x * COLUMN_LANES + threadIdx.x;
    for (int n = 0; n < N; n++) {
        if (!sums.out[n]) continue;
        double sum = 0;
        for (size_t tile = threadIdx.y; column < width && tile < tiles; tile += COLUMN_WARPS)
            sum += partials[(n * tiles + tile) * width + column];
        room[threadIdx.y * COLUMN_LANES + threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.y == 0 && column < width) {
            double all = sums.add ? sums.out[n][column] : 0;
            for (unsigned warp = 0; warp < COLUMN_WARPS; warp++)
                all += room[warp * COLUMN_LANES + threadIdx.x];
            sums.out[n][column] = (float)all;
        }
        __syncthreads();
    }
}

/* Uses the device's scratch. With no rows the sums are 0. */
template <int N, typename F>
void sum_columns(struct device *device, size_t rows, size_t width, F f, const column_sums<N> &sums)
{
    size_t tiles = (rows + COLUMN_ROWS - 1) / COLUMN_ROWS;
    if (width == 0) return;
    float *partials = static_cast<float *>(device_scratch(device, N * (tiles ? tiles : 1) * width * sizeof(float)));
    if (!partials) return;
    launch(device, column_tiles<N, F>, dim3(blocks_for(width, COLUMN_LANES), (unsigned)(tiles < 65535 ? tiles : 65535)),
           dim3(COLUMN_LANES, COLUMN_WARPS), N * COLUMN_LANES * COLUMN_WARPS * sizeof(float), rows, width, tiles, f,
           partials);
    launch(device, column_finish<N>, blocks_for(width, COLUMN_LANES), dim3(COLUMN_LANES, COLUMN_WARPS),
           COLUMN_LANES * COLUMN_WARPS * sizeof(double), width, tiles, partials, sums);
}

#endif
