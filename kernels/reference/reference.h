/* The functions of the reference backend, for its table and for backends that delegate to it. Contracts:
 * kernels/kernels.h. */
#ifndef TUNELAW_KERNELS_REFERENCE_H
#define TUNELAW_KERNELS_REFERENCE_H

#include "kernels/kernels.h"

extern const struct kernels kernels_reference;

void reference_matmul(enum precision precision, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                      const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);
void reference_add(struct device *device, size_t n, const float *x, float *y);
void reference_scale(struct device *device, size_t n, float factor, float *x);
void reference_linear(struct device *device, size_t rows, size_t n, size_t k, const float *x, const float *w,
                      const float *bias, enum linear_gelu gelu, float *before, float *y);
void reference_matmul_group(struct device *device, size_t count, const struct matmul_arguments *products);
void reference_sums(struct device *device, size_t count, const struct span *spans, bool squares, double *out);
void reference_adamw(struct device *device, size_t count, const struct update *tensors, float rate, float beta1,
                     float beta2, float epsilon, float gradient_scale);
void reference_sgd(struct device *device, size_t count, const struct update *tensors, float rate, float beta,
                   float gradient_scale);
void reference_adafactor_squares(struct device *device, size_t count, const struct factored *tensors,
                                 float gradient_scale, double *out);
void reference_adafactor(struct device *device, size_t count, const struct factored *tensors, float gradient_scale);
void reference_square_sums(struct device *device, size_t rows, size_t columns, float scale, const float *x,
                           float *row_sums, float *column_sums);
void reference_moving_average(struct device *device, size_t n, float rest, float factor, float offset, const float *x,
                              float *average);

void reference_rms_norm_forward(struct device *device, size_t rows, size_t width, float epsilon, const float *residual,
                                float *x, const float *gain, float *y, float *rstd);
void reference_rms_norm_backward(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                                 const float *rstd, const float *dy, float *dx, float *dgain);
void reference_swiglu_forward(struct device *device, size_t n, const float *gate, const float *up, float *out);
void reference_swiglu_backward(struct device *device, size_t n, const float *gate, const float *up, const float *dout,
                               float *dgate, float *dup);

void reference_rotary(struct device *device, size_t tokens, size_t heads, size_t head_width,
                      const struct rotary *rotary, const int32_t *positions, bool inverse, float *x);
void reference_attention_forward(struct device *device, const struct attention *shape, const float *q, const float *k,
                                 const float *v, float *out, float *lse);
void reference_attention_backward(struct device *device, const struct attention *shape, const float *q, const float *k,
                                  const float *v, const float *out, const float *lse, const float *dout, float *dq,
                                  float *dk, float *dv);

void reference_layer_norm_forward(struct device *device, size_t rows, size_t width, float epsilon,
                                  const float *residual, float *x, const float *gain, const float *bias, float *y,
                                  float *mean, float *rstd);
void reference_layer_norm_backward(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                                   const float *mean, const float *rstd, const float *dy, float *dx, float *dgain,
                                   float *dbias);
void reference_row_squares(struct device *device, size_t rows, size_t width, size_t shared, const float *x,
                           float *squares);
void reference_row_norm_forward(struct device *device, size_t rows, size_t width, size_t total, float epsilon,
                                const float *x, const float *gain, const float *squares, float *y, float *rstd);
void reference_row_norm_dots(struct device *device, size_t rows, size_t width, const float *x, const float *gain,
                             const float *dy, float *dots);
void reference_row_norm_backward(struct device *device, size_t rows, size_t width, size_t shared, size_t total,
                                 const float *x, const float *gain, const float *rstd, const float *dots,
                                 const float *dy, float *dx, float *dgain);
void reference_bias_forward(struct device *device, size_t rows, size_t width, const float *bias, float *x);
void reference_bias_backward(struct device *device, size_t rows, size_t width, const float *dy, float *dbias);
void reference_scale_columns(struct device *device, size_t rows, size_t width, const float *x, const float *factors,
                             float *y);
void reference_scale_columns_backward(struct device *device, size_t rows, size_t width, const float *x,
                                      const float *factors, const float *dy, bool add, float *dx, float *dfactors);
void reference_split_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const float *qkv,
                           float *q, float *k, float *v);
void reference_merge_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const float *q,
                           const float *k, const float *v, float *qkv);
void reference_gelu_forward(struct device *device, size_t n, bool approximate, const float *x, float *out);
void reference_gelu_backward(struct device *device, size_t n, bool approximate, const float *x, const float *dout,
                             float *dx);

void reference_dropout(struct device *device, const struct dropout *how, size_t rows, size_t width, const float *x,
                       bool add, float *y);

void reference_embedding_forward(struct device *device, size_t tokens, size_t width, const int32_t *ids, size_t first,
                                 size_t count, const float *table, const float *prompt, float *out);
void reference_embedding_backward(struct device *device, size_t tokens, size_t width, const int32_t *ids,
                                  const uint32_t *order, size_t first, size_t count, const float *dout, float *dtable,
                                  float *dprompt);
void reference_gather_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const float *x,
                           float *out);
void reference_scatter_rows(struct device *device, size_t count, size_t width, const uint32_t *rows, const float *dout,
                            float *dx);

void reference_cross_entropy_partial(struct device *device, size_t rows, size_t vocabulary, size_t first,
                                     const float *logits, const int32_t *targets, float *partial);
void reference_cross_entropy_finish(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t devices,
                                    const float *partials, const int32_t *targets, size_t total, float smoothing,
                                    float scale, float *logits, float *loss);

void reference_attention_decode(struct device *device, const struct decode *shape, const float *q, const float *keys,
                                const float *values, float *out);
void reference_top_k(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t k, const float *logits,
                     float *values, int32_t *ids, float *sums);

#endif
