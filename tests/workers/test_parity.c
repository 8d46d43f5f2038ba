/* The engine against PyTorch, transformers and PEFT: loss, every gradient tensor and twenty steps of each optimiser
 * must be theirs, for families, methods, backends and degrees. tests/golden holds their numbers, in float64.
 *
 * `--table` prints the worst errors as the table of docs/engine.md, too. */
#include <glob.h>

#include "golden.h"
#include "model_fixture.h"
#include "workers/gang.h"
#include "workers/optimiser.h"

#define LOSS_BOUND 1e-5
#define GRADIENT_BOUND 1e-4
#define CURVE_BOUND 1e-3
#define SMALL_GRADIENT 1e-3 /* of all gradients' norm: smaller tensors are measured against this */

/* What one gang computed of a golden. */
struct outcome {
    struct gathered *first; /* gradients of batch 0 */
    double loss, losses[GOLDEN_STEPS], norms[GOLDEN_STEPS];
};
struct run {
    struct golden *golden;
    const struct kernels *kernels;
    pthread_mutex_t mutex;
    struct outcome out;
};

/* This rank's tile of every tensor. A tensor that the golden does not have, or of another size, is an error. */
static int set_values(struct golden *golden, const struct rank *r, struct error *err)
{
    for (size_t i = 0; i < r->parameters->count; i++) {
        const struct parameter *p = &r->parameters->list[i];
        const struct golden_tensor *tensor = golden_find(&golden->values, p->name);
        if (!tensor || tensor->count != p->rows * p->columns)
            return error_set(err, "%s: not in the golden, or of another size", p->name);
        for (size_t row = 0; row < p->row_count; row++)
            r->kernels->to_device(r->device, p->value + row * p->column_count,
                                  tensor->data + (p->row_first + row) * p->columns + p->column_first,
                                  p->column_count * sizeof(float));
    }
    return 0;
}

/* Gradients of the mean loss over the targets, summed over ranks, and their norm. */
static int train_batch(const struct golden *golden, const struct rank *r, size_t index, double *loss, double *norm,
                       struct error *err)
{
    const struct batch *batch = &golden->batches[index].batch;
    parameters_zero_gradients(r->parameters);
    if (model_train(r->model, batch, (float)(1.0 / (double)batch->targets), loss, err) ||
        parameters_reduce_gradients(r->parameters, err) || parameters_gradient_norm(r->parameters, norm, err))
        return -1;
    *loss /= (double)batch->targets;
    return 0;
}

static int train_steps(const struct golden *golden, const struct rank *r, struct outcome *out, struct error *err)
{
    for (size_t step = 0; step < golden->steps; step++) {
        double norm;
        if (train_batch(golden, r, step % golden->batch_count, &out->losses[step], &norm, err)) return -1;
        out->norms[step] = norm;
        if (optimiser_step(r->parameters, &golden->recipe, step + 1, recipe_rate(&golden->recipe, step + 1),
                           optimiser_clip(&golden->recipe, norm), err))
            return -1;
    }
    return 0;
}

static int run_rank(void *context, const struct collective *collective, struct error *err)
{
    struct run *run = context;
    const struct golden *golden = run->golden;
    struct rank r;
    struct outcome mine = {.loss = NAN};
    double norm;
    if (rank_create_with(&r, run->kernels, collective, &golden->model, &golden->method, &golden->capacity,
                         &golden->recipe, err))
        return -1;
    int rc = set_values(run->golden, &r, err);
    if (!rc) rc = train_batch(golden, &r, 0, &mine.loss, &norm, err);
    if (!rc) {
        pthread_mutex_lock(&run->mutex);
        for (size_t i = 0; i < r.parameters->count; i++)
            if (r.parameters->list[i].trainable) gather_tile(run->out.first, &r, &r.parameters->list[i]);
        pthread_mutex_unlock(&run->mutex);
        rc = train_steps(golden, &r, &mine, err);
    }
    if (!rc && collective->rank == 0) {
        mine.first = run->out.first;
        run->out = mine;
    }
    rank_destroy(&r);
    return rc;
}

