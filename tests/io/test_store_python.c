/* What users do with h5py and pandas: each dataset a table, also while the sweep runs. Skipped where these are not
 * installed. */
#include "store_fixture.h"

#include <sys/wait.h>

#include "io/checkpoint/checkpoint.h"

static int python(const char *mode, const char *path)
{
    char command[512];
    if (!TEST_PYTHON[0]) return 77;
    snprintf(command, sizeof command, "'%s' '%s/io/read_store.py' %s '%s'", TEST_PYTHON, TEST_SOURCE_DIR, mode, path);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check(int code)
{
    if (code == 77) {
        print_message("skipped: this needs python3 with h5py and pandas\n");
        skip();
    }
    assert_int_equal(code, 0);
}

static void test_tables(void **state)
{
    struct fixture *fixture = *state;
    fixture_generation(fixture, 0, 6);
    struct store *store = fixture_open(fixture, true);
    struct store_state crashed = {STORE_CRASHED, 3, 1.7e9, 0.5, "signal 11"};
    fixture_commit(store, 1, 1);
    fixture_commit(store, 4, 4);
    assert_int_equal(store_set_state(store, 5, &crashed, NULL), 0);
    store_close(store);
    check(python("tables", fixture->path));
    check(python("plain", fixture->path));
}

static void test_while_it_is_written(void **state)
{
    enum { COUNT = 400 };
    struct fixture *fixture = *state;
    int status;
    fixture_generation(fixture, 0, COUNT);
    pid_t committer = fork();
    if (committer == 0) {
        struct store *store = store_open(fixture->dir, true, NULL);
        for (size_t i = 0; store && i < COUNT; i++) {
            struct store_row row = fixture_row(i, i);
            if (store_commit(store, &row, 1, NULL) != 0) _exit(1);
        }
        _exit(store ? 0 : 1);
    }
    int code = python("watch", fixture->path);
    assert_int_equal(waitpid(committer, &status, 0), committer);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check(code);
}

/* The tensors that test_checkpoint.c has too. */
static void test_checkpoint(void **state)
{
    static const struct {
        const char *name;
        size_t rows, columns;
    } tensors[] = {{"value/wq", 6, 8}, {"moment1/wq", 6, 8}, {"value/norm", 1, 5}, {"value/embedding", 33, 7}};
    static const struct store_curve_entry curve[2] = {{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 11, 12}};
    struct fixture *fixture = *state;
    struct checkpoint_header header = {.step = 40, .finished = 1};
    struct checkpoint_writer *writer = checkpoint_writer_create(fixture->path, &header, curve, 2, &fixture->err);
    for (size_t t = 0; t < 4; t++)
        assert_int_equal(checkpoint_writer_declare(writer, tensors[t].name, tensors[t].rows, tensors[t].columns, NULL),
                         0);
    for (size_t t = 0; t < 4; t++) {
        float data[33 * 7];
        for (size_t i = 0; i < tensors[t].rows * tensors[t].columns; i++)
            data[i] = (float)t * 1000 + (float)(i / tensors[t].columns) * 10 + (float)(i % tensors[t].columns) / 16;
        struct checkpoint_tile tile = {tensors[t].name,   tensors[t].rows, tensors[t].columns, 0, tensors[t].rows, 0,
                                       tensors[t].columns};
        assert_int_equal(checkpoint_writer_put(writer, &tile, data, NULL), 0);
    }
    assert_int_equal(checkpoint_writer_finish(writer, NULL, &fixture->err), 0);
    check(python("checkpoint", fixture->path));
    check(python("plain", fixture->path));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_tables), TEST(test_while_it_is_written), TEST(test_checkpoint)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
