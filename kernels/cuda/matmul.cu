/* Matrix products by cuBLASLt, and small ones together by cuBLAS.
 *
 * Rows here are columns there: a row-major C [m][n] is a column-major n x m, so that C = op(A) op(B) is asked for as
 * C^T = op(B)^T op(A)^T, with B's matrix first.
 *
 * One algorithm a shape, the first one that the library's heuristics offer without a reduction over parts of the inner
 * dimension; no timing, so that a run's bytes do not depend on another's load. Where rows are tokens (A not transposed)
 * the algorithm is that for TOKENS rows, whatever their number: a tile of C is then computed in the same way however
 * many there are; where the inner dimension is tokens (A transposed) that for TOKENS of them. One that refuses the
 * number there is gives way to that for this number. Products of fp32 are fp32, not TF32. */
#include <cublasLt.h>
#include <cublas_v2.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/libraries.cuh"

namespace
{

constexpr size_t WORKSPACE = (size_t)32 << 20, TOKENS = 4096;

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define LT_FILE "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)
#define BLAS_FILE "libcublas.so." TEXT(CUBLAS_VER_MAJOR)

/* X(function) of cublasLt, of cublas. */
#define LT_FUNCTIONS(X)                                                                                                \
    X(cublasLtCreate)                                                                                                  \
    X(cublasLtDestroy)                                                                                                 \
    X(cublasLtMatmul)                                                                                                  \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                                  \
    X(cublasLtMatmulDescCreate)                                                                                        \
    X(cublasLtMatmulDescDestroy)                                                                                       \
    X(cublasLtMatmulDescSetAttribute)                                                                                  \
    X(cublasLtMatrixLayoutCreate)                                                                                      \
    X(cublasLtMatrixLayoutDestroy)                                                                                     \
    X(cublasLtMatmulPreferenceCreate)                                                                                  \
    X(cublasLtMatmulPreferenceDestroy)                                                                                 \
    X(cublasLtMatmulPreferenceSetAttribute)
#define BLAS_FUNCTIONS(X)                                                                                              \
    X(cublasCreate_v2)                                                                                                 \
    X(cublasDestroy_v2)                                                                                                \
    X(cublasSetStream_v2)                                                                                              \
    X(cublasSetWorkspace_v2)                                                                                           \
    X(cublasGemmGroupedBatchedEx)

struct functions {
#define FIELD(name) decltype(::name) *name;
    LT_FUNCTIONS(FIELD)
    BLAS_FUNCTIONS(FIELD)
#undef FIELD
};

/* What an algorithm is chosen by. No padding: it is hashed and compared as bytes. */
struct shape {
    uint64_t m, n, k, lda, ldb, ldc;
    uint32_t trans_a, trans_b, types, epilogue, align_a, align_b, align_c, zero; /* fills a word */
};

struct hash {
    size_t operator()(const shape &s) const
    {
        uint64_t words[sizeof(shape) / 8], h = 0x9E3779B97F4A7C15u;
        memcpy(words, &s, sizeof s);
        for (uint64_t word : words)
            h = (h ^ word) * 0xff51afd7ed558ccdu, h ^= h >> 32;
        return (size_t)h;
    }
};

struct equal {
    bool operator()(const shape &a, const shape &b) const
    {
        return memcmp(&a, &b, sizeof a) == 0;
    }
};

struct choice {
    bool found;
    cublasLtMatmulAlgo_t algorithm;
};

} // namespace

struct products {
    struct functions call;
    cublasLtHandle_t lt;
    cublasHandle_t blas; /* NULL: cuBLAS has no grouped products */
    void *workspace;
    std::unordered_map<shape, choice, hash, equal> choices;
};

