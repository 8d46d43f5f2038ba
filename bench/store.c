/* The store's part of bench/store.py: makes stores, commits groups, scans and verifies, and prints seconds.
 *   bench_store make DIR N                  a store of N committed points, without syncs
 *   bench_store commit DIR N GROUP SYNC     N new points committed in groups; SYNC 0: no fdatasync
 *   bench_store scan DIR                    markers of all rows
 *   bench_store scalars DIR                 results of all rows, with their checksums
 *   bench_store verify DIR                  every checksum of every row */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/store_internal.h"

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int no_sync(int fd)
{
    (void)fd;
    return 0;
}

static int fail(const struct error *err)
{
    fprintf(stderr, "bench_store: %s\n", err->text);
    return 1;
}

static void identity_of(char identity[DIGEST_HEX], size_t number)
{
    memcpy(identity, digest_of(&number, sizeof number).hex, DIGEST_HEX);
}

static struct store_row row_of(size_t number)
{
    struct store_row row;
    memset(&row, 0, sizeof row);
    row.index = number;
    identity_of(row.result.identity, number);
    memcpy(row.result.best_digest, row.result.identity, DIGEST_HEX);
    row.result.status = STORE_DONE;
    row.result.evaluations = 8;
    row.result.steps = row.result.best_step = 500 + number;
    row.result.tokens = 123456 + number;
    row.result.target_tokens = 65432 + number;
    row.result.flops = 1.2345e15 * (double)(number + 1);
    row.result.train_loss = 2.0 + 1.0 / (double)(number + 3);
    row.result.valid_loss = 2.1 + 1.0 / (double)(number + 7);
    row.result.test_loss = 2.2 + 1.0 / (double)(number + 11);
    row.result.test_perplexity = 9.0 + 1.0 / (double)(number + 13);
    row.result.pretrain_loss = 3.0 + 1.0 / (double)(number + 17);
    row.result.gradient_norm = 1.0 / (double)(number + 19);
    row.result.test_tokens = row.result.valid_tokens = 40000;
    strcpy(row.execution.host, "node17");
    strcpy(row.execution.device, "cpu");
    strcpy(row.execution.execution_class, "cpu:tp1:t1:0123456789abcdef");
    strcpy(row.execution.version, "0.1.0+0123456789");
    row.execution.started = 1.7e9 + 0.123 * (double)number;
    row.execution.finished = row.execution.started + 17.3;
    row.execution.seconds = 17.3 + 1.0 / (double)(number + 1);
    row.execution.tokens_per_second = 123456.0 / row.execution.seconds;
    row.execution.peak_bytes = row.execution.predicted_bytes = 1 << 30;
    row.execution.attempt = 1;
    row.curve.count = 8;
    for (size_t i = 0; i < row.curve.count; i++)
        row.curve.entries[i] = (struct store_curve_entry){(double)i, 1e3, 2.5, 2.4, 0.5, 1e-3};
    return row;
}

static struct store *make(const char *dir, size_t count, struct error *err)
{
    const struct store_header header = {.config_text = "name = \"bench\";\n",
                                        .config_path = "bench.cfg",
                                        .version = "0.1.0",
                                        .dataset_digest = "",
                                        .name = "bench"};
    struct store_point *points = calloc(count, sizeof *points);
    for (size_t i = 0; points && i < count; i++) {
        identity_of(points[i].identity, i);
        identity_of(points[i].base, i / 100);
        identity_of(points[i].trunk, i / 1000);
        strcpy(points[i].task, "en-de");
        strcpy(points[i].model, "m");
        strcpy(points[i].method, i % 2 ? "lora" : "full");
        points[i].parameters = 12345678;
        points[i].finetune_examples = i;
        points[i].seed = i;
        points[i].learning_rate = 1e-3 / (double)(i + 1);
    }
    int result = points ? store_generation(dir, &header, points, count, NULL, err) : error_set(err, "out of memory");
    free(points);
    return result == 0 ? store_open(dir, true, err) : NULL;
}

/* Seconds to commit all rows of a new store; a state row before each group, as the master writes it. */
static int commit(const char *dir, size_t count, size_t group, bool sync, double *seconds, struct error *err)
{
    struct store *store = make(dir, count, err);
    struct store_row *rows = calloc(group, sizeof *rows);
    int result = store && rows ? 0 : -1;
    if (result == 0 && !sync) store->calls.sync = no_sync;
    double start = now();
    for (size_t first = 0; first < count && result == 0; first += group) {
        size_t size = count - first < group ? count - first : group;
        for (size_t i = 0; i < size; i++)
            rows[i] = row_of(first + i);
        result = store_commit(store, rows, size, err);
    }
    *seconds = now() - start;
    free(rows);
    store_close(store);
    return result;
}

static int read_rows(const char *dir, const char *what, double *seconds, struct error *err)
{
    double start = now();
    struct store *store = store_open(dir, false, err);
    if (!store) return -1;
    size_t count = store_count(store), found = 0;
    int result = 0;
    if (strcmp(what, "scan") == 0) { /* the opening apart: it reads every point */
        unsigned char *committed = malloc(count);
        start = now();
        result = committed ? store_committed(store, committed, err) : error_set(err, "out of memory");
        for (size_t i = 0; result == 0 && i < count; i++)
            found += committed[i];
        free(committed);
    } else {
        struct store_result row;
        struct store_slots slots;
        for (size_t i = 0; i < count && result >= 0; i++) {
            result = strcmp(what, "verify") == 0 ? store_read_slots(store, i, &slots, err)
                                                 : store_read(store, i, &row, NULL, NULL, err);
            found += result == 1;
        }
    }
    *seconds = now() - start;
    store_close(store);
    if (result >= 0 && found != count) return error_set(err, "%zu of %zu rows are committed", found, count);
    return result < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    struct error err = {""};
    double seconds = 0;
    int result = -1;
    const char *mode = argc > 2 ? argv[1] : "";
    if (strcmp(mode, "make") == 0 && argc == 4)
        result = commit(argv[2], strtoull(argv[3], NULL, 10), 1024, false, &seconds, &err);
    else if (strcmp(mode, "commit") == 0 && argc == 6)
        result = commit(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10), atoi(argv[5]) != 0, &seconds,
                        &err);
    else if (strcmp(mode, "scan") == 0 || strcmp(mode, "scalars") == 0 || strcmp(mode, "verify") == 0)
        result = read_rows(argv[2], mode, &seconds, &err);
    else
        error_set(&err, "make DIR N | commit DIR N GROUP SYNC | scan DIR | scalars DIR | verify DIR");
    if (result != 0) return fail(&err);
    printf("%.6f\n", seconds);
    return 0;
}
