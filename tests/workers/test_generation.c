/* Texts of a split and of one's own: what is handed on is what the data set was made of, in order, however it falls
 * into batches; and a generation that is stopped ends between two of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fixture.h"
#include "workers/model/model.h"
#include "workers/text/generation.h"

enum { EXAMPLES = 24 };

static struct fixture fixture;
static struct dataset *dataset;
static struct tokenizer *tokenizer;

static int set_up(void **state)
{
    size_t size;
    struct error err;
    (void)state;
    if (fixture_create(&fixture)) return -1;
    dataset = dataset_open(fixture.dataset, &err);
    const void *model = dataset ? dataset_tokenizer(dataset, &size) : NULL;
    tokenizer = model ? tokenizer_create(model, size, &err) : NULL;
    return tokenizer ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    tokenizer_destroy(tokenizer);
    dataset_close(dataset);
    fixture_destroy(&fixture);
    return 0;
}

struct taken {
    size_t count;
    char *texts[64][3];
};

static int take(void *context, const struct generated_text *text, struct error *err)
{
    struct taken *taken = context;
    (void)err;
    assert_int_equal(text->index, taken->count);
    const char *parts[3] = {text->source, text->reference, text->hypothesis};
    for (int i = 0; i < 3; i++)
        taken->texts[taken->count][i] = parts[i] ? strdup(parts[i]) : NULL;
    taken->count++;
    return 0;
}

static void taken_free(struct taken *taken)
{
    for (size_t i = 0; i < taken->count; i++)
        for (int part = 0; part < 3; part++)
            free(taken->texts[i][part]);
    *taken = (struct taken){0};
}

/* A model of random weights, with more tokens than the tokenizer. */
struct machine {
    const struct kernels *kernels;
    struct device *device;
    struct parameters *parameters;
    struct model *model;
    struct batch_buffer buffer;
};

static const struct method_config untuned = {.kind = METHOD_NONE};

static struct model_config model_of(void)
{
    return (struct model_config){.name = "s",
                                 .layers = 1,
                                 .width = 16,
                                 .heads = 2,
                                 .kv_heads = 1,
                                 .head_width = 8,
                                 .ffn = 16,
                                 .vocabulary = (uint32_t)fixture.info.vocabulary + 64,
                                 .tied = false,
                                 .rope_theta = 1e4,
                                 .norm_epsilon = 1e-5};
}

static struct machine machine_of(const struct method_config *method, size_t tokens)
{
    struct error err = {""};
    const struct model_config model = model_of();
    const struct collective alone = {NULL, 0, 1};
    const struct batch_capacity capacity = {.tokens = tokens, .sequences = 64, .targets = tokens, .longest = 64};
    struct machine m = {.kernels = kernels_find("cpu", &err)};
    m.device = m.kernels->device_create(0, 1, &err);
    m.parameters = parameters_create(&model, method, NULL, &alone, m.kernels, m.device, &err);
    if (m.parameters) parameters_initialise_base(m.parameters, &model, 3);
    m.model = m.parameters ? model_create(&model, method, m.parameters, &capacity, false, &err) : NULL;
    if (!m.model || batch_buffer_create(&m.buffer, &capacity, &err)) fail_msg("%s", err.text);
    return m;
}

static struct machine machine_create(size_t tokens)
{
    return machine_of(&untuned, tokens);
}

static void machine_destroy(struct machine *m)
{
    batch_buffer_destroy(&m->buffer);
    model_destroy(m->model);
    parameters_destroy(m->parameters);
    m->kernels->device_destroy(m->device);
}

static const struct generation_config config = {.metrics = 31, .beams = 1, .max_new_tokens = 5};

static struct text_sources sources_of(enum dataset_split split, uint64_t count)
{
    return (struct text_sources){.dataset = dataset,
                                 .tokenizer = tokenizer,
                                 .split = split,
                                 .count = count,
                                 .sequence_length = 64,
                                 .method = &untuned};
}

static void generate(struct machine *m, const struct text_sources *sources, const struct tick *tick, int wanted,
                     struct taken *taken)
{
    struct error err = {""};
    const struct text_taker taker = {take, taken};
    int result = generate_texts(m->model, 0, &config, sources, &m->buffer, tick, &taker, &err);
    if (result != wanted) fail_msg("%d, not %d: %s", result, wanted, err.text);
}

/* The lines of the file that the data set was made of. */
static void test_split(void **state)
{
    (void)state;
    char path[96], line[256];
    struct taken taken = {0}, small = {0};
    struct machine m = machine_create(1024), narrow = machine_create(80); /* some prompts a batch */
    struct text_sources sources = sources_of(SPLIT_TEST, EXAMPLES);
    generate(&m, &sources, NULL, 0, &taken);
    generate(&narrow, &sources, NULL, 0, &small);
    assert_int_equal(taken.count, EXAMPLES);
    assert_int_equal(small.count, EXAMPLES);
    snprintf(path, sizeof path, "%s/test.tsv", fixture.dir);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (size_t i = 0; i < EXAMPLES; i++) {
        assert_non_null(fgets(line, sizeof line, file));
        line[strcspn(line, "\n")] = 0;
        char *tab = strchr(line, '\t');
        *tab = 0;
        assert_string_equal(taken.texts[i][0], line);
        assert_string_equal(taken.texts[i][1], tab + 1);
        for (int part = 0; part < 3; part++)
            assert_string_equal(taken.texts[i][part], small.texts[i][part]);
    }
    fclose(file);
    taken_free(&taken);
    taken_free(&small);
    machine_destroy(&m);
    machine_destroy(&narrow);
}

