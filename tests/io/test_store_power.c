/* Power losses: what a run writes is recorded, cut off at any call, and unsynced sectors are lost at random. What was
 * acknowledged is there, nothing is there twice, nothing is unreadable, and the run goes on to the same bytes. The
 * number of losses is the first argument or STORE_LOSSES. */
#include "store_fixture.h"

#include "disk.h"
#include "io/checkpoint/checkpoint.h"
#include "io/store/store_internal.h"

enum { FIRST = 20, EXTENDED = 27 };
static size_t losses = 100;
static unsigned seed = 1;

/* Notes of acknowledgements: a committed point, the epoch of a finished generation, a published checkpoint. */
enum { NOTE_POINT = 0, NOTE_EPOCH = 1000, NOTE_CHECKPOINT = 2000 };

static void record_generation(struct fixture *fixture, size_t count)
{
    disk_acknowledge(NOTE_EPOCH + (long)fixture_generation(fixture, 0, count).epoch);
}

/* Commit up to `most` of the rows that are left, in groups of one to four, with rewritten states between them. */
static void record_commits(struct fixture *fixture, size_t most)
{
    unsigned char committed[EXTENDED];
    struct store *store = fixture_open(fixture, true);
    assert_int_equal(store_committed(store, committed, NULL), 0);
    for (size_t i = 0; i < store_count(store) && most > 0;) {
        struct store_row rows[4];
        size_t count = 0;
        for (size_t group = i % 4 + 1; i < store_count(store) && count < group && most > 0; i++) {
            if (committed[i]) continue;
            struct store_state running = {.status = STORE_RUNNING, .attempts = (uint32_t)i, .progress = 0.5};
            assert_int_equal(store_set_state(store, i, &running, NULL), 0);
            rows[count++] = fixture_row(i, i);
            most--;
        }
        assert_int_equal(store_commit(store, rows, count, &fixture->err), 0);
        for (size_t j = 0; j < count; j++)
            disk_acknowledge(NOTE_POINT + (long)rows[j].index);
    }
    store_close(store);
}

/* Three starts of a sweep: 20 points, interrupted; 27 points; the rest. */
static void record_run(struct fixture *fixture)
{
    disk_start(fixture->dir);
    record_generation(fixture, FIRST);
    record_commits(fixture, 11);
    record_generation(fixture, EXTENDED);
    record_commits(fixture, 9);
    record_generation(fixture, EXTENDED);
    record_commits(fixture, EXTENDED);
    disk_stop();
}

/* The bytes of /results, markers included. */
static unsigned char *result_bytes(struct fixture *fixture)
{
    struct store *store = fixture_open(fixture, false);
    size_t size = store_count(store) * STORE_SLOT;
    unsigned char *bytes = malloc(size);
    assert_int_equal(pread(store->fd, bytes, size, (off_t)store->offsets[STORE_RESULTS]), (ssize_t)size);
    assert_int_equal(store_count(store), EXTENDED);
    store_close(store);
    return bytes;
}

static void image_place(const struct fixture *fixture, struct fixture *image)
{
    assert_true((size_t)snprintf(image->dir, sizeof image->dir, "%.50s/image", fixture->dir) < sizeof image->dir);
    snprintf(image->path, sizeof image->path, "%s/results.h5", image->dir);
}

static void folder_empty(const char *folder)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s' && mkdir '%s'", folder, folder);
    assert_int_equal(system(command), 0);
}

struct counts {
    size_t lost, duplicated, unreadable, opened, torn_states, acknowledged;
};

/* Everything acknowledged before event `count` holds in the image. */
static void check_image(struct fixture *image, size_t count, struct counts *counts)
{
    unsigned char acknowledged[EXTENDED] = {0};
    uint64_t epoch = 0;
    for (size_t i = 0; i < count; i++) {
        if (disk.events[i].kind != DISK_ACKNOWLEDGE) continue;
        if (disk.events[i].note >= NOTE_EPOCH)
            epoch = (uint64_t)(disk.events[i].note - NOTE_EPOCH);
        else
            acknowledged[disk.events[i].note] = 1;
    }
    struct store *store = access(image->path, F_OK) == 0 ? store_open(image->path, false, &image->err) : NULL;
    if (!store) {
        counts->unreadable += access(image->path, F_OK) == 0;
        for (size_t i = 0; i < EXTENDED; i++)
            counts->lost += acknowledged[i];
        assert_true(epoch == 0);
        return;
    }
    assert_true(store_epoch(store) >= epoch);
    counts->opened++;
    for (size_t i = 0; i < store_count(store); i++) {
        struct store_state state;
        struct store_row row;
        int found = store_read(store, i, &row.result, &row.execution, &row.curve, &image->err);
        if (found == 1 && store_check_curve(store, i, &image->err) != 0) found = -1;
        counts->unreadable += found < 0;
        counts->lost += found != 1 && acknowledged[i];
        counts->acknowledged += acknowledged[i];
        counts->duplicated += store_find_exact(store, store_point(store, i)->identity) != (long)i;
        counts->torn_states += store_read_state(store, i, &state, NULL) != 0;
        if (found == 1) fixture_check_row(store, i, i);
    }
    store_close(store);
}

/* The next start of the sweep finishes it. */
static void finish(struct fixture *image, const unsigned char *expected)
{
    struct store_generation_report report = fixture_generation(image, 0, EXTENDED);
    assert_int_equal(report.damaged, 0);
    assert_int_equal(report.removed, 0);
    record_commits(image, EXTENDED);
    unsigned char *bytes = result_bytes(image);
    assert_memory_equal(bytes, expected, EXTENDED * STORE_SLOT);
    free(bytes);
}

