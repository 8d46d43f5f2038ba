/* Imported models on the axes: revisions are the pretraining axis, cells without a base do not exist, a point is the
 * same as long as shape and weights are, and a folder of another tokenizer is refused before anything runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/plan/plan.h"
#include "tests/orchestrator/plan_fixture.h"
#include "workers/files/huggingface.h"

static const char *const folders[] = {"step1", "step2", "other", "wide"};

/* A folder with a model of initial weights. */
static void make_folder(const char *name, uint32_t layers, uint32_t vocabulary, uint64_t seed)
{
    struct error err = {""};
    struct model_config model = {.name = "m",
                                 .layers = layers,
                                 .width = 8,
                                 .heads = 2,
                                 .kv_heads = 2,
                                 .head_width = 4,
                                 .ffn = 16,
                                 .vocabulary = vocabulary,
                                 .rope_theta = 10000,
                                 .norm_epsilon = 1e-5,
                                 .architecture = architecture_of(FAMILY_NEOX, 8)};
    struct method_config none = {.kind = METHOD_NONE};
    const struct kernels *kernels = kernels_find("reference", &err);
    struct device *device = kernels->device_create(0, 1, &err);
    struct parameters *parameters =
        parameters_create(&model, &none, false, &(struct collective){NULL, 0, 1}, kernels, device, &err);
    if (!parameters) fail_msg("%s", err.text);
    parameters_initialise_base(parameters, &model, seed);
    if (huggingface_save(parameters, &model, NULL, temporary_path(name), &err)) fail_msg("%s", err.text);
    parameters_destroy(parameters);
    kernels->device_destroy(device);
}

static uint32_t vocabulary;

static int setup(void **state)
{
    if (sweep_setup(state)) return -1;
    struct sweep *sweep = sweep_make(&sweep_right);
    vocabulary = (uint32_t)sweep->tasks[0].data.vocabulary;
    sweep_destroy(sweep);
    make_folder("step1", 1, vocabulary, 1);
    make_folder("step2", 1, vocabulary + 7, 2); /* padded: not the shape of step1 */
    make_folder("other", 1, vocabulary, 2);
    make_folder("wide", 1, vocabulary + 1024, 2);
    return 0;
}

static int teardown(void **state)
{
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/config.json", temporary_path(folders[i]));
        unlink(path);
        snprintf(path, sizeof path, "%s/model.safetensors", temporary_path(folders[i]));
        unlink(path);
        rmdir(temporary_path(folders[i]));
    }
    return temporary_remove(state);
}

static struct sweep_text imported(const char *models, bool pretrain)
{
    struct sweep_text text = sweep_right;
    text.models = models;
    if (!pretrain) text.pretrain = NULL;
    return text;
}

static const char two_revisions[] =
    "models = ( { name = \"neox\"; import = \".\"; revisions = (\n"
    "  { path = \"other\"; tokens = 3000; }, { path = \"step1\"; tokens = 500; } ); } );";

