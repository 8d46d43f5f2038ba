/* oneDNN behind the cpu backend's matmul. Its products with sizes given at run time are used: the library's other ones
 * compile machine code for each size, and packed batches are of another size every step. */
#include "kernels/cpu/onednn.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef TUNELAW_ONEDNN
#include <oneapi/dnnl/dnnl.h>

enum { KINDS = 32 }; /* of products that are kept; a model has about ten */

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    size_t count, next; /* made; to be replaced where there is no room */
    struct {
        struct product product;
        dnnl_primitive_t primitive;
    } kinds[KINDS];
};

bool onednn_built(void)
{
    return true;
}

bool onednn_fast_bf16(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return ((unsigned)isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

void onednn_version(char *out, size_t size)
{
    static const struct {
        unsigned isa;
        const char *name;
    } all[] = {{dnnl_cpu_isa_avx512_core_amx, "amx"},
               {dnnl_cpu_isa_avx512_core_bf16, "avx512_bf16"},
               {dnnl_cpu_isa_avx512_core, "avx512"},
               {dnnl_cpu_isa_avx2, "avx2"},
               {dnnl_cpu_isa_avx, "avx"}};
    const dnnl_version_t *version = dnnl_version();
    unsigned isa = dnnl_get_effective_cpu_isa();
    const char *name = "plain";
    for (size_t i = sizeof all / sizeof *all; i-- > 0;)
        if ((isa & all[i].isa) == all[i].isa) name = all[i].name;
    snprintf(out, size, "onednn-%d.%d.%d-%s", version->major, version->minor, version->patch, name);
}

struct onednn *onednn_create(void)
{
    struct onednn *onednn = calloc(1, sizeof *onednn);
    if (!onednn) return NULL;
    if (dnnl_engine_create(&onednn->engine, dnnl_cpu, 0) == dnnl_success &&
        dnnl_stream_create(&onednn->stream, onednn->engine, dnnl_stream_default_flags) == dnnl_success)
        return onednn;
    onednn_destroy(onednn);
    return NULL;
}

void onednn_destroy(struct onednn *onednn)
{
    if (!onednn) return;
    for (size_t i = 0; i < onednn->count; i++)
        dnnl_primitive_destroy(onednn->kinds[i].primitive);
    if (onednn->stream) dnnl_stream_destroy(onednn->stream);
    if (onednn->engine) dnnl_engine_destroy(onednn->engine);
    free(onednn);
}

int onednn_fp32(const struct product *p, size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float *c, size_t ldc)
{
    return dnnl_sgemm(p->trans_a ? 'T' : 'N', p->trans_b ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k,
                      p->alpha, a, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, p->beta, c, (dnnl_dim_t)ldc) == dnnl_success
               ? 0
               : -1;
}

/* A matrix of rows x columns, its rows `stride` apart; transposed: it lies as columns x rows. */
static dnnl_status_t describe(dnnl_memory_desc_t *desc, dnnl_data_type_t type, bool transposed, dnnl_dim_t rows,
                              dnnl_dim_t columns, dnnl_dim_t stride)
{
    dnnl_dims_t sizes = {rows, columns}, strides = {transposed ? 1 : stride, transposed ? stride : 1};
    return dnnl_memory_desc_init_by_strides(desc, 2, sizes, type, strides);
}

static dnnl_status_t attributes(const struct product *product, dnnl_primitive_attr_t *attr)
{
    dnnl_post_ops_t sum = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    if (!status && product->alpha != 1) status = dnnl_primitive_attr_set_output_scales(*attr, 1, 0, &product->alpha);
    if (status || product->beta == 0) return status;
    status = dnnl_post_ops_create(&sum);
    if (!status) status = dnnl_post_ops_append_sum(sum, product->beta);
    if (!status) status = dnnl_primitive_attr_set_post_ops(*attr, sum);
    if (sum) dnnl_post_ops_destroy(sum);
    return status;
}

static dnnl_primitive_t make(const struct onednn *onednn, const struct product *product)
{
    const dnnl_dim_t any = DNNL_RUNTIME_DIM_VAL;
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t primitive_desc = NULL;
    dnnl_primitive_t primitive = NULL;
    if (!describe(&a, dnnl_bf16, product->trans_a, any, any, any) &&
        !describe(&b, dnnl_bf16, product->trans_b, any, any, any) && !describe(&c, dnnl_f32, false, any, any, any) &&
        !attributes(product, &attr) && !dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c) &&
        !dnnl_primitive_desc_create(&primitive_desc, &desc, attr, onednn->engine, NULL) &&
        dnnl_primitive_create(&primitive, primitive_desc))
        primitive = NULL;
    if (primitive_desc) dnnl_primitive_desc_destroy(primitive_desc);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return primitive;
}

static bool same(const struct product *a, const struct product *b)
{
    return a->trans_a == b->trans_a && a->trans_b == b->trans_b && a->alpha == b->alpha && a->beta == b->beta;
}

static dnnl_primitive_t find(struct onednn *onednn, const struct product *product)
{
    for (size_t i = 0; i < onednn->count; i++)
        if (same(&onednn->kinds[i].product, product)) return onednn->kinds[i].primitive;
    dnnl_primitive_t made = make(onednn, product);
    if (!made) return NULL;
    size_t at = onednn->count < KINDS ? onednn->count++ : onednn->next++ % KINDS;
    if (onednn->kinds[at].primitive) dnnl_primitive_destroy(onednn->kinds[at].primitive);
    onednn->kinds[at].product = *product;
    onednn->kinds[at].primitive = made;
    return made;
}

int onednn_bf16(struct onednn *onednn, const struct product *p, size_t m, size_t n, size_t k, const uint16_t *a,
                size_t lda, const uint16_t *b, size_t ldb, float *c, size_t ldc)
{
    dnnl_memory_desc_t desc[3];
    dnnl_memory_t memory[3] = {NULL, NULL, NULL};
    void *arrays[3] = {(void *)(uintptr_t)a, (void *)(uintptr_t)b, c};
    dnnl_primitive_t primitive = find(onednn, p);
    bool failed = !primitive ||
                  describe(&desc[0], dnnl_bf16, p->trans_a, (dnnl_dim_t)m, (dnnl_dim_t)k, (dnnl_dim_t)lda) ||
                  describe(&desc[1], dnnl_bf16, p->trans_b, (dnnl_dim_t)k, (dnnl_dim_t)n, (dnnl_dim_t)ldb) ||
                  describe(&desc[2], dnnl_f32, false, (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)ldc);
    for (int i = 0; i < 3 && !failed; i++)
        failed = dnnl_memory_create(&memory[i], &desc[i], onednn->engine, arrays[i]) != dnnl_success;
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, memory[0]}, {DNNL_ARG_WEIGHTS, memory[1]}, {DNNL_ARG_DST, memory[2]}};
    if (!failed) failed = dnnl_primitive_execute(primitive, onednn->stream, 3, arguments) != dnnl_success;
    for (int i = 0; i < 3; i++)
        if (memory[i]) dnnl_memory_destroy(memory[i]);
    return failed ? -1 : 0;
}

#else

bool onednn_built(void)
{
    return false;
}

bool onednn_fast_bf16(void)
{
    return false;
}

void onednn_version(char *out, size_t size)
{
    snprintf(out, size, "none");
}

struct onednn *onednn_create(void)
{
    return NULL;
}

void onednn_destroy(struct onednn *onednn)
{
    (void)onednn;
}

int onednn_fp32(const struct product *p, size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                size_t ldb, float *c, size_t ldc)
{
    (void)p, (void)m, (void)n, (void)k, (void)a, (void)lda, (void)b, (void)ldb, (void)c, (void)ldc;
    return -1;
}

int onednn_bf16(struct onednn *onednn, const struct product *p, size_t m, size_t n, size_t k, const uint16_t *a,
                size_t lda, const uint16_t *b, size_t ldb, float *c, size_t ldc)
{
    (void)onednn, (void)p, (void)m, (void)n, (void)k, (void)a, (void)lda, (void)b, (void)ldb, (void)c, (void)ldc;
    return -1;
}
#endif
