/* The reference backend: every operation in plain C, slow and obvious. It is the oracle that the other backends are
 * tested against, and what they may delegate to: none of its operations looks at the device. */
#include "kernels/reference/reference.h"

#include <stdlib.h>

#include "kernels/host.h"

struct device {
    int index;
    enum precision precision;
};

static struct device *device_create(int index, int threads, struct error *err)
{
    (void)threads;
    struct device *device = malloc(sizeof *device);
    if (!device) {
        error_set(err, "out of memory");
        return NULL;
    }
    device->index = index;
    device->precision = PRECISION_FP32;
    return device;
}

static void device_destroy(struct device *device)
{
    free(device);
}

static void set_precision(struct device *device, enum precision precision)
{
    device->precision = precision;
}

static enum precision precision_of(const struct device *device)
{
    return device->precision;
}

static void matmul(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                   const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    reference_matmul(device ? device->precision : PRECISION_FP32, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb,
                     beta, c, ldc);
}

const struct kernels kernels_reference = {
    .abi = KERNELS_ABI,
    .name = "reference",
    .device_create = device_create,
    .device_destroy = device_destroy,
    .allocate = host_allocate,
    .release = host_release,
    .to_device = host_transfer,
    .to_host = host_transfer,
    .synchronise = host_synchronise,
    .collect = host_collect,
    .set_precision = set_precision,
    .precision = precision_of,
    .element_bytes = host_element_bytes,
    .upload = host_upload,
    .download = host_download,
    .sum_ranks = host_sum_ranks,
    .sum_ranks_floats = host_sum_ranks,
    .sum_ranks_begin = host_sum_ranks,
    .sum_ranks_end = host_sum_ranks_end,
    .gather_ranks = host_gather_ranks,
    .matmul = matmul,
    .matmul_floats = matmul,
    .linear = reference_linear,
    .matmul_group = reference_matmul_group,
    .zero = host_zero,
    .copy = host_copy,
    .add = reference_add,
    .scale = reference_scale,
    .rms_norm_forward = reference_rms_norm_forward,
    .rms_norm_backward = reference_rms_norm_backward,
    .layer_norm_forward = reference_layer_norm_forward,
    .layer_norm_backward = reference_layer_norm_backward,
    .row_squares = reference_row_squares,
    .row_norm_forward = reference_row_norm_forward,
    .row_norm_dots = reference_row_norm_dots,
    .row_norm_backward = reference_row_norm_backward,
    .bias_forward = reference_bias_forward,
    .bias_backward = reference_bias_backward,
    .scale_columns = reference_scale_columns,
    .scale_columns_backward = reference_scale_columns_backward,
    .split_heads = reference_split_heads,
    .merge_heads = reference_merge_heads,
    .rotary = reference_rotary,
    .attention_forward = reference_attention_forward,
    .attention_backward = reference_attention_backward,
    .attention_decode = reference_attention_decode,
    .swiglu_forward = reference_swiglu_forward,
    .swiglu_backward = reference_swiglu_backward,
    .gelu_forward = reference_gelu_forward,
    .gelu_backward = reference_gelu_backward,
    .dropout = reference_dropout,
    .embedding_forward = reference_embedding_forward,
    .embedding_backward = reference_embedding_backward,
    .gather_rows = reference_gather_rows,
    .scatter_rows = reference_scatter_rows,
    .cross_entropy_partial = reference_cross_entropy_partial,
    .cross_entropy_finish = reference_cross_entropy_finish,
    .top_k = reference_top_k,
    .sums = reference_sums,
    .adamw = reference_adamw,
    .sgd = reference_sgd,
    .square_sums = reference_square_sums,
    .moving_average = reference_moving_average,
    .adafactor_squares = reference_adafactor_squares,
    .adafactor = reference_adafactor,
};
