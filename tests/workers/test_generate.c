/* Generation: token ids are those of transformers' generate on the same weights (tests/golden/make_generations.py),
 * for every architecture, method, backend and degree; and a batch of many prompts gives what each gives alone. */
#include <glob.h>

#include "golden.h"
#include "model_fixture.h"
#include "workers/stage/gang.h"
#include "workers/text/generate.h"

enum { MOST_PROMPTS = 64, MOST_TOKENS = 64 };

/* Prompts and what follows them. */
struct texts {
    struct decoding decoding;
    size_t count;
    int32_t *prompts, *ids; /* ids[count][max_new_tokens] */
    uint32_t *offsets, *counts;
};

static struct texts texts_read(hid_t file, const char *path)
{
    struct texts texts;
    size_t tokens, offsets, ids, counts;
    hid_t group = H5Gopen2(file, path, H5P_DEFAULT);
    if (group < 0) golden_stop("no group", path);
    texts.decoding = (struct decoding){.beams = golden_count(group, "beams"),
                                       .max_new_tokens = golden_count(group, "max_new_tokens"),
                                       .length_penalty = golden_number(group, "length_penalty"),
                                       .end = (int32_t)golden_number(group, "end")};
    texts.prompts = golden_array(group, "prompts", H5T_NATIVE_INT32, &tokens);
    texts.offsets = golden_array(group, "offsets", H5T_NATIVE_UINT32, &offsets);
    texts.ids = golden_array(group, "ids", H5T_NATIVE_INT32, &ids);
    texts.counts = golden_array(group, "counts", H5T_NATIVE_UINT32, &counts);
    texts.count = counts;
    if (offsets != counts + 1 || ids != counts * texts.decoding.max_new_tokens || counts == 0)
        golden_stop("sizes", path);
    H5Gclose(group);
    return texts;
}

static void texts_free(struct texts *texts)
{
    free(texts->prompts);
    free(texts->ids);
    free(texts->offsets);
    free(texts->counts);
}

/* Prompts first .. first + count - 1 as a packed batch, each behind the method's virtual tokens: those of a prompt in
 * the batch, those of a prefix in the positions alone. */
static void pack(const struct texts *texts, size_t first, size_t count, const struct method_config *method,
                 struct sample *sample)
{
    size_t virtual = method_prompt_length(method), prefix = method_prefix_length(method);
    struct batch *batch = &sample->batch;
    *batch = (struct batch){.sequences = count,
                            .ids = sample->ids,
                            .positions = sample->positions,
                            .offsets = sample->offsets,
                            .rows = sample->rows,
                            .labels = sample->labels};
    sample->offsets[0] = 0;
    for (size_t s = 0; s < count; s++) {
        const int32_t *prompt = texts->prompts + texts->offsets[first + s];
        size_t length = virtual + texts->offsets[first + s + 1] - texts->offsets[first + s];
        for (size_t t = 0; t < length; t++, batch->tokens++) {
            sample->ids[batch->tokens] = t < virtual ? -(int32_t)t - 1 : prompt[t - virtual];
            sample->positions[batch->tokens] = (int32_t)(prefix + t);
        }
        sample->offsets[s + 1] = (uint32_t)batch->tokens;
        if (length > batch->longest) batch->longest = length;
    }
}

/* Of a model's golden what generation needs: weights, a method, a batch. */
static struct golden *model_read(const char *path, enum method_kind kind)
{
    struct golden *golden = calloc(1, sizeof *golden);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (!golden || file < 0) golden_stop("cannot open", path);
    golden->model = golden_model(file);
    golden->method.kind = kind;
    golden_tensors(file, "weights", &golden->values);
    if (kind != METHOD_NONE) {
        char name[64];
        snprintf(name, sizeof name, "methods/%s", method_name(kind));
        hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
        if (group < 0) golden_stop("no group", name);
        golden->method.size = golden_count(group, "size");
        golden->method.alpha = golden_number(group, "alpha");
        golden_tensors(group, "adapter", &golden->values);
        H5Gclose(group);
    }
    golden_batches(file, golden);
    H5Fclose(file);
    return golden;
}

