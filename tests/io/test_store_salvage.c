/* Salvage: damage anywhere in a store costs what it hit and nothing else. */
#include "store_fixture.h"

#include "forge.h"
#include "io/store/store_internal.h"

enum { POINTS = 40, COMMITTED = 30 };

static unsigned char *make_store(struct fixture *fixture, size_t *size, struct store **layout)
{
    fixture_generation(fixture, 0, POINTS);
    struct store *store = fixture_open(fixture, true);
    for (size_t i = 0; i < COMMITTED; i++)
        fixture_commit(store, i, i);
    *layout = store;
    return fixture_read_file(fixture->path, size);
}

static bool overlaps(uint64_t first, uint64_t size, uint64_t at, uint64_t length)
{
    return first < at + length && at < first + size;
}

/* Whether damage of [at, at + length) touches the result of row i; its description is there twice, and a curve that is
 * lost costs nothing else. */
static bool row_hit(const struct store *store, size_t i, uint64_t at, uint64_t length)
{
    return overlaps(store_offset(store, STORE_RESULTS, i), STORE_SLOT, at, length) ||
           overlaps(store_offset(store, STORE_EXECUTIONS, i), STORE_EXECUTION_SLOT, at, length);
}

/* Salvage the file, check every row of the new store, return how many it has of the committed ones. */
static size_t salvage(struct fixture *fixture, const struct store *layout, uint64_t at, uint64_t length)
{
    struct store_damage damage;
    char out[128];
    struct store *damaged = store_open_damaged(fixture->path, &damage, &fixture->err);
    if (!damaged) fail_msg("nothing left: %s", fixture->err.text);
    snprintf(out, sizeof out, "%s/salvaged.h5", fixture->dir);
    if (store_salvage(damaged, out, "test", &fixture->err) != 0) fail_msg("%s", fixture->err.text);
    store_close(damaged);
    struct store *store = store_open(out, false, &fixture->err);
    if (!store) fail_msg("%s", fixture->err.text);
    size_t kept = 0;
    for (size_t i = 0; i < POINTS; i++) {
        char identity[DIGEST_HEX];
        fixture_identity(identity, i);
        long row = store_find_exact(store, identity);
        int found = row < 0 ? 0 : store_read(store, (size_t)row, NULL, NULL, NULL, NULL);
        assert_true(found >= 0);
        bool curve_hit = overlaps(store_offset(layout, STORE_CURVES, i), STORE_SLOT, at, length);
        if (found == 1) fixture_check_parts(store, (size_t)row, i, !curve_hit);
        kept += found == 1;
        if (i >= COMMITTED) assert_int_equal(found, 0);
        /* what was not hit is there */
        if (!row_hit(layout, i, at, length) && (row < 0 || found != (i < COMMITTED)))
            fail_msg("row %zu is lost though bytes %llu to %llu were hit", i, (unsigned long long)at,
                     (unsigned long long)(at + length));
        /* and is the same point */
        struct store_point expected = fixture_point(i);
        assert_true(row >= 0);
        assert_memory_equal(store_point(store, (size_t)row), &expected, sizeof expected);
    }
    assert_int_equal(kept, damage.committed);
    assert_string_equal(store_made_by(store), "salvage");
    assert_non_null(strstr(store_provenance(store), "\"source\""));
    store_close(store);
    unlink(out);
    return kept;
}

static void test_an_intact_store(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    struct store *layout;
    unsigned char *bytes = make_store(fixture, &size, &layout);
    struct store_damage damage;
    struct store *store = store_open_damaged(fixture->path, &damage, &fixture->err);
    assert_non_null(store);
    assert_string_equal(damage.header, "");
    assert_int_equal(damage.points, POINTS);
    assert_int_equal(damage.committed, COMMITTED);
    assert_int_equal(damage.damaged + damage.undescribed, 0);
    /* a salvage replaces nothing */
    assert_int_equal(store_salvage(store, fixture->path, "test", &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "already there"));
    store_close(store);
    assert_int_equal(salvage(fixture, layout, 0, 0), COMMITTED);
    store_close(layout);
    free(bytes);
}