static void revisions_are_the_pretraining_axis(void **state)
{
    (void)state;
    struct sweep_text text = imported(two_revisions, false);
    struct sweep *sweep = sweep_make(&text);
    struct plan *plan = plan_make(sweep);
    assert_int_equal(sweep->pretrain_token_count, 2);
    assert_true(sweep->pretrain_tokens[0] == 500 && sweep->pretrain_tokens[1] == 3000);
    assert_int_equal(plan->stage_count, plan->point_count); /* nothing is pretrained */
    for (size_t i = 0; i < plan->point_count; i++) {
        struct stage stage;
        const struct store_point *point = &plan->points[i];
        plan_stage_describe(plan, plan->stage_of_point[i], "/run", 1, &stage);
        bool first = point->pretrain_tokens == 500;
        assert_true(first || point->pretrain_tokens == 3000);
        assert_non_null(strstr(stage.import, first ? "/step1" : "/other"));
        assert_string_equal(stage.parent.hex, "");
        assert_memory_equal(stage.base.hex, point->base, DIGEST_HEX);
        assert_true(plan->stages[plan->stage_of_point[i]].parent == PLAN_NONE);
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
}

/* Trained and imported models in one sweep: each has the bases that it has. */
static void beside_trained_models(void **state)
{
    (void)state;
    struct sweep_text text = imported("models = ( { name = \"own\"; layers = 1; width = 8; heads = 2; ffn = 16; },\n"
                                      "  { name = \"neox\"; import = \"step1\"; tokens = 2000; } );",
                                      true);
    struct sweep *sweep = sweep_make(&text);
    struct plan *plan = plan_make(sweep);
    size_t own = 0, neox = 0;
    for (size_t i = 0; i < plan->point_count; i++) {
        bool trained = !strncmp(plan->points[i].model, "own", 3);
        own += trained;
        neox += !trained;
        assert_int_equal(plan->stages[plan->stage_of_point[i]].parent == PLAN_NONE, !trained);
    }
    assert_true(own == 3 * neox && neox > 0);
    assert_int_equal(plan->stage_count, plan->point_count + 3);
    plan_destroy(plan);
    sweep_destroy(sweep);
}

static struct digest identity_with(const char *models)
{
    struct sweep_text text = imported(models, false);
    struct sweep *sweep = sweep_make(&text);
    struct plan *plan = plan_make(sweep);
    struct digest identity = plan->identity;
    plan_destroy(plan);
    sweep_destroy(sweep);
    return identity;
}

/* Names and token counts are what a person says of a base, weights are what it is. */
static void identity_is_of_the_weights(void **state)
{
    (void)state;
    struct digest one = identity_with("models = ( { name = \"a\"; import = \"step1\"; tokens = 500; } );");
    struct digest renamed = identity_with("models = ( { name = \"b\"; import = \"step1\"; tokens = 700; } );");
    struct digest other = identity_with("models = ( { name = \"a\"; import = \"other\"; tokens = 500; } );");
    assert_string_equal(one.hex, renamed.hex);
    assert_string_not_equal(one.hex, other.hex);
}

static void refused(const char *models, bool pretrain, const char *wanted)
{
    static char text[1 << 16];
    struct error err = {""};
    struct sweep_text parts = imported(models, pretrain);
    sweep_write(&parts, text, sizeof text);
    struct sweep *sweep = sweep_parse(temporary_path("a.cfg"), text, strlen(text), &err);
    sweep_destroy(sweep);
    if (sweep) fail_msg("accepted, not refused with: %s\n%s", wanted, text);
    if (!strstr(err.text, "a.cfg:") || !strstr(err.text, wanted)) fail_msg("%s\n  does not say: %s", err.text, wanted);
}

static void wrong_imports_are_refused(void **state)
{
    (void)state;
    refused("models = ( { name = \"a\"; import = \"wide\"; tokens = 500; } );", false, "of different tokenizers");
    refused("models = ( { name = \"a\"; import = \"absent\"; tokens = 500; } );", false, "No such file");
    refused("models = ( { name = \"a\"; import = \"step1\"; } );", false, "either tokens");
    refused("models = ( { name = \"a\"; import = \"step1\"; tokens = 5; layers = 2; } );", false,
            "models[0]: key \"width\" is missing");
    refused("models = ( { name = \"a\"; import = \"step1\"; tokens = 500; } );", true, "every model is imported");
    refused("models = ( { name = \"a\"; tokens = 5; layers = 1; width = 8; heads = 2; ffn = 16; } );", true,
            "only allowed with import");
    refused("models = ( { name = \"a\"; import = \".\"; revisions = ( { path = \"step1\"; tokens = 5; },\n"
            "  { path = \"step2\"; tokens = 6; } ); } );",
            false, "is another model than the revision before it");
    refused("models = ( { name = \"a\"; import = \".\"; revisions = ( { path = \"step1\"; tokens = 5; },\n"
            "  { path = \"other\"; tokens = 5; } ); } );",
            false, "5 tokens are those of");
}

static const char declared_shape[] =
    "family = \"gpt_neox\"; layers = 1; width = 8; heads = 2; ffn = 16; tied = false; rotary_width = 2;";

/* A base with a declared shape is planned where its folder is not, and read where it is. */
static void bases_may_be_declared(void **state)
{
    (void)state;
    char models[512];
    snprintf(models, sizeof models,
             "models = ( { name = \"a\"; import = \".\"; %s\n  revisions = ( { path = \"step1\"; tokens = 500; },\n"
             "  { path = \"absent\"; tokens = 600; } ); } );",
             declared_shape);
    struct sweep_text text = imported(models, false);
    struct sweep *sweep = sweep_make(&text);
    struct plan *plan = plan_make(sweep);
    struct error err = {""};
    assert_int_equal(sweep_check_complete(sweep, &err), -1);
    assert_non_null(strstr(err.text, "a.cfg:5: models[0].revisions[1].path: "));
    assert_non_null(strstr(err.text, "/absent: the base is declared and not there: the sweep can be planned, not run"));
    size_t imported = 0;
    for (size_t i = 0; i < plan->point_count; i++)
        imported += !strncmp(plan->points[i].base, sweep->imports[0].identity.hex, DIGEST_HEX);
    assert_int_equal(2 * imported, plan->point_count);
    assert_int_equal(sweep->models[0].vocabulary, vocabulary);
    assert_string_not_equal(sweep->imports[0].identity.hex, sweep->imports[1].identity.hex);
    plan_destroy(plan);
    sweep_destroy(sweep);

    /* what is there counts: the identity is that of the weights, as without a declaration */
    snprintf(models, sizeof models, "models = ( { name = \"a\"; import = \"step1\"; tokens = 500; %s } );",
             declared_shape);
    struct digest declared = identity_with(models);
    struct digest plain = identity_with("models = ( { name = \"a\"; import = \"step1\"; tokens = 500; } );");
    assert_string_equal(declared.hex, plain.hex);
    snprintf(models, sizeof models, "models = ( { name = \"a\"; import = \"step1\"; tokens = 500; %s } );",
             "preset = \"paper-1b\";");
    refused(models, false, "is another model than the keys beside it say");
    refused("models = ( { name = \"a\"; import = \"step1\"; tokens = 500; text = \"x\"; } );", false,
            "models[0].text: not allowed beside import");
}

static void presets_of_the_paper(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double billions; /* with 256,000 pieces; the paper does not say how many there were */
    } sizes[] = {{"paper-1b", 1.48}, {"paper-2b", 2.52}, {"paper-4b", 4.00}, {"paper-8b", 8.62}, {"paper-16b", 16.1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char models[256];
        snprintf(models, sizeof models,
                 "models = ( { preset = \"%s\"; }, { name = \"x\"; preset = \"%s\"; layers = 2; } );", sizes[i].name,
                 sizes[i].name);
        struct sweep_text text = imported(models, true);
        struct sweep *sweep = sweep_make(&text);
        struct model_config model = sweep->models[0];
        assert_string_equal(model.name, sizes[i].name);
        assert_true(model.kv_heads == 1 && model.head_width == 256 && model.tied);
        assert_true(model.heads * 256 == model.width && model.ffn == 4 * model.width);
        assert_true(sweep->models[1].layers == 2 && sweep->models[1].width == model.width);
        model.vocabulary = 256000;
        double billions = (double)model_parameters(&model) / 1e9;
        if (billions < sizes[i].billions - 0.01 || billions > sizes[i].billions + 0.05)
            fail_msg("%s has %.3f billion parameters", sizes[i].name, billions);
        sweep_destroy(sweep);
    }
}

/* A family's choices, one of them changed. */
static void families(void **state)
{
    (void)state;
    struct sweep_text text = imported(
        "models = ( { name = \"p\"; family = \"gpt_neox\"; parallel = false; layers = 1; "
        "width = 32; heads = 2; ffn = 16; },\n"
        " { name = \"q\"; family = \"olmo2\"; layers = 1; width = 32; heads = 2; ffn = 16; },\n"
        " { name = \"r\"; family = \"qwen3\"; layers = 1; width = 32; heads = 2; head_width = 32; ffn = 16; } );",
        true);
    struct sweep *sweep = sweep_make(&text);
    const struct architecture *p = &sweep->models[0].architecture, *q = &sweep->models[1].architecture;
    const struct model_config *r = &sweep->models[2];
    assert_true(p->fused_qkv && !p->parallel && p->norm == NORM_LAYER && p->rotary_width == 4);
    assert_true(q->norm_after && q->qk_norm == QK_NORM_TOKEN && !q->fused_qkv && q->rotary_width == 0);
    assert_true(r->architecture.qk_norm == QK_NORM_HEAD && !r->architecture.qkv_bias);
    assert_int_equal(model_non_embedding_parameters(r), 4 * 64 * 32 + 3 * 16 * 32 + 3 * 32 + 2 * 32);
    sweep_destroy(sweep);
    refused("models = ( { name = \"p\"; family = \"llama\"; activation = \"gelu\"; parallel = true; norm_after = true;"
            " layers = 1; width = 8; heads = 2; ffn = 16; } );",
            true, "a parallel residual with norms after");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revisions_are_the_pretraining_axis),
        cmocka_unit_test(beside_trained_models),
        cmocka_unit_test(identity_is_of_the_weights),
        cmocka_unit_test(wrong_imports_are_refused),
        cmocka_unit_test(bases_may_be_declared),
        cmocka_unit_test(presets_of_the_paper),
        cmocka_unit_test(families),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
