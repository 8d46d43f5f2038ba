/* A sweep file that is wrong is refused before anything runs, with the line and what is allowed; one that is right
 * means what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/plan/plan.h"

#include "tests/orchestrator/sweep_fixture.h"

static void values_arrive(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.finetune =
        "finetune = { examples = [ 40, 20 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; };";
    t.methods = "methods = ( { name = \"lora\"; ranks = [ 4, 2 ]; learning_rates = [ 1e-2 ]; batch = 8; max_steps = 0; "
                "schedule = \"constant\"; } );";
    struct sweep *sweep = sweep_make(&t);
    assert_string_equal(sweep->name, "test");
    assert_string_equal(sweep->tasks[0].name, "translation");
    assert_string_equal(sweep->tasks[0].dataset, temporary_path("small.h5"));
    assert_int_equal(sweep->model_count, 2);
    assert_int_equal(sweep->models[0].head_width, 4);
    assert_int_equal(sweep->models[1].kv_heads, 2);
    assert_int_equal(sweep->models[1].vocabulary, sweep->tasks[0].data.vocabulary);
    assert_true(sweep->models[0].tied);
    assert_int_equal(sweep->examples[0], 20); /* ascending, whatever the order in the file */
    assert_int_equal(sweep->seed_count, 1);
    const struct sweep_method *lora = &sweep->methods[0];
    assert_int_equal(lora->sizes[0], 2);
    assert_int_equal(lora->recipe.batch, 8);
    assert_int_equal(lora->recipe.schedule, SCHEDULE_CONSTANT);
    assert_int_equal(sweep_finetune_steps(lora, 40), 10); /* ceil(2 * 40 / 8) */
    assert_int_equal(sweep_finetune_steps(lora, 41), 11);
    /* cosine by default, to the largest token count */
    assert_int_equal(sweep->pretrain.decay_steps, 63);
    assert_int_equal(sweep_pretrain_steps(&sweep->pretrain, 1000), 16);
    assert_int_equal(sweep_pretrain_steps(&sweep->pretrain, 1024), 16);
    assert_int_equal(sweep_pretrain_steps(&sweep->pretrain, 1025), 17);
    assert_non_null(strstr(sweep->parameters, "methods[0].max_steps = 0\n"));
    assert_non_null(strstr(sweep->parameters, "pretrain.beta1 = 0.9  # default\n"));
    assert_string_equal(sweep->resources.backend, "reference");
    sweep_destroy(sweep);
}

static void the_same_text_gives_the_same_sweep(void **state)
{
    (void)state;
    struct sweep *a = sweep_make(&sweep_right), *b = sweep_make(&sweep_right);
    assert_string_equal(a->parameters, b->parameters);
    assert_int_equal(a->text_size, b->text_size);
    sweep_destroy(a);
    sweep_destroy(b);
}

static void max_steps_bounds_epochs(void **state)
{
    (void)state;
    struct sweep *sweep = sweep_make(&sweep_right);
    assert_int_equal(sweep_finetune_steps(&sweep->methods[1], 20), 10);
    assert_int_equal(sweep_finetune_steps(&sweep->methods[1], 40), 15);
    assert_int_equal(sweep_finetune_steps(&sweep->methods[0], 40), 0);
    sweep_destroy(sweep);
}

static void mistakes_in_data(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.head = "name = \"test\"; nmae = 3;";
    sweep_refused(&t, ":1: nmae: unknown key, did you mean name?; allowed: name, data, models, pretrain, finetune, "
                      "methods, exclude, held_out, only, zip, one_at_a_time, precision, resources, fit");
    t.head = "name = \"test\"; precision = \"fp16\";";
    sweep_refused(&t, ":1: precision: \"fp16\" is unknown, did you mean fp32?; allowed: fp32, bf16, bf16x3");
    t.head = "name = \"test\"; precision = \"bf16x3\";";
    t.tail = "";
    sweep_refused(&t, ":1: precision: bf16x3 goes with resources.backend = \"cpu\" or \"reference\", not \"auto\"");
    t.head = "name = \"test\";";
    t.tail = "resources = { devices = 2;\n tensor_parallel = 3; };";
    sweep_refused(&t, ":11: resources.tensor_parallel: stages of 3 devices do not fit hosts of devices = 2");
    t.tail = "resources = { backend = \"cpu\"; devices = 3; tensor_parallel = 3; };";
    sweep_destroy(sweep_make(&t));
    t = sweep_right;
    t.data = NULL;
    sweep_refused(&t, ": group \"data\" is missing: data = { ... };");
    t.data = "data = { dataset = \"small.h5\"; valid_examples = 16; };";
    sweep_refused(&t, ":2: data.valid_examples: 16 examples, more than the data set has; allowed: 0 (all) .. 15");
    t.data = "data = { dataset = \"/nonexistent/a.h5\"; };";
    sweep_refused(&t,
                  ":2: data.dataset: /nonexistent/a.h5: No such file or directory; `tunelaw data --help` says how a "
                  "data set is made");
}

