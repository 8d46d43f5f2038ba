/* Checkpoints: what one degree wrote another one reads, equal tensors have equal digests, and a damaged file is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "forge.h"
#include "io/checkpoint/checkpoint_internal.h"

struct fixture {
    char dir[64], path[96];
    struct error err;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    strcpy(fixture->dir, "/tmp/tunelaw_checkpoint_XXXXXX");
    if (!mkdtemp(fixture->dir)) return -1;
    snprintf(fixture->path, sizeof fixture->path, "%s/state.h5", fixture->dir);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture->dir);
    int result = system(command);
    free(fixture);
    return result;
}

static size_t files_in(const char *dir)
{
    size_t count = 0;
    DIR *open = opendir(dir);
    for (struct dirent *entry; (entry = readdir(open));)
        count += entry->d_name[0] != '.';
    closedir(open);
    return count;
}

static const struct tensor {
    const char *name;
    size_t rows, columns;
} tensors[] = {{"value/wq", 6, 8}, {"moment1/wq", 6, 8}, {"value/norm", 1, 5}, {"value/embedding", 33, 7}};
enum { TENSORS = sizeof tensors / sizeof tensors[0] };

static float value_of(size_t tensor, size_t row, size_t column)
{
    return (float)tensor * 1000.0f + (float)row * 10.0f + (float)column / 16.0f;
}

static struct checkpoint_header header_of(uint64_t step)
{
    struct checkpoint_header header = {
        .step = step, .tokens = 10 * step, .best_loss = (double)INFINITY, .seconds = 1.5};
    strcpy(header.stage, "0123456789abcdef0123456789abcdef");
    strcpy(header.execution_class, "cpu");
    header.finished = 1;
    return header;
}

/* A rectangle of one tensor, as the rank that holds it would put it. */
static void put_tile(struct checkpoint_writer *writer, size_t t, size_t row, size_t row_end, size_t column,
                     size_t column_end)
{
    struct error err = {""};
    struct checkpoint_tile tile = {tensors[t].name, tensors[t].rows, tensors[t].columns, row,
                                   row_end - row,   column,          column_end - column};
    float *data = malloc((row_end - row) * (column_end - column) * sizeof *data);
    for (size_t i = row, at = 0; i < row_end; i++)
        for (size_t j = column; j < column_end; j++)
            data[at++] = value_of(t, i, j);
    if (checkpoint_writer_put(writer, &tile, data, &err) != 0) fail_msg("%s", err.text);
    free(data);
}

static struct checkpoint_writer *writer_begin(struct fixture *fixture, bool reversed)
{
    static const struct store_curve_entry curve[2] = {{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 11, 12}};
    struct checkpoint_header header = header_of(40);
    struct checkpoint_writer *writer = checkpoint_writer_create(fixture->path, &header, curve, 2, &fixture->err);
    assert_non_null(writer);
    for (size_t i = 0; i < TENSORS; i++) {
        const struct tensor *tensor = &tensors[reversed ? TENSORS - 1 - i : i];
        assert_int_equal(checkpoint_writer_declare(writer, tensor->name, tensor->rows, tensor->columns, &fixture->err),
                         0);
    }
    return writer;
}

static struct digest write_whole(struct fixture *fixture)
{
    struct digest digest;
    struct checkpoint_writer *writer = writer_begin(fixture, false);
    for (size_t t = 0; t < TENSORS; t++)
        put_tile(writer, t, 0, tensors[t].rows, 0, tensors[t].columns);
    if (checkpoint_writer_finish(writer, &digest, &fixture->err) != 0) fail_msg("%s", fixture->err.text);
    return digest;
}

static void check_tensors(const struct checkpoint *checkpoint)
{
    struct error err = {""};
    for (size_t t = 0; t < TENSORS; t++) {
        size_t rows = tensors[t].rows, columns = tensors[t].columns, half = columns / 2;
        struct checkpoint_tile tile = {tensors[t].name, rows, columns, rows / 3, rows - rows / 3, half, columns - half};
        float data[512];
        assert_true(checkpoint_has(checkpoint, tensors[t].name));
        if (checkpoint_get(checkpoint, &tile, data, &err) != 0) fail_msg("%s", err.text);
        for (size_t i = rows / 3, at = 0; i < rows; i++)
            for (size_t j = half; j < columns; j++)
                assert_true(data[at++] == value_of(t, i, j));
    }
}