struct run {
    struct golden *golden;
    const struct kernels *kernels;
    const struct texts *texts;
    size_t at_once; /* prompts a batch */
    bool training;  /* the model has room for training, as at the end of a stage */
    bool merged;
    bool ties; /* every logit is the same */
    int32_t ids[MOST_PROMPTS * MOST_TOKENS];
    uint32_t counts[MOST_PROMPTS];
};

static int set_values(struct golden *golden, const struct rank *r, struct error *err)
{
    for (size_t i = 0; i < r->parameters->count; i++) {
        const struct parameter *p = &r->parameters->list[i];
        const struct golden_tensor *tensor = golden_find(&golden->values, p->name);
        if (!tensor || tensor->count != p->rows * p->columns)
            return error_set(err, "%s: not in the golden, or of another size", p->name);
        for (size_t row = 0; row < p->row_count; row++)
            parameter_write(r->parameters, p, row * p->column_count, p->column_count,
                            tensor->data + (p->row_first + row) * p->columns + p->column_first);
    }
    return 0;
}

/* LoRA in the base alone. */
static int merge(const struct rank *r, struct error *err)
{
    if (model_merge(r->model, err)) return -1;
    for (size_t i = 0; i < r->parameters->count; i++) {
        const struct parameter *p = &r->parameters->list[i];
        if (p->adapter) r->kernels->zero(r->device, p->row_count * p->column_count * r->parameters->element, p->matrix);
    }
    return 0;
}

static int generate_all(struct run *run, const struct rank *r, struct error *err)
{
    struct generator *generator = generator_create(r->model, 0, &run->texts->decoding, err);
    struct sample *sample = calloc(1, sizeof *sample);
    int32_t ids[MOST_PROMPTS * MOST_TOKENS] = {0};
    uint32_t counts[MOST_PROMPTS];
    int result = generator ? 0 : -1;
    for (size_t first = 0; result == 0 && first < run->texts->count; first += run->at_once) {
        size_t left = run->texts->count - first, count = left < run->at_once ? left : run->at_once;
        pack(run->texts, first, count, &run->golden->method, sample);
        result = generator_run(generator, &sample->batch, NULL, ids + first * run->texts->decoding.max_new_tokens,
                               counts + first, err);
    }
    if (result == 0 &&
        r->parameters->collective.rank == r->parameters->collective.size - 1) { /* the last one: all must know */
        memcpy(run->ids, ids, sizeof ids);
        memcpy(run->counts, counts, sizeof counts);
    }
    generator_destroy(generator);
    free(sample);
    return result;
}

static int run_rank(void *context, const struct collective *collective, struct error *err)
{
    struct run *run = context;
    struct rank r;
    const struct batch_capacity capacity = {.tokens = 1024, .sequences = 64, .targets = 1024, .longest = 64};
    struct recipe recipe = {0};
    if (rank_create_with(&r, run->kernels, collective, &run->golden->model, &run->golden->method, &capacity,
                         run->training ? &recipe : NULL, err))
        return -1;
    double before = 0, after = 0;
    struct batch *batch = &run->golden->batches[0].batch;
    int result = set_values(run->golden, &r, err);
    if (result == 0 && run->merged) result = merge(&r, err);
    if (run->ties) {
        const struct parameter *p = parameters_find(r.parameters, "lm_head.weight");
        r.kernels->zero(r.device, p->row_count * p->column_count * r.parameters->element, p->matrix);
    }
    if (result == 0) result = model_evaluate(r.model, batch, &before, err);
    if (result == 0) result = generate_all(run, &r, err);
    if (result == 0) result = model_evaluate(r.model, batch, &after, err);
    if (result == 0 && memcmp(&before, &after, sizeof before)) result = error_set(err, "generation changed the model");
    rank_destroy(&r);
    return result;
}

