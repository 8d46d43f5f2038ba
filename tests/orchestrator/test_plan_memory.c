/* Memory in the plan: how many devices a stage takes, and when it computes its activations again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "orchestrator/plan/simulate.h"
#include "tests/orchestrator/plan_fixture.h"
#include "workers/model/model.h"
#include "workers/train/batch.h"

static uint64_t bytes_at(const struct sweep *sweep, const struct plan_stage *stage, uint32_t degree)
{
    struct error err;
    struct memory memory;
    bool pretrain = stage->kind == STAGE_PRETRAIN;
    const struct sweep_method *m = &sweep->methods[stage->method];
    struct method_config method = pretrain ? (struct method_config){.kind = METHOD_FULL} : m->config;
    const struct recipe *recipe = pretrain ? &sweep->pretrain : &m->recipe;
    if (!pretrain) method.size = m->sizes[stage->size];
    struct batch_capacity capacity = batch_capacity_of(recipe, &sweep->models[stage->model], &method);
    assert_int_equal(model_memory(&sweep->models[stage->model], &method, &capacity,
                                  method.kind == METHOD_NONE ? NULL : recipe, kernels_storage("cpu", PRECISION_FP32),
                                  (int)degree, &memory, &err),
                     0);
    return memory_total(&memory);
}

/* The paper's five models on devices of one size: each stage has the fewest that hold it, more for larger models and
 * for methods that train more, the 20 heads of the largest over 8. */
static void devices_grow_with_the_model(void **state)
{
    (void)state;
    struct error err = {""};
    struct sweep_text t = sweep_right;
    t.models = "models = ( { preset = \"paper-1b\"; }, { preset = \"paper-2b\"; }, { preset = \"paper-4b\"; },\n"
               "           { preset = \"paper-8b\"; }, { preset = \"paper-16b\"; } );";
    t.tail = "resources = { tensor_parallel = 0; recompute = \"never\"; };";
    struct sweep *sweep = sweep_make(&t);
    struct plan_stage largest = {.kind = STAGE_PRETRAIN, .model = 4};
    assert_int_equal(sweep->models[4].heads, 20);
    sweep->resources.device_bytes = bytes_at(sweep, &largest, 8);
    struct plan *plan = plan_make(sweep);
    uint32_t degrees[5][1 + METHODS] = {{0}};
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        uint32_t *degree =
            &degrees[stage->model][stage->kind == STAGE_PRETRAIN ? 0 : 1 + sweep->methods[stage->method].config.kind];
        assert_int_equal(stage->bytes, bytes_at(sweep, stage, stage->degree));
        assert_true(stage->bytes <= sweep->resources.device_bytes);
        if (stage->degree > 1) assert_true(bytes_at(sweep, stage, stage->degree - 1) > sweep->resources.device_bytes);
        *degree = stage->degree > *degree ? stage->degree : *degree;
    }
    for (int model = 0; model < 5; model++)
        for (int method = 0; method <= METHODS; method++) {
            if (model) assert_true(degrees[model][method] >= degrees[model - 1][method]);
            assert_true(degrees[model][method] <= degrees[model][1 + METHOD_FULL]);
        }
    assert_int_equal(degrees[0][1 + METHOD_FULL], 1);
    assert_int_equal(degrees[4][0], 8);
    assert_int_equal(degrees[4][1 + METHOD_FULL], 8);
    assert_in_range(degrees[4][1 + METHOD_LORA], 2, 3); /* weights of 4 bytes instead of 16, and activations */
    struct simulate_options options = {.nodes = 2, .devices = 8};
    struct simulate_result result;
    assert_int_equal(simulate(plan, &options, &result, &err), 0);
    options.devices = 7;
    assert_int_equal(simulate(plan, &options, &result, &err), -1);
    assert_string_equal(err.text, "a stage of model \"paper-16b\" needs 8 devices on one node, a node has 7");
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void memory_decides_the_devices(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    struct error err = {""};
    t.tail = "resources = { tensor_parallel = 0; recompute = \"never\"; };";
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    uint64_t largest = plan_forecast(plan, 1).largest_bytes;
    assert_int_equal(plan_forecast(plan, 1).widest, 1);
    plan_destroy(plan);
    sweep->resources.device_bytes = largest - 1;
    plan = plan_make(sweep);
    assert_int_equal(plan_forecast(plan, 1).widest, 2);
    assert_true(plan_forecast(plan, 1).largest_bytes < largest);
    plan_destroy(plan);
    sweep->resources.device_bytes = 1000;
    assert_null(plan_create(sweep, 1e9, &err));
    assert_non_null(strstr(err.text, "more than the 9.31e-07 GiB of a device"));
    char place[512];
    snprintf(place, sizeof place, "%s:3: models[0]: \"s\" with method none needs", temporary_path("a.cfg"));
    if (strncmp(err.text, place, strlen(place))) fail_msg("%s", err.text);
    sweep_destroy(sweep);
}

