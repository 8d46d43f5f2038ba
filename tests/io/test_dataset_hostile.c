/* A dataset file may be cut, damaged or made to harm: it is refused, or reads as tokens of the vocabulary; it never
 * crashes a worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "forge.h"
#include "io/tokenizer/tokenizer.h"
#include "tests/io/small_dataset.h"

struct bytes {
    unsigned char *data;
    size_t size;
};

static struct bytes read_whole(const char *path)
{
    FILE *file = fopen(path, "r");
    fseek(file, 0, SEEK_END);
    struct bytes bytes = {.size = (size_t)ftell(file)};
    bytes.data = malloc(bytes.size);
    rewind(file);
    if (fread(bytes.data, 1, bytes.size, file) != bytes.size) abort();
    fclose(file);
    return bytes;
}

static struct bytes small_bytes(struct dataset_info *info)
{
    dataset_close(build_small(info));
    return read_whole(temporary_path("small.h5"));
}

static void assert_in_vocabulary(const int32_t *tokens, size_t count, const struct dataset_info *info)
{
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= info->vocabulary)
            fail_msg("token %d of %zu", tokens[i], info->vocabulary);
}

/* Read everything as a worker would. */
static void read_all(const struct dataset *dataset)
{
    enum { CAPACITY = 64 };
    const struct dataset_info *info = dataset_info(dataset);
    int32_t tokens[CAPACITY];
    for (int split = 0; split < 2; split++)
        for (size_t first = 0; first < info->text_tokens[split]; first += CAPACITY) {
            dataset_text(dataset, (enum dataset_split)split, first, CAPACITY, tokens);
            assert_in_vocabulary(tokens, CAPACITY, info);
        }
    for (int split = 0; split < SPLITS; split++)
        for (size_t i = 0; i < info->examples[split]; i++) {
            size_t source, length = dataset_example(dataset, (enum dataset_split)split, i, CAPACITY, tokens, &source);
            assert_true(length > 0 && length <= CAPACITY && source > 0 && source <= length);
            assert_true(dataset_example_length(dataset, (enum dataset_split)split, i) <= info->longest[split]);
            assert_in_vocabulary(tokens, length, info);
        }
}

/* Open a file of these bytes: 0 refused with a reason, 1 open, 2 open and its digest is right. */
static int try_bytes(const unsigned char *data, size_t size)
{
    struct error err = {0};
    struct dataset *dataset = dataset_open(temporary_write("hostile.h5", data, size), &err);
    if (!dataset) {
        assert_true(err.text[0] != 0);
        return 0;
    }
    read_all(dataset);
    int whole = dataset_verify(dataset, &err) == 0;
    dataset_close(dataset);
    return whole ? 2 : 1;
}

static void test_truncated(void **state)
{
    (void)state;
    struct bytes bytes = small_bytes(NULL);
    assert_int_equal(try_bytes(bytes.data, bytes.size), 2);
    for (size_t size = 0; size < bytes.size; size += 1 + bytes.size / 400)
        assert_int_equal(try_bytes(bytes.data, size), 0);
    assert_int_equal(try_bytes(bytes.data, bytes.size - 1), 0);
    free(bytes.data);
}

/* One changed byte anywhere: refused, or found by dataset_verify, or in bytes that hold nothing. */
static void test_damaged(void **state)
{
    (void)state;
    struct dataset_info info;
    struct bytes bytes = small_bytes(&info);
    uint64_t random = 42;
    int counts[3] = {0};
    for (int i = 0; i < 800; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(random >> 33) % bytes.size;
        unsigned char old = bytes.data[at];
        bytes.data[at] ^= (unsigned char)(1u + (random >> 20) % 255);
        counts[try_bytes(bytes.data, bytes.size)]++;
        bytes.data[at] = old;
    }
    assert_true(counts[0] > 0 && counts[1] > 0);
    free(bytes.data);
}

/* Any bytes of the block and of HDF5's metadata under right checksums. */
static void test_forged_bytes(void **state)
{
    (void)state;
    struct bytes bytes = small_bytes(NULL);
    unsigned char *copy = malloc(bytes.size);
    uint64_t random = 7;
    int counts[3] = {0};
    for (int i = 0; i < 1500; i++) {
        memcpy(copy, bytes.data, bytes.size);
        for (int j = 0; j < 1 + i % 3; j++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            copy[(size_t)(random >> 33) % (i % 2 ? 16384 : 1500)] ^= (unsigned char)(1u << (random >> 20) % 8);
        }
        forge(copy, bytes.size);
        counts[try_bytes(copy, bytes.size)]++;
    }
    assert_true(counts[0] > 300 && counts[2] > 300);
    free(copy);
    free(bytes.data);
}

