/* Several tasks in one sweep: each has its data, its methods' own sizes and rates and its part of the grid; models and
 * their pretraining are shared; a point is the same as in a sweep of its task alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/plan/plan.h"
#include "orchestrator/sweep/grid.h"
#include "tests/orchestrator/plan_fixture.h"

static const struct sweep_text two = {
    .head = "name = \"test\";",
    .data = "data = ( { name = \"a\"; dataset = \"small.h5\"; valid_examples = 10; },\n"
            "         { name = \"b\"; dataset = \"other.h5\"; } );",
    .models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; kv_heads = 1; ffn = 16; },\n"
              "           { name = \"m\"; layers = 2; width = 16; heads = 2; ffn = 32; } );",
    .pretrain = "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; };",
    .finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                "seeds = [ 1, 2 ]; };",
    .methods = "methods = ( { name = \"none\"; },\n"
               "  { name = \"full\"; tasks = \"a\"; learning_rates = [ 1e-3 ]; examples = [ 16, 100 ]; },\n"
               "  { name = \"full\"; tasks = \"b\"; learning_rates = [ 1e-3, 2e-3 ]; max_steps = 12; },\n"
               "  { name = \"lora\"; ranks = [ 2, 4 ]; learning_rates = [ 1e-2 ]; } );",
    .tail = "resources = { backend = \"reference\"; };"};

/* The same as task "a" alone. */
static const struct sweep_text alone = {
    .head = "name = \"test\";",
    .data = "data = { name = \"a\"; dataset = \"small.h5\"; valid_examples = 10; };",
    .models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; kv_heads = 1; ffn = 16; },\n"
              "           { name = \"m\"; layers = 2; width = 16; heads = 2; ffn = 32; } );",
    .pretrain = "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; };",
    .finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                "seeds = [ 1, 2 ]; };",
    .methods = "methods = ( { name = \"none\"; },\n"
               "  { name = \"full\"; learning_rates = [ 1e-3 ]; examples = [ 16, 100 ]; },\n"
               "  { name = \"lora\"; ranks = [ 2, 4 ]; learning_rates = [ 1e-2 ]; } );",
    .tail = "resources = { backend = \"reference\"; };"};

/* Points of a task and method; "": of any. */
static size_t points_of(const struct plan *plan, const char *task, const char *method)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->point_count; i++)
        count += (!task[0] || !strncmp(plan->points[i].task, task, STORE_NAME)) &&
                 (!method[0] || !strncmp(plan->points[i].method, method, STORE_NAME));
    return count;
}

