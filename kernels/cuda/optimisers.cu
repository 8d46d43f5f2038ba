/* Steps of the optimisers, for all tensors of a model in one launch.
 *
 * Bytes a weight: AdamW 28 and 2 for the rounding, SGD 20 or 12 and 2, Adafactor 12 and 2. */
#include <cmath>

#include "kernels/cuda/tensors.cuh"

namespace
{

constexpr unsigned THREADS = 256;
constexpr size_t CHUNK = 1 << 14;

struct update_entry {
    float *value;
    const float *gradient;
    float *moment1, *moment2;
    void *rounding;
    size_t n, first_chunk;
    float weight_decay, correction1, correction2; /* factors that undo the moments' bias */
};

struct adamw_step {
    float rate, beta1, beta2, rest1, rest2, epsilon, gradient_scale;
    __device__ float operator()(const update_entry &t, size_t i) const
    {
        float g = t.gradient[i] * gradient_scale, value = t.value[i];
        float m = beta1 * t.moment1[i] + rest1 * g, v = beta2 * t.moment2[i] + rest2 * g * g;
        t.moment1[i] = m;
        t.moment2[i] = v;
        float step = m * t.correction1 / (sqrtf(v * t.correction2) + epsilon);
        return value - rate * (step + t.weight_decay * value);
    }
};

struct sgd_step {
    float rate, beta, gradient_scale;
    __device__ float operator()(const update_entry &t, size_t i) const
    {
        float value = t.value[i], g = t.gradient[i] * gradient_scale + t.weight_decay * value;
        if (t.moment1) {
            g += beta * t.moment1[i];
            t.moment1[i] = g;
        }
        return value - rate * g;
    }
};

/* T: of the rounding. */
template <typename T, typename Step>
__global__ void __launch_bounds__(THREADS) step_all(size_t chunks, size_t count, const update_entry *entries, Step step)
{
    for (size_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const update_entry &t = entry_of(entries, count, chunk);
        size_t first = (chunk - t.first_chunk) * CHUNK, last = min(first + CHUNK, t.n);
        for (size_t i = first + threadIdx.x; i < last; i += blockDim.x) {
            float value = step(t, i);
            t.value[i] = value;
            if (t.rounding) static_cast<T *>(t.rounding)[i] = rounded<T>(value);
        }
    }
}

template <typename Step>
void run(struct device *device, size_t count, const struct update *tensors, float beta1, float beta2, Step step)
{
    std::vector<update_entry> entries(count);
    size_t chunks = 0;
    for (size_t i = 0; i < count; i++) {
        const struct update &t = tensors[i];
        float correction1 = (float)(1 / (1 - std::pow((double)beta1, (double)t.step)));
        float correction2 = (float)(1 / (1 - std::pow((double)beta2, (double)t.step)));
        entries[i] = {t.value, t.gradient, t.moment1,      t.moment2,   t.rounded,
                      t.n,     chunks,     t.weight_decay, correction1, correction2};
        chunks += (t.n + CHUNK - 1) / CHUNK;
    }
    if (chunks == 0) return;
    const update_entry *there = send(device, entries);
    if (!there) return;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, step_all<T, Step>, blocks_of(chunks), THREADS, 0, chunks, count, there, step);
    });
}

__global__ void __launch_bounds__(THREADS)
    move(size_t n, float rest, float factor, float offset, const float *x, float *average)
{
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride)
        average[i] += rest * (factor * x[i] + offset - average[i]);
}

struct factored_entry {
    float *value;
    const float *gradient, *row, *column;
    void *rounding;
    size_t rows, columns, rows_of_chunk, first_chunk;
    float row_mean, rate, decay;
};

/* Whole rows a chunk. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    factored_all(size_t chunks, size_t count, const factored_entry *entries, float gradient_scale)
{
    for (size_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const factored_entry &t = entry_of(entries, count, chunk);
        size_t first = (chunk - t.first_chunk) * t.rows_of_chunk, last = min(first + t.rows_of_chunk, t.rows);
        for (size_t r = first; r < last; r++) {
            float factor = row_factor(t.row, r, t.row_mean, gradient_scale);
            for (size_t c = threadIdx.x; c < t.columns; c += blockDim.x) {
                size_t i = r * t.columns + c;
                float value = t.value[i];
                value -= t.decay * value + t.rate * (factor * t.gradient[i] / sqrtf(t.column[c]));
                t.value[i] = value;
                if (t.rounding) static_cast<T *>(t.rounding)[i] = rounded<T>(value);
            }
        }
    }
}

} // namespace

void cuda_adamw(struct device *device, size_t count, const struct update *tensors, float rate, float beta1, float beta2,
                float epsilon, float gradient_scale)
{
    run(device, count, tensors, beta1, beta2,
        adamw_step{rate, beta1, beta2, (float)(1 - (double)beta1), (float)(1 - (double)beta2), epsilon,
                   gradient_scale});
}

void cuda_sgd(struct device *device, size_t count, const struct update *tensors, float rate, float beta,
              float gradient_scale)
{
    run(device, count, tensors, 0, 0, sgd_step{rate, beta, gradient_scale});
}

void cuda_moving_average(struct device *device, size_t n, float rest, float factor, float offset, const float *x,
                         float *average)
{
    launch(device, move, blocks_to_stride(device, n, THREADS, 16), THREADS, 0, n, rest, factor, offset, x, average);
}

void cuda_adafactor(struct device *device, size_t count, const struct factored *tensors, float gradient_scale)
{
    std::vector<factored_entry> entries(count);
    size_t chunks = 0;
    for (size_t i = 0; i < count; i++) {
        const struct factored &t = tensors[i];
        size_t rows = rows_of_chunk(t.columns, CHUNK);
        entries[i] = {t.value,   t.gradient, t.row,  t.column,   t.rounded, t.rows,
                      t.columns, rows,       chunks, t.row_mean, t.rate,    t.decay};
        chunks += (t.rows + rows - 1) / rows;
    }
    if (chunks == 0) return;
    const factored_entry *there = send(device, entries);
    if (!there) return;
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        launch(device, factored_all<T>, blocks_of(chunks), THREADS, 0, chunks, count, there, gradient_scale);
    });
}
