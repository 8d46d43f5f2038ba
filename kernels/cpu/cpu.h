/* Parts of the cpu backend. Contracts of the operations: kernels/kernels.h. Private to kernels/. */
#ifndef TUNELAW_KERNELS_CPU_H
#define TUNELAW_KERNELS_CPU_H

#include "kernels/kernels.h"

extern const struct kernels kernels_cpu;

struct rotary_table {
    size_t count; /* positions 0 .. count-1 */
    struct rotary rotary;
    float *angles; /* [count][turned]: cosines, then sines */
};

struct device {
    int index, threads;
    bool out_of_memory, failed; /* sticky, reported by synchronise: of memory; of a library */
    int lanes;                  /* floats in a vector of this machine: 16, 8 or 4 */
    enum precision precision;
    bool fast_bf16, native_rounding; /* this machine multiplies bf16 numbers; has an instruction that makes them */
    struct onednn *onednn;           /* NULL before the first bf16 product */
    size_t scratch_floats;
    float *scratch;
    struct rotary_table rotary;
};

/* At least n floats, 64-byte aligned, valid until the next call; NULL where there is no memory (then synchronise says
 * so). */
float *cpu_scratch(struct device *device, size_t n);

void cpu_matmul(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);
/* What cpu_matmul is made of; m, n, k > 0: a product in fp32, and one of rounded factors. */
struct product;
void cpu_product(struct device *device, const struct product *product, size_t m, size_t n, size_t k, const float *a,
                 size_t lda, const float *b, size_t ldb, float *c, size_t ldc);
void cpu_product_rounded(struct device *device, const struct product *product, size_t m, size_t n, size_t k,
                         const float *a, size_t lda, const float *b, size_t ldb, float *c, size_t ldc);
void cpu_add(struct device *device, size_t n, const float *x, float *y);
void cpu_scale(struct device *device, size_t n, float factor, float *x);
void cpu_linear(struct device *device, size_t rows, size_t n, size_t k, const float *x, const float *w,
                const float *bias, enum linear_gelu gelu, float *before, float *y);
void cpu_matmul_group(struct device *device, size_t count, const struct matmul_arguments *products);
void cpu_sums(struct device *device, size_t count, const struct span *spans, bool squares, double *out);
void cpu_adamw(struct device *device, size_t count, const struct update *tensors, float rate, float beta1, float beta2,
               float epsilon, float gradient_scale);
void cpu_sgd(struct device *device, size_t count, const struct update *tensors, float rate, float beta,
             float gradient_scale);
void cpu_adafactor_squares(struct device *device, size_t count, const struct factored *tensors, float gradient_scale,
                           double *out);
void cpu_adafactor(struct device *device, size_t count, const struct factored *tensors, float gradient_scale);
void cpu_square_sums(struct device *device, size_t rows, size_t columns, float scale, const float *x, float *row_sums,
                     float *column_sums);
void cpu_moving_average(struct device *device, size_t n, float rest, float factor, float offset, const float *x,
                        float *average);

void cpu_rms_norm_forward(struct device *device, size_t rows, size_t width, float epsilon, const float *residual,
                          float *x, const float *gain, float *y, float *rstd);
void cpu_rms_norm_backward(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                           const float *rstd, const float *dy, float *dx, float *dgain);
void cpu_swiglu_forward(struct device *device, size_t n, const float *gate, const float *up, float *out);
void cpu_swiglu_backward(struct device *device, size_t n, const float *gate, const float *up, const float *dout,
                         float *dgate, float *dup);

void cpu_rotary(struct device *device, size_t tokens, size_t heads, size_t head_width, const struct rotary *rotary,
                const int32_t *positions, bool inverse, float *x);
void cpu_attention_forward(struct device *device, const struct attention *shape, const float *q, const float *k,
                           const float *v, float *out, float *lse);
void cpu_attention_backward(struct device *device, const struct attention *shape, const float *q, const float *k,
                            const float *v, const float *out, const float *lse, const float *dout, float *dq, float *dk,
                            float *dv);

void cpu_layer_norm_forward(struct device *device, size_t rows, size_t width, float epsilon, const float *residual,
                            float *x, const float *gain, const float *bias, float *y, float *mean, float *rstd);
void cpu_layer_norm_backward(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                             const float *mean, const float *rstd, const float *dy, float *dx, float *dgain,
                             float *dbias);
void cpu_row_squares(struct device *device, size_t rows, size_t width, size_t shared, const float *x, float *squares);
void cpu_row_norm_forward(struct device *device, size_t rows, size_t width, size_t total, float epsilon, const float *x,
                          const float *gain, const float *squares, float *y, float *rstd);
void cpu_row_norm_dots(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                       const float *dy, float *dots);
void cpu_row_norm_backward(struct device *device, size_t rows, size_t width, size_t shared, size_t total,
                           const float *x, const float *gain, const float *rstd, const float *dots, const float *dy,
                           float *dx, float *dgain);
void cpu_bias_forward(struct device *device, size_t rows, size_t width, const float *bias, float *x);
void cpu_bias_backward(struct device *device, size_t rows, size_t width, const float *dy, float *dbias);
void cpu_scale_columns(struct device *device, size_t rows, size_t width, const float *x, const float *factors,
                       float *y);
void cpu_scale_columns_backward(struct device *device, size_t rows, size_t width, const float *x, const float *factors,
                                const float *dy, bool add, float *dx, float *dfactors);
void cpu_split_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const float *qkv, float *q,
                     float *k, float *v);
void cpu_merge_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const float *q,
                     const float *k, const float *v, float *qkv);
void cpu_gelu_forward(struct device *device, size_t n, bool approximate, const float *x, float *out);
void cpu_gelu_backward(struct device *device, size_t n, bool approximate, const float *x, const float *dout, float *dx);

void cpu_dropout(struct device *device, const struct dropout *how, size_t rows, size_t width, const float *x, bool add,
                 float *y);

void cpu_embedding_forward(struct device *device, size_t tokens, size_t width, const int32_t *ids, size_t first,
                           size_t count, const float *table, const float *prompt, float *out);
void cpu_embedding_backward(struct device *device, size_t tokens, size_t width, const int32_t *ids,
                            const uint32_t *order, size_t first, size_t count, const float *dout, float *dtable,
                            float *dprompt);
void cpu_gather_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const float *x,
                     float *out);
void cpu_scatter_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const float *dout,
                      float *dx);

void cpu_cross_entropy_partial(struct device *device, size_t rows, size_t vocabulary, size_t first, const float *logits,
                               const int32_t *targets, float *partial);
void cpu_cross_entropy_finish(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t devices,
                              const float *partials, const int32_t *targets, size_t total, float smoothing, float scale,
                              float *logits, float *loss);

void cpu_attention_decode(struct device *device, const struct decode *shape, const float *q, const float *keys,
                          const float *values, float *out);
void cpu_top_k(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t k, const float *logits,
               float *values, int32_t *ids, float *sums);

#endif
