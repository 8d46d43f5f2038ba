/* A tiny sweep's stages, run in this process: losses fall, an interruption changes nothing, a gang of two computes what
 * one does, failures are typed. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "io/checkpoint/checkpoint.h"
#include "io/log.h"
#include "tests/workers/trained.h"
#include "workers/stage/stage_files.h"
#include "workers/train/trainer.h"

static struct fixture fixture;
static struct stage trunk; /* pretrained once, the parent of every finetuning stage here */

static struct stage_outcome run(const struct stage *stage)
{
    struct stage_outcome outcome;
    stage_run(stage, NULL, &outcome);
    return outcome;
}

static void expect(const struct stage_outcome *outcome, enum store_status status)
{
    if (outcome->status != status) fail_msg("%s: %s", store_status_name(outcome->status), outcome->message);
}

static int set_up(void **state)
{
    (void)state;
    if (fixture_create(&fixture)) return -1;
    char path[128];
    snprintf(path, sizeof path, "%s/log", fixture.dir);
    FILE *log = fopen(path, "a");
    if (!log) return -1;
    log_open(fileno(log), -1);
    trunk = stage_pretrain(&fixture, 0, 60);
    struct stage_outcome outcome = run(&trunk);
    if (outcome.status != STORE_DONE) fprintf(stderr, "pretraining: %s\n", outcome.message);
    return outcome.status == STORE_DONE ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

static struct digest state_digest(const struct stage *stage)
{
    char path[PATH_MAX];
    struct error err = {""};
    stage_state_path(stage, path);
    struct checkpoint *checkpoint = checkpoint_open(path, &err);
    if (!checkpoint) fail_msg("%s", err.text);
    struct digest digest = checkpoint_digest(checkpoint);
    checkpoint_close(checkpoint);
    return digest;
}

/* An end of the trunk's file is as good as its bytes say: the digest of all tensors, moments too. */
static void test_pretraining(void **state)
{
    (void)state;
    char path[PATH_MAX];
    const struct store_curve_entry *curve;
    struct error err = {""};
    stage_state_path(&trunk, path);
    struct checkpoint *checkpoint = checkpoint_open(path, &err);
    assert_non_null(checkpoint);
    assert_int_equal(checkpoint_header(checkpoint)->finished, 1);
    assert_int_equal(checkpoint_header(checkpoint)->step, 60);
    assert_int_equal(checkpoint_header(checkpoint)->tokens, 60 * 8 * 32);
    assert_int_equal(checkpoint_curve(checkpoint, &curve), 1);
    assert_true(curve[0].valid_loss < log(320) - 1); /* log(vocabulary) is the untrained model's */
    checkpoint_close(checkpoint);

    /* the same trunk in two stages: nothing is lost where one ends and the next begins */
    struct stage first = stage_pretrain(&fixture, 0, 25), second = stage_pretrain(&fixture, 25, 60);
    struct digest whole = state_digest(&trunk);
    forget(&second); /* has the trunk's own name: 60 steps */
    struct stage_outcome outcome = run(&first);
    expect(&outcome, STORE_DONE);
    outcome = run(&second);
    expect(&outcome, STORE_DONE);
    assert_int_equal(outcome.resumed_step, 25);
    assert_int_equal(outcome.recomputed_steps, 0);
    assert_string_equal(state_digest(&second).hex, whole.hex);
    forget(&second);
    outcome = run(&trunk);
    expect(&outcome, STORE_DONE);
    assert_string_equal(state_digest(&trunk).hex, whole.hex);
    outcome = run(&trunk); /* finished: nothing is trained again */
    expect(&outcome, STORE_DONE);
    assert_int_equal(outcome.resumed_step, 60);
    assert_true(outcome.flops == 0);
}

static void test_methods(void **state)
{
    (void)state;
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_NONE, 0);
    struct stage_outcome untuned = run(&stage);
    expect(&untuned, STORE_DONE);
    assert_int_equal(untuned.row.result.steps, 0);
    assert_true(isfinite(untuned.row.result.test_loss));
    for (int method = METHOD_FULL; method < METHODS; method++) {
        stage = stage_finetune(&fixture, &trunk, (enum method_kind)method, 100);
        struct stage_outcome outcome = run(&stage);
        expect(&outcome, STORE_DONE);
        const struct store_result *result = &outcome.row.result;
        assert_int_equal(result->status, STORE_DONE);
        assert_int_equal(result->steps, 100);
        assert_int_equal(result->evaluations, 5);
        double gain = method == METHOD_PROMPT ? 0.05 : 0.2; /* a prompt of 4 in a tiny base helps little */
        if (!(result->test_loss < untuned.row.result.test_loss - gain))
            fail_msg("%s: test loss %.3f, untuned %.3f", method_name(stage.method.kind), result->test_loss,
                     untuned.row.result.test_loss);
        if (method == METHOD_FULL) assert_true(result->test_loss < 1);
        assert_true(fabs(result->test_perplexity - exp(result->test_loss)) < 1e-12);
        assert_true(result->pretrain_loss > 0 && result->pretrain_loss < 20);
        assert_true(result->gradient_norm > 0);
        assert_int_equal(outcome.row.curve.count, 5);
        assert_true(outcome.row.curve.entries[4].step == 100);
        double best = INFINITY;
        for (size_t i = 0; i < 5; i++)
            best = fmin(best, outcome.row.curve.entries[i].valid_loss);
        assert_true(best == result->valid_loss);
        assert_true(outcome.row.execution.peak_bytes > 0);
        assert_true(outcome.flops > 0);

        double again;
        struct error err = {""};
        if (stage_reevaluate(&stage, result, &again, &err)) fail_msg("%s", err.text);
        assert_true(again == result->test_loss);

        /* not committed yet: the same row again, without a step */
        struct stage_outcome repeated = run(&stage);
        expect(&repeated, STORE_DONE);
        assert_int_equal(repeated.resumed_step, 100);
        assert_memory_equal(&repeated.row.result, result, sizeof *result);
        assert_memory_equal(&repeated.row.curve, &outcome.row.curve, sizeof outcome.row.curve);

        stage.keep_weights = false;
        stage_cleanup(&stage);
        assert_false(file_exists(&stage, ".h5"));
        assert_false(file_exists(&stage, ".step"));
        assert_int_equal(stage_reevaluate(&stage, result, &again, &err), -1);
    }
}