static void each_task_has_its_part_of_the_grid(void **state)
{
    (void)state;
    struct sweep *sweep = sweep_make(&two);
    struct plan *plan = plan_make(sweep);
    size_t bases = 2 * 3;
    assert_int_equal(points_of(plan, "a", "none"), bases);
    assert_int_equal(points_of(plan, "b", "none"), bases);
    assert_int_equal(points_of(plan, "a", "full"), bases * 2 * 2); /* sizes, seeds */
    assert_int_equal(points_of(plan, "b", "full"), bases * 2 * 2 * 2);
    assert_int_equal(points_of(plan, "a", "lora"), bases * 2 * 2 * 2);
    assert_int_equal(points_of(plan, "b", "lora"), bases * 2 * 2 * 2);
    assert_int_equal(plan->point_count, grid_size(sweep));
    assert_int_equal(plan->stage_count, plan->point_count + bases); /* tasks share the trunks */
    for (size_t i = 0; i < plan->stage_count; i++) {
        static struct stage stage;
        const struct sweep_task *task = &sweep->tasks[plan->stages[i].task];
        plan_stage_describe(plan, i, "/run", 1, &stage);
        assert_string_equal(stage.dataset, task->dataset);
        assert_string_equal(stage.dataset_digest.hex, task->data.digest.hex);
        if (stage.kind == STAGE_FINETUNE) assert_int_equal(stage.valid_examples, task->valid_examples);
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void a_point_is_the_same_as_in_a_sweep_of_its_task(void **state)
{
    (void)state;
    struct sweep *both = sweep_make(&two), *one = sweep_make(&alone);
    struct plan *large = plan_make(both), *small = plan_make(one);
    assert_int_equal(points_of(large, "a", ""), small->point_count);
    for (size_t i = 0; i < small->point_count; i++) /* tasks come one after another */
        assert_memory_equal(&large->points[i], &small->points[i], sizeof(struct store_point));
    for (size_t i = small->point_count; i < large->point_count; i++)
        assert_int_not_equal(strncmp(large->points[i].task, "a", STORE_NAME), 0);
    plan_destroy(large);
    plan_destroy(small);
    sweep_destroy(both);
    sweep_destroy(one);
}

static void models_are_pretrained_on_the_text_of_a_task(void **state)
{
    (void)state;
    struct sweep_text t = two;
    t.models =
        "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; ffn = 16; pretrain_tokens = [ 640, 2000 ]; },\n"
        "  { name = \"t\"; tasks = \"b\"; text = \"b\"; layers = 1; width = 8; heads = 2; ffn = 16; } );";
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    assert_int_equal(sweep->pretrain_token_count, 4); /* 640, 1000, 2000, 4000 */
    assert_int_equal(points_of(plan, "a", "none"), 2);
    assert_int_equal(points_of(plan, "b", "none"), 2 + 3);
    assert_int_equal(plan->stage_count - plan->point_count, 2 + 3);
    for (size_t i = 0; i < plan->stage_count; i++) {
        static struct stage stage;
        if (plan->stages[i].kind != STAGE_PRETRAIN) continue;
        bool first = plan->stages[i].model == 0;
        plan_stage_describe(plan, i, "/run", 1, &stage);
        assert_string_equal(stage.dataset, temporary_path(first ? "small.h5" : "other.h5"));
        assert_int_equal(stage.recipe.decay_steps, first ? 32 : 63); /* each to the end of its own */
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void tasks_are_conditions_and_an_axis(void **state)
{
    (void)state;
    struct sweep_text t = two;
    t.tail = "exclude = ( { task = \"a\"; method = \"lora\"; } );\n"
             "held_out = ( { task = \"b\"; model = \"m\"; method = \"full\"; } );";
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    size_t held_out = 0;
    assert_int_equal(points_of(plan, "a", "lora"), 0);
    assert_int_equal(points_of(plan, "b", "lora"), 6 * 8);
    for (size_t i = 0; i < plan->point_count; i++)
        held_out += plan->points[i].held_out;
    assert_int_equal(held_out, 3 * 8);
    plan_destroy(plan);
    sweep_destroy(sweep);
    t.tail = "zip = ( { axes = [ \"task\", \"model\" ]; } );";
    sweep = sweep_make(&t);
    plan = plan_make(sweep);
    for (size_t i = 0; i < plan->point_count; i++)
        assert_int_equal(!strncmp(plan->points[i].task, "a", STORE_NAME),
                         !strncmp(plan->points[i].model, "s", STORE_NAME));
    assert_int_equal(plan->point_count, 3 * (1 + 4 + 8) + 3 * (1 + 8 + 8));
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void each_task_has_its_centre(void **state)
{
    (void)state;
    struct sweep_text t = two;
    t.tail = "one_at_a_time = ( { tasks = \"a\"; model = \"s\"; pretrain_tokens = 4000; lora = 2; },\n"
             "                  { tasks = \"b\"; model = \"m\"; pretrain_tokens = 1000; lora = 4; } );";
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    /* (s, 4000), m at 4000, s at 1000 and 2000; rank 4 at the centre */
    assert_int_equal(points_of(plan, "a", "none"), 4);
    assert_int_equal(points_of(plan, "a", "lora"), 5 * 4);
    assert_int_equal(points_of(plan, "b", "lora"), 5 * 4);
    for (size_t i = 0; i < plan->point_count; i++) {
        const struct store_point *point = &plan->points[i];
        bool a = !strncmp(point->task, "a", STORE_NAME);
        if (point->pet_size == (a ? 4 : 2)) {
            assert_int_equal(point->pretrain_tokens, a ? 4032 : 1024);
            assert_string_equal(point->model, a ? "s" : "m");
        }
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
    t.tail = "one_at_a_time = { model = \"m\"; pretrain_tokens = 4000; lora = 2; };"; /* of both */
    sweep = sweep_make(&t);
    plan = plan_make(sweep);
    assert_int_equal(points_of(plan, "a", "none"), 4);
    assert_int_equal(points_of(plan, "b", "none"), 4);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void lengths_differ_by_task(void **state)
{
    (void)state;
    struct sweep_text t = two;
    t.methods =
        "methods = ( { name = \"none\"; tasks = \"a\"; }, { name = \"none\"; tasks = \"b\"; sequence_length = 8; },\n"
        "  { name = \"lora\"; tasks = \"a\"; ranks = 2; learning_rates = 1e-2; },\n"
        "  { name = \"lora\"; tasks = \"b\"; ranks = 2; learning_rates = 1e-2; sequence_length = 16; } );";
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    for (size_t i = 0; i < plan->stage_count; i++) {
        static struct stage stage;
        if (plan->stages[i].kind != STAGE_FINETUNE) continue;
        plan_stage_describe(plan, i, "/run", 1, &stage);
        bool none = stage.method.kind == METHOD_NONE;
        assert_int_equal(stage.recipe.sequence_length, plan->stages[i].task == 0 ? 32 : none ? 8 : 16);
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void mistakes_in_tasks(void **state)
{
    (void)state;
    struct sweep_text t = two;
    t.data = "data = ( { dataset = \"small.h5\"; } );";
    sweep_refused(&t, ":2: data[0]: key \"name\" is missing");
    t.data = "data = ( { name = \"a\"; dataset = \"small.h5\"; },\n{ name = \"a\"; dataset = \"other.h5\"; } );";
    sweep_refused(&t, ":3: data[1].name: \"a\" is the name of data[0], too");
    t.data = "data = ();";
    sweep_refused(&t, ":2: data: an empty list; allowed: at least one group ( { ... } )");
    t = two;
    t.data = "data = ( { name = \"a\"; dataset = \"small.h5\"; },\n{ name = \"b\"; dataset = \"third.h5\"; } );";
    sweep_refused(&t, ":4: models[0].tasks: the data sets of \"a\" (vocabulary 400) and \"b\" (vocabulary 390) have "
                      "different tokenizers; allowed: data sets of one tokenizer (`tunelaw data --tokenizer`), or "
                      "another model");
    t = two;
    t.methods = "methods = ( { name = \"full\"; learning_rates = 1e-3; },\n"
                "{ name = \"full\"; tasks = [ \"b\" ]; learning_rates = 2e-3; } );";
    sweep_refused(&t,
                  ":9: methods[1].name: \"full\" is methods[0], too, for task b; sizes and learning rates are lists "
                  "of one entry");
    t.methods = "methods = ( { name = \"full\"; tasks = \"c\"; learning_rates = 1e-3; } );";
    sweep_refused(&t, ":8: methods[0].tasks: \"c\" is not in the sweep; allowed: a, b");
    t.methods = "methods = ( { name = \"full\"; tasks = \"b\"; learning_rates = 1e-3; } );";
    sweep_refused(&t, ":8: methods: none of them has task \"a\"");
    t.methods = "methods = ( { name = \"full\"; learning_rates = 1e-3; examples = [ 16,\n 90 ]; } );";
    sweep_refused(&t, ":9: methods[0].examples[1]: 90 examples, more than the data set of task b has; allowed: 1..80");
    t = two;
    t.finetune = "finetune = { examples = [ 20, 90 ]; sequence_length = 32; batch = 4; epochs = 2.0; };";
    t.methods = "methods = ( { name = \"full\"; learning_rates = 1e-3; } );";
    sweep_refused(&t, ":8: methods[0]: 90 examples (finetune.examples), more than the data set of task b has; allowed: "
                      "1..80, or examples of this method's own");
    t = two;
    t.models = "models = ( { name = \"s\"; tasks = \"a\"; layers = 1; width = 8; heads = 2; ffn = 16; } );";
    sweep_refused(&t, ":4: models: none of them has task \"b\"");
    t.models = "models = ( { name = \"s\"; text = \"c\"; layers = 1; width = 8; heads = 2; ffn = 16; } );";
    sweep_refused(&t, ":4: models[0].text: \"c\" is unknown; allowed: a, b");
    t.models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; ffn = 16; pretrain_tokens = [ 630, 640, "
               "1000 ]; } );";
    sweep_refused(&t, ":4: models[0]: pretrain_tokens: 630 and 640 tokens end at the same step: a step has 64 tokens "
                      "(batch * sequence_length)");
    t = two;
    t.tail = "one_at_a_time = ( { model = \"s\"; pretrain_tokens = 4000; lora = 2; },\n"
             "{ tasks = \"b\"; model = \"m\"; pretrain_tokens = 1000; lora = 4; } );";
    sweep_refused(&t, ":13: one_at_a_time[1].tasks: task \"b\" has a centre already");
    t.tail = "exclude = ( { task = \"c\"; } );";
    sweep_refused(&t, ":12: exclude[0].task: \"c\" is not in the sweep; allowed: a, b");
}

static const char declared[] =
    "data = { name = \"a\"; dataset = \"%s\"; examples = 1000; mean_tokens = 30.0;\n"
    "  mean_target_tokens = 12.0; vocabulary = 400; text_tokens = 100000; valid_examples = 15;\n"
    "  test_examples = 15; };";

/* A sweep is planned without its data where the file says what they are; where they are there, they are read. */
static void data_may_be_declared(void **state)
{
    (void)state;
    char data[512];
    struct error err = {""};
    struct sweep_text t = alone;
    snprintf(data, sizeof data, declared, "absent.h5");
    t.data = data;
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    assert_int_equal(sweep_check_complete(sweep, &err), -1);
    assert_non_null(strstr(err.text, "a.cfg:2: data.dataset: "));
    assert_non_null(
        strstr(err.text, "absent.h5: the data set is declared and not there: the sweep can be planned, not run"));
    assert_int_equal(sweep->tasks[0].data.example_tokens[SPLIT_TRAIN], 30000);
    assert_int_equal(sweep->models[0].vocabulary, 400);
    assert_true(plan->flops > 0);
    plan_destroy(plan);
    sweep_destroy(sweep);

    snprintf(data, sizeof data, declared, "small.h5");
    sweep = sweep_make(&t);
    assert_int_equal(sweep_check_complete(sweep, &err), 0);
    assert_int_equal(sweep->tasks[0].data.examples[SPLIT_TRAIN], TRAIN_PAIRS);
    sweep_destroy(sweep);

    t.data = "data = { examples = 1000; mean_tokens = 30.0; mean_target_tokens = 12.0; vocabulary = 400;\n"
             "  valid_examples = 15; test_examples = 15; };";
    sweep_refused(&t, ":2: data: key \"name\" is missing");
    t.data =
        "data = { name = \"a\"; examples = 1000; mean_tokens = 30.0; mean_target_tokens = 30.0;\n vocabulary = 400; "
        "valid_examples = 15; test_examples = 15; };";
    sweep_refused(&t, ":2: data.mean_target_tokens: 30, not below the 30 of mean_tokens: they are a part of these");
    t.data =
        "data = { name = \"a\"; examples = 1000; mean_tokens = 30.0; mean_target_tokens = 12.0; vocabulary = 400; };";
    sweep_refused(&t, ":2: data: key \"valid_examples\" is missing");
    t.data =
        "data = { name = \"a\"; examples = 1000; mean_tokens = 30.0; mean_target_tokens = 12.0; vocabulary = 400;\n"
        "  valid_examples = 15; test_examples = 15; };"; /* no text to pretrain on */
    sweep_refused(&t,
                  ":6: pretrain.sequence_length: 16, but the pretraining text of the data set has 0 tokens; allowed: "
                  "fewer than that");
}

static void digests_are_kept_by_task(void **state)
{
    (void)state;
    struct sweep *both = sweep_make(&two), *one = sweep_make(&alone);
    char text[SWEEP_DIGESTS];
    sweep_digests(both, text);
    assert_int_equal(strlen(text), 2 * (2 + DIGEST_HEX) + 2);
    for (size_t i = 0; i < 2; i++) {
        struct digest back = sweep_digest_of(text, "", both->tasks[i].name);
        assert_string_equal(back.hex, both->tasks[i].data.digest.hex);
    }
    assert_string_equal(sweep_digest_of(text, "c", "c").hex, "");
    sweep_digests(one, text);
    assert_string_equal(text, one->tasks[0].data.digest.hex);
    assert_string_equal(sweep_digest_of(text, "a", "a").hex, text);
    assert_string_equal(sweep_digest_of(text, "a", "b").hex, "");
    sweep_destroy(both);
    sweep_destroy(one);
}

static void build(const char *name, struct dataset_sources sources)
{
    struct error err;
    write_pairs("train.tsv", 1000, 80);
    if (dataset_build(temporary_path(name), &sources, NULL, &err)) fail_msg("%s", err.text);
}

/* small.h5; other.h5 with its tokenizer and 80 examples; third.h5 with another. */
static int setup(void **state)
{
    if (sweep_setup(state)) return -1;
    struct error err;
    size_t size;
    struct dataset_sources sources = small_sources();
    struct dataset *small = dataset_open(temporary_path("small.h5"), &err);
    if (!small) fail_msg("%s", err.text);
    const void *bytes = dataset_tokenizer(small, &size);
    sources.tokenizer = temporary_write("tokenizer.model", bytes, size);
    dataset_close(small);
    build("other.h5", sources);
    sources.tokenizer = NULL;
    sources.vocabulary = 390;
    build("third.h5", sources);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_task_has_its_part_of_the_grid),
        cmocka_unit_test(a_point_is_the_same_as_in_a_sweep_of_its_task),
        cmocka_unit_test(models_are_pretrained_on_the_text_of_a_task),
        cmocka_unit_test(tasks_are_conditions_and_an_axis),
        cmocka_unit_test(each_task_has_its_centre),
        cmocka_unit_test(lengths_differ_by_task),
        cmocka_unit_test(mistakes_in_tasks),
        cmocka_unit_test(data_may_be_declared),
        cmocka_unit_test(digests_are_kept_by_task),
    };
    return cmocka_run_group_tests(tests, setup, temporary_remove);
}
