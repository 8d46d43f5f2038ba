/* The reading commands on a small store: what they say is what is in it, and bad input gets one clear line. */
#include "tests/io/store_fixture.h"

#include <jansson.h>
#include <sys/stat.h>

#include "io/checkpoint/checkpoint.h"
#include "io/log.h"
#include "io/store/store_internal.h"
#include "tests/orchestrator/program.h"

enum { POINTS = 7, COMMITTED = 5, CRASHED = 5, PENDING = 6 }; /* rows 0..4 are committed, 4 of them as diverged */
static const char *const message = "signal 9, \"killed\"\nby hand";

static int setup(void **state)
{
    if (fixture_setup(state)) return -1;
    struct fixture *fixture = *state;
    fixture_generation(fixture, 0, POINTS);
    struct store *store = fixture_open(fixture, true);
    for (size_t i = 0; i < COMMITTED; i++)
        fixture_commit(store, i, i);
    struct store_state crashed = {.status = STORE_CRASHED, .attempts = 3, .updated = 1.75e9, .progress = 0.5};
    store_field(crashed.message, sizeof crashed.message, message);
    if (store_set_state(store, CRASHED, &crashed, &fixture->err)) return -1;
    store_close(store);
    return 0;
}

static json_t *run_json(struct fixture *fixture, const char *command, const char *more)
{
    json_error_t where;
    struct output output = program_run(fixture->dir, "%s %s %s", command, fixture->dir, more);
    if (output.code) fail_msg("%s: %s", command, output.errors);
    json_t *json = json_loads(output.out, 0, &where);
    if (!json) fail_msg("%s: %s in %s", command, where.text, output.out);
    program_free(&output);
    return json;
}

static long long integer(const json_t *object, const char *key)
{
    assert_true(json_is_integer(json_object_get(object, key)));
    return json_integer_value(json_object_get(object, key));
}

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) fail_msg("no \"%s\" in:\n%s", part, text);
}

static void test_status_counts(void **state)
{
    struct fixture *fixture = *state;
    json_t *status = run_json(fixture, "status --json", "");
    assert_int_equal(integer(status, "points"), POINTS);
    assert_int_equal(integer(status, "committed"), COMMITTED);
    const json_t *statuses = json_object_get(status, "statuses");
    assert_int_equal(integer(statuses, "done"), COMMITTED - 1);
    assert_int_equal(integer(statuses, "diverged"), 1);
    assert_int_equal(integer(statuses, "crashed"), 1);
    assert_int_equal(integer(statuses, "pending"), 1);
    const json_t *methods = json_object_get(status, "methods"); /* odd rows are lora */
    assert_int_equal(integer(json_object_get(methods, "full"), "done"), 2);
    assert_int_equal(integer(json_object_get(methods, "lora"), "crashed"), 1);
    const json_t *errors = json_object_get(status, "errors");
    assert_int_equal(json_array_size(errors), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(errors, 0), "message")), message);
    json_decref(status);

    struct output output =
        program_run(fixture->dir, "status %s", fixture->path); /* the file serves as well as the folder */
    assert_int_equal(output.code, 0);
    assert_contains(output.out, "5 of 7 points committed");
    assert_contains(output.out, "crashed after 3 attempts: signal 9");
    assert_contains(output.out, "nothing is running");
    program_free(&output);
}

static void write_live(struct fixture *fixture, double age, const char *host)
{
    char path[128], text[512];
    snprintf(path, sizeof path, "%s/status.json", fixture->dir);
    snprintf(text, sizeof text,
             "{\"updated\": %.3f, \"finished\": false, \"eta_seconds\": 130.0, \"running\": [{\"stage\": \"00aa\", "
             "\"kind\": \"finetune\", "
             "\"model\": \"m\", \"method\": \"lora\", \"pet_size\": 8, \"step\": 30, \"steps\": 120, \"loss\": 2.5, "
             "\"rank\": 1}], \"nodes\": [{\"rank\": 0, \"host\": \"%s\"}]}",
             clock_wall() - age, host);
    fixture_write_file(path, text, strlen(text));
}

