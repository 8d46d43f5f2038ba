/* The plan: each training prefix once, identities that name what is computed and nothing else, costs that add up, 10^5
 * points quickly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <sys/resource.h>
#include <time.h>

#include "orchestrator/plan/pack.h"
#include "tests/orchestrator/plan_fixture.h"
#include "workers/model/model.h"

static void near(double value, double wanted)
{
    if (!(fabs(value - wanted) <= 1e-9 * fabs(wanted))) fail_msg("%.12g instead of %.12g", value, wanted);
}

static void a_trunk_is_trained_once(void **state)
{
    (void)state;
    struct sweep *sweep = sweep_make(&sweep_right);
    struct plan *plan = plan_make(sweep);
    size_t pretraining = 0;
    double flops = 0.0;
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        flops += stage->flops;
        if (stage->parent != PLAN_NONE) assert_true(stage->parent < i);
        if (stage->kind == STAGE_FINETUNE) {
            assert_int_equal(plan->stage_of_point[stage->point], i);
            assert_int_equal(plan->stages[stage->parent].kind, STAGE_PRETRAIN);
            assert_int_equal(plan->stages[stage->parent].model, stage->model);
            continue;
        }
        pretraining++;
        assert_int_equal(stage->first_step, stage->parent == PLAN_NONE ? 0 : plan->stages[stage->parent].last_step);
        assert_true(stage->last_step > stage->first_step);
    }
    assert_int_equal(pretraining, 2 * 3);
    assert_int_equal(plan->stage_count, pretraining + plan->point_count);
    near(plan->flops, flops);
    assert_true(plan->flops_alone > plan->flops);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void points_say_what_they_are(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "held_out = ( { method = \"prompt\"; model = \"m\"; } );";
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    size_t held_out = 0;
    for (size_t i = 0; i < plan->point_count; i++) {
        const struct store_point *point = &plan->points[i];
        const struct plan_stage *stage = &plan->stages[plan->stage_of_point[i]];
        const struct plan_stage *base = &plan->stages[stage->parent];
        assert_memory_equal(point->identity, stage->identity.hex, DIGEST_HEX);
        assert_memory_equal(point->base, base->identity.hex, DIGEST_HEX);
        /* whole steps of 64 tokens */
        assert_int_equal(point->pretrain_tokens, base->last_step * 64);
        bool tuned = strcmp(point->method, "none") != 0;
        assert_int_equal(point->finetune_examples > 0, tuned);
        assert_int_equal(point->trainable_parameters > 0, tuned);
        assert_int_equal(point->learning_rate > 0, tuned);
        assert_int_equal(point->parameters, model_parameters(&sweep->models[stage->model]));
        held_out += point->held_out;
    }
    assert_int_equal(held_out, 3 * 2 * 2);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

/* Stages of `b` that are also in `a`. */
static size_t common(const struct plan *a, const struct plan *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->stage_count; i++)
        for (size_t j = 0; j < a->stage_count; j++)
            n += !strcmp(a->stages[j].identity.hex, b->stages[i].identity.hex);
    return n;
}

/* Stages that a change of the text leaves as they were. */
enum points_kept { NO_POINT, UNTUNED, EVERY_POINT };
static void changed(const struct sweep_text *t, bool pretraining_kept, enum points_kept points_kept)
{
    struct sweep *a = sweep_make(&sweep_right), *b = sweep_make(t);
    struct plan *before = plan_make(a), *after = plan_make(b);
    size_t kept = common(before, after);
    size_t pretraining = before->stage_count - before->point_count;
    const size_t points[] = {0, 2 * 3, before->point_count};
    assert_int_equal(kept, (pretraining_kept ? pretraining : 0) + points[points_kept]);
    plan_destroy(before);
    plan_destroy(after);
    sweep_destroy(a);
    sweep_destroy(b);
}

