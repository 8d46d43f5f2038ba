/* Small stores with known rows, in a private directory. Every value of a row follows from its point's number. */
#ifndef TUNELAW_TESTS_IO_STORE_FIXTURE_H
#define TUNELAW_TESTS_IO_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/store/store.h"

struct fixture {
    char dir[64];
    char path[96]; /* DIR/results.h5 */
    struct error err;
};

static const struct store_header fixture_header = {.config_text = "# the sweep file\nmodels: ( );\n",
                                                   .config_path = "configs/small.cfg",
                                                   .version = "0.1.0+test",
                                                   .dataset_digest = "00112233445566778899aabbccddeeff",
                                                   .name = "small"};

static inline int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    strcpy(fixture->dir, "/tmp/tunelaw_store_XXXXXX");
    if (!mkdtemp(fixture->dir)) return -1;
    snprintf(fixture->path, sizeof fixture->path, "%s/results.h5", fixture->dir);
    *state = fixture;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture->dir);
    int result = system(command);
    free(fixture);
    return result;
}

static inline void fixture_identity(char identity[DIGEST_HEX], size_t number)
{
    struct digest digest = digest_of(&number, sizeof number);
    memcpy(identity, digest.hex, DIGEST_HEX);
}

static inline struct store_point fixture_point(size_t number)
{
    struct store_point point = {0};
    fixture_identity(point.identity, number);
    fixture_identity(point.base, number / 4 + 1000000);
    fixture_identity(point.trunk, number / 16 + 2000000);
    store_field(point.task, sizeof point.task, "en-de");
    store_field(point.model, sizeof point.model, "a-name-that-fills-all-of-its-48-bytes-to-the-end!!");
    store_field(point.method, sizeof point.method, number % 2 ? "lora" : "full");
    point.parameters = 1000 + number;
    point.seed = number;
    point.learning_rate = 1e-3 / (double)(number + 1);
    return point;
}

static inline struct store_point *fixture_points(size_t first, size_t count)
{
    struct store_point *points = calloc(count, sizeof *points);
    for (size_t i = 0; i < count; i++)
        points[i] = fixture_point(first + i);
    return points;
}

static inline struct store_row fixture_row(size_t index, size_t number)
{
    struct store_row row;
    memset(&row, 0x5a, sizeof row); /* what a caller leaves behind must not reach the file */
    row.index = index;
    fixture_identity(row.result.identity, number);
    row.result.status = number % 5 == 4 ? STORE_DIVERGED : STORE_DONE;
    row.result.evaluations = 3;
    row.result.steps = number * 10;
    row.result.best_step = number * 9;
    row.result.tokens = number * 1000;
    row.result.target_tokens = number * 500;
    row.result.flops = (double)number * 1e12;
    row.result.train_loss = 1.0 / (double)(number + 1);
    row.result.valid_loss = 2.0 / (double)(number + 1);
    row.result.test_loss = number % 5 == 4 ? -(double)NAN : 3.0 / (double)(number + 1);
    row.result.test_perplexity = exp(3.0 / (double)(number + 1));
    row.result.pretrain_loss = 4.0;
    row.result.gradient_norm = 0.5;
    row.result.test_tokens = 7;
    row.result.valid_tokens = 8;
    fixture_identity(row.result.best_digest, number + 3000000);
    row.result.bleu = 25.5 + (double)number;
    row.result.chrf = 50.25;
    row.result.rouge1 = number % 5 == 4 ? (double)NAN : 0.75;
    row.result.rouge2 = 0.5;
    row.result.rougeL = 0.625;
    row.result.length_penalty = 0.6;
    row.result.generated = number + 1;
    row.result.beams = 4;
    row.result.max_new_tokens = 64;
    fixture_identity(row.result.generations, number + 4000000);
    row.result.learning_rate = 1e-3 / (double)(number + 1);
    strcpy(row.execution.host, "node1");
    strcpy(row.execution.device, "cpu");
    strcpy(row.execution.execution_class, "cpu degree 1 threads 1");
    strcpy(row.execution.version, "0.1.0");
    row.execution.started = 1.5e9 + (double)number;
    row.execution.finished = row.execution.started + 2;
    row.execution.seconds = 2;
    row.execution.tokens_per_second = 500;
    row.execution.peak_bytes = 1 << 20;
    row.execution.predicted_bytes = 1 << 20;
    row.execution.rank = 1;
    row.execution.attempt = 2;
    row.curve.count = 3;
    for (size_t i = 0; i < row.curve.count; i++)
        row.curve.entries[i] = (struct store_curve_entry){(double)(i + 1), (double)(number + i), 1, 2, 3, 1e-3};
    return row;
}

/* The row of this point is committed and has every value that fixture_row gave it, those of its curve where that is
 * wanted. */
static inline void fixture_check_parts(const struct store *store, size_t index, size_t number, bool curve)
{
    struct store_row expected = fixture_row(index, number), found;
    struct error err = {""};
    int status = store_read(store, index, &found.result, &found.execution, &found.curve, &err);
    if (status != 1) fail_msg("row %zu: %d %s", index, status, err.text);
    assert_memory_equal(found.result.identity, expected.result.identity, DIGEST_HEX);
    assert_memory_equal(found.result.best_digest, expected.result.best_digest, DIGEST_HEX);
    assert_memory_equal(found.result.generations, expected.result.generations, DIGEST_HEX);
    assert_true(found.result.bleu == expected.result.bleu);
    assert_true(isnan(found.result.rouge1) == isnan(expected.result.rouge1));
    assert_int_equal(found.result.generated, expected.result.generated);
    assert_int_equal(found.result.max_new_tokens, 64);
    assert_true(found.result.learning_rate == expected.result.learning_rate);
    assert_int_equal(found.result.status, expected.result.status);
    assert_int_equal(found.result.steps, expected.result.steps);
    assert_int_equal(found.result.best_step, expected.result.best_step);
    assert_int_equal(found.result.target_tokens, expected.result.target_tokens);
    assert_true(found.result.valid_loss == expected.result.valid_loss);
    assert_true(isnan(expected.result.test_loss) ? isnan(found.result.test_loss)
                                                 : found.result.test_loss == expected.result.test_loss);
    assert_string_equal(found.execution.execution_class, expected.execution.execution_class);
    assert_true(found.execution.started == expected.execution.started);
    assert_int_equal(found.execution.attempt, 2);
    if (!curve) return;
    assert_int_equal(found.curve.count, 3);
    assert_memory_equal(found.curve.entries, expected.curve.entries, 3 * sizeof found.curve.entries[0]);
}
static inline void fixture_check_row(const struct store *store, size_t index, size_t number)
{
    fixture_check_parts(store, index, number, true);
}

static inline struct store_generation_report fixture_generation(struct fixture *fixture, size_t first, size_t count)
{
    struct store_generation_report report;
    struct store_point *points = fixture_points(first, count);
    if (store_generation(fixture->dir, &fixture_header, points, count, &report, &fixture->err) != 0)
        fail_msg("%s", fixture->err.text);
    free(points);
    return report;
}

static inline struct store *fixture_open(struct fixture *fixture, bool writable)
{
    struct store *store = store_open(fixture->dir, writable, &fixture->err);
    if (!store) fail_msg("%s", fixture->err.text);
    return store;
}

static inline void fixture_commit(struct store *store, size_t index, size_t number)
{
    struct error err = {""};
    struct store_row row = fixture_row(index, number);
    if (store_commit(store, &row, 1, &err) != 0) fail_msg("%s", err.text);
}

static inline void *fixture_read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    void *bytes = malloc(*size + 1);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static inline void fixture_write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

#endif
