/* The orchestrator without training: `tunelaw run`, with workers that end every stage at once, or after a wait.
 *
 *     mpirun -n 4 bench_dispatch run FILE --dir DIR
 *
 * Everything else is the program's own: MPI, agents, launcher, sockets, commits. DISPATCH_WAIT_US: how long a stage
 * takes. DISPATCH_GAPS: a folder, where each worker leaves the times from the end of a stage to the arrival of the next
 * one, in microseconds. bench/dispatch.py drives it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/store_rows.h"
#include "orchestrator/commands/command.h"
#include "workers/stage/worker.h"

enum { GAPS = 1 << 20 };

struct gaps {
    float *list;
    size_t count;
};

static void gap_add(struct gaps *gaps, double seconds)
{
    if (gaps->list && gaps->count < GAPS) gaps->list[gaps->count++] = (float)(1e6 * seconds);
}

static void gaps_write(const struct gaps *gaps, const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%d", folder, (int)getpid());
    FILE *file = fopen(path, "w");
    if (!file) return;
    for (size_t i = 0; i < gaps->count; i++)
        fprintf(file, "%.1f\n", gaps->list[i]);
    fclose(file);
}

/* A result that could be one. */
static void finish(const struct stage *stage, struct stage_outcome *outcome)
{
    memset(outcome, 0, sizeof *outcome);
    outcome->identity = stage->identity;
    outcome->status = STORE_DONE;
    outcome->end_step = stage->last_step;
    outcome->seconds = 1e-6;
    memcpy(outcome->row.result.identity, stage->identity.hex, DIGEST_HEX);
    outcome->row.result.status = STORE_DONE;
    outcome->row.result.test_loss = outcome->row.result.valid_loss = 1.0;
}

static int work(int fd)
{
    const char *wait = getenv("DISPATCH_WAIT_US"), *folder = getenv("DISPATCH_GAPS");
    struct gaps gaps = {.list = folder ? malloc(GAPS * sizeof *gaps.list) : NULL};
    struct stage *stage = malloc(sizeof *stage);
    struct stage_outcome *outcome = malloc(sizeof *outcome);
    double ended = 0;
    int result = !stage || !outcome;
    while (!result) {
        struct error err;
        uint32_t type;
        void *payload;
        size_t size;
        if (frame_receive(fd, &type, &payload, &size, &err) <= 0 || type == FRAME_EXIT) break;
        if (type == FRAME_STAGE) {
            if (ended > 0) gap_add(&gaps, bench_now() - ended);
            result = stage_decode(payload, size, stage, &err) != 0;
            if (wait) usleep((useconds_t)atoi(wait));
            finish(stage, outcome);
            ended = bench_now();
            result = result || frame_send(fd, FRAME_OUTCOME, outcome, sizeof *outcome, &err) != 0;
        }
        free(payload);
    }
    if (gaps.list) gaps_write(&gaps, folder);
    free(gaps.list);
    free(stage);
    free(outcome);
    return result;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "worker")) return work(atoi(argv[2]));
    if (argc == 3 && !strcmp(argv[1], "measure")) return worker_main(atoi(argv[2]));
    if (argc > 2 && !strcmp(argv[1], "run")) return command_run(argc - 1, argv + 1);
    fprintf(stderr, "usage: bench_dispatch run FILE --dir DIR; see bench/dispatch.py\n");
    return 1;
}
