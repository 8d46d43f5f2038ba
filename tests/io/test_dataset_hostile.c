/* A dataset file may be cut, damaged or made to harm: it is refused, or reads as tokens of the vocabulary; it never
 * crashes a worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/h5.h"
#include "io/tokenizer.h"
#include "tests/io/small_dataset.h"

#ifdef __SANITIZE_ADDRESS__
/* HDF5 1.10 loses memory where it refuses damaged metadata. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}
#endif

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

/* Many bytes of the first and last pages, where HDF5 keeps its metadata. */
static void test_damaged_metadata(void **state)
{
    (void)state;
    struct bytes bytes = small_bytes(NULL);
    unsigned char *copy = malloc(bytes.size);
    uint64_t random = 7;
    for (int i = 0; i < 300; i++) {
        memcpy(copy, bytes.data, bytes.size);
        for (int j = 0; j < 1 + i % 8; j++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            size_t span = bytes.size < 8192 ? bytes.size : 4096, at = (size_t)(random >> 33) % span;
            copy[random >> 63 ? at : bytes.size - 1 - at] = (unsigned char)(random >> 20);
        }
        try_bytes(copy, bytes.size);
    }
    free(copy);
    free(bytes.data);
}

/* A well-formed HDF5 file, one element of one dataset changed. */
static int try_element(const struct bytes *good, const char *path, size_t index, uint64_t value)
{
    struct error err = {0};
    const char *name = temporary_write("edited.h5", good->data, good->size);
    hid_t file = H5Fopen(name, H5F_ACC_RDWR, H5P_DEFAULT), dataset = H5Dopen2(file, path, H5P_DEFAULT);
    hid_t space = H5Dget_space(dataset), memory = H5Screate(H5S_SCALAR);
    hsize_t point = index;
    H5Sselect_elements(space, H5S_SELECT_SET, 1, &point);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_UINT64, memory, space, H5P_DEFAULT, &value) >= 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Fclose(file);
    struct dataset *opened = dataset_open(name, &err);
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
    assert_int_equal(try_element(&good, "/examples/train/offsets", 0, 1), 0);
    assert_int_equal(try_element(&good, "/examples/train/offsets", 7, 0), 0);
    assert_int_equal(try_element(&good, "/examples/train/offsets", 7, UINT64_MAX), 0);
    assert_int_equal(try_element(&good, "/examples/train/offsets", 7, (uint64_t)1 << 62), 0);
    assert_int_equal(try_element(&good, "/examples/test/offsets", HELD_PAIRS, info.example_tokens[SPLIT_TEST] + 1), 0);
    assert_int_equal(try_element(&good, "/examples/test/offsets", HELD_PAIRS, info.example_tokens[SPLIT_TEST] - 1), 0);
    assert_int_equal(try_element(&good, "/examples/valid/sources", 3, 0), 0);
    assert_int_equal(try_element(&good, "/examples/valid/sources", 3, UINT32_MAX), 0);
    assert_int_equal(try_element(&good, "/examples/valid/sources", 3, 2), 1); /* possible, and not what was built */
    assert_int_equal(try_element(&good, "/text/train", 5, VOCABULARY), 1);
    assert_int_equal(try_element(&good, "/text/train", 5, 65535), 1);
    assert_int_equal(try_element(&good, "/examples/test/tokens", 5, 65535), 1);
    assert_int_equal(try_element(&good, "/tokenizer", 5, 0xee), 1);
    free(good.data);
}

/* Attributes of another value, type or size. */
static int try_attribute(const struct bytes *good, const char *attribute, hid_t type, hsize_t count, const void *value)
{
    struct error err = {0};
    const char *name = temporary_write("edited.h5", good->data, good->size);
    hid_t file = H5Fopen(name, H5F_ACC_RDWR, H5P_DEFAULT), space = H5Screate_simple(1, &count, NULL);
    H5Adelete(file, attribute);
    if (value) {
        hid_t opened = H5Acreate2(file, attribute, type, space, H5P_DEFAULT, H5P_DEFAULT);
        assert_true(opened >= 0 && H5Awrite(opened, type, value) >= 0);
        H5Aclose(opened);
    }
    H5Sclose(space);
    H5Fclose(file);
    struct dataset *dataset = dataset_open(name, &err);
    if (!dataset) return 0;
    read_all(dataset);
    dataset_close(dataset);
    return 1;
}

