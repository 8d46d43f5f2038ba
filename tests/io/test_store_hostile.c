/* Files that are not stores, or no longer: each is refused with a line, or reads as it was written; none crashes the
 * reader. */
#include "store_fixture.h"

#include <hdf5.h>
#include <sys/stat.h>

#include "forge.h"
#include "io/store/store_internal.h"

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
        if (found == 1) fixture_check_parts(store, i, i, store_check_curve(store, i, NULL) == 0);
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
        for (int flips = round % 4 + 1; flips > 0; flips--) /* half of them in the block and HDF5's metadata */
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
    static const size_t sizes[] = {0, 1, 8, 35, 36, 48, 191, 192, 8191, 8192, 8193, 100000};
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
    refused(fixture, "an HDF5 file, but not a tunelaw store of version 3");
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

/* One number of the block forged, every checksum right (offsets as in docs/store-format.md). */
static void test_forged_block(void **state)
{
    struct fixture *fixture = *state;
    enum { ENTRY = 104, POINTS_AT = 64 + 2 * ENTRY, RESULTS_AT = 64 + 6 * ENTRY, CURVES_AT = 64 + 7 * ENTRY };
    static const struct {
        size_t offset, size;
        uint64_t value;
        const char *why;
    } forgeries[] = {
        {0, 1, 'T', "not a tunelaw store"},
        {32, 4, 1, "store of version 1; this program reads version 3"},
        {32, 4, 2, "store of version 2; this program reads version 3"},
        {32, 4, 4, "store of version 4; this program reads version 3"},
        {36, 4, 9, "has no dataset directory"},
        {36, 4, 25, "more datasets than there can be"},
        {36, 4, UINT32_MAX, "more datasets than there can be"},
        {40, 8, (uint64_t)1 << 60, "bytes long"},
        {48, 8, 1, "checksum of its HDF5 metadata"},
        {56, 8, 5625, "attributes"},
        {56, 8, UINT64_MAX, "attributes"},
        {56, 8, 7, "attributes"},
        {POINTS_AT, 1, 'q', "has no dataset points"},
        {POINTS_AT, 1, 0, "a dataset's name"},
        {POINTS_AT, 1, 27, "a dataset's name"},
        {POINTS_AT + 47, 1, 'x', "a dataset's name"},
        {POINTS_AT + 48, 1, 'R', "points has other members"},
        {POINTS_AT + 56, 8, 1, "points has other members"},
        {POINTS_AT + 64, 8, 0, "size or place of points"},
        {POINTS_AT + 64, 8, 311, "points has other members"},
        {POINTS_AT + 72, 8, (uint64_t)1 << 60, "size or place of points"},
        {POINTS_AT + 72, 8, UINT64_MAX / 312 + 2, "size or place of points"},
        {POINTS_AT + 72, 8, 2, "rows where"},
        {POINTS_AT + 72, 8, 0, "size or place of points"}, /* no rows lie nowhere */
        {POINTS_AT + 80, 8, 0, "size or place of points"},
        {POINTS_AT + 80, 8, UINT64_MAX - 8, "size or place of points"},
        {POINTS_AT + 88, 8, 1, "checksum of dataset points"},
        {POINTS_AT + 96, 4, 0, "seal of points"}, /* a checksum without a seal */
        {POINTS_AT + 96, 4, 2, "seal of points"},
        {POINTS_AT + 100, 4, 1, "seal of points"},
        {RESULTS_AT + 80, 8, 8192 + 8, "alignment of results"},
        {RESULTS_AT + 80, 8, 8192, "bytes of another dataset in"},
        {RESULTS_AT + 96, 4, 1, "results has other members"},
        {CURVES_AT, 8, 0x73746c75736572, "two datasets named results"},
    };
    size_t size;
    unsigned char *bytes = make_store(fixture, &size), *mutant = malloc(size);
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        struct frozen_block block;
        memcpy(&block, bytes, sizeof block);
        memcpy((unsigned char *)&block + forgeries[i].offset, &forgeries[i].value, forgeries[i].size);
        memcpy(mutant, bytes, size);
        forge_block(mutant, size, &block);
        fixture_write_file(fixture->path, mutant, size);
        refused(fixture, forgeries[i].why);
    }
    free(mutant);
    free(bytes);
}

/* HDF5's metadata is whatever a forger likes: nobody here reads it, and every row reads as it was written. Files like
 * these made the HDF5 library read out of bounds. */
