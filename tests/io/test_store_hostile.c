/* Files that are not stores, or no longer: each is refused with a line, or reads as it was written; none crashes the
 * reader. */
#include "store_fixture.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "io/store_internal.h"

enum { POINTS = 3 };

/* Points 0 and 1 are committed, point 2 is not. */
static unsigned char *make_store(struct fixture *fixture, size_t *size)
{
    fixture_generation(fixture, 0, POINTS);
    struct store *store = fixture_open(fixture, true);
    fixture_commit(store, 0, 0);
    fixture_commit(store, 1, 1);
    store_close(store);
    return fixture_read_file(fixture->path, size);
}

/* True where the file opens; then every row is right, damaged, or, for the one that was never committed, empty. */
static bool opens_honestly(struct fixture *fixture)
{
    fixture->err.text[0] = '\0';
    struct store *store = store_open(fixture->path, false, &fixture->err);
    if (!store) {
        assert_true(fixture->err.text[0]);
        return false;
    }
    unsigned char committed[POINTS];
    assert_int_equal(store_count(store), POINTS);
    assert_int_equal(store_committed(store, committed, NULL), 0);
    for (size_t i = 0; i < POINTS; i++) {
        struct store_result result;
        struct store_execution execution;
        struct store_curve curve;
        struct store_state state;
        int found = store_read(store, i, &result, &execution, &curve, &fixture->err);
        if (found == 1) fixture_check_row(store, i, i);
        assert_true(found != (i == 2 ? 1 : 0));
        store_read_state(store, i, &state, &fixture->err);
    }
    store_close(store);
    return true;
}

static void refused(struct fixture *fixture, const char *why)
{
    struct store *store = store_open(fixture->path, false, &fixture->err);
    store_close(store);
    assert_null(store);
    if (!strstr(fixture->err.text, why)) fail_msg("\"%s\" does not say \"%s\"", fixture->err.text, why);
}

static void test_truncated(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    unsigned char *bytes = make_store(fixture, &size);
    for (size_t cut = 0; cut < size; cut += cut < 512 ? 8 : 173) {
        fixture_write_file(fixture->path, bytes, cut);
        assert_false(opens_honestly(fixture));
    }
    bytes[size] = 0;
    fixture_write_file(fixture->path, bytes, size + 1);
    refused(fixture, "bytes long");
    free(bytes);
}

static void test_bytes_flipped(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    unsigned seed = 7;
    size_t opened = 0, refusals = 0;
    unsigned char *bytes = make_store(fixture, &size), *mutant = malloc(size);
    for (int round = 0; round < 3000; round++) {
        memcpy(mutant, bytes, size);
        for (int flips = round % 4 + 1; flips > 0; flips--) /* half of them in the seal and HDF5's metadata */
            mutant[(size_t)rand_r(&seed) % (round % 2 ? size : 12000)] ^= (unsigned char)(1u << rand_r(&seed) % 8);
        fixture_write_file(fixture->path, mutant, size);
        opens_honestly(fixture) ? opened++ : refusals++;
    }
    assert_true(opened > 100 && refusals > 100);
    free(mutant);
    free(bytes);
}

static void test_garbage(void **state)
{
    struct fixture *fixture = *state;
    unsigned seed = 11;
    static const size_t sizes[] = {0, 1, 8, 48, 191, 192, 4095, 4096, 4097, 100000};
    unsigned char *bytes = malloc(100000);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t j = 0; j < sizes[i]; j++)
            bytes[j] = (unsigned char)rand_r(&seed);
        fixture_write_file(fixture->path, bytes, sizes[i]);
        refused(fixture, "not a tunelaw store");
    }
    free(bytes);
}

