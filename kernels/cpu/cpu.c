/* The cpu backend: its device and its table. */
#include "kernels/cpu/cpu.h"

#include <omp.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "kernels/cpu/onednn.h"
#include "kernels/host.h"

/* Denormals cost hundreds of cycles each and carry nothing here: flush them to zero, in this thread. */
static void flush_denormals(void)
{
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040); /* FTZ, DAZ */
#endif
}

static int vector_lanes(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return 16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
#endif
    return 4;
}

static struct device *device_create(int index, int threads, struct error *err)
{
    struct device *device = calloc(1, sizeof *device);
    if (!device) {
        error_set(err, "out of memory");
        return NULL;
    }
    device->index = index;
    device->threads = threads > 0 ? threads : 1;
    omp_set_num_threads(device->threads); /* of this host thread: OpenBLAS asks for it at every call */
    flush_denormals();
    device->lanes = vector_lanes();
    if (device->threads > 1) {
#pragma omp parallel
        flush_denormals();
    }
    return device;
}

static void device_destroy(struct device *device)
{
    if (!device) return;
    onednn_destroy(device->onednn);
    free(device->rotary.angles);
    free(device->scratch);
    free(device);
}

float *cpu_scratch(struct device *device, size_t n)
{
    if (n <= device->scratch_floats) return device->scratch;
    free(device->scratch);
    device->scratch = host_allocate(device, n * sizeof(float), NULL);
    device->scratch_floats = device->scratch ? n : 0;
    if (!device->scratch) device->out_of_memory = true;
    return device->scratch;
}

static bool native_rounding(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

static void set_precision(struct device *device, enum precision precision)
{
    device->precision = precision;
    if (precision == PRECISION_FP32) return;
    device->fast_bf16 = onednn_fast_bf16();
    device->native_rounding = native_rounding();
    if (device->fast_bf16 && !device->onednn && !(device->onednn = onednn_create())) device->failed = true;
}

static enum precision precision_of(const struct device *device)
{
    return device->precision;
}

static int synchronise(struct device *device, struct error *err)
{
    if (device->out_of_memory) return error_set(err, "device %d: out of memory for scratch", device->index);
    if (device->failed) return error_set(err, "device %d: a matrix product of oneDNN failed", device->index);
    return 0;
}

static int collect(struct device *device, size_t later, struct error *err)
{
    (void)later;
    return synchronise(device, err);
}

const struct kernels kernels_cpu = {
    .abi = KERNELS_ABI,
    .name = "cpu",
    .device_create = device_create,
    .device_destroy = device_destroy,
    .allocate = host_allocate,
    .release = host_release,
    .to_device = host_transfer,
    .to_host = host_transfer,
    .synchronise = synchronise,
    .collect = collect,
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
    .matmul = cpu_matmul,
    .matmul_floats = cpu_matmul,
    .linear = cpu_linear,
    .matmul_group = cpu_matmul_group,
    .zero = host_zero,
    .copy = host_copy,
    .add = cpu_add,
    .scale = cpu_scale,
    .rms_norm_forward = cpu_rms_norm_forward,
    .rms_norm_backward = cpu_rms_norm_backward,
    .layer_norm_forward = cpu_layer_norm_forward,
    .layer_norm_backward = cpu_layer_norm_backward,
    .row_squares = cpu_row_squares,
    .row_norm_forward = cpu_row_norm_forward,
    .row_norm_dots = cpu_row_norm_dots,
    .row_norm_backward = cpu_row_norm_backward,
    .bias_forward = cpu_bias_forward,
    .bias_backward = cpu_bias_backward,
    .scale_columns = cpu_scale_columns,
    .scale_columns_backward = cpu_scale_columns_backward,
    .split_heads = cpu_split_heads,
    .merge_heads = cpu_merge_heads,
    .rotary = cpu_rotary,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .attention_decode = cpu_attention_decode,
    .swiglu_forward = cpu_swiglu_forward,
    .swiglu_backward = cpu_swiglu_backward,
    .gelu_forward = cpu_gelu_forward,
    .gelu_backward = cpu_gelu_backward,
    .dropout = cpu_dropout,
    .embedding_forward = cpu_embedding_forward,
    .embedding_backward = cpu_embedding_backward,
    .gather_rows = cpu_gather_rows,
    .scatter_rows = cpu_scatter_rows,
    .cross_entropy_partial = cpu_cross_entropy_partial,
    .cross_entropy_finish = cpu_cross_entropy_finish,
    .top_k = cpu_top_k,
    .sums = cpu_sums,
    .adamw = cpu_adamw,
    .sgd = cpu_sgd,
    .square_sums = cpu_square_sums,
    .moving_average = cpu_moving_average,
    .adafactor_squares = cpu_adafactor_squares,
    .adafactor = cpu_adafactor,
};