static void test_forged_metadata(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    unsigned seed = 3;
    unsigned char *bytes = make_store(fixture, &size), *mutant = malloc(size);
    struct frozen_block block;
    memcpy(&block, bytes, sizeof block);
    size_t metadata = (size_t)forge_entry(&block, "points")->offset;
    for (int round = 0; round < 200; round++) {
        memcpy(mutant, bytes, size);
        for (int flips = round % 3 + 1; flips > 0; flips--)
            mutant[FROZEN_BLOCK + (size_t)rand_r(&seed) % (metadata - FROZEN_BLOCK)] ^= (unsigned char)(1u << flips);
        if (round == 0) memset(mutant + FROZEN_BLOCK, 0xff, metadata - FROZEN_BLOCK);
        forge(mutant, size);
        fixture_write_file(fixture->path, mutant, size);
        if (!opens_honestly(fixture)) fail_msg("%s", fixture->err.text);
    }
    /* and a new generation is made of it, whose metadata is HDF5's own again */
    assert_int_equal(fixture_generation(fixture, 0, POINTS).kept, 2);
    hid_t file = H5Fopen(fixture->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0 && H5Lexists(file, "results", H5P_DEFAULT) > 0);
    H5Fclose(file);
    free(mutant);
    free(bytes);
}

/* Any bytes changed under right checksums: refused, or rows that are right, damaged or another point's. */
static void test_forged_bytes(void **state)
{
    struct fixture *fixture = *state;
    size_t size, opened = 0;
    unsigned seed = 5;
    unsigned char *bytes = make_store(fixture, &size), *mutant = malloc(size);
    for (int round = 0; round < 2000; round++) {
        memcpy(mutant, bytes, size);
        for (int flips = round % 3 + 1; flips > 0; flips--)
            mutant[(size_t)rand_r(&seed) % (round % 2 ? size : 1200)] ^= (unsigned char)(1u << rand_r(&seed) % 8);
        forge(mutant, size);
        fixture_write_file(fixture->path, mutant, size);
        fixture->err.text[0] = '\0';
        struct store *store = store_open(fixture->path, false, &fixture->err);
        if (!store) assert_true(fixture->err.text[0]);
        struct store_slots slots;
        for (size_t i = 0; store && i < store_count(store); i++)
            store_read_slots(store, i, &slots, &fixture->err);
        opened += store != NULL;
        store_close(store);
    }
    assert_true(opened > 500 && opened < 1500);
    free(mutant);
    free(bytes);
}

static void test_forged_attributes(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *name, *value, *why;
    } forgeries[] = {{"epoch", NULL, "no attribute epoch"},        {"epoch", "", "epoch is not a number"},
                     {"epoch", "-1", "epoch is not a number"},     {"epoch", "99999999999999999999", "not a number"},
                     {"made_by", NULL, "no attribute made_by"},    {"name", NULL, "no attribute name"},
                     {"shard", NULL, "no attribute shard"},        {"config_path", NULL, "attribute config_path"},
                     {"program_version", NULL, "program_version"}, {"dataset_digest", NULL, "dataset_digest"}};
    size_t size;
    unsigned char *bytes = make_store(fixture, &size), *mutant = malloc(size);
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        struct frozen_block block;
        memcpy(mutant, bytes, size);
        memcpy(&block, bytes, sizeof block);
        forge_attribute(&block, forgeries[i].name, forgeries[i].value);
        forge_block(mutant, size, &block);
        fixture_write_file(fixture->path, mutant, size);
        refused(fixture, forgeries[i].why);
    }
    free(mutant);
    free(bytes);
}

/* The copy of the block is compared, since it is under no checksum. */
static void test_other_directory(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    unsigned char *bytes = make_store(fixture, &size);
    struct frozen_block block;
    memcpy(&block, bytes, sizeof block);
    bytes[forge_entry(&block, "directory")->offset + 5000] ^= 1;
    fixture_write_file(fixture->path, bytes, size);
    refused(fixture, "directory is not the copy");
    free(bytes);
}

/* A file of version 1 began with a seal of 192 bytes. */
static void test_older_version(void **state)
{
    struct fixture *fixture = *state;
    unsigned char *bytes = calloc(1, 40000);
    const uint32_t version = 1;
    strcpy((char *)bytes, "tunelaw store");
    memcpy(bytes + 32, &version, sizeof version);
    for (size_t size = 192; size <= 40000; size += 39808) {
        fixture_write_file(fixture->path, bytes, size);
        refused(fixture, "tunelaw store of version 1; this program reads version 3");
    }
    free(bytes);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_truncated),       TEST(test_bytes_flipped),   TEST(test_garbage),      TEST(test_other_things),
        TEST(test_forged_block),    TEST(test_forged_metadata), TEST(test_forged_bytes), TEST(test_forged_attributes),
        TEST(test_other_directory), TEST(test_older_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
