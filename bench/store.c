/* The store's part of bench/store.py: makes stores, commits groups, scans and verifies, and prints seconds.
 *   bench_store make DIR N COMMITTED        a store of N points, the first COMMITTED with results, without syncs
 *   bench_store commit DIR N GROUP SYNC     N new points committed in groups; SYNC 0: no fdatasync
 *   bench_store scan DIR                    markers of all rows
 *   bench_store scalars DIR                 results of all rows, with their checksums
 *   bench_store verify DIR                  every checksum of every row
 *   bench_store observations DIR            what a fit reads
 *   bench_store write DIR SECONDS           states are rewritten and further rows committed as fast as it goes */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/store_rows.h"
#include "fitting/observations/observations.h"

static int fail(const struct error *err)
{
    fprintf(stderr, "bench_store: %s\n", err->text);
    return 1;
}

/* Seconds to commit `committed` of all rows of a new store. */
static int commit(const char *dir, size_t count, size_t committed, size_t group, bool sync, double *seconds,
                  struct error *err)
{
    struct store *store = bench_store_make(dir, count, err);
    struct store_row *rows = calloc(group, sizeof *rows);
    int result = store && rows ? 0 : -1;
    if (result == 0 && !sync) store->calls.sync = bench_no_sync;
    double start = bench_now();
    for (size_t first = 0; first < committed && result == 0; first += group) {
        size_t size = committed - first < group ? committed - first : group;
        for (size_t i = 0; i < size; i++)
            rows[i] = bench_row(first + i);
        result = store_commit(store, rows, size, err);
    }
    *seconds = bench_now() - start;
    free(rows);
    store_close(store);
    return result;
}

/* As a master at work, without its pauses: the store changes as much as it can while somebody reads. */
static int write_rows(const char *dir, double seconds, struct error *err)
{
    double end = bench_now() + seconds;
    struct store *store = store_open(dir, true, err);
    if (!store) return -1;
    size_t count = store_count(store), next = 0;
    unsigned char *committed = malloc(count);
    int result = committed ? store_committed(store, committed, err) : error_set(err, "out of memory");
    for (size_t i = 0; result == 0 && bench_now() < end; i++) {
        struct store_state state = {STORE_RUNNING, 1, (double)i, 0.5, ""};
        result = store_set_state(store, i % count, &state, err);
        while (next < count && committed[next])
            next++;
        if (i % 16 || next == count || result != 0) continue;
        struct store_row row = bench_row(next++);
        result = store_commit(store, &row, 1, err);
    }
    free(committed);
    store_close(store);
    return result;
}

static int observe(const char *dir, double *seconds, struct error *err)
{
    struct observations observations;
    double start = bench_now();
    if (observations_from_store(dir, NULL, &observations, err) != 0) return -1;
    *seconds = bench_now() - start;
    observations_destroy(&observations);
    return 0;
}

static int read_rows(const char *dir, const char *what, double *seconds, struct error *err)
{
    double start = bench_now();
    struct store *store = store_open(dir, false, err);
    if (!store) return -1;
    size_t count = store_count(store), found = 0;
    int result = 0;
    if (strcmp(what, "scan") == 0) { /* the opening apart: it reads every point */
        unsigned char *committed = malloc(count);
        start = bench_now();
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
    *seconds = bench_now() - start;
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
    size_t count = argc > 3 ? strtoull(argv[3], NULL, 10) : 0, other = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
    if (strcmp(mode, "make") == 0 && argc == 5)
        result = commit(argv[2], count, other, 1024, false, &seconds, &err);
    else if (strcmp(mode, "commit") == 0 && argc == 6)
        result = commit(argv[2], count, count, other, atoi(argv[5]) != 0, &seconds, &err);
    else if (strcmp(mode, "write") == 0 && argc == 4)
        result = write_rows(argv[2], atof(argv[3]), &err);
    else if (strcmp(mode, "observations") == 0)
        result = observe(argv[2], &seconds, &err);
    else if (strcmp(mode, "scan") == 0 || strcmp(mode, "scalars") == 0 || strcmp(mode, "verify") == 0)
        result = read_rows(argv[2], mode, &seconds, &err);
    else
        error_set(&err, "make DIR N COMMITTED | commit DIR N GROUP SYNC | scan DIR | scalars DIR | verify DIR | "
                        "observations DIR | write DIR SECONDS");
    if (result != 0) return fail(&err);
    printf("%.6f\n", seconds);
    return 0;
}
