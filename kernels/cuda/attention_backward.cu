/* Attention backward: scores are computed again from q, k and lse; nothing is added by more than one thread, so that
 * the bytes do not depend on who comes first.
 *
 * First each query's dot = dout . out. Then one kernel for dq, which goes over the keys of its queries, and one for dk
 * and dv, which goes over the queries that see its keys, head by head of those that share them. FLOPs: 6 D and 8 D for
 * each query and key it sees, against 10 D with sums by atomics. On tensor cores, where the forward pass is: heads
 * wider than 128 compute dk and dv one after the other, for want of registers. Bytes: as forward, each way.
 *
 * Gradients of prefixes are summed sequence by sequence: a block a key/value head and 64 places, or a warp a place. */
#include "kernels/cuda/attention.cuh"

namespace
{

constexpr float LOG2_E = 1.4426950408889634f;

/* What a backward kernel reads. */
template <typename T> struct backward {
    heads h;
    float scale;
    const T *q, *k, *v, *dout;
    const float *lse, *dots; /* [T][H] */
};

/* dots[T][H]: a warp a query of a head. */
template <typename T>
__global__ void __launch_bounds__(ROW_THREADS)
    dot_rows(size_t rows, size_t width, const T *out, const T *dout, float *dots)
{
    size_t step = (size_t)gridDim.x * ROW_WARPS;
    for (size_t row = (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32; row < rows; row += step) {
        float sum = 0;
        for (size_t i = threadIdx.x % 32; i < width; i += 32)
            sum += number(out[row * width + i]) * number(dout[row * width + i]);
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) dots[row] = sum;
    }
}

/* ---- tensor cores ---- */

/* dq: 64 queries of a head. The next values come while the keys are at work, the next keys during the next product with
 * values. The tiles are free before and after. */
template <int D>
__device__ inline void queries_source(const backward<bf16> &b, const rows_of<bf16> &keys, const rows_of<bf16> &values,
                                      size_t count, bool causal, size_t first_query, const bf16 *q, const bf16 *dout,
                                      bf16 *k, bf16 *v, const float lse[2], const float dots[2], float sum[D / 8][4])
{
    unsigned row = threadIdx.x / 32 * 16;
    load_tile<D>(values, 0, count, b.h.width, v);
    load_tile<D>(keys, 0, count, b.h.width, k);
    for (size_t first = 0; first < count; first += TILE) {
        float s[8][4], dp[8][4];
        unsigned seen[2];
        for (int half = 0; half < 2; half++)
            seen[half] = keys_seen(first, count, causal, first_query + row + fragment_row(2 * half));
        tiles_loaded<1>();
        multiply_rows<D>(dout, row, v, dp);
        tiles_loaded<0>(); /* the values are done with */
        load_tile<D>(values, first + TILE, count, b.h.width, v);
        multiply_rows<D>(q, row, k, s);
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < 4; i++) {
                bool sees = 8 * (unsigned)j + fragment_column(i) < seen[i / 2];
                float p = sees ? exp2f((s[j][i] * b.scale - lse[i / 2]) * LOG2_E) : 0.0f;
                s[j][i] = p * (dp[j][i] - dots[i / 2]) * b.scale;
            }
        multiply_columns<D>(s, k, sum);
        __syncthreads(); /* and the keys */
        load_tile<D>(keys, first + TILE, count, b.h.width, k);
    }
}