static void mistakes_in_models(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.models = "models = ();";
    sweep_refused(&t, ":3: models: an empty list; allowed: at least one group ( { ... } )");
    t.models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; ffn = 16; }, \n"
               "{ name = \"s\"; layers = 2; width = 8; heads = 2; ffn = 16; } );";
    sweep_refused(&t, ":4: models[1].name: \"s\" is the name of models[0], too");
    t.models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; ffn = 16; }, \n"
               "{ name = \"t\"; layers = 1; width = 8; heads = 2; ffn = 16; } );";
    sweep_refused(&t, ":4: models[1]: the same shape as models[0] \"s\"");
    t.models = "models = ( { name = \"s\"; layers = 1; width = 9; heads = 2; ffn = 16; } );";
    sweep_refused(&t,
                  ":3: models[0].heads: heads 2 does not divide width 9; give head_width, or a divisor of the width");
    t.models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 4; kv_heads = 3; ffn = 16; } );";
    sweep_refused(&t, ":3: models[0].kv_heads: kv_heads 3 does not divide heads 4; allowed: a divisor of heads (1: "
                      "multi-query, heads: one key/value head a query head)");
    t.models = "models = ( { name = \"s\"; layers = 1; width = 6; heads = 2; ffn = 16; } );";
    sweep_refused(&t, ":3: models[0]: head_width 3 is odd, rotary positions turn pairs; allowed: even numbers");
}

static void mistakes_in_axes_of_data(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.finetune = "finetune = { examples = [ 20,\n 121 ]; sequence_length = 32; batch = 4; epochs = 2.0; };";
    sweep_refused(&t, ":7: finetune.examples[1]: 121 examples, more than the data set has; allowed: 1..120");
    t.finetune = "finetune = { examples = [ ]; sequence_length = 32; batch = 4; epochs = 2.0; };";
    sweep_refused(&t, ":6: finetune.examples: an empty list; allowed: at least one value");
    t.finetune = "finetune = { examples = [ 20 ]; sequence_length = 32; batch = 4; };";
    sweep_refused(&t, ":7: methods[1]: no length of training: give epochs, max_steps, or both, in finetune or here");
    t.finetune = "finetune = { examples = [ 20 ]; sequence_length = 32; batch = 4; epochs = 2.0; warmup_steps = 10; };";
    sweep_refused(&t, ":7: methods[1].warmup_steps: warmup_steps 10 (of finetune) is not below the 10 steps that 20 "
                      "examples make; allowed: 0..9");
    t = sweep_right;
    t.pretrain = "pretrain = { tokens = [ 1000, 1010 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; };";
    sweep_refused(&t, ":5: pretrain.tokens: 1000 and 1010 tokens end at the same step: a step has 64 tokens (batch * "
                      "sequence_length)");
    t.pretrain =
        "pretrain = { tokens = [ 1000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; warmup_steps = "
        "16; schedule = \"constant\"; };";
    sweep_refused(&t, ":5: pretrain.warmup_steps: 16 is not below the 16 steps of pretraining");
    t.pretrain = "pretrain = { tokens = [ 1000 ]; sequence_length = 16; batch = 4; learning_rate = 1e-3; "
                 "decay_tokens = 5000; schedule = \"constant\"; };";
    sweep_refused(
        &t, ":5: pretrain.decay_tokens: the schedule \"constant\" has no end; allowed with linear, cosine and wsd");
}

