/* Work on many tensors in one launch: a list of them in device memory, cut into chunks, a block a chunk.
 *
 * A model has some thousand tensors of 10^3 to 10^9 elements: blocks find theirs by bisection. */
#ifndef TUNELAW_KERNELS_CUDA_TENSORS_CUH
#define TUNELAW_KERNELS_CUDA_TENSORS_CUH

#include <vector>

#include "kernels/cuda/cuda.cuh"

/* Entries have a field first_chunk, ascending; the first one's is 0. The entry whose chunk this is; of entries without
 * chunks none. */
template <typename Entry> __device__ inline const Entry &entry_of(const Entry *entries, size_t count, size_t chunk)
{
    size_t low = 0, high = count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (entries[middle].first_chunk <= chunk)
            low = middle;
        else
            high = middle;
    }
    return entries[low];
}

/* Whole rows of a matrix in a chunk of so many elements: at least one. */
inline size_t rows_of_chunk(size_t columns, size_t elements)
{
    return columns && columns < elements ? elements / columns : 1;
}

/* What a row's gradients are multiplied by in Adafactor; row NULL: there is no factor of rows. */
__device__ inline float row_factor(const float *row, size_t r, float row_mean, float gradient_scale)
{
    return row ? gradient_scale / sqrtf(row[r] / row_mean) : gradient_scale;
}

/* The list on its way to the device. NULL after an error. */
template <typename Entry> const Entry *send(struct device *device, const std::vector<Entry> &entries)
{
    return static_cast<const Entry *>(device_constants(device, entries.data(), entries.size() * sizeof(Entry)));
}

#endif
