/* Adapters in PEFT's folders: what is written is read, by gangs of any degree, with the names that PEFT gives; what
 * PEFT writes is understood; and an adapter that the engine cannot compute is refused with one line. */
#include <sys/stat.h>

#include "model_fixture.h"
#include "tests/io/temporary.h"
#include "workers/files/peft.h"
#include "workers/stage/gang.h"

static void remove_folder(const char *dir)
{
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static const struct batch_capacity capacity = {.tokens = 10, .sequences = 1, .targets = 10, .longest = 10};

/* A folder with a random adapter; its tensors as the gang of one had them. */
static struct gathered *save(const struct model_config *model, const struct method_config *method, const char *dir)
{
    struct error err = {""};
    struct gathered *g = gathered_create();
    struct rank r = rank_alone("reference", model, method, &capacity, false);
    remove_folder(dir);
    for (size_t i = 0; i < r.parameters->count; i++)
        parameter_fill(r.parameters, &r.parameters->list[i], INITIAL_NORMAL, 1, 5);
    if (peft_save(r.parameters, model, method, "some/base", dir, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; i < r.parameters->count; i++)
        if (r.parameters->list[i].adapter) gather_tile(g, &r, &r.parameters->list[i]);
    rank_destroy(&r);
    return g;
}

struct loading {
    const struct model_config *model;
    const struct method_config *method;
    const char *dir;
    struct gathered *out;
    pthread_mutex_t mutex;
};

static int load_rank(void *context, const struct collective *collective, struct error *err)
{
    struct loading *loading = context;
    struct rank r;
    struct safetensors *weights = peft_open(loading->dir, loading->model, loading->method, err);
    if (!weights) return -1;
    int result = rank_create(&r, kernels_find("reference", NULL), collective, loading->model, loading->method,
                             &capacity, false, err);
    if (!result) {
        result = peft_load(r.parameters, weights, err);
        pthread_mutex_lock(&loading->mutex);
        for (size_t i = 0; i < r.parameters->count && !result; i++)
            if (r.parameters->list[i].adapter) gather_tile(loading->out, &r, &r.parameters->list[i]);
        pthread_mutex_unlock(&loading->mutex);
        rank_destroy(&r);
    }
    safetensors_close(weights);
    return result;
}

static void assert_loads(const struct loading *from, int degree, struct gathered *written)
{
    struct error err = {""};
    struct loading loading = *from;
    loading.out = gathered_create();
    pthread_mutex_init(&loading.mutex, NULL);
    if (gang_run(degree, load_rank, &loading, &err)) fail_msg("%s", err.text);
    if (loading.out->failure[0]) fail_msg("%s", loading.out->failure);
    assert_int_equal(loading.out->count, written->count);
    for (size_t i = 0; i < written->count; i++) {
        const struct tensor *x = &written->list[i], *y = gathered_find(loading.out, x->name);
        assert_non_null(y);
        assert_memory_equal(x->value, y->value, x->rows * x->columns * sizeof(float));
    }
    pthread_mutex_destroy(&loading.mutex);
    gathered_destroy(loading.out);
}

static const struct method_config methods[] = {
    {.kind = METHOD_LORA, .size = 3, .alpha = 4.5},
    {.kind = METHOD_LORA, .size = 2, .alpha = 16, .rank_stabilised = true, .modules = 1 << LINEAR_O | 1 << LINEAR_DOWN},
    {.kind = METHOD_PROMPT, .size = 5},
    {.kind = METHOD_IA3},
    {.kind = METHOD_IA3, .modules = 1 << LINEAR_O | 1 << LINEAR_UP},
    {.kind = METHOD_PREFIX, .size = 5},
};

static struct model_config model_of(bool neox)
{
    struct model_config model = small_model(6, neox ? 6 : 3, true);
    model.width = 24;
    if (neox) model.architecture = architecture_of(FAMILY_NEOX, model.head_width);
    if (neox) model.architecture.rotary_width = 2;
    return model;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    const char *dir = temporary_path("adapter");
    for (size_t i = 0; i < 2 * sizeof methods / sizeof *methods; i++) {
        struct error err = {""};
        const struct method_config *method = &methods[i / 2];
        struct model_config model = model_of(i % 2);
        struct method_config found;
        struct gathered *written = save(&model, method, dir);
        if (peft_config(dir, &model, &found, &err)) fail_msg("%s", err.text);
        assert_int_equal(found.kind, method->kind);
        assert_int_equal(found.size, method->size);
        assert_int_equal(found.modules, method->modules);
        assert_int_equal(found.rank_stabilised, method->rank_stabilised);
        if (method->kind == METHOD_LORA) assert_true(found.alpha == method->alpha);
        for (int degree = 1; degree <= 3; degree++)
            assert_loads(&(struct loading){.model = &model, .method = &found, .dir = dir}, degree, written);
        gathered_destroy(written);
    }
    remove_folder(dir);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[PATH_MAX];
    mkdir(dir, 0777);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void names_are_those_of_peft(void **state)
{
    (void)state;
    static const struct {
        int method;
        bool neox;
        const char *name;
        uint64_t rows, columns;
    } known[] = {{0, false, "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight", 12, 3},
                 {1, false, "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", 2, 11},
                 {0, true, "base_model.model.gpt_neox.layers.0.attention.query_key_value.lora_A.weight", 3, 24},
                 {2, true, "prompt_embeddings", 5, 24},
                 {3, false, "base_model.model.model.layers.1.self_attn.v_proj.ia3_l", 12, 1},
                 {3, false, "base_model.model.model.layers.0.mlp.down_proj.ia3_l", 1, 11},
                 {3, true, "base_model.model.gpt_neox.layers.1.attention.query_key_value.ia3_l", 72, 1},
                 {4, true, "base_model.model.gpt_neox.layers.0.mlp.dense_h_to_4h.ia3_l", 1, 24},
                 {5, false, "prompt_embeddings", 5, 48},
                 {5, true, "prompt_embeddings", 5, 96}};
    const char *dir = temporary_path("adapter");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct error err = {""};
        struct model_config model = model_of(known[i].neox);
        gathered_destroy(save(&model, &methods[known[i].method], dir));
        struct safetensors *weights = peft_open(dir, &model, &methods[known[i].method], &err);
        if (!weights) fail_msg("%s", err.text);
        const struct safetensors_tensor *tensor = safetensors_find(weights, known[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->shape[0], known[i].rows);
        assert_int_equal(tensor->shape[1], known[i].columns);
        safetensors_close(weights);
    }
    remove_folder(dir);
}

/* As PEFT 0.21 writes it. */
#define OWN                                                                                                            \
    "\"alora_invocation_tokens\":null, \"alpha_pattern\":{}, \"arrow_config\":null, \"auto_mapping\":null, "           \
    "\"base_model_name_or_path\":\"HuggingFaceTB/SmolLM2-135M\", \"corda_config\":null, "                              \
    "\"ensure_weight_tying\":false, \"eva_config\":null, \"exclude_modules\":null, \"fan_in_fan_out\":false, "         \
    "\"inference_mode\":true, \"kasa_config\":null, \"layer_replication\":null, \"layers_pattern\":null, "             \
    "\"layers_to_transform\":null, \"loftq_config\":{}, \"lora_bias\":false, \"lora_dropout\":0.05, "                  \
    "\"lora_ga_config\":null, \"megatron_config\":null, \"megatron_core\":\"megatron.core\", "                         \
    "\"modules_to_save\":null, \"peft_version\":\"0.21.2\", \"qalora_group_size\":16, \"rank_pattern\":{}, "           \
    "\"revision\":null, \"target_parameters\":null, \"task_type\":\"CAUSAL_LM\", \"trainable_token_indices\":null, "   \
    "\"use_bdlora\":null, \"use_dora\":false, \"use_qalora\":false, \"velora_config\":null, "
#define LORA(r, modules, more)                                                                                         \
    "{" OWN "\"bias\":\"none\", \"init_lora_weights\":true, \"lora_alpha\":8, \"peft_type\":\"LORA\", \"r\":" r        \
    ", \"target_modules\":" modules more "}"

#define PREFIX(layers, heads, width, more)                                                                             \
    "{\"auto_mapping\":null, \"base_model_name_or_path\":\"\", \"encoder_hidden_size\":12, \"inference_mode\":true, "  \
    "\"init_weights\":null, \"modules_to_save\":null, \"num_attention_heads\":" heads ", \"num_layers\":" layers       \
    ", \"num_transformer_submodules\":1, \"num_virtual_tokens\":7, \"peft_type\":\"PREFIX_TUNING\", "                  \
    "\"peft_version\":\"0.21.2\", \"revision\":null, \"task_type\":\"CAUSAL_LM\", \"token_dim\":" width more "}"

#define IA3(inputs, modules)                                                                                           \
    "{\"auto_mapping\":null, \"base_model_name_or_path\":\"\", \"exclude_modules\":null, \"fan_in_fan_out\":false, "   \
    "\"feedforward_modules\":" inputs ", \"inference_mode\":true, \"init_ia3_weights\":true, "                         \
    "\"modules_to_save\":null, \"peft_type\":\"IA3\", \"peft_version\":\"0.21.2\", \"revision\":null, "                \
    "\"target_modules\":" modules ", \"task_type\":\"CAUSAL_LM\"}"

static void what_peft_writes_is_understood(void **state)
{
    (void)state;
    enum { DOWN_Q = 1 << LINEAR_DOWN | 1 << LINEAR_Q };
    static const struct {
        const char *text;
        struct method_config wanted;
    } known[] = {
        {LORA("4", "[\"down_proj\", \"q_proj\"]", ", \"use_rslora\":false"),
         {.kind = METHOD_LORA, .size = 4, .alpha = 8, .modules = DOWN_Q}},
        {LORA("4", "[\"model.layers.1.mlp.down_proj\", \"model.layers.0.mlp.down_proj\"]", ", \"use_rslora\":true"),
         {.kind = METHOD_LORA, .size = 4, .alpha = 8, .modules = 1 << LINEAR_DOWN, .rank_stabilised = true}},
        {LORA("1", "\"all-linear\"", ""), {.kind = METHOD_LORA, .size = 1, .alpha = 8}},
        {LORA("1", "[\"q_proj\",\"k_proj\",\"v_proj\",\"o_proj\",\"gate_proj\",\"up_proj\",\"down_proj\"]", ""),
         {.kind = METHOD_LORA, .size = 1, .alpha = 8}},
        {"{\"auto_mapping\":null, \"base_model_name_or_path\":null, \"inference_mode\":true, \"modules_to_save\":null, "
         "\"num_attention_heads\":6, \"num_layers\":2, \"num_transformer_submodules\":1, \"num_virtual_tokens\":5, "
         "\"peft_type\":\"PROMPT_TUNING\", \"peft_version\":\"0.21.2\", \"prompt_tuning_init\":\"TEXT\", "
         "\"prompt_tuning_init_text\":\"Translate:\", \"revision\":null, \"task_type\":\"CAUSAL_LM\", "
         "\"token_dim\":24, "
         "\"tokenizer_kwargs\":null, \"tokenizer_name_or_path\":\"gpt2\"}",
         {.kind = METHOD_PROMPT, .size = 5}},
        {PREFIX("2", "3", "12", ", \"prefix_projection\":false"), {.kind = METHOD_PREFIX, .size = 7}},
        {PREFIX("2", "3", "12", ", \"prefix_projection\":true"), {.kind = METHOD_PREFIX, .size = 7}},
        {IA3("[\"down_proj\"]", "[\"v_proj\",\"k_proj\",\"down_proj\"]"), {.kind = METHOD_IA3}},
        {IA3("[]", "[\"v_proj\",\"q_proj\"]"), {.kind = METHOD_IA3, .modules = 1 << LINEAR_Q | 1 << LINEAR_V}},
        {IA3("[\"up_proj\",\"down_proj\",\"gate_proj\"]", "\"all-linear\""),
         {.kind = METHOD_IA3,
          .modules = 1 << LINEAR_Q | 1 << LINEAR_K | 1 << LINEAR_V | 1 << LINEAR_O | 1 << LINEAR_GATE | 1 << LINEAR_UP |
                     1 << LINEAR_DOWN}},
    };
    const char *dir = temporary_path("adapter");
    struct model_config model = model_of(false);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct error err = {""};
        struct method_config found;
        write_text(dir, "adapter_config.json", known[i].text);
        if (peft_config(dir, &model, &found, &err)) fail_msg("%s", err.text);
        assert_int_equal(found.kind, known[i].wanted.kind);
        assert_int_equal(found.size, known[i].wanted.size);
        assert_int_equal(found.modules, known[i].wanted.modules);
        assert_int_equal(found.rank_stabilised, known[i].wanted.rank_stabilised);
        assert_true(found.alpha == known[i].wanted.alpha);
        if (peft_config(dir, NULL, &found, &err)) fail_msg("%s", err.text); /* of any model */
    }
    remove_folder(dir);
}

static void refused_descriptions(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
    } bad[] = {
        {"", "adapter_config.json:"},
        {"[]", "not an object"},
        {"{\"peft_type\":\"LORA\"", "adapter_config.json:1:"},
        {"{}", "peft_type \"\"; allowed: LORA, PROMPT_TUNING, PREFIX_TUNING, IA3"},
        {"{\"peft_type\":\"ADALORA\"}", "peft_type \"ADALORA\"; allowed"},
        {"{\"peft_type\":\"LORA\", \"task_type\":\"SEQ_CLS\"}", "task_type \"SEQ_CLS\"; allowed: CAUSAL_LM"},
        {"{\"peft_type\":\"LORA\", \"target_modules\":\"all-linear\"}", "\"r\" is missing"},
        {LORA("0", "\"all-linear\"", ""), "\"r\" is no natural number"},
        {LORA("4e9", "\"all-linear\"", ""), "\"r\" is no natural number"},
        {LORA("25", "\"all-linear\"", ""), "rank 25 is above the width 24"},
        {LORA("4", "null", ""), "\"target_modules\" is neither a list of names nor \"all-linear\""},
        {LORA("4", "[]", ""), "\"target_modules\" is neither"},
        {LORA("4", "\".*_proj\"", ""), "\"target_modules\" is neither"},
        {LORA("4", "[7]", ""), "names \"\", which is no matrix"},
        {LORA("4", "[\"q_proj\", \"lm_head\"]", ""), "names \"lm_head\", which is no matrix"},
        {LORA("4", "[\"mlp\"]", ""), "names \"mlp\", which is no matrix"},
        {LORA("4", "[\"query_key_value\"]", ""), "has none of these modules"},
        {LORA("4", "\"all-linear\"", ", \"lora_future\":3"), "\"lora_future\" is set"},
        {"{\"peft_type\":\"LORA\", \"r\":4, \"target_modules\":[\"q_proj\"], \"use_dora\":true}",
         "\"use_dora\" is set"},
        {"{\"peft_type\":\"LORA\", \"r\":4, \"target_modules\":[\"q_proj\"], \"bias\":\"all\"}", "\"bias\" is set"},
        {"{\"peft_type\":\"LORA\", \"r\":4, \"target_modules\":[\"q_proj\"], \"rank_pattern\":{\"q_proj\":2}}",
         "\"rank_pattern\" is set"},
        {"{\"peft_type\":\"LORA\", \"r\":4, \"target_modules\":[\"q_proj\"], \"modules_to_save\":[\"lm_head\"]}",
         "\"modules_to_save\" is set"},
        {"{\"peft_type\":\"LORA\", \"r\":4, \"target_modules\":[\"q_proj\"], \"lora_alpha\":-1}",
         "\"lora_alpha\" is not above 0"},
        {"{\"peft_type\":\"LORA\", \"r\":4, \"target_modules\":[\"q_proj\"], \"init_lora_weights\":\"pissa\"}",
         "may have changed the base's weights"},
        {"{\"peft_type\":\"PROMPT_TUNING\", \"num_virtual_tokens\":5, \"token_dim\":12}",
         "\"token_dim\" is not the width of the model"},
        {PREFIX("3", "3", "12", ""), "\"num_layers\" is not that of the model"},
        {PREFIX("2", "6", "12", ""), "\"num_attention_heads\" is not the number of the model's key/value heads"},
        {PREFIX("2", "3", "24", ""), "\"token_dim\" is not the width of the model's keys and values"},
        {PREFIX("2", "3", "12", ", \"prefix_future\":1"), "\"prefix_future\" is set"},
        {"{\"peft_type\":\"PREFIX_TUNING\"}", "\"num_virtual_tokens\" is missing"},
        {"{\"peft_type\":\"PREFIX_TUNING\", \"num_virtual_tokens\":65537}", "prefix length 65537 is out of range"},
        {"{\"peft_type\":\"PREFIX_TUNING\", \"num_virtual_tokens\":5, \"num_transformer_submodules\":2}",
         "\"num_transformer_submodules\" is not 1"},
        {IA3("null", "[\"k_proj\"]"), "\"feedforward_modules\" is not a list of names"},
        {IA3("\"down_proj\"", "[\"down_proj\"]"), "\"feedforward_modules\" is not a list of names"},
        {IA3("[\"head\"]", "[\"k_proj\"]"), "\"feedforward_modules\" names \"head\", which is no matrix"},
        {IA3("[]", "[\"k_proj\", \"down_proj\"]"), "are not the matrices of the MLP in target_modules"},
        {IA3("[\"down_proj\"]", "[\"up_proj\", \"down_proj\"]"), "are not the matrices of the MLP in target_modules"},
        {IA3("[\"k_proj\"]", "[\"k_proj\"]"), "are not the matrices of the MLP in target_modules"},
        {IA3("[\"down_proj\"]", "[\"k_proj\"]"), "are not the matrices of the MLP in target_modules"},
        {IA3("[\"dense_4h_to_h\"]", "null"), "\"target_modules\" is neither"},
        {"{\"peft_type\":\"IA3\", \"target_modules\":[\"k_proj\"], \"feedforward_modules\":[], "
         "\"fan_in_fan_out\":true}",
         "\"fan_in_fan_out\" is set"},
        {"{\"peft_type\":\"PROMPT_TUNING\", \"num_virtual_tokens\":24}", "prompt length 24 is out of range"},
    };
    const char *dir = temporary_path("adapter");
    struct model_config model = model_of(false);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error err = {""};
        struct method_config found;
        write_text(dir, "adapter_config.json", bad[i].text);
        if (!peft_config(dir, &model, &found, &err)) fail_msg("accepted: %s", bad[i].text);
        if (!strstr(err.text, bad[i].wanted) || !strstr(err.text, dir) || strchr(err.text, '\n'))
            fail_msg("%s\ninstead of: %s", err.text, bad[i].wanted);
    }
    remove_folder(dir);
}

