/* A checkpoint written by one number of devices is loaded by another, and a model begins with the same weights on any:
 * if tiles, counts or initial values depended on the degree, resumed runs and scaling laws would be of other models. */
#include "model_fixture.h"

#include "tests/io/temporary.h"

/* The shards of a gang, without threads: nothing here needs the others. */
struct shards {
    int degree;
    struct collective_group *group;
    struct device *devices[8];
    struct parameters *ranks[8];
};

static struct shards shards_create_with(int degree, const struct model_config *config,
                                        const struct method_config *method, const struct recipe *recipe)
{
    struct error err = {""};
    const struct kernels *kernels = kernels_find("reference", &err);
    struct shards s = {.degree = degree, .group = collective_group_create(degree, &err)};
    for (int rank = 0; rank < degree; rank++) {
        struct collective collective = {s.group, rank, degree};
        s.devices[rank] = kernels->device_create(rank, 1, &err);
        s.ranks[rank] = parameters_create(config, method, recipe, &collective, kernels, s.devices[rank], &err);
        if (!s.ranks[rank]) fail_msg("%s", err.text);
    }
    return s;
}

static struct shards shards_create(int degree, const struct model_config *config, const struct method_config *method,
                                   bool training)
{
    return shards_create_with(degree, config, method, training ? &fixture_adamw : NULL);
}

static void shards_destroy(struct shards *s)
{
    for (int rank = 0; rank < s->degree; rank++) {
        const struct kernels *kernels = s->ranks[rank]->kernels;
        parameters_destroy(s->ranks[rank]);
        kernels->device_destroy(s->devices[rank]);
    }
    collective_group_destroy(s->group);
}

static struct model_config uneven_model(bool tied)
{
    return small_model(6, 3, tied); /* over 2 ranks the middle KV head is on both */
}

/* Every element is some rank's to write, and no two ranks'; sizes are those that the planner counts and the law fits.
 */
static void owned_once(void **state)
{
    (void)state;
    for (int i = 0; i < METHOD_CASES * 2 * 6; i++) {
        struct model_config config = i / METHOD_CASES % 2 ? uneven_model(true) : small_model(6, 1, false);
        const struct method_config *method = &method_cases[i % METHOD_CASES];
        if (!method_fits(method, &config)) continue;
        struct shards s = shards_create(i / (2 * METHOD_CASES) + 1, &config, method, true);
        uint64_t base = 0, trainable = 0;
        for (int rank = 0; rank < s.degree; rank++) {
            for (size_t j = 0; j < s.ranks[rank]->count; j++) {
                const struct parameter *p = &s.ranks[rank]->list[j];
                uint64_t owned = p->owned_count * p->column_count;
                assert_true(p->owned_count == 0 || p->owned_first >= p->row_first);
                assert_true(p->owned_count <= p->row_count);
                if (!p->adapter) base += owned;
                if (p->trainable) trainable += owned;
                assert_int_equal(p->trainable, p->gradient && p->moment1 && p->moment2);
            }
        }
        assert_int_equal(base, model_parameters(&config));
        assert_int_equal(trainable, method_parameters(&config, method));
        shards_destroy(&s);
    }
}

static void initial_values_of_any_degree(void **state)
{
    (void)state;
    for (int m = 1; m < METHOD_CASES; m++) {
        struct model_config config = uneven_model(false);
        struct method_config method = method_cases[m];
        if (!method_fits(&method, &config)) continue;
        struct sample *s = sample_default(&method, config.vocabulary);
        struct gathered *one = gang_train("reference", 1, &config, &method, &s->batch, true);
        for (int degree = 2; degree <= 5; degree++) {
            struct gathered *many = gang_train("reference", degree, &config, &method, &s->batch, true);
            for (size_t i = 0; i < one->count; i++) {
                struct tensor *x = &one->list[i], *y = gathered_find(many, x->name);
                assert_non_null(y);
                assert_memory_equal(x->value, y->value, x->rows * x->columns * sizeof(float));
            }
            gathered_destroy(many);
        }
        gathered_destroy(one);
        free(s);
    }
}

static double deviation(const struct tensor *t)
{
    double squares = 0;
    for (size_t i = 0; i < t->rows * t->columns; i++)
        squares += pow((double)t->value[i], 2);
    return sqrt(squares / (double)(t->rows * t->columns));
}

static void assert_near(double got, double want, double relative)
{
    if (!(fabs(got / want - 1) <= relative)) fail_msg("%g, not %g", got, want);
}

static struct gathered *initial(const struct model_config *config, const struct method_config *method)
{
    struct sample *s = sample_default(method, config->vocabulary);
    struct gathered *g = gang_train("reference", 1, config, method, &s->batch, true);
    free(s);
    return g;
}