/* What is generated is no part of what a point is. */
static void texts_arrive(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    struct sweep *none = sweep_make(&t);
    assert_int_equal(none->generate.max_new_tokens, 0);
    t.finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                 "seeds = [ 1, 2 ]; generate = { }; };";
    struct sweep *defaults = sweep_make(&t);
    assert_int_equal(defaults->generate.beams, 1);
    assert_int_equal(defaults->generate.max_new_tokens, 128);
    assert_int_equal(defaults->generate.metrics, 3);
    t.finetune = "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; max_steps = 15; "
                 "seeds = [ 1, 2 ];\n generate = { metrics = [ \"rougeL\", \"bleu\" ]; beams = 4; max_new_tokens = 9; "
                 "length_penalty = 0.6; examples = 3; save = true; }; };";
    struct sweep *all = sweep_make(&t);
    const struct generation_config *g = &all->generate;
    assert_true(g->metrics == 17 && g->beams == 4 && g->max_new_tokens == 9 && g->length_penalty == 0.6 &&
                g->examples == 3 && g->save);
    struct error err = {""};
    struct plan *with = plan_create(all, 1e9, &err), *without = plan_create(none, 1e9, &err);
    assert_non_null(with);
    assert_string_equal(with->identity.hex, without->identity.hex);
    assert_true(with->stages[with->stage_count - 1].bytes > without->stages[without->stage_count - 1].bytes);
    assert_true(with->stages[with->stage_count - 1].seconds > without->stages[without->stage_count - 1].seconds);
    assert_int_equal(with->stages[0].bytes, without->stages[0].bytes); /* pretraining writes nothing */
    plan_destroy(with);
    plan_destroy(without);
    sweep_destroy(none);
    sweep_destroy(defaults);
    sweep_destroy(all);
}

