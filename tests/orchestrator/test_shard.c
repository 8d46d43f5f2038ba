/* Shards: together they are the sweep, each point once, and no trunk is trained twice where that can be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "orchestrator/plan/shard.h"
#include "tests/orchestrator/plan_fixture.h"

static bool has_point(const struct plan *plan, const char *identity)
{
    for (size_t i = 0; i < plan->point_count; i++)
        if (!memcmp(plan->points[i].identity, identity, DIGEST_HEX)) return true;
    return false;
}

/* A plan in itself: parents first, every point has its stage, no stage without need. */
static void check_plan(const struct plan *plan)
{
    unsigned char *needed = calloc(plan->stage_count, 1);
    double flops = 0;
    for (size_t i = plan->stage_count; i-- > 0;) {
        const struct plan_stage *stage = &plan->stages[i];
        if (stage->point != PLAN_NONE) {
            needed[i] = 1;
            assert_int_equal(plan->stage_of_point[stage->point], i);
            assert_memory_equal(plan->points[stage->point].identity, stage->identity.hex, DIGEST_HEX);
        }
        assert_true(needed[i]);
        if (stage->parent == PLAN_NONE) continue;
        assert_true(stage->parent < i);
        needed[stage->parent] = 1;
        if (stage->point != PLAN_NONE)
            assert_memory_equal(plan->points[stage->point].base, plan->stages[stage->parent].identity.hex, DIGEST_HEX);
    }
    for (size_t i = 0; i < plan->stage_count; i++)
        flops += plan->stages[i].flops;
    assert_true(plan->flops == flops);
    free(needed);
}

static void test_every_count(void **state)
{
    (void)state;
    struct sweep *sweep = sweep_make(&sweep_right);
    struct plan *whole = plan_make(sweep);
    for (uint32_t count = 1; count <= whole->point_count; count += count < 12 ? 1 : 13) {
        size_t points = 0, pretraining = 0, all_pretraining = 0;
        double trained = 0;
        for (uint32_t index = 1; index <= count; index++) {
            struct plan *plan = plan_make(sweep);
            struct shard shard = {index, count, false};
            struct error err = {""};
            if (shard_select(plan, &shard, &err)) fail_msg("%u/%u: %s", index, count, err.text);
            assert_true(plan->point_count > 0);
            check_plan(plan);
            points += plan->point_count;
            for (size_t i = 0; i < plan->point_count; i++)
                assert_true(has_point(whole, plan->points[i].identity));
            for (size_t i = 0; i < plan->stage_count; i++)
                pretraining += plan->stages[i].point == PLAN_NONE;
            trained += plan->flops;
            plan_destroy(plan);
        }
        for (size_t i = 0; i < whole->stage_count; i++)
            all_pretraining += whole->stages[i].point == PLAN_NONE;
        assert_int_equal(points, whole->point_count);
        if (count <= sweep->model_count) {
            assert_int_equal(pretraining, all_pretraining);
            assert_true(trained < whole->flops * (1 + 1e-9) && trained > whole->flops * (1 - 1e-9));
        }
    }
    plan_destroy(whole);
    sweep_destroy(sweep);
}

/* Each point in exactly one shard, the same on every call, whatever the rate of the machine. */
static void test_assignment(void **state)
{
    (void)state;
    struct error err = {""};
    struct sweep *sweep = sweep_make(&sweep_right);
    struct plan *plan = plan_make(sweep), *faster = plan_create(sweep, 1e15, &err);
    uint32_t *of = calloc(plan->point_count, sizeof *of), *again = calloc(plan->point_count, sizeof *again);
    for (uint32_t count = 1; count <= 9; count++) {
        assert_int_equal(shard_assign(plan, count, of, &err), 0);
        assert_int_equal(shard_assign(faster, count, again, &err), 0);
        assert_memory_equal(of, again, plan->point_count * sizeof *of);
        for (size_t i = 0; i < plan->point_count; i++)
            assert_in_range(of[i], 1, count);
    }
    assert_int_equal(shard_assign(plan, (uint32_t)plan->point_count + 1, of, &err), -1);
    assert_non_null(strstr(err.text, "some would have none"));
    free(of);
    free(again);
    plan_destroy(plan);
    plan_destroy(faster);
    sweep_destroy(sweep);
}

