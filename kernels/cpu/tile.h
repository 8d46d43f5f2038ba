/* Small matrix products on packed memory, for attention. */
#ifndef TUNELAW_KERNELS_CPU_TILE_H
#define TUNELAW_KERNELS_CPU_TILE_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/cpu/vector.h"

enum { LANES = 16 };
typedef float vector __attribute__((vector_size(LANES * sizeof(float)), may_alias));

INLINE size_t round_up(size_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

/* rows (at most 8) x (vectors (at most 2) * LANES) of C, kept in registers over all of k. A's element (i, l) is a[i *
 * row + l * column]. */
INLINE void tile(const int rows, const int vectors, size_t k, const float *a, size_t row, size_t column, const float *b,
                 size_t ldb, float *c, size_t ldc, bool accumulate)
{
    vector sum[8][2];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            vector *at = (vector *)(c + (size_t)i * ldc) + v;
            sum[i][v] = accumulate ? *at : (vector){0};
        }
    }
    for (size_t l = 0; l < k; l++) {
        const vector *bl = (const vector *)(b + l * ldb);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            float x = a[(size_t)i * row + l * column];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[i][v] += x * bl[v];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            ((vector *)(c + (size_t)i * ldc))[v] = sum[i][v];
    }
}

/* C[m][n] = A[m][k] * B[k][n], or C += with accumulate. n, ldb and ldc are multiples of LANES; b and c are aligned to a
 * vector. The order of the sums depends on nothing but the sizes. */
INLINE void tiles(const int rows, const int vectors, size_t m, size_t n, size_t k, const float *a, size_t row,
                  size_t column, const float *b, size_t ldb, float *c, size_t ldc, bool accumulate)
{
    size_t step = (size_t)vectors * LANES;
    for (size_t j = 0; j < n;) {
        bool full = n - j >= step;
        size_t i = 0;
        for (; full && i + (size_t)rows <= m; i += (size_t)rows) {
            tile(rows, vectors, k, a + i * row, row, column, b + j, ldb, c + i * ldc + j, ldc, accumulate);
        }
        for (; !full && i + (size_t)rows <= m; i += (size_t)rows) {
            tile(rows, 1, k, a + i * row, row, column, b + j, ldb, c + i * ldc + j, ldc, accumulate);
        }
        for (; full && i < m; i++) {
            tile(1, vectors, k, a + i * row, row, column, b + j, ldb, c + i * ldc + j, ldc, accumulate);
        }
        for (; !full && i < m; i++) {
            tile(1, 1, k, a + i * row, row, column, b + j, ldb, c + i * ldc + j, ldc, accumulate);
        }
        j += full ? step : LANES;
    }
}

INLINE void small_matmul(bool wide, size_t m, size_t n, size_t k, const float *a, size_t row, size_t column,
                         const float *b, size_t ldb, float *c, size_t ldc, bool accumulate)
{
    if (wide) {
        tiles(8, 2, m, n, k, a, row, column, b, ldb, c, ldc, accumulate);
    } else {
        tiles(4, 1, m, n, k, a, row, column, b, ldb, c, ldc, accumulate);
    }
}

#endif