static void mistakes_in_texts(void **state)
{
    (void)state;
    char finetune[512];
    static const char *const cases[][2] = {
        {"metrics = [ \"meteor\" ];", "metrics[0]: no metric \"meteor\"; allowed: bleu, chrf, rouge1, rouge2, rougeL"},
        {"beams = 65;", "beams: 65 is out of range; allowed: 1..64"},
        {"length_penalty = 2.0;", "length_penalty: search is greedy; allowed with 2 beams and more"},
        {"examples = 16;", "examples: 16 examples, more than the test has; allowed: 0 (all) .. 15"},
        {"bems = 2;", "bems: unknown key, did you mean beams?; allowed: metrics, beams, max_new_tokens, "
                      "length_penalty, examples, save"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sweep_text t = sweep_right;
        struct error err = {""};
        static char text[1 << 16];
        snprintf(finetune, sizeof finetune,
                 "finetune = { examples = [ 20 ]; sequence_length = 32; batch = 4; epochs = 2.0; generate = { %s }; };",
                 cases[i][0]);
        t.finetune = finetune;
        sweep_write(&t, text, sizeof text);
        struct sweep *sweep = sweep_parse(temporary_path("a.cfg"), text, strlen(text), &err);
        if (sweep || !strstr(err.text, "finetune.generate.") || !strstr(err.text, cases[i][1]))
            fail_msg("%s gives: %s", cases[i][0], err.text);
    }
}

static void mistakes_in_methods(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.methods = "methods = ( { name = \"lora\"; ranks = [ 2,\n 12 ]; learning_rates = [ 1e-2 ]; } );";
    sweep_refused(&t, ":8: methods[0].ranks[1]: rank 12 is above the width 8 of model \"s\"; allowed: 1..8");
    t.methods = "methods = ( { name = \"lora\"; rank = 2; learning_rates = [ 1e-2 ]; } );";
    sweep_refused(
        &t,
        ":7: methods[0].rank: unknown key, did you mean ranks?; allowed: name, tasks, ranks, lengths, widths, alpha, "
        "rank_stabilised, modules, lora_dropout, placement, thaw_layers, thaw_steps, text, start, learning_rates, "
        "rates, "
        "reference, examples, "
        "sequence_length, batch, epochs, "
        "max_steps, evaluations, "
        "evaluation_steps, patience, order, share, optimiser, momentum, "
        "parameter_scale, schedule, final_ratio, decay_share, warmup_steps, dropout, label_smoothing, "
        "weight_decay, clip_norm, beta1, beta2, epsilon");
    t.methods = "methods = ( { name = \"full\"; ranks = [ 2 ]; learning_rates = [ 1e-2 ]; } );";
    sweep_refused(
        &t, ":7: methods[0].ranks: unknown key, did you mean tasks?; allowed: name, tasks, learning_rates, "
            "rates, reference, "
            "examples, sequence_length, "
            "batch, epochs, max_steps, "
            "evaluations, evaluation_steps, patience, order, share, optimiser, momentum, parameter_scale, schedule, "
            "final_ratio, decay_share, "
            "warmup_steps, dropout, label_smoothing, weight_decay, "
            "clip_norm, beta1, "
            "beta2, epsilon");
    t.methods = "methods = ( { name = \"full\"; learning_rates = [ 1e-2 ];\n decay_share = 0.2; } );";
    sweep_refused(&t, ":8: methods[0].decay_share: the schedule is \"cosine\"; allowed with wsd");
    t.methods =
        "methods = ( { name = \"full\"; learning_rates = [ 1e-2 ]; evaluations = 2;\n evaluation_steps = 4; } );";
    sweep_refused(&t, ":8: methods[0].evaluation_steps: evaluations are given, too; allowed: one of the two");
    t.methods = "methods = ( { name = \"full\"; learning_rates = [ 1e-2 ];\n order = \"sorted\"; } );";
    sweep_refused(&t, ":8: methods[0].order: \"sorted\" is unknown; allowed: shuffled, stream");
    static const struct {
        const char *recipe, *wanted;
    } shares[] = {
        {"", "the order of examples is each size's own; allowed with order = \"stream\""},
        {"order = \"stream\";",
         "the schedule \"cosine\" falls from the start towards each point's own end; allowed with "
         "constant, inverse_sqrt and wsd"},
        {"order = \"stream\"; schedule = \"wsd\";",
         "validations are spread over each point's own steps; allowed with evaluation_steps"},
        {"order = \"stream\"; schedule = \"wsd\"; evaluation_steps = 2; patience = 1;",
         "patience may end a point before the others; allowed with patience = 0"},
    };
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        char methods[512], wanted[512];
        snprintf(methods, sizeof methods,
                 "methods = ( { name = \"full\"; learning_rates = [ 1e-2 ]; %s\n share = true; } );", shares[i].recipe);
        snprintf(wanted, sizeof wanted, ":8: methods[0].share: %s", shares[i].wanted);
        t.methods = methods;
        sweep_refused(&t, wanted);
    }
    t.methods = "methods = ( { name = \"full\"; learning_rates = [ 1e-2 ];\n label_smoothing = 1.0; } );";
    sweep_refused(&t, ":8: methods[0].label_smoothing: 1 is out of range; allowed: at least 0, at most 0.999999");
    t.methods = "methods = ( { name = \"lora\"; ranks = [ 2 ]; learning_rates = [ 1e-2 ];\n lora_dropout = 1.0; } );";
    sweep_refused(&t, ":8: methods[0].lora_dropout: 1 is out of range; allowed: at least 0, at most 0.999999");
    t.methods = "methods = ( { name = \"full\"; learning_rates = [ 1e-2 ];\n optimiser = \"adam\"; } );";
    sweep_refused(&t,
                  ":8: methods[0].optimiser: \"adam\" is unknown, did you mean adamw?; allowed: adamw, adafactor, sgd");
    t.methods =
        "methods = ( { name = \"full\"; learning_rates = [ 1e-2 ]; optimiser = \"adafactor\";\n beta2 = 0.9; } );";
    sweep_refused(&t, ":8: methods[0].beta2: the optimiser is \"adafactor\"; allowed with adamw");
    t.methods = "methods = ( { name = \"full\"; learning_rates = [ 1e-2 ];\n momentum = 0.9; } );";
    sweep_refused(&t, ":8: methods[0].momentum: the optimiser is \"adamw\"; allowed with sgd");
    t.methods = "methods = ( { name = \"full\"; } );";
    sweep_refused(&t, ":7: methods[0]: key \"learning_rates\" is missing");
    t.methods = "methods = ( { name = \"ful\"; learning_rates = [ 1e-2 ]; } );";
    sweep_refused(&t, ":7: methods[0].name: \"ful\" is unknown, did you mean full?; allowed: none, full, lora, prompt, "
                      "prefix, ia3, bitfit, adapter, unfreeze");
    t.methods = "methods = ( { name = \"lora\"; ranks = [ 2 ]; modules = [ \"q_proj\",\n \"query_key_value\" ]; "
                "learning_rates = [ 1e-2 ]; } );";
    sweep_refused(&t, ":8: methods[0].modules[1]: \"query_key_value\" is no matrix of a layer of any model here; "
                      "allowed: attention, mlp, all, or names such as q_proj");
    t.methods = "methods = ( { name = \"prompt\"; lengths = [ 4 ]; learning_rates = [ 0.3 ];\n text = \"\\xff\"; } );";
    sweep_refused(&t, ":8: methods[0].text: the text is not UTF-8");
    t.methods = "methods = ( { name = \"prompt\"; start = \"x\"; learning_rates = [ 0.3 ];\n text = \"a b\"; } );";
    sweep_refused(&t, ":8: methods[0].text: not allowed beside start, which says what the prompt is");
    t.methods = "methods = ( { name = \"none\"; }, { name = \"none\"; } );";
    sweep_refused(&t,
                  ":7: methods[1].name: \"none\" is methods[0], too; sizes and learning rates are lists of one entry");
    t.methods = "methods = ( { name = \"full\"; learning_rates = [ 0.0 ]; } );";
    sweep_refused(&t, ":7: methods[0].learning_rates[0]: 0 is out of range; allowed: above 0, at most 1000");
    t.methods = "methods = ( { name = \"prompt\"; lengths = [ 5000 ]; learning_rates = [ 0.1 ]; } );";
    char wanted[300];
    struct sweep *sweep = sweep_make(&sweep_right);
    snprintf(wanted, sizeof wanted,
             ":7: methods[0].lengths[0]: prompt length 5000 is out of range for model \"s\"; allowed: 1..%zu (prompts "
             "begin as vocabulary embeddings)",
             sweep->tasks[0].data.vocabulary);
    sweep_destroy(sweep);
    sweep_refused(&t, wanted);
}