static void test_status_live(void **state)
{
    struct fixture *fixture = *state;
    write_live(fixture, 1, "elsewhere");
    struct output output = program_run(fixture->dir, "status %s", fixture->dir);
    assert_contains(output.out, "running: 1 stage, ETA 2 min 10 s");
    assert_contains(output.out, "m lora 8: step 30 of 120, loss 2.5000");
    program_free(&output);
    write_live(fixture, 3600, "elsewhere"); /* its master is gone */
    output = program_run(fixture->dir, "status %s", fixture->dir);
    assert_contains(output.out, "nothing is running");
    program_free(&output);
    char path[128];
    snprintf(path, sizeof path, "%s/status.json", fixture->dir);
    fixture_write_file(path, "[{", 2);
    output = program_run(fixture->dir, "status %s", fixture->dir);
    assert_int_equal(output.code, 0);
    program_free(&output);
}

static void assert_statuses(struct fixture *fixture, int running, int interrupted)
{
    json_t *status = run_json(fixture, "status --json", "");
    const json_t *statuses = json_object_get(status, "statuses");
    assert_int_equal(json_integer_value(json_object_get(statuses, "running")), running);
    assert_int_equal(json_integer_value(json_object_get(statuses, "interrupted")), interrupted);
    json_decref(status);
    struct output output = program_run(fixture->dir, "show %s %d", fixture->dir, PENDING);
    assert_contains(output.out, running ? ": running" : ": interrupted");
    program_free(&output);
    output = program_run(fixture->dir, "status --left %s", fixture->dir);
    assert_string_equal(output.out, "1\n");
    program_free(&output);
}

/* What a run that was killed has left as running is not told as that. */
static void test_status_interrupted(void **state)
{
    struct fixture *fixture = *state;
    struct store_state running = {.status = STORE_RUNNING, .attempts = 1};
    char host[256] = "";
    int lock;
    struct store *store = fixture_open(fixture, true);
    assert_int_equal(store_set_state(store, PENDING, &running, &fixture->err), 0);
    store_close(store);
    assert_statuses(fixture, 0, 1);
    assert_int_equal(store_lock(fixture->dir, 0, &lock, &fixture->err), 0); /* a master that has not spoken yet */
    assert_statuses(fixture, 1, 0);
    close(lock);
    write_live(fixture, 1, "elsewhere"); /* its locks may not be seen here */
    assert_statuses(fixture, 1, 0);
    write_live(fixture, 3600, "elsewhere");
    assert_statuses(fixture, 0, 1);
    gethostname(host, sizeof host - 1);
    write_live(fixture, 1, host); /* it has just died */
    assert_statuses(fixture, 0, 1);
}

static void test_export_json(void **state)
{
    struct fixture *fixture = *state;
    json_t *rows = run_json(fixture, "export --format json", "");
    assert_int_equal(json_array_size(rows), POINTS);
    for (size_t i = 0; i < POINTS; i++) {
        const json_t *row = json_array_get(rows, i);
        struct store_point point = fixture_point(i);
        struct store_row expected = fixture_row(i, i);
        const json_t *loss = json_object_get(row, "test_loss");
        assert_int_equal(integer(row, "row"), i);
        assert_memory_equal(json_string_value(json_object_get(row, "identity")), point.identity, DIGEST_HEX);
        assert_int_equal(json_string_length(json_object_get(row, "model")), STORE_NAME);
        assert_true(json_real_value(json_object_get(row, "learning_rate")) == point.learning_rate);
        if (i < COMMITTED - 1) {
            assert_true(json_real_value(loss) == expected.result.test_loss);
            assert_int_equal(integer(row, "attempt"), expected.execution.attempt);
            assert_string_equal(json_string_value(json_object_get(row, "host")), expected.execution.host);
        } else {
            assert_true(json_is_null(loss)); /* diverged: not a number; or not committed */
        }
        assert_true(json_is_null(json_object_get(row, "host")) == (i >= COMMITTED));
    }
    json_decref(rows);
}