static void test_store(void **state)
{
    struct fixture *fixture = *state, image = {0};
    struct counts counts = {0};
    record_run(fixture);
    unsigned char *expected = result_bytes(fixture);
    size_t events = disk.count, stride = events / losses;
    image_place(fixture, &image);
    for (size_t loss = 0; loss < losses; loss++) { /* spread over the run, each somewhere in its part */
        size_t first = loss * events / losses;
        size_t instant = first + (size_t)rand_r(&seed) % (stride + 1);
        folder_empty(image.dir);
        disk_replay(instant < events ? instant : events, seed + loss, image.dir);
        check_image(&image, instant < events ? instant : events, &counts);
        finish(&image, expected);
        disk.count = events; /* forget what finish has acknowledged */
    }
    print_message("%zu power losses in %zu calls: %zu stores opened with %zu acknowledged rows in all; %zu lost, %zu "
                  "duplicated, %zu unreadable (%zu rows of /state torn)\n",
                  losses, events, counts.opened, counts.acknowledged, counts.lost, counts.duplicated, counts.unreadable,
                  counts.torn_states);
    assert_int_equal(counts.lost + counts.duplicated + counts.unreadable, 0);
    assert_true(counts.opened > losses / 2 && counts.acknowledged > 0);
    free(expected);
}

/* The replay does lose: without the syncs, or with the marker before its payload is down, rows would be lost or torn.
 */
static void test_replay_loses(void **state)
{
    struct fixture *fixture = *state, image = {0};
    struct counts counts = {0};
    record_run(fixture);
    image_place(fixture, &image);
    int store_file = -1;
    for (size_t i = 0; i < disk.count; i++) { /* the first generation's fdatasyncs never happened */
        if (disk.events[i].kind == DISK_RENAME && store_file < 0)
            store_file = disk.events[i].file;
        else if (disk.events[i].kind == DISK_SYNC && disk.events[i].file == store_file)
            disk.events[i].kind = DISK_ACKNOWLEDGE, disk.events[i].note = NOTE_EPOCH;
        else if (disk.events[i].kind == DISK_ACKNOWLEDGE && disk.events[i].note == NOTE_EPOCH + 2)
            disk.count = i;
    }
    size_t last = disk.count;
    while (disk.events[last - 1].kind != DISK_CREATE)
        last--;
    for (uint64_t loss = 0; loss < 20; loss++) {
        folder_empty(image.dir);
        disk_replay(last - 1, loss, image.dir);
        check_image(&image, last - 1, &counts);
    }
    assert_true(counts.lost > 20);
    assert_true(counts.unreadable > 0);
}

static void checkpoint_publish(const char *path, uint64_t step)
{
    static float values[600];
    struct error err;
    struct checkpoint_header header = {.step = step};
    struct checkpoint_writer *writer = checkpoint_writer_create(path, &header, NULL, 0, &err);
    struct checkpoint_tile tile = {"value/w", 20, 30, 0, 20, 0, 30};
    for (size_t i = 0; i < 600; i++)
        values[i] = (float)(step * 1000 + i);
    assert_int_equal(checkpoint_writer_declare(writer, "value/w", 20, 30, &err), 0);
    assert_int_equal(checkpoint_writer_put(writer, &tile, values, &err), 0);
    if (checkpoint_writer_finish(writer, NULL, &err) != 0) fail_msg("%s", err.text);
}

static void test_checkpoints(void **state)
{
    enum { STATES = 6 };
    struct fixture *fixture = *state;
    char path[128], image[96], copy[160];
    size_t opened = 0;
    snprintf(path, sizeof path, "%s/state.h5", fixture->dir);
    snprintf(image, sizeof image, "%s/image", fixture->dir);
    snprintf(copy, sizeof copy, "%s/state.h5", image);
    disk_start(fixture->dir);
    for (uint64_t step = 1; step <= STATES; step++) {
        checkpoint_publish(path, step);
        disk_acknowledge(NOTE_CHECKPOINT + (long)step);
    }
    disk_stop();
    for (size_t loss = 0; loss < losses; loss++) {
        size_t instant = (size_t)rand_r(&seed) % (disk.count + 1);
        uint64_t least = 0;
        for (size_t i = 0; i < instant; i++)
            if (disk.events[i].kind == DISK_ACKNOWLEDGE) least = (uint64_t)(disk.events[i].note - NOTE_CHECKPOINT);
        folder_empty(image);
        disk_replay(instant, seed + loss, image);
        if (access(copy, F_OK) != 0) {
            assert_true(least == 0);
            continue;
        }
        float values[600];
        struct checkpoint *checkpoint = checkpoint_open(copy, &fixture->err);
        if (!checkpoint) fail_msg("loss %zu at %zu: %s", loss, instant, fixture->err.text);
        uint64_t step = checkpoint_header(checkpoint)->step;
        struct checkpoint_tile tile = {"value/w", 20, 30, 0, 20, 0, 30};
        assert_true(step >= least);
        assert_int_equal(checkpoint_get(checkpoint, &tile, values, NULL), 0);
        assert_true(values[599] == (float)(step * 1000 + 599));
        checkpoint_close(checkpoint);
        opened++;
    }
    print_message("%zu power losses in %zu calls: %zu checkpoints opened, none lost or torn\n", losses, disk.count,
                  opened);
    assert_true(opened > losses / 2);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
    const char *count = argc > 1 ? argv[1] : getenv("STORE_LOSSES");
    if (count) losses = (size_t)strtoul(count, NULL, 10);
    disk.no_sync = true;
    const struct CMUnitTest tests[] = {TEST(test_store), TEST(test_replay_loses), TEST(test_checkpoints)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