/* Two models like those of the sweep, and a third that costs far more than both. */
static struct sweep_text uneven(void)
{
    struct sweep_text text = sweep_right;
    text.models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; kv_heads = 1; ffn = 16; },\n"
                  "           { name = \"m\"; layers = 1; width = 16; heads = 2; ffn = 32; },\n"
                  "           { name = \"l\"; layers = 6; width = 64; heads = 4; ffn = 128; } );";
    return text;
}

static double cost(const struct plan_stage *stage)
{
    return stage->flops + stage->evaluation_flops;
}

/* Points that go on from a prefix are together as long as there are families enough for every task; where they are not,
 * each of their tasks trains it. */
static void check_family(const struct plan *plan, uint32_t prefix, const uint32_t *of, uint32_t count, double *load)
{
    size_t families = 0, tasks = 0;
    bool *in = calloc(count + 1, sizeof *in);
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        bool root = stage->parent == PLAN_NONE || plan->stages[stage->parent].kind == STAGE_PRETRAIN;
        families += stage->kind != STAGE_PRETRAIN && root;
        bool below = false;
        for (uint32_t at = i; at != PLAN_NONE; at = plan->stages[at].parent)
            below |= at == prefix;
        if (below && stage->point != PLAN_NONE) in[of[stage->point]] = true;
    }
    for (uint32_t task = 1; task <= count; task++) {
        tasks += in[task];
        if (in[task]) load[task] += cost(&plan->stages[prefix]);
    }
    assert_true(tasks == 1 || (tasks > 1 && families < count));
    free(in);
}

/* Whatever the count: every point in one task, every task with points, no trunk in two tasks unless it is shared, a
 * shared one needed by two. The largest load, in even shares. */
static double check_deal(const struct plan *plan, uint32_t count)
{
    struct error err = {""};
    struct shard_array array, again;
    size_t models = plan->sweep->model_count;
    if (shard_array_deal(plan, count, &array, &err)) fail_msg("%u: %s", count, err.text);
    assert_int_equal(shard_array_deal(plan, count, &again, &err), 0);
    assert_memory_equal(array.of, again.of, plan->point_count * sizeof *array.of);
    double *load = calloc(count + 1, sizeof *load), most = 0, total = 0;
    uint32_t *owner = calloc(models, sizeof *owner);
    bool *several = calloc(models, sizeof *several);
    size_t shared = 0;
    for (size_t p = 0; p < plan->point_count; p++) {
        const struct plan_stage *stage = &plan->stages[plan->stage_of_point[p]];
        assert_in_range(array.of[p], 1, count);
        several[stage->model] |= owner[stage->model] && owner[stage->model] != array.of[p];
        owner[stage->model] = array.of[p];
        load[array.of[p]] += cost(stage);
    }
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        assert_int_equal(array.shared[i], stage->kind == STAGE_PRETRAIN && several[stage->model]);
        shared += array.shared[i];
        if (stage->kind == STAGE_PRETRAIN && !array.shared[i]) load[owner[stage->model]] += cost(stage);
        if (stage->kind == STAGE_PREFIX) check_family(plan, (uint32_t)i, array.of, count, load);
    }
    assert_int_equal(shared, array.shared_count);
    for (uint32_t i = 1; i <= count; i++) {
        assert_true(load[i] > 0 || count > models);
        total += load[i];
        most = load[i] > most ? load[i] : most;
    }
    free(load);
    free(owner);
    free(several);
    shard_array_free(&array);
    shard_array_free(&again);
    return most / (total / count);
}

static void test_tasks_of_an_array(void **state)
{
    (void)state;
    struct error err = {""};
    struct sweep_text shares = sweep_right;
    shares.finetune =
        "finetune = { examples = [ 20, 30, 40 ]; sequence_length = 32; batch = 4; epochs = 1.0; seeds = [ 1, 2 "
        "]; schedule = \"constant\"; order = \"stream\"; evaluation_steps = 2; share = true; };";
    const struct sweep_text texts[] = {sweep_right, uneven(), shares};
    for (size_t t = 0; t < 3; t++) {
        struct sweep *sweep = sweep_make(&texts[t]);
        struct plan *plan = plan_make(sweep), *faster = plan_create(sweep, 1e15, &err);
        for (uint32_t count = 1; count <= plan->point_count; count += count < 12 ? 1 : 13) {
            struct shard_array array, other;
            double most = check_deal(plan, count);
            if (count < 12 && most > 1.5) fail_msg("%u tasks: one has %.2f even shares", count, most);
            assert_int_equal(shard_array_deal(plan, count, &array, &err), 0);
            assert_int_equal(shard_array_deal(faster, count, &other, &err), 0);
            assert_memory_equal(array.of, other.of, plan->point_count * sizeof *array.of);
            if (count == 1) assert_int_equal(array.shared_count, 0);
            shard_array_free(&array);
            shard_array_free(&other);
        }
        struct shard_array array;
        assert_int_equal(shard_array_deal(plan, (uint32_t)plan->point_count + 1, &array, &err), -1);
        assert_non_null(strstr(err.text, "some would have none"));
        plan_destroy(plan);
        plan_destroy(faster);
        sweep_destroy(sweep);
    }
}

