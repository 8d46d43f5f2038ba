/* Attention forward, in the manner of FlashAttention-2 (Dao 2023): no scores in memory.
 *
 * In bf16 with heads up to 256 wide: a block of four warps takes 64 queries of a head, each warp 16,
 * and goes over the keys 64 at a time, with the softmax's maximum and sum as it goes, scores and sums in fp32. Else,
 * and in fp32, a warp takes one query and goes over the keys 32 at a time. FLOPs: 4 D for each query and key it sees.
 * Bytes: Q and out once; K and V once for each 64 queries, or for each query. Sequences up to 2^31 tokens, 10^5 in a
 * batch. */
#include "kernels/cuda/attention.cuh"

namespace
{

constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

/* The softmax of a lane's two rows so far: maxima in units of log2, sums of this lane's columns alone. */
struct softmax {
    float maximum[2], sum[2];
};

__device__ inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

__device__ inline float quad_sum(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

/* Scores (times log2 e) become exponentials, and what was summed before is scaled to the new maximum. */
template <int D> __device__ inline void absorb(float s[8][4], softmax *state, float out[D / 8][4])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float highest = state->maximum[half];
        for (int j = 0; j < 8; j++)
            highest = fmaxf(highest, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
        highest = quad_max(highest);
        float base = highest > -INFINITY ? highest : 0.0f; /* nothing seen yet */
        float factor = exp2f(state->maximum[half] - base), sum = state->sum[half] * factor;
        for (int j = 0; j < 8; j++)
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                s[j][i] = exp2f(s[j][i] - base);
                sum += s[j][i];
            }
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            out[i][2 * half] *= factor;
            out[i][2 * half + 1] *= factor;
        }
        state->maximum[half] = highest;
        state->sum[half] = sum;
    }
}

/* Scores of 64 keys: of those from `first`, of `count`, that a query sees: causal, where its row is not below. */
__device__ inline void mask(size_t first, size_t count, bool causal, size_t first_query, float scale, float s[8][4])
{
    unsigned row = threadIdx.x / 32 * 16, seen[2];
    for (int half = 0; half < 2; half++)
        seen[half] = keys_seen(first, count, causal, first_query + row + fragment_row(2 * half));
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 4; i++)
            s[j][i] = 8 * (unsigned)j + fragment_column(i) < seen[i / 2] ? s[j][i] * scale : -INFINITY;
}

/* All keys of a source, tile by tile: the next keys come while the softmax and the values are at work, the next values
 * during the next scores. The tiles are free before and after. */
template <int D>
__device__ inline void attend_source(const rows_of<bf16> &keys, const rows_of<bf16> &values, size_t count, bool causal,
                                     size_t first_query, size_t width, float scale, const bf16 *q, bf16 *k, bf16 *v,
                                     softmax *state, float out[D / 8][4])
{
    load_tile<D>(keys, 0, count, width, k);
    load_tile<D>(values, 0, count, width, v);
    for (size_t first = 0; first < count; first += TILE) {
        float s[8][4];
        tiles_loaded<1>();
        multiply_rows<D>(q, threadIdx.x / 32 * 16, k, s);
        __syncthreads(); /* the keys are done with */
        load_tile<D>(keys, first + TILE, count, width, k);
        mask(first, count, causal, first_query, scale, s);
        absorb<D>(s, state, out);
        tiles_loaded<1>();
        multiply_columns<D>(s, v, out);
        __syncthreads(); /* and the values */
        load_tile<D>(values, first + TILE, count, width, v);
    }
}

