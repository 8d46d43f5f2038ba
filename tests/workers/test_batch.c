/* Which sequence comes when: the same at every start, each item once an epoch, subsets nested, labels at the right
 * rows, long examples cut as documented. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/workers/fixture.h"
#include "workers/train/batch.h"

static struct fixture fixture;
static struct dataset *dataset;

static int set_up(void **state)
{
    (void)state;
    struct error err = {""};
    if (fixture_create(&fixture)) return -1;
    dataset = dataset_open(fixture.dataset, &err);
    return dataset ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    dataset_close(dataset);
    fixture_destroy(&fixture);
    return 0;
}

static struct feed *open_feed(bool text, uint64_t limit, bool shuffle, uint32_t length, uint32_t prompt)
{
    struct error err = {""};
    struct feed_spec spec = {.dataset = dataset,
                             .split = SPLIT_TRAIN,
                             .text = text,
                             .length = length,
                             .prompt = prompt,
                             .limit = limit,
                             .shuffle = shuffle,
                             .seed = 7};
    struct feed *feed = feed_create(&spec, &err);
    if (!feed) fail_msg("%s", err.text);
    return feed;
}

static struct batch_buffer open_buffer(size_t tokens, size_t sequences)
{
    struct error err;
    struct batch_buffer buffer;
    struct batch_capacity capacity = {.tokens = tokens, .sequences = sequences, .targets = tokens, .longest = tokens};
    assert_int_equal(batch_buffer_create(&buffer, &capacity, &err), 0);
    return buffer;
}

static uint64_t item_at(struct feed *feed, uint64_t position)
{
    struct error err;
    uint64_t item = UINT64_MAX;
    assert_int_equal(feed_item(feed, position, &item, &err), 0);
    return item;
}

static void test_epochs(void **state)
{
    (void)state;
    for (int text = 0; text < 2; text++) {
        struct feed *feed = open_feed(text, text ? 0 : 50, true, 16, 0),
                    *again = open_feed(text, text ? 0 : 50, true, 16, 0);
        uint64_t n = feed_items(feed), moved = 0;
        if (text) assert_int_equal(n, (fixture.info.text_tokens[SPLIT_TRAIN] - 1) / 16);
        unsigned char *seen = calloc(fixture.info.text_tokens[SPLIT_TRAIN], 1);
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            for (uint64_t i = 0; i < n; i++) {
                uint64_t item = item_at(feed, epoch * n + i);
                assert_int_equal(seen[item], epoch); /* each once an epoch, the same set in every epoch */
                seen[item]++;
                if (epoch && item != item_at(again, i)) moved++;
            }
        }
        assert_true(moved > n / 2);        /* another order in another epoch */
        for (uint64_t i = 3 * n; i-- > 0;) /* backwards: no hidden cursor */
            assert_int_equal(item_at(again, i), item_at(feed, i));
        free(seen);
        feed_destroy(feed);
        feed_destroy(again);
    }
}

static void test_nested(void **state)
{
    (void)state;
    struct feed *small = open_feed(false, 20, true, 16, 0), *large = open_feed(false, 100, true, 16, 0);
    unsigned char in_large[300] = {0};
    for (uint64_t i = 0; i < 100; i++)
        in_large[item_at(large, i)] = 1;
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(in_large[item_at(small, i)], 1);
    feed_destroy(small);
    feed_destroy(large);
    struct error err = {""};
    struct feed_spec spec = {.dataset = dataset, .split = SPLIT_TRAIN, .length = 16, .limit = 301, .shuffle = true};
    assert_null(feed_create(&spec, &err));
    assert_non_null(strstr(err.text, "300"));
}

/* As a stream a larger set begins with the whole of a smaller one, and every later pass is as without it. */
static void test_stream(void **state)
{
    (void)state;
    struct error err = {""};
    struct feed_spec spec = {.dataset = dataset,
                             .split = SPLIT_TRAIN,
                             .length = 16,
                             .limit = 20,
                             .shuffle = true,
                             .stream = true,
                             .seed = 7};
    struct feed *small = feed_create(&spec, &err), *shuffled = open_feed(false, 20, true, 16, 0);
    spec.limit = 100;
    struct feed *large = feed_create(&spec, &err);
    assert_true(small && large);
    uint64_t in_file_order = 0, other = 0;
    unsigned char seen[300] = {0};
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t item = item_at(small, i);
        assert_int_equal(item, item_at(large, i));
        assert_int_equal(seen[item]++, 0);
        in_file_order += i > 0 && item == item_at(small, i - 1) + 1;
        other += item != item_at(shuffled, i);
        assert_int_equal(item_at(small, 20 + i), item_at(shuffled, 20 + i));
    }
    assert_true(in_file_order < 5 && other > 10);
    assert_int_equal(item_at(small, 19), item_at(large, 19)); /* backwards, across passes: no hidden cursor */
    feed_destroy(small);
    feed_destroy(large);
    feed_destroy(shuffled);
}

