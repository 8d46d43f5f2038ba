/* Dropout of the cpu backend. The mask is drawn where it is used, 16 blocks of Philox (64 columns of a row) at a time,
 * each of its four words in a vector, and never stored. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

enum { BLOCKS = 16, COLUMNS = 4 * BLOCKS };

/* Philox 4x32-10 (kernels/random.c) of counters first, first + 1, ...: word w of block i is words[w][i]. */
INLINE void draw(uint64_t seed, uint64_t stream, uint64_t first, uint32_t words[4][BLOCKS])
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma omp simd
    for (int i = 0; i < BLOCKS; i++) {
        words[0][i] = (uint32_t)(first + (uint64_t)i);
        words[1][i] = (uint32_t)((first + (uint64_t)i) >> 32);
        words[2][i] = (uint32_t)stream;
        words[3][i] = (uint32_t)(stream >> 32);
    }
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int i = 0; i < BLOCKS; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * words[0][i], p1 = (uint64_t)0xCD9E8D57u * words[2][i];
            uint32_t n0 = (uint32_t)(p1 >> 32) ^ words[1][i] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ words[3][i] ^ k1;
            words[1][i] = (uint32_t)p1;
            words[3][i] = (uint32_t)p0;
            words[0][i] = n0;
            words[2][i] = n2;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* The factors of the columns of 16 blocks. Words are compared as wider numbers: a rate just below 1 drops all. */
INLINE void factors(const struct dropout *how, uint64_t first, float out[COLUMNS])
{
    uint32_t words[4][BLOCKS];
    uint64_t threshold = (uint64_t)ceil(how->rate * 0x1p32);
    float kept = (float)(1 / (1 - how->rate));
    draw(how->key->seed, how->key->stream, first, words);
    for (int w = 0; w < 4; w++) {
        for (int i = 0; i < BLOCKS; i++)
            out[4 * i + w] = words[w][i] < threshold ? 0.0f : kept;
    }
}

CLONES void cpu_dropout(struct device *device, const struct dropout *how, size_t rows, size_t width, const float *x,
                        bool add, float *y)
{
    (void)device;
    size_t blocks = (how->total + 3) / 4, head = how->first_column % 4;
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * width;
        float *to = y + r * width;
        uint64_t block = (how->key->first_row + r) * blocks + how->first_column / 4;
        for (size_t at = 0; at < width; block += BLOCKS) {
            float factor[COLUMNS];
            size_t skip = at ? 0 : head, n = width - at < COLUMNS - skip ? width - at : COLUMNS - skip;
            factors(how, block, factor);
            if (add) {
#pragma omp simd
                for (size_t i = 0; i < n; i++)
                    to[at + i] += from[at + i] * factor[skip + i];
            } else {
#pragma omp simd
                for (size_t i = 0; i < n; i++)
                    to[at + i] = from[at + i] * factor[skip + i];
            }
            at += n;
        }
    }
}
