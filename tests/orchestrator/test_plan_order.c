/* With order = "information" the first part of a grid tells more of the law than the part that the other order runs
 * first; no point is lost, bases come before their points, identities stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "fitting/analysis/preflight.h"
#include "orchestrator/plan/plan.h"
#include "orchestrator/plan/plan_table.h"
#include "orchestrator/plan/simulate.h"
#include "tests/orchestrator/plan_fixture.h"

static struct sweep_text grid(const char *resources)
{
    struct sweep_text t = sweep_right;
    t.models = "models = ( { name = \"a\"; layers = 1; width = 8; heads = 2; ffn = 16; },\n"
               "           { name = \"b\"; layers = 2; width = 16; heads = 2; ffn = 32; },\n"
               "           { name = \"c\"; layers = 2; width = 32; heads = 2; ffn = 64; },\n"
               "           { name = \"d\"; layers = 4; width = 64; heads = 2; ffn = 128; } );";
    t.finetune = "finetune = { examples = [ 10, 15, 20, 30, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; "
                 "max_steps = 1000; seeds = [ 1 ]; };";
    t.tail = resources;
    return t;
}

struct ranked {
    double priority;
    uint32_t point;
};

static int by_priority(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->priority < y->priority || x->priority > y->priority) return x->priority < y->priority ? 1 : -1;
    return (x->point > y->point) - (x->point < y->point);
}

/* Mean over the parameters of the log of the expected standard errors, from the first points of a method that cost a
 * quarter of its seconds. */
static double first_quarter(const struct plan *plan, const char *method)
{
    struct ranked *ranked = calloc(plan->point_count, sizeof *ranked);
    struct preflight_point *points = calloc(plan->point_count, sizeof *points);
    assert_true(ranked && points);
    size_t count = 0, taken = 0;
    double seconds = 0, spent = 0;
    for (uint32_t i = 0; i < plan->point_count; i++) {
        if (!plan_table_holds(&plan->points[i], method)) continue;
        ranked[count++] = (struct ranked){plan->stages[plan->stage_of_point[i]].priority, i};
        seconds += plan->stages[plan->stage_of_point[i]].seconds;
    }
    qsort(ranked, count, sizeof *ranked, by_priority);
    for (; taken < count && spent < seconds / 4; taken++) {
        uint32_t stage = plan->stage_of_point[ranked[taken].point];
        plan_table_axes(plan, &plan->points[ranked[taken].point], points[taken].x);
        points[taken].seconds = plan->stages[stage].seconds;
        spent += points[taken].seconds;
    }
    bool varies[LAW_AXES] = {false};
    varies[LAW_X] = varies[LAW_P] = varies[LAW_D] = true;
    struct law law = law_restrict(law_find("joint", NULL), varies);
    double theta[LAW_PARAMETERS], sum = 0;
    struct preflight got;
    preflight_guess(&law, points, taken, theta);
    preflight_errors(&law, theta, 0.005, points, taken, NULL, 0, &got);
    for (size_t i = 0; i < law.parameter_count; i++)
        sum += log(fmin(got.error[i], 1e6)) / (double)law.parameter_count;
    free(ranked);
    free(points);
    return sum;
}

static void the_first_part_tells_more(void **state)
{
    (void)state;
    struct sweep_text plain = grid("resources = { backend = \"reference\"; };");
    struct sweep_text wished = grid("resources = { backend = \"reference\"; order = \"information\"; };");
    struct sweep *a = sweep_make(&plain), *b = sweep_make(&wished);
    struct plan *chains = plan_make(a), *information = plan_make(b);
    assert_string_equal(chains->identity.hex, information->identity.hex);
    assert_true(first_quarter(information, "full") < first_quarter(chains, "full") - 0.1);
    for (size_t i = 0; i < information->stage_count; i++) {
        uint32_t parent = information->stages[i].parent;
        if (parent != PLAN_NONE) assert_true(information->stages[parent].priority >= information->stages[i].priority);
    }
    struct simulate_options options = {.nodes = 1, .devices = 3};
    struct simulate_result first, second;
    struct error err = {""};
    assert_int_equal(simulate_best(chains, &options, &first, &err), 0);
    assert_int_equal(simulate_best(information, &options, &second, &err), 0);
    assert_int_equal(second.placed, information->stage_count);
    assert_true(second.makespan_seconds >= second.tight_bound_seconds * (1 - 1e-12));
    plan_destroy(chains);
    plan_destroy(information);
    sweep_destroy(a);
    sweep_destroy(b);
}

/* What points share costs each a part: together as much as the stages, and a point that goes on from a beginning that
 * only it needs as much as it would alone. */
static void points_pay_for_what_they_share(void **state)
{
    (void)state;
    struct sweep_text t = grid("resources = { backend = \"reference\"; order = \"information\"; };");
    t.methods = "methods = ( { name = \"full\"; learning_rates = [ 1e-3 ]; } );";
    t.finetune =
        "finetune = { examples = [ 10, 15, 20, 30, 40 ]; sequence_length = 32; batch = 4; epochs = 1.0; seeds = [ 1 ]; "
        "schedule = \"constant\"; order = \"stream\"; evaluation_steps = 1; share = true; };";
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    double *seconds = plan_table_seconds(plan), sum = 0, stages = 0, shared = 0;
    assert_non_null(seconds);
    for (size_t i = 0; i < plan->point_count; i++) {
        double alone = 0, own = plan->stages[plan->stage_of_point[i]].seconds;
        sum += seconds[i];
        for (uint32_t at = plan->stage_of_point[i]; plan->stages[at].kind != STAGE_PRETRAIN;
             at = plan->stages[at].parent)
            alone += plan->stages[at].seconds;
        assert_true(seconds[i] >= own && seconds[i] <= alone * (1 + 1e-12));
        shared += seconds[i] > own * (1 + 1e-9);
    }
    for (size_t i = 0; i < plan->stage_count; i++)
        if (plan->stages[i].kind != STAGE_PRETRAIN) stages += plan->stages[i].seconds;
    assert_true(shared > 0);
    assert_true(fabs(sum - stages) <= 1e-9 * stages);
    for (size_t i = 0; i < plan->stage_count; i++) { /* a beginning is as urgent as the most urgent point below it */
        uint32_t parent = plan->stages[i].parent;
        if (parent != PLAN_NONE) assert_true(plan->stages[parent].priority >= plan->stages[i].priority);
    }
    free(seconds);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void an_unknown_order_is_refused(void **state)
{
    (void)state;
    struct sweep_text t = grid("resources = { order = \"random\"; };");
    sweep_refused(&t, ":12: resources.order: \"random\" is unknown; allowed: longest_chain, information");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_part_tells_more),
        cmocka_unit_test(points_pay_for_what_they_share),
        cmocka_unit_test(an_unknown_order_is_refused),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
