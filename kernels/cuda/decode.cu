/* Attention of single queries over cached keys and values: a block a query of a head; its warps take 32 rows in turn,
 * then join what they have.
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

/* The rows of the cache that a query sees, of one key/value head. */
template <typename T> struct cached_rows {
    const T *x;
    const uint32_t *rows;
    size_t kv_heads, head, width;

    __device__ const T *operator()(size_t j) const
    {
        return x + (rows[j] * kv_heads + head) * width;
    }
};

/* What a warp leaves for the others: maximum, sum, and its sums of values. It lies where the warp's own rows did. */
__device__ inline const float *left_by(unsigned warp, size_t width)
{
    return reinterpret_cast<const float *>(shared_memory) + warp * (2 * width + 64);
}

/* The first warp joins them, and writes. A warp without a row has the maximum -infinity and nothing else. */
template <typename T> __device__ inline void join(size_t width, T *out)
{
    float maximum = -INFINITY, sum = 0;
    for (unsigned warp = 0; warp < ROW_WARPS; warp++)
        maximum = fmaxf(maximum, left_by(warp, width)[2 * width]);
    for (unsigned warp = 0; warp < ROW_WARPS; warp++)
        sum += left_by(warp, width)[2 * width + 1] * expf(left_by(warp, width)[2 * width] - maximum);
    for (size_t i = threadIdx.x; i < width; i += 32) {
        float value = 0;
        for (unsigned warp = 0; warp < ROW_WARPS; warp++)
            value += left_by(warp, width)[i] * expf(left_by(warp, width)[2 * width] - maximum);
        out[i] = rounded<T>(value / sum);
    }
}

template <typename T>
__global__ void __launch_bounds__(ROW_THREADS)
    attend_cached(view d, float scale, const T *q, const T *keys, const T *values, T *out)
{
    row_room room = row_room_here(d.width);
    size_t query = blockIdx.x, head = blockIdx.y, at = (query * d.heads + head) * d.width, count = d.counts[query];
    unsigned warp = threadIdx.x / 32;
    const uint32_t *rows = d.table + query * d.stride;
    const cached_rows<T> k = {keys, rows, d.kv_heads, d.kv_head_of[head], d.width},
                         v = {values, rows, d.kv_heads, d.kv_head_of[head], d.width};
    row_softmax state = {-INFINITY, 0, {}};
    keep_row(q + at, d.width, room.first);
    __syncwarp();
    attend_rows(k, v, 32 * warp, ROW_THREADS, count, d.width, scale, room, &state);
    store_row(state.values, d.width, room.first);
    if (threadIdx.x % 32 == 0) {
        room.p[0] = state.maximum;
        room.p[1] = state.sum;
    }
    __syncthreads();
    if (warp == 0) join(d.width, out + at);
}

} // namespace

void cuda_attention_decode(struct device *device, const struct decode *shape, const real *q, const real *keys,
                           const real *values, real *out)
{
    const view d = {shape->stride, shape->heads, shape->kv_heads,  shape->head_width,
                    shape->counts, shape->table, shape->kv_head_of};
    if (!width_fits(device, shape->head_width)) return;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, attend_cached<T>, dim3((unsigned)shape->queries, (unsigned)shape->heads), ROW_THREADS,
               row_bytes(shape->head_width), d, score_scale(shape->head_width), as<T>(q), as<T>(keys), as<T>(values),
               as<T>(out));
    });
}