template <int D> __global__ void __launch_bounds__(TILE_THREADS) query_tiles(backward<bf16> b, bf16 *dq)
{
    bf16 *tile_q = reinterpret_cast<bf16 *>(shared_memory), *tile_dout = tile_q + tile_elements<D>,
         *tile_k = tile_dout + tile_elements<D>, *tile_v = tile_k + tile_elements<D>;
    const heads &h = b.h;
    size_t head = blockIdx.y, g = h.kv_head_of[head], first_query = tile_from_last() * TILE;
    unsigned row = threadIdx.x / 32 * 16;
    for (size_t s = blockIdx.z; s < h.sequences; s += gridDim.z) {
        sequence here = sequence_of(h, s);
        if (first_query >= here.length) continue;
        size_t last = first_query + TILE < here.length ? first_query + TILE : here.length;
        float lse[2], dots[2], sum[D / 8][4] = {};
        for (int half = 0; half < 2; half++) {
            size_t query = first_query + row + fragment_row(2 * half);
            size_t at = (here.begin + query) * h.query_heads + head;
            lse[half] = query < here.length ? b.lse[at] : 0;
            dots[half] = query < here.length ? b.dots[at] : 0;
        }
        __syncthreads();
        load_tile<D>(head_rows(b.q, here.begin, h.query_heads, head, h.width), first_query, here.length, h.width,
                     tile_q);
        load_tile<D>(head_rows(b.dout, here.begin, h.query_heads, head, h.width), first_query, here.length, h.width,
                     tile_dout);
        if (here.prefix.length)
            queries_source<D>(b, prefix_rows<bf16>(here.prefix.k, here.prefix, g, h.width),
                              prefix_rows<bf16>(here.prefix.v, here.prefix, g, h.width), here.prefix.length, false,
                              first_query, tile_q, tile_dout, tile_k, tile_v, lse, dots, sum);
        queries_source<D>(b, head_rows(b.k, here.begin, h.kv_heads, g, h.width),
                          head_rows(b.v, here.begin, h.kv_heads, g, h.width), last, true, first_query, tile_q,
                          tile_dout, tile_k, tile_v, lse, dots, sum);
        for (int i = 0; i < D / 8; i++)
            for (int half = 0; half < 2; half++) {
                size_t query = first_query + row + fragment_row(2 * half);
                unsigned column = 8 * (unsigned)i + fragment_column(0);
                if (query >= here.length || column >= h.width) continue;
                store_pair(dq + ((here.begin + query) * h.query_heads + head) * h.width, column, h.width,
                           sum[i][2 * half], sum[i][2 * half + 1]);
            }
    }
}

/* dk, dv of 64 keys: tiles of the block in shared memory. */
struct key_tiles {
    bf16 *k, *v, *q, *dout;
    float *lse, *dots; /* [TILE] of the queries */
};

template <int D> __device__ inline key_tiles key_tiles_here()
{
    bf16 *k = reinterpret_cast<bf16 *>(shared_memory);
    float *lse = reinterpret_cast<float *>(k + 4 * tile_elements<D>);
    return {k, k + tile_elements<D>, k + 2 * tile_elements<D>, k + 3 * tile_elements<D>, lse, lse + TILE};
}

constexpr size_t KEY_NUMBERS = 2 * TILE * sizeof(float); /* lse and dots of a tile of queries */
template <int D> constexpr size_t key_bytes = 4 * tile_elements<D> * sizeof(bf16) + KEY_NUMBERS;

/* The queries of a head, tile by tile, with their dout, lse and dots. */
template <int D> struct query_loads {
    const backward<bf16> &b;
    const sequence &here;
    size_t head;
    const key_tiles &t;

    __device__ void queries(size_t first) const
    {
        load_tile<D>(head_rows(b.q, here.begin, b.h.query_heads, head, b.h.width), first, here.length, b.h.width, t.q);
        for (unsigned i = threadIdx.x; i < TILE && first < here.length; i += TILE_THREADS) {
            bool there = first + i < here.length;
            size_t at = (here.begin + first + i) * b.h.query_heads + head;
            t.lse[i] = there ? b.lse[at] : 0;
            t.dots[i] = there ? b.dots[at] : 0;
        }
    }

    __device__ void gradients(size_t first) const
    {
        load_tile<D>(head_rows(b.dout, here.begin, b.h.query_heads, head, b.h.width), first, here.length, b.h.width,
                     t.dout);
    }
};

/* The queries of one head of a sequence, from the first tile with one that sees a key: dk, dv += (16 keys a warp). With
 * dk the next dout comes while the last product is at work, the next queries during the next product with dout;
 * without, dout takes the queries' place. The tiles of queries are free before and after. */
template <int D, bool keys, bool values>
__device__ inline void keys_head(const backward<bf16> &b, const sequence &here, size_t head, bool causal,
                                 size_t first_key, size_t count, const key_tiles &t, float dk[D / 8][4],
                                 float dv[D / 8][4])
{
    unsigned row = threadIdx.x / 32 * 16;
    size_t first = causal ? first_key : 0;
    const query_loads<D> load = {b, here, head, t};
    if (keys) load.gradients(first);
    load.queries(first);
    if (!keys) load.gradients(first);
    for (; first < here.length; first += TILE) {
        float s[8][4], dp[8][4];
        tiles_loaded<1>();
        if (keys) {
            multiply_rows<D>(t.v, row, t.dout, dp);
            tiles_loaded<0>();
        }
        multiply_rows<D>(t.k, row, t.q, s); /* keys down, queries across */
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < 4; i++) {
                unsigned across = 8 * (unsigned)j + fragment_column(i);
                size_t key = first_key + row + fragment_row(i), query = first + across;
                bool sees = key < count && query < here.length && (!causal || key <= query);
                s[j][i] = sees ? exp2f((s[j][i] * b.scale - t.lse[across]) * LOG2_E) : 0.0f;
            }
        if (!keys) {
            tiles_loaded<0>(); /* the queries are done with */
            load.queries(first + TILE);
        }
        if (values) multiply_columns<D>(s, t.dout, dv);
        __syncthreads(); /* dout is done with */
        load.gradients(first + TILE);
        if (keys) {
            for (int j = 0; j < 8; j++)
                for (int i = 0; i < 4; i++)
                    s[j][i] *= (dp[j][i] - t.dots[8 * (unsigned)j + fragment_column(i)]) * b.scale;
            multiply_columns<D>(s, t.q, dk);
            __syncthreads(); /* and the queries */
            load.queries(first + TILE);
        }
    }
}