static void check(struct golden *golden, const struct texts *texts, const char *backend, int degree, size_t at_once,
                  bool training, bool merged, const char *what)
{
    struct error err = {""};
    struct run *run = calloc(1, sizeof *run);
    *run = (struct run){.golden = golden,
                        .kernels = kernels_find(backend, &err),
                        .texts = texts,
                        .at_once = at_once,
                        .training = training,
                        .merged = merged};
    if (!run->kernels || gang_run(degree, run_rank, run, &err))
        fail_msg("%s, %s, degree %d: %s", what, backend, degree, err.text);
    for (size_t s = 0; s < texts->count; s++) {
        size_t at = s * texts->decoding.max_new_tokens;
        if (run->counts[s] == texts->counts[s] &&
            !memcmp(run->ids + at, texts->ids + at, texts->counts[s] * sizeof *run->ids))
            continue;
        for (uint32_t i = 0; i < texts->counts[s] || i < run->counts[s]; i++)
            print_error("%d %d\n", i < run->counts[s] ? run->ids[at + i] : -1,
                        i < texts->counts[s] ? texts->ids[at + i] : -1);
        fail_msg("%s, %s, degree %d, %zu at once: prompt %zu goes on with other tokens (ours, theirs above)", what,
                 backend, degree, at_once, s);
    }
    free(run);
}

/* "llama_mqa_tied" of ".../llama_mqa_tied.h5" */
static void model_name(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, size, "%s", slash ? slash + 1 : path);
    out[strcspn(out, ".")] = 0;
}

static size_t check_search(hid_t file, struct golden *golden, const char *path)
{
    if (H5Lexists(file, path, H5P_DEFAULT) <= 0) return 0;
    struct texts texts = texts_read(file, path);
    size_t all = decoding_prompts(&texts.decoding);
    bool lora = golden->method.kind == METHOD_LORA;
    check(golden, &texts, "reference", 1, all, false, false, path);
    check(golden, &texts, "cpu", 1, all, true, false, path);
    check(golden, &texts, "cpu", 1, 1, false, lora, path);
    check(golden, &texts, "cpu", 2, 5, false, false, path);
    if (golden->model.heads > 2) check(golden, &texts, "reference", 3, 7, true, lora, path);
    texts_free(&texts);
    return 1;
}