static void test_round_trip(void **state)
{
    struct fixture *fixture = *state;
    struct digest digest = write_whole(fixture);
    struct checkpoint_header peeked, expected = header_of(40);
    assert_int_equal(checkpoint_peek(fixture->path, &peeked, &fixture->err), 1);
    assert_int_equal(peeked.step, 40);
    struct checkpoint *checkpoint = checkpoint_open(fixture->path, &fixture->err);
    if (!checkpoint) fail_msg("%s", fixture->err.text);
    const struct checkpoint_header *header = checkpoint_header(checkpoint);
    assert_string_equal(header->stage, expected.stage);
    assert_string_equal(header->parent, "");
    assert_string_equal(header->execution_class, "cpu");
    assert_int_equal(header->tokens, 400);
    assert_true(isinf(header->best_loss));
    assert_int_equal(header->finished, 1);
    assert_string_equal(checkpoint_digest(checkpoint).hex, digest.hex);
    const struct store_curve_entry *curve;
    assert_int_equal(checkpoint_curve(checkpoint, &curve), 2);
    assert_true(curve[1].step == 7 && curve[1].learning_rate == 12);
    check_tensors(checkpoint);
    assert_false(checkpoint_has(checkpoint, "value/none"));
    checkpoint_close(checkpoint);
    assert_int_equal(files_in(fixture->dir), 1);
}

/* Tiles of two ranks, by rows or by columns, in any order: the file of one rank. */
static void test_digest_does_not_depend_on_the_degree(void **state)
{
    struct fixture *fixture = *state;
    struct digest whole = write_whole(fixture), split;
    struct checkpoint_writer *writer = writer_begin(fixture, true);
    for (size_t rank = 2; rank-- > 0;) {
        put_tile(writer, 0, 0, 6, rank ? 5 : 0, rank ? 8 : 5);
        put_tile(writer, 1, rank ? 3 : 0, rank ? 6 : 3, 0, 8);
        put_tile(writer, 3, rank ? 20 : 0, rank ? 33 : 20, 0, 7);
    }
    put_tile(writer, 2, 0, 1, 0, 5);
    assert_int_equal(checkpoint_writer_finish(writer, &split, &fixture->err), 0);
    assert_string_equal(whole.hex, split.hex);
    struct checkpoint *checkpoint = checkpoint_open(fixture->path, &fixture->err);
    assert_non_null(checkpoint);
    check_tensors(checkpoint);
    checkpoint_close(checkpoint);
}

/* One other value, name or shape: another digest. */
static void test_digest_sees_every_part(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *name;
        size_t rows, columns;
        float value;
    } variants[] = {{"a", 2, 3, 1}, {"b", 2, 3, 1}, {"a", 3, 2, 1}, {"a", 2, 3, 2}};
    struct digest digests[4];
    struct checkpoint_header header = header_of(1);
    for (size_t i = 0; i < 4; i++) {
        float data[6] = {variants[i].value};
        struct checkpoint_tile tile = {
            variants[i].name, variants[i].rows, variants[i].columns, 0, variants[i].rows, 0, variants[i].columns};
        struct checkpoint_writer *writer = checkpoint_writer_create(fixture->path, &header, NULL, 0, &fixture->err);
        assert_int_equal(checkpoint_writer_declare(writer, tile.name, tile.rows, tile.columns, &fixture->err), 0);
        assert_int_equal(checkpoint_writer_put(writer, &tile, data, &fixture->err), 0);
        if (checkpoint_writer_finish(writer, &digests[i], &fixture->err) != 0) fail_msg("%s", fixture->err.text);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(digests[i].hex, digests[j].hex);
    }
}