template <int D, typename Store>
__device__ inline void store_keys(size_t first_key, size_t count, size_t width, const float sum[D / 8][4], Store store)
{
    unsigned row = threadIdx.x / 32 * 16;
    for (int i = 0; i < D / 8; i++)
        for (int half = 0; half < 2; half++) {
            size_t key = first_key + row + fragment_row(2 * half);
            unsigned column = 8 * (unsigned)i + fragment_column(0);
            if (key < count && column < width) store(key, column, sum[i][2 * half], sum[i][2 * half + 1]);
        }
}

template <int D, bool keys, bool values>
__global__ void __launch_bounds__(TILE_THREADS) key_tiles_kernel(backward<bf16> b, bf16 *dk, bf16 *dv)
{
    const heads &h = b.h;
    key_tiles t = key_tiles_here<D>();
    size_t g = blockIdx.y, first_key = (size_t)blockIdx.x * TILE, first_head, last_head;
    readers(h, g, &first_head, &last_head);
    for (size_t s = blockIdx.z; s < h.sequences; s += gridDim.z) {
        sequence here = sequence_of(h, s);
        if (first_key >= here.length) continue;
        float sum_k[D / 8][4] = {}, sum_v[D / 8][4] = {};
        __syncthreads();
        load_tile<D>(head_rows(b.k, here.begin, h.kv_heads, g, h.width), first_key, here.length, h.width, t.k);
        load_tile<D>(head_rows(b.v, here.begin, h.kv_heads, g, h.width), first_key, here.length, h.width, t.v);
        for (size_t head = first_head; head < last_head; head++)
            keys_head<D, keys, values>(b, here, head, true, first_key, here.length, t, sum_k, sum_v);
        copy_async_wait<0>(); /* of keys that no head reads */
        auto place = [&](bf16 *x) {
            return [=](size_t key, unsigned column, float low, float high) {
                store_pair(x + ((here.begin + key) * h.kv_heads + g) * h.width, column, h.width, low, high);
            };
        };
        if (keys) store_keys<D>(first_key, here.length, h.width, sum_k, place(dk));
        if (values) store_keys<D>(first_key, here.length, h.width, sum_v, place(dv));
    }
}

/* 64 places of the prefixes for a key/value head, all sequences one after the other. */
template <int D, bool keys, bool values> __global__ void __launch_bounds__(TILE_THREADS) prefix_tiles(backward<bf16> b)
{
    const heads &h = b.h;
    key_tiles t = key_tiles_here<D>();
    size_t g = blockIdx.y, first_key = (size_t)blockIdx.x * TILE, first_head, last_head;
    readers(h, g, &first_head, &last_head);
    for (size_t s = 0; s < h.sequences; s++) {
        sequence here = sequence_of(h, s);
        const struct attention_prefix &p = here.prefix;
        if (first_key >= p.length || here.length == 0 || !((keys && p.dk) || (values && p.dv))) continue;
        float sum_k[D / 8][4] = {}, sum_v[D / 8][4] = {};
        __syncthreads();
        load_tile<D>(prefix_rows<bf16>(p.k, p, g, h.width), first_key, p.length, h.width, t.k);
        load_tile<D>(prefix_rows<bf16>(p.v, p, g, h.width), first_key, p.length, h.width, t.v);
        for (size_t head = first_head; head < last_head; head++)
            keys_head<D, keys, values>(b, here, head, false, first_key, p.length, t, sum_k, sum_v);
        copy_async_wait<0>(); /* as there */
        auto place = [&](float *x) {
            return [=](size_t key, unsigned column, float low, float high) {
                float *at = x + key * p.stride + g * h.width + column;
                at[0] += low;
                if (column + 1 < h.width) at[1] += high;
            };
        };
        if (keys && p.dk) store_keys<D>(first_key, p.length, h.width, sum_k, place(p.dk));
        if (values && p.dv) store_keys<D>(first_key, p.length, h.width, sum_v, place(p.dv));
    }
}

