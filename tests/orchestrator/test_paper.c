/* configs/paper.cfg is the grid of the paper (Zhang et al. 2024, tables 1 and 2 and section 3), cell for cell, and is
 * planned where neither its data nor its bases are; configs/paper-pretrain.cfg makes each base that it needs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "orchestrator/plan/plan.h"

enum { SEEDS = 3 };

/* One row of the paper's table: how many values each axis has for a task and method, and the bold (held out) ones. */
struct part {
    const char *task, *method, *prefix; /* prefix: of the models' names */
    size_t models, tokens, sizes, examples;
    uint64_t held_tokens, held_size, held_examples, centre_tokens, centre_size;
};

static const struct part parts[] = {
    {"en-de", "full", "de", 5, 5, 1, 10, 209000000000, 0, 4500000, 283000000000, 0},
    {"en-de", "prompt", "de", 5, 5, 7, 11, 209000000000, 600, 100000, 283000000000, 100},
    {"en-de", "lora", "de", 5, 5, 7, 11, 209000000000, 128, 100000, 283000000000, 4},
    {"en-zh", "full", "zh", 5, 6, 1, 9, 167000000000, 0, 25000000, 206000000000, 0},
    {"en-zh", "prompt", "zh", 5, 6, 7, 11, 167000000000, 600, 100000, 206000000000, 100},
    {"en-zh", "lora", "zh", 5, 6, 7, 11, 167000000000, 128, 100000, 206000000000, 4},
    {"mlsum", "full", "de", 5, 5, 1, 9, 209000000000, 0, 900000, 283000000000, 0},
    {"mlsum", "prompt", "de", 5, 5, 7, 11, 209000000000, 600, 100000, 283000000000, 100},
    {"mlsum", "lora", "de", 5, 5, 7, 11, 209000000000, 128, 100000, 283000000000, 4},
};
enum { PARTS = sizeof parts / sizeof *parts };

static struct plan *plan_of(const char *name, struct sweep **sweep)
{
    struct error err = {""};
    char path[512];
    snprintf(path, sizeof path, "%s/../configs/%s", TEST_SOURCE_DIR, name);
    *sweep = sweep_load(path, &err);
    struct plan *plan = *sweep ? plan_create(*sweep, 3e14, &err) : NULL;
    if (!plan) fail_msg("%s", err.text);
    return plan;
}

static bool is(const char *field, const char *text)
{
    return !strncmp(field, text, STORE_NAME);
}

static bool at_centre_model(const struct store_point *point, const struct part *part)
{
    char name[STORE_NAME];
    snprintf(name, sizeof name, "%s-1b", part->prefix);
    return is(point->model, name);
}

/* Cells of a part on an axis: the other axes are at the corner of the L. */
struct cells {
    size_t model, tokens, size, all, held_out;
};

static struct cells count(const struct plan *plan, const struct part *part)
{
    struct cells cells = {0};
    for (size_t i = 0; i < plan->point_count; i++) {
        const struct store_point *point = &plan->points[i];
        if (!is(point->task, part->task) || !is(point->method, part->method)) continue;
        assert_memory_equal(point->model, part->prefix, 2);
        bool model = at_centre_model(point, part), tokens = point->pretrain_tokens == part->centre_tokens,
             size = point->pet_size == part->centre_size;
        cells.model += tokens && size;
        cells.tokens += model && size;
        cells.size += model && tokens;
        cells.all++;
        cells.held_out += point->held_out;
        char largest[STORE_NAME];
        snprintf(largest, sizeof largest, "%s-16b", part->prefix);
        bool bold = is(point->model, largest) || point->pretrain_tokens == part->held_tokens ||
                    (part->held_size && point->pet_size == part->held_size) ||
                    point->finetune_examples == part->held_examples;
        assert_int_equal(bold, point->held_out);
    }
    return cells;
}