namespace
{

/* A product with what follows it: D = epilogue(alpha op(A) op(B) + beta C), C and D the same matrix. */
struct task {
    struct matmul_arguments p;
    cublasLtEpilogue_t epilogue;
    const float *bias;
};

cudaDataType storage(const struct device *device)
{
    return device->precision == PRECISION_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

uint32_t alignment(const void *x)
{
    uintptr_t address = reinterpret_cast<uintptr_t>(x);
    uint32_t bytes = 16; /* no load is wider: what lies further on must not choose another algorithm */
    while (bytes > 1 && address % bytes)
        bytes /= 2;
    return bytes;
}

void *destination(const struct matmul_arguments &p)
{
    return p.c_floats ? static_cast<void *>(p.c_floats) : static_cast<void *>(p.c);
}

/* tokens: how many rows, or how long an inner dimension, the algorithm is chosen for. */
shape shape_of(const struct device *device, const task &t, size_t tokens)
{
    const struct matmul_arguments &p = t.p;
    shape s = {};
    s.m = p.trans_a ? p.m : tokens;
    s.n = p.n;
    s.k = p.trans_a ? tokens : p.k;
    s.lda = p.lda;
    s.ldb = p.ldb;
    s.ldc = p.ldc;
    s.trans_a = p.trans_a;
    s.trans_b = p.trans_b;
    s.types = (uint32_t)(p.c_floats != nullptr) | (uint32_t)(storage(device) == CUDA_R_16BF) << 1;
    s.epilogue = (uint32_t)t.epilogue;
    s.align_a = alignment(p.a);
    s.align_b = alignment(p.b);
    s.align_c = alignment(destination(p));
    return s;
}

/* Descriptions of one product; destroyed with it. */
struct description {
    const struct functions &call;
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t first = nullptr, second = nullptr, result = nullptr; /* B, A, C of the row-major product */
    bool good = true;

    explicit description(const struct functions &call) : call(call)
    {
    }

    void check(cublasStatus_t status)
    {
        good = good && status == CUBLAS_STATUS_SUCCESS;
    }

    template <typename Value> void set(cublasLtMatmulDescAttributes_t attribute, const Value &value)
    {
        if (good) check(call.cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value));
    }

    void layout(cublasLtMatrixLayout_t *out, cudaDataType type, size_t rows, size_t columns, size_t stride)
    {
        if (good) check(call.cublasLtMatrixLayoutCreate(out, type, rows, columns, (int64_t)stride));
    }

    ~description()
    {
        if (operation) call.cublasLtMatmulDescDestroy(operation);
        if (first) call.cublasLtMatrixLayoutDestroy(first);
        if (second) call.cublasLtMatrixLayoutDestroy(second);
        if (result) call.cublasLtMatrixLayoutDestroy(result);
    }
};

/* m: rows of C, k: the inner dimension, those of the task or those that an algorithm is chosen for. */
void describe(const struct device *device, const task &t, size_t m, size_t k, description *d)
{
    const struct matmul_arguments &p = t.p;
    cublasOperation_t first = p.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, second = p.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cudaDataType type = storage(device), out = p.c_floats ? CUDA_R_32F : type;
    d->check(d->call.cublasLtMatmulDescCreate(&d->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    d->set(CUBLASLT_MATMUL_DESC_TRANSA, first);
    d->set(CUBLASLT_MATMUL_DESC_TRANSB, second);
    d->set(CUBLASLT_MATMUL_DESC_EPILOGUE, t.epilogue);
    if (t.bias) {
        d->set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, t.bias);
        d->set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, (int32_t)CUDA_R_32F);
    }
    d->layout(&d->first, type, p.trans_b ? k : p.n, p.trans_b ? p.n : k, p.ldb);
    d->layout(&d->second, type, p.trans_a ? m : k, p.trans_a ? k : m, p.lda);
    d->layout(&d->result, out, p.n, m, p.ldc);
}

choice ask(const struct products *products, const shape &s, const description &d)
{
    const struct functions &call = products->call;
    cublasLtMatmulPreference_t preference = nullptr;
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    const size_t workspace = WORKSPACE;
    const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
    if (!d.good || call.cublasLtMatmulPreferenceCreate(&preference)) return {};
    auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto &value) {
        return call.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value) ==
               CUBLAS_STATUS_SUCCESS;
    };
    bool good = set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace) &&
                set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, scheme) &&
                set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s.align_b) &&
                set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.align_a) &&
                set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.align_c) &&
                set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.align_c);
    if (good && call.cublasLtMatmulAlgoGetHeuristic(products->lt, d.operation, d.first, d.second, d.result, d.result,
                                                    preference, 1, &result, &found))
        found = 0;
    call.cublasLtMatmulPreferenceDestroy(preference);
    return {good && found > 0 && result.state == CUBLAS_STATUS_SUCCESS, result.algo};
}

