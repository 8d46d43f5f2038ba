/* Slurm: the batch script of a sweep, and what Slurm says of the jobs of a run directory.
 *
 * A run directory's slurm/ holds job.sh (what was submitted, and what a chained job submits again), jobs (their ids,
 * one a line, the newest last), cancelled (nothing is to be queued again), left and idle (the last start, for the limit
 * on starts without progress). The part of the script that is the same for every sweep is orchestrator/slurm_job.sh. */
#ifndef TUNELAW_ORCHESTRATOR_SLURM_H
#define TUNELAW_ORCHESTRATOR_SLURM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "io/error.h"

/* What is asked of Slurm. Texts are borrowed; NULL: not asked for. */
struct slurm_job {
    const char *name;                  /* of the sweep */
    const char *program, *sweep, *dir; /* absolute */
    const char *folder;                /* absolute: where the job runs */
    size_t points;
    size_t nodes;
    size_t cpus;       /* of a node; 0: whole nodes */
    size_t gpus;       /* of a node */
    size_t memory_mib; /* of a node; 0: all of it */
    double seconds;    /* time limit */
    double grace;      /* before its end the run begins to drain */
    bool srun;         /* start the ranks with srun and PMIx, not with mpirun */
    const char *partition, *account, *qos, *mail;
    char *const *extra; /* more sbatch options, a word each */
    size_t extra_count;
};

/* The whole script, readable, ready for sbatch. -1: the stream failed. */
int slurm_script_write(const struct slurm_job *job, FILE *out);

/* A time limit as Slurm writes it: "minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours",
 * "days-hours:minutes", "days-hours:minutes:seconds". */
int slurm_time_parse(const char *word, double *seconds, struct error *err);
void slurm_time_format(double seconds, char out[32]);

/* Words that go into the script: a name (of a partition, an account, a mail address), one more option of sbatch, a
 * path. option: how the person wrote it. */
int slurm_name_check(const char *option, const char *word, struct error *err);
int slurm_extra_check(const char *word, struct error *err);
int slurm_path_check(const char *path, struct error *err);

/* Run one of Slurm's programs; out: its output and errors, cut at `size`. Its exit code, or -1 with *err where it
 * cannot be started. argv[0] is looked for in PATH. */
int slurm_call(char *const argv[], char *out, size_t size, struct error *err);

/* Job ids of a run directory, the newest last; at most `limit` of the newest. -1: the list cannot be read. */
enum { SLURM_ID = 32, SLURM_JOBS = 16 };
int slurm_jobs_read(const char *dir, char ids[][SLURM_ID], size_t limit, size_t *count, struct error *err);
int slurm_jobs_add(const char *dir, const char *id, struct error *err);

/* What the queue says of a job; state "": it is not in the queue any more. */
struct slurm_state {
    char id[SLURM_ID];
    char state[32];              /* PENDING, RUNNING, COMPLETED, ... */
    char reason[64];             /* of waiting */
    char elapsed[32], limit[32]; /* as Slurm writes times */
    char nodes[256];
};
/* -1 with *err where Slurm cannot be asked. */
int slurm_state_ask(const char *id, struct slurm_state *state, struct error *err);
bool slurm_state_active(const struct slurm_state *state); /* waiting or running */

#endif
