/* Models from Hugging Face's folders: what is written is read, by gangs of any degree, for every family; and a folder
 * that is not what its config.json says is refused with one line. */
#include <sys/stat.h>

#include "model_fixture.h"
#include "tests/io/temporary.h"
#include "workers/files/huggingface.h"
#include "workers/stage/gang.h"

static void remove_folder(const char *dir)
{
    static const char *const names[] = {"config.json",   "model.safetensors", "model.safetensors.index.json",
                                        "a.safetensors", "b.safetensors",     "given.model",
                                        "vocab.txt"};
    char path[PATH_MAX + 64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

/* A folder with random weights of a model; the weights as the gang of one had them. */
static struct gathered *save(const struct model_config *config, const char *dir)
{
    struct error err = {""};
    struct method_config none = {.kind = METHOD_NONE};
    struct batch_capacity capacity = {.tokens = 10, .sequences = 1, .targets = 10, .longest = 10};
    struct gathered *g = gathered_create();
    struct rank r = rank_alone("reference", config, &none, &capacity, false);
    remove_folder(dir);
    if (huggingface_save(r.parameters, config, NULL, dir, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; i < r.parameters->count; i++)
        gather_tile(g, &r, &r.parameters->list[i]);
    rank_destroy(&r);
    return g;
}

struct loading {
    const struct model_config *config;
    const char *dir;
    struct gathered *out;
    pthread_mutex_t mutex;
};

static int load_rank(void *context, const struct collective *collective, struct error *err)
{
    struct loading *loading = context;
    struct method_config none = {.kind = METHOD_NONE};
    struct batch_capacity capacity = {.tokens = 10, .sequences = 1, .targets = 10, .longest = 10};
    struct rank r;
    struct safetensors *weights = huggingface_open(loading->dir, loading->config, err);
    if (!weights) return -1;
    int result =
        rank_create(&r, kernels_find("reference", NULL), collective, loading->config, &none, &capacity, false, err);
    if (!result) {
        result = huggingface_load(r.parameters, weights, err);
        pthread_mutex_lock(&loading->mutex);
        for (size_t i = 0; i < r.parameters->count && !result; i++)
            gather_tile(loading->out, &r, &r.parameters->list[i]);
        pthread_mutex_unlock(&loading->mutex);
        rank_destroy(&r);
    }
    safetensors_close(weights);
    return result;
}

static struct gathered *load(const struct model_config *config, const char *dir, int degree)
{
    struct error err = {""};
    struct loading loading = {.config = config, .dir = dir, .out = gathered_create()};
    pthread_mutex_init(&loading.mutex, NULL);
    if (gang_run(degree, load_rank, &loading, &err)) fail_msg("%s", err.text);
    if (loading.out->failure[0]) fail_msg("%s", loading.out->failure);
    pthread_mutex_destroy(&loading.mutex);
    return loading.out;
}

static void assert_same_values(struct gathered *a, struct gathered *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct tensor *x = &a->list[i], *y = gathered_find(b, x->name);
        assert_non_null(y);
        assert_memory_equal(x->value, y->value, x->rows * x->columns * sizeof(float));
    }
}

/* Those that Hugging Face has. */
static const struct variant published[] = {
    {"llama", {0}},
    {"llama with biases", {.qkv_bias = true, .out_bias = true, .mlp_bias = true}},
    {"mistral", {.family = FAMILY_MISTRAL, .window = 96}},
    {"qwen2", {.family = FAMILY_QWEN2, .qkv_bias = true}},
    {"qwen3", {.family = FAMILY_QWEN3, .qk_norm = QK_NORM_HEAD}},
    {"qwen3 with biases",
     {.family = FAMILY_QWEN3, .qk_norm = QK_NORM_HEAD, .qkv_bias = true, .out_bias = true, .window = 96}},
    {"olmo2", {.family = FAMILY_OLMO2, .norm_after = true, .qk_norm = QK_NORM_TOKEN}},
    {"olmo2 with biases",
     {.family = FAMILY_OLMO2, .norm_after = true, .qk_norm = QK_NORM_TOKEN, .qkv_bias = true, .out_bias = true}},
    {"gpt_neox",
     {.family = FAMILY_NEOX,
      .norm = NORM_LAYER,
      .activation = ACTIVATION_GELU_TANH,
      .parallel = true,
      .fused_qkv = true,
      .qkv_bias = true,
      .out_bias = true,
      .mlp_bias = true,
      .rotary_width = 2}},
};
enum { PUBLISHED = sizeof published / sizeof *published };

static struct model_config published_model(int i)
{
    bool fused = published[i].architecture.fused_qkv;
    struct model_config config = small_model(6, fused ? 6 : 3, i % 2);
    config.architecture = published[i].architecture;
    config.width = 24;
    return config;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    const char *dir = temporary_path("model");
    for (int i = 0; i < PUBLISHED; i++) {
        struct error err = {""};
        struct model_config config = published_model(i), found;
        struct digest digest, again;
        struct gathered *written = save(&config, dir);
        if (huggingface_config(dir, &found, &err)) fail_msg("%s: %s", published[i].what, err.text);
        char a[MODEL_TEXT], b[MODEL_TEXT];
        model_text(&config, a, sizeof a);
        model_text(&found, b, sizeof b);
        assert_string_equal(a, b);
        for (int degree = 1; degree <= 4; degree++) {
            struct gathered *read = load(&found, dir, degree);
            assert_same_values(written, read);
            gathered_destroy(read);
        }
        assert_int_equal(huggingface_identify(dir, &found, &digest, &err), 0);
        assert_int_equal(huggingface_identify(dir, &found, &again, &err), 0);
        assert_string_equal(digest.hex, again.hex);
        gathered_destroy(written);
    }
    remove_folder(dir);
}

/* A base of other weights is another base, also where it takes the place of one that was looked at. */
static void changed_weights_change_the_digest(void **state)
{
    (void)state;
    struct error err = {""};
    const char *dir = temporary_path("model");
    struct model_config config = published_model(0);
    struct digest before, after;
    gathered_destroy(save(&config, dir));
    assert_int_equal(huggingface_identify(dir, &config, &before, &err), 0);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    int last = fgetc(file);
    fseek(file, -1, SEEK_END);
    fputc(last ^ 1, file);
    fclose(file);
    assert_int_equal(huggingface_identify(dir, &config, &after, &err), 0);
    assert_string_not_equal(before.hex, after.hex);
    remove_folder(dir);
}

static void write_config(const char *dir, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *file = fopen(path, "w");
    assert_true(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void call_tied(const char *dir, const struct model_config *config)
{
    struct error err;
    struct model_config tied = *config;
    tied.tied = true;
    char *text = huggingface_describe(&tied, &err);
    assert_non_null(text);
    write_config(dir, text);
    free(text);
}

/* The output matrix of the file is the embedding from now on. */
static void copy_embedding(const char *dir, const struct model_config *config)
{
    struct error err;
    char path[PATH_MAX], name[64];
    struct safetensors *weights = safetensors_open(dir, &err);
    assert_non_null(weights);
    const struct tensor_names *names = tensor_names_of(config);
    snprintf(name, sizeof name, "%s.weight", names->embedding);
    const struct safetensors_tensor *from = safetensors_find(weights, name);
    snprintf(name, sizeof name, "%s.weight", names->unembedding);
    const struct safetensors_tensor *to = safetensors_find(weights, name);
    assert_true(from && to && from->bytes == to->bytes);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *file = fopen(path, "r+");
    void *bytes = malloc(from->bytes);
    assert_true(file && bytes && !fseek(file, (long)from->offset, SEEK_SET));
    assert_int_equal(fread(bytes, 1, from->bytes, file), from->bytes);
    assert_int_equal(fseek(file, (long)to->offset, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, to->bytes, file), to->bytes);
    assert_int_equal(fclose(file), 0);
    free(bytes);
    safetensors_close(weights);
}

/* What the weights hold decides: an output matrix of its own is not dropped because config.json calls the model tied,
 * and one that is the embedding makes no other model. */
static void output_matrix_beside_the_embedding(void **state)
{
    (void)state;
    const char *dir = temporary_path("model");
    for (int i = 0; i < PUBLISHED; i += PUBLISHED - 1) {
        struct error err = {""};
        struct model_config config = published_model(i), found;
        config.tied = false;
        struct gathered *written = save(&config, dir);
        call_tied(dir, &config);
        if (huggingface_config(dir, &found, &err)) fail_msg("%s", err.text);
        assert_false(found.tied);
        struct gathered *read = load(&found, dir, 1);
        assert_same_values(written, read);
        gathered_destroy(read);
        gathered_destroy(written);
        copy_embedding(dir, &config);
        if (huggingface_config(dir, &found, &err)) fail_msg("%s", err.text);
        assert_true(found.tied);
        gathered_destroy(load(&found, dir, 1));
    }
    remove_folder(dir);
}

static void refused_descriptions(void **state)
{
    (void)state;
    static const char shape[] = "\"hidden_size\":24,\"num_hidden_layers\":2,\"num_attention_heads\":6,"
                                "\"intermediate_size\":11,\"vocab_size\":23";
    static const struct {
        const char *more, *why;
    } cases[] = {
        {"\"model_type\":\"mamba\"", "model_type \"mamba\" is not one that Tunelaw has; allowed: llama"},
        {"\"model_type\":\"llama\",\"hidden_act\":\"relu\"", "hidden_act \"relu\"; allowed: silu"},
        {"\"model_type\":\"gpt_neox\",\"hidden_act\":\"relu\"", "allowed: gelu"},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":8}",
         "scaled by \"yarn\"; allowed: default, linear, llama3"},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}",
         "\"factor\" is not at least 1"},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}",
         "\"original_max_position_embeddings\" is missing"},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
         "\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}",
         "\"high_freq_factor\" is not above low_freq_factor above 0"},
        {"\"model_type\":\"llama\",\"rope_scaling\":7", "is no object"},
        {"\"model_type\":\"llama\",\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2,"
         "\"partial_rotary_factor\":0.5}",
         "\"partial_rotary_factor\" is not 1, and the positions are scaled"},
        {"\"model_type\":\"llama\",\"num_key_value_heads\":5", "kv_heads 5 does not divide heads 6"},
        {"\"model_type\":\"llama\",\"num_key_value_heads\":-1", "is no natural number"},
        {"\"model_type\":\"qwen3\",\"use_sliding_window\":true,\"max_window_layers\":1,\"num_key_value_heads\":6",
         "has some layers slide"},
        {"\"model_type\":\"llama\",\"rms_norm_eps\":\"x\"", "is no number"},
        {"\"model_type\":\"llama\",\"hidden_size\":24", "duplicate"},
    };
    struct error err;
    struct model_config config;
    const char *dir = temporary_path("model");
    assert_int_equal(mkdir(dir, 0777), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        snprintf(text, sizeof text, "{%s,%s}", shape, cases[i].more);
        write_config(dir, text);
        assert_int_equal(huggingface_config(dir, &config, &err), -1);
        if (!strstr(err.text, cases[i].why)) fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].why);
    }
    write_config(dir, "{\"model_type\":\"llama\"}");
    assert_int_equal(huggingface_config(dir, &config, &err), -1);
    assert_non_null(strstr(err.text, "\"hidden_size\" is missing"));
    write_config(dir, "[]");
    assert_int_equal(huggingface_config(dir, &config, &err), -1);
    remove_folder(dir);
    assert_int_equal(huggingface_config(dir, &config, &err), -1);
    assert_non_null(strstr(err.text, "No such file"));
}

