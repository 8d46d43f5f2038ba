/* Submitting a sweep: from what the plan needs and what the person says to jobs in the queue. command_submit.c reads
 * the words, submit.c makes one job, submit_array.c an array with what belongs to it. */
#ifndef TUNELAW_ORCHESTRATOR_SLURM_SUBMIT_H
#define TUNELAW_ORCHESTRATOR_SLURM_SUBMIT_H

#include "orchestrator/plan/plan.h"
#include "orchestrator/slurm/slurm.h"

#define SUBMIT_NODES 32 /* of a job by default: with Open MPI 4.1 the loss of a node ends its job */

struct submit_options {
    const char *partition, *account, *qos, *mail;
    size_t nodes, gpus;
    uint32_t tasks;                /* of an array; 1: one job; 0: not said */
    double seconds, grace, gflops; /* 0: from the plan, the plan, measured */
    bool dry_run, yes, srun;
    char *const *extra;
    size_t extra_count;
};

/* Everything that is decided before something is written; texts are borrowed. */
struct submit {
    const struct submit_options *options;
    const struct sweep *sweep;
    const struct plan *plan;
    const char *dir;      /* absolute; need not exist yet */
    size_t devices;       /* of a node */
    struct slurm_job job; /* what is the same for every job of the sweep */
};

/* Nodes, time, memory that `plan` needs, where the person has not said them. */
void submit_fit(const struct submit *submit, const struct plan *plan, struct slurm_job *job);
/* Nodes of one job without a limit on their number. */
size_t submit_nodes_wished(const struct submit *submit, const struct plan *plan);
int submit_check(const struct slurm_job *job, struct error *err);

/* "2 nodes, time limit 01:00:00, 300 MiB a node". */
void submit_print_request(const struct slurm_job *job, FILE *out);
/* Points, stages, FLOPs: the first line of what a person is asked about. */
void submit_print_sweep(const struct submit *submit, FILE *out);
/* -1 with *err where the answer is not yes. A dry run, --yes and no terminal do not ask. */
int submit_agreed(const struct submit *submit, struct error *err);

/* No job of the directory waits or runs: a second one would wait for the first one's lock. */
int submit_queue_check(const char *dir, struct error *err);
/* What earlier jobs have left: a new one may start again, counts its starts anew, and tries every stage. */
int submit_forget(const char *dir, struct error *err);
/* The directory is made, then submit_forget. */
int submit_prepare(const char *dir, struct error *err);

/* What was there before a submit. */
struct submit_before {
    size_t there;     /* so much of the directory's path */
    unsigned folders; /* of the directory, a bit each */
    bool lock;        /* results.lock */
};
struct submit_before submit_look(const char *dir);
/* What a submit forgets or replaces gets a second name until Slurm has said yes or no. On failure nothing has one. */
int submit_keep(const char *dir, struct error *err);
/* Slurm has taken the job: the second names go. */
void submit_settle(const char *dir);
/* Slurm has taken nothing: the files are those of submit_keep again. */
void submit_put_back(const char *dir);
/* The same, and the folders that submit_prepare has made go, as far as nothing else lies in them. */
void submit_take_back(const char *dir, const struct submit_before *before);

/* The script is written to DIR/slurm and submitted; dependency: as sbatch takes it, or NULL. id: of the job, also in
 * DIR/slurm/jobs; after an error "?" where Slurm may have taken it all the same, else left alone. */
int submit_script(const struct slurm_job *job, const char *dependency, char id[SLURM_ID], struct error *err);

/* One job; an array of `tasks` with its trunks and its merge. */
int submit_one(struct submit *submit, struct error *err);
int submit_array(struct submit *submit, uint32_t tasks, struct error *err);

/* How many tasks: as said, as DIR was submitted before, or so many that none needs more than SUBMIT_NODES nodes. 1: one
 * job. */
int submit_tasks(const struct submit *submit, uint32_t *tasks, struct error *err);

#endif
