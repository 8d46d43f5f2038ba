/* Operations on whole rows: the embedding table, rows with a loss, rotary positions, heads that come from one matrix.
 *
 * Up to 10^6 rows. Copies move 16 bytes a thread where width and addresses allow. Gradients of the table's rows go by
 * runs of equal ids in the given order, a warp a run and 32 columns at a time: no atomics, and sums in the order of the
 * tokens; a run of 10^5 tokens (a very frequent word) is one warp's work for each 32 columns. Bytes an element of E
 * bytes: copies 2E, scatter 3E, rotary 2E, embedding backward E + 8. */
#include "kernels/cuda/cuda.cuh"

namespace
{

constexpr unsigned THREADS = 256, WARPS = THREADS / 32;

/* A block a row: out[row] = in[from(row)], zeros where that is NULL; U: an element, or 16 bytes of them. */
template <typename U, typename F>
__global__ void __launch_bounds__(THREADS) copy_rows(size_t rows, size_t width, F from, U *out)
{
    for (size_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const U *x = from(row, width);
        for (size_t i = threadIdx.x; i < width; i += blockDim.x)
            out[row * width + i] = x ? x[i] : U();
    }
}

template <typename U> struct embedded {
    const int32_t *ids;
    size_t first, count;
    const U *table, *prompt;
    __device__ const U *operator()(size_t row, size_t width) const
    {
        int64_t id = ids[row];
        if (id < 0) return prompt ? prompt + (size_t)(-id - 1) * width : nullptr;
        if ((size_t)id < first || (size_t)id >= first + count) return nullptr;
        return table + ((size_t)id - first) * width;
    }
};

template <typename U> struct gathered {
    const uint32_t *rows;
    const U *x;
    __device__ const U *operator()(size_t row, size_t width) const
    {
        return x + (size_t)rows[row] * width;
    }
};

template <typename T> const vector<T> *vectors(const T *x)
{
    return reinterpret_cast<const vector<T> *>(x);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    scatter(size_t count, size_t width, const uint32_t *rows, const T *dout, T *dx)
{
    for (size_t i = blockIdx.x; i < count; i += gridDim.x)
        for (size_t j = threadIdx.x; j < width; j += blockDim.x) {
            size_t at = (size_t)rows[i] * width + j;
            dx[at] = rounded<T>(number(dx[at]) + number(dout[i * width + j]));
        }
}

/* The warp whose place in the order begins a run of one id adds it up, for the columns of its grid row. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    add_runs(size_t tokens, size_t width, const int32_t *ids, const uint32_t *order, size_t first, size_t count,
             const T *dout, float *dtable, float *dprompt)
{
    size_t step = (size_t)gridDim.x * WARPS, column = (size_t)blockIdx.y * 32 + threadIdx.x % 32;
    for (size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32; at < tokens; at += step) {
        int64_t id = ids[order[at]];
        if (at > 0 && ids[order[at - 1]] == id) continue;
        float *row = nullptr;
        if (id < 0)
            row = dprompt ? dprompt + (size_t)(-id - 1) * width : nullptr;
        else if (dtable && (size_t)id >= first && (size_t)id < first + count)
            row = dtable + ((size_t)id - first) * width;
        for (size_t i = column; row && i < width; i += (size_t)gridDim.y * 32) {
            float sum = row[i];
            for (size_t t = at; t < tokens && ids[order[t]] == id; t++)
                sum += number(dout[(size_t)order[t] * width + i]);
            row[i] = sum;
        }
    }
}

/* Of a head's pairs, given to the kernel by value: 2 KiB of the 4 that its arguments may have. */
struct frequencies {
    double x[256];
};

/* Angles in double, as on the host: positions go up to 10^5 and more. A block a token; its cosines and sines first. */
template <typename T>
__global__ void __launch_bounds__(THREADS) turn(size_t tokens, size_t heads, size_t head_width, size_t half,
                                                struct frequencies given, const int32_t *positions, float sign, T *x)
{
    float *cosines = reinterpret_cast<float *>(shared_memory), *sines = cosines + half;
    for (size_t t = blockIdx.x; t < tokens; t += gridDim.x) {
        for (size_t i = threadIdx.x; i < half; i += blockDim.x) {
            double angle = positions[t] * given.x[i];
            cosines[i] = (float)cos(angle);
            sines[i] = sign * (float)sin(angle);
        }
        __syncthreads();
        for (size_t j = threadIdx.x; j < heads * half; j += blockDim.x) {
            size_t i = j % half;
            T *head = x + (t * heads + j / half) * head_width;
            float a = number(head[i]), b = number(head[i + half]);
            head[i] = rounded<T>(a * cosines[i] - b * sines[i]);
            head[i + half] = rounded<T>(b * cosines[i] + a * sines[i]);
        }
        __syncthreads();
    }
}

/* qkv[T H][3][D] <-> q, k, v [T H][D] */
template <typename T>
__global__ void __launch_bounds__(THREADS) split(size_t heads, size_t width, const T *qkv, T *q, T *k, T *v)
{
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < heads * width; i += step) {
        size_t at = i / width * 3 * width + i % width;
        q[i] = qkv[at];
        k[i] = qkv[at + width];
        v[i] = qkv[at + 2 * width];
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS) merge(size_t heads, size_t width, const T *q, const T *k, const T *v, T *qkv)
{
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < heads * width; i += step) {
        size_t at = i / width * 3 * width + i % width;
        qkv[at] = q[i];
        qkv[at + width] = k[i];
        qkv[at + 2 * width] = v[i];
    }
}

} // namespace

