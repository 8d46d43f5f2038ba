/* The engine against PyTorch, transformers and PEFT: loss, every gradient tensor and twenty steps of each optimiser
 * must be theirs, for families, methods, backends and degrees. tests/golden holds their numbers, in float64. Built with
 * PARITY_EMULATED the backend is CUDA's kernels on the CPU (tests/emulation), in fp32 and in bf16.
 *
 * `--table` prints the worst errors as the table of docs/engine.md, too. */
#include <glob.h>

#include "golden.h"
#include "kernels/plugin.h"
#include "model_fixture.h"
#include "workers/stage/gang.h"
#include "workers/train/optimiser.h"

#ifdef PARITY_EMULATED /* slow: some of all */
#define FILES "/golden/{llama_gqa_untied,neox_parallel,olmo2_gqa_untied}.h5"
enum { STEPS = 3, FIRST_DEGREE = 2 };
#else
#define FILES "/golden/*.h5"
enum { STEPS = GOLDEN_STEPS, FIRST_DEGREE = 1 };
#endif
#define SMALL_GRADIENT 1e-3 /* of all gradients' norm: smaller tensors are measured against this */

/* What one gang computed of a golden. */
struct outcome {
    struct gathered *first; /* gradients of batch 0 */
    double loss, losses[GOLDEN_STEPS], norms[GOLDEN_STEPS];
};
struct run {
    struct golden *golden;
    const struct kernels *kernels;
    enum precision precision;
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
            parameter_write(r->parameters, p, row * p->column_count, p->column_count,
                            tensor->data + (p->row_first + row) * p->columns + p->column_first);
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
        parameters_thaw(r->parameters, step + 1);
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
    if (run->precision != PRECISION_FP32) run->kernels->set_precision(r.device, run->precision);
    int rc = set_values(run->golden, &r, err);
    if (!rc) parameters_thaw(r.parameters, 1);
    if (!rc) rc = train_batch(golden, &r, 0, &mine.loss, &norm, err);
    if (!rc) {
        pthread_mutex_lock(&run->mutex);
        for (size_t i = 0; i < r.parameters->count; i++)
            if (r.parameters->list[i].gradient) gather_tile(run->out.first, &r, &r.parameters->list[i]);
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

static struct errors compare(struct golden *golden, const struct kernels *kernels, enum precision precision, int degree)
{
    struct error err = {""};
    struct run run = {.golden = golden, .kernels = kernels, .precision = precision, .out.first = gathered_create()};
    struct errors worst = {0};
    pthread_mutex_init(&run.mutex, NULL);
    golden->steps = golden->steps < STEPS ? golden->steps : STEPS;
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

/* A backend, and how near to the goldens it must be. */
struct target {
    const char *name;
    const struct kernels *(*find)(const char *name, struct error *err);
    double loss, gradient, curve, norm;
    enum precision precision; /* of the device, where it is not what `find` gives */
};
#ifdef PARITY_EMULATED
extern const struct kernels kernels_emulated, kernels_emulated_bf16; /* tests/emulation */

static const struct kernels *find_emulated(const char *name, struct error *err)
{
    (void)err;
    return strcmp(name, "emulated") ? &kernels_emulated_bf16 : &kernels_emulated;
}

/* bf16 has 8 bits: an activation is off by up to 0.4 %, and small gradients by some of those of the whole. */
static const struct target targets[] = {{"emulated", find_emulated, 1e-5, 1e-4, 1e-3, 1e-3, PRECISION_FP32},
                                        {"emulated in bf16", find_emulated, 1e-2, 0.15, 2e-2, 0.1, PRECISION_FP32}};
#else
static const struct kernels *find_cpu(const char *name, struct error *err)
{
    (void)name;
    return kernels_find("cpu", err);
}

/* A product is off by some 4e-6 there, and the most sensitive trainings make much of that in twenty steps. */
static const struct target targets[] = {{"reference", kernels_find, 1e-5, 1e-4, 1e-3, 1e-3, PRECISION_FP32},
                                        {"cpu", kernels_find, 1e-5, 1e-4, 1e-3, 1e-3, PRECISION_FP32},
                                        {"cpu in bf16x3", find_cpu, 1e-5, 5e-4, 2e-2, 5e-2, PRECISION_BF16X3},
                                        {"cuda", kernels_find, 1e-5, 1e-4, 1e-3, 1e-3, PRECISION_FP32}};
#endif
static const char *only; /* the one target that is wanted; NULL: those in fp32 but cuda, which few machines have */

static bool is_wanted(const struct target *target)
{
    return only ? !strcmp(target->name, only) : strcmp(target->name, "cuda") && target->precision == PRECISION_FP32;
}

/* Groups of the goldens. */
struct method_case {
    const char *name, *title;
    enum method_kind kind;
};
static const struct method_case cases[] = {
    {"full", "full", METHOD_FULL},
    {"lora", "lora", METHOD_LORA},
    {"lora_stabilised", "lora, rank-stabilised, chosen modules", METHOD_LORA},
    {"prompt", "prompt", METHOD_PROMPT},
    {"prefix", "prefix", METHOD_PREFIX},
    {"ia3", "ia3", METHOD_IA3},
    {"bitfit", "bitfit", METHOD_BITFIT},
    {"adapter", "adapter", METHOD_ADAPTER},
    {"adapter_mlp", "adapter, after the MLP", METHOD_ADAPTER},
    {"unfreeze", "unfreeze", METHOD_UNFREEZE},
};
enum { CASES = sizeof cases / sizeof *cases };

/* The other optimisers' twenty steps: adafactor of every model and method, the others of some. */
static const struct {
    const char *name;
    enum optimiser_kind kind;
} optimisers[] = {
    {"adafactor", OPTIMISER_ADAFACTOR}, {"adafactor_unscaled", OPTIMISER_ADAFACTOR}, {"sgd", OPTIMISER_SGD}};

/* A row of the table: worst over backends and degrees; curves by optimiser, NAN: no golden. */
struct row {
    char model[64];
    const struct method_case *method;
    double loss, gradient, curves[OPTIMISERS];
};
static struct row rows[512];
static size_t row_count;

static struct row *row_of(const char *model, const struct method_case *method)
{
    for (size_t i = 0; i < row_count; i++)
        if (rows[i].method == method && !strcmp(rows[i].model, model)) return &rows[i];
    assert_true(row_count < sizeof rows / sizeof *rows);
    struct row *row = &rows[row_count++];
    *row = (struct row){.method = method, .curves = {NAN, NAN, NAN}};
    snprintf(row->model, sizeof row->model, "%s", model);
    return row;
}

static void check(const char *what, const struct target *target, int degree, struct golden *golden, struct row *row)
{
    struct error err = {""};
    const struct kernels *kernels = target->find(target->name, &err);
    if (!kernels) fail_msg("%s", err.text);
    struct errors worst = compare(golden, kernels, target->precision, degree);
    row->loss = fmax(row->loss, worst.loss);
    row->gradient = fmax(row->gradient, worst.gradient);
    row->curves[golden->recipe.optimiser] = fmax(row->curves[golden->recipe.optimiser], worst.curve);
    if (!(worst.loss <= target->loss))
        fail_msg("%s, %s, degree %d: the loss differs by %.2g", what, target->name, degree, worst.loss);
    if (!(worst.gradient <= target->gradient))
        fail_msg("%s, %s, degree %d: the gradient of %s differs by %.2g", what, target->name, degree, worst.tensor,
                 worst.gradient);
    if (!(worst.curve <= target->curve))
        fail_msg("%s, %s, degree %d: the loss curve differs by %.2g", what, target->name, degree, worst.curve);
    if (!(worst.norm <= target->norm))
        fail_msg("%s, %s, degree %d: a gradient's norm differs by %.2g", what, target->name, degree, worst.norm);
}

/* Every backend and degree. */
static void check_all(const char *model, const struct method_case *method, const char *optimiser, struct golden *golden)
{
    char what[160];
    struct row *row = row_of(model, method);
    snprintf(what, sizeof what, "%s, %s, %s", model, method->title, optimiser);
    for (size_t b = 0; b < sizeof targets / sizeof *targets; b++)
        for (int degree = FIRST_DEGREE; is_wanted(&targets[b]) && degree <= 2; degree++)
            check(what, &targets[b], degree, golden, row);
}

/* "llama_mqa_tied" of ".../llama_mqa_tied.h5" */
static void golden_name(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, size, "%s", slash ? slash + 1 : path);
    out[strcspn(out, ".")] = 0;
}

static size_t check_method(const char *path, const struct method_case *method)
{
    char model[64];
    struct golden *golden = golden_read(path, method->name, method->kind);
    if (!golden) return 0;
    golden_name(path, model, sizeof model);
    check_all(model, method, "adamw", golden);
    golden_destroy(golden);
    return 1;
}

static size_t check_optimisers(const char *path, const struct method_case *method)
{
    size_t checked = 0;
    char model[64];
    golden_name(path, model, sizeof model);
    for (size_t i = 0; i < sizeof optimisers / sizeof *optimisers; i++) {
        struct golden *golden = golden_read(path, method->name, method->kind);
        if (!golden) continue;
        if (golden_optimiser(golden, TEST_SOURCE_DIR "/golden/optimisers/curves.h5", model, optimisers[i].name,
                             optimisers[i].kind)) {
            check_all(model, method, optimisers[i].name, golden);
            checked++;
        }
        golden_destroy(golden);
    }
    return checked;
}

/* Every file of goldens. */
static void check_files(size_t (*check_file)(const char *path, const struct method_case *method))
{
    glob_t found;
    assert_int_equal(glob(TEST_SOURCE_DIR FILES, GLOB_BRACE, NULL, &found), 0);
    for (int c = 0; c < CASES; c++) {
        size_t checked = 0;
        for (size_t i = 0; i < found.gl_pathc; i++)
            checked += check_file(found.gl_pathv[i], &cases[c]);
        if (check_file == check_method && !checked) fail_msg("no golden of %s", cases[c].title);
    }
    globfree(&found);
}

static void every_method(void **state)
{
    (void)state;
    check_files(check_method);
}

static void other_optimisers(void **state)
{
    (void)state;
    check_files(check_optimisers);
    size_t of_sgd = 0;
    for (size_t i = 0; i < row_count; i++) {
        if (isnan(rows[i].curves[OPTIMISER_ADAFACTOR]))
            fail_msg("no golden of %s, %s, Adafactor", rows[i].model, rows[i].method->title);
        of_sgd += !isnan(rows[i].curves[OPTIMISER_SGD]);
    }
    assert_true(of_sgd > 0);
}

static void print_worst(double error)
{
    if (isnan(error))
        printf(" – |");
    else
        printf(" %.0e |", error);
}

/* Of each model and method the worst relative error of loss, gradients and curves over backends and degrees. */
static void print_table(void)
{
    printf("| model | method | loss | gradients | AdamW | Adafactor | SGD |\n|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < row_count; i++) {
        const struct row *row = &rows[i];
        printf("| %s | %s |", row->model, row->method->title);
        print_worst(row->loss);
        print_worst(row->gradient);
        print_worst(row->curves[OPTIMISER_ADAMW]);
        print_worst(row->curves[OPTIMISER_ADAFACTOR]);
        print_worst(row->curves[OPTIMISER_SGD]);
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method),
        cmocka_unit_test(other_optimisers),
    };
    if (argc > 2 && !strcmp(argv[1], "--backend")) only = argv[2];
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (argc > 1 && !strcmp(argv[1], "--table")) print_table();
    return failed;
}
