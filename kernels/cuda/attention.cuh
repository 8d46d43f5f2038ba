/* What the attention kernels share: where a head's keys and values lie, and tiles of them in shared memory. */
#ifndef TUNELAW_KERNELS_CUDA_ATTENTION_CUH
#define TUNELAW_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/mma.cuh"

/* struct attention as kernels take it. */
struct heads {
    size_t sequences, query_heads, kv_heads, width;
    const uint32_t *offsets, *kv_head_of;
    const struct attention_prefix *prefixes; /* NULL: none */
};

inline heads heads_of(const struct attention *shape)
{
    return {shape->sequences.count,   shape->heads,      shape->kv_heads, shape->head_width,
            shape->sequences.offsets, shape->kv_head_of, shape->prefixes};
}

/* A sequence: its rows, and what comes before them. */
struct sequence {
    size_t begin, length;
    struct attention_prefix prefix; /* length 0: none */
};

__device__ inline sequence sequence_of(const heads &h, size_t s)
{
    sequence sequence = {h.offsets[s], h.offsets[s + 1] - h.offsets[s], {}};
    if (h.prefixes) sequence.prefix = h.prefixes[s];
    return sequence;
}

/* Rows of one head of an array [rows][heads][width], or of a prefix: row i lies at x + i * stride. */
template <typename T> struct rows_of {
    const T *x;
    size_t stride;

    __device__ const T *operator()(size_t i) const
    {
        return x + i * stride;
    }
};

template <typename T>
__device__ inline rows_of<T> head_rows(const T *x, size_t begin, size_t heads, size_t head, size_t width)
{
    return {x + (begin * heads + head) * width, heads * width};
}

template <typename T>
__device__ inline rows_of<T> prefix_rows(const real *x, const struct attention_prefix &prefix, size_t head,
                                         size_t width)
{
    return {reinterpret_cast<const T *>(x) + head * width, prefix.stride};
}

/* Query heads that read key/value head g are [first, last): kv_head_of ascends. */
__device__ inline void readers(const heads &h, size_t g, size_t *first, size_t *last)
{
    for (*first = 0; *first < h.query_heads && h.kv_head_of[*first] < g;)
        ++*first;
    for (*last = *first; *last < h.query_heads && h.kv_head_of[*last] == g;)
        ++*last;
}

/* ---- tiles for tensor cores: TILE rows of a head, in bf16, zeros behind the width and the last row ---- */

constexpr unsigned TILE = 64, TILE_WARPS = 4, TILE_THREADS = 32 * TILE_WARPS;

/* Rows are padded by 16 bytes, so that eight of them lie in different banks. */
template <int D> constexpr size_t tile_stride = D + 8;
template <int D> constexpr size_t tile_elements = TILE *tile_stride<D>;

/* load_tile where rows are no whole vectors: an element at a time. */
template <int D>
__device__ inline void load_elements(const rows_of<bf16> &from, size_t first, size_t count, size_t width, bf16 *tile)
{
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < TILE * D; i += TILE_THREADS) {
        unsigned row = i / D, column = i % D;
        bool there = first + row < count && column < width;
        tile[row * tile_stride<D> + column] = there ? from(first + row)[column] : rounded<bf16>(0);
    }
}

/* load_tile where they are: 16 bytes at a time, on their way. */
template <int D>
__device__ inline void load_vectors(const rows_of<bf16> &from, size_t first, size_t count, size_t width, bf16 *tile)
{
    constexpr unsigned CHUNKS = D / 8;
    for (unsigned i = threadIdx.x; i < TILE * CHUNKS; i += TILE_THREADS) {
        unsigned row = i / CHUNKS, column = i % CHUNKS * 8;
        bool there = first + row < count && column < width;
        copy_async_16(tile + row * tile_stride<D> + column, there ? from(first + row) + column : from.x, there);
    }
}

/* Rows first .. first+63 of `from`, of which `count` exist, are on their way. A group of copies each, which
 * tiles_loaded() counts; where no row exists it is empty and the tile stays. */
template <int D>
__device__ inline void load_tile(const rows_of<bf16> &from, size_t first, size_t count, size_t width, bf16 *tile)
{
    bool whole = reinterpret_cast<uintptr_t>(from.x) % 16 == 0 && from.stride % 8 == 0 && width % 8 == 0;
    if (first < count && whole)
        load_vectors<D>(from, first, count, width, tile);
    else if (first < count)
        load_elements<D>(from, first, count, width, tile);
    copy_async_commit();
}

/* All threads see the tiles that all have loaded, but for the last `left`, and are done with what came before. */
template <int left> __device__ inline void tiles_loaded()
{
    copy_async_wait<left>();
    __syncthreads();
}