/* The plans of the tasks are the sweep: each point once; shared trunks apart and for nothing in the tasks. */
static void test_plans_of_an_array(void **state)
{
    (void)state;
    struct error err = {""};
    struct sweep_text text = uneven();
    struct sweep *sweep = sweep_make(&text);
    struct plan *whole = plan_make(sweep);
    struct shard_array array;
    assert_int_equal(shard_array_deal(whole, 3, &array, &err), 0);
    struct plan *trunks = shard_array_plan(whole, &array, 0, &err);
    assert_int_equal(trunks->point_count, 0);
    assert_int_equal(trunks->stage_count, array.shared_count);
    assert_int_equal(trunks->stage_count, 3); /* of l alone, at three token counts */
    double seconds = plan_forecast(trunks, 1).device_seconds;
    size_t points = 0;
    for (uint32_t task = 1; task <= 3; task++) {
        struct plan *plan = shard_array_plan(whole, &array, task, &err), *selected = plan_make(sweep);
        struct shard shard = {task, 3, true};
        if (!plan || shard_select(selected, &shard, &err)) fail_msg("%u: %s", task, err.text);
        check_plan(plan);
        assert_memory_equal(&plan->identity, &selected->identity, sizeof plan->identity);
        points += plan->point_count;
        seconds += plan_forecast(plan, 1).device_seconds;
        plan_destroy(plan);
        plan_destroy(selected);
    }
    assert_int_equal(points, whole->point_count);
    double all = plan_forecast(whole, 1).device_seconds;
    assert_true(seconds > all * (1 - 1e-9) && seconds < all * (1 + 1e-9));
    plan_destroy(trunks);
    shard_array_free(&array);
    plan_destroy(whole);
    sweep_destroy(sweep);
}

static void test_a_hundred_thousand_points(void **state)
{
    (void)state;
    static char finetune[8192], *at = finetune;
    at += sprintf(at,
                  "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                  "seeds = [ 1");
    for (int seed = 2; seed <= 1400; seed++)
        at += sprintf(at, ", %d", seed);
    sprintf(at, " ]; };");
    struct sweep_text text = uneven();
    text.finetune = finetune;
    struct sweep *sweep = sweep_make(&text);
    struct plan *plan = plan_make(sweep);
    assert_true(plan->point_count > 100000);
    struct timespec start, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    check_deal(plan, 1000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    double seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    print_message("%zu points to 1000 tasks, twice: %.3f s\n", plan->point_count, seconds);
    assert_true(seconds < 5);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void test_words(void **state)
{
    (void)state;
    struct error err = {""};
    struct shard shard;
    static const char *const wrong[] = {"", "1", "0/2", "3/2", "1/0", "-1/2", "1/2x", "a/b", "1/99999999999", "1/-2"};
    assert_int_equal(shard_parse("2/3", false, &shard, &err), 0);
    assert_int_equal(shard.index, 2);
    assert_int_equal(shard.count, 3);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (!shard_parse(wrong[i], false, &shard, &err)) fail_msg("\"%s\" was taken", wrong[i]);
    char label[SHARD_LABEL];
    assert_int_equal(shard_parse("2/3", true, &shard, &err), 0);
    shard_label(&shard, label);
    assert_string_equal(label, "2/3 of an array");
    assert_int_equal(shard_parse("0/3", true, &shard, &err), 0);
    shard_label(&shard, label);
    assert_string_equal(label, "");
    assert_int_equal(shard_parse("0/0", true, &shard, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_count),
        cmocka_unit_test(test_assignment),
        cmocka_unit_test(test_tasks_of_an_array),
        cmocka_unit_test(test_plans_of_an_array),
        cmocka_unit_test(test_a_hundred_thousand_points),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