/* Fields of published models' descriptions that need no weights to be judged. */
static void published_descriptions(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
    } known[] = {
        /* Llama 3.2 1B */
        {"{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
         "\"bos_token_id\":128000,\"eos_token_id\":128001,\"head_dim\":64,\"hidden_act\":\"silu\",\"hidden_size\":2048,"
         "\"initializer_range\":0.02,\"intermediate_size\":8192,\"max_position_embeddings\":131072,\"mlp_bias\":false,"
         "\"model_type\":\"llama\",\"num_attention_heads\":32,\"num_hidden_layers\":16,\"num_key_value_heads\":8,"
         "\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":{\"factor\":32.0,\"high_freq_factor\":4.0,"
         "\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},"
         "\"rope_theta\":500000.0,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\",\"use_cache\":true,"
         "\"vocab_size\":128256}",
         "layers=16 width=2048 heads=32 kv_heads=8 head_width=64 ffn=8192 vocabulary=128256 tied=1 rope_theta=500000 "
         "norm_epsilon=1.0000000000000001e-05 rope_factor=32 rope_low=1 rope_high=4 rope_original=8192"},
        /* Pythia 70M */
        {"{\"architectures\":[\"GPTNeoXForCausalLM\"],\"bos_token_id\":0,\"eos_token_id\":0,\"hidden_act\":\"gelu\","
         "\"hidden_size\":512,\"initializer_range\":0.02,\"intermediate_size\":2048,\"layer_norm_eps\":1e-05,"
         "\"max_position_embeddings\":2048,\"model_type\":\"gpt_neox\",\"num_attention_heads\":8,\"num_hidden_layers\":"
         "6,"
         "\"rotary_emb_base\":10000,\"rotary_pct\":0.25,\"tie_word_embeddings\":false,\"torch_dtype\":\"float16\","
         "\"use_cache\":true,\"use_parallel_residual\":true,\"vocab_size\":50304}",
         "layers=6 width=512 heads=8 kv_heads=8 head_width=64 ffn=2048 vocabulary=50304 tied=0 rope_theta=10000 "
         "norm_epsilon=1.0000000000000001e-05 family=gpt_neox norm=layer activation=gelu norm_after=0 parallel=1 "
         "qk_norm=0 "
         "fused_qkv=1 qkv_bias=1 out_bias=1 mlp_bias=1 rotary_width=16 window=0"},
        /* TinyLlama 1.1B, before transformers had some keys */
        {"{\"hidden_act\":\"silu\",\"hidden_size\":2048,\"intermediate_size\":5632,\"model_type\":\"llama\","
         "\"num_attention_heads\":32,\"num_hidden_layers\":22,\"num_key_value_heads\":4,\"rms_norm_eps\":1e-05,"
         "\"rope_scaling\":null,\"tie_word_embeddings\":false,\"vocab_size\":32000}",
         "layers=22 width=2048 heads=32 kv_heads=4 head_width=64 ffn=5632 vocabulary=32000 tied=0 rope_theta=10000 "
         "norm_epsilon=1.0000000000000001e-05"},
        /* Qwen3 0.6B: heads together wider than the model */
        {"{\"architectures\":[\"Qwen3ForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,\"bos_token_"
         "id\":"
         "151643,\"eos_token_id\":151645,\"head_dim\":128,\"hidden_act\":\"silu\",\"hidden_size\":1024,"
         "\"initializer_range\":0.02,\"intermediate_size\":3072,\"max_position_embeddings\":40960,\"max_window_"
         "layers\":"
         "28,\"model_type\":\"qwen3\",\"num_attention_heads\":16,\"num_hidden_layers\":28,\"num_key_value_heads\":8,"
         "\"rms_norm_eps\":1e-06,\"rope_scaling\":null,\"rope_theta\":1000000,\"sliding_window\":null,"
         "\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\",\"use_cache\":true,\"use_sliding_window\":false,"
         "\"vocab_size\":151936}",
         "layers=28 width=1024 heads=16 kv_heads=8 head_width=128 ffn=3072 vocabulary=151936 tied=1 rope_theta=1000000 "
         "norm_epsilon=9.9999999999999995e-07 family=qwen3 norm=rms activation=swiglu norm_after=0 parallel=0 "
         "qk_norm=2 "
         "fused_qkv=0 qkv_bias=0 out_bias=0 mlp_bias=0 rotary_width=0 window=0"},
        /* a share of heads that Mistral's class does not look at, and what that has where the file does not say it */
        {"{\"hidden_size\":64,\"intermediate_size\":32,\"model_type\":\"mistral\",\"num_attention_heads\":16,"
         "\"num_hidden_layers\":2,\"rms_norm_eps\":1e-05,\"rope_parameters\":{\"rope_type\":\"default\","
         "\"rope_theta\":500000.0,\"partial_rotary_factor\":0.5},\"vocab_size\":320}",
         "layers=2 width=64 heads=16 kv_heads=8 head_width=4 ffn=32 vocabulary=320 tied=0 rope_theta=500000 "
         "norm_epsilon=1.0000000000000001e-05 family=mistral norm=rms activation=swiglu norm_after=0 parallel=0 "
         "qk_norm=0 fused_qkv=0 qkv_bias=0 out_bias=0 mlp_bias=0 rotary_width=0 window=4096"},
        {"{\"hidden_size\":66,\"intermediate_size\":32,\"model_type\":\"qwen3\",\"num_attention_heads\":64,"
         "\"max_window_layers\":0,\"num_hidden_layers\":2,\"use_sliding_window\":true,\"vocab_size\":320}",
         "layers=2 width=66 heads=64 kv_heads=32 head_width=128 ffn=32 vocabulary=320 tied=0 rope_theta=10000 "
         "norm_epsilon=9.9999999999999995e-07 family=qwen3 norm=rms activation=swiglu norm_after=0 parallel=0 "
         "qk_norm=2 fused_qkv=0 qkv_bias=0 out_bias=0 mlp_bias=0 rotary_width=0 window=4096"},
        {"{\"hidden_size\":66,\"intermediate_size\":32,\"model_type\":\"qwen3\",\"num_attention_heads\":64,"
         "\"num_hidden_layers\":2,\"use_sliding_window\":true,\"vocab_size\":320}",
         "layers=2 width=66 heads=64 kv_heads=32 head_width=128 ffn=32 vocabulary=320 tied=0 rope_theta=10000 "
         "norm_epsilon=9.9999999999999995e-07 family=qwen3 norm=rms activation=swiglu norm_after=0 parallel=0 "
         "qk_norm=2 fused_qkv=0 qkv_bias=0 out_bias=0 mlp_bias=0 rotary_width=0 window=0"},
    };
    const char *dir = temporary_path("model");
    assert_int_equal(mkdir(dir, 0777), 0);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct error err = {""};
        struct model_config config, again;
        char text[MODEL_TEXT];
        write_config(dir, known[i].text);
        if (huggingface_config(dir, &config, &err)) fail_msg("%s", err.text);
        model_text(&config, text, sizeof text);
        assert_string_equal(text, known[i].wanted);
        char *described = huggingface_describe(&config, &err);
        assert_non_null(described);
        write_config(dir, described);
        free(described);
        assert_int_equal(huggingface_config(dir, &again, &err), 0);
        model_text(&again, text, sizeof text);
        assert_string_equal(text, known[i].wanted);
    }
    remove_folder(dir);
}