const choice &choose(struct device *device, const task &t, size_t tokens)
{
    struct products *products = device->products;
    shape s = shape_of(device, t, tokens);
    auto known = products->choices.find(s);
    if (known != products->choices.end()) return known->second;
    description d(products->call);
    describe(device, t, s.m, s.k, &d);
    return products->choices.emplace(s, ask(products, s, d)).first->second;
}

/* With the algorithm for so many tokens; what is refused has not been begun. */
cublasStatus_t multiply_as(struct device *device, const task &t, size_t tokens)
{
    struct products *products = device->products;
    const struct matmul_arguments &p = t.p;
    const choice &chosen = choose(device, t, tokens);
    description d(products->call);
    if (!chosen.found) return CUBLAS_STATUS_NOT_SUPPORTED;
    describe(device, t, p.m, p.k, &d);
    if (!d.good) return CUBLAS_STATUS_NOT_SUPPORTED;
    void *c = destination(p);
    return products->call.cublasLtMatmul(products->lt, d.operation, &p.alpha, p.b, d.first, p.a, d.second, &p.beta, c,
                                         d.result, c, d.result, &chosen.algorithm, products->workspace, WORKSPACE,
                                         device->stream);
}

/* false: the library has no algorithm for it, and nothing was done. */
bool multiply(struct device *device, const task &t)
{
    cublasStatus_t status = multiply_as(device, t, TOKENS);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE)
        status = multiply_as(device, t, t.p.trans_a ? t.p.k : t.p.m);
    bool plain = t.epilogue == CUBLASLT_EPILOGUE_DEFAULT;
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_INVALID_VALUE && !plain)) return false;
    if (status != CUBLAS_STATUS_SUCCESS) device_fail(device, "a matrix product of cuBLASLt was refused");
    return true;
}

/* Nothing to sum: C = beta C. */
template <typename T> __global__ void scale_rows(size_t m, size_t n, float beta, T *c, size_t ldc)
{
    for (size_t i = blockIdx.x; i < m; i += gridDim.x)
        for (size_t j = threadIdx.x; j < n; j += blockDim.x)
            c[i * ldc + j] = rounded<T>(beta == 0 ? 0 : beta * number(c[i * ldc + j]));
}

void product(struct device *device, const struct matmul_arguments &p)
{
    if (p.m == 0 || p.n == 0 || device_failed(device)) return;
    if (p.k == 0) {
        if (p.c_floats)
            launch(device, scale_rows<float>, blocks_of(p.m), 256, 0, p.m, p.n, p.beta, p.c_floats, p.ldc);
        else
            with_storage(device, [&](auto zero) {
                using T = decltype(zero);
                launch(device, scale_rows<T>, blocks_of(p.m), 256, 0, p.m, p.n, p.beta, as<T>(p.c), p.ldc);
            });
        return;
    }
    if (!multiply(device, {p, CUBLASLT_EPILOGUE_DEFAULT, nullptr}))
        device_fail(device, "cuBLASLt has no algorithm for a matrix product");
}

/* Products that cuBLAS takes as one call: none empty, all with C of one kind. In bf16 it wants whole vectors at each
 * address, which it does not check, and has no fp32 C. */