/* The most bytes of a stage of a sweep, for which there is then just room. */
static uint64_t planned_with_just_room(const struct sweep_text *t)
{
    struct sweep *sweep = sweep_make(t);
    struct plan *plan = plan_make(sweep);
    uint64_t largest = plan_forecast(plan, 1).largest_bytes;
    plan_destroy(plan);
    sweep->resources.device_bytes = largest;
    plan_destroy(plan_make(sweep));
    sweep_destroy(sweep);
    return largest;
}

/* A model that no point has, and a pair of a model and a method, need no room. */
static void what_is_excluded_needs_no_memory(void **state)
{
    (void)state;
    struct error err = {""};
    struct sweep_text t = sweep_right;
    t.tail = "resources = { recompute = \"never\"; }; exclude = ( { model = \"m\"; } );";
    uint64_t without_model = planned_with_just_room(&t);
    t.methods = "methods = ( { name = \"none\"; }, { name = \"lora\"; ranks = [ 2 ]; learning_rates = [ 1e-2 ]; },\n"
                "            { name = \"full\"; batch = 64; learning_rates = [ 1e-3 ]; } );";
    t.tail = "resources = { recompute = \"never\"; }; exclude = ( { model = \"m\"; method = \"full\"; } );";
    uint64_t largest = planned_with_just_room(&t);
    assert_true(without_model < largest);
    t.tail = "resources = { recompute = \"never\"; };";
    struct sweep *sweep = sweep_make(&t);
    sweep->resources.device_bytes = largest;
    assert_null(plan_create(sweep, 1e9, &err));
    if (!strstr(err.text, ":4: models[1]: \"m\" with method full needs")) fail_msg("%s", err.text);
    sweep_destroy(sweep);
}

/* A stage that does not fit computes its activations again before it takes more devices, and costs more time; the
 * model's FLOPs and the identities stay. */
static void memory_decides_recomputation(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.models = "models = ( { name = \"deep\"; layers = 8; width = 16; heads = 2; ffn = 32; } );";
    t.tail = "resources = { tensor_parallel = 0; };";
    struct sweep *sweep = sweep_make(&t);
    struct plan *kept = plan_make(sweep), *plan;
    uint64_t largest = plan_forecast(kept, 1).largest_bytes;
    assert_true(kept->recompute_flops == 0.0);
    sweep->resources.device_bytes = largest - 1;
    plan = plan_make(sweep);
    assert_int_equal(plan_forecast(plan, 1).widest, 1);
    assert_true(plan_forecast(plan, 1).largest_bytes < largest);
    assert_string_equal(plan->identity.hex, kept->identity.hex);
    assert_true(plan->flops == kept->flops && plan->recompute_flops > 0.0);
    size_t recomputed = 0;
    for (size_t i = 0; i < plan->stage_count; i++) {
        struct stage described;
        plan_stage_describe(plan, i, "/r", 1, &described);
        assert_int_equal(described.recompute, plan->stages[i].recompute);
        assert_int_equal(plan->stages[i].recompute, kept->stages[i].bytes == largest);
        assert_int_equal(plan->stages[i].recompute, plan->stages[i].recompute_flops > 0.0);
        assert_int_equal(plan->stages[i].recompute, plan->stages[i].seconds > kept->stages[i].seconds);
        recomputed += plan->stages[i].recompute;
    }
    assert_in_range(recomputed, 1, plan->stage_count - 1);
    plan_destroy(plan);
    sweep->resources.recompute = RECOMPUTE_ALWAYS;
    sweep->resources.device_bytes = 0;
    plan = plan_make(sweep);
    for (size_t i = 0; i < plan->stage_count; i++) /* untuned models have no backward pass */
        assert_int_equal(plan->stages[i].recompute, plan->stages[i].last_step > 0);
    plan_destroy(plan);
    plan_destroy(kept);
    sweep_destroy(sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_decides_the_devices),
        cmocka_unit_test(devices_grow_with_the_model),
        cmocka_unit_test(memory_decides_recomputation),
        cmocka_unit_test(what_is_excluded_needs_no_memory),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