/* The weights are not what the description says. */
static void refused_weights(void **state)
{
    (void)state;
    struct error err;
    const char *dir = temporary_path("model");
    struct model_config config = published_model(0), other = config;
    gathered_destroy(save(&config, dir));
    other.layers = 3;
    assert_null(huggingface_open(dir, &other, &err));
    assert_non_null(
        strstr(err.text, "model.layers.2.input_layernorm.weight, which config.json asks for, is not there"));
    other.layers = 1;
    assert_null(huggingface_open(dir, &other, &err));
    assert_non_null(strstr(err.text, "is none of the model that config.json describes"));
    other = config;
    other.ffn = 12;
    assert_null(huggingface_open(dir, &other, &err));
    assert_non_null(strstr(err.text, "is of another shape than config.json says"));
    other = config;
    other.architecture.qkv_bias = true;
    assert_null(huggingface_open(dir, &other, &err));
    assert_non_null(strstr(err.text, "self_attn.k_proj.bias, which"));
    remove_folder(dir);
}

/* Files beside the weights: given bytes, and copies; one that cannot be copied leaves no folder. */
static void files_come_along(void **state)
{
    (void)state;
    struct error err = {""};
    const struct model_config config = published_model(0);
    struct method_config none = {.kind = METHOD_NONE};
    struct batch_capacity capacity = {.tokens = 10, .sequences = 1, .targets = 10, .longest = 10};
    struct rank r = rank_alone("reference", &config, &none, &capacity, false);
    char from[PATH_MAX], absent[PATH_MAX], out[PATH_MAX], path[PATH_MAX + 32];
    snprintf(from, sizeof from, "%s", temporary_write("vocab.txt", "a\nb\n", 4));
    snprintf(absent, sizeof absent, "%s", temporary_path("absent.txt"));
    snprintf(out, sizeof out, "%s", temporary_path("with_files"));
    const struct folder_file files[] = {{.name = "given.model", .bytes = "xyz", .size = 3},
                                        {.name = "vocab.txt", .from = from},
                                        {.name = "none.txt", .from = absent}};
    assert_int_equal(
        huggingface_save(r.parameters, &config, &(struct huggingface_companions){files, 3, NULL, 1, 2, -1}, out, &err),
        -1);
    assert_non_null(strstr(err.text, "absent.txt: No such file"));
    assert_int_equal(access(out, F_OK), -1);
    if (huggingface_save(r.parameters, &config, &(struct huggingface_companions){files, 2, NULL, 1, 2, -1}, out, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < 2; i++) {
        char text[8] = "";
        snprintf(path, sizeof path, "%s/%s", out, files[i].name);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_int_equal(fread(text, 1, sizeof text, file), i ? 4 : 3);
        assert_string_equal(text, i ? "a\nb\n" : "xyz");
        fclose(file);
    }
    remove_folder(out);
    rank_destroy(&r);
}

/* A model that transformers has no class for is not written as another one. */
static void unpublished_models_are_not_written(void **state)
{
    (void)state;
    struct error err;
    struct model_config config = published_model(0);
    config.architecture.parallel = true;
    assert_null(huggingface_describe(&config, &err));
    assert_non_null(strstr(err.text, "llama has no such model"));
    config = published_model(0);
    config.width = 25; /* heads of 4, six of them */
    assert_null(huggingface_describe(&config, &err));
    assert_non_null(strstr(err.text, "llama has no such model"));
    config = published_model(PUBLISHED - 1);
    config.architecture.parallel = false;
    char *text = huggingface_describe(&config, &err);
    assert_non_null(text);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(changed_weights_change_the_digest),
        cmocka_unit_test(output_matrix_beside_the_embedding),
        cmocka_unit_test(refused_descriptions),
        cmocka_unit_test(published_descriptions),
        cmocka_unit_test(refused_weights),
        cmocka_unit_test(files_come_along),
        cmocka_unit_test(unpublished_models_are_not_written),
    };
    return cmocka_run_group_tests(tests, temporary_create, temporary_remove);
}