struct interrupter {
    uint64_t at; /* stop when progress shows this step */
    volatile int stop;
};

static void interrupt(void *context, const struct stage_progress *progress)
{
    struct interrupter *interrupter = context;
    if (progress->step >= interrupter->at) interrupter->stop = 1;
}

static void count_silence(void *context, const struct stage_progress *progress)
{
    unsigned *signs = context;
    *signs += progress->step == 0;
}

/* An agent that hears nothing for long ends the worker: one step of many micro-batches must not look like that. */
static void test_long_step(void **state)
{
    (void)state;
    unsigned signs = 0;
    struct stage_outcome outcome;
    struct stage stage = stage_pretrain(&fixture, 0, 1);
    stage.identity = digest_of("long", 4);
    stage.recipe.batch = 4096; /* 32 micro-batches */
    stage.recipe.warmup_steps = 0;
    const struct stage_hooks hooks = {.progress = count_silence, .context = &signs};
    stage_run(&stage, &hooks, &outcome);
    expect(&outcome, STORE_DONE);
    assert_true(signs > 1 || outcome.seconds < 0.4); /* the first comes before the step, then one each 0.2 s */
}

/* Interrupt a stage again and again; its row and its best weights are those of an uninterrupted run. */
static void interrupted_is_same(struct stage stage, uint64_t seed)
{
    forget(&stage);
    struct stage_outcome whole = run(&stage), outcome;
    expect(&whole, STORE_DONE);
    forget(&stage);
    uint64_t trained = 0, cuts = 0;
    for (uint64_t attempt = 0;; attempt++) {
        struct interrupter interrupter = {.at = 0};
        const struct stage_hooks hooks = {.progress = interrupt, .context = &interrupter, .stop = &interrupter.stop};
        struct random_key key = {.seed = seed, .stream = random_stream("interrupt")};
        interrupter.at = trained + random_below(key, attempt, 4);
        stage_run(&stage, attempt < 12 ? &hooks : NULL, &outcome);
        assert_int_equal(outcome.resumed_step, trained);
        assert_int_equal(outcome.recomputed_steps, 0);
        trained = outcome.end_step;
        if (outcome.status != STORE_CUT) break;
        cuts++;
    }
    expect(&outcome, STORE_DONE);
    assert_true(cuts > 0);
    assert_memory_equal(&outcome.row.result, &whole.row.result, sizeof whole.row.result);
    assert_memory_equal(&outcome.row.curve, &whole.row.curve, sizeof whole.row.curve);
    forget(&stage);
}