static void test_examples(void **state)
{
    (void)state;
    enum { PROMPT = 3, LENGTH = 200 };
    struct error err = {""};
    struct feed *feed = open_feed(false, 5, false, LENGTH, PROMPT);
    struct batch_buffer buffer = open_buffer(4096, 64);
    uint64_t next = 0, targets = 0;
    assert_int_equal(feed_fill(feed, &next, 5, &buffer, &err), 0);
    assert_int_equal(next, 5);
    const struct batch *batch = &buffer.batch;
    assert_int_equal(batch->sequences, 5);
    size_t target = 0;
    for (size_t s = 0; s < 5; s++) {
        int32_t tokens[LENGTH];
        size_t source, count = dataset_example(dataset, SPLIT_TRAIN, s, LENGTH, tokens, &source);
        const int32_t *ids = batch->ids + batch->offsets[s];
        assert_int_equal(batch->offsets[s + 1] - batch->offsets[s], PROMPT + count - 1);
        for (int i = 0; i < PROMPT; i++)
            assert_int_equal(ids[i], -1 - i);
        assert_memory_equal(ids + PROMPT, tokens, (count - 1) * sizeof *tokens);
        for (size_t i = 0; i < PROMPT + count - 1; i++)
            assert_int_equal(batch->positions[batch->offsets[s] + i], i);
        for (size_t i = source; i < count; i++, target++) {
            assert_int_equal(batch->labels[target], tokens[i]);
            assert_int_equal(batch->ids[batch->rows[target]], tokens[i - 1]); /* the row before predicts it */
        }
        assert_int_equal(batch->labels[target - 1], 2); /* the end token is learnt */
    }
    assert_int_equal(batch->targets, target);
    assert_int_equal(feed_targets(feed, 0, 5, &targets, &err), 0);
    assert_int_equal(targets, target);
    batch_buffer_destroy(&buffer);
    feed_destroy(feed);
}

static void test_micro_batches(void **state)
{
    (void)state;
    struct error err = {""};
    struct feed *feed = open_feed(true, 0, true, 16, 0);
    struct batch_buffer whole = open_buffer(160, 64), part = open_buffer(50, 2);
    uint64_t next = 30, at = 30;
    assert_int_equal(feed_fill(feed, &next, 40, &whole, &err), 0);
    assert_int_equal(whole.batch.targets, 160);
    for (size_t token = 0; at < 40;) {
        assert_int_equal(feed_fill(feed, &at, 40, &part, &err), 0);
        assert_int_equal(part.batch.sequences, 2);
        assert_memory_equal(part.ids, whole.ids + token, part.batch.tokens * sizeof *part.ids);
        assert_memory_equal(part.labels, whole.labels + token, part.batch.tokens * sizeof *part.labels);
        token += part.batch.tokens;
    }
    for (size_t i = 0; i + 1 < 16; i++)
        assert_int_equal(whole.labels[i], whole.ids[i + 1]);
    batch_buffer_destroy(&whole);
    batch_buffer_destroy(&part);
    feed_destroy(feed);
}

/* Cut to `length`: what is left of an example, as ids and the last label. */
static void check_cut(size_t index, uint32_t length)
{
    struct error err = {""};
    int32_t tokens[512], expected[512];
    size_t source, count = dataset_example(dataset, SPLIT_TRAIN, index, 512, tokens, &source), target = count - source;
    assert_true(count > length);
    size_t kept_source = target >= length - length / 2 ? length / 2 : length - target;
    if (kept_source > source) kept_source = source;
    size_t kept_target = length - kept_source;
    memcpy(expected, tokens, (kept_source - 1) * sizeof *tokens);
    expected[kept_source - 1] = tokens[source - 1]; /* the separator stays */
    memcpy(expected + kept_source, tokens + source, kept_target * sizeof *tokens);

    struct feed *feed = open_feed(false, 0, false, length, 0);
    struct batch_buffer buffer = open_buffer(4096, 1);
    uint64_t next = index;
    assert_int_equal(feed_fill(feed, &next, index + 1, &buffer, &err), 0);
    assert_int_equal(buffer.batch.tokens, length - 1);
    assert_int_equal(buffer.batch.targets, kept_target);
    assert_memory_equal(buffer.ids, expected, (length - 1) * sizeof *expected);
    assert_memory_equal(buffer.labels, expected + kept_source, kept_target * sizeof *expected);
    batch_buffer_destroy(&buffer);
    feed_destroy(feed);
}

static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < 50; i++) {
        size_t count = dataset_example_length(dataset, SPLIT_TRAIN, i);
        for (uint32_t length = 4; length < count; length++)
            check_cut(i, length);
    }
}