static void what_is_computed_makes_the_identity(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    changed(&t, true, EVERY_POINT);
    /* names, throughput and safety knobs, spelling of "all" */
    t.head = "name = \"another\";";
    t.tail = "resources = { backend = \"cpu\"; threads = 2; tensor_parallel = 2; attempts = 1; }; fit = { huber_delta "
             "= 0.1; };";
    t.data = "data = { dataset = \"./small.h5\"; valid_examples = 10; test_examples = 15; };";
    changed(&t, true, EVERY_POINT);
    /* one more value on every axis adds points and moves none: also a token count in the middle of a trunk */
    t = sweep_right;
    t.finetune =
        "finetune = { examples = [ 20, 30, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
        "seeds = [ 1, 2, 3 ]; };";
    t.pretrain =
        "pretrain = { tokens = [ 1000, 2000, 3000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; };";
    changed(&t, true, EVERY_POINT);
    /* the recipe of finetuning */
    t = sweep_right;
    t.data = "data = { dataset = \"small.h5\"; valid_examples = 11; };";
    changed(&t, true, NO_POINT);
    /* the recipe of pretraining */
    t = sweep_right;
    t.pretrain =
        "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1.001e-3; };";
    changed(&t, false, NO_POINT);
    t.pretrain = "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; "
                 "seed = 2; };";
    changed(&t, false, NO_POINT);
    t.pretrain = "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; "
                 "label_smoothing = 0.1; };";
    changed(&t, false, NO_POINT);
    t.pretrain = "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; "
                 "dropout = 0.1; };";
    changed(&t, false, NO_POINT);
    t.pretrain = "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; "
                 "optimiser = \"adafactor\"; };";
    changed(&t, false, NO_POINT);
    /* the order of the examples, and when they are validated */
    t = sweep_right;
    t.finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                 "seeds = [ 1, 2 ]; order = \"stream\"; };";
    changed(&t, true, UNTUNED);
    t.finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                 "seeds = [ 1, 2 ]; evaluation_steps = 2; };";
    changed(&t, true, UNTUNED);
    t.finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                 "seeds = [ 1, 2 ]; order = \"shuffled\"; evaluation_steps = 0; };";
    changed(&t, true, EVERY_POINT);
    /* what matrix products compute in, of pretraining, finetuning and the untuned model's evaluation */
    t = sweep_right;
    t.head = "name = \"test\"; precision = \"bf16\";";
    changed(&t, false, NO_POINT);
    t.head = "name = \"test\"; precision = \"fp32\";";
    changed(&t, true, EVERY_POINT);
    /* keys that change nothing */
    t = sweep_right;
    t.pretrain = "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; "
                 "label_smoothing = 0.0; dropout = 0.0; optimiser = \"adamw\"; };";
    t.methods = "methods = ( { name = \"none\"; }, { name = \"full\"; learning_rates = [ 1e-3 ]; },\n"
                "            { name = \"lora\"; ranks = [ 2, 4 ]; rank_stabilised = false; lora_dropout = 0.0; modules "
                "= \"all\"; "
                "learning_rates = [ 1e-2, 1e-3 ]; },\n"
                "            { name = \"prompt\"; lengths = [ 4 ]; learning_rates = [ 0.3 ]; } );";
    changed(&t, true, EVERY_POINT);
}

/* Sizes whose training begins alike train the beginning once; the points are what they are without. */
/* Packs are of one base and task, no wider than is asked for and than memory and devices allow; each point that packs
 * is in one of them. */