/* A of 16 rows from `row`, columns from `column`. */
template <int D> __device__ inline void fragment_a(const bf16 *tile, unsigned row, unsigned column, uint32_t a[4])
{
    unsigned lane = threadIdx.x % 32;
    ldmatrix_x4(a, tile + (row + lane % 16) * tile_stride<D> + column + lane / 16 * 8);
}

/* B of a product with the tile's transpose: two fragments, of rows row .. row+15 as columns, inner columns from
 * `column`. */
template <int D>
__device__ inline void fragments_of_rows(const bf16 *tile, unsigned row, unsigned column, uint32_t b[4])
{
    unsigned lane = threadIdx.x % 32;
    ldmatrix_x4(b, tile + (row + lane % 8 + lane / 16 * 8) * tile_stride<D> + column + lane / 8 % 2 * 8);
}

/* B of a product with the tile itself: two fragments, inner rows row .. row+15, of columns column .. column+15. */
template <int D>
__device__ inline void fragments_of_columns(const bf16 *tile, unsigned row, unsigned column, uint32_t b[4])
{
    unsigned lane = threadIdx.x % 32;
    ldmatrix_x4_transposed(b, tile + (row + lane % 16) * tile_stride<D> + column + lane / 16 * 8);
}

/* s[8 tiles of 8 columns] = (16 rows of x from `row`) times (the 64 rows of y)^T */
template <int D> __device__ inline void multiply_rows(const bf16 *x, unsigned row, const bf16 *y, float s[8][4])
{
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 4; i++)
            s[j][i] = 0;
#pragma unroll
    for (unsigned column = 0; column < D; column += 16) {
        uint32_t a[4];
        fragment_a<D>(x, row, column, a);
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
            uint32_t b[4];
            fragments_of_rows<D>(y, 8 * (unsigned)j, column, b);
            mma_16x8x16(s[j], a, b);
            mma_16x8x16(s[j + 1], a, b + 2);
        }
    }
}

/* sum[D / 8 tiles] += p (16 rows, 64 columns, as multiply_rows leaves it) times the tile's 64 rows */
template <int D> __device__ inline void multiply_columns(const float p[8][4], const bf16 *tile, float sum[D / 8][4])
{
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const uint32_t a[4] = {pack(p[2 * j][0], p[2 * j][1]), pack(p[2 * j][2], p[2 * j][3]),
                               pack(p[2 * j + 1][0], p[2 * j + 1][1]), pack(p[2 * j + 1][2], p[2 * j + 1][3])};
#pragma unroll
        for (int i = 0; i < D / 8; i += 2) {
            uint32_t b[4];
            fragments_of_columns<D>(tile, 16 * (unsigned)j, 8 * (unsigned)i, b);
            mma_16x8x16(sum[i], a, b);
            mma_16x8x16(sum[i + 1], a, b + 2);
        }
    }
}

/* Place of element i of a lane's fragment of 16 x 8: row and column. */
__device__ inline unsigned fragment_row(int i)
{
    return threadIdx.x % 32 / 4 + (unsigned)(i / 2) * 8;
}

__device__ inline unsigned fragment_column(int i)
{
    return threadIdx.x % 4 * 2 + (unsigned)(i % 2);
}

/* A block's tile of queries. Blocks begin in ascending order, and late queries see the most keys: they come first. */
__device__ inline size_t tile_from_last()
{
    return gridDim.x - 1 - blockIdx.x;
}

/* How many of a tile's keys from `first` on, of `count`, a query sees: all of them, or causal. */
__device__ inline unsigned keys_seen(size_t first, size_t count, bool causal, size_t query)
{
    size_t end = causal && query < count ? query + 1 : count;
    return end <= first ? 0 : end - first < TILE ? (unsigned)(end - first) : TILE;
}

/* A lane's two neighbours of a row of `width`, from `column`, which is even. */
__device__ inline void store_pair(bf16 *row, unsigned column, size_t width, float low, float high)
{
    bf16 *at = row + column;
    if (column + 1 < width && reinterpret_cast<uintptr_t>(at) % 4 == 0) {
        *reinterpret_cast<uint32_t *>(at) = pack(low, high);
        return;
    }
    if (column < width) at[0] = rounded<bf16>(low);
    if (column + 1 < width) at[1] = rounded<bf16>(high);
}

/* body(std::integral_constant<int, D>) with the smallest D that holds the width. */
template <typename Body> void with_width(size_t width, Body body)
{
    if (width <= 32)
        body(std::integral_constant<int, 32>());
    else if (width <= 64)
        body(std::integral_constant<int, 64>());
    else if (width <= 128)
        body(std::integral_constant<int, 128>());
    else
        body(std::integral_constant<int, 256>());
}