/* Worst errors, each relative to what the bounds are. */
struct errors {
    double loss, gradient, curve, norm;
    char tensor[96]; /* of the worst gradient */
};

static double gradients_norm(const struct golden_list *gradients)
{
    double squares = 0;
    for (size_t i = 0; i < gradients->count; i++)
        for (size_t j = 0; j < gradients->list[i].count; j++)
            squares += pow((double)gradients->list[i].data[j], 2);
    return sqrt(squares);
}

/* |a - b| / max(|b|, smallest) */
static double gradient_error(const struct tensor *a, const struct golden_tensor *b, double smallest)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < b->count; i++) {
        difference += pow((double)a->gradient[i] - (double)b->data[i], 2);
        size += pow((double)b->data[i], 2);
    }
    return sqrt(difference) / fmax(sqrt(size), smallest);
}

static void compare_gradients(struct golden *golden, struct gathered *got, struct errors *worst)
{
    double smallest = SMALL_GRADIENT * gradients_norm(&golden->gradients);
    assert_int_equal(got->count, golden->gradients.count);
    assert_true(got->count > 0);
    for (size_t i = 0; i < golden->gradients.count; i++) {
        const struct golden_tensor *tensor = &golden->gradients.list[i];
        const struct tensor *mine = gathered_find(got, tensor->name);
        if (!mine || mine->rows * mine->columns != tensor->count) fail_msg("no gradient of %s", tensor->name);
        for (size_t j = 0; j < tensor->count; j++)
            assert_true(mine->seen[j]);
        double error = gradient_error(mine, tensor, smallest);
        if (error <= worst->gradient) continue;
        worst->gradient = error;
        snprintf(worst->tensor, sizeof worst->tensor, "%.95s", tensor->name);
    }
}

static double relative(double x, double y)
{
    double error = fabs(x - y) / fabs(y);
    return isnan(error) ? INFINITY : error;
}

static struct errors compare(struct golden *golden, const struct kernels *kernels, int degree)
{
    struct error err = {""};
    struct run run = {.golden = golden, .kernels = kernels, .out.first = gathered_create()};
    struct errors worst = {0};
    pthread_mutex_init(&run.mutex, NULL);
    if (gang_run(degree, run_rank, &run, &err)) fail_msg("%s", err.text);
    if (run.out.first->failure[0]) fail_msg("%s", run.out.first->failure);
    worst.loss = relative(run.out.loss, golden->losses[0]);
    compare_gradients(golden, run.out.first, &worst);
    for (size_t i = 0; i < golden->steps; i++) {
        worst.curve = fmax(worst.curve, relative(run.out.losses[i], golden->losses[i]));
        worst.norm = fmax(worst.norm, relative(run.out.norms[i], golden->norms[i]));
    }
    pthread_mutex_destroy(&run.mutex);
    gathered_destroy(run.out.first);
    return worst;
}

static const int degrees[] = {1, 2};
static const enum method_kind methods[] = {METHOD_FULL, METHOD_LORA, METHOD_PROMPT};
static const char *const backend_names[] = {"reference", "cpu"};
static FILE *table; /* where the rows of docs/engine.md go, NULL: not wanted */

static void check(const char *family, enum method_kind kind, const char *backend, int degree, struct golden *golden)
{
    struct error err = {""};
    char what[128];
    const struct kernels *kernels = kernels_find(backend, &err);
    if (!kernels) fail_msg("%s", err.text);
    struct errors worst = compare(golden, kernels, degree);
    snprintf(what, sizeof what, "%s, %s, %s, degree %d", family, method_name(kind), backend, degree);
    if (table) fprintf(table, " %.0e, %.0e, %.0e |", worst.loss, worst.gradient, worst.curve);
    if (!(worst.loss <= LOSS_BOUND)) fail_msg("%s: the loss differs by %.2g", what, worst.loss);
    if (!(worst.gradient <= GRADIENT_BOUND))
        fail_msg("%s: the gradient of %s differs by %.2g", what, worst.tensor, worst.gradient);
    if (!(worst.curve <= CURVE_BOUND)) fail_msg("%s: the loss curve differs by %.2g", what, worst.curve);
    if (!(worst.norm <= CURVE_BOUND)) fail_msg("%s: a gradient's norm differs by %.2g", what, worst.norm);
}

