/* What the emulation has in the place of device.cu, matmul.cu and gang.cu: host memory, the reference backend's
 * products with numbers converted, the host's collectives. */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/cuda/cuda.cuh"

struct device {
    enum precision precision;
    unsigned char *scratch;
    size_t scratch_bytes;
    std::vector<uint64_t> constants[2];
    unsigned turn;
};

namespace
{

size_t element(const struct device *d)
{
    return d->precision == PRECISION_BF16 ? 2 : 4;
}

float get(const struct device *d, const real *x, size_t i)
{
    return d->precision == PRECISION_BF16 ? number(as<bf16>(x)[i]) : as<float>(x)[i];
}

void put(const struct device *d, real *x, size_t i, float value)
{
    if (d->precision == PRECISION_BF16)
        as<bf16>(x)[i] = rounded<bf16>(value);
    else
        as<float>(x)[i] = value;
}

/* op(A) op(B) in double, then alpha and beta: as the reference backend does. */
template <typename Get, typename Put>
void product(const struct device *d, const struct matmul_arguments &p, Get get_c, Put put_c)
{
    for (size_t i = 0; i < p.m; i++)
        for (size_t j = 0; j < p.n; j++) {
            double sum = 0;
            for (size_t l = 0; l < p.k; l++)
                sum += (double)get(d, p.a, p.trans_a ? l * p.lda + i : i * p.lda + l) *
                       get(d, p.b, p.trans_b ? j * p.ldb + l : l * p.ldb + j);
            double old = p.beta != 0 ? (double)p.beta * get_c(i * p.ldc + j) : 0;
            put_c(i * p.ldc + j, (float)(p.alpha * sum + old));
        }
}

void product_reals(const struct device *d, const struct matmul_arguments &p)
{
    product(
        d, p, [&](size_t i) { return get(d, p.c, i); }, [&](size_t i, float x) { put(d, p.c, i, x); });
}

void product_floats(const struct device *d, const struct matmul_arguments &p)
{
    product(
        d, p, [&](size_t i) { return p.c_floats[i]; }, [&](size_t i, float x) { p.c_floats[i] = x; });
}

unsigned char *allocate(size_t bytes)
{
    size_t size = (bytes + 255) / 256 * 256 + 256;
    void *memory = aligned_alloc(256, size);
    if (memory) memset(memory, 0, size);
    return static_cast<unsigned char *>(memory);
}

} // namespace

enum precision device_precision(const struct device *device)
{
    return device->precision;
}

cudaStream_t device_stream(const struct device *)
{
    return nullptr;
}

void device_note(struct device *, cudaError_t)
{
}

unsigned device_multiprocessors(const struct device *)
{
    return 3; /* few and odd: more work than blocks at small sizes */
}

size_t device_shared_bytes(const struct device *)
{
    return emulated_shared_bytes();
}

/* NaN at each call: nobody may count on what was there. */
void *device_scratch(struct device *device, size_t bytes)
{
    if (!device->scratch || bytes > device->scratch_bytes) {
        free(device->scratch);
        device->scratch = allocate(bytes);
        device->scratch_bytes = bytes;
    }
    memset(device->scratch, 0xff, bytes);
    return device->scratch;
}

const void *device_constants(struct device *device, const void *from, size_t bytes)
{
    std::vector<uint64_t> &place = device->constants[device->turn ^= 1];
    std::fill(place.begin(), place.end(), UINT64_MAX); /* of the last but one call */
    place.assign((bytes + 7) / 8 + 1, 0);
    memcpy(place.data(), from, bytes);
    return place.data();
}

struct device *cuda_device_create(int, int, struct error *)
{
    struct device *device = new struct device();
    return device;
}

uint64_t cuda_peak_bytes()
{
    return 0;
}

void cuda_peak_reset()
{
}

void cuda_device_destroy(struct device *device)
{
    free(device->scratch);
    delete device;
}

void *cuda_allocate(struct device *, size_t bytes, struct error *err)
{
    void *memory = allocate(bytes);
    if (!memory && err) snprintf(err->text, sizeof err->text, "out of memory");
    return memory;
}

void cuda_release(struct device *, void *memory)
{
    free(memory);
}

void cuda_to_device(struct device *, void *to, const void *from, size_t bytes)
{
    if (bytes) memcpy(to, from, bytes);
}

void cuda_to_host(struct device *, void *to, const void *from, size_t bytes)
{
    if (bytes) memcpy(to, from, bytes);
}

int cuda_synchronise(struct device *, struct error *)
{
    return 0;
}

void cuda_set_precision(struct device *device, enum precision precision)
{
    device->precision = precision;
}

enum precision cuda_precision(const struct device *device)
{
    return device->precision;
}

size_t cuda_element_bytes(const struct device *device)
{
    return element(device);
}

void cuda_upload(struct device *device, size_t n, const float *from, real *to)
{
    for (size_t i = 0; i < n; i++)
        put(device, to, i, from[i]);
}

void cuda_download(struct device *device, size_t n, const real *from, float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = get(device, from, i);
}

void cuda_zero(struct device *, size_t bytes, void *x)
{
    if (bytes) memset(x, 0, bytes);
}

void cuda_copy(struct device *, size_t bytes, const void *x, void *y)
{
    if (bytes) memmove(y, x, bytes);
}

int cuda_sum_ranks(struct device *device, const struct collective *gang, size_t n, real *x)
{
    std::vector<float> floats(n);
    if (gang->size == 1) return 0;
    cuda_download(device, n, x, floats.data());
    if (collective_sum(gang, n, floats.data())) return -1;
    cuda_upload(device, n, floats.data(), x);
    return 0;
}

int cuda_sum_ranks_floats(struct device *, const struct collective *gang, size_t n, float *x)
{
    return collective_sum(gang, n, x);
}

int cuda_sum_ranks_begin(struct device *device, const struct collective *gang, size_t n, real *x)
{
    return cuda_sum_ranks(device, gang, n, x);
}

int cuda_sum_ranks_end(struct device *, const struct collective *)
{
    return 0;
}

int cuda_gather_ranks(struct device *, const struct collective *gang, size_t n, const float *x, float *all)
{
    return collective_gather(gang, n, x, all);
}

void cuda_matmul_group(struct device *device, size_t count, const struct matmul_arguments *products)
{
    for (size_t i = 0; i < count; i++) {
        if (products[i].c_floats)
            product_floats(device, products[i]);
        else
            product_reals(device, products[i]);
    }
}

void cuda_matmul(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                 const real *a, size_t lda, const real *b, size_t ldb, float beta, real *c, size_t ldc)
{
    const struct matmul_arguments p = {trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c, nullptr};
    product_reals(device, p);
}

void cuda_matmul_floats(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                        const real *a, size_t lda, const real *b, size_t ldb, float beta, float *c, size_t ldc)
{
    const struct matmul_arguments p = {trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, nullptr, c};
    product_floats(device, p);
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