static void check_method(enum method_kind kind, size_t searches_wanted)
{
    static const char *const searches[] = {"greedy", "beam4", "beam4_short", "beam3_long"};
    glob_t found;
    size_t checked = 0;
    hid_t file = H5Fopen(TEST_SOURCE_DIR "/golden/evaluation/generations.h5", H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) golden_stop("cannot open", "generations.h5");
    assert_int_equal(glob(TEST_SOURCE_DIR "/golden/*.h5", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char name[96], path[192];
        model_name(found.gl_pathv[i], name, sizeof name);
        snprintf(path, sizeof path, "%s/%s", name, method_name(kind));
        if (H5Lexists(file, name, H5P_DEFAULT) <= 0 || H5Lexists(file, path, H5P_DEFAULT) <= 0) continue;
        struct golden *golden = model_read(found.gl_pathv[i], kind);
        for (size_t s = 0; s < sizeof searches / sizeof *searches; s++) {
            snprintf(path, sizeof path, "%s/%s/%s", name, method_name(kind), searches[s]);
            checked += check_search(file, golden, path);
        }
        golden_destroy(golden);
    }
    assert_int_equal(checked, searches_wanted);
    globfree(&found);
    H5Fclose(file);
}

static void none(void **state)
{
    (void)state;
    check_method(METHOD_NONE, 30);
}

static void lora(void **state)
{
    (void)state;
    check_method(METHOD_LORA, 8);
}

static void prompt(void **state)
{
    (void)state;
    check_method(METHOD_PROMPT, 8);
}

static void prefix(void **state)
{
    (void)state;
    check_method(METHOD_PREFIX, 8);
}

static void ia3(void **state)
{
    (void)state;
    check_method(METHOD_IA3, 4);
}

static void adapter(void **state)
{
    (void)state;
    check_method(METHOD_ADAPTER, 4);
}

/* A prefix counts in what attention sees, and its values are those of the moment at which texts are generated. */
static void prefix_now(void **state)
{
    (void)state;
    struct error err = {""};
    const struct collective alone = {NULL, 0, 1};
    const struct batch_capacity capacity = {.tokens = 64, .sequences = 64, .targets = 64, .longest = 16};
    struct golden *golden = model_read(TEST_SOURCE_DIR "/golden/llama_gqa_untied.h5", METHOD_PREFIX);
    struct rank r = {0};
    golden->model.architecture.window = 16 + golden->method.size;
    if (rank_create(&r, kernels_find("cpu", &err), &alone, &golden->model, &golden->method, &capacity, false, &err) ||
        set_values(golden, &r, &err))
        fail_msg("%s", err.text);
    const struct decoding decoding = {.beams = 1, .max_new_tokens = 10, .length_penalty = 1, .end = -1};
    int32_t prompts[7] = {1, 2, 3, 4, 5, 6, 7}, first[10], changed[10], again[10];
    uint32_t offsets[] = {0, 6}, longer[] = {0, 7}, count;
    struct texts texts = {.decoding = decoding, .count = 1, .prompts = prompts, .offsets = offsets};
    struct sample *sample = calloc(1, sizeof *sample);
    struct generator *generator = generator_create(r.model, 0, &decoding, &err);
    if (!generator) fail_msg("%s", err.text);
    struct parameter *p = parameters_find(r.parameters, "prompt_embeddings");
    size_t size = p->row_count * p->column_count;
    pack(&texts, 0, 1, &golden->method, sample);
    assert_int_equal(generator_run(generator, &sample->batch, NULL, first, &count, &err), 0);
    r.kernels->scale(r.device, size, -2, p->matrix);
    assert_int_equal(generator_run(generator, &sample->batch, NULL, changed, &count, &err), 0);
    assert_memory_not_equal(first, changed, sizeof first);
    r.kernels->scale(r.device, size, -0.5F, p->matrix);
    assert_int_equal(generator_run(generator, &sample->batch, NULL, again, &count, &err), 0);
    assert_memory_equal(first, again, sizeof first);
    texts.offsets = longer;
    pack(&texts, 0, 1, &golden->method, sample);
    assert_int_equal(generator_run(generator, &sample->batch, NULL, again, &count, &err), -1);
    assert_non_null(strstr(
        err.text,
        "a source of 11 tokens, virtual ones among them, and 10 new ones are more than the 20 that attention sees"));
    generator_destroy(generator);
    rank_destroy(&r);
    golden_destroy(golden);
    free(sample);
}

/* Where all tokens are as good, the smallest id wins, also where it lies on another device. */
static void ties(void **state)
{
    (void)state;
    int32_t prompts[] = {5, 6, 7, 8}, ids[2 * 3];
    uint32_t offsets[] = {0, 1, 4}, counts[] = {3, 3};
    struct golden *golden = model_read(TEST_SOURCE_DIR "/golden/llama_gqa_untied.h5", METHOD_NONE);
    struct texts texts = {.decoding = {.beams = 1, .max_new_tokens = 3, .length_penalty = 1, .end = -1},
                          .count = 2,
                          .prompts = prompts,
                          .ids = ids,
                          .offsets = offsets,
                          .counts = counts};
    memset(ids, 0, sizeof ids);
    for (int degree = 1; degree <= 4; degree++) {
        struct error err = {""};
        struct run run = {.golden = golden, .kernels = kernels_find("cpu", &err), .texts = &texts, .at_once = 2};
        run.ties = true;
        for (texts.decoding.beams = 1; texts.decoding.beams <= 3; texts.decoding.beams += 2) {
            if (gang_run(degree, run_rank, &run, &err)) fail_msg("%s", err.text);
            assert_memory_equal(run.counts, counts, sizeof counts);
            assert_memory_equal(run.ids, ids, sizeof ids);
        }
    }
    golden_destroy(golden);
}

/* What does not fit is refused, with the reason, and the generator works on. */
static void refused(void **state)
{
    (void)state;
    struct error err = {""};
    const struct batch_capacity capacity = {.tokens = 256, .sequences = 64, .targets = 256, .longest = 16};
    struct model_config config = small_model(4, 2, true);
    struct method_config none = {.kind = METHOD_NONE};
    struct decoding decoding = {.beams = 12, .max_new_tokens = 4, .length_penalty = 1, .end = 2};
    const struct collective alone = {NULL, 0, 1};
    struct rank r = {0};
    if (rank_create(&r, kernels_find("cpu", &err), &alone, &config, &none, &capacity, false, &err))
        fail_msg("%s", err.text);
    randomise(r.parameters);
    assert_null(generator_create(r.model, 0, &decoding, &err));
    assert_non_null(strstr(err.text, "12 beams; allowed for model \"small\": up to half of its vocabulary, 11"));
    decoding.beams = 11;
    struct generator *generator = generator_create(r.model, 0, &decoding, &err);
    int32_t prompts[6] = {1, 2, 3, 4, 60, 6}, ids[64 * 4];
    uint32_t offsets[] = {0, 1, 2, 3, 4, 5, 6}, counts[64];
    struct texts texts = {.decoding = decoding, .count = 6, .prompts = prompts, .offsets = offsets};
    struct sample *sample = calloc(1, sizeof *sample);
    pack(&texts, 0, 5, &none, sample);
    assert_int_equal(generator_run(generator, &sample->batch, NULL, ids, counts, &err), -1);
    assert_non_null(strstr(err.text, "token id 60 is outside the vocabulary"));
    prompts[4] = 5;
    pack(&texts, 0, 6, &none, sample);
    assert_int_equal(generator_run(generator, &sample->batch, NULL, ids, counts, &err), -1);
    assert_non_null(strstr(err.text, "6 prompts; at most 5 fit"));
    pack(&texts, 0, 5, &none, sample);
    assert_int_equal(generator_run(generator, &sample->batch, NULL, ids, counts, &err), 0);
    config.architecture.window = 18;
    assert_int_equal(decoding_check(&decoding, &config, 15, &err), -1);
    assert_non_null(strstr(
        err.text,
        "a source of 15 tokens, virtual ones among them, and 4 new ones are more than the 18 that attention sees"));
    assert_int_equal(decoding_check(&decoding, &config, 14, &err), 0);
    generator_destroy(generator);
    rank_destroy(&r);
    free(sample);
}

/* A search ends when the best running hypothesis, as if it ended now, is no better than the worst finished one: with
 * numbers that are easy to follow. */
static void settles(void **state)
{
    (void)state;
    struct error err = {""};
    struct beam_search search;
    const struct decoding decoding = {.beams = 2, .max_new_tokens = 10, .length_penalty = 1, .end = 0};
    int32_t ids[10];
    assert_int_equal(beam_create(&search, &decoding, &err), 0);
    beam_begin(&search);
    beam_offer(&search, 0, 3, -5);
    beam_offer(&search, 0, 1, -1.2);
    beam_offer(&search, 0, 2, -1.3);
    beam_offer(&search, 0, 0, -1);
    assert_int_equal(beam_advance(&search, &err), 0);
    assert_true(!search.done && search.finished_count == 1 && search.running_count == 2);
    beam_offer(&search, 0, 0, -0.1); /* ends at -1.3 / 2 */
    beam_offer(&search, 0, 4, -0.9);
    beam_offer(&search, 1, 5, -0.9);
    assert_int_equal(beam_advance(&search, &err), 0);
    assert_int_equal(search.finished_count, 2);
    assert_true(search.done); /* -2.1 / 2 is below -1 */
    assert_int_equal(beam_result(&search, ids), 1);
    assert_int_equal(ids[0], 1);
    beam_begin(&search);
    assert_int_equal(beam_advance(&search, &err), -1);
    assert_string_equal(err.text, "the model's logits are not numbers");
    beam_destroy(&search);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(none),       cmocka_unit_test(lora), cmocka_unit_test(prompt),
                                       cmocka_unit_test(prefix),     cmocka_unit_test(ia3),  cmocka_unit_test(adapter),
                                       cmocka_unit_test(prefix_now), cmocka_unit_test(ties), cmocka_unit_test(refused),
                                       cmocka_unit_test(settles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