/* A method must be possible where the sweep has a cell of it, and nowhere else. */
static void methods_meet_models_in_cells(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; ffn = 16; },\n"
               "           { name = \"b\"; layers = 1; width = 16; heads = 2; ffn = 16; qkv_bias = true; } );";
    t.methods = "methods = ( { name = \"bitfit\"; learning_rates = [ 1e-2 ]; },\n"
                "            { name = \"lora\"; ranks = [ 12, 2 ]; learning_rates = [ 1e-2 ]; } );";
    static const char bitfit[] = "exclude = ( { method = \"bitfit\"; model = \"s\"; } );";
    sweep_refused(&t,
                  ":7: methods[0].name: bitfit trains biases, and model \"s\" has none; allowed: models with biases, "
                  "such as Qwen2, GPT-NeoX, or with qkv_bias, out_bias, mlp_bias");
    t.tail = bitfit;
    sweep_refused(&t, ":8: methods[1].ranks[0]: rank 12 is above the width 8 of model \"s\"; allowed: 1..8");
    t.tail = "exclude = ( { method = \"bitfit\"; model = \"s\"; }, { size = 12; model = \"s\"; } );";
    sweep_destroy(sweep_make(&t));
    t.models = "models = ( { name = \"s\"; layers = 1; width = 8; heads = 2; ffn = 16; },\n"
               "           { name = \"n\"; layers = 1; width = 8; heads = 2; ffn = 16; family = \"gpt_neox\"; } );";
    t.methods =
        "methods = ( { name = \"lora\"; ranks = [ 2 ]; modules = [ \"q_proj\" ]; learning_rates = [ 1e-2 ]; } );";
    t.tail = NULL;
    sweep_refused(&t, ":7: methods[0].modules: model \"n\" has none of these modules; allowed: query_key_value, dense, "
                      "dense_h_to_4h, dense_4h_to_h; attention, mlp, all");
    t.tail = "exclude = ( { model = \"n\"; method = \"lora\"; } );";
    sweep_destroy(sweep_make(&t));
}