/* ---- a warp a row, 32 others at a time ---- */

template <typename T>
__device__ inline void query_source(const rows_of<T> &keys, const rows_of<T> &values, size_t count, size_t width,
                                    float scale, float lse, float dots, const row_room &room, float sum[LANE_WIDTHS])
{
    unsigned lane = threadIdx.x % 32;
    for (size_t first = 0; first < count; first += 32) {
        size_t mine = first + lane, here = count - first < 32 ? count - first : 32;
        float ds = 0;
        if (mine < count) {
            float p = expf(scale * lane_dot(room.first, keys.x + mine * keys.stride, width) - lse);
            ds = p * (lane_dot(room.second, values.x + mine * values.stride, width) - dots) * scale;
        }
        room.ds[lane] = ds;
        __syncwarp();
        for (size_t j = 0; j < here; j++)
            add_row(room.ds[j], keys.x + (first + j) * keys.stride, width, sum);
        __syncwarp();
    }
}

template <typename T> __global__ void __launch_bounds__(ROW_THREADS) query_rows(backward<T> b, T *dq)
{
    const heads &h = b.h;
    row_room room = row_room_here(h.width);
    size_t head = blockIdx.y, g = h.kv_head_of[head], query = (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    for (size_t s = blockIdx.z; s < h.sequences; s += gridDim.z) {
        sequence here = sequence_of(h, s);
        if (query >= here.length) continue; /* the whole warp */
        float sum[LANE_WIDTHS] = {};
        size_t at = (here.begin + query) * h.query_heads + head;
        keep_row(b.q + at * h.width, h.width, room.first);
        keep_row(b.dout + at * h.width, h.width, room.second);
        __syncwarp();
        if (here.prefix.length)
            query_source(prefix_rows<T>(here.prefix.k, here.prefix, g, h.width),
                         prefix_rows<T>(here.prefix.v, here.prefix, g, h.width), here.prefix.length, h.width, b.scale,
                         b.lse[at], b.dots[at], room, sum);
        query_source(head_rows(b.k, here.begin, h.kv_heads, g, h.width),
                     head_rows(b.v, here.begin, h.kv_heads, g, h.width), query + 1, h.width, b.scale, b.lse[at],
                     b.dots[at], room, sum);
        store_row(sum, h.width, dq + at * h.width);
    }
}

/* All queries from `first` on that see a key, of all heads that read it. */
template <typename T>
__device__ inline void key_row(const backward<T> &b, const sequence &here, size_t g, size_t first, const T *k,
                               const T *v, float dk[LANE_WIDTHS], float dv[LANE_WIDTHS])
{
    const heads &h = b.h;
    row_room room = row_room_here(h.width);
    unsigned lane = threadIdx.x % 32;
    size_t first_head, last_head;
    readers(h, g, &first_head, &last_head);
    keep_row(k, h.width, room.first);
    keep_row(v, h.width, room.second);
    __syncwarp();
    for (size_t head = first_head; head < last_head; head++)
        for (size_t begin = first; begin < here.length; begin += 32) {
            size_t count = here.length - begin < 32 ? here.length - begin : 32;
            float p = 0, ds = 0;
            if (lane < count) {
                size_t at = (here.begin + begin + lane) * h.query_heads + head;
                p = expf(b.scale * lane_dot(room.first, b.q + at * h.width, h.width) - b.lse[at]);
                ds = p * (lane_dot(room.second, b.dout + at * h.width, h.width) - b.dots[at]) * b.scale;
            }
            room.p[lane] = p;
            room.ds[lane] = ds;
            __syncwarp();
            for (size_t j = 0; j < count; j++) {
                size_t at = ((here.begin + begin + j) * h.query_heads + head) * h.width;
                add_row(room.p[j], b.dout + at, h.width, dv);
                add_row(room.ds[j], b.q + at, h.width, dk);
            }
            __syncwarp();
        }
}

template <typename T> __global__ void __launch_bounds__(ROW_THREADS) key_rows(backward<T> b, T *dk, T *dv)
{
    const heads &h = b.h;
    size_t g = blockIdx.y, key = (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    for (size_t s = blockIdx.z; s < h.sequences; s += gridDim.z) {
        sequence here = sequence_of(h, s);
        if (key >= here.length) continue;
        float sum_k[LANE_WIDTHS] = {}, sum_v[LANE_WIDTHS] = {};
        size_t at = ((here.begin + key) * h.kv_heads + g) * h.width;
        key_row(b, here, g, key, b.k + at, b.v + at, sum_k, sum_v);
        store_row(sum_k, h.width, dk + at);
        store_row(sum_v, h.width, dv + at);
    }
}

__device__ inline void add_to_row(const float x[LANE_WIDTHS], size_t width, float *row)
{
    for (int i = 0; row && i < LANE_WIDTHS; i++) {
        size_t column = threadIdx.x % 32 + 32 * (size_t)i;
        if (column < width) row[column] += x[i];
    }
}

template <typename T> __global__ void __launch_bounds__(ROW_THREADS) prefix_rows_kernel(backward<T> b)
{
    const heads &h = b.h;
    size_t g = blockIdx.y, key = (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    for (size_t s = 0; s < h.sequences; s++) {
        sequence here = sequence_of(h, s);
        const struct attention_prefix &p = here.prefix;
        if (key >= p.length || (!p.dk && !p.dv)) continue;
        float sum_k[LANE_WIDTHS] = {}, sum_v[LANE_WIDTHS] = {};
        size_t at = key * p.stride;
        key_row(b, here, g, 0, prefix_rows<T>(p.k, p, g, h.width).x + at, prefix_rows<T>(p.v, p, g, h.width).x + at,
                sum_k, sum_v);
        at += g * h.width;
        add_to_row(sum_k, h.width, p.dk ? p.dk + at : nullptr);
        add_to_row(sum_v, h.width, p.dv ? p.dv + at : nullptr);
    }
}

/* ---- the host ---- */

template <int D, bool keys, bool values>
void run_keys(struct device *device, const struct attention *shape, const backward<bf16> &b, bf16 *dk, bf16 *dv)
{
    launch(device, key_tiles_kernel<D, keys, values>, grid_of(shape, TILE, shape->kv_heads), TILE_THREADS, key_bytes<D>,
           b, dk, dv);
    if (shape->longest_prefix)
        launch(device, prefix_tiles<D, keys, values>,
               dim3(blocks_for(shape->longest_prefix, TILE), (unsigned)shape->kv_heads), TILE_THREADS, key_bytes<D>, b);
}

void run_tiles(struct device *device, const struct attention *shape, const backward<bf16> &b, bf16 *dq, bf16 *dk,
               bf16 *dv)
{
    with_width(shape->head_width, [&](auto width) {
        constexpr int D = decltype(width)::value;
        launch(device, query_tiles<D>, grid_of(shape, TILE, shape->heads), TILE_THREADS,
               4 * tile_elements<D> * sizeof(bf16), b, dq);
        if constexpr (D <= 128) {
            run_keys<D, true, true>(device, shape, b, dk, dv);
        } else {
            run_keys<D, true, false>(device, shape, b, dk, dv);
            run_keys<D, false, true>(device, shape, b, dk, dv);
        }
    });
}

template <typename T>
void run_rows(struct device *device, const struct attention *shape, const backward<T> &b, T *dq, T *dk, T *dv)
{
    launch(device, query_rows<T>, grid_of(shape, ROW_WARPS, shape->heads), ROW_THREADS, row_bytes(shape->head_width), b,
           dq);
    launch(device, key_rows<T>, grid_of(shape, ROW_WARPS, shape->kv_heads), ROW_THREADS, row_bytes(shape->head_width),
           b, dk, dv);
    if (shape->longest_prefix)
        launch(device, prefix_rows_kernel<T>,
               dim3(blocks_for(shape->longest_prefix, ROW_WARPS), (unsigned)shape->kv_heads), ROW_THREADS,
               row_bytes(shape->head_width), b);
}

} // namespace

void cuda_attention_backward(struct device *device, const struct attention *shape, const real *q, const real *k,
                             const real *v, const real *out, const float *lse, const real *dout, real *dq, real *dk,
                             real *dv)
{
    size_t rows = shape->sequences.tokens * shape->heads;
    if (rows == 0 || !width_fits(device, shape->head_width)) return;
    float *dots = static_cast<float *>(device_scratch(device, rows * sizeof(float)));
    if (!dots) return;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, dot_rows<T>, blocks_of((rows + ROW_WARPS - 1) / ROW_WARPS), ROW_THREADS, 0, rows,
               shape->head_width, as<T>(out), as<T>(dout), dots);
        backward<T> b = {
            heads_of(shape), score_scale(shape->head_width), as<T>(q), as<T>(k), as<T>(v), as<T>(dout), lse, dots};
        if constexpr (std::is_same<T, bf16>::value) {
            if (takes_tiles(device, shape->head_width, 4, KEY_NUMBERS)) {
                run_tiles(device, shape, b, as<T>(dq), as<T>(dk), as<T>(dv));
                return;
            }
        }
        run_rows(device, shape, b, as<T>(dq), as<T>(dk), as<T>(dv));
    });
}