void cuda_embedding_forward(struct device *device, size_t tokens, size_t width, const int32_t *ids, size_t first,
                            size_t count, const real *table, const real *prompt, real *out)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        constexpr size_t each = vector<T>::size;
        unsigned grid = blocks_to_stride(device, tokens, 1, 16);
        if (width % each == 0 && whole_vectors(table) && whole_vectors(prompt) && whole_vectors(out)) {
            embedded<vector<T>> from = {ids, first, count, vectors(as<T>(table)), vectors(as<T>(prompt))};
            launch(device, copy_rows<vector<T>, embedded<vector<T>>>, grid, THREADS, 0, tokens, width / each, from,
                   reinterpret_cast<vector<T> *>(out));
        } else {
            embedded<T> from = {ids, first, count, as<T>(table), as<T>(prompt)};
            launch(device, copy_rows<T, embedded<T>>, grid, THREADS, 0, tokens, width, from, as<T>(out));
        }
    });
}

void cuda_embedding_backward(struct device *device, size_t tokens, size_t width, const int32_t *ids,
                             const uint32_t *order, size_t first, size_t count, const real *dout, float *dtable,
                             float *dprompt)
{
    size_t columns = (width + 31) / 32;
    if (tokens == 0 || width == 0) return;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, add_runs<T>,
               dim3(blocks_to_stride(device, tokens, WARPS, 16), (unsigned)(columns < 65535 ? columns : 65535)),
               THREADS, 0, tokens, width, ids, order, first, count, as<T>(dout), dtable, dprompt);
    });
}

void cuda_gather_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const real *x, real *out)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        constexpr size_t each = vector<T>::size;
        unsigned grid = blocks_to_stride(device, count, 1, 16);
        if (width % each == 0 && whole_vectors(x) && whole_vectors(out)) {
            gathered<vector<T>> from = {rows, vectors(as<T>(x))};
            launch(device, copy_rows<vector<T>, gathered<vector<T>>>, grid, THREADS, 0, count, width / each, from,
                   reinterpret_cast<vector<T> *>(out));
        } else {
            gathered<T> from = {rows, as<T>(x)};
            launch(device, copy_rows<T, gathered<T>>, grid, THREADS, 0, count, width, from, as<T>(out));
        }
    });
}

void cuda_scatter_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const real *dout,
                       real *dx)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, scatter<T>, blocks_to_stride(device, count, 1, 16), THREADS, 0, count, width, rows, as<T>(dout),
               as<T>(dx));
    });
}

void cuda_rotary(struct device *device, size_t tokens, size_t heads, size_t head_width, const struct rotary *rotary,
                 const int32_t *positions, bool inverse, real *x)
{
    struct frequencies frequencies = {};
    size_t half = rotary->turned / 2;
    if (tokens == 0 || half == 0) return;
    if (half > sizeof frequencies.x / sizeof *frequencies.x) {
        device_note(device, cudaErrorInvalidValue);
        return;
    }
    for (size_t i = 0; i < half; i++)
        frequencies.x[i] = rotary_frequency(rotary, i);
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, turn<T>, blocks_to_stride(device, tokens, 1, 16), THREADS, 2 * half * sizeof(float), tokens,
               heads, head_width, half, frequencies, positions, inverse ? -1.0f : 1.0f, as<T>(x));
    });
}

void cuda_split_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const real *qkv, real *q,
                      real *k, real *v)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, split<T>, blocks_to_stride(device, tokens * heads * head_width, THREADS, 16), THREADS, 0,
               tokens * heads, head_width, as<T>(qkv), as<T>(q), as<T>(k), as<T>(v));
    });
}

void cuda_merge_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const real *q,
                      const real *k, const real *v, real *qkv)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, merge<T>, blocks_to_stride(device, tokens * heads * head_width, THREADS, 16), THREADS, 0,
               tokens * heads, head_width, as<T>(q), as<T>(k), as<T>(v), as<T>(qkv));
    });
}
