/* Matrix products of oneDNN, row-major: of fp32 numbers, and of bf16 ones on machines that multiply them (AVX-512 BF16,
 * AMX), summed in fp32. Sizes may change from call to call: nothing is made again for them. Private to kernels/cpu. */
#ifndef TUNELAW_KERNELS_CPU_ONEDNN_H
#define TUNELAW_KERNELS_CPU_ONEDNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One kind of product: its transposes and factors. */
struct product {
    bool trans_a, trans_b;
    float alpha, beta;
};

struct onednn; /* of one device */

bool onednn_built(void);
bool onednn_fast_bf16(void);                 /* this machine, with this library */
void onednn_version(char *out, size_t size); /* "onednn-2.6.3-avx512" */
struct onednn *onednn_create(void);          /* NULL: the library has failed */
void onednn_destroy(struct onednn *onednn);

/* C[m][n] = alpha op(A) op(B) + beta C; m, n, k > 0. 0, or -1: the library has failed. */
int onednn_fp32(const struct product *product, size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float *c, size_t ldc);
int onednn_bf16(struct onednn *onednn, const struct product *product, size_t m, size_t n, size_t k, const uint16_t *a,
                size_t lda, const uint16_t *b, size_t ldb, float *c, size_t ldc);

#endif