static void test_interruption(void **state)
{
    (void)state;
    for (int method = METHOD_FULL; method < METHODS; method++) {
        struct stage stage = stage_finetune(&fixture, &trunk, (enum method_kind)method, 30);
        stage.checkpoint_steps = 3; /* progress is seen at checkpoints at the latest */
        interrupted_is_same(stage, (uint64_t)method);
    }
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 30);
    stage.recipe.evaluations = 15;
    stage.recipe.patience = 2;
    stage.recipe.learning_rate = 0.1; /* too high: some validations are without gain */
    stage.checkpoint_steps = 1;
    interrupted_is_same(stage, 9);
}

/* Activations that are computed again change nothing: the row of a stage is the same bytes, also where it was begun
 * without and is finished with them. */
static void test_recompute(void **state)
{
    (void)state;
    for (int method = METHOD_FULL; method < METHODS; method++) {
        struct stage stage = stage_finetune(&fixture, &trunk, (enum method_kind)method, 12);
        struct stage_outcome kept = run(&stage), again;
        expect(&kept, STORE_DONE);
        forget(&stage);
        struct interrupter interrupter = {.at = 5};
        const struct stage_hooks hooks = {.progress = interrupt, .context = &interrupter, .stop = &interrupter.stop};
        stage.checkpoint_steps = 1;
        stage_run(&stage, &hooks, &again);
        expect(&again, STORE_CUT);
        stage.recompute = true;
        again = run(&stage);
        expect(&again, STORE_DONE);
        assert_true(again.resumed_step > 0);
        assert_memory_equal(&again.row.result, &kept.row.result, sizeof kept.row.result);
        assert_memory_equal(&again.row.curve, &kept.row.curve, sizeof kept.row.curve);
        forget(&stage);
    }
}

/* Dropout trains, and its masks are drawn by the step, not by the attempt; a gang has those of one device. */
static void test_dropout(void **state)
{
    (void)state;
    for (int method = METHOD_FULL; method <= METHOD_LORA; method++) {
        struct stage stage = stage_finetune(&fixture, &trunk, (enum method_kind)method, 30);
        struct stage_outcome plain = run(&stage);
        forget(&stage);
        stage.recipe.dropout = 0.1;
        if (method == METHOD_LORA) stage.method.dropout = 0.2;
        struct stage_outcome one = run(&stage);
        expect(&one, STORE_DONE);
        assert_true(one.row.result.train_loss > plain.row.result.train_loss);
        assert_true(one.row.result.test_loss < plain.row.result.test_loss + 0.5);
        stage.checkpoint_steps = 3;
        interrupted_is_same(stage, 40);
        stage.degree = 2;
        struct stage_outcome two = run(&stage);
        expect(&two, STORE_DONE);
        assert_true(fabs(two.row.result.test_loss - one.row.result.test_loss) < 5e-3);
        interrupted_is_same(stage, 41);
    }
}