/* One element of one dataset changed. */
static int try_element(const struct bytes *good, const char *name, size_t index, uint64_t value)
{
    struct error err = {0};
    struct frozen_block block;
    unsigned char *copy = malloc(good->size);
    memcpy(copy, good->data, good->size);
    memcpy(&block, copy, sizeof block);
    const struct frozen_entry *entry = forge_entry(&block, name);
    memcpy(copy + entry->offset + index * entry->row_size, &value, (size_t)entry->row_size);
    struct dataset *opened = dataset_open(temporary_write("edited.h5", copy, good->size), &err);
    free(copy);
    if (!opened) {
        assert_non_null(strstr(err.text, "damaged dataset"));
        return 0;
    }
    read_all(opened);
    int whole = dataset_verify(opened, &err) == 0;
    dataset_close(opened);
    return whole ? 2 : 1;
}

static void test_bad_elements(void **state)
{
    (void)state;
    struct dataset_info info;
    struct bytes good = small_bytes(&info);
    assert_int_equal(try_element(&good, "examples/train/offsets", 0, 1), 0);
    assert_int_equal(try_element(&good, "examples/train/offsets", 7, 0), 0);
    assert_int_equal(try_element(&good, "examples/train/offsets", 7, UINT64_MAX), 0);
    assert_int_equal(try_element(&good, "examples/train/offsets", 7, (uint64_t)1 << 62), 0);
    assert_int_equal(try_element(&good, "examples/test/offsets", HELD_PAIRS, info.example_tokens[SPLIT_TEST] + 1), 0);
    assert_int_equal(try_element(&good, "examples/test/offsets", HELD_PAIRS, info.example_tokens[SPLIT_TEST] - 1), 0);
    assert_int_equal(try_element(&good, "examples/valid/sources", 3, 0), 0);
    assert_int_equal(try_element(&good, "examples/valid/sources", 3, UINT32_MAX), 0);
    assert_int_equal(try_element(&good, "examples/valid/sources", 3, 2), 1); /* possible, and not what was built */
    assert_int_equal(try_element(&good, "text/train", 5, VOCABULARY), 1);
    assert_int_equal(try_element(&good, "text/train", 5, 65535), 1);
    assert_int_equal(try_element(&good, "examples/test/tokens", 5, 65535), 1);
    assert_int_equal(try_element(&good, "tokenizer", 5, 0xee), 1);
    free(good.data);
}

/* A file with this block: 0 refused, where the line says `why`; 1 open. */
static int try_block(const struct bytes *good, struct frozen_block *block, const char *why)
{
    struct error err = {0};
    unsigned char *copy = malloc(good->size);
    memcpy(copy, good->data, good->size);
    forge_block(copy, good->size, block);
    struct dataset *dataset = dataset_open(temporary_write("edited.h5", copy, good->size), &err);
    free(copy);
    if (!dataset) {
        if (!strstr(err.text, why)) fail_msg("\"%s\" does not say \"%s\"", err.text, why);
        return 0;
    }
    read_all(dataset);
    dataset_close(dataset);
    return 1;
}

static int try_attribute(const struct bytes *good, const char *name, const char *value)
{
    struct frozen_block block;
    memcpy(&block, good->data, sizeof block);
    forge_attribute(&block, name, value);
    return try_block(good, &block, name);
}