static void packs_hold_every_point_once(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "resources = { backend = \"reference\"; pack = 4; };";
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    size_t possible = 0, widest = 0;
    for (size_t i = 0; i < plan->stage_count; i++)
        possible += pack_is_possible(plan, &plan->stages[i]);
    assert_true(possible > 0);
    for (int round = 0; round < 3; round++) { /* enough of all; memory for two; more devices than points */
        struct pack_list list;
        size_t devices = round == 2 ? 1000 : 1;
        if (round == 1) sweep->resources.device_bytes = 2 * plan_forecast(plan, 1).largest_bytes;
        unsigned char *seen = calloc(plan->stage_count, 1);
        double flops = 0, wanted = 0;
        assert_int_equal(pack_plan(plan, devices, &list), 0);
        assert_int_equal(list.first[list.count], possible);
        widest = 0;
        for (size_t k = 0; k < list.count; k++) {
            size_t width = list.first[k + 1] - list.first[k];
            const struct plan_stage *lead = &plan->stages[list.order[list.first[k]]];
            struct pack_cost cost = pack_cost(plan, &list, k);
            assert_true(width >= 1 && width <= 4);
            widest = width > widest ? width : widest;
            if (round == 1) assert_true(width == 1 || cost.bytes <= (double)sweep->resources.device_bytes);
            flops += cost.flops;
            for (size_t i = list.first[k]; i < list.first[k + 1]; i++) {
                const struct plan_stage *stage = &plan->stages[list.order[i]];
                assert_int_equal(pack_compare_groups(plan, lead, stage), 0);
                assert_memory_equal(plan->points[lead->point].base, plan->points[stage->point].base, DIGEST_HEX);
                assert_int_equal(seen[list.order[i]]++, 0);
                wanted += stage->flops;
            }
        }
        near(flops, wanted);
        if (round != 1) assert_int_equal(widest, round == 0 ? 4 : 1);
        pack_list_free(&list);
        free(seen);
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
}

/* Gradual unfreezing trains more and more of the model: what points share and what each ends with cost together what a
 * point alone would. */
static void parts_of_unfreezing_cost_the_whole(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.finetune =
        "finetune = { examples = [ 18, 21, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
        "seeds = [ 1 ]; schedule = \"constant\"; order = \"stream\"; evaluation_steps = 2; share = true; };";
    t.methods = "methods = ( { name = \"unfreeze\"; thaw_steps = 3; learning_rates = [ 1e-3 ]; } );";
    struct sweep *shared_sweep = sweep_make(&t);
    char *alone_text = strdup(t.finetune), *word = strstr(alone_text, "share = true");
    memcpy(word, "share=false ", strlen("share = true"));
    t.finetune = alone_text;
    struct sweep *alone_sweep = sweep_make(&t);
    struct plan *shared = plan_make(shared_sweep), *alone = plan_make(alone_sweep);
    size_t with_prefix = 0;
    for (size_t i = 0; i < shared->point_count; i++) {
        uint32_t at = shared->stage_of_point[i];
        double flops = 0;
        with_prefix += shared->stages[at].first_step > 0;
        for (; at != PLAN_NONE && shared->stages[at].kind != STAGE_PRETRAIN; at = shared->stages[at].parent)
            flops += shared->stages[at].flops;
        near(flops, alone->stages[alone->stage_of_point[i]].flops);
    }
    assert_true(with_prefix > 0);
    plan_destroy(shared);
    plan_destroy(alone);
    sweep_destroy(shared_sweep);
    sweep_destroy(alone_sweep);
    free(alone_text);
}

static void finetuning_sizes_share_their_beginning(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; ffn = 16; } );";
    t.pretrain = "pretrain = { tokens = [ 1000, 2000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; };";
    t.methods = "methods = ( { name = \"none\"; }, { name = \"full\"; learning_rates = [ 1e-3, 2e-3 ]; },\n"
                "            { name = \"prompt\"; lengths = [ 4 ]; learning_rates = [ 0.3 ]; share = false; } );";
    t.finetune =
        "finetune = { examples = [ 2, 18, 21, 40 ]; sequence_length = 32; batch = 4; epochs = 1.5; seeds = [ 1, 2 "
        "]; schedule = \"constant\"; order = \"stream\"; evaluation_steps = 2; share = true; };";
    struct sweep *shared_sweep = sweep_make(&t);
    t.finetune =
        "finetune = { examples = [ 2, 18, 21, 40 ]; sequence_length = 32; batch = 4; epochs = 1.5; seeds = [ 1, 2 "
        "]; schedule = \"constant\"; order = \"stream\"; evaluation_steps = 2; };";
    struct sweep *alone_sweep = sweep_make(&t);
    struct plan *shared = plan_make(shared_sweep), *alone = plan_make(alone_sweep);
    /* 2 examples are half a batch; 18 leave after 4 whole batches of the first pass, 21 after 5, 40 share with nobody
     */
    size_t prefixes = 0;
    double flops = 0.0;
    for (size_t i = 0; i < shared->stage_count; i++) {
        const struct plan_stage *stage = &shared->stages[i];
        flops += stage->flops;
        if (stage->parent != PLAN_NONE) assert_true(stage->parent < i);
        if (stage->kind != STAGE_PREFIX) continue;
        const struct plan_stage *parent = &shared->stages[stage->parent];
        prefixes++;
        assert_int_equal(stage->point, PLAN_NONE);
        assert_int_equal(shared_sweep->methods[stage->method].config.kind, METHOD_FULL);
        assert_int_equal(stage->first_step, parent->kind == STAGE_PREFIX ? parent->last_step : 0);
        assert_int_equal(stage->last_step, parent->kind == STAGE_PREFIX ? 5 : 4);
        assert_int_equal(shared->stages[plan_base(shared, (uint32_t)i)].kind, STAGE_PRETRAIN);
    }
    assert_int_equal(prefixes, 2 * 2 * 2 * 2); /* token counts, rates, seeds, places where points leave */
    near(shared->flops, flops);
    assert_int_equal(shared->point_count, alone->point_count);
    assert_int_equal(shared->stage_count, alone->stage_count + prefixes);
    assert_memory_equal(shared->points, alone->points, alone->point_count * sizeof *alone->points);
    near(shared->flops_alone, alone->flops_alone);
    for (size_t i = 0; i < alone->point_count; i++) {
        const struct plan_stage *a = &alone->stages[alone->stage_of_point[i]];
        const struct plan_stage *b = &shared->stages[shared->stage_of_point[i]];
        const uint64_t shares[] = {0, 4, 5, 5}; /* of 1, 7, 8 and 15 steps */
        bool full = alone_sweep->methods[a->method].config.kind == METHOD_FULL;
        assert_int_equal(b->first_step, full ? shares[a->examples] : 0);
        assert_int_equal(b->last_step, a->last_step);
        struct stage *x = malloc(sizeof *x), *y = malloc(sizeof *y);
        plan_stage_describe(alone, alone->stage_of_point[i], "/run", 1, x);
        plan_stage_describe(shared, shared->stage_of_point[i], "/run", 1, y);
        assert_string_equal(x->identity.hex, y->identity.hex);
        assert_string_equal(x->parent.hex, y->parent.hex);
        assert_string_equal(y->prefix.hex, b->first_step ? shared->stages[b->parent].identity.hex : "");
        assert_true(x->flops == y->flops); /* the row's: of the whole point, to the bit */
        free(x);
        free(y);
    }
    assert_true(shared->flops < alone->flops);
    plan_destroy(shared);
    plan_destroy(alone);
    sweep_destroy(shared_sweep);
    sweep_destroy(alone_sweep);
}