static void test_other_things(void **state)
{
    struct fixture *fixture = *state;
    hid_t file = H5Fcreate(fixture->path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(H5Gcreate2(file, "results", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Fclose(file);
    refused(fixture, "an HDF5 file, but not a tunelaw store");
    unlink(fixture->path);
    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    refused(fixture, "not a regular file");
    assert_null(store_open(fixture->path, true, &fixture->err));
    unlink(fixture->path);
    assert_int_equal(symlink(fixture->path, fixture->path), 0);
    assert_null(store_open(fixture->dir, false, &fixture->err));
    unlink(fixture->path);
    assert_null(store_open(fixture->dir, false, &fixture->err));
    assert_null(store_open("/nonexistent", false, &fixture->err));
}

/* A seal whose own checksum is right and whose members are not (offsets as in docs/store-format.md). */
static void test_forged_seal(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        size_t offset, size;
        uint64_t value;
        const char *why;
    } forgeries[] = {
        {32, 4, 2, "version 2; this program reads version 1"},
        {36, 4, 3, "do not describe"},
        {36, 4, UINT32_MAX, "do not describe"},
        {40, 8, (uint64_t)1 << 60, "bytes long"},
        {48, 8, (uint64_t)1 << 60, "do not describe"},
        {48, 8, 0, "do not describe"},
        {56, 8, UINT64_MAX, "do not describe"},
        {64, 8, 4096, "do not describe"},
        {104, 8, 1, "checksum of its layout"},
        {176, 8, 1, "checksum of its layout"},
    };
    size_t size;
    unsigned char *bytes = make_store(fixture, &size), *mutant = malloc(size);
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        memcpy(mutant, bytes, size);
        memcpy(mutant + forgeries[i].offset, &forgeries[i].value, forgeries[i].size);
        uint64_t checksum = checksum_of(mutant, 184);
        memcpy(mutant + 184, &checksum, sizeof checksum);
        fixture_write_file(fixture->path, mutant, size);
        refused(fixture, forgeries[i].why);
    }
    free(mutant);
    free(bytes);
}

/* HDF5 asks for what a file tells it to; as with malloc, a request that is too large gives NULL. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

/* A child opens the file and reads everything: 0 opened, 1 refused; -1 where it crashed, hung or upset a sanitizer. */
static int open_in_child(const char *path)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct error err;
        struct store_slots slots;
        alarm(20);
        struct store *store = store_open(path, false, &err);
        bool opened = store != NULL;
        for (size_t i = 0; opened && i < store_count(store) && i < 100; i++)
            store_read_slots(store, i, &slots, &err);
        store_close(store);
        _exit(opened ? 40 : 41);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return code == 40 ? 0 : code == 41 ? 1 : -1;
}

/* HDF5 metadata changed under a seal that is right: it may read as something else, but harms nobody. */
static void test_forged_metadata(void **state)
{
    struct fixture *fixture = *state;
    size_t size, refusals = 0;
    unsigned seed = 3;
    unsigned char *bytes = make_store(fixture, &size), *mutant = malloc(size);
    struct seal_range ranges[STORE_DATASETS - 1];
    memcpy(ranges, bytes + 48, sizeof ranges);
    for (int round = 0; round < 400; round++) {
        memcpy(mutant, bytes, size);
        for (int flips = round % 3 + 1; flips > 0; flips--)
            mutant[SEAL_SIZE + (size_t)rand_r(&seed) % 10000] ^= (unsigned char)(1u << rand_r(&seed) % 8);
        fixture_write_file(fixture->path, mutant, size);
        FILE *stream = fopen(fixture->path, "r+b");
        assert_int_equal(seal_write(fileno(stream), "", STORE_KIND, STORE_VERSION, ranges, STORE_DATASETS - 1, NULL),
                         0);
        fclose(stream);
        int code = open_in_child(fixture->path);
        if (code < 0) fail_msg("the reader crashed or hung in round %d", round);
        refusals += (size_t)code;
    }
    assert_true(refusals > 40);
    free(mutant);
    free(bytes);
}

enum layout {
    AS_IT_IS,
    NO_CURVES,
    OTHER_MEMBERS,
    OTHER_SHAPE,
    FEWER_ROWS,
    CHUNKED,
    NEVER_ALLOCATED,
    EXTERNAL,
    LONG_TEXT
};

