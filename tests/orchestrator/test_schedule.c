/* The scheduler never overbooks a device, starts the longest chain first, lets small stages pass a gang that does not
 * fit, and puts stages that need a part of a device beside each other. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/random.h"
#include "orchestrator/plan/schedule.h"
#include "orchestrator/sweep/sweep.h"

static void add(struct schedule *schedule, uint32_t stage, uint32_t degree, double priority)
{
    struct schedule_stage s = {.stage = stage, .degree = degree, .priority = priority, .flops = 1, .seconds = 1};
    assert_int_equal(schedule_add(schedule, &s), 0);
}

/* A stage that is to have a part of a device, in percent of it. */
static void add_part(struct schedule *schedule, uint32_t stage, uint32_t percent, double priority)
{
    struct schedule_stage s = {.stage = stage,
                               .degree = 1,
                               .priority = priority,
                               .flops = 1,
                               .seconds = 1,
                               .share = SHARE_WHOLE / 100 * percent};
    assert_int_equal(schedule_add(schedule, &s), 0);
}

static struct schedule_node make_node(uint32_t devices)
{
    struct schedule_node node;
    assert_int_equal(schedule_node_init(&node, devices), 0);
    return node;
}

/* The next stage is this one, and sits there. */
static struct schedule_seat expect(struct schedule *schedule, struct schedule_node *nodes, size_t count, uint32_t stage,
                                   uint32_t node, uint32_t first)
{
    struct schedule_stage got;
    struct schedule_seat seat;
    assert_int_equal(schedule_next(schedule, nodes, count, INFINITY, &got, &seat), 1);
    assert_int_equal(got.stage, stage);
    assert_int_equal(seat.node, node);
    assert_int_equal(seat.first, first);
    return seat;
}

static void expect_none(struct schedule *schedule, struct schedule_node *nodes, size_t count)
{
    struct schedule_stage got;
    struct schedule_seat seat;
    assert_int_equal(schedule_next(schedule, nodes, count, INFINITY, &got, &seat), 0);
}

static void longest_chain_first(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node nodes[2] = {make_node(1), make_node(1)};
    add(&schedule, 0, 1, 1.0);
    add(&schedule, 1, 1, 9.0);
    add(&schedule, 2, 1, 5.0);
    struct schedule_seat first = expect(&schedule, nodes, 2, 1, 0, 0);
    expect(&schedule, nodes, 2, 2, 1, 0);
    expect_none(&schedule, nodes, 2);
    schedule_release(nodes, &first);
    expect(&schedule, nodes, 2, 0, 0, 0);
    schedule_free(&schedule);
    schedule_node_free(&nodes[0]);
    schedule_node_free(&nodes[1]);
}

static void small_stages_pass_a_gang(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node nodes[2] = {make_node(4), make_node(2)};
    add(&schedule, 2, 1, 99.0);
    struct schedule_seat small = expect(&schedule, nodes, 2, 2, 1, 1); /* best fit */
    add(&schedule, 3, 1, 99.0);
    struct schedule_seat beside = expect(&schedule, nodes, 2, 3, 1, 0);
    add(&schedule, 4, 1, 99.0);
    struct schedule_seat last = expect(&schedule, nodes, 2, 4, 0, 3);
    schedule_release(nodes, &small);
    schedule_release(nodes, &beside);
    add(&schedule, 0, 4, 9.0);
    add(&schedule, 1, 2, 1.0);
    expect(&schedule, nodes, 2, 1, 1, 0);
    expect_none(&schedule, nodes, 2);
    schedule_release(nodes, &last);
    expect(&schedule, nodes, 2, 0, 0, 0);
    schedule_free(&schedule);
    schedule_node_free(&nodes[0]);
    schedule_node_free(&nodes[1]);
}

