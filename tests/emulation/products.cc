/* What the emulation has in the place of matmul.cu: the reference backend's products with numbers converted, in the
 * order of the stream; and the tables of the emulated backend. */
#include <cstdio>
#include <vector>

#include "kernels/cuda/device.cuh"

namespace
{

float get(enum precision precision, const real *x, size_t i)
{
    return precision == PRECISION_BF16 ? number(as<bf16>(x)[i]) : as<float>(x)[i];
}

void put(enum precision precision, real *x, size_t i, float value)
{
    if (precision == PRECISION_BF16)
        as<bf16>(x)[i] = rounded<bf16>(value);
    else
        as<float>(x)[i] = value;
}

/* op(A) op(B) in double, then alpha and beta: as the reference backend does. */
template <typename Get, typename Put>
void product_of(enum precision precision, const struct matmul_arguments &p, Get get_c, Put put_c)
{
    for (size_t i = 0; i < p.m; i++)
        for (size_t j = 0; j < p.n; j++) {
            double sum = 0;
            for (size_t l = 0; l < p.k; l++)
                sum += (double)get(precision, p.a, p.trans_a ? l * p.lda + i : i * p.lda + l) *
                       get(precision, p.b, p.trans_b ? j * p.ldb + l : l * p.ldb + j);
            double old = p.beta != 0 ? (double)p.beta * get_c(i * p.ldc + j) : 0;
            put_c(i * p.ldc + j, (float)(p.alpha * sum + old));
        }
}

void product(enum precision precision, const struct matmul_arguments &p)
{
    if (p.c_floats)
        product_of(
            precision, p, [&](size_t i) { return p.c_floats[i]; }, [&](size_t i, float x) { p.c_floats[i] = x; });
    else
        product_of(
            precision, p, [&](size_t i) { return get(precision, p.c, i); },
            [&](size_t i, float x) { put(precision, p.c, i, x); });
}

void multiply(struct device *device, const struct matmul_arguments &p)
{
    enum precision precision = device->precision;
    if (device_failed(device)) return;
    device_note(device, emulated_enqueue(device->stream, [=] {
                    product(precision, p);
                    return true;
                }));
}

} // namespace

struct products {
    int none;
};

int products_create(struct device *device, struct error *)
{
    device->products = new struct products();
    return 0;
}

void products_destroy(struct device *device)
{
    delete device->products;
}

void products_library(char *out, size_t size)
{
    snprintf(out, size, "emulated");
}

/* device.cu's, which is compiled under this name: NaN at each call, nobody may count on what was there. */
void *device_scratch_kept(struct device *device, size_t bytes);

void *device_scratch(struct device *device, size_t bytes)
{
    void *scratch = device_scratch_kept(device, bytes);
    if (scratch && bytes) device_note(device, cudaMemsetAsync(scratch, 0xff, bytes, device->stream));
    return scratch;
}

/* As cuBLAS: addresses are read on the device, when the product is done. */
void cuda_matmul_group(struct device *device, size_t count, const struct matmul_arguments *products)
{
    if (count == 0 || device_failed(device)) return;
    const struct matmul_arguments *there =
        static_cast<const struct matmul_arguments *>(device_constants(device, products, count * sizeof *products));
    enum precision precision = device->precision;
    if (!there) return;
    device_note(device, emulated_enqueue(device->stream, [=] {
                    for (size_t i = 0; i < count; i++)
                        product(precision, there[i]);
                    return true;
                }));
}

void cuda_matmul(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                 const real *a, size_t lda, const real *b, size_t ldb, float beta, real *c, size_t ldc)
{
    multiply(device, {trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c, nullptr});
}

void cuda_matmul_floats(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                        const real *a, size_t lda, const real *b, size_t ldb, float beta, float *c, size_t ldc)
{
    multiply(device, {trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, nullptr, c});
}

void cuda_linear(struct device *device, size_t rows, size_t n, size_t k, const real *x, const real *w,
                 const float *bias, enum linear_gelu gelu, real *before, real *y)
{
    /* step by step, as matmul.cu in bf16 */
    real *out = gelu == GELU_NONE ? y : before;
    cuda_matmul(device, false, true, rows, n, k, 1, x, k, w, k, 0, out, n);
    if (bias) cuda_bias_forward(device, rows, n, bias, out);
    if (gelu != GELU_NONE) cuda_gelu_forward(device, rows * n, gelu == GELU_TANH, before, y);
}

namespace
{

struct device *create_bf16(int index, int threads, struct error *err)
{
    struct device *device = cuda_device_create(index, threads, err);
    if (device) cuda_set_precision(device, PRECISION_BF16);
    return device;
}

struct kernels renamed(struct device *(*create)(int, int, struct error *))
{
    struct kernels kernels = kernels_cuda;
    kernels.name = "emulated";
    kernels.device_create = create;
    kernels.peak_bytes = nullptr; /* the device's memory is the host's */
    kernels.peak_reset = nullptr;
    return kernels;
}

} // namespace

/* The emulated device, and one that computes in bf16 from the start. */
extern "C" const struct kernels kernels_emulated, kernels_emulated_bf16;
const struct kernels kernels_emulated = renamed(cuda_device_create);
const struct kernels kernels_emulated_bf16 = renamed(create_bf16);