/* What the other optimisers keep is all in the states, also where it is cut over a gang; they train. */
static void test_optimisers(void **state)
{
    (void)state;
    const struct recipe chosen[] = {{.optimiser = OPTIMISER_ADAFACTOR, .learning_rate = 3e-2, .parameter_scale = true},
                                    {.optimiser = OPTIMISER_SGD, .learning_rate = 3e-2, .momentum = 0.9}};
    struct stage untuned = stage_finetune(&fixture, &trunk, METHOD_NONE, 0);
    struct stage_outcome before = run(&untuned);
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++) {
        struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 30);
        stage.recipe.optimiser = chosen[i].optimiser;
        stage.recipe.learning_rate = chosen[i].learning_rate;
        stage.recipe.parameter_scale = chosen[i].parameter_scale;
        stage.recipe.momentum = chosen[i].momentum;
        struct stage_outcome one = run(&stage);
        expect(&one, STORE_DONE);
        assert_true(one.row.result.test_loss < before.row.result.test_loss - 0.05);
        stage.checkpoint_steps = 3;
        interrupted_is_same(stage, 20 + i);
        stage.degree = 2;
        interrupted_is_same(stage, 30 + i);
        struct stage_outcome two = run(&stage);
        expect(&two, STORE_DONE);
        assert_true(fabs(two.row.result.test_loss - one.row.result.test_loss) < 5e-3);
    }
}

/* A state that lags behind the steps that were trained: they are counted as recomputed, best weights that it does not
 * name are dropped. */
static void test_lost_steps(void **state)
{
    (void)state;
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 30);
    struct stage_outcome whole = run(&stage);
    char best[64];
    forget(&stage);
    stage_trained_write(&stage,
                        &(struct stage_trained){
                            17, 17}); /* an attempt that was killed before its first state, after its best at step 12 */
    char path[PATH_MAX], unfinished[PATH_MAX + 8];
    stage_best_path(&stage, 12, path);
    fclose(fopen(path, "w"));
    stage_state_path(&stage, path);
    snprintf(unfinished, sizeof unfinished, "%s.tmp", path);
    fclose(fopen(unfinished, "w"));
    struct stage_outcome outcome = run(&stage);
    expect(&outcome, STORE_DONE);
    assert_int_equal(outcome.recomputed_steps, 17);
    assert_int_equal(outcome.executed_steps, 17 + outcome.end_step);
    assert_int_equal(outcome.repeated_steps, 17);
    assert_memory_equal(&outcome.row.result, &whole.row.result, sizeof whole.row.result);
    assert_int_not_equal(access(unfinished, F_OK), 0);
    int files = 0;
    for (int step = 1; step <= 30; step++) {
        snprintf(best, sizeof best, ".best-%d.h5", step);
        files += file_exists(&stage, best);
    }
    assert_int_equal(files, 1);

    /* a damaged state is left aside */
    FILE *file = fopen(path, "r+");
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    assert_int_equal(ftruncate(fileno(file), size / 2), 0);
    fclose(file);
    outcome = run(&stage);
    expect(&outcome, STORE_DONE);
    assert_int_equal(outcome.resumed_step, 0);
    assert_memory_equal(&outcome.row.result, &whole.row.result, sizeof whole.row.result);

    /* so is a whole one whose best weights are gone */
    snprintf(best, sizeof best, "%d", (int)outcome.row.result.best_step);
    stage_best_path(&stage, outcome.row.result.best_step, path);
    assert_int_equal(unlink(path), 0);
    outcome = run(&stage);
    expect(&outcome, STORE_DONE);
    assert_int_equal(outcome.resumed_step, 0);
    assert_memory_equal(&outcome.row.result, &whole.row.result, sizeof whole.row.result);
    forget(&stage);
}

static void test_gang(void **state)
{
    (void)state;
    for (int method = METHOD_FULL; method < METHODS; method++) {
        struct stage stage = stage_finetune(&fixture, &trunk, (enum method_kind)method, 20);
        struct stage_outcome one = run(&stage);
        expect(&one, STORE_DONE);
        forget(&stage);
        stage.degree = 2;
        stage.checkpoint_steps = 7;
        struct stage_outcome two = run(&stage);
        expect(&two, STORE_DONE);
        assert_true(fabs(two.row.result.test_loss - one.row.result.test_loss) < 2e-3);
        assert_true(fabs(two.row.curve.entries[0].train_loss - one.row.curve.entries[0].train_loss) < 1e-4);
        assert_true(strstr(two.row.execution.execution_class, ":tp2:") != NULL);
        stage.checkpoint_steps = 3;
        interrupted_is_same(stage, 5);
    }
}