static void gangs_sit_side_by_side(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node node = make_node(5);
    schedule_node_lose(&node, 2); /* two and two are left */
    assert_int_equal(node.devices, 4);
    assert_int_equal(node.free, 4);
    assert_int_equal(schedule_node_widest(&node), 2);
    add(&schedule, 0, 3, 9.0);
    expect_none(&schedule, &node, 1);
    add(&schedule, 1, 1, 8.0);
    struct schedule_seat one = expect(&schedule, &node, 1, 1, 0, 1);
    add(&schedule, 2, 1, 7.0);
    expect(&schedule, &node, 1, 2, 0, 0); /* the smaller gap: the other stays whole */
    add(&schedule, 3, 2, 6.0);
    struct schedule_seat gang = expect(&schedule, &node, 1, 3, 0, 3);
    schedule_node_lose(&node, 4); /* while the gang is on it */
    schedule_release(&node, &gang);
    schedule_release(&node, &one);
    assert_int_equal(node.free, 2);
    assert_int_equal(node.gap, 1);
    add(&schedule, 4, 2, 6.0);
    expect_none(&schedule, &node, 1);
    schedule_free(&schedule);
    schedule_node_free(&node);
}

static void parts_fill_devices(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node node = make_node(2);
    for (uint32_t i = 0; i < 6; i++)
        add_part(&schedule, i, i == 0 ? 60 : 30, 10.0 - i);
    struct schedule_seat large = expect(&schedule, &node, 1, 0, 0, 1);
    struct schedule_seat small = expect(&schedule, &node, 1, 1, 0, 0); /* a free device before one that is shared */
    expect(&schedule, &node, 1, 2, 0, 1);                              /* the least room: 60 + 30 */
    expect(&schedule, &node, 1, 3, 0, 0);
    expect(&schedule, &node, 1, 4, 0, 0);
    expect_none(&schedule, &node, 1); /* 90 and 90 */
    schedule_release(&node, &large);
    expect(&schedule, &node, 1, 5, 0, 1);
    add(&schedule, 6, 1, 1.0); /* the whole of one */
    expect_none(&schedule, &node, 1);
    schedule_node_lose(&node, 0); /* with all its places */
    schedule_release(&node, &small);
    add_part(&schedule, 7, 30, 2.0);
    expect(&schedule, &node, 1, 7, 0, 1);
    add_part(&schedule, 8, 30, 2.0);
    expect_none(&schedule, &node, 1);
    schedule_free(&schedule);
    schedule_node_free(&node);
}

static void parts_do_not_keep_out_what_comes_before_them(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node node = make_node(1);
    add_part(&schedule, 0, 25, 9.0);
    struct schedule_seat first = expect(&schedule, &node, 1, 0, 0, 0);
    add(&schedule, 1, 1, 5.0);
    add_part(&schedule, 2, 25, 6.0);
    add_part(&schedule, 3, 25, 4.0);
    struct schedule_seat second = expect(&schedule, &node, 1, 2, 0, 0);
    expect_none(&schedule, &node, 1); /* there is room for 3, but 1 waits for the device */
    schedule_release(&node, &first);
    schedule_release(&node, &second);
    expect(&schedule, &node, 1, 1, 0, 0);
    schedule_free(&schedule);
    schedule_node_free(&node);
}

static void a_pack_grows_as_far_as_there_is_room(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node node = make_node(1);
    add_part(&schedule, 0, 40, 9.0);
    add_part(&schedule, 1, 30, 8.0);
    struct schedule_seat first = expect(&schedule, &node, 1, 0, 0, 0);
    struct schedule_seat second = expect(&schedule, &node, 1, 1, 0, 0);
    assert_false(schedule_grow(&node, &second, SHARE_WHOLE / 2)); /* 40 are another's */
    assert_true(schedule_grow(&node, &second, SHARE_WHOLE / 5));
    schedule_release(&node, &first);
    assert_true(schedule_grow(&node, &second, SHARE_WHOLE)); /* it is alone */
    assert_int_equal(second.share, SHARE_WHOLE);
    assert_int_equal(node.shared, 0);
    schedule_release(&node, &second);
    assert_int_equal(node.free, 1);
    assert_int_equal(node.device[0].used, 0);
    schedule_free(&schedule);
    schedule_node_free(&node);
}