bool groups(const struct device *device, size_t count, const struct matmul_arguments *products)
{
    bool half = storage(device) == CUDA_R_16BF;
    if (!device->products->blas || count < 2 || (half && products[0].c_floats)) return false;
    for (size_t i = 0; i < count; i++) {
        const struct matmul_arguments &p = products[i];
        bool small = p.m <= INT32_MAX && p.n <= INT32_MAX && p.k <= INT32_MAX && p.lda <= INT32_MAX &&
                     p.ldb <= INT32_MAX && p.ldc <= INT32_MAX;
        if (!small || p.m == 0 || p.n == 0 || p.k == 0 || (p.c_floats != nullptr) != (products[0].c_floats != nullptr))
            return false;
        if (half && (alignment(p.a) < 16 || alignment(p.b) < 16 || alignment(p.c) < 16)) return false;
    }
    return true;
}

/* What cuBLAS reads of a group, all but the addresses on the host. */
struct group {
    std::vector<cublasOperation_t> first, second;
    std::vector<int> m, n, k, lda, ldb, ldc, ones;
    std::vector<float> alpha, beta;
    std::vector<const void *> addresses;

    group(size_t count, const struct matmul_arguments *list)
    {
        for (size_t i = 0; i < count; i++) {
            const struct matmul_arguments &p = list[i];
            first.push_back(p.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
            second.push_back(p.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
            m.push_back((int)p.m);
            n.push_back((int)p.n);
            k.push_back((int)p.k);
            lda.push_back((int)p.lda);
            ldb.push_back((int)p.ldb);
            ldc.push_back((int)p.ldc);
            ones.push_back(1);
            alpha.push_back(p.alpha);
            beta.push_back(p.beta);
        }
        for (size_t i = 0; i < count; i++)
            addresses.push_back(list[i].b);
        for (size_t i = 0; i < count; i++)
            addresses.push_back(list[i].a);
        for (size_t i = 0; i < count; i++)
            addresses.push_back(destination(list[i]));
    }
};

void multiply_group(struct device *device, size_t count, const struct matmul_arguments *list)
{
    auto g = std::make_shared<const group>(count, list);
    const void *const *there = static_cast<const void *const *>(
        device_constants(device, g->addresses.data(), g->addresses.size() * sizeof g->addresses[0]));
    if (!there) return;
    graph_keep(device, g); /* nothing says that a recorded call reads the host's arrays but once */
    cudaDataType type = storage(device);
    cublasStatus_t status = device->products->call.cublasGemmGroupedBatchedEx(
        device->products->blas, g->first.data(), g->second.data(), g->n.data(), g->m.data(), g->k.data(),
        g->alpha.data(), there, type, g->ldb.data(), there + count, type, g->lda.data(), g->beta.data(),
        const_cast<void *const *>(there + 2 * count), list[0].c_floats ? CUDA_R_32F : type, g->ldc.data(), (int)count,
        g->ones.data(), CUBLAS_COMPUTE_32F);
    if (status == CUBLAS_STATUS_SUCCESS) return;
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) {
        device_fail(device, "a group of matrix products of cuBLAS was refused");
        return;
    }
    for (size_t i = 0; i < count; i++)
        product(device, list[i]);
}

/* Without it groups are computed one by one. */
void open_blas(struct device *device)
{
    struct products *products = device->products;
    struct functions &call = products->call;
    struct library library = {};
    if (library_open(&library, BLAS_FILE, nullptr)) return;
#define FIND(name) library_find(&library, #name, &call.name);
    BLAS_FUNCTIONS(FIND)
#undef FIND
    if (library.missing || call.cublasCreate_v2(&products->blas)) {
        products->blas = nullptr;
        return;
    }
    if (call.cublasSetStream_v2(products->blas, device->stream) ||
        call.cublasSetWorkspace_v2(products->blas, products->workspace, WORKSPACE)) {
        call.cublasDestroy_v2(products->blas);
        products->blas = nullptr;
    }
}

} // namespace