static void mistakes_in_cells(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail = "held_out = ( { model = \"l\"; } );";
    sweep_refused(&t, ":10: held_out[0].model: \"l\" is not in the sweep; allowed: s, m");
    t.tail = "held_out = ( { examples = [ 20, 30 ]; } );";
    sweep_refused(&t, ":10: held_out[0].examples[1]: 30 is not a value of that axis; allowed: 20, 40");
    t.tail = "exclude = ( { method = \"lora\"; size = 4; }, \n{ method = \"prompt\"; size = 2; } );";
    sweep_refused(&t, ":11: exclude[1]: holds for no cell of the grid");
    t.tail = "exclude = ( { method = \"lora\"; } ); held_out = ( { method = \"lora\"; examples = 40; } );";
    sweep_refused(&t, ":10: held_out[0]: holds for no cell of the grid that is not excluded");
    t.tail = "held_out = ( { examples = [ 20, 40 ]; } );";
    sweep_refused(&t, ":10: held_out: every finetuned cell is held out, none is left to fit");
    t.tail = "exclude = ( { model = [ \"s\", \"m\" ]; } );";
    sweep_refused(&t, ":10: exclude: no cell of the grid is left");
    t.tail = "exclude = ( { } );";
    sweep_refused(&t, ":10: exclude[0]: no condition, this would be every cell; allowed: task, model, parameters, "
                      "method, pretrain_tokens, "
                      "examples, size, seed");
}

static void laws_arrive(void **state)
{
    (void)state;
    struct sweep_text t = sweep_right;
    t.tail =
        "fit = { x = \"trainable_parameters\"; seeds = \"mean\"; laws = (\n"
        "{ name = \"mine\"; expression = \"A * N^-alpha + E + c*log(P)\"; free = [ \"c\" ]; positive = \"alpha\";\n"
        "  start = { A = [ 1, 100 ]; c = -0.5; }; },\n"
        "{ name = \"other\"; expression = \"A * D^-beta\"; } ); };";
    struct sweep *sweep = sweep_make(&t);
    const struct fit_settings *fit = &sweep->fit;
    assert_int_equal(fit->x, SETTINGS_TRAINABLE);
    assert_int_equal(fit->seeds, SETTINGS_MEAN);
    assert_int_equal(fit->law_count, 2);
    const struct user_law *law = fit->laws[0];
    assert_string_equal(law->law.name, "mine");
    assert_true(law_is_log(&law->law, 1) && !law_is_log(&law->law, 3)); /* alpha, c */
    assert_int_equal(law->start_count[0], 2);
    assert_true(law->starts[0][1] == 100 && law->starts[3][0] == -0.5);
    assert_non_null(strstr(sweep->parameters, "fit.laws[0].expression = \"A * N^-alpha + E + c*log(P)\""));
    sweep_destroy(sweep);
}

static void mistakes_in_laws(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"name = \"additive\"; expression = \"A*D\";",
         ":11: fit.laws[0].name: \"additive\" is a law of the table; allowed: another name"},
        {"expression = \"A*D\";", ":11: fit.laws[0]: key \"name\" is missing"},
        {"name = \"a\"; expression = \"A*D +\";", ":11: fit.laws[0].expression: character 6: something is missing at "
                                                  "the end; allowed: a number, a parameter, N or "
                                                  "X, P, T, D, exp, log, sqrt, \"(\""},
        {"name = \"a\"; expression = \"A*D\"; free = [ \"A\", \"B\" ];",
         ":11: fit.laws[0].free[1]: the expression has no parameter \"B\"; allowed: A"},
        {"name = \"a\"; expression = \"A*D\"; free = \"A\"; positive = \"A\";",
         ":11: fit.laws[0].free: A is named twice; allowed: either positive or free"},
        {"name = \"a\"; expression = \"A*D\"; start = { A = 0; };",
         ":11: fit.laws[0].start.A: a start of A at 0; allowed: above 0, as it is positive"},
        {"name = \"a\"; expression = \"A*D\"; start = { B = 1; };",
         ":11: fit.laws[0].start.B: unknown key; allowed: A"},
        {"name = \"a\"; expression = \"A*D\"; }, { name = \"a\"; expression = \"A*D\";",
         ":11: fit.laws[1].name: \"a\" is there twice"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct sweep_text t = sweep_right;
        char tail[512];
        snprintf(tail, sizeof tail, "fit = { laws = (\n{ %s } ); };", wrong[i][0]);
        t.tail = tail;
        sweep_refused(&t, wrong[i][1]);
    }
    struct sweep_text t = sweep_right;
    t.tail = "fit = { seeds = \"median\"; };";
    sweep_refused(&t, ":10: fit.seeds: \"median\" is unknown, did you mean mean?; allowed: replicates, mean");
}