static void the_rule_of_sharing(void **state)
{
    (void)state;
    const uint64_t gib = (uint64_t)1 << 30;
    uint32_t quarter = SHARE_WHOLE / 4;
    assert_int_equal(share_of(1, 10, gib, 80 * gib, 1), SHARE_WHOLE); /* nobody asks for it */
    assert_int_equal(share_of(1, 10, gib, 0, 4), SHARE_WHOLE);        /* memory is not known */
    assert_int_equal(share_of(10, 10, gib, 80 * gib, 4), SHARE_WHOLE);
    assert_int_equal(share_of(1, 10, 80 * gib, 80 * gib, 4), SHARE_WHOLE); /* its process does not fit beside it */
    assert_int_equal(share_of(2, 4, gib, 80 * gib, 4), SHARE_WHOLE / 2);   /* half of the time */
    assert_int_equal(share_of(1, 10, 40 * gib - GPU_PROCESS_BYTES, 80 * gib, 4), SHARE_WHOLE / 2);
    assert_int_equal(share_of(0, 10, gib, 80 * gib, 4), quarter); /* never more than four */
    for (uint32_t most = 2; most <= STAGES_PER_DEVICE; most++) {
        uint32_t share = share_of(0, 1, 0, 1000 * gib, most);
        assert_true(most * share <= SHARE_WHOLE && (most + 1) * share > SHARE_WHOLE);
    }
    assert_true(3 * (uint64_t)share_of(1, 3, 0, 80 * gib, 64) >= SHARE_WHOLE); /* rounded up: never too many */
}

/* No device has more on it than there is of it; what a node says of itself is so. */
static void check_nodes(const struct schedule_node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t is_free = 0;
        for (uint32_t d = 0; d < nodes[i].size; d++) {
            assert_true(nodes[i].device[d].used <= SHARE_WHOLE);
            is_free += nodes[i].device[d].used == 0;
        }
        assert_int_equal(nodes[i].free, is_free);
    }
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
            nodes[i] = make_node(i ? 1 + (uint32_t)random_below(key, draw++, 8) : 8);
        for (uint32_t i = 0; i < STAGES; i++) {
            uint32_t degree = 1 + (uint32_t)random_below(key, draw++, 8);
            uint32_t percent = 1 + (uint32_t)random_below(key, draw++, 99);
            double priority = random_uniform(key, draw++);
            if (run % 2 && degree < 4)
                add_part(&schedule, i, percent, priority);
            else
                add(&schedule, i, degree, priority);
        }
        struct schedule_seat busy[STAGES];
        size_t busy_count = 0, placed = 0;
        unsigned char seen[STAGES] = {0};
        while (placed < STAGES || busy_count > 0) {
            struct schedule_stage got;
            struct schedule_seat seat;
            while (schedule_next(&schedule, nodes, NODES, INFINITY, &got, &seat)) {
                assert_int_equal(seen[got.stage], 0);
                seen[got.stage] = 1;
                assert_true(seat.first + seat.degree <= nodes[seat.node].size);
                busy[busy_count++] = seat;
                placed++;
            }
            check_nodes(nodes, NODES);
            assert_true(busy_count > 0);
            size_t end = (size_t)random_below(key, draw++, busy_count);
            schedule_release(nodes, &busy[end]);
            busy[end] = busy[--busy_count];
        }
        for (int i = 0; i < NODES; i++) {
            assert_int_equal(nodes[i].gap, nodes[i].devices);
            schedule_node_free(&nodes[i]);
        }
        schedule_free(&schedule);
    }
}