static void test_bad_attributes(void **state)
{
    (void)state;
    struct bytes good = small_bytes(NULL);
    static const char *const names[] = {"vocabulary", "separator", "digest", "task", "description"};
    char filled[2000] = {0};
    memset(filled, 'a', sizeof filled - 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(try_attribute(&good, names[i], NULL), 0);
        assert_int_equal(try_attribute(&good, names[i], filled), 0);
    }
    static const char *const bad[] = {"0", "3", "2147483648", "18446744073709551615", "", "400 ", "0x190"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(try_attribute(&good, "vocabulary", bad[i]), 0);
    assert_int_equal(try_attribute(&good, "separator", "401"), 0);
    assert_int_equal(try_attribute(&good, "separator", "400"), 1); /* none */
    assert_int_equal(try_attribute(&good, "digest", "0123456789ABCDEF0123456789abcdef"), 0);
    assert_int_equal(try_attribute(&good, "vocabulary", "20"), 1); /* tokens above it read as unknown */
    /* then tokens would be uint32 */
    struct frozen_block block;
    memcpy(&block, good.data, sizeof block);
    forge_attribute(&block, "vocabulary", "70000");
    assert_int_equal(try_block(&good, &block, "text/train has other members or types"), 0);
    free(good.data);
}

/* Reserved ids lie in the vocabulary, or the file is refused. */
static void test_bad_sentinels(void **state)
{
    (void)state;
    struct dataset_sources sources = small_sources();
    struct error err = {0};
    sources.sentinels = 9;
    if (dataset_build(temporary_path("nine.h5"), &sources, NULL, &err)) fail_msg("%s", err.text);
    struct bytes good = read_whole(temporary_path("nine.h5"));
    static const char *const bad[] = {"0", "400", "393", "18446744073709551615", "", "9 "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(try_attribute(&good, "sentinels", bad[i]), 0);
    static const char *const places[] = {"389", "400", "18446744073709551615", "x"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        assert_int_equal(try_attribute(&good, "reserved", places[i]), 0);
    assert_int_equal(try_attribute(&good, "reserved", NULL), 0);
    assert_int_equal(try_attribute(&good, "reserved", "388"), 1);
    free(good.data);
}

/* The marks of a tokenizer.json are in its vocabulary; there may be no begin. */
static void test_bad_marks(void **state)
{
    (void)state;
    struct dataset_sources sources = small_sources();
    struct error err = {0};
    sources.tokenizer = TEST_SOURCE_DIR "/golden/tokenizers/pythia.json";
    sources.end_token = "<|endoftext|>";
    if (dataset_build(temporary_path("marks.h5"), &sources, NULL, &err)) fail_msg("%s", err.text);
    struct bytes good = read_whole(temporary_path("marks.h5"));
    static const char *const bad[] = {"426", "18446744073709551615", "", "x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(try_attribute(&good, "begin", bad[i]), 0);
        assert_int_equal(try_attribute(&good, "end", bad[i]), 0);
    }
    assert_int_equal(try_attribute(&good, "begin", NULL), 0);
    assert_int_equal(try_attribute(&good, "begin", "425"), 1); /* none */
    assert_int_equal(try_attribute(&good, "begin", "7"), 1);
    assert_int_equal(try_attribute(&good, "end", "425"), 0);
    assert_int_equal(try_attribute(&good, "end", "424"), 1);
    free(good.data);
}

/* A part that is missing, or stored in another way than the format's. */
static void test_bad_layout(void **state)
{
    (void)state;
    struct bytes good = small_bytes(NULL);
    for (int kind = 0; kind < 6; kind++) {
        struct frozen_block block;
        memcpy(&block, good.data, sizeof block);
        struct frozen_entry *entry = forge_entry(&block, "text/train");
        if (kind == 0) entry->name[0] = 'q';
        if (kind == 1) memcpy(entry->type, "u4", 2);
        if (kind == 2) entry->row_size = 4, entry->rows /= 2;
        if (kind == 3) entry->rows = good.size / 2 + 1;
        if (kind == 4) entry->offset = forge_entry(&block, "tokenizer")->offset;
        if (kind == 5) entry->sealed = 1;
        assert_int_equal(try_block(&good, &block, kind == 4 ? "bytes of another dataset" : "text/train"), 0);
    }
    free(good.data);
}

static void test_not_a_dataset(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(dataset_open(temporary_path("missing.h5"), &err));
    assert_non_null(strstr(err.text, "No such file"));
    assert_null(dataset_open(temporary_folder, &err));
    assert_null(dataset_open(temporary_write("text.h5", "text", 4), &err));
    assert_non_null(strstr(err.text, "not a tunelaw dataset"));
    static const char hdf5[100] = "\211HDF\r\n\032\n"; /* as data sets of version 1 began */
    assert_null(dataset_open(temporary_write("other.h5", hdf5, sizeof hdf5), &err));
    assert_non_null(strstr(err.text, "an HDF5 file, but not a tunelaw dataset of version 2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_truncated, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_damaged, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_forged_bytes, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_bad_elements, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_bad_attributes, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_bad_sentinels, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_bad_marks, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_bad_layout, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_not_a_dataset, temporary_create, temporary_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