static void initial_values_of_the_base(void **state)
{
    (void)state;
    struct model_config config = small_model(8, 4, false);
    config.width = 64;
    config.ffn = 100;
    struct method_config method = method_full_config();
    struct gathered *g = initial(&config, &method);
    assert_near(deviation(gathered_find(g, "model.embed_tokens.weight")), 0.02, 0.1);
    assert_near(deviation(gathered_find(g, "lm_head.weight")), 0.02, 0.1);
    assert_near(deviation(gathered_find(g, "model.layers.1.mlp.up_proj.weight")), 0.02, 0.05);
    assert_near(deviation(gathered_find(g, "model.layers.0.mlp.down_proj.weight")), 0.01,
                0.05); /* 0.02 / sqrt(2 * 2) */
    assert_near(deviation(gathered_find(g, "model.layers.1.self_attn.o_proj.weight")), 0.01, 0.05);
    const struct tensor *gain = gathered_find(g, "model.layers.1.post_attention_layernorm.weight");
    for (size_t i = 0; i < gain->columns; i++)
        assert_true(gain->value[i] == 1);
    const struct tensor *a = gathered_find(g, "model.layers.0.mlp.up_proj.weight"),
                        *b = gathered_find(g, "model.layers.1.mlp.up_proj.weight");
    assert_memory_not_equal(a->value, b->value, 16);
    gathered_destroy(g);
}

static void initial_values_of_lora(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config method = {.kind = METHOD_LORA, .size = 8, .alpha = 8};
    struct gathered *g = initial(&config, &method);
    const struct tensor *a = gathered_find(g, "model.layers.1.mlp.down_proj.lora_A.weight");
    const struct tensor *b = gathered_find(g, "model.layers.1.mlp.down_proj.lora_B.weight");
    assert_int_equal(a->rows, 8);
    assert_int_equal(a->columns, config.ffn);
    double bound = 1 / sqrt(config.ffn);
    assert_near(deviation(a), bound / sqrt(3), 0.15);
    for (size_t i = 0; i < a->rows * a->columns; i++)
        assert_true(fabs((double)a->value[i]) <= bound);
    for (size_t i = 0; i < b->rows * b->columns; i++)
        assert_true(b->value[i] == 0);
    gathered_destroy(g);
}

static void initial_values_of_prompts(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    struct method_config method = {.kind = METHOD_PROMPT, .size = 6};
    struct gathered *g = initial(&config, &method);
    const struct tensor *prompt = gathered_find(g, "prompt_embeddings"),
                        *table = gathered_find(g, "model.embed_tokens.weight");
    size_t used[6];
    for (size_t i = 0; i < 6; i++) {
        size_t bytes = config.width * sizeof(float);
        used[i] = table->rows;
        for (size_t j = 0; j < table->rows; j++)
            if (!memcmp(prompt->value + i * config.width, table->value + j * config.width, bytes)) used[i] = j;
        assert_true(used[i] < table->rows);
    }
    assert_true(used[0] != used[1] || used[0] != used[2]);
    gathered_destroy(g);
}

static const int32_t prompt_ids[] = {22, 0, 7, 7};

static void *start_prompt(void *argument)
{
    struct parameters *parameters = argument;
    struct error err = {""};
    struct model_config config = small_model(4, 2, true);
    parameters_initialise_base(parameters, &config, 5);
    return parameters_initialise_prompt(parameters, &config, prompt_ids, 4, &err) ? "failed" : NULL;
}

/* The text's tokens again and again, cut to the length, whichever rank holds their embeddings. */
static void prompts_from_a_text(void **state)
{
    (void)state;
    struct model_config config = small_model(4, 2, true);
    for (uint32_t length = 3; length <= 9; length += 6) {
        struct method_config method = {.kind = METHOD_PROMPT, .size = length};
        struct shards one = shards_create(1, &config, &method, false),
                      three = shards_create(3, &config, &method, false);
        pthread_t threads[3];
        void *failed;
        assert_null(start_prompt(one.ranks[0]));
        for (int rank = 0; rank < 3; rank++)
            pthread_create(&threads[rank], NULL, start_prompt, three.ranks[rank]);
        for (int rank = 0; rank < 3; rank++) {
            pthread_join(threads[rank], &failed);
            assert_null(failed);
        }
        const float *table = parameters_find(one.ranks[0], "model.embed_tokens.weight")->value;
        for (size_t i = 0; i < length; i++) {
            const float *wanted = table + (size_t)prompt_ids[i % 4] * config.width;
            for (int rank = 0; rank < 4; rank++) {
                const struct parameters *p = rank < 3 ? three.ranks[rank] : one.ranks[0];
                const struct parameter *prompt = parameters_find(p, "prompt_embeddings");
                assert_memory_equal(prompt->value + i * config.width, wanted, config.width * sizeof(float));
            }
        }
        shards_destroy(&one);
        shards_destroy(&three);
    }
}