static void assert_refused(const char *dir, const struct model_config *model, const struct method_config *method,
                           const char *wanted)
{
    struct error err = {""};
    struct safetensors *weights = peft_open(dir, model, method, &err);
    if (weights) fail_msg("accepted, not refused with: %s", wanted);
    if (!strstr(err.text, wanted) || strchr(err.text, '\n')) fail_msg("%s\ninstead of: %s", err.text, wanted);
}

static void refused_weights(void **state)
{
    (void)state;
    const char *dir = temporary_path("adapter");
    struct model_config model = model_of(false), narrow = model, deep = model;
    struct method_config all = methods[0], some = all;
    narrow.ffn = 10;
    deep.layers = 3;
    some.modules = 1 << LINEAR_Q;
    gathered_destroy(save(&model, &all, dir));
    assert_refused(dir, &narrow, &all, "does not fit the model: it should be");
    assert_refused(dir, &deep, &all, "layers.2.self_attn.q_proj.lora_A.weight, which adapter_config.json asks for");
    assert_refused(dir, &model, &some, "is none that adapter_config.json explains");
    gathered_destroy(save(&model, &some, dir));
    assert_refused(dir, &model, &all,
                   "k_proj.lora_A.weight, which adapter_config.json asks for (a matrix that it names is one of every "
                   "layer), is not there");
    remove_folder(dir);
    write_text(dir, "adapter_model.bin", "pickle");
    assert_refused(dir, &model, &all, "a pickled file, which can hold programs, is not read");
    remove_folder(dir);
    assert_refused(dir, &model, &all, "No such file");
}