static void nothing_starts_that_has_no_time(void **state)
{
    (void)state;
    struct schedule schedule;
    schedule_init(&schedule);
    struct schedule_node node = make_node(2);
    struct schedule_stage slow = {0, 1, 100, 1, 100, 0, 0}, fast = {1, 1, 5, 1, 5, 0, 0}, got;
    struct schedule_seat seat;
    assert_int_equal(schedule_add(&schedule, &slow), 0);
    assert_int_equal(schedule_add(&schedule, &fast), 0);
    assert_int_equal(schedule_next(&schedule, &node, 1, 10, &got, &seat), 1);
    assert_int_equal(got.stage, 1); /* the longer chain needs more than the 10 s */
    assert_int_equal(schedule_next(&schedule, &node, 1, 10, &got, &seat), 0);
    assert_int_equal(node.free, 1);
    assert_int_equal(schedule_next(&schedule, &node, 1, 100, &got, &seat), 1);
    assert_int_equal(got.stage, 0);
    schedule_free(&schedule);
    schedule_node_free(&node);
}

static void add_on(struct schedule *schedule, uint32_t stage, uint32_t base, double priority, double seconds)
{
    struct schedule_stage s = {
        .stage = stage, .degree = 1, .priority = priority, .flops = 1, .seconds = seconds, .base = base};
    assert_int_equal(schedule_add(schedule, &s), 0);
}

/* A device that holds a base gets a stage on it, of those that come next or nearly so. */
static void a_base_stays_where_it_is(void **state)
{
    (void)state;
    struct schedule schedule;
    struct schedule_stage got;
    struct schedule_seat seat;
    schedule_init(&schedule);
    struct schedule_node node = make_node(1);
    add_on(&schedule, 0, 1, 10, 1);
    for (uint32_t i = 1; i <= 40; i++) /* bases 2, 3, 1, 2, ... */
        add_on(&schedule, i, i % 3 + 1, 9, 1);
    seat = expect(&schedule, &node, 1, 0, 0, 0);
    for (uint32_t base = 1; base <= 3; base++) /* all on one base, in the order of the plan, then the next one's */
        for (uint32_t i = 1; i <= 40; i++) {
            if (i % 3 + 1 != base) continue;
            schedule_release(&node, &seat);
            seat = expect(&schedule, &node, 1, i, 0, 0);
        }
    expect_none(&schedule, &node, 1);

    /* nearly as urgent: yes; less so, or too long for the time that is left: no; trained: nothing is there any more */
    schedule_release(&node, &seat); /* base 3 */
    add_on(&schedule, 50, 1, 100, 1);
    add_on(&schedule, 51, 3, 98, 1);
    add_on(&schedule, 52, 3, 80, 1);
    add_on(&schedule, 53, 3, 99, 1000);
    assert_int_equal(schedule_next(&schedule, &node, 1, 10, &got, &seat), 1);
    assert_int_equal(got.stage, 51);
    schedule_release(&node, &seat);
    assert_int_equal(schedule_next(&schedule, &node, 1, 10, &got, &seat), 1);
    assert_int_equal(got.stage, 50);
    schedule_release(&node, &seat);
    assert_int_equal(schedule_next(&schedule, &node, 1, 10, &got, &seat), 1);
    assert_int_equal(got.stage, 52);
    schedule_release(&node, &seat);
    seat = expect(&schedule, &node, 1, 53, 0, 0);
    schedule_release(&node, &seat);
    add_on(&schedule, 60, 0, 100, 1);
    seat = expect(&schedule, &node, 1, 60, 0, 0);
    add_on(&schedule, 61, 1, 10, 1);
    add_on(&schedule, 62, 3, 10, 1);
    schedule_release(&node, &seat);
    expect(&schedule, &node, 1, 61, 0, 0);
    schedule_free(&schedule);
    schedule_node_free(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(longest_chain_first),
        cmocka_unit_test(small_stages_pass_a_gang),
        cmocka_unit_test(gangs_sit_side_by_side),
        cmocka_unit_test(parts_fill_devices),
        cmocka_unit_test(parts_do_not_keep_out_what_comes_before_them),
        cmocka_unit_test(a_pack_grows_as_far_as_there_is_room),
        cmocka_unit_test(the_rule_of_sharing),
        cmocka_unit_test(nothing_starts_that_has_no_time),
        cmocka_unit_test(a_base_stays_where_it_is),
        cmocka_unit_test(random_runs_place_everything_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
