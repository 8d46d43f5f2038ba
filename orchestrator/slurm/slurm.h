/* Slurm: the batch scripts of a sweep, and what Slurm says of the jobs of a run directory.
 *
 * A run directory's slurm/ holds the scripts (what was submitted, and what a chained job submits again), jobs (their
 * ids, one a line, the newest last), cancelled (nothing is to be queued again), left and idle (the last start, for the
 * limit on starts without progress); of an array also array (orchestrator/slurm/array.h). The parts of the scripts that
 * are the same for every sweep are orchestrator/slurm/slurm_job.sh and slurm_merge.sh. */
#ifndef TUNELAW_ORCHESTRATOR_SLURM_SLURM_H
#define TUNELAW_ORCHESTRATOR_SLURM_SLURM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "io/error.h"

enum slurm_kind {
    SLURM_SWEEP,  /* job.sh: the whole sweep */
    SLURM_TRUNKS, /* trunks.sh: the pretraining that several tasks of an array need */
    SLURM_TASKS,  /* array.sh: the tasks */
    SLURM_MERGE,  /* merge.sh: joins their stores and fits */
    SLURM_KINDS
};
const char *slurm_script_name(enum slurm_kind kind);

/* What is asked of Slurm. Texts are borrowed; NULL: not asked for. */
struct slurm_job {
    enum slurm_kind kind;
    uint32_t tasks;                    /* of the array */
    const char *task_list;             /* of an array, those that are run: "1-3,7" */
    const char *name;                  /* of the sweep */
    const char *program, *sweep, *dir; /* absolute */
    const char *folder;                /* absolute: where the job runs */
    size_t points;                     /* of trunks: stages */
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
enum { SLURM_ID = 32, SLURM_JOBS = 1024 };
int slurm_jobs_read(const char *dir, char ids[][SLURM_ID], size_t limit, size_t *count, struct error *err);
int slurm_jobs_add(const char *dir, const char *id, struct error *err);

/* What the queue says of a job, or of one task of an array. */
struct slurm_state {
    char id[SLURM_ID];           /* of the array */
    uint32_t task;               /* from 1; 0: no array */
    char state[32];              /* PENDING, RUNNING, COMPLETED, ... */
    char reason[64];             /* of waiting */
    char elapsed[32], limit[32]; /* as Slurm writes times */
    char nodes[256];
};
/* Of all these jobs, in one question, each task of an array for itself; those that are no longer in the queue are left
 * out. *states is malloc'ed. -1 with *err where Slurm cannot be asked. */
int slurm_states_ask(const char ids[][SLURM_ID], size_t count, struct slurm_state **states, size_t *found,
                     struct error *err);
/* Of every job of a run directory. */
int slurm_states_of(const char *dir, struct slurm_state **states, size_t *found, struct error *err);
bool slurm_state_active(const struct slurm_state *state); /* waiting or running */
enum { SLURM_TASK = SLURM_ID + 12 };
void slurm_task_name(const struct slurm_state *state, char out[SLURM_TASK]); /* "4711", "4711_3" */
/* "RUNNING for 0:10 of 10:00 on n1", "PENDING (Priority)", "COMPLETED". */
void slurm_state_print(const struct slurm_state *state, FILE *out);
json_t *slurm_state_json(const struct slurm_state *state);

#endif
