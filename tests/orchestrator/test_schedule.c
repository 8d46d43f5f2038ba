/* The scheduler never overbooks a node, starts the longest chain first, and lets small stages pass a gang that does not
 * fit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/random.h"
#include "orchestrator/schedule.h"

static void add(struct schedule *schedule, uint32_t stage, uint32_t degree, double priority)
{
    struct schedule_stage s = {stage, degree, priority, 1, 1};
    assert_int_equal(schedule_add(schedule, &s), 0);
}

static void longest_chain_first(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node nodes[2] = {{1, 1}, {1, 1}};
    add(&schedule, 0, 1, 1.0);
    add(&schedule, 1, 1, 9.0);
    add(&schedule, 2, 1, 5.0);
    struct schedule_stage got;
    size_t node;
    assert_int_equal(schedule_next(&schedule, nodes, 2, INFINITY, &got, &node), 1);
    assert_int_equal(got.stage, 1);
    assert_int_equal(schedule_next(&schedule, nodes, 2, INFINITY, &got, &node), 1);
    assert_int_equal(got.stage, 2);
    assert_int_equal(schedule_next(&schedule, nodes, 2, INFINITY, &got, &node), 0);
    nodes[0].free = 1;
    assert_int_equal(schedule_next(&schedule, nodes, 2, INFINITY, &got, &node), 1);
    assert_int_equal(got.stage, 0);
    assert_int_equal(node, 0);
    schedule_free(&schedule);
}

static void small_stages_pass_a_gang(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node nodes[2] = {{8, 3}, {8, 2}};
    add(&schedule, 0, 4, 9.0);
    add(&schedule, 1, 2, 1.0);
    struct schedule_stage got;
    size_t node;
    assert_int_equal(schedule_next(&schedule, nodes, 2, INFINITY, &got, &node), 1);
    assert_int_equal(got.stage, 1);
    assert_int_equal(node, 1); /* best fit */
    assert_int_equal(schedule_next(&schedule, nodes, 2, INFINITY, &got, &node), 0);
    nodes[0].free = 4;
    assert_int_equal(schedule_next(&schedule, nodes, 2, INFINITY, &got, &node), 1);
    assert_int_equal(got.stage, 0);
    schedule_free(&schedule);
}

static void random_runs_place_everything_once(void **state)
{
    (void)state;
    struct random_key key = {7, random_stream("test schedule")};
    uint64_t draw = 0;
    for (int run = 0; run < 50; run++) {
        enum { NODES = 5, STAGES = 300 };
        struct schedule schedule;
        schedule_init(&schedule);
        struct schedule_node nodes[NODES];
        for (int i = 0; i < NODES; i++)
            nodes[i].devices = nodes[i].free = 1 + (uint32_t)random_below(key, draw++, 8);
        nodes[0].devices = nodes[0].free = 8;
        for (uint32_t i = 0; i < STAGES; i++) {
            uint32_t degree = 1 + (uint32_t)random_below(key, draw++, 8);
            add(&schedule, i, degree, random_uniform(key, draw++));
        }
        struct placed {
            uint32_t node, degree;
        } busy[STAGES];
        size_t busy_count = 0, placed = 0;
        unsigned char seen[STAGES] = {0};
        while (placed < STAGES || busy_count > 0) {
            struct schedule_stage got;
            size_t node;
            while (schedule_next(&schedule, nodes, NODES, INFINITY, &got, &node)) {
                assert_int_equal(seen[got.stage], 0);
                seen[got.stage] = 1;
                assert_true(nodes[node].free <= nodes[node].devices); /* not wrapped below zero */
                busy[busy_count++] = (struct placed){(uint32_t)node, got.degree};
                placed++;
            }
            assert_true(busy_count > 0);
            size_t end = (size_t)random_below(key, draw++, busy_count);
            nodes[busy[end].node].free += busy[end].degree;
            busy[end] = busy[--busy_count];
        }
        for (int i = 0; i < NODES; i++)
            assert_int_equal(nodes[i].free, nodes[i].devices);
        schedule_free(&schedule);
    }
}

static void nothing_starts_that_has_no_time(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node nodes[1] = {{2, 2}};
    struct schedule_stage slow = {0, 1, 100, 1, 100}, fast = {1, 1, 5, 1, 5}, got;
    assert_int_equal(schedule_add(&schedule, &slow), 0);
    assert_int_equal(schedule_add(&schedule, &fast), 0);
    size_t node;
    assert_int_equal(schedule_next(&schedule, nodes, 1, 10, &got, &node), 1);
    assert_int_equal(got.stage, 1); /* the longer chain needs more than the 10 s */
    assert_int_equal(schedule_next(&schedule, nodes, 1, 10, &got, &node), 0);
    assert_int_equal(nodes[0].free, 1);
    assert_int_equal(schedule_next(&schedule, nodes, 1, 100, &got, &node), 1);
    assert_int_equal(got.stage, 0);
    schedule_free(&schedule);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(longest_chain_first),
        cmocka_unit_test(small_stages_pass_a_gang),
        cmocka_unit_test(nothing_starts_that_has_no_time),
        cmocka_unit_test(random_runs_place_everything_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
