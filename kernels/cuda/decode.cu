/* Attention of single queries over cached keys and values: a block a query of a head; each of its warps goes over every
 * fourth row, then they join what they have.
 *
 * FLOPs 4 D a row. Bytes: the cache's rows, for each query head that reads them; heads that share a key/value head lie
 * in blocks that run together, so that all but the first find them in the cache. Up to 10^5 rows a query. */
#include "kernels/cuda/attention.cuh"

namespace
{

/* struct decode as the kernel takes it. */
struct view {
    size_t stride, heads, kv_heads, width;
    const uint32_t *counts, *table, *kv_head_of;
};

/* What a warp leaves for the others: maximum, sum, and its sums of values. */
__device__ inline float *left_by(unsigned warp, size_t width)
{
    return reinterpret_cast<float *>(shared_memory) + warp * (width + 2);
}

/* The first warp joins them, and writes. */
template <typename T> __device__ inline void join(size_t width, T *out)
{
    float maximum = -INFINITY, sum = 0;
    for (unsigned warp = 0; warp < ROW_WARPS; warp++)
        maximum = fmaxf(maximum, left_by(warp, width)[0]);
    for (unsigned warp = 0; warp < ROW_WARPS; warp++)
        sum += left_by(warp, width)[1] * expf(left_by(warp, width)[0] - maximum);
    for (size_t i = threadIdx.x; i < width; i += 32) {
        float value = 0;
        for (unsigned warp = 0; warp < ROW_WARPS; warp++)
            value += left_by(warp, width)[2 + i] * expf(left_by(warp, width)[0] - maximum);
        out[i] = rounded<T>(value / sum);
    }
}

template <typename T>
__global__ void __launch_bounds__(ROW_THREADS)
    attend_cached(view d, float scale, const T *q, const T *keys, const T *values, T *out)
{
    size_t query = blockIdx.x, head = blockIdx.y, at = (query * d.heads + head) * d.width;
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float own[LANE_WIDTHS], sums[LANE_WIDTHS] = {}, maximum = -INFINITY, sum = 0;
    load_row(q + at, d.width, own);
    for (size_t j = warp; j < d.counts[query]; j += ROW_WARPS) {
        size_t row = ((size_t)d.table[query * d.stride + j] * d.kv_heads + d.kv_head_of[head]) * d.width;
        float score = scale * row_dot(own, keys + row, d.width), highest = fmaxf(maximum, score);
        float factor = expf(maximum - highest), p = expf(score - highest);
        sum = sum * factor + p;
        for (int i = 0; i < LANE_WIDTHS; i++)
            sums[i] *= factor;
        add_row(p, values + row, d.width, sums);
        maximum = highest;
    }
    float *left = left_by(warp, d.width);
    if (lane == 0) {
        left[0] = maximum;
        left[1] = sum;
    }
    store_row(sums, d.width, left + 2);
    __syncthreads();
    if (warp == 0) join(d.width, out + at);
}

} // namespace

void cuda_attention_decode(struct device *device, const struct decode *shape, const real *q, const real *keys,
                           const real *values, real *out)
{
    const view d = {shape->stride, shape->heads, shape->kv_heads,  shape->head_width,
                    shape->counts, shape->table, shape->kv_head_of};
    if (shape->head_width > 32 * LANE_WIDTHS) {
        device_note(device, cudaErrorInvalidValue);
        return;
    }
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, attend_cached<T>, dim3((unsigned)shape->queries, (unsigned)shape->heads), ROW_THREADS,
               ROW_WARPS * (shape->head_width + 2) * sizeof(float), d, 1.0f / sqrtf((float)shape->head_width), as<T>(q),
               as<T>(keys), as<T>(values), as<T>(out));
    });
}