/* Whether the tensor cores' kernels take it: so many tiles and `more` bytes must fit into a block's shared memory. */
inline bool takes_tiles(const struct device *device, size_t width, size_t tiles, size_t more)
{
    if (device_precision(device) != PRECISION_BF16 || width > 256) return false;
    size_t bytes = 0;
    with_width(width, [&](auto room) { bytes = tiles * tile_elements<decltype(room)::value> * sizeof(bf16) + more; });
    return bytes <= device_shared_bytes(device);
}

/* ---- the general kernels: a warp a row, any width up to LANE_WIDTHS * 32 ---- */

constexpr unsigned ROW_WARPS = 4, ROW_THREADS = 32 * ROW_WARPS;
constexpr int LANE_WIDTHS = 16; /* numbers of a row that a lane sums */

/* A warp's own rows, and a weight for each of 32 others, in shared memory. */
struct row_room {
    float *first, *second, *p, *ds;
};

inline size_t row_bytes(size_t width)
{
    return ROW_WARPS * (2 * width + 64) * sizeof(float);
}

__device__ inline row_room row_room_here(size_t width)
{
    float *mine = reinterpret_cast<float *>(shared_memory) + threadIdx.x / 32 * (2 * width + 64);
    return {mine, mine + width, mine + 2 * width, mine + 2 * width + 32};
}

/* To be followed by __syncwarp(). */
template <typename T> __device__ inline void keep_row(const T *row, size_t width, float *to)
{
    for (size_t i = threadIdx.x % 32; i < width; i += 32)
        to[i] = number(row[i]);
}

/* Of one lane: each has another row. */
template <typename T> __device__ inline float lane_dot(const float *own, const T *row, size_t width)
{
    float sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += own[i] * number(row[i]);
    return sum;
}

/* x += weight row; a lane has columns lane, lane + 32, ... */
template <typename T> __device__ inline void add_row(float weight, const T *row, size_t width, float x[LANE_WIDTHS])
{
#pragma unroll
    for (int i = 0; i < LANE_WIDTHS; i++) {
        size_t column = threadIdx.x % 32 + 32 * (size_t)i;
        if (column < width) x[i] += weight * number(row[column]);
    }
}

template <typename T> __device__ inline void store_row(const float x[LANE_WIDTHS], size_t width, T *row)
{
#pragma unroll
    for (int i = 0; i < LANE_WIDTHS; i++) {
        size_t column = threadIdx.x % 32 + 32 * (size_t)i;
        if (column < width) row[column] = rounded<T>(x[i]);
    }
}

/* A softmax over rows, as far as a warp has come: a lane has columns lane, lane + 32, ... of the sums of values. */
struct row_softmax {
    float maximum, sum, values[LANE_WIDTHS];
};

/* Rows first, first + step, ... up to `count`, 32 from each, a lane a score; room.first holds the query. keys(j),
 * values(j): where row j lies. */
template <typename Rows>
__device__ inline void attend_rows(const Rows &keys, const Rows &values, size_t first, size_t step, size_t count,
                                   size_t width, float scale, const row_room &room, row_softmax *state)
{
    unsigned lane = threadIdx.x % 32;
    for (; first < count; first += step) {
        size_t mine = first + lane, here = count - first < 32 ? count - first : 32;
        float score = mine < count ? scale * lane_dot(room.first, keys(mine), width) : -INFINITY;
        float highest = fmaxf(state->maximum, warp_max(score));
        float factor = expf(state->maximum - highest), p = mine < count ? expf(score - highest) : 0.0f;
        state->sum = state->sum * factor + warp_sum(p);
        room.p[lane] = p;
        for (int i = 0; i < LANE_WIDTHS; i++)
            state->values[i] *= factor;
        __syncwarp();
        for (size_t j = 0; j < here; j++)
            add_row(room.p[j], values(first + j), width, state->values);
        __syncwarp();
        state->maximum = highest;
    }
}

/* ---- the host ---- */

/* A grid of tiles or rows of the longest sequence, heads, sequences. */
inline dim3 grid_of(const struct attention *shape, unsigned each, size_t heads)
{
    size_t sequences = shape->sequences.count < 65535 ? shape->sequences.count : 65535;
    return dim3(blocks_for(shape->sequences.longest, each), (unsigned)heads, (unsigned)sequences);
}

/* false: heads are too wide for any kernel, which the device keeps as its error. */
inline bool width_fits(struct device *device, size_t width)
{
    if (width > 32 * LANE_WIDTHS) device_note(device, cudaErrorInvalidValue);
    return width <= 32 * LANE_WIDTHS;
}

inline float score_scale(size_t width)
{
    return 1.0f / sqrtf((float)width);
}

#endif