/* Random damage of 1 byte to 20 KB anywhere, in the metadata as often as in the rows. */
static void test_random_damage(void **state)
{
    struct fixture *fixture = *state;
    size_t size, refused = 0, lost = 0;
    unsigned seed = 5;
    struct store *layout;
    unsigned char *bytes = make_store(fixture, &size, &layout), *mutant = malloc(size);
    for (int round = 0; round < 300; round++) {
        memcpy(mutant, bytes, size);
        size_t length = round % 3 == 0 ? 1 : (size_t)rand_r(&seed) % 20000 + 1;
        size_t at = (size_t)rand_r(&seed) % (round % 2 ? size : 40000);
        if (length > size - at) length = size - at;
        for (size_t i = 0; i < length; i++)
            mutant[at + i] = (unsigned char)(length == 1 ? mutant[at] ^ 0x20 : rand_r(&seed));
        fixture_write_file(fixture->path, mutant, size);
        struct store *opened = store_open(fixture->path, false, NULL);
        refused += !opened;
        store_close(opened);
        lost += salvage(fixture, layout, at, length) < COMMITTED;
    }
    assert_true(refused > 100 && lost > 50);
    store_close(layout);
    free(mutant);
    free(bytes);
}

/* Without the block: its copy lies behind the rows. */
static void test_beginning_overwritten(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    struct store *layout;
    unsigned char *bytes = make_store(fixture, &size, &layout);
    memset(bytes, 0, FROZEN_BLOCK);
    fixture_write_file(fixture->path, bytes, size);
    assert_int_equal(salvage(fixture, layout, 0, FROZEN_BLOCK), COMMITTED);
    /* the texts go with their bytes, the rows stay */
    struct store_damage damage;
    size_t metadata = (size_t)layout->offsets[STORE_POINTS];
    memset(bytes, 0xff, metadata);
    fixture_write_file(fixture->path, bytes, size);
    assert_int_equal(salvage(fixture, layout, 0, metadata), COMMITTED);
    struct store *store = store_open_damaged(fixture->path, &damage, &fixture->err);
    assert_non_null(store);
    assert_true(damage.header[0] && damage.committed == COMMITTED);
    assert_string_equal(store_name(store), fixture_header.name);
    store_close(store);
    store_close(layout);
    free(bytes);
}

static void test_truncated(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    struct store *layout;
    unsigned char *bytes = make_store(fixture, &size, &layout);
    size_t before = COMMITTED + 1;
    for (size_t cut = size - 1; cut > layout->offsets[STORE_POINTS] + POINTS * sizeof(struct store_point);
         cut -= 9973) {
        fixture_write_file(fixture->path, bytes, cut);
        struct store *opened = store_open(fixture->path, false, &fixture->err);
        assert_null(opened);
        size_t kept = salvage(fixture, layout, cut, size - cut);
        assert_true(kept <= before);
        before = kept;
    }
    assert_int_equal(before, 0);
    /* no byte of the results is there: how many there were cannot be told */
    struct store_damage damage;
    fixture_write_file(fixture->path, bytes, layout->offsets[STORE_RESULTS]);
    struct store *store = store_open_damaged(fixture->path, &damage, &fixture->err);
    assert_non_null(store);
    assert_int_equal(damage.unreadable, POINTS);
    assert_int_equal(damage.damaged, 0);
    store_close(store);
    store_close(layout);
    free(bytes);
}

/* Files that are no stores, and blocks that lie: a line, no crash. */
static void test_hostile(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    struct store *layout;
    struct store_damage damage;
    unsigned char *bytes = make_store(fixture, &size, &layout);
    struct frozen_block block;
    fixture_write_file(fixture->path, "my notes", 8);
    assert_null(store_open_damaged(fixture->path, &damage, &fixture->err));
    assert_non_null(strstr(fixture->err.text, "no directory"));
    memcpy(&block, bytes, sizeof block);
    for (int what = 0; what < 7; what++) {
        struct frozen_block forged = block;
        if (what == 0) forge_entry(&forged, "points")->rows = (uint64_t)1 << 60;
        if (what == 1) forge_entry(&forged, "results")->offset = (uint64_t)1 << 63;
        if (what == 2) forge_entry(&forged, "config")->row_size = (uint64_t)1 << 60;
        if (what == 3) forge_entry(&forged, "points")->offset = UINT64_MAX - 100;
        if (what == 4) forge_entry(&forged, "point_checksums")->offset = UINT64_MAX;
        if (what == 5) forge_entry(&forged, "points_copy")->offset = UINT64_MAX;
        if (what == 6) memset(forge_entry(&forged, "curves")->name, 'x', sizeof forged.parts[0].name);
        forge_block(bytes, size, &forged);
        fixture_write_file(fixture->path, bytes, size);
        struct store *store = store_open_damaged(fixture->path, &damage, &fixture->err);
        if (store) assert_true(damage.committed <= COMMITTED);
        store_close(store);
    }
    store_close(layout);
    free(bytes);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_intact_store), TEST(test_random_damage), TEST(test_beginning_overwritten),
        TEST(test_truncated),       TEST(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