template <int D>
__global__ void __launch_bounds__(TILE_THREADS)
    attend_tiles(heads h, float scale, const bf16 *q, const bf16 *k, const bf16 *v, bf16 *out, float *lse)
{
    bf16 *tile_q = reinterpret_cast<bf16 *>(shared_memory), *tile_k = tile_q + tile_elements<D>,
         *tile_v = tile_k + tile_elements<D>;
    size_t head = blockIdx.y, g = h.kv_head_of[head], first_query = tile_from_last() * TILE;
    for (size_t s = blockIdx.z; s < h.sequences; s += gridDim.z) {
        sequence here = sequence_of(h, s);
        if (first_query >= here.length) continue;
        size_t last = first_query + TILE < here.length ? first_query + TILE : here.length;
        softmax state = {{-INFINITY, -INFINITY}, {0, 0}};
        float sums[D / 8][4] = {};
        __syncthreads();
        load_tile<D>(head_rows(q, here.begin, h.query_heads, head, h.width), first_query, here.length, h.width, tile_q);
        if (here.prefix.length)
            attend_source<D>(prefix_rows<bf16>(here.prefix.k, here.prefix, g, h.width),
                             prefix_rows<bf16>(here.prefix.v, here.prefix, g, h.width), here.prefix.length, false,
                             first_query, h.width, scale * LOG2_E, tile_q, tile_k, tile_v, &state, sums);
        attend_source<D>(head_rows(k, here.begin, h.kv_heads, g, h.width),
                         head_rows(v, here.begin, h.kv_heads, g, h.width), last, true, first_query, h.width,
                         scale * LOG2_E, tile_q, tile_k, tile_v, &state, sums);
        unsigned row = threadIdx.x / 32 * 16;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = quad_sum(state.sum[half]);
            size_t query = first_query + row + fragment_row(2 * half);
            if (query >= here.length) continue;
            size_t at = (here.begin + query) * h.query_heads + head;
            if (threadIdx.x % 4 == 0) lse[at] = state.maximum[half] * LN_2 + logf(sum);
#pragma unroll
            for (int i = 0; i < D / 8; i++) {
                unsigned column = 8 * (unsigned)i + fragment_column(0);
                store_pair(out + at * h.width, column, h.width, sums[i][2 * half] / sum, sums[i][2 * half + 1] / sum);
            }
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(ROW_THREADS)
    attend_queries(heads h, float scale, const T *q, const T *k, const T *v, T *out, float *lse)
{
    row_room room = row_room_here(h.width);
    size_t head = blockIdx.y, g = h.kv_head_of[head];
    size_t query = (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    for (size_t s = blockIdx.z; s < h.sequences; s += gridDim.z) {
        sequence here = sequence_of(h, s);
        if (query >= here.length) continue; /* the whole warp */
        row_softmax state = {-INFINITY, 0, {}};
        size_t at = (here.begin + query) * h.query_heads + head;
        keep_row(q + at * h.width, h.width, room.first);
        __syncwarp();
        if (here.prefix.length)
            attend_rows(prefix_rows<T>(here.prefix.k, here.prefix, g, h.width),
                        prefix_rows<T>(here.prefix.v, here.prefix, g, h.width), 0, 32, here.prefix.length, h.width,
                        scale, room, &state);
        attend_rows(head_rows(k, here.begin, h.kv_heads, g, h.width), head_rows(v, here.begin, h.kv_heads, g, h.width),
                    0, 32, query + 1, h.width, scale, room, &state);
        for (int i = 0; i < LANE_WIDTHS; i++)
            state.values[i] /= state.sum;
        store_row(state.values, h.width, out + at * h.width);
        if (threadIdx.x % 32 == 0) lse[at] = state.maximum + logf(state.sum);
    }
}

} // namespace

void cuda_attention_forward(struct device *device, const struct attention *shape, const real *q, const real *k,
                            const real *v, real *out, float *lse)
{
    float scale = score_scale(shape->head_width);
    if (shape->sequences.tokens == 0 || !width_fits(device, shape->head_width)) return;
    if (takes_tiles(device, shape->head_width, 3, 0)) {
        with_width(shape->head_width, [&](auto width) {
            constexpr int D = decltype(width)::value;
            launch(device, attend_tiles<D>, grid_of(shape, TILE, shape->heads), TILE_THREADS,
                   3 * tile_elements<D> * sizeof(bf16), heads_of(shape), scale, as<bf16>(q), as<bf16>(k), as<bf16>(v),
                   as<bf16>(out), lse);
        });
        return;
    }
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, attend_queries<T>, grid_of(shape, ROW_WARPS, shape->heads), ROW_THREADS,
               row_bytes(shape->head_width), heads_of(shape), scale, as<T>(q), as<T>(k), as<T>(v), as<T>(out), lse);
    });
}