/* Python's csv module, a stranger, reads the same values from both formats. */
static void test_export_csv_equals_json(void **state)
{
    struct fixture *fixture = *state;
    static const char script[] =
        "import csv, json, math, sys\n"
        "rows = list(csv.DictReader(open(sys.argv[1], newline='')))\n"
        "objects = json.load(open(sys.argv[2]))\n"
        "assert len(rows) == len(objects) == 7, len(rows)\n"
        "for row, object in zip(rows, objects):\n"
        "    assert list(row) == list(object)\n"
        "    for name, value in object.items():\n"
        "        text = row[name]\n"
        "        if value is None: assert text == '' or not math.isfinite(float(text)), (name, text)\n"
        "        elif isinstance(value, str): assert text == value, (name, text, value)\n"
        "        else: assert type(value)(text) == value, (name, text, value)\n"
        "assert rows[5]['message'] == 'signal 9, \"killed\"\\nby hand'\n";
    char path[128], command[1024];
    snprintf(path, sizeof path, "%s/check.py", fixture->dir);
    fixture_write_file(path, script, sizeof script - 1);
    for (int json = 0; json < 2; json++) {
        const char *format = json ? "json" : "csv";
        struct output output = program_run(fixture->dir, "export %s --format %s --out %s/out.%s", fixture->dir, format,
                                           fixture->dir, format);
        assert_int_equal(output.code, 0);
        assert_string_equal(output.out, "");
        program_free(&output);
    }
    snprintf(command, sizeof command, "%s %s %s/out.csv %s/out.json", TEST_PYTHON, path, fixture->dir, fixture->dir);
    assert_int_equal(system(command), 0);
}

static void test_show(void **state)
{
    struct fixture *fixture = *state;
    char log[256], word[DIGEST_HEX + 1] = "";
    struct store_point point = fixture_point(3);
    snprintf(log, sizeof log, "mkdir -p %s/logs && touch %s/logs/%.32s.log", fixture->dir, fixture->dir,
             point.identity);
    assert_int_equal(system(log), 0);
    memcpy(word, point.identity, 12);
    for (int by_row = 0; by_row < 2; by_row++) {
        json_t *shown = run_json(fixture, "show --json", by_row ? "3" : word);
        assert_int_equal(integer(shown, "row"), 3);
        assert_string_equal(json_string_value(json_object_get(shown, "status")), "done");
        const json_t *curve = json_object_get(shown, "curve");
        assert_int_equal(json_array_size(curve), 3);
        assert_true(json_real_value(json_object_get(json_array_get(curve, 1), "tokens")) == 4.0);
        assert_contains(json_string_value(json_object_get(shown, "log")), "/logs/");
        assert_true(json_is_null(json_object_get(shown, "best_checkpoint")));
        json_decref(shown);
    }
    struct output output = program_run(fixture->dir, "show %s %d", fixture->dir, PENDING);
    assert_int_equal(output.code, 0);
    assert_contains(output.out, ": pending");
    program_free(&output);
}

static void test_damage_is_seen(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture_open(fixture, true);
    unsigned char byte;
    off_t place = (off_t)store_offset(store, STORE_RESULTS, 2) + 200;
    assert_int_equal(pread(store->fd, &byte, 1, place), 1);
    byte ^= 1;
    assert_int_equal(pwrite(store->fd, &byte, 1, place), 1);
    store_close(store);
    json_t *status = run_json(fixture, "status --json", "");
    assert_int_equal(integer(json_object_get(status, "statuses"), "damaged"), 1);
    assert_int_equal(integer(status, "committed"), COMMITTED - 1);
    json_decref(status);
    json_t *rows = run_json(fixture, "export --format json", "");
    assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 2), "status")), "damaged");
    assert_true(json_is_null(json_object_get(json_array_get(rows, 2), "test_loss")));
    json_decref(rows);
    struct output output = program_run(fixture->dir, "verify %s", fixture->dir);
    assert_int_equal(output.code, 1);
    assert_contains(output.out, "damaged: row 2");
    program_free(&output);
}

static void test_a_damaged_state_is_seen(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture_open(fixture, true);
    unsigned char byte;
    off_t place = (off_t)store_offset(store, STORE_STATE_ROWS, 1) + 8;
    assert_int_equal(pread(store->fd, &byte, 1, place), 1);
    byte ^= 1;
    assert_int_equal(pwrite(store->fd, &byte, 1, place), 1);
    store_close(store);
    struct output output = program_run(fixture->dir, "verify %s", fixture->dir);
    assert_int_equal(output.code, 1);
    assert_contains(output.out, "damaged: state of row 1");
    assert_contains(output.out, "rows: 5 of 7 committed, 0 damaged");
    program_free(&output);
}