static void test_writer_refuses(void **state)
{
    struct fixture *fixture = *state;
    struct error *err = &fixture->err;
    struct digest before = write_whole(fixture);
    struct checkpoint_writer *writer = writer_begin(fixture, false);
    char longest[200];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    float data[64] = {0};
    assert_int_equal(checkpoint_writer_declare(writer, "value/wq", 1, 1, err), -1);
    assert_int_equal(checkpoint_writer_declare(writer, longest, 1, 1, err), -1);
    assert_int_equal(checkpoint_writer_declare(writer, "", 1, 1, err), -1);
    assert_int_equal(checkpoint_writer_declare(writer, "empty", 0, 1, err), -1);
    assert_int_equal(checkpoint_writer_declare(writer, "huge", (size_t)1 << 40, (size_t)1 << 40, err), -1);
    struct checkpoint_tile outside = {"value/wq", 6, 8, 5, 2, 0, 8}, wrapping = {"value/wq", 6, 8, SIZE_MAX, 2, 0, 8};
    struct checkpoint_tile unknown = {"value/wk", 6, 8, 0, 6, 0, 8}, other_shape = {"value/wq", 8, 6, 0, 6, 0, 6};
    assert_int_equal(checkpoint_writer_put(writer, &outside, data, err), -1);
    assert_int_equal(checkpoint_writer_put(writer, &wrapping, data, err), -1);
    assert_int_equal(checkpoint_writer_put(writer, &unknown, data, err), -1);
    assert_int_equal(checkpoint_writer_put(writer, &other_shape, data, err), -1);
    assert_int_equal(checkpoint_writer_declare(writer, "late", 1, 1, err), -1);
    put_tile(writer, 0, 0, 6, 0, 8);
    put_tile(writer, 1, 0, 6, 0, 7);
    put_tile(writer, 2, 0, 1, 0, 5);
    put_tile(writer, 3, 0, 33, 0, 7);
    assert_int_equal(checkpoint_writer_finish(writer, NULL, err), -1);
    assert_non_null(strstr(err->text, "moment1/wq got 42 of its 48 values"));
    /* an unfinished writer leaves nothing, and what was there stays */
    writer = writer_begin(fixture, false);
    put_tile(writer, 0, 0, 6, 0, 8);
    checkpoint_writer_destroy(writer);
    checkpoint_writer_destroy(NULL);
    assert_int_equal(files_in(fixture->dir), 1);
    struct checkpoint *checkpoint = checkpoint_open(fixture->path, err);
    assert_string_equal(checkpoint_digest(checkpoint).hex, before.hex);
    checkpoint_close(checkpoint);
}

