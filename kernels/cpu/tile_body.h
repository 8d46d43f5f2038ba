/* Included by tile.h for each size of vector: TILE_LANES floats; TILE(name) is the name of something for that size. */
typedef float TILE(vector) __attribute__((vector_size(TILE_LANES * sizeof(float)), may_alias));
typedef int TILE(lanes) __attribute__((vector_size(TILE_LANES * sizeof(int))));

/* rows (at most 8) x (vectors (at most 2) * TILE_LANES) of C, kept in registers over all of k. A's element (i, l) is
 * a[i * row + l * column]. */
INLINE void TILE(tile)(const int rows, const int vectors, size_t k, const float *a, size_t row, size_t column,
                       const float *b, size_t ldb, float *c, size_t ldc, bool accumulate)
{
    TILE(vector) sum[8][2];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            TILE(vector) *at = (TILE(vector) *)(c + (size_t)i * ldc) + v;
            sum[i][v] = accumulate ? *at : (TILE(vector)){0};
        }
    }
    for (size_t l = 0; l < k; l++) {
        const TILE(vector) *bl = (const TILE(vector) *)(b + l * ldb);
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
            ((TILE(vector) *)(c + (size_t)i * ldc))[v] = sum[i][v];
    }
}

/* C[m][n] = A[m][k] * B[k][n], or C += with accumulate. n, ldb and ldc are multiples of TILE_LANES; b and c are aligned
 * to a vector. The order of the sums depends on nothing but the sizes. */
INLINE void TILE(tiles)(const int rows, const int vectors, size_t m, size_t n, size_t k, const float *a, size_t row,
                        size_t column, const float *b, size_t ldb, float *c, size_t ldc, bool accumulate)
{
    size_t step = (size_t)vectors * TILE_LANES;
    for (size_t j = 0; j < n;) {
        bool full = n - j >= step;
        size_t i = 0;
        for (; full && i + (size_t)rows <= m; i += (size_t)rows) {
            TILE(tile)(rows, vectors, k, a + i * row, row, column, b + j, ldb, c + i * ldc + j, ldc, accumulate);
        }
        for (; !full && i + (size_t)rows <= m; i += (size_t)rows) {
            TILE(tile)(rows, 1, k, a + i * row, row, column, b + j, ldb, c + i * ldc + j, ldc, accumulate);
        }
        for (; full && i < m; i++) {
            TILE(tile)(1, vectors, k, a + i * row, row, column, b + j, ldb, c + i * ldc + j, ldc, accumulate);
        }
        for (; !full && i < m; i++) {
            TILE(tile)(1, 1, k, a + i * row, row, column, b + j, ldb, c + i * ldc + j, ldc, accumulate);
        }
        j += full ? step : TILE_LANES;
    }
}

/* to[TILE_LANES][..] = transpose of from[TILE_LANES][..], in registers: halves of rows change places, then quarters,
 * down to single elements. */
INLINE void TILE(transpose_tile)(const float *from, size_t ldf, float *to, size_t ldt)
{
    TILE(vector) rows[TILE_LANES];
#pragma GCC unroll 16
    for (int i = 0; i < TILE_LANES; i++)
        rows[i] = *(const TILE(vector) *)(from + (size_t)i * ldf);
#pragma GCC unroll 4
    for (int step = TILE_LANES / 2; step > 0; step /= 2) {
        TILE(lanes) low, high;
#pragma GCC unroll 16
        for (int l = 0; l < TILE_LANES; l++) {
            low[l] = l & step ? TILE_LANES + l - step : l;
            high[l] = l & step ? TILE_LANES + l : l + step;
        }
#pragma GCC unroll 16
        for (int i = 0; i < TILE_LANES; i++) {
            if (i & step) continue;
            TILE(vector) a = rows[i], b = rows[i + step];
            rows[i] = __builtin_shuffle(a, b, low);
            rows[i + step] = __builtin_shuffle(a, b, high);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE_LANES; i++)
        *(TILE(vector) *)(to + (size_t)i * ldt) = rows[i];
}

/* to[columns][..] = transpose of from[rows][..]; rows and columns are multiples of TILE_LANES, all aligned to a vector
 */
INLINE void TILE(transpose_tiles)(size_t rows, size_t columns, const float *from, size_t ldf, float *to, size_t ldt)
{
    for (size_t i = 0; i < rows; i += TILE_LANES) {
        for (size_t j = 0; j < columns; j += TILE_LANES)
            TILE(transpose_tile)(from + i * ldf + j, ldf, to + j * ldt + i, ldt);
    }
}

#undef TILE
#undef TILE_LANES