static void methods_without_an_adapter_are_refused(void **state)
{
    (void)state;
    struct error err = {""};
    struct model_config model = model_of(false);
    struct method_config full = {.kind = METHOD_FULL};
    assert_null(peft_describe(&model, &full, "", &err));
    assert_non_null(strstr(err.text, "no PEFT folder is written for the method full"));
}

/* Another rank of scaling is another adapter, although its tensors are the same. */
static void the_digest_is_of_method_and_tensors(void **state)
{
    (void)state;
    const char *dir = temporary_path("adapter");
    struct error err = {""};
    struct digest a, b, c;
    struct model_config model = model_of(false);
    struct method_config method = methods[0], other = method;
    other.alpha = 5;
    gathered_destroy(save(&model, &method, dir));
    struct safetensors *weights = peft_open(dir, &model, &method, &err);
    assert_non_null(weights);
    assert_int_equal(peft_digest(weights, &method, &a, &err), 0);
    assert_int_equal(peft_digest(weights, &method, &b, &err), 0);
    assert_int_equal(peft_digest(weights, &other, &c, &err), 0);
    assert_string_equal(a.hex, b.hex);
    assert_string_not_equal(a.hex, c.hex);
    safetensors_close(weights);
    remove_folder(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(names_are_those_of_peft),
        cmocka_unit_test(what_peft_writes_is_understood),
        cmocka_unit_test(refused_descriptions),
        cmocka_unit_test(refused_weights),
        cmocka_unit_test(methods_without_an_adapter_are_refused),
        cmocka_unit_test(the_digest_is_of_method_and_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
