/* Reference of dropout: a block of Philox for every four columns of a row. */
#include "kernels/random.h"
#include "kernels/reference/reference.h"

void reference_dropout(struct device *device, const struct dropout *how, size_t rows, size_t width, const float *x,
                       bool add, float *y)
{
    (void)device;
    const struct random_key key = {how->key->seed, how->key->stream};
    uint64_t blocks = (how->total + 3) / 4;
    double threshold = how->rate * 0x1p32, kept = 1 / (1 - how->rate);
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < width; i++) {
            uint32_t words[4];
            size_t column = how->first_column + i;
            random_block(key, (how->key->first_row + r) * blocks + column / 4, words);
            float factor = words[column % 4] < threshold ? 0.0f : (float)kept, value = x[r * width + i] * factor;
            y[r * width + i] = add ? y[r * width + i] + value : value;
        }
    }
}