static void token_counts_that_no_point_needs_are_passed_over(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "exclude = ( { model = \"s\"; pretrain_tokens = [ 1000, 4000 ]; } );";
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    size_t small = 0;
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        if (stage->kind != STAGE_PRETRAIN || stage->model != 0) continue;
        small++;
        assert_int_equal(stage->parent, PLAN_NONE);
        assert_int_equal(stage->first_step, 0);
        assert_int_equal(stage->last_step, 32);
    }
    assert_int_equal(small, 1);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void paths_are_the_longest_chains(void **state)
{
    (void)state;
    struct sweep *sweep = sweep_make(&sweep_right);
    struct plan *plan = plan_make(sweep);
    for (size_t i = 0; i < plan->stage_count; i++) {
        double longest = 0.0;
        for (size_t j = i + 1; j < plan->stage_count; j++)
            if (plan->stages[j].parent == i && plan->stages[j].path_seconds > longest)
                longest = plan->stages[j].path_seconds;
        near(plan->stages[i].path_seconds, plan->stages[i].seconds + longest);
    }
    struct plan_forecast one = plan_forecast(plan, 1), many = plan_forecast(plan, 1000);
    near(one.seconds, one.device_seconds);
    near(many.seconds, many.longest_seconds);
    assert_true(many.seconds < one.seconds);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void stages_are_described_whole(void **state)
{
    (void)state;
    struct sweep *sweep = sweep_make(&sweep_right);
    struct plan *plan = plan_make(sweep);
    struct stage *stage = malloc(sizeof *stage), *back = malloc(sizeof *back);
    for (size_t i = 0; i < plan->stage_count; i++) {
        struct error err = {""};
        plan_stage_describe(plan, i, "/tmp/run", 2, stage);
        char *text = stage_encode(stage);
        assert_non_null(text);
        if (stage_decode(text, strlen(text), back, &err)) fail_msg("%s", err.text);
        assert_string_equal(back->identity.hex, plan->stages[i].identity.hex);
        assert_string_equal(back->dataset, sweep->tasks[0].dataset);
        assert_int_equal(back->attempt, 2);
        if (stage->kind == STAGE_FINETUNE) {
            assert_string_equal(back->base.hex, plan->stages[plan->stages[i].parent].identity.hex);
            assert_int_equal(back->recipe.steps, back->last_step);
            assert_int_equal(back->recipe.steps > 0, back->method.kind != METHOD_NONE);
            assert_true(back->recipe.evaluations <= back->recipe.steps);
        } else {
            assert_int_equal(back->method.kind, METHOD_FULL);
        }
        free(text);
    }
    free(stage);
    free(back);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static void json_holds_every_stage_and_point(void **state)
{
    (void)state;
    struct sweep *sweep = sweep_make(&sweep_right);
    struct plan *plan = plan_make(sweep);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_int_equal(plan_print_json(plan, 2, out), 0);
    fclose(out);
    json_error_t error;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!json) fail_msg("line %d: %s", error.line, error.text);
    assert_int_equal(json_array_size(json_object_get(json, "points")), plan->point_count);
    assert_int_equal(json_array_size(json_object_get(json, "stages")), plan->stage_count);
    near(json_real_value(json_object_get(json, "flops")), plan->flops);
    json_decref(json);
    free(text);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

/* Not reachable from a file, where equal values are refused; the store would have two rows of one name. */
static void equal_points_are_refused(void **state)
{
    (void)state;
    struct error err = {""};
    struct sweep *sweep = sweep_make(&sweep_right);
    sweep->seeds[1] = sweep->seeds[0];
    assert_null(plan_create(sweep, 1e9, &err));
    assert_non_null(
        strstr(err.text, "two points are the same: (s, 1024 tokens, full, size 0, learning rate 0.001, 20 examples"));
    sweep_destroy(sweep);
}

/* 2 models, 3 token counts, 2 examples, 8 ranks, 10 rates, 105 seeds: 100,800 points. */
static void a_hundred_thousand_points_are_planned_quickly(void **state)
{
    (void)state;
    static char finetune[4096];
    char *at = finetune + sprintf(finetune, "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; "
                                            "epochs = 2.0; seeds = [ 0");
    for (int i = 1; i < 105; i++)
        at += sprintf(at, ", %d", i);
    sprintf(at, " ]; };");
    struct sweep_text t = sweep_right;
    t.finetune = finetune;
    t.methods =
        "methods = ( { name = \"lora\"; ranks = [ 1, 2, 3, 4, 5, 6, 7, 8 ]; learning_rates = [ 1e-2, 2e-2, 3e-2, 4e-2, "
        "5e-2, 6e-2, 7e-2, 8e-2, 9e-2, 1e-1 ]; } );";
    struct timespec start, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    struct sweep *sweep = sweep_make(&t);
    struct plan *plan = plan_make(sweep);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    double seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    assert_int_equal(plan->point_count, 100800);
    print_message("%.2f s, %ld MiB\n", seconds, usage.ru_maxrss / 1024);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(seconds < 2.0);
    assert_true(usage.ru_maxrss < 1024 * 1024);
#endif
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The digest of a plan's identities, in no order. */
static struct digest identities_of(const struct sweep_text *t)
{
    struct sweep *sweep = sweep_make(t);
    assert_int_equal(sweep->tasks[0].data.vocabulary, 400);
    strcpy(sweep->tasks[0].data.digest.hex, "02c3d1b80d109bb62e3b887a071d7c6a"); /* whatever the tokenizer's version */
    struct plan *plan = plan_make(sweep);
    size_t size = sizeof plan->stages->identity.hex;
    char *all = calloc(plan->stage_count, size);
    assert_non_null(all);
    for (size_t i = 0; i < plan->stage_count; i++)
        strcpy(all + i * size, plan->stages[i].identity.hex);
    qsort(all, plan->stage_count, size, by_text);
    struct digest digest = digest_of(all, plan->stage_count * size);
    free(all);
    plan_destroy(plan);
    sweep_destroy(sweep);
    return digest;
}

/* Identities of stores that are there already. Whoever has to change a number here makes every finished point of such a
 * sweep run again: what is new belongs into an identity's text where it is used alone. */
static void identities_stay_what_they_were(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.data = "data = { dataset = \"small.h5\"; valid_examples = 10; test_examples = 12; };";
    assert_string_equal(identities_of(&t).hex, "619e2eb8b2eb0fde6d0d00d3dce1e14d");
    t.pretrain = "pretrain = { tokens = [ 1000, 2000, 4000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; "
                 "optimiser = \"adafactor\"; schedule = \"inverse_sqrt\"; warmup_steps = 3; };";
    t.finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                 "seeds = [ 1, 2 ]; optimiser = \"sgd\"; momentum = 0.5; schedule = \"wsd\"; decay_share = 0.2; "
                 "label_smoothing = 0.1; weight_decay = 0.01; patience = 2; evaluations = 3; };";
    assert_string_equal(identities_of(&t).hex, "fcdfd572ab5aee1288ffaf03ed7a1d74");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trunk_is_trained_once),
        cmocka_unit_test(points_say_what_they_are),
        cmocka_unit_test(what_is_computed_makes_the_identity),
        cmocka_unit_test(token_counts_that_no_point_needs_are_passed_over),
        cmocka_unit_test(finetuning_sizes_share_their_beginning),
        cmocka_unit_test(packs_hold_every_point_once),
        cmocka_unit_test(parts_of_unfreezing_cost_the_whole),
        cmocka_unit_test(paths_are_the_longest_chains),
        cmocka_unit_test(stages_are_described_whole),
        cmocka_unit_test(json_holds_every_stage_and_point),
        cmocka_unit_test(equal_points_are_refused),
        cmocka_unit_test(a_hundred_thousand_points_are_planned_quickly),
        cmocka_unit_test(identities_stay_what_they_were),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
