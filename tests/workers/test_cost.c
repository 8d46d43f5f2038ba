/* FLOPs and parameters against counts by hand: what the plan promises and the schedule trusts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "workers/model/cost.h"

static const struct model_config tiny = {.name = "tiny",
                                         .layers = 2,
                                         .width = 8,
                                         .heads = 2,
                                         .kv_heads = 1,
                                         .head_width = 4,
                                         .ffn = 16,
                                         .vocabulary = 10,
                                         .tied = true,
                                         .rope_theta = 10000.0,
                                         .norm_epsilon = 1e-5};

static const struct method_config none = {.kind = METHOD_NONE}, full = {.kind = METHOD_FULL},
                                  lora = {.kind = METHOD_LORA, .size = 2, .alpha = 4.0},
                                  prompt = {.kind = METHOD_PROMPT, .size = 3};

static void near(double value, double wanted, double tolerance)
{
    if (!(fabs(value - wanted) <= tolerance)) fail_msg("%.12g instead of %.12g", value, wanted);
}

static void parameters_by_hand(void **state)
{
    (void)state;
    /* a layer: q 64, k 32, v 32, o 64, gate, up, down 3 * 128, two norms 16 */
    uint64_t layer = 64 + 32 + 32 + 64 + 3 * 128 + 16;
    assert_int_equal(model_non_embedding_parameters(&tiny), 2 * layer + 8);
    assert_int_equal(model_parameters(&tiny), 2 * layer + 8 + 80);
    struct model_config untied = tiny;
    untied.tied = false;
    assert_int_equal(model_parameters(&untied), 2 * layer + 8 + 160);
    assert_int_equal(method_parameters(&tiny, &none), 0);
    assert_int_equal(method_parameters(&tiny, &full), model_parameters(&tiny));
    assert_int_equal(method_parameters(&tiny, &prompt), 3 * 8);
    /* in + out of each matrix: q 16, k 12, v 12, o 16, gate, up, down 24 each */
    assert_int_equal(method_parameters(&tiny, &lora), 2 * 2 * (16 + 12 + 12 + 16 + 72));
    struct method_config some = lora;
    some.modules = modules_find("q_proj") | modules_find("mlp");
    assert_int_equal(method_parameters(&tiny, &some), 2 * 2 * (16 + 72));
}

static void other_methods_by_hand(void **state)
{
    (void)state;
    struct error err;
    struct method_config prefix = {.kind = METHOD_PREFIX, .size = 3}, ia3 = {.kind = METHOD_IA3},
                         bitfit = {.kind = METHOD_BITFIT}, adapter = {.kind = METHOD_ADAPTER, .size = 2},
                         unfreeze = {.kind = METHOD_UNFREEZE, .thaw_layers = 1, .thaw_steps = 5};
    assert_int_equal(method_parameters(&tiny, &prefix), 3 * 2 * 2 * 4); /* keys and values of one head of 4 */
    assert_int_equal(method_parameters(&tiny, &ia3), 2 * (4 + 4 + 16));
    assert_int_equal(method_parameters(&tiny, &adapter), 2 * 2 * (2 * 8 * 2 + 8 + 2));
    adapter.mlp_only = true;
    assert_int_equal(method_parameters(&tiny, &adapter), 2 * (2 * 8 * 2 + 8 + 2));
    assert_int_equal(method_parameters(&tiny, &unfreeze), model_parameters(&tiny));
    assert_int_equal(method_parameters(&tiny, &bitfit), 0);
    assert_int_equal(method_config_check(&bitfit, &tiny, &err), -1);
    assert_non_null(strstr(err.text, "model \"tiny\" has none"));
    struct model_config biased = tiny;
    biased.architecture.qkv_bias = true;
    biased.architecture.norm = NORM_LAYER;
    assert_int_equal(method_config_check(&bitfit, &biased, &err), 0);
    assert_int_equal(method_parameters(&biased, &bitfit), 2 * (8 + 4 + 4 + 2 * 8) + 8);
    prefix.size = 1 << 17;
    assert_int_equal(method_config_check(&prefix, &tiny, &err), -1);
    unfreeze.thaw_steps = 0;
    assert_int_equal(method_config_check(&unfreeze, &tiny, &err), -1);
}