/* A state of one execution class is not continued in another: the bits would be of neither. */
static void test_class(void **state)
{
    (void)state;
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_LORA, 20);
    struct stage_outcome whole = run(&stage);
    forget(&stage);
    struct interrupter interrupter = {.at = 5};
    const struct stage_hooks hooks = {.progress = interrupt, .context = &interrupter, .stop = &interrupter.stop};
    stage.checkpoint_steps = 1;
    stage.degree = 2;
    struct stage_outcome outcome;
    stage_run(&stage, &hooks, &outcome);
    expect(&outcome, STORE_CUT);
    stage.degree = 1;
    outcome = run(&stage);
    expect(&outcome, STORE_DONE);
    assert_int_equal(outcome.resumed_step, 0);
    assert_memory_equal(&outcome.row.result, &whole.row.result, sizeof whole.row.result);
    forget(&stage);
}

static void test_diverged(void **state)
{
    (void)state;
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 20);
    stage.recipe.learning_rate = 1e30;
    stage.recipe.clip_norm = 0;
    struct stage_outcome outcome = run(&stage), again;
    expect(&outcome, STORE_DIVERGED);
    assert_int_equal(outcome.row.result.status, STORE_DIVERGED);
    assert_true(outcome.row.result.test_loss == INFINITY);
    assert_true(outcome.row.result.steps < 20);
    again = run(&stage);
    assert_memory_equal(&again.row.result, &outcome.row.result, sizeof again.row.result);
    assert_memory_equal(&again.row.curve, &outcome.row.curve, sizeof again.row.curve);
    forget(&stage);
}

struct takeover {
    uint64_t at;
    char names[32][64]; /* what lay in checkpoints/ then */
    size_t count;
};

/* DIR/results.h5 as far as a worker looks at it. */
static void put_store(const char *text)
{
    char path[PATH_MAX], page[1 << 14] = "";
    snprintf(path, sizeof path, "%s/results.h5", fixture.dir);
    snprintf(page, sizeof page, "%s", text);
    FILE *file = fopen(path, "w");
    assert_int_equal(fwrite(page, 1, sizeof page, file), sizeof page);
    fclose(file);
}

static void list_checkpoints(struct takeover *takeover)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/checkpoints", fixture.dir);
    DIR *folder = opendir(path);
    takeover->count = 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        snprintf(takeover->names[takeover->count++], sizeof takeover->names[0], "%.63s", entry->d_name);
    closedir(folder);
    qsort(takeover->names, takeover->count, sizeof takeover->names[0], (int (*)(const void *, const void *))strcmp);
}

static void take_over(void *context, const struct stage_progress *progress)
{
    struct takeover *takeover = context;
    if (takeover->count || progress->step < takeover->at) return;
    put_store("the heir's");
    list_checkpoints(takeover);
}

/* A worker that was stopped for long, with its directory gone to another run, neither removes nor replaces anything. */
static void test_takeover(void **state)
{
    (void)state;
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 60);
    struct stage_outcome outcome;
    struct takeover takeover = {.at = 9}, after = {0};
    const struct stage_hooks hooks = {.progress = take_over, .context = &takeover};
    forget(&stage);
    stage.recipe.evaluations = 20;
    stage.checkpoint_steps = 3;
    put_store("ours");
    stage.generation = store_stamp(fixture.dir);
    assert_int_not_equal(stage.generation, 0);
    stage_run(&stage, &hooks, &outcome);
    expect(&outcome, STORE_CRASHED);
    assert_non_null(strstr(outcome.message, "another run has taken this directory over"));
    assert_true(takeover.count > 0);
    list_checkpoints(&after);
    assert_int_equal(after.count, takeover.count);
    assert_memory_equal(after.names, takeover.names, after.count * sizeof after.names[0]);
    /* nor does one that begins too late; the heir's own goes on */
    stage_run(&stage, NULL, &outcome);
    expect(&outcome, STORE_CRASHED);
    stage.generation = store_stamp(fixture.dir);
    outcome = run(&stage);
    expect(&outcome, STORE_DONE);
    assert_true(outcome.resumed_step >= 9);
    forget(&stage);
}

