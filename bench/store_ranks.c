/* Rows from the ranks of an MPI job to the committer, as in a run: every rank sends rows over the transport, rank 0
 * commits what has arrived under one pair of fdatasync and acknowledges it; a rank has at most WINDOW rows without an
 * acknowledgement. Prints the seconds for N rows.
 *   mpirun -n RANKS bench_store_ranks DIR N SYNC      SYNC 0: no fdatasync */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/store_rows.h"
#include "orchestrator/run/transport.h"

enum { TAG_ROW = 1, TAG_TAKEN, TAG_STOP, WINDOW = 64, GROUP = 256 };

struct work {
    struct transport transport;
    struct store *store; /* rank 0 */
    struct store_row *rows;
    int *senders; /* of the rows */
    size_t waiting, committed, count;
    size_t next, end, unacknowledged; /* rows of this rank */
    bool stopped;
};

static int send_rows(struct work *work, struct error *err)
{
    for (; work->next < work->end && work->unacknowledged < WINDOW; work->next++, work->unacknowledged++) {
        struct store_row row = bench_row(work->next);
        if (transport_send(&work->transport, 0, TAG_ROW, &row, sizeof row, err) != 0) return -1;
    }
    return 0;
}

static int receive(struct work *work, struct error *err)
{
    int rank, tag, got = 0;
    void *payload;
    size_t size;
    while (work->waiting < GROUP &&
           (got = transport_receive(&work->transport, &rank, &tag, &payload, &size, err)) > 0) {
        if (tag == TAG_ROW) {
            memcpy(&work->rows[work->waiting], payload, sizeof *work->rows);
            work->senders[work->waiting++] = rank;
        }
        work->unacknowledged -= tag == TAG_TAKEN;
        work->stopped = work->stopped || tag == TAG_STOP;
        free(payload);
    }
    return got < 0 ? -1 : 0;
}

static int commit(struct work *work, struct error *err)
{
    if (work->waiting == 0) return 0;
    if (store_commit(work->store, work->rows, work->waiting, err) != 0) return -1;
    for (size_t i = 0; i < work->waiting; i++)
        if (transport_send(&work->transport, work->senders[i], TAG_TAKEN, NULL, 0, err) != 0) return -1;
    work->committed += work->waiting;
    work->waiting = 0;
    for (int rank = 0; work->committed == work->count && rank < work->transport.size; rank++)
        if (transport_send(&work->transport, rank, TAG_STOP, NULL, 0, err) != 0) return -1;
    return 0;
}

static int run(struct work *work, const char *dir, bool sync, double *seconds, struct error *err)
{
    size_t rank = (size_t)work->transport.rank, ranks = (size_t)work->transport.size;
    char ready = 1;
    work->next = work->count * rank / ranks;
    work->end = work->count * (rank + 1) / ranks;
    work->rows = calloc(GROUP, sizeof *work->rows);
    work->senders = calloc(GROUP, sizeof *work->senders);
    if (!work->rows || !work->senders) return error_set(err, "out of memory");
    if (rank == 0 && !(work->store = bench_store_make(dir, work->count, err))) return -1;
    if (work->store && !sync) work->store->calls.sync = bench_no_sync;
    transport_broadcast(&work->transport, &ready, sizeof ready);
    double start = bench_now();
    while (!work->stopped)
        if (send_rows(work, err) != 0 || receive(work, err) != 0 || commit(work, err) != 0) return -1;
    *seconds = bench_now() - start;
    return 0;
}

int main(int argc, char **argv)
{
    struct error err = {""};
    struct work work = {0};
    double seconds = 0;
    int result = -1;
    if (argc != 4)
        error_set(&err, "DIR N SYNC");
    else if (transport_open(&work.transport, &argc, &argv, &err) == 0) {
        work.count = strtoull(argv[2], NULL, 10);
        result = run(&work, argv[1], atoi(argv[3]) != 0, &seconds, &err);
    }
    if (result != 0) {
        fprintf(stderr, "bench_store_ranks: %s\n", err.text);
        return 1;
    }
    if (work.transport.rank == 0) printf("%.6f\n", seconds);
    store_close(work.store);
    free(work.rows);
    free(work.senders);
    transport_close(&work.transport);
    return 0;
}