/* A writer killed in the middle leaves a file beside the state; the next run removes it and nothing else. */
static void test_killed_writer(void **state)
{
    struct fixture *fixture = *state;
    size_t removed;
    int status;
    struct digest before = write_whole(fixture);
    pid_t child = fork();
    if (child == 0) {
        put_tile(writer_begin(fixture, false), 0, 0, 6, 0, 8);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(files_in(fixture->dir), 2);
    assert_int_equal(checkpoint_remove_unfinished(fixture->dir, &removed, &fixture->err), 0);
    assert_int_equal(removed, 1);
    assert_int_equal(files_in(fixture->dir), 1);
    assert_int_equal(checkpoint_remove_unfinished("/nonexistent", &removed, &fixture->err), 0);
    assert_int_equal(removed, 0);
    struct checkpoint *checkpoint = checkpoint_open(fixture->path, &fixture->err);
    assert_string_equal(checkpoint_digest(checkpoint).hex, before.hex);
    checkpoint_close(checkpoint);
}

static void test_no_tensors(void **state)
{
    struct fixture *fixture = *state;
    struct checkpoint_header header = header_of(3);
    struct checkpoint_writer *writer = checkpoint_writer_create(fixture->path, &header, NULL, 0, &fixture->err);
    if (checkpoint_writer_finish(writer, NULL, &fixture->err) != 0) fail_msg("%s", fixture->err.text);
    struct checkpoint *checkpoint = checkpoint_open(fixture->path, &fixture->err);
    if (!checkpoint) fail_msg("%s", fixture->err.text);
    const struct store_curve_entry *curve;
    assert_int_equal(checkpoint_curve(checkpoint, &curve), 0);
    assert_false(checkpoint_has(checkpoint, "value/wq"));
    checkpoint_close(checkpoint);
}

static void test_peek(void **state)
{
    struct fixture *fixture = *state;
    struct checkpoint_header header;
    assert_int_equal(checkpoint_peek(fixture->path, &header, &fixture->err), 0);
    FILE *file = fopen(fixture->path, "w");
    fputs("not a checkpoint", file);
    fclose(file);
    assert_int_equal(checkpoint_peek(fixture->path, &header, &fixture->err), -1);
    assert_non_null(strstr(fixture->err.text, "not a tunelaw checkpoint"));
    assert_int_equal(errno, EBADMSG);
    assert_int_equal(checkpoint_peek(fixture->dir, &header, &fixture->err), -1);
    assert_int_equal(errno, EBADMSG);
    assert_null(checkpoint_open("/nonexistent/state.h5", &fixture->err));
    assert_int_equal(errno, ENOENT);
}

/* A file that cannot be looked at is not said to be damaged. */
static void test_no_descriptors(void **state)
{
    struct fixture *fixture = *state;
    struct checkpoint_header header;
    struct rlimit before, none;
    write_whole(fixture);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct checkpoint *checkpoint = checkpoint_open(fixture->path, &fixture->err);
    int reason = errno, found = checkpoint_peek(fixture->path, &header, NULL), peeked = errno;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_null(checkpoint);
    assert_int_equal(reason, EMFILE);
    assert_int_equal(found, -1);
    assert_int_equal(peeked, EMFILE);
}

static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static void write_file(const char *path, const unsigned char *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

/* Cut anywhere, or with any byte changed, a file is refused or reads as it was written; it never crashes the reader. */
static void test_damage(void **state)
{
    struct fixture *fixture = *state;
    size_t size, refused = 0;
    write_whole(fixture);
    unsigned char *bytes = read_file(fixture->path, &size);
    for (size_t cut = 0; cut < size; cut += cut < 256 ? 16 : 211) {
        write_file(fixture->path, bytes, cut);
        fixture->err.text[0] = '\0';
        assert_null(checkpoint_open(fixture->path, &fixture->err));
        assert_int_equal(errno, EBADMSG);
        assert_true(fixture->err.text[0]);
    }
    for (size_t at = 0; at < size; at += 7) {
        bytes[at] ^= (unsigned char)(1u << at % 8);
        write_file(fixture->path, bytes, size);
        struct checkpoint *checkpoint = checkpoint_open(fixture->path, &fixture->err);
        if (checkpoint)
            check_tensors(checkpoint);
        else
            refused += errno == EBADMSG;
        checkpoint_close(checkpoint);
        bytes[at] ^= (unsigned char)(1u << at % 8);
    }
    /* all but the gaps between tensors is under a checksum */
    assert_true(refused > (size - 256) / 7);
    free(bytes);
}

/* An index under a right seal whose tensors do not fit the file. */
static void test_forged_index(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        size_t member;
        uint64_t value;
    } forgeries[] = {{offsetof(struct checkpoint_tensor, rows), 0},
                     {offsetof(struct checkpoint_tensor, rows), (uint64_t)1 << 60},
                     {offsetof(struct checkpoint_tensor, columns), UINT64_MAX},
                     {offsetof(struct checkpoint_tensor, columns), (uint64_t)1 << 61},
                     {offsetof(struct checkpoint_tensor, offset), UINT64_MAX},
                     {offsetof(struct checkpoint_tensor, offset), 400},
                     {0, 0x7a7a7a7a7a7a7a7a}}; /* "zzzzzzzz": no longer sorted */
    size_t size;
    write_whole(fixture);
    unsigned char *bytes = read_file(fixture->path, &size);
    unsigned char *row = memmem(bytes, size, "moment1/wq", sizeof "moment1/wq");
    assert_non_null(row);
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        unsigned char kept[sizeof(struct checkpoint_tensor)];
        memcpy(kept, row, sizeof kept);
        memcpy(row + forgeries[i].member, &forgeries[i].value, sizeof forgeries[i].value);
        forge(bytes, size);
        write_file(fixture->path, bytes, size);
        memcpy(row, kept, sizeof kept);
        assert_null(checkpoint_open(fixture->path, &fixture->err));
        assert_non_null(strstr(fixture->err.text, "is not a tensor of this file"));
    }
    forge(bytes, size);
    write_file(fixture->path, bytes, size);
    struct checkpoint *checkpoint = checkpoint_open(fixture->path, &fixture->err);
    assert_non_null(checkpoint);
    checkpoint_close(checkpoint);
    free(bytes);
}