/* A value that says where it belongs. */
static float mark(const struct parameter *p, size_t row, size_t column, int kind)
{
    return (float)(random_stream(p->name) % 1000) + 1000 * (float)(row * p->columns + column) + 0.25f * (float)kind;
}

/* Value, moment1 or moment2, as this rank holds it: what is kept a row, or a column, stands for its first element. */
struct held {
    float *data;
    size_t row_first, rows, column_first, columns;
};

static struct held held_of(const struct parameter *p, int kind)
{
    struct held held = {p->value, p->row_first, p->row_count, p->column_first, p->column_count};
    enum moment_form form = kind == 0 ? MOMENT_FULL : kind == 1 ? p->form1 : p->form2;
    if (kind) held.data = kind == 1 ? p->moment1 : p->moment2;
    if (form == MOMENT_ROWS) held.column_first = 0;
    if (form == MOMENT_ROWS) held.columns = 1;
    if (form == MOMENT_COLUMNS) held.row_first = 0;
    if (form == MOMENT_COLUMNS) held.rows = 1;
    return held;
}

static float held_mark(const struct parameter *p, const struct held *held, int kind, size_t at)
{
    return mark(p, held->row_first + at / held->columns, held->column_first + at % held->columns, kind);
}

static void mark_all(struct shards *s)
{
    for (int rank = 0; rank < s->degree; rank++)
        for (size_t i = 0; i < s->ranks[rank]->count; i++) {
            const struct parameter *p = &s->ranks[rank]->list[i];
            for (int kind = 0; kind < 3; kind++) {
                struct held held = held_of(p, kind);
                for (size_t j = 0; held.data && j < held.rows * held.columns; j++)
                    held.data[j] = held_mark(p, &held, kind, j);
            }
        }
}

/* kinds: how many of value, moment1, moment2 were loaded; `loaded` tensors hold their marks, others zeros. */
static void assert_marks(const struct shards *s, bool trainable_only, int kinds)
{
    for (int rank = 0; rank < s->degree; rank++)
        for (size_t i = 0; i < s->ranks[rank]->count; i++) {
            const struct parameter *p = &s->ranks[rank]->list[i];
            bool loaded = trainable_only ? p->trainable : !p->adapter;
            for (int kind = 0; kind < 3; kind++) {
                struct held held = held_of(p, kind);
                for (size_t j = 0; held.data && j < held.rows * held.columns; j++) {
                    float want = held_mark(p, &held, kind, j), got = held.data[j];
                    if (got != (loaded && kind < kinds ? want : 0))
                        fail_msg("%s, kind %d, element %zu: %g", p->name, kind, j, (double)got);
                }
            }
        }
}

static struct digest save(struct shards *s, const char *path, bool moments)
{
    struct error err = {""};
    struct digest digest = {""};
    struct checkpoint_header header = {.stage = "0123", .step = 7};
    struct checkpoint_writer *writer = checkpoint_writer_create(path, &header, NULL, 0, &err);
    if (!writer || parameters_declare(s->ranks[s->degree - 1], writer, moments, &err)) fail_msg("%s", err.text);
    for (int rank = s->degree - 1; rank >= 0; rank--)
        if (parameters_put(s->ranks[rank], writer, moments, &err)) fail_msg("%s", err.text);
    if (checkpoint_writer_finish(writer, &digest, &err)) fail_msg("%s", err.text);
    return digest;
}

static int load(struct shards *s, const char *path, bool trainable_only, bool moments, struct error *err)
{
    struct checkpoint *checkpoint = checkpoint_open(path, err);
    int rc = checkpoint ? 0 : -1;
    for (int rank = 0; !rc && rank < s->degree; rank++)
        rc = parameters_load(s->ranks[rank], checkpoint, trainable_only, moments, err);
    checkpoint_close(checkpoint);
    return rc;
}

static void check_checkpoints(const struct recipe *recipe)
{
    struct model_config config = uneven_model(false);
    const int tuned = METHOD_CASES - 1;
    for (int i = 0; i < tuned * 4 * 2; i++) {
        const struct method_config *method = &method_cases[i % tuned + 1];
        if (!method_fits(method, &config)) continue;
        int degree = i / tuned % 4 + 1;
        bool moments = i / (4 * tuned);
        struct shards one = shards_create_with(1, &config, method, recipe),
                      from = shards_create_with(degree, &config, method, recipe);
        mark_all(&one);
        mark_all(&from);
        struct digest first = save(&one, temporary_path("one.h5"), moments),
                      second = save(&from, temporary_path("many.h5"), moments);
        assert_string_equal(first.hex, second.hex);
        struct shards to = shards_create_with(5 - degree, &config, method, recipe);
        struct error err = {""};
        if (load(&to, temporary_path("many.h5"), true, true, &err)) fail_msg("%s", err.text);
        assert_marks(&to, true, moments ? 3 : 1);
        shards_destroy(&one);
        shards_destroy(&from);
        shards_destroy(&to);
    }
}