/* Five steps with the upper of two blocks, five with both: a frozen block costs its forward pass alone. */
static void flops_of_unfreezing(void **state)
{
    (void)state;
    struct method_config unfreeze = {.kind = METHOD_UNFREEZE, .thaw_layers = 1, .thaw_steps = 5};
    double whole = cost_flops(&tiny, &full, true, 30, 7, 5), forward = cost_flops(&tiny, &full, false, 30, 0, 5);
    double frozen = whole - forward - 2 * 7 * 80.0; /* two passes less in a half, and the tied table has no gradient */
    near(cost_training_flops(&tiny, &unfreeze, 0, 5, 30, 7, 5), frozen, 1e-9);
    near(cost_training_flops(&tiny, &unfreeze, 5, 9, 30, 7, 5), whole, 1e-9);
    near(cost_training_flops(&tiny, &unfreeze, 0, 10, 30, 7, 5), (frozen + whole) / 2, 1e-9);
    near(cost_training_flops(&tiny, &unfreeze, 3, 7, 30, 7, 5), (frozen + whole) / 2, 1e-9);
    near(cost_training_flops(&tiny, &full, 3, 7, 30, 7, 5), whole, 1e-9);
}

static void flops_by_hand(void **state)
{
    (void)state;
    double weights = 2 * (64 + 32 + 32 + 64 + 3 * 128); /* multiplied for every token */
    double tokens = 30, targets = 7, length = 5;
    /* scores and weighted values, 8 products each over (5 + 1) / 2 positions, 2 layers */
    double attention = 2 * 2 * 8 * 3.0;
    double forward = 2 * (tokens * (weights + attention) + targets * 80);
    near(cost_flops(&tiny, &full, false, tokens, targets, length), forward, 1e-9);
    near(cost_flops(&tiny, &full, true, tokens, targets, length), 3 * forward, 1e-9);
    double base = 2 * (tokens * weights + targets * 80), adapter = 2 * tokens * 512.0;
    near(cost_flops(&tiny, &lora, true, tokens, targets, length), 2 * base + 3 * (adapter + 2 * tokens * attention),
         1e-9);
    near(cost_flops(&tiny, &prompt, true, tokens, targets, length), 2 * base + 3 * 2 * tokens * attention, 1e-9);
}

/* Every block but the top one runs forward once more. */
static void recomputation_by_hand(void **state)
{
    (void)state;
    double weights = 64 + 32 + 32 + 64 + 3 * 128, attention = 2 * 8 * 3.0, tokens = 30, adapter = 256;
    near(cost_recompute_flops(&tiny, &full, tokens, 5), 2 * tokens * (weights + attention), 1e-9);
    near(cost_recompute_flops(&tiny, &lora, tokens, 5), 2 * tokens * (weights + attention + adapter), 1e-9);
    struct model_config one = tiny;
    one.layers = 1;
    near(cost_recompute_flops(&one, &full, tokens, 5), 0, 1e-9);
}

/* Where attention and vocabulary are small: 6N for full tuning, 4N without gradients of the base's weights, 2N forward.
 */
static void large_models_cost_6n_and_4n(void **state)
{
    (void)state;
    struct model_config large = {.layers = 24,
                                 .width = 2048,
                                 .heads = 16,
                                 .kv_heads = 16,
                                 .head_width = 128,
                                 .ffn = 8192,
                                 .vocabulary = 32000,
                                 .tied = true};
    double n = (double)model_non_embedding_parameters(&large), tokens = 1e6;
    struct method_config small_lora = {.kind = METHOD_LORA, .size = 1, .alpha = 1.0};
    near(cost_flops(&large, &full, true, tokens, 0, 16) / (n * tokens), 6.0, 0.02);
    near(cost_flops(&large, &small_lora, true, tokens, 0, 16) / (n * tokens), 4.0, 0.03);
    near(cost_flops(&large, &prompt, true, tokens, 0, 16) / (n * tokens), 4.0, 0.02);
    near(cost_flops(&large, &none, false, tokens, 0, 16) / (n * tokens), 2.0, 0.02);
}

