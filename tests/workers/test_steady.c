/* A training step that has been taken before allocates nothing: of the engine's own code, whose calls of malloc and its
 * like the linker leads here (--wrap); a step alone, on one thread, without dropout. What oneDNN and OpenBLAS allocate
 * inside a product is theirs, and not seen. */
#include "model_fixture.h"

#include <stdatomic.h>

#include "workers/train/optimiser.h"

static atomic_size_t calls;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    calls++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    calls++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    calls++;
    return __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    calls++;
    return __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size)
{
    calls++;
    return __real_posix_memalign(out, alignment, size);
}

static void step(struct rank *r, const struct recipe *recipe, const struct batch *batch, uint64_t number)
{
    struct error err = {""};
    double loss = 0;
    parameters_zero_gradients(r->parameters);
    if (model_train(r->model, batch, 1.0f / (float)batch->targets, &loss, &err) ||
        parameters_reduce_gradients(r->parameters, &err) ||
        optimiser_step(r->parameters, recipe, number, 1e-3, 1, &err))
        fail_msg("%s", err.text);
}

static void check(const char *backend, enum precision precision, const struct recipe *recipe,
                  const struct method_config *method, const struct model_config *config)
{
    struct error err = {""};
    const struct kernels *kernels = kernels_find(backend, &err);
    struct sample *small = sample_default(method, config->vocabulary);
    struct sample *large =
        sample_create(4, (size_t[]){9, 9, 9, 9}, method_prompt_length(method), config->vocabulary, 2);
    const struct batch_capacity capacity = capacity_of(&large->batch);
    struct rank r = {.model = NULL};
    if (!kernels ||
        rank_create_with(&r, kernels, &(struct collective){NULL, 0, 1}, config, method, &capacity, recipe, &err))
        fail_msg("%s", err.text);
    kernels->set_precision(r.device, precision);
    randomise(r.parameters);
    step(&r, recipe, &large->batch, 1);
    step(&r, recipe, &small->batch, 2);
    size_t before = calls;
    assert_true(before > 0); /* they are seen */
    step(&r, recipe, &small->batch, 3);
    step(&r, recipe, &large->batch, 4);
    if (calls != before)
        fail_msg("%s, %s, %s, %s: %zu allocations in two steps", backend, precision_name(precision),
                 optimiser_name(recipe->optimiser), method_name(method->kind), calls - before);
    rank_destroy(&r);
    free(small);
    free(large);
}

static void no_step_allocates(void **state)
{
    static const struct recipe recipes[] = {
        {.optimiser = OPTIMISER_ADAMW, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8},
        {.optimiser = OPTIMISER_ADAFACTOR},
        {.optimiser = OPTIMISER_SGD, .momentum = 0.9}};
    (void)state;
    for (int variant = 0; variant < VARIANTS; variant++) {
        struct model_config config = variant_model(variant, 4, 2, variant % 2);
        for (int m = 0; m < METHOD_CASES; m++) {
            const struct method_config *method = &method_cases[m];
            if (method->kind == METHOD_NONE || !method_fits(method, &config)) continue;
            for (size_t o = 0; o < sizeof recipes / sizeof *recipes; o++) {
                check("cpu", PRECISION_FP32, &recipes[o], method, &config);
                check("cpu", PRECISION_BF16, &recipes[o], method, &config);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_step_allocates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