static void test_failures(void **state)
{
    (void)state;
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 20);
    stage.dataset_digest = digest_of("other", 5);
    struct stage_outcome outcome = run(&stage);
    expect(&outcome, STORE_CRASHED);
    assert_non_null(strstr(outcome.message, "the data has changed"));
    assert_true(outcome.data_unusable);

    stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 20);
    stage.parent = digest_of("nothing", 7);
    outcome = run(&stage);
    expect(&outcome, STORE_CRASHED);

    stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 20);
    stage.examples = 100000;
    stage.degree = 2; /* both ranks fail: no deadlock */
    outcome = run(&stage);
    expect(&outcome, STORE_CRASHED);
    assert_non_null(strstr(outcome.message, "300"));

    stage = stage_pretrain(&fixture, 0, 7);
    stage.model.width = stage.model.ffn = 1 << 18; /* about 10^15 bytes */
    stage.model.heads = stage.model.kv_heads = 1 << 10;
    stage.model.head_width = 1 << 8;
    stage.model.layers = 1000;
    outcome = run(&stage);
    expect(&outcome, STORE_OUT_OF_MEMORY);

    stage = stage_finetune(&fixture, &trunk, METHOD_LORA, 20);
    stage.method.size = 1000;
    outcome = run(&stage);
    expect(&outcome, STORE_CRASHED);
}

static bool broken; /* the device, from here on */

static void no_numbers(struct device *device, size_t count, const struct span *spans, bool squares, double *out)
{
    if (!squares) { /* of the losses */
        kernels_find("cpu", NULL)->sums(device, count, spans, false, out);
        return;
    }
    broken = true;
    for (size_t i = 0; i < count; i++)
        out[i] = NAN;
}

static int tell(struct device *device, struct error *err)
{
    (void)device;
    return broken ? error_set(err, "it is broken") : 0;
}

/* A device that fails between the gradients and their norm: an error, which is tried again, and no divergence, which
 * would stay in the store. */
static void test_failing_device(void **state)
{
    (void)state;
    struct error err = {""};
    struct kernels kernels = *kernels_find("cpu", &err);
    const struct stage stage = stage_finetune(&fixture, &trunk, METHOD_FULL, 5);
    const struct collective one = {NULL, 0, 1};
    const struct batch_capacity capacity = batch_capacity_of(&stage.recipe, &stage.model, &stage.method);
    struct batch_buffer buffer;
    struct trainer_step step;
    kernels.sums = no_numbers;
    kernels.synchronise = tell;
    struct dataset *dataset = dataset_open(fixture.dataset, &err);
    const struct feed_spec spec = {
        .dataset = dataset, .split = SPLIT_TRAIN, .length = stage.recipe.sequence_length, .shuffle = true};
    struct feed *feed = feed_create(&spec, &err);
    struct device *device = kernels.device_create(0, 1, &err);
    struct parameters *parameters =
        parameters_create_one_pass(&stage.model, &stage.method, &stage.recipe, &one, &kernels, device, &err);
    if (!feed || !parameters || batch_buffer_create(&buffer, &capacity, &err)) fail_msg("%s", err.text);
    parameters_initialise_base(parameters, &stage.model, 1);
    struct model *model = model_create(&stage.model, &stage.method, parameters, &capacity, true, &err);
    struct trainer trainer = {
        .recipe = &stage.recipe, .parameters = parameters, .model = model, .feed = feed, .buffer = &buffer};
    assert_int_equal(trainer_step(&trainer, 1, &step, &err), -1);
    assert_string_equal(err.text, "it is broken");
    model_destroy(model);
    batch_buffer_destroy(&buffer);
    parameters_destroy(parameters);
    kernels.device_destroy(device);
    feed_destroy(feed);
    dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pretraining), cmocka_unit_test(test_methods),        cmocka_unit_test(test_interruption),
        cmocka_unit_test(test_lost_steps),  cmocka_unit_test(test_gang),           cmocka_unit_test(test_class),
        cmocka_unit_test(test_diverged),    cmocka_unit_test(test_failures),       cmocka_unit_test(test_long_step),
        cmocka_unit_test(test_takeover),    cmocka_unit_test(test_optimisers),     cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_dropout),     cmocka_unit_test(test_failing_device),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