static void refuse(struct model_config model, const char *wanted)
{
    struct error err = {""};
    assert_int_equal(model_config_check(&model, &err), -1);
    if (!strstr(err.text, wanted)) fail_msg("\"%s\" does not say \"%s\"", err.text, wanted);
}

static void impossible_models_are_refused(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(model_config_check(&tiny, &err), 0);
    struct model_config bad = tiny;
    bad.kv_heads = 3;
    refuse(bad, "kv_heads 3 does not divide heads 2");
    bad = tiny;
    bad.head_width = 5;
    refuse(bad, "head_width 5 is odd");
    bad = tiny;
    bad.layers = 0;
    refuse(bad, "layers 0 is out of range; allowed: 1..");
    bad = tiny;
    bad.ffn = UINT32_MAX;
    refuse(bad, "ffn 4294967295 is out of range");
    bad = tiny;
    bad.rope_theta = 0.5;
    refuse(bad, "rope_theta 0.5");
}

static void impossible_methods_are_refused(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(method_config_check(&lora, &tiny, &err), 0);
    struct method_config bad = {.kind = METHOD_LORA, .size = 9, .alpha = 1.0};
    assert_int_equal(method_config_check(&bad, &tiny, &err), -1);
    assert_string_equal(err.text, "rank 9 is above the width 8 of model \"tiny\"; allowed: 1..8");
    bad = (struct method_config){.kind = METHOD_PROMPT, .size = 11};
    assert_int_equal(method_config_check(&bad, &tiny, &err), -1);
    bad = (struct method_config){.kind = METHOD_FULL, .size = 1};
    assert_int_equal(method_config_check(&bad, &tiny, &err), -1);
    bad = (struct method_config){.kind = METHOD_LORA, .size = 1, .alpha = -1.0};
    assert_int_equal(method_config_check(&bad, &tiny, &err), -1);
    bad =
        (struct method_config){.kind = METHOD_LORA, .size = 1, .alpha = 1, .modules = modules_find("query_key_value")};
    assert_int_equal(method_config_check(&bad, &tiny, &err), -1);
    assert_non_null(strstr(err.text, "allowed: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"));
}

/* Names of matrices mean the same place in every family; options that are usual leave no trace in an identity. */
static void modules_by_name(void **state)
{
    (void)state;
    char text[METHOD_TEXT];
    assert_int_equal(modules_find("q_proj"), 1 << LINEAR_Q);
    assert_int_equal(modules_find("up_proj"), modules_find("dense_h_to_4h"));
    assert_int_equal(modules_find("dense"), modules_find("o_proj"));
    assert_int_equal(modules_find("attention") | modules_find("mlp"), modules_find("all"));
    assert_int_equal(modules_find("attention") & modules_find("mlp"), 0);
    assert_int_equal(modules_find("self_attn"), 0);
    assert_int_equal(modules_find(""), 0);
    assert_int_equal(method_text(&lora, text, sizeof text), 0);
    assert_string_equal(text, "");
    struct method_config some = {
        .kind = METHOD_LORA, .size = 2, .alpha = 4, .rank_stabilised = true, .modules = 1 << LINEAR_Q | 1 << LINEAR_V};
    method_text(&some, text, sizeof text);
    assert_string_equal(text, " rank_stabilised=1 modules=q,v");
    assert_true(method_module(&some, LINEAR_V) && !method_module(&some, LINEAR_K) && !method_module(&full, LINEAR_V));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_by_hand),
        cmocka_unit_test(other_methods_by_hand),
        cmocka_unit_test(flops_by_hand),
        cmocka_unit_test(flops_of_unfreezing),
        cmocka_unit_test(recomputation_by_hand),
        cmocka_unit_test(large_models_cost_6n_and_4n),
        cmocka_unit_test(modules_by_name),
        cmocka_unit_test(impossible_models_are_refused),
        cmocka_unit_test(impossible_methods_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