static void checkpoints_of_any_degree(void **state)
{
    (void)state;
    const struct recipe adafactor = {.optimiser = OPTIMISER_ADAFACTOR};
    const struct recipe sgd = {.optimiser = OPTIMISER_SGD, .momentum = 0.9};
    check_checkpoints(&fixture_adamw);
    check_checkpoints(&adafactor);
    check_checkpoints(&sgd);
}

/* Finetuning starts from a pretrained base: base weights alone, without its moments, and adapters stay as they are. */
static void base_into_a_method(void **state)
{
    (void)state;
    struct model_config config = uneven_model(true);
    struct method_config full = method_full_config();
    struct shards pretrained = shards_create(2, &config, &full, true);
    mark_all(&pretrained);
    save(&pretrained, temporary_path("base.h5"), true);
    for (int m = 0; m < METHOD_CASES; m++) {
        if (!method_fits(&method_cases[m], &config)) continue;
        struct shards s = shards_create(3, &config, &method_cases[m], true);
        struct error err = {""};
        if (load(&s, temporary_path("base.h5"), false, false, &err)) fail_msg("%s", err.text);
        assert_marks(&s, false, 1);
        shards_destroy(&s);
    }
    shards_destroy(&pretrained);
}

/* A file of another method or another model is refused by name. */
static void other_files_are_refused(void **state)
{
    (void)state;
    struct model_config config = uneven_model(true), other = config;
    struct method_config lora = method_lora_config(), full = method_full_config();
    struct shards adapter = shards_create(1, &config, &lora, true), base = shards_create(2, &config, &full, false);
    save(&adapter, temporary_path("adapter.h5"), false);
    struct error err = {""};
    assert_int_equal(load(&base, temporary_path("adapter.h5"), false, false, &err), -1);
    assert_non_null(strstr(err.text, "model.embed_tokens.weight"));
    other.ffn += 1;
    struct shards wider = shards_create(1, &other, &lora, true);
    assert_int_equal(load(&wider, temporary_path("adapter.h5"), true, false, &err), -1);
    assert_non_null(strstr(err.text, "lora"));
    shards_destroy(&adapter);
    shards_destroy(&base);
    shards_destroy(&wider);
}

/* A device that fails at one of its answers. */
static int answers_left;

static int synchronise_failing(struct device *device, struct error *err)
{
    (void)device;
    return answers_left-- > 0 ? 0 : error_set(err, DEVICE_FAILED ": it is gone");
}

/* Whichever answer it is: what was read does not reach the file. */
static void nothing_of_a_failed_device_is_saved(void **state)
{
    (void)state;
    struct model_config config = uneven_model(true);
    struct method_config lora = method_lora_config();
    struct shards adapter = shards_create(1, &config, &lora, true);
    const struct kernels *whole = adapter.ranks[0]->kernels;
    struct kernels failing = *whole;
    failing.synchronise = synchronise_failing;
    adapter.ranks[0]->kernels = &failing;
    size_t trained = 0;
    for (size_t i = 0; i < adapter.ranks[0]->count; i++)
        trained += adapter.ranks[0]->list[i].trainable;
    for (size_t answers = 0; answers <= 3 * trained; answers++) {
        struct error err = {""};
        struct checkpoint_header header = {.stage = "0123", .step = 7};
        struct checkpoint_writer *writer =
            checkpoint_writer_create(temporary_path("failed.h5"), &header, NULL, 0, &err);
        if (!writer || parameters_declare(adapter.ranks[0], writer, true, &err)) fail_msg("%s", err.text);
        answers_left = (int)answers;
        int status = parameters_put(adapter.ranks[0], writer, true, &err);
        checkpoint_writer_destroy(writer);
        assert_int_equal(status, answers < 3 * trained ? -1 : 0); /* value and two moments each */
        if (status) assert_non_null(strstr(err.text, "it is gone"));
    }
    adapter.ranks[0]->kernels = whole;
    shards_destroy(&adapter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owned_once),
        cmocka_unit_test(initial_values_of_any_degree),
        cmocka_unit_test(initial_values_of_the_base),
        cmocka_unit_test(initial_values_of_lora),
        cmocka_unit_test(initial_values_of_prompts),
        cmocka_unit_test(prompts_from_a_text),
        cmocka_unit_test_setup_teardown(checkpoints_of_any_degree, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(base_into_a_method, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(other_files_are_refused, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(nothing_of_a_failed_device_is_saved, temporary_create, temporary_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