int products_create(struct device *device, struct error *err)
{
    struct library library = {};
    struct products *products = device->products = new (std::nothrow) struct products();
    if (!products) {
        if (err) snprintf(err->text, sizeof err->text, "out of memory");
        return -1;
    }
    if (library_open(&library, LT_FILE, err)) return -1;
#define FIND(name) library_find(&library, #name, &products->call.name);
    LT_FUNCTIONS(FIND)
#undef FIND
    cudaError_t code = cudaMalloc(&products->workspace, WORKSPACE);
    if (code != cudaSuccess) {
        bool memory = code == cudaErrorMemoryAllocation;
        cudaGetLastError();
        if (err)
            snprintf(err->text, sizeof err->text, "device %d: %s: the workspace of matrix products: %s", device->index,
                     memory ? "out of memory" : DEVICE_FAILED, cudaGetErrorString(code));
        return -1;
    }
    if (library.missing || products->call.cublasLtCreate(&products->lt)) {
        if (err)
            snprintf(err->text, sizeof err->text, "device %d: " DEVICE_FAILED ": " LT_FILE " %s%s", device->index,
                     library.missing ? "lacks " : "cannot be used", library.missing ? library.missing : "");
        return -1;
    }
    open_blas(device);
    return 0;
}

void products_library(char *out, size_t size)
{
    struct library library = {};
    decltype(::cublasLtGetVersion) *version = nullptr;
    out[0] = 0;
    if (library_open(&library, LT_FILE, nullptr)) return;
    library_find(&library, "cublasLtGetVersion", &version);
    if (version) snprintf(out, size, "cublaslt-%zu", (size_t)version());
}

void products_destroy(struct device *device)
{
    struct products *products = device->products;
    if (!products) return;
    if (products->blas) products->call.cublasDestroy_v2(products->blas);
    if (products->lt) products->call.cublasLtDestroy(products->lt);
    cudaFree(products->workspace);
    delete products;
    device->products = nullptr;
}

void cuda_matmul(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                 const real *a, size_t lda, const real *b, size_t ldb, float beta, real *c, size_t ldc)
{
    product(device, {trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c, nullptr});
}

void cuda_matmul_floats(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                        const real *a, size_t lda, const real *b, size_t ldb, float beta, float *c, size_t ldc)
{
    product(device, {trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, nullptr, c});
}

/* The bias with the product where cuBLASLt has that: a bias is of the result's type there, and ours are floats; and
 * which alignment it has is not among what the heuristics are told, so that a kernel may read whole vectors of it. GELU
 * by a kernel of its own, since the backward pass makes it again, and the library's has other last bits. */
void cuda_linear(struct device *device, size_t rows, size_t n, size_t k, const real *x, const real *w,
                 const float *bias, enum linear_gelu gelu, real *before, real *y)
{
    real *out = gelu == GELU_NONE ? y : before;
    struct matmul_arguments p = {false, true, rows, n, k, k, k, n, 1, 0, x, w, out, nullptr};
    if (rows == 0 || n == 0 || device_failed(device)) return;
    bool fuses = k > 0 && bias && whole_vectors(bias) && storage(device) == CUDA_R_32F;
    if (!fuses || !multiply(device, {p, CUBLASLT_EPILOGUE_BIAS, bias})) {
        product(device, p);
        if (bias) cuda_bias_forward(device, rows, n, bias, out);
    }
    if (gelu != GELU_NONE) cuda_gelu_forward(device, rows * n, gelu == GELU_TANH, before, y);
}

void cuda_matmul_group(struct device *device, size_t count, const struct matmul_arguments *products)
{
    if (device_failed(device)) return;
    if (groups(device, count, products)) {
        multiply_group(device, count, products);
        return;
    }
    for (size_t i = 0; i < count; i++)
        product(device, products[i]);
}