/* A dataset in the place of /results, in one of the wrong ways. */
static void results_create(hid_t file, enum layout layout)
{
    hsize_t dims[2] = {layout == FEWER_ROWS ? 2 : POINTS, 1};
    if (layout == NEVER_ALLOCATED) dims[0] = (hsize_t)1 << 40;
    struct frozen_layout results = store_layouts[STORE_RESULTS];
    if (layout == OTHER_MEMBERS) results.field_count--;
    hid_t type = frozen_layout_type(&results);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(layout == OTHER_SHAPE ? 2 : 1, dims, NULL);
    if (layout == CHUNKED) H5Pset_chunk(creation, 1, dims);
    H5Pset_alloc_time(creation, layout == NEVER_ALLOCATED ? H5D_ALLOC_TIME_LATE : H5D_ALLOC_TIME_EARLY);
    if (layout == EXTERNAL) H5Pset_external(creation, "/etc/passwd", 0, H5F_UNLIMITED);
    H5Dclose(H5Dcreate2(file, "results", type, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(creation);
    H5Tclose(type);
}

static void config_create(hid_t file, enum layout layout)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, layout == LONG_TEXT ? H5T_VARIABLE : 4);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Dclose(frozen_dataset_create(file, "config", type, 0, NULL, "", "", NULL));
    H5Tclose(type);
}

/* A file with a right seal around a layout that is not ours. */
static void make_foreign(const char *path, enum layout layout)
{
    static const char *const texts[] = {"config_path", "name", "dataset_digest"};
    uint64_t offsets[STORE_DATASETS] = {0};
    struct seal_range ranges[SEAL_RANGES] = {{SEAL_SIZE, 0}, {SEAL_SIZE, 0}, {SEAL_SIZE, 0}, {SEAL_SIZE, 0}};
    struct error err = {""};
    unlink(path);
    hid_t file = frozen_create(path, SEAL_SIZE, &err);
    assert_true(file >= 0);
    for (int i = 0; i < STORE_DATASETS; i++)
        if (i != STORE_RESULTS && (i != STORE_CURVES || layout != NO_CURVES))
            assert_int_equal(frozen_layout_create(file, &store_layouts[i], POINTS, &offsets[i], &err), 0);
    results_create(file, layout);
    config_create(file, layout);
    for (int i = 0; i < 3; i++)
        assert_int_equal(frozen_put_text(file, texts[i], "x", &err), 0);
    assert_int_equal(frozen_put_u64(file, "version", STORE_VERSION, &err), 0);
    assert_int_equal(frozen_put_u64(file, "epoch", 1, &err), 0);
    assert_true(H5Fclose(file) >= 0);
    FILE *stream = fopen(path, "r+b");
    if (seal_write(fileno(stream), path, STORE_KIND, STORE_VERSION, ranges, STORE_DATASETS - 1, &err) != 0)
        fail_msg("%s", err.text);
    fclose(stream);
}

static void test_other_layouts(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        enum layout layout;
        const char *why;
    } cases[] = {
        {NO_CURVES, "no dataset curves"},           {OTHER_MEMBERS, "results has other members"},
        {OTHER_SHAPE, "results has another shape"}, {FEWER_ROWS, "results has 2 rows where 3"},
        {CHUNKED, "results is not contiguous"},     {NEVER_ALLOCATED, "results is not contiguous inside"},
        {EXTERNAL, "results is not contiguous"},    {LONG_TEXT, "config is not the text"},
        {AS_IT_IS, "seal does not match"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_foreign(fixture->path, cases[i].layout);
        refused(fixture, cases[i].why);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_truncated),   TEST(test_bytes_flipped),   TEST(test_garbage),       TEST(test_other_things),
        TEST(test_forged_seal), TEST(test_forged_metadata), TEST(test_other_layouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