/* Weights of row `index` as best checkpoint of its best step; the digest of what was written. */
static struct digest write_best(struct fixture *fixture, size_t index, float weight, char path[256])
{
    struct digest digest;
    struct checkpoint_header header = {.finished = 1};
    struct checkpoint_tile tile = {"value/w", 2, 3, 0, 2, 0, 3};
    float values[6] = {1, 2, 3, 4, 5, weight};
    struct store_point point = fixture_point(index);
    snprintf(path, 256, "mkdir -p %s/checkpoints", fixture->dir);
    assert_int_equal(system(path), 0);
    snprintf(path, 256, "%s/checkpoints/%.32s.best-%llu.h5", fixture->dir, point.identity,
             (unsigned long long)fixture_row(index, index).result.best_step);
    struct error *err = &fixture->err;
    struct checkpoint_writer *writer = checkpoint_writer_create(path, &header, NULL, 0, err);
    if (!writer || checkpoint_writer_declare(writer, tile.name, 2, 3, err) ||
        checkpoint_writer_put(writer, &tile, values, err) || checkpoint_writer_finish(writer, &digest, err))
        fail_msg("%s", err->text);
    return digest;
}

static void test_verify(void **state)
{
    struct fixture *fixture = *state;
    char path[256];
    struct output output = program_run(fixture->dir, "verify %s", fixture->dir);
    assert_int_equal(output.code, 0);
    assert_contains(output.out, "rows: 5 of 7 committed, 0 damaged");
    assert_contains(output.out, "0 files, 0 damaged; best weights of 0 committed points there, of 5 not kept");
    program_free(&output);

    struct digest digest = write_best(fixture, PENDING, 6, path);
    struct store_row row = fixture_row(PENDING, PENDING);
    memcpy(row.result.best_digest, digest.hex, DIGEST_HEX);
    struct store *store = fixture_open(fixture, true);
    assert_int_equal(store_commit(store, &row, 1, &fixture->err), 0);
    store_close(store);
    output = program_run(fixture->dir, "verify %s", fixture->dir);
    assert_int_equal(output.code, 0);
    assert_contains(output.out, "1 files, 0 damaged; best weights of 1 committed points there, of 5 not kept");
    program_free(&output);

    write_best(fixture, PENDING, 7, path); /* whole, but other weights */
    output = program_run(fixture->dir, "verify %s", fixture->dir);
    assert_int_equal(output.code, 1);
    assert_contains(output.out, "their digest differs");
    program_free(&output);

    write_best(fixture, PENDING, 6, path);
    size_t size;
    unsigned char *bytes = fixture_read_file(path, &size);
    float last = 6;
    unsigned char *place = memmem(bytes, size, &last, sizeof last);
    assert_non_null(place);
    *place ^= 1;
    fixture_write_file(path, bytes, size);
    free(bytes);
    output = program_run(fixture->dir, "verify %s", fixture->dir);
    assert_int_equal(output.code, 1);
    assert_contains(output.out, "damaged: ");
    assert_contains(output.out, "1 files, 1 damaged");
    program_free(&output);
}

static void test_bad_input(void **state)
{
    struct fixture *fixture = *state;
    char words[16][256];
    size_t count = 0;
    const char *dir = fixture->dir;
    struct output output = program_run(dir, "export %s --out %s/before", dir, dir);
    assert_int_equal(output.code, 0);
    program_free(&output);
#define CASE(...) snprintf(words[count++], sizeof words[0], __VA_ARGS__)
    CASE("status %s/absent", dir);
    CASE("status %s/before", dir); /* not a store */
    CASE("status /dev/null");
    CASE("status");
    CASE("status %s %s", dir, dir);
    CASE("status --yaml %s", dir);
    CASE("show %s 7", dir); /* one above the last row */
    CASE("show %s zzzz", dir);
    CASE("show %s", dir);
    CASE("show %s ''", dir);
    CASE("export %s --format xml --out %s/after", dir, dir);
    CASE("export %s/absent --out %s/after", dir, dir);
    CASE("export %s --out %s/absent/after", dir, dir);
    CASE("verify %s/absent", dir);
    CASE("verify %s/before", dir);
    CASE("exprot %s", dir);
    for (size_t i = 0; i < count; i++) {
        output = program_run(dir, "%s", words[i]);
        if (output.code != 1) fail_msg("%s: exit code %d", words[i], output.code);
        if (strncmp(output.errors, "tunelaw", 7)) fail_msg("%s: %s", words[i], output.errors);
        assert_string_equal(output.out, "");
        program_free(&output);
    }
    char path[128];
    snprintf(path, sizeof path, "%s/after", dir);
    assert_int_equal(access(path, F_OK), -1);
}