static void test_bad_attributes(void **state)
{
    (void)state;
    struct bytes good = small_bytes(NULL);
    static const char *const names[] = {"version", "vocabulary", "separator", "digest", "task", "description"};
    const uint64_t many[64] = {1, 1};
    char *const text = "a variable text";
    hid_t variable = H5Tcopy(H5T_C_S1), wide = H5Tcopy(H5T_C_S1);
    H5Tset_size(variable, H5T_VARIABLE);
    H5Tset_size(wide, 5000);
    char *filled = malloc(5000);
    memset(filled, 'a', 5000);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(try_attribute(&good, names[i], 0, 1, NULL), 0);
        assert_int_equal(try_attribute(&good, names[i], H5T_NATIVE_UINT64, 64, many), 0);
        assert_int_equal(try_attribute(&good, names[i], variable, 1, &text), 0);
        assert_int_equal(try_attribute(&good, names[i], wide, 1, filled), 0);
    }
    const uint64_t bad[] = {0, 3, (uint64_t)1 << 31, UINT64_MAX, 70000 /* then tokens would be uint32 */};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(try_attribute(&good, "vocabulary", H5T_NATIVE_UINT64, 1, &bad[i]), 0);
    assert_int_equal(try_attribute(&good, "version", H5T_NATIVE_UINT64, 1, &bad[1]), 0);
    assert_int_equal(try_attribute(&good, "separator", H5T_NATIVE_UINT64, 1, &(uint64_t){VOCABULARY}), 0);
    assert_int_equal(try_attribute(&good, "vocabulary", H5T_NATIVE_UINT64, 1, &(uint64_t){20}),
                     1); /* tokens above it read as unknown */
    free(filled);
    H5Tclose(variable);
    H5Tclose(wide);
    free(good.data);
}

/* A part that is missing, or stored in another way than the format's. */
static void test_bad_layout(void **state)
{
    (void)state;
    struct bytes good = small_bytes(NULL);
    hsize_t count = 4, square[2] = {2, 2};
    for (int kind = 0; kind < 5; kind++) {
        struct error err = {0};
        const char *name = temporary_write("edited.h5", good.data, good.size);
        hid_t file = H5Fopen(name, H5F_ACC_RDWR, H5P_DEFAULT), layout = H5Pcreate(H5P_DATASET_CREATE);
        H5Ldelete(file, "/text/train", H5P_DEFAULT);
        hid_t space = kind == 1 ? H5Screate_simple(2, square, NULL) : H5Screate_simple(1, &count, NULL);
        if (kind == 2) H5Pset_chunk(layout, 1, &count);
        if (kind == 3) H5Pset_external(layout, "elsewhere.bin", 0, 8);
        if (kind > 0)
            H5Dclose(H5Dcreate2(file, "/text/train", kind == 4 ? H5T_STD_I16LE : H5T_STD_U16LE, space, H5P_DEFAULT,
                                layout, H5P_DEFAULT));
        H5Sclose(space);
        H5Pclose(layout);
        H5Fclose(file);
        assert_null(dataset_open(name, &err));
        assert_non_null(strstr(err.text, "/text/train"));
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
    assert_non_null(strstr(err.text, "not an HDF5 file"));
    H5Fclose(h5_create(temporary_path("other.h5"), &err));
    assert_null(dataset_open(temporary_path("other.h5"), &err));
    assert_non_null(strstr(err.text, "not a dataset"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_truncated, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_damaged, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_damaged_metadata, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_bad_elements, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_bad_attributes, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_bad_layout, temporary_create, temporary_remove),
        cmocka_unit_test_setup_teardown(test_not_a_dataset, temporary_create, temporary_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