/* "llama_mqa_tied" of ".../llama_mqa_tied.h5" */
static void golden_name(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, size, "%s", slash ? slash + 1 : path);
    out[strcspn(out, ".")] = 0;
}

static void check_method(enum method_kind kind)
{
    glob_t found;
    assert_int_equal(glob(TEST_SOURCE_DIR "/golden/*.h5", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char family[64];
        golden_name(found.gl_pathv[i], family, sizeof family);
        struct golden *golden = golden_read(found.gl_pathv[i], kind);
        if (table) fprintf(table, "| %s | %s |", family, method_name(kind));
        for (size_t b = 0; b < sizeof backend_names / sizeof *backend_names; b++)
            for (size_t d = 0; d < sizeof degrees / sizeof *degrees; d++)
                check(family, kind, backend_names[b], degrees[d], golden);
        if (table) fputc('\n', table);
        golden_destroy(golden);
    }
    globfree(&found);
}

/* The other optimisers' twenty steps. */
static const struct {
    const char *name;
    enum optimiser_kind kind;
} optimisers[] = {
    {"adafactor", OPTIMISER_ADAFACTOR}, {"adafactor_unscaled", OPTIMISER_ADAFACTOR}, {"sgd", OPTIMISER_SGD}};

static bool check_optimiser(const char *path, const char *model, enum method_kind method, size_t optimiser)
{
    struct golden *golden = golden_read(path, method);
    const char *name = optimisers[optimiser].name;
    bool has = golden_optimiser(golden, TEST_SOURCE_DIR "/golden/optimisers/curves.h5", model, name,
                                optimisers[optimiser].kind);
    if (has) {
        char row[128];
        snprintf(row, sizeof row, "%s, %s", model, name);
        if (table) fprintf(table, "| %s | %s |", row, method_name(method));
        for (size_t b = 0; b < sizeof backend_names / sizeof *backend_names; b++)
            for (size_t d = 0; d < sizeof degrees / sizeof *degrees; d++)
                check(row, method, backend_names[b], degrees[d], golden);
        if (table) fputc('\n', table);
    }
    golden_destroy(golden);
    return has;
}

static void other_optimisers(void **state)
{
    (void)state;
    glob_t found;
    size_t checked = 0;
    assert_int_equal(glob(TEST_SOURCE_DIR "/golden/*.h5", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char model[64];
        golden_name(found.gl_pathv[i], model, sizeof model);
        for (size_t m = 0; m < sizeof methods / sizeof *methods; m++)
            for (size_t o = 0; o < sizeof optimisers / sizeof *optimisers; o++)
                checked += check_optimiser(found.gl_pathv[i], model, methods[m], o);
    }
    assert_true(checked > 0);
    globfree(&found);
}

static void full_tuning(void **state)
{
    (void)state;
    check_method(methods[0]);
}

static void lora(void **state)
{
    (void)state;
    check_method(methods[1]);
}

static void prompt_tuning(void **state)
{
    (void)state;
    check_method(methods[2]);
}

/* Of each method, backend and degree, as columns: the worst relative error of loss, gradients and curve. */
static void table_begin(void)
{
    table = tmpfile();
    if (!table) golden_stop("cannot make", "a temporary file");
    fprintf(table, "| model | method |");
    for (size_t b = 0; b < sizeof backend_names / sizeof *backend_names; b++)
        for (size_t d = 0; d < sizeof degrees / sizeof *degrees; d++)
            fprintf(table, " %s, degree %d |", backend_names[b], degrees[d]);
    fprintf(table, "\n|---|---|---|---|---|---|\n");
}

/* After cmocka's own lines. */
static void table_end(void)
{
    rewind(table);
    for (int c = fgetc(table); c != EOF; c = fgetc(table))
        putchar(c);
    fclose(table);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_tuning),
        cmocka_unit_test(lora),
        cmocka_unit_test(prompt_tuning),
        cmocka_unit_test(other_optimisers),
    };
    if (argc > 1 && !strcmp(argv[1], "--table")) table_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (table) table_end();
    return failed;
}