/* A block or HDF5 metadata made to harm, under right checksums: refused, or it reads as it was written. Files like
 * these made the HDF5 library read out of bounds. */
static void test_forged_bytes(void **state)
{
    struct fixture *fixture = *state;
    size_t size, opened = 0;
    unsigned seed = 9;
    write_whole(fixture);
    unsigned char *bytes = read_file(fixture->path, &size), *mutant = malloc(size);
    struct frozen_block block;
    memcpy(&block, bytes, sizeof block);
    size_t rows = (size_t)forge_next(&block, 0)->offset;
    for (int round = 0; round < 2000; round++) {
        memcpy(mutant, bytes, size);
        for (int flips = round % 3 + 1; flips > 0; flips--)
            mutant[(size_t)rand_r(&seed) % (round % 2 ? rows : 600)] ^= (unsigned char)(1u << rand_r(&seed) % 8);
        forge(mutant, size);
        write_file(fixture->path, mutant, size);
        struct checkpoint *checkpoint = checkpoint_open(fixture->path, &fixture->err);
        if (checkpoint) check_tensors(checkpoint);
        opened += checkpoint != NULL;
        checkpoint_close(checkpoint);
    }
    assert_true(opened > 200 && opened < 1800);
    struct frozen_block older = block;
    older.version = 1;
    forge_block(bytes, size, &older);
    write_file(fixture->path, bytes, size);
    assert_null(checkpoint_open(fixture->path, &fixture->err));
    assert_non_null(strstr(fixture->err.text, "tunelaw checkpoint of version 1; this program reads version 2"));
    free(mutant);
    free(bytes);
}

/* As many small files as a sweep writes must cost little but their syncs; the bound is ten times what a slow machine
 * needs. */
static void test_small_files_are_cheap(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 60, ROWS = 64, COLUMNS = 68, ROUNDS = 10 };
    static float data[ROWS * COLUMNS];
    double cpu = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct checkpoint_header header = header_of(1);
        clock_t start = clock();
        struct checkpoint_writer *writer = checkpoint_writer_create(fixture->path, &header, NULL, 0, &fixture->err);
        char name[32];
        for (int i = 0; i < COUNT; i++) {
            snprintf(name, sizeof name, "value/%d", i);
            assert_int_equal(checkpoint_writer_declare(writer, name, ROWS, COLUMNS, NULL), 0);
        }
        for (int i = 0; i < COUNT; i++) {
            snprintf(name, sizeof name, "value/%d", i);
            struct checkpoint_tile tile = {name, ROWS, COLUMNS, 0, ROWS, 0, COLUMNS};
            assert_int_equal(checkpoint_writer_put(writer, &tile, data, NULL), 0);
        }
        assert_int_equal(checkpoint_writer_finish(writer, NULL, NULL), 0);
        struct checkpoint *checkpoint = checkpoint_open(fixture->path, &fixture->err);
        assert_non_null(checkpoint);
        checkpoint_close(checkpoint);
        cpu += (double)(clock() - start) / CLOCKS_PER_SEC;
    }
    print_message("1 MB in 60 tensors: %.2f ms of processor time to write and open\n", cpu / ROUNDS * 1e3);
    assert_true(cpu / ROUNDS < 0.1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_digest_does_not_depend_on_the_degree),
        TEST(test_digest_sees_every_part),
        TEST(test_writer_refuses),
        TEST(test_killed_writer),
        TEST(test_no_tensors),
        TEST(test_peek),
        TEST(test_no_descriptors),
        TEST(test_damage),
        TEST(test_forged_index),
        TEST(test_forged_bytes),
        TEST(test_small_files_are_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
