/* Merging: points are joined by identity, nothing is mixed or lost, and neither the order nor the grouping of the
 * stores matters. */
#include "store_fixture.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "io/store/store_internal.h"
#include "io/store/store_merge.h"

enum { UNIVERSE = 24, STORES = 3 };

static const struct store_merge_options failing = {STORE_RULE_FAIL, STORE_TOLERANCE};
static const struct store_merge_options earliest = {STORE_RULE_EARLIEST, STORE_TOLERANCE};
static const struct store_merge_options newest = {STORE_RULE_NEWEST, STORE_TOLERANCE};

/* A row as `fixture_row` makes it, finished at a time, in a class, with its loss off by a part of itself. */
static struct store_row row_of(size_t index, size_t number, double finished, const char *class, double off)
{
    struct store_row row = fixture_row(index, number);
    row.result.status = STORE_DONE;
    row.result.test_loss = 3.0 * (1.0 + off);
    row.execution.finished = finished;
    store_field(row.execution.execution_class, sizeof row.execution.execution_class, class);
    return row;
}

/* Empty store NAME of points numbers[count]; config NULL: the fixture's. */
static struct store *make(struct fixture *fixture, const char *name, const size_t *numbers, size_t count,
                          const char *config)
{
    char dir[128];
    struct store_point points[UNIVERSE];
    struct store_header header = fixture_header;
    if (config) header.config_text = config;
    for (size_t i = 0; i < count; i++)
        points[i] = fixture_point(numbers[i]);
    snprintf(dir, sizeof dir, "%s/%s", fixture->dir, name);
    mkdir(dir, 0777);
    if (store_generation(dir, &header, points, count, NULL, &fixture->err) != 0) fail_msg("%s", fixture->err.text);
    struct store *store = store_open(dir, true, &fixture->err);
    if (!store) fail_msg("%s", fixture->err.text);
    return store;
}

static void commit(struct store *store, const struct store_row *row)
{
    struct error err = {""};
    if (store_commit(store, row, 1, &err) != 0) fail_msg("%s", err.text);
}

/* The merged store, or NULL where it is refused. */
static struct store *merge(struct fixture *fixture, const char *name, const struct store_merge_options *options,
                           const struct store *const *inputs, size_t count, struct store_merge_report *report)
{
    char out[128];
    struct store_merge_report unused;
    if (!report) report = &unused;
    snprintf(out, sizeof out, "%s/%s.h5", fixture->dir, name);
    int result = store_merge(inputs, count, options, out, "test", report, &fixture->err);
    if (report == &unused) store_merge_report_free(report);
    if (result != 0) return NULL;
    struct store *store = store_open(out, false, &fixture->err);
    if (!store) fail_msg("%s", fixture->err.text);
    return store;
}

/* Everything that a merge decides, in one digest. */
static struct digest contents(const struct store *store)
{
    struct store_slots slots;
    struct store_state state;
    struct digest_stream *stream = digest_stream_create();
    digest_stream_add(stream, store->points, store->count * sizeof *store->points);
    for (size_t i = 0; i < store->count; i++) {
        int found = store_read_slots(store, i, &slots, NULL);
        assert_true(found >= 0);
        digest_stream_add(stream, &found, sizeof found);
        if (found == 1) digest_stream_add(stream, &slots, sizeof slots);
        assert_int_equal(store_read_state(store, i, &state, NULL), 0);
        digest_stream_add(stream, &state, sizeof state);
    }
    const char *const texts[] = {store->config, store->config_path, store->name, store->dataset_digest,
                                 store->provenance};
    for (size_t i = 0; i < 5; i++)
        digest_stream_add(stream, texts[i], strlen(texts[i]) + 1);
    digest_stream_add(stream, &store->epoch, sizeof store->epoch);
    struct digest digest = digest_stream_result(stream);
    digest_stream_destroy(stream);
    return digest;
}

static bool same(const struct store *a, const struct store *b)
{
    if (!a || !b) return !a && !b;
    return strcmp(contents(a).hex, contents(b).hex) == 0;
}

/* A curve that was damaged, and that the next generation has left empty, is no other result than the whole one; that is
 * the one that is kept, in any order and by any rule. */