/* Options of plan that contradict each other are refused before the file is read. */
static void test_options_of_plan(void **state)
{
    struct fixture *fixture = *state;
    static const char *const cases[][2] = {
        {"--grace 5", "--grace goes with --simulate"},
        {"--wall 4h", "--wall goes with --simulate"},
        {"--simulate 2x2 --wall 30s", "--wall: allowed: more than the 60 s of --grace"},
        {"--simulate 2x2 --devices 3", "--simulate says how many devices: no --devices"},
        {"--laws runs/a", "--laws and --noise go with --identify"},
        {"--noise 1", "--laws and --noise go with --identify"},
        {"--identify --simulate 2x2", "allowed: one of --identify, --parameters, --simulate"},
        {"--identify --parameters", "allowed: one of --identify, --parameters, --simulate"},
        {"--parameters --points", "--parameters goes with neither --points nor --json"},
        {"--parameters --json", "--parameters goes with neither --points nor --json"},
        {"--array-task 1/2 --shard 1/2", "--array-task goes with neither --shard nor --dir"},
        {"--array-task 1/2 --dir runs/a", "--array-task goes with neither --shard nor --dir"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct output output = program_run(fixture->dir, "plan absent.cfg %s", cases[i][0]);
        char said[256];
        snprintf(said, sizeof said, "tunelaw plan: %s\n", cases[i][1]);
        if (output.code != 1 || strncmp(output.errors, said, strlen(said)))
            fail_msg("%s: exit code %d, %s", cases[i][0], output.code, output.errors);
        assert_string_equal(output.out, "");
        program_free(&output);
    }
}

/* What needs the directory of a run says so, and leaves nothing where there is none. */
static void test_directories(void **state)
{
    struct fixture *fixture = *state;
    static const char *const commands[] = {"evaluate", "top", "cancel"};
    const char *dir = fixture->dir;
    char expected[256], empty[128], path[160];
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct output output = program_run(dir, "%s %s/results.h5", commands[i], dir);
        snprintf(expected, sizeof expected, "tunelaw: %s/results.h5: Not a directory; wanted: the directory of a run\n",
                 dir);
        assert_int_equal(output.code, 1);
        assert_string_equal(output.errors, expected);
        program_free(&output);
        output = program_run(dir, "%s %s/absent", commands[i], dir);
        snprintf(expected, sizeof expected,
                 "tunelaw: %s/absent: No such file or directory; wanted: the directory of a run\n", dir);
        assert_string_equal(output.errors, expected);
        program_free(&output);
    }
    snprintf(empty, sizeof empty, "%s/empty", dir);
    assert_int_equal(mkdir(empty, 0777), 0);
    struct output output = program_run(dir, "evaluate %s", empty);
    assert_contains(output.errors, "empty/results.h5: No such file or directory");
    program_free(&output);
    assert_int_equal(rmdir(empty), 0);
    output = program_run(dir, "verify %s --reevaluate 0 --salvage %s/after", dir, dir);
    assert_int_equal(output.code, 1);
    assert_contains(output.errors, "give one");
    program_free(&output);
    snprintf(path, sizeof path, "%s/after", dir);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_program(void **state)
{
    struct fixture *fixture = *state;
    struct output output = program_run(fixture->dir, "statsu");
    assert_int_equal(output.code, 1);
    assert_string_equal(output.errors, "tunelaw: no command \"statsu\"; did you mean \"status\"?\n");
    program_free(&output);
    output = program_run(fixture->dir, "--version");
    assert_int_equal(output.code, 0);
    assert_int_equal(strncmp(output.out, "tunelaw 0.", 10), 0);
    assert_contains(output.out, "\nhdf5 1.");
    assert_contains(output.out, "\ncompiler ");
    program_free(&output);
    output = program_run(fixture->dir, "--help");
    assert_int_equal(output.code, 0);
    assert_contains(output.out, "  status ");
    assert_null(strstr(output.out, "worker"));
    program_free(&output);
}

int main(void)
{
#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_status_counts),
        TEST(test_status_live),
        TEST(test_status_interrupted),
        TEST(test_export_json),
        TEST(test_export_csv_equals_json),
        TEST(test_show),
        TEST(test_damage_is_seen),
        TEST(test_a_damaged_state_is_seen),
        TEST(test_verify),
        TEST(test_directories),
        TEST(test_bad_input),
        TEST(test_options_of_plan),
        TEST(test_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