static void test_capacity(void **state)
{
    (void)state;
    struct recipe recipe = {.sequence_length = 64, .batch = 4};
    struct model_config model = {.layers = 1};
    struct method_config prompt = {.kind = METHOD_PROMPT, .size = 10}, lora = {.kind = METHOD_LORA, .size = 10};
    struct batch_capacity capacity = batch_capacity_of(&recipe, &model, &prompt);
    assert_int_equal(capacity.tokens, 4 * 74);
    assert_int_equal(capacity.longest, TEXT_LENGTH + 10);
    assert_true(capacity.one_pass);
    model.architecture.window = TEXT_LENGTH + 10;
    assert_int_equal(batch_capacity_of(&recipe, &model, &prompt).longest, TEXT_LENGTH + 10);
    model.architecture.window = 80; /* no sequence is longer because text is looked at */
    assert_int_equal(batch_capacity_of(&recipe, &model, &prompt).longest, 80);
    model.architecture.window = 0;
    recipe.batch = 1000;
    assert_int_equal(batch_capacity_of(&recipe, &model, &lora).tokens, MICRO_TOKENS);
    recipe.sequence_length = 10000;
    assert_int_equal(batch_capacity_of(&recipe, &model, &lora).tokens, 10000);
    assert_false(batch_capacity_of(&recipe, &model, &lora).one_pass);
    recipe.batch = 1;
    assert_true(batch_capacity_of(&recipe, &model, &lora).one_pass);
    recipe.sequence_length = MICRO_TOKENS / 64;
    for (recipe.batch = 64; recipe.batch < 66; recipe.batch++)
        assert_int_equal(batch_capacity_of(&recipe, &model, &lora).one_pass, recipe.batch == 64);
    recipe.sequence_length = 2; /* sequences, too, are bounded */
    for (recipe.batch = MICRO_SEQUENCES; recipe.batch < MICRO_SEQUENCES + 2; recipe.batch++)
        assert_int_equal(batch_capacity_of(&recipe, &model, &lora).one_pass, recipe.batch == MICRO_SEQUENCES);
}

/* A data set of so many tokens of validation text. */
static struct dataset *long_text(unsigned tokens)
{
    static char text[128], pairs[128], path[128];
    const char *const texts[] = {text};
    const char *const pair[] = {pairs};
    const struct dataset_files files = {pair, 1};
    struct error err = {""};
    snprintf(text, sizeof text, "%s/ids.txt", fixture.dir);
    snprintf(pairs, sizeof pairs, "%s/ids.tsv", fixture.dir);
    snprintf(path, sizeof path, "%s/ids.h5", fixture.dir);
    FILE *file = fopen(text, "w");
    for (unsigned i = 0; i < tokens; i++)
        fprintf(file, "%u%c", 5 + i % 90, i % 100 == 99 ? '\n' : ' ');
    fclose(file);
    file = fopen(pairs, "w");
    fputs("5 6 7\t8 9\n", file);
    fclose(file);
    const struct dataset_sources sources = {.text = texts,
                                            .text_count = 1,
                                            .valid_text = texts,
                                            .valid_text_count = 1,
                                            .pairs = {files, files, files},
                                            .ids = true,
                                            .vocabulary = 100};
    struct dataset *made = dataset_build(path, &sources, NULL, &err) ? NULL : dataset_open(path, &err);
    if (!made) fail_msg("%s", err.text);
    return made;
}

/* As docs/configuration.md says of pretrain_loss: sequences of 256 tokens, or of the window, and 16,384 in all. */
static void test_text_valid(void **state)
{
    (void)state;
    struct error err = {""};
    const struct method_config prompt = {.kind = METHOD_PROMPT, .size = 10}, none = {.kind = METHOD_NONE};
    const struct {
        uint32_t window;
        const struct method_config *method;
        size_t length, sequences;
    } cases[] = {{0, &none, 256, 64},    {0, &prompt, 256, 64},  {300, &prompt, 256, 64},
                 {128, &none, 128, 128}, {40, &prompt, 30, 546}, {8, &none, 8, 2048}};
    struct dataset *many = long_text(20000), *few = long_text(200);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct model_config model = {.layers = 1, .architecture.window = cases[i].window};
        struct feed *feed = feed_text_valid(many, &model, cases[i].method, &err);
        uint64_t targets;
        assert_non_null(feed);
        assert_int_equal(feed_items(feed), cases[i].sequences);
        assert_int_equal(feed_targets(feed, 0, feed_items(feed), &targets, &err), 0);
        assert_int_equal(targets, cases[i].sequences * cases[i].length);
        feed_destroy(feed);
    }
    struct feed *feed = feed_text_valid(few, &(struct model_config){.layers = 1}, &none, &err);
    uint64_t targets;
    assert_int_equal(feed_items(feed), 1);
    assert_int_equal(feed_targets(feed, 0, 1, &targets, &err), 0);
    assert_int_equal(targets, dataset_info(few)->text_tokens[SPLIT_VALID] - 1);
    feed_destroy(feed);
    dataset_close(many);
    dataset_close(few);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epochs),     cmocka_unit_test(test_nested),        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_examples),   cmocka_unit_test(test_micro_batches), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_text_valid), cmocka_unit_test(test_capacity),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