static void absurdly_many_points_are_refused(void **state)
{
    (void)state;
    static char seeds[40000];
    char *at =
        seeds + sprintf(seeds, "finetune = { examples = [ 20, 40 ]; sequence_length = 32; batch = 4; epochs = 2.0; "
                               "seeds = [ 0");
    for (int i = 1; i < 4096; i++)
        at += sprintf(at, ", %d", i);
    sprintf(at, " ]; };");
    struct sweep_text t = sweep_right;
    t.finetune = seeds;
    t.methods = "methods = ( { name = \"lora\"; ranks = [ 1, 2, 3, 4, 5, 6, 7, 8 ]; learning_rates = [ 1e-2, 1e-3, "
                "1e-4 ]; } );";
    sweep_refused(&t, ": the axes make more than 1000000 points");
}

static void a_file_is_read_from_its_own_folder(void **state)
{
    (void)state;
    static char text[1 << 16];
    struct error err = {""};
    sweep_write(&sweep_right, text, sizeof text);
    const char *path = temporary_write("b.cfg", text, strlen(text));
    int before = temporary_count();
    struct sweep *sweep = sweep_load(path, &err);
    if (!sweep) fail_msg("%s", err.text);
    assert_int_equal(temporary_count(), before); /* nothing is written */
    sweep_destroy(sweep);
    assert_null(sweep_load(temporary_path("absent.cfg"), &err));
}

static void slurp(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("%s is missing", path);
    out[fread(out, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* configs/example.cfg on a data set that is large enough for it. */
static struct sweep *example(void)
{
    struct error err = {""};
    struct dataset_sources sources = small_sources();
    write_pairs("train.tsv", 0, 2000);
    write_pairs("valid.tsv", 3000, 200);
    write_pairs("test.tsv", 4000, 400);
    if (dataset_build(temporary_path("example.h5"), &sources, NULL, &err)) fail_msg("%s", err.text);
    static char text[1 << 15], changed[1 << 16];
    slurp(TEST_SOURCE_DIR "/../configs/example.cfg", text, sizeof text);
    const char *name = strstr(text, "../data/quickstart.h5");
    assert_non_null(name);
    size_t before = (size_t)(name - text);
    snprintf(changed, sizeof changed, "%.*sexample.h5%s", (int)before, text,
             text + before + strlen("../data/quickstart.h5"));
    struct sweep *sweep = sweep_parse(temporary_path("e.cfg"), changed, strlen(changed), &err);
    if (!sweep) fail_msg("%s", err.text);
    return sweep;
}

static void the_example_is_right_and_every_key_is_documented(void **state)
{
    (void)state;
    struct sweep *sweep = example();
    assert_int_equal(sweep->model_count, 3);
    assert_int_equal(sweep->method_count, 4);
    assert_int_equal(sweep->held_out_count, 1);
    static char docs[1 << 17];
    slurp(TEST_SOURCE_DIR "/../docs/configuration.md", docs, sizeof docs);
    size_t keys = 0;
    for (char *line = strtok(sweep->parameters, "\n"); line; line = strtok(NULL, "\n")) {
        char quoted[64];
        *strstr(line, " = ") = '\0';
        const char *key = strrchr(line, '.') ? strrchr(line, '.') + 1 : line;
        snprintf(quoted, sizeof quoted, "`%s`", key);
        if (!strstr(docs, quoted)) fail_msg("%s is not in docs/configuration.md", line);
        keys++;
    }
    assert_true(keys > 60);
    sweep_destroy(sweep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_arrive),
        cmocka_unit_test(the_same_text_gives_the_same_sweep),
        cmocka_unit_test(max_steps_bounds_epochs),
        cmocka_unit_test(mistakes_in_data),
        cmocka_unit_test(mistakes_in_models),
        cmocka_unit_test(mistakes_in_axes_of_data),
        cmocka_unit_test(texts_arrive),
        cmocka_unit_test(mistakes_in_texts),
        cmocka_unit_test(mistakes_in_methods),
        cmocka_unit_test(methods_meet_models_in_cells),
        cmocka_unit_test(mistakes_in_cells),
        cmocka_unit_test(laws_arrive),
        cmocka_unit_test(mistakes_in_laws),
        cmocka_unit_test(absurdly_many_points_are_refused),
        cmocka_unit_test(a_file_is_read_from_its_own_folder),
        cmocka_unit_test(the_example_is_right_and_every_key_is_documented),
    };
    return cmocka_run_group_tests(tests, sweep_setup, temporary_remove);
}
