/* Shards: together they are the sweep, each point once, and no trunk is trained twice where that can be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/shard.h"
#include "sweep_fixture.h"

static struct plan *make_plan(const struct sweep *sweep)
{
    struct error err = {""};
    struct plan *plan = plan_create(sweep, 1e9, &err);
    if (!plan) fail_msg("%s", err.text);
    return plan;
}

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
    struct plan *whole = make_plan(sweep);
    for (uint32_t count = 1; count <= whole->point_count; count += count < 12 ? 1 : 13) {
        size_t points = 0, pretraining = 0, all_pretraining = 0;
        double trained = 0;
        for (uint32_t index = 1; index <= count; index++) {
            struct plan *plan = make_plan(sweep);
            struct shard shard = {index, count};
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
    struct plan *plan = make_plan(sweep), *faster = plan_create(sweep, 1e15, &err);
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

static void test_words(void **state)
{
    (void)state;
    struct error err = {""};
    struct shard shard;
    static const char *const wrong[] = {"", "1", "0/2", "3/2", "1/0", "-1/2", "1/2x", "a/b", "1/99999999999", "1/-2"};
    assert_int_equal(shard_parse("2/3", &shard, &err), 0);
    assert_int_equal(shard.index, 2);
    assert_int_equal(shard.count, 3);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (!shard_parse(wrong[i], &shard, &err)) fail_msg("\"%s\" was taken", wrong[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_count),
        cmocka_unit_test(test_assignment),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