static void every_axis_has_the_paper_s_cells(void **state)
{
    (void)state;
    struct sweep *sweep;
    struct plan *plan = plan_of("paper.cfg", &sweep);
    size_t all = 0;
    assert_int_equal(sweep->seed_count, SEEDS);
    for (size_t i = 0; i < PARTS; i++) {
        const struct part *part = &parts[i];
        struct cells cells = count(plan, part);
        size_t each = part->examples * SEEDS, pet = part->sizes > 1;
        assert_int_equal(cells.model, part->models * each);
        assert_int_equal(cells.tokens, part->tokens * each);
        assert_int_equal(cells.size, part->sizes * each);
        size_t arms = part->models + part->tokens + part->sizes - 2; /* the corner is on all three */
        assert_int_equal(cells.all, arms * each);
        size_t fitted = (arms - 2 - pet) * (part->examples - 1) * SEEDS;
        assert_int_equal(cells.held_out, cells.all - fitted);
        all += cells.all;
    }
    assert_int_equal(all, plan->point_count);
    assert_int_equal(plan->point_count, 1273 * SEEDS);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void training_is_as_long_as_the_paper_s(void **state)
{
    (void)state;
    struct sweep *sweep;
    struct plan *plan = plan_of("paper.cfg", &sweep);
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        const struct store_point *point = &plan->points[stage->point];
        bool full = is(point->method, "full");
        uint64_t most = full && is(point->task, "en-zh") ? 300000 : 200000;
        uint64_t epochs = (100 * point->finetune_examples + (full ? 127 : 15)) / (full ? 128 : 16);
        assert_int_equal(stage->last_step, epochs < most ? epochs : most);
        assert_true(point->learning_rate == (full ? 1e-3 : is(point->method, "lora") ? 1e-2 : 0.3));
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
}

/* FLOPs of full tuning of the 1B model on 100,000 examples of En-De, from the paper's shape and the file's means. */
static void flops_are_those_counted_by_hand(void **state)
{
    (void)state;
    struct sweep *sweep;
    struct plan *plan = plan_of("paper.cfg", &sweep);
    const double width = 2048, layers = 16, ffn = 8192, keys = 256, vocabulary = 256000;
    double layer = 2 * width * width + 2 * width * keys + 3 * width * ffn; /* q, o; k, v of one head; the gated MLP */
    double examples = 78125.0 * 128, tokens = examples * 58, targets = examples * 29; /* the last token is a label */
    double attention = layers * 4 * width * (58 + 1) / 2; /* scores and sums over the mean causal context, a token */
    double wanted = 3 * (2 * layers * layer + attention) * tokens + 6 * vocabulary * width * targets;
    size_t found = 0;
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        const struct store_point *point = &plan->points[stage->point];
        if (!is(point->model, "de-1b") || !is(point->method, "full") || !is(point->task, "en-de") ||
            point->finetune_examples != 100000)
            continue;
        if (fabs(stage->flops / wanted - 1) > 0.001) fail_msg("%.6g FLOPs, by hand %.6g", stage->flops, wanted);
        found++;
    }
    assert_int_equal(found, 5 * SEEDS);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void pretraining_makes_every_base(void **state)
{
    (void)state;
    struct sweep *grid, *pretrain;
    struct plan *points = plan_of("paper.cfg", &grid), *bases = plan_of("paper-pretrain.cfg", &pretrain);
    for (size_t i = 0; i < grid->import_count; i++) {
        const struct model_config *model = &grid->models[grid->imports[i].model];
        size_t found = 0;
        for (size_t k = 0; k < bases->stage_count; k++) {
            const struct plan_stage *stage = &bases->stages[k];
            const struct model_config *trained = &pretrain->models[stage->model];
            uint64_t wished = sweep_pretrain_steps(&pretrain->pretrain, grid->imports[i].tokens);
            if (stage->kind != STAGE_PRETRAIN || strcmp(trained->name, model->name) || stage->last_step != wished)
                continue;
            char a[MODEL_TEXT], b[MODEL_TEXT];
            model_text(model, a, sizeof a);
            model_text(trained, b, sizeof b);
            assert_string_equal(a, b);
            found++;
        }
        assert_int_equal(found, 1);
    }
    assert_int_equal(bases->point_count, grid->import_count); /* and no other */
    plan_destroy(points);
    plan_destroy(bases);
    sweep_destroy(grid);
    sweep_destroy(pretrain);
}

static void what_is_only_declared_is_not_run(void **state)
{
    (void)state;
    struct error err = {""};
    struct sweep *sweep;
    struct plan *plan = plan_of("paper.cfg", &sweep);
    assert_int_equal(sweep_check_complete(sweep, &err), -1);
    assert_non_null(strstr(err.text, "configs/paper.cfg:15: data[0].dataset: "));
    assert_non_null(strstr(err.text, "the data set is declared and not there: the sweep can be planned, not run"));
    plan_destroy(plan);
    sweep_destroy(sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_axis_has_the_paper_s_cells), cmocka_unit_test(training_is_as_long_as_the_paper_s),
        cmocka_unit_test(flops_are_those_counted_by_hand),  cmocka_unit_test(pretraining_makes_every_base),
        cmocka_unit_test(what_is_only_declared_is_not_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
