/* Stores for the benches: points, and a row for each that follows from its number. */
#ifndef TUNELAW_BENCH_STORE_ROWS_H
#define TUNELAW_BENCH_STORE_ROWS_H

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/store/store_internal.h"

static inline double bench_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static inline int bench_no_sync(int fd)
{
    (void)fd;
    return 0;
}

static inline void bench_identity(char identity[DIGEST_HEX], size_t number)
{
    memcpy(identity, digest_of(&number, sizeof number).hex, DIGEST_HEX);
}

static inline struct store_row bench_row(size_t number)
{
    struct store_row row;
    memset(&row, 0, sizeof row);
    row.index = number;
    bench_identity(row.result.identity, number);
    memcpy(row.result.best_digest, row.result.identity, DIGEST_HEX);
    row.result.status = STORE_DONE;
    store_result_without_generations(&row.result);
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

static inline struct store *bench_store_make(const char *dir, size_t count, struct error *err)
{
    const struct store_header header = {.config_text = "name = \"bench\";\n",
                                        .config_path = "bench.cfg",
                                        .version = "0.1.0",
                                        .dataset_digest = "",
                                        .name = "bench"};
    struct store_point *points = calloc(count, sizeof *points);
    for (size_t i = 0; points && i < count; i++) {
        bench_identity(points[i].identity, i);
        bench_identity(points[i].base, i / 100);
        bench_identity(points[i].trunk, i / 1000);
        strcpy(points[i].task, "en-de");
        strcpy(points[i].model, "m");
        strcpy(points[i].method, i % 2 ? "lora" : "full");
        points[i].pet_size = i % 2 ? 4u << i / 2 % 4 : 0;
        points[i].parameters = 10000000u << i / 8 % 5;
        points[i].pretrain_tokens = 1000000000u << i / 40 % 3;
        points[i].finetune_examples = 1000u << i / 120 % 10;
        points[i].learning_rate = i / 1200 % 2 ? 1e-3 : 3e-4;
        points[i].seed = i / 2400;
    }
    int result = points ? store_generation(dir, &header, points, count, NULL, err) : error_set(err, "out of memory");
    free(points);
    return result == 0 ? store_open(dir, true, err) : NULL;
}

#endif