/* A source of one's own that is an example's gives the same text; one that is too long is cut, not refused. */
static void test_lines(void **state)
{
    (void)state;
    char longest[4096] = "";
    struct taken examples = {0}, own = {0};
    struct machine m = machine_create(1024);
    struct text_sources sources = sources_of(SPLIT_TEST, 2);
    generate(&m, &sources, NULL, 0, &examples);
    for (int i = 0; i < 300; i++)
        strcat(longest, "house ");
    const char *const lines[] = {examples.texts[0][0], examples.texts[1][0], longest};
    sources.lines = lines;
    sources.count = 3;
    generate(&m, &sources, NULL, 0, &own);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(own.texts[i][2], examples.texts[i][2]);
        assert_null(own.texts[i][1]);
    }
    assert_string_equal(own.texts[2][0], longest);
    taken_free(&examples);
    taken_free(&own);
    machine_destroy(&m);
}

/* What follows an example's source at the positions behind a prefix, by the generator alone. */
static uint32_t behind_prefix(struct machine *m, uint64_t example, uint32_t prefix, int32_t *ids)
{
    size_t source;
    uint32_t count;
    struct error err = {""};
    const struct decoding decoding = decoding_of(&config, TOKEN_END);
    struct batch_buffer *buffer = &m->buffer;
    struct batch *batch = &buffer->batch;
    dataset_example(dataset, SPLIT_TEST, example, buffer->capacity.tokens, buffer->ids, &source);
    batch->sequences = 1;
    batch->targets = 0;
    batch->tokens = batch->longest = source;
    buffer->offsets[0] = 0;
    buffer->offsets[1] = (uint32_t)source;
    for (size_t i = 0; i < source; i++)
        buffer->positions[i] = (int32_t)(prefix + i);
    struct generator *generator = generator_create(m->model, 0, &decoding, &err);
    if (!generator || generator_run(generator, batch, NULL, ids, &count, &err)) fail_msg("%s", err.text);
    generator_destroy(generator);
    return count;
}

/* Sources stand behind a method's prefix, as in training. */
static void test_prefix(void **state)
{
    (void)state;
    struct error err = {""};
    struct taken taken = {0}, unmoved = {0};
    const struct method_config method = {.kind = METHOD_PREFIX, .size = 9};
    const struct model_config model = model_of();
    struct machine m = machine_of(&method, 1024);
    struct text_sources sources = sources_of(SPLIT_TEST, EXAMPLES);
    if (parameters_initialise_adapter(m.parameters, &model, &method, 5, &err)) fail_msg("%s", err.text);
    size_t different = 0;
    generate(&m, &sources, NULL, 0, &unmoved);
    sources.method = &method;
    generate(&m, &sources, NULL, 0, &taken);
    for (size_t i = 0; i < EXAMPLES; i++) {
        char *text = NULL;
        int32_t ids[5];
        uint32_t count = behind_prefix(&m, i, 9, ids);
        for (uint32_t t = 0; t < count; t++)
            if (ids[t] >= (int32_t)fixture.info.vocabulary) ids[t] = TOKEN_UNKNOWN;
        if (tokenizer_decode(tokenizer, ids, count, &text, &err)) fail_msg("%s", err.text);
        assert_string_equal(taken.texts[i][2], text);
        different += strcmp(taken.texts[i][2], unmoved.texts[i][2]) != 0;
        free(text);
    }
    assert_true(different > 0); /* positions matter to this model */
    taken_free(&taken);
    taken_free(&unmoved);
    machine_destroy(&m);
}

static int stop_at_third(void *context)
{
    int *asked = context;
    return ++*asked == 3;
}

static void test_stopped(void **state)
{
    (void)state;
    int asked = 0;
    struct taken taken = {0};
    struct machine m = machine_create(80);
    const struct tick tick = {.stop = stop_at_third, .context = &asked};
    struct text_sources sources = sources_of(SPLIT_TEST, EXAMPLES);
    generate(&m, &sources, &tick, 1, &taken);
    assert_int_equal(asked, 3);
    assert_true(taken.count > 0 && taken.count < EXAMPLES); /* two batches, whole */
    taken_free(&taken);
    machine_destroy(&m);
}

/* A line is JSON whatever the texts are; without a reference it has no such member. */
static void test_json(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    struct error err = {""};
    FILE *memory = open_memstream(&text, &size);
    const struct generated_text with = {7, "a \"b\"\t\\", "gr\xc3\xbcn", "line\nbreak"}, without = {8, "x", NULL, ""},
                                broken = {9, "x", NULL, "\xff"};
    assert_int_equal(generated_text_write(&with, memory, &err), 0);
    assert_int_equal(generated_text_write(&without, memory, &err), 0);
    assert_int_equal(generated_text_write(&broken, memory, &err), -1);
    assert_string_equal(err.text, "the texts of example 9 are not UTF-8, or out of memory");
    fclose(memory);
    assert_string_equal(text,
                        "{\"example\":7,\"source\":\"a \\\"b\\\"\\t\\\\\",\"reference\":\"gr\xc3\xbcn\","
                        "\"hypothesis\":\"line\\nbreak\"}\n{\"example\":8,\"source\":\"x\",\"hypothesis\":\"\"}\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_split), cmocka_unit_test(test_lines),
                                       cmocka_unit_test(test_prefix), cmocka_unit_test(test_stopped),
                                       cmocka_unit_test(test_json)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
