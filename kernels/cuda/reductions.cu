/* Sums of many tensors at once, and of rows and columns of squares.
 *
 * All tensors of a model in two launches: chunks of CHUNK elements a block, in double, then one warp a
 * tensor over its chunks, both in a fixed order. Bytes: each number once. */
#include <algorithm>

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/tensors.cuh"

namespace
{

constexpr unsigned THREADS = 256;
constexpr size_t CHUNK = 1 << 15, ROOM = 32 * sizeof(double);

struct span_entry {
    const float *x;
    size_t n, first_chunk;
};

__global__ void __launch_bounds__(THREADS)
    sum_chunks(size_t chunks, size_t count, const span_entry *entries, bool squares, double *partials)
{
    double *room = reinterpret_cast<double *>(shared_memory);
    for (size_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const span_entry &span = entry_of(entries, count, chunk);
        size_t first = (chunk - span.first_chunk) * CHUNK, last = min(first + CHUNK, span.n);
        double sum = 0;
        for (size_t i = first + threadIdx.x; i < last; i += blockDim.x) {
            double value = span.x[i];
            sum += squares ? value * value : value;
        }
        sum = block_sum(sum, room);
        if (threadIdx.x == 0) partials[chunk] = sum;
    }
}

/* A warp an entry: its chunks' sums. */
template <typename Entry>
__global__ void __launch_bounds__(THREADS)
    join_chunks(size_t chunks, size_t count, const Entry *entries, const double *partials, double *out)
{
    for (size_t i = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32; i < count;
         i += (size_t)gridDim.x * (THREADS / 32)) {
        size_t last = i + 1 < count ? entries[i + 1].first_chunk : chunks;
        double sum = 0;
        for (size_t chunk = entries[i].first_chunk + threadIdx.x % 32; chunk < last; chunk += 32)
            sum += partials[chunk];
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) out[i] = sum;
    }
}

/* out[i] = the sum of entry i, once it is collected; chunk_sums(entries, partials) launches what sums the chunks. What
 * a device that has failed says is NaN. */
template <typename Entry, typename Launch>
void reduce(struct device *device, const std::vector<Entry> &entries, size_t chunks, double *out, Launch chunk_sums)
{
    size_t count = entries.size();
    std::fill(out, out + count, NAN);
    if (count == 0) return;
    const Entry *there = send(device, entries);
    double *partials = static_cast<double *>(device_scratch(device, (chunks + count) * sizeof(double)));
    if (!there || !partials) return;
    chunk_sums(there, partials);
    launch(device, join_chunks<Entry>, blocks_of((count + 7) / 8), THREADS, 0, chunks, count, there, partials,
           partials + chunks);
    device_answer(device, partials + chunks, count, out);
}

struct factored_entry {
    const float *gradient, *row, *column;
    size_t rows, columns, rows_of_chunk, first_chunk;
    float row_mean;
};

/* Whole rows a chunk. */
__global__ void __launch_bounds__(THREADS)
    factored_chunks(size_t chunks, size_t count, const factored_entry *entries, float gradient_scale, double *partials)
{
    double *room = reinterpret_cast<double *>(shared_memory);
    for (size_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const factored_entry &t = entry_of(entries, count, chunk);
        size_t first = (chunk - t.first_chunk) * t.rows_of_chunk, last = min(first + t.rows_of_chunk, t.rows);
        double sum = 0;
        for (size_t r = first; r < last; r++) {
            float factor = row_factor(t.row, r, t.row_mean, gradient_scale);
            for (size_t c = threadIdx.x; c < t.columns; c += blockDim.x) {
                float step = factor * t.gradient[r * t.columns + c] / sqrtf(t.column[c]);
                sum += (double)step * step;
            }
        }
        sum = block_sum(sum, room);
        if (threadIdx.x == 0) partials[chunk] = sum;
    }
}

/* A block a row. */
__global__ void __launch_bounds__(THREADS)
    row_squares(size_t rows, size_t columns, float scale, const float *x, float *sums)
{
    float *room = reinterpret_cast<float *>(shared_memory);
    for (size_t r = blockIdx.x; r < rows; r += gridDim.x) {
        float sum = 0;
        for (size_t c = threadIdx.x; c < columns; c += blockDim.x) {
            float value = scale * x[r * columns + c];
            sum += value * value;
        }
        sum = block_sum(sum, room);
        if (threadIdx.x == 0) sums[r] = sum;
    }
}

struct scaled_square {
    size_t columns;
    float scale;
    const float *x;
    __device__ terms<1> operator()(size_t row, size_t column) const
    {
        float value = scale * x[row * columns + column];
        return {{value * value}};
    }
};

} // namespace

void cuda_sums(struct device *device, size_t count, const struct span *spans, bool squares, double *out)
{
    std::vector<span_entry> entries(count);
    size_t chunks = 0;
    for (size_t i = 0; i < count; i++) {
        entries[i] = {spans[i].x, spans[i].n, chunks};
        chunks += (spans[i].n + CHUNK - 1) / CHUNK;
    }
    reduce(device, entries, chunks, out, [&](const span_entry *there, double *partials) {
        launch(device, sum_chunks, blocks_of(chunks), THREADS, ROOM, chunks, count, there, squares, partials);
    });
}

void cuda_adafactor_squares(struct device *device, size_t count, const struct factored *tensors, float gradient_scale,
                            double *out)
{
    std::vector<factored_entry> entries(count);
    size_t chunks = 0;
    for (size_t i = 0; i < count; i++) {
        const struct factored &t = tensors[i];
        size_t rows = rows_of_chunk(t.columns, CHUNK);
        entries[i] = {t.gradient, t.row, t.column, t.rows, t.columns, rows, chunks, t.row_mean};
        chunks += (t.rows + rows - 1) / rows;
    }
    reduce(device, entries, chunks, out, [&](const factored_entry *there, double *partials) {
        launch(device, factored_chunks, blocks_of(chunks), THREADS, ROOM, chunks, count, there, gradient_scale,
               partials);
    });
}

void cuda_square_sums(struct device *device, size_t rows, size_t columns, float scale, const float *x, float *row_sums,
                      float *column_sums)
{
    if (row_sums) launch(device, row_squares, blocks_of(rows), THREADS, ROOM, rows, columns, scale, x, row_sums);
    if (column_sums)
        sum_columns<1>(device, rows, columns, scaled_square{columns, scale, x}, ::column_sums<1>{{column_sums}, false});
}
