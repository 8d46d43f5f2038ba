/* Dropout where transformers and PEFT have it: under the same masks (tests/golden/make_dropout.py draws them by their
 * definition) losses and every gradient are theirs, on each backend and over two devices. */
#include "golden.h"
#include "model_fixture.h"

#define LOSS_BOUND 1e-5
#define GRADIENT_BOUND 1e-4
#define SMALL_GRADIENT 1e-3 /* of all gradients' norm: smaller tensors are measured against this */
#define MASKS TEST_SOURCE_DIR "/golden/dropout/masks.h5"

struct masked {
    struct golden *golden;
    const struct kernels *kernels;
    struct collective collective;
    double dropout, loss;
    struct gathered *out;
    pthread_mutex_t *mutex;
    int rc;
    struct error err;
};

static int set_values(struct golden *golden, const struct rank *r, struct error *err)
{
    for (size_t i = 0; i < r->parameters->count; i++) {
        const struct parameter *p = &r->parameters->list[i];
        const struct golden_tensor *tensor = golden_find(&golden->values, p->name);
        if (!tensor || tensor->count != p->rows * p->columns) return error_set(err, "%s: not in the golden", p->name);
        for (size_t row = 0; row < p->row_count; row++)
            parameter_write(r->parameters, p, row * p->column_count, p->column_count,
                            tensor->data + (p->row_first + row) * p->columns + p->column_first);
    }
    return 0;
}

static void *train(void *argument)
{
    struct masked *m = argument;
    struct rank r;
    const struct batch *batch = &m->golden->batches[0].batch;
    struct batch_capacity capacity = m->golden->capacity;
    capacity.dropout = true;
    m->rc = rank_create_with(&r, m->kernels, &m->collective, &m->golden->model, &m->golden->method, &capacity,
                             &m->golden->recipe, &m->err);
    if (m->rc) return NULL;
    model_dropout(r.model, m->dropout);
    m->rc = set_values(m->golden, &r, &m->err) ||
            model_train(r.model, batch, (float)(1.0 / (double)batch->targets), &m->loss, &m->err) ||
            parameters_reduce_gradients(r.parameters, &m->err);
    m->loss /= (double)batch->targets;
    pthread_mutex_lock(m->mutex);
    for (size_t i = 0; i < r.parameters->count && !m->rc; i++)
        if (r.parameters->list[i].trainable) gather_tile(m->out, &r, &r.parameters->list[i]);
    pthread_mutex_unlock(m->mutex);
    rank_destroy(&r);
    return NULL;
}

static double norm_of(const struct golden_tensor *tensor, const float *minus)
{
    double squares = 0;
    for (size_t i = 0; i < tensor->count; i++)
        squares += pow((double)tensor->data[i] - (minus ? (double)minus[i] : 0), 2);
    return sqrt(squares);
}

static void compare(struct golden *golden, double loss, const struct masked *got, const char *what)
{
    double all = 0;
    assert_int_equal(got->out->count, golden->gradients.count);
    for (size_t i = 0; i < golden->gradients.count; i++)
        all += pow(norm_of(&golden->gradients.list[i], NULL), 2);
    if (!(fabs(got->loss / loss - 1) <= LOSS_BOUND)) fail_msg("%s: loss %.9g, not %.9g", what, got->loss, loss);
    for (size_t i = 0; i < golden->gradients.count; i++) {
        const struct golden_tensor *wanted = &golden->gradients.list[i];
        const struct tensor *found = gathered_find(got->out, wanted->name);
        if (!found) fail_msg("%s: no gradient of %s", what, wanted->name);
        double size = fmax(norm_of(wanted, NULL), SMALL_GRADIENT * sqrt(all)), error = norm_of(wanted, found->gradient);
        if (!(error <= GRADIENT_BOUND * size)) fail_msg("%s: %s is off by %.2g", what, wanted->name, error / size);
    }
}

static void check(struct golden *golden, double dropout, double loss, const char *backend, int degree, const char *what)
{
    struct error err = {""};
    struct masked ranks[2];
    pthread_t threads[2];
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct collective_group *group = collective_group_create(degree, &err);
    struct gathered *out = gathered_create();
    for (int rank = 0; rank < degree; rank++) {
        ranks[rank] = (struct masked){.golden = golden,
                                      .kernels = kernels_find(backend, &err),
                                      .collective = {group, rank, degree},
                                      .dropout = dropout,
                                      .out = out,
                                      .mutex = &mutex};
        assert_int_equal(pthread_create(&threads[rank], NULL, train, &ranks[rank]), 0);
    }
    for (int rank = 0; rank < degree; rank++)
        pthread_join(threads[rank], NULL);
    if (ranks[0].rc) fail_msg("%s: %s", what, ranks[0].err.text);
    compare(golden, loss, &ranks[0], what);
    gathered_destroy(out);
    collective_group_destroy(group);
}

static void check_model(const char *model, const char *method, enum method_kind kind)
{
    char path[512], group_name[128];
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/%s.h5", model);
    struct golden *golden = golden_read(path, method, kind);
    if (!golden) golden_stop("no golden", path);
    for (size_t i = 0; i < golden->gradients.count; i++)
        free(golden->gradients.list[i].data);
    golden->gradients.count = 0;
    hid_t file = H5Fopen(MASKS, H5F_ACC_RDONLY, H5P_DEFAULT);
    snprintf(group_name, sizeof group_name, "%s/%s", model, method);
    hid_t group = file < 0 ? -1 : H5Gopen2(file, group_name, H5P_DEFAULT);
    if (group < 0) golden_stop("no masks", group_name);
    golden_tensors(group, "gradients", &golden->gradients);
    golden->method.dropout = golden_number(group, "lora_dropout");
    golden->batches[0].batch.draws = (struct draws){.seed = (uint64_t)golden_number(group, "seed"),
                                                    .step = (uint64_t)golden_number(group, "step"),
                                                    .first_token = (uint64_t)golden_number(group, "first_token")};
    double dropout = golden_number(group, "dropout"), loss = golden_number(group, "loss");
    H5Gclose(group);
    H5Fclose(file);
    for (int degree = 1; degree <= 2; degree++) {
        check(golden, dropout, loss, "reference", degree, group_name);
        check(golden, dropout, loss, "cpu", degree, group_name);
    }
    golden_destroy(golden);
}

static void models(void **state)
{
    (void)state;
    static const char *const names[] = {"llama_gqa_untied", "llama_biases", "olmo2_gqa_untied", "neox_parallel",
                                        "neox_sequential"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        check_model(names[i], "full", METHOD_FULL);
        check_model(names[i], "lora", METHOD_LORA);
        check_model(names[i], "prompt", METHOD_PROMPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(models)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
