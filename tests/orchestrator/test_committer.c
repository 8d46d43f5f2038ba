/* The thread that commits: nothing before it is opened; then rows, lines, what they made useless, in this order, each
 * on the disk before the next; a disk that fails, and a run that has taken over, end it. */
#include "orchestrator/run/committer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "io/store/store_internal.h"
#include "tests/io/store_fixture.h"

enum { ROWS = 600 };

static struct {
    struct store *store;
    uint32_t numbers[ROWS];
    size_t count;
    bool early; /* called before its row was committed and its line on the disk */
} cleaned;

static struct {
    int fd;
    off_t size; /* so much of it is on the disk */
    bool failing;
} log_file;

static off_t size_of(int fd)
{
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    return status.st_size;
}

/* In place of the C library's. */
int fdatasync(int fd)
{
    if (fd != log_file.fd) return fsync(fd);
    if (log_file.failing) {
        errno = EIO;
        return -1;
    }
    log_file.size = size_of(fd);
    return 0;
}

static void clean(void *context, uint32_t number)
{
    assert_ptr_equal(context, &cleaned);
    if (store_read(cleaned.store, number, NULL, NULL, NULL, NULL) != 1) cleaned.early = true;
    if (log_file.size != size_of(log_file.fd)) cleaned.early = true;
    cleaned.numbers[cleaned.count++] = number;
}

struct scene {
    struct fixture *fixture;
    int log_fd;
    struct committer *committer;
};

static struct scene scene_start(void **state)
{
    struct scene scene = {.fixture = *state};
    char path[128];
    memset(&cleaned, 0, sizeof cleaned);
    fixture_generation(scene.fixture, 0, ROWS);
    cleaned.store = fixture_open(scene.fixture, true);
    snprintf(path, sizeof path, "%s/log", scene.fixture->dir);
    scene.log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    log_file.fd = scene.log_fd;
    log_file.size = 0;
    log_file.failing = false;
    scene.committer = committer_start(cleaned.store, scene.log_fd, clean, &cleaned, &scene.fixture->err);
    assert_non_null(scene.committer);
    return scene;
}

static void scene_end(struct scene *scene)
{
    committer_stop(scene->committer);
    close(scene->log_fd);
    store_close(cleaned.store);
}

static void add(struct scene *scene, size_t index)
{
    char line[32];
    struct store_row row = fixture_row(index, index);
    snprintf(line, sizeof line, "line %zu\n", index);
    if (committer_add(scene->committer, &row, line, (uint32_t)index, &scene->fixture->err) != 0)
        fail_msg("%s", scene->fixture->err.text);
}

/* What committer_poll says within some seconds; at the end of the waiting 0 and nothing. */
static int wait_for(struct scene *scene, size_t *count)
{
    struct pollfd ready = {committer_fd(scene->committer), POLLIN, 0};
    *count = 0;
    return poll(&ready, 1, 10000) == 1 ? committer_poll(scene->committer, count, &scene->fixture->err) : 0;
}

static void check_log(const struct scene *scene, size_t count)
{
    char path[128], line[32];
    size_t size;
    snprintf(path, sizeof path, "%s/log", scene->fixture->dir);
    char *text = fixture_read_file(path, &size), *at = text;
    for (size_t i = 0; i < count; i++) {
        int length = snprintf(line, sizeof line, "line %zu\n", i);
        assert_true((size_t)(at - text) + (size_t)length <= size);
        assert_memory_equal(at, line, (size_t)length);
        at += length;
    }
    assert_int_equal(at - text, size);
    free(text);
}

static void test_order(void **state)
{
    struct scene scene = scene_start(state);
    size_t count, done = 0;
    for (size_t i = 0; i < ROWS / 2; i++)
        add(&scene, i);
    usleep(50000);
    assert_int_equal(committer_poll(scene.committer, &count, NULL), 0);
    assert_int_equal(count, 0);
    assert_int_equal(cleaned.count, 0);
    check_log(&scene, 0);
    committer_open(scene.committer);
    for (size_t i = ROWS / 2; i < ROWS; i++)
        add(&scene, i);
    while (done < ROWS) {
        if (wait_for(&scene, &count) != 0 || count == 0) fail_msg("%zu rows of %d: %s", done, ROWS, "no more come");
        done += count;
    }
    assert_int_equal(done, ROWS);
    struct pollfd ready = {committer_fd(scene.committer), POLLIN, 0};
    assert_int_equal(poll(&ready, 1, 0), 0); /* nobody is woken for nothing */
    assert_int_equal(cleaned.count, ROWS);
    assert_false(cleaned.early);
    for (size_t i = 0; i < ROWS; i++) {
        assert_int_equal(cleaned.numbers[i], i);
        fixture_check_row(cleaned.store, i, i);
    }
    check_log(&scene, ROWS);
    scene_end(&scene);
}

/* What waits when it is stopped is committed, if anything may be. */
static void test_stop(void **state)
{
    for (int open = 0; open < 2; open++) {
        struct scene scene = scene_start(state);
        for (size_t i = 0; i < 10; i++)
            add(&scene, i);
        if (open) committer_open(scene.committer);
        committer_stop(scene.committer);
        scene.committer = NULL;
        for (size_t i = 0; i < 10; i++)
            assert_int_equal(store_read(cleaned.store, i, NULL, NULL, NULL, NULL), open);
        scene_end(&scene);
    }
}

static int failing_sync(int fd)
{
    (void)fd;
    errno = ENOSPC;
    return -1;
}

static void test_disk(void **state)
{
    struct scene scene = scene_start(state);
    size_t count;
    cleaned.store->calls.sync = failing_sync;
    committer_open(scene.committer);
    add(&scene, 0);
    assert_int_equal(wait_for(&scene, &count), -1);
    assert_non_null(strstr(scene.fixture->err.text, "No space left"));
    add(&scene, 1);
    assert_int_equal(committer_poll(scene.committer, &count, &scene.fixture->err), -1);
    scene_end(&scene);
    assert_int_equal(cleaned.count, 0);
    check_log(&scene, 0);
}

/* A log that is not on the disk is no reason to end a run, but it is known. */
static void test_disk_of_the_log(void **state)
{
    struct scene scene = scene_start(state);
    size_t count;
    committer_open(scene.committer);
    add(&scene, 0);
    assert_int_equal(wait_for(&scene, &count), 0);
    assert_false(committer_unlogged(scene.committer));
    log_file.failing = true;
    add(&scene, 1);
    assert_int_equal(wait_for(&scene, &count), 0);
    assert_int_equal(count, 1);
    assert_true(committer_unlogged(scene.committer));
    fixture_check_row(cleaned.store, 1, 1);
    check_log(&scene, 2);
    scene_end(&scene);
}

static void test_taken_over(void **state)
{
    struct scene scene = scene_start(state);
    size_t count;
    committer_open(scene.committer);
    fixture_generation(scene.fixture, 0, ROWS); /* another run's */
    add(&scene, 0);
    assert_int_equal(wait_for(&scene, &count), -1);
    assert_int_equal(count, 0);
    assert_non_null(strstr(scene.fixture->err.text, "taken this directory over"));
    scene_end(&scene);
    assert_int_equal(cleaned.count, 0);
    check_log(&scene, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_stop, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_disk, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_disk_of_the_log, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_taken_over, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
