/* Small matrix products on packed memory, for attention. */
#ifndef TUNELAW_KERNELS_CPU_TILE_H
#define TUNELAW_KERNELS_CPU_TILE_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/cpu/vector.h"

enum { LANES = 16 }; /* packed memory is padded to this many floats, a cache line */

INLINE size_t round_up(size_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

#define TILE_LANES 16
#define TILE(name) name##16
#include "kernels/cpu/tile_body.h"

#define TILE_LANES 8
#define TILE(name) name##8
#include "kernels/cpu/tile_body.h"

#define TILE_LANES 4
#define TILE(name) name##4
#include "kernels/cpu/tile_body.h"

/* C[m][n] = A[m][k] * B[k][n], as tiles(). lanes: floats in a vector of this machine. A vector type that is longer than
 * the machine's would live in memory. */
INLINE void small_matmul(int lanes, size_t m, size_t n, size_t k, const float *a, size_t row, size_t column,
                         const float *b, size_t ldb, float *c, size_t ldc, bool accumulate)
{
    if (lanes == 16) {
        tiles16(8, 2, m, n, k, a, row, column, b, ldb, c, ldc, accumulate);
    } else if (lanes == 8) {
        tiles8(4, 2, m, n, k, a, row, column, b, ldb, c, ldc, accumulate);
    } else {
        tiles4(4, 2, m, n, k, a, row, column, b, ldb, c, ldc, accumulate);
    }
}

/* to = transpose of from[rows][columns], both multiples of LANES */
INLINE void transpose(int lanes, size_t rows, size_t columns, const float *from, size_t ldf, float *to, size_t ldt)
{
    if (lanes == 16)
        transpose_tiles16(rows, columns, from, ldf, to, ldt);
    else if (lanes == 8)
        transpose_tiles8(rows, columns, from, ldf, to, ldt);
    else
        transpose_tiles4(rows, columns, from, ldf, to, ldt);
}

#endif