static void test_lost_curves(void **state)
{
    struct fixture *fixture = *state;
    static const size_t points[] = {0};
    static const unsigned char lightning[8] = "zzzzzzz";
    struct store_row row = fixture_row(0, 0);
    row.result.evaluations = 3;
    struct store *whole = make(fixture, "whole", points, 1, NULL), *hurt = make(fixture, "hurt", points, 1, NULL);
    commit(whole, &row);
    commit(hurt, &row);
    int fd = open(hurt->path, O_WRONLY);
    assert_int_equal(pwrite(fd, lightning, sizeof lightning, (off_t)store_offset(hurt, STORE_CURVES, 0) + 100),
                     sizeof lightning);
    close(fd);
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", hurt->path);
    *strrchr(dir, '/') = 0;
    for (int resumed = 0; resumed < 2; resumed++) {
        for (int order = 0; order < 4; order++) {
            const struct store_merge_options *rule = order / 2 ? &newest : &earliest;
            const struct store *inputs[] = {order % 2 ? hurt : whole, order % 2 ? whole : hurt};
            struct store_merge_report report;
            struct store_curve curve;
            struct store *out = merge(fixture, "out", rule, inputs, 2, &report);
            assert_non_null(out);
            assert_true(report.conflicts == 0 && report.equal == 1);
            assert_int_equal(store_read(out, 0, NULL, NULL, &curve, NULL), 1);
            assert_int_equal(curve.count, row.curve.count);
            store_merge_report_free(&report);
            store_close(out);
        }
        store_close(hurt);
        struct store_point point = fixture_point(0);
        if (store_generation(dir, &fixture_header, &point, 1, NULL, &fixture->err) != 0)
            fail_msg("%s", fixture->err.text);
        hurt = store_open(dir, false, &fixture->err);
        assert_non_null(hurt);
    }
    store_close(hurt);
    store_close(whole);
}

static void test_shards(void **state)
{
    struct fixture *fixture = *state;
    static const size_t first[] = {0, 1, 2}, second[] = {3, 4, 5};
    struct store *a = make(fixture, "a", first, 3, NULL), *b = make(fixture, "b", second, 3, NULL);
    for (size_t i = 0; i < 3; i++) {
        struct store_row row = fixture_row(i, first[i]);
        commit(a, &row);
        row = fixture_row(i, second[i]);
        if (i > 0) commit(b, &row);
    }
    struct store_state crashed = {STORE_CRASHED, 3, 1.7e9, 0.5, "signal 11"};
    assert_int_equal(store_set_state(b, 0, &crashed, NULL), 0);
    const struct store *inputs[] = {a, b};
    struct store_merge_report report;
    struct store *out = merge(fixture, "out", &failing, inputs, 2, &report);
    assert_non_null(out);
    assert_int_equal(report.points, 6);
    assert_int_equal(report.committed, 5);
    assert_int_equal(report.equal + report.close + report.conflicts + report.damaged + report.renamed, 0);
    assert_int_equal(report.configs, 1);
    for (size_t number = 0; number < 6; number++) {
        char identity[DIGEST_HEX];
        fixture_identity(identity, number);
        long row = store_find_exact(out, identity);
        assert_true(row >= 0);
        if (number != 3) fixture_check_row(out, (size_t)row, number);
        struct store_state found;
        assert_int_equal(store_read_state(out, (size_t)row, &found, NULL), 0);
        assert_int_equal(found.status, number == 3 ? STORE_CRASHED : number == 4 ? STORE_DIVERGED : STORE_DONE);
        if (number == 3) assert_string_equal(found.message, "signal 11");
    }
    assert_string_equal(store_made_by(out), "merge");
    struct digest digest;
    assert_int_equal(digest_of_file(a->path, &digest, NULL), 0);
    assert_non_null(strstr(store_provenance(out), digest.hex));
    store_close(a);
    store_close(b);
    store_close(out);
}

static void test_conflicts(void **state)
{
    struct fixture *fixture = *state;
    static const size_t numbers[] = {7};
    static const struct {
        const char *other_class;
        double off;
        size_t equal, close, conflicts;
    } cases[] = {{"cpu", 0, 1, 0, 0},
                 {"cpu", 1e-9, 0, 0, 1},
                 {"gpu", 1e-3, 0, 1, 0},
                 {"gpu", 2e-2, 0, 0, 1},
                 {"gpu", 0, 1, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct store *a = make(fixture, i % 2 ? "a1" : "a0", numbers, 1, NULL);
        struct store *b = make(fixture, i % 2 ? "b1" : "b0", numbers, 1, NULL);
        const struct store *inputs[] = {a, b};
        char path[128], stale[160];
        struct store_row row = row_of(0, 7, 200, "cpu", 0);
        struct store_row other = row_of(0, 7, 100, cases[i].other_class, cases[i].off);
        struct store_merge_report report;
        commit(a, &row);
        commit(b, &other);
        struct store *out = merge(fixture, "out", &failing, inputs, 2, &report);
        assert_int_equal(report.equal, cases[i].equal);
        assert_int_equal(report.close, cases[i].close);
        assert_int_equal(report.conflicts, cases[i].conflicts);
        assert_int_equal(report.listed, cases[i].conflicts);
        assert_true((out == NULL) == (cases[i].conflicts > 0));
        store_merge_report_free(&report);
        snprintf(path, sizeof path, "%s/out.h5", fixture->dir);
        snprintf(stale, sizeof stale, "%s.tmp", path);
        if (!out) assert_int_equal(access(path, F_OK), -1); /* refused: nothing was written */
        assert_int_equal(access(stale, F_OK), -1);
        store_close(out);
        for (int rule = 0; rule < 2; rule++) {
            struct store_result result;
            struct store_execution execution;
            out = merge(fixture, "out", rule ? &newest : &earliest, inputs, 2, NULL);
            assert_int_equal(store_read(out, 0, &result, &execution, NULL, NULL), 1);
            /* the result and the execution of one and the same run */
            assert_true(execution.finished == (rule ? 200 : 100));
            assert_true(result.test_loss == (rule ? row : other).result.test_loss);
            store_close(out);
        }
        unlink(path);
        unlink(a->path);
        unlink(b->path);
        store_close(a);
        store_close(b);
    }
}

/* Three classes, the ends further apart than the tolerance, the middle close to both: whichever was finished first, and
 * in whichever order they are named, they are in conflict. */
static void test_straddling(void **state)
{
    struct fixture *fixture = *state;
    static const size_t numbers[] = {7},
                        orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const char *const names[] = {"a", "b", "c"}, *const classes[] = {"cpu", "gpu", "tpu"};
    for (size_t finished = 0; finished < 6; finished++) {
        struct store *stores[3];
        for (size_t i = 0; i < 3; i++) {
            stores[i] = make(fixture, names[i], numbers, 1, NULL);
            struct store_row row = row_of(0, 7, 100 + (double)orders[finished][i], classes[i], 4e-3 * (double)i);
            commit(stores[i], &row);
        }
        for (size_t order = 0; order < 6; order++) {
            const struct store *inputs[3];
            struct store_merge_report report;
            for (size_t i = 0; i < 3; i++)
                inputs[i] = stores[orders[order][i]];
            assert_null(merge(fixture, "out", &failing, inputs, 3, &report));
            assert_int_equal(report.conflicts, 1);
            assert_int_equal(report.close, 1);
            /* the ends, and of these the one that the rule would keep is said to be kept */
            const struct store_conflict *c = report.list;
            double off = (double)orders[order][c->first_input] - (double)orders[order][c->other_input];
            assert_true(fabs(off) == 2);
            assert_int_equal(c->kept, orders[finished][1] != 0);
            assert_false(c->same_class);
            store_merge_report_free(&report);
            struct store *out = merge(fixture, "out", &earliest, inputs, 3, NULL);
            struct store_execution execution;
            struct store_result result;
            assert_int_equal(store_read(out, 0, &result, &execution, NULL, NULL), 1);
            assert_true(execution.finished == 100);
            store_close(out);
        }
        for (size_t i = 0; i < 3; i++) {
            unlink(stores[i]->path);
            store_close(stores[i]);
        }
    }
}

static void test_damaged_rows_are_not_taken(void **state)
{
    struct fixture *fixture = *state;
    static const size_t numbers[] = {1, 2};
    struct store *a = make(fixture, "a", numbers, 2, NULL), *b = make(fixture, "b", numbers, 2, NULL);
    for (size_t i = 0; i < 2; i++) {
        struct store_row row = fixture_row(i, numbers[i]);
        commit(a, &row);
        if (i == 0) commit(b, &row);
        assert_int_equal(pwrite(a->fd, "x", 1, (off_t)store_offset(a, STORE_RESULTS, i) + 90), 1);
    }
    const struct store *inputs[] = {a, b};
    struct store_merge_report report;
    struct store *out = merge(fixture, "out", &failing, inputs, 2, &report);
    assert_non_null(out);
    assert_int_equal(report.damaged, 2);
    assert_int_equal(report.committed, 1);
    char identity[DIGEST_HEX];
    fixture_identity(identity, 1);
    fixture_check_row(out, (size_t)store_find_exact(out, identity), 1); /* the other store's copy was good */
    store_close(a);
    store_close(b);
    store_close(out);
}

/* A point held out anywhere is held out; removed only where no sweep has it. */
static void test_marks(void **state)
{
    struct fixture *fixture = *state;
    static const size_t both[] = {1, 2}, one[] = {1};
    struct store *a = make(fixture, "a", both, 2, NULL), *b = make(fixture, "b", both, 2, NULL);
    struct store_row row = fixture_row(1, 2);
    commit(a, &row);
    store_close(a);
    a = make(fixture, "a", one, 1, NULL); /* 2 is removed there */
    const struct store *inputs[] = {a, b};
    struct store *out = merge(fixture, "out", &failing, inputs, 1, NULL);
    char identity[DIGEST_HEX];
    fixture_identity(identity, 2);
    assert_int_equal(store_point(out, (size_t)store_find_exact(out, identity))->removed, 1);
    store_close(out);
    out = merge(fixture, "out", &failing, inputs, 2, NULL);
    long found = store_find_exact(out, identity);
    assert_int_equal(store_point(out, (size_t)found)->removed, 0);
    fixture_check_row(out, (size_t)found, 2);
    store_close(a);
    store_close(b);
    store_close(out);
}

/* A store of random points with random results: three times and, by `kind`, either two values far apart in two classes,
 * or one value in each of four classes, all within the tolerance. */
enum results { CONFLICTING, CLOSE };
static struct store *random_store(struct fixture *fixture, size_t which, enum results kind, unsigned *seed)
{
    static const char *const configs[] = {"a = 1;\n", "a = 2;\n", "longer = 3;\n"};
    static const char *const classes[] = {"cpu", "gpu", "cpu two threads", "gpu degree 2"};
    static const double offs[] = {0, 0.3};
    size_t numbers[UNIVERSE], count = 0;
    char name[16];
    for (size_t i = 0; i < UNIVERSE; i++)
        if (rand_r(seed) % 3) numbers[count++] = i;
    if (count == 0) numbers[count++] = 0;
    snprintf(name, sizeof name, "s%zu", which);
    struct store *store = make(fixture, name, numbers, count, configs[rand_r(seed) % 3]);
    for (size_t i = 0; i < count; i++) {
        struct store_state state = {(uint32_t)rand_r(seed) % STORE_STATUSES, (uint32_t)rand_r(seed) % 3,
                                    rand_r(seed) % 3, 0.5, ""};
        if (rand_r(seed) % 2) assert_int_equal(store_set_state(store, i, &state, NULL), 0);
        if (rand_r(seed) % 2) continue;
        size_t class = (size_t)rand_r(seed) % (kind == CLOSE ? 4 : 2);
        double off = kind == CLOSE ? 1e-3 * (double)class : offs[rand_r(seed) % 8 == 0];
        struct store_row row = row_of(i, numbers[i], 100 + rand_r(seed) % 3, classes[class], off);
        commit(store, &row);
    }
    return store;
}

static void check_lattice(struct fixture *fixture, const struct store_merge_options *options,
                          const struct store *const *s)
{
    const struct store *ab[] = {s[0], s[1]}, *bc[] = {s[1], s[2]}, *cab[] = {s[2], s[0], s[1]};
    struct store *all = merge(fixture, "all", options, s, 3, NULL);
    struct store *turned = merge(fixture, "turned", options, cab, 3, NULL);
    assert_true(same(all, turned));
    struct store *left = merge(fixture, "left", options, ab, 2, NULL);
    struct store *right = merge(fixture, "right", options, bc, 2, NULL);
    const struct store *left_c[] = {left, s[2]}, *a_right[] = {s[0], right};
    struct store *grouped_left = left ? merge(fixture, "grouped_left", options, left_c, 2, NULL) : NULL;
    struct store *grouped_right = right ? merge(fixture, "grouped_right", options, a_right, 2, NULL) : NULL;
    assert_true(same(all, grouped_left));
    assert_true(same(all, grouped_right));
    if (all) {
        const struct store *again[] = {all, s[1], all};
        struct store *twice = merge(fixture, "twice", options, again, 3, NULL);
        assert_true(same(all, twice));
        store_close(twice);
    }
    store_close(all);
    store_close(turned);
    store_close(left);
    store_close(right);
    store_close(grouped_left);
    store_close(grouped_right);
}

static void test_associative_commutative_idempotent(void **state)
{
    struct fixture *fixture = *state;
    unsigned seed = 11;
    size_t refused = 0;
    for (int round = 0; round < 20; round++) {
        enum results kind = round < 12 ? CONFLICTING : CLOSE;
        struct store *stores[STORES];
        for (size_t i = 0; i < STORES; i++)
            stores[i] = random_store(fixture, i, kind, &seed);
        const struct store *const inputs[] = {stores[0], stores[1], stores[2]};
        check_lattice(fixture, &earliest, inputs);
        check_lattice(fixture, &newest, inputs);
        check_lattice(fixture, &failing, inputs);
        struct store *strict = merge(fixture, "strict", &failing, inputs, 3, NULL);
        refused += !strict;
        if (kind == CLOSE) assert_non_null(strict);
        store_close(strict);
        for (size_t i = 0; i < STORES; i++) {
            unlink(stores[i]->path);
            store_close(stores[i]);
        }
    }
    assert_true(refused > 0 && refused < 12); /* both ways were tried */
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lost_curves),
        TEST(test_shards),
        TEST(test_conflicts),
        TEST(test_straddling),
        TEST(test_damaged_rows_are_not_taken),
        TEST(test_marks),
        TEST(test_associative_commutative_idempotent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
