/* Inside the master: shared by master.c (its beginning, steps and end), master_stages.c (the life of a stage),
 * master_messages.c (what agents say), master_commit.c (rows), master_requests.c (stopping and pausing),
 * master_assign.c (who gets what), master_status.c (what a person sees), and files of one task each. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_MASTER_INTERNAL_H
#define TUNELAW_ORCHESTRATOR_RUN_MASTER_INTERNAL_H

#include "io/checkpoint/checkpoint.h"
#include "orchestrator/plan/calibration.h"
#include "orchestrator/plan/schedule.h"
#include "orchestrator/run/committer.h"
#include "orchestrator/run/data_check.h"
#include "orchestrator/run/losses.h"
#include "orchestrator/run/master.h"
#include "orchestrator/run/protocol.h"
#include "orchestrator/run/request.h"

enum progress_state {
    STAGE_UNNEEDED, /* every point below it is committed */
    STAGE_WAITING,  /* for its parent */
    STAGE_READY,
    STAGE_RUNNING,
    STAGE_COMMITTING, /* its result has arrived */
    STAGE_COMPLETE,
    STAGE_CUT,
    STAGE_FAILED,
    STAGE_SKIPPED
};

struct master_stage {
    unsigned char state; /* enum progress_state */
    uint32_t attempts;   /* in this run */
    uint32_t node;       /* while running */
    uint32_t running;    /* index in master->running while running */
};

/* Devices that a worker has for its stages. */
struct master_seat {
    struct schedule_seat at;
    uint32_t left; /* stages of its pack that have not ended; the last one frees it */
};

struct running {
    uint32_t stage;
    uint32_t node;
    uint32_t packed; /* stages that its worker began with */
    struct master_seat *seat;
    int32_t pid;
    double started;
    double state_written; /* when its /state row was last rewritten */
    struct stage_progress progress;
    double first_progressed, progressed; /* when the first and the newest progress came; 0: none has */
    double first_fraction;               /* of its steps, when the first came: a resumed stage does not begin at 0 */
};

/* When all will be done, on clock_elapsed(); negative: unknown yet. */
struct master_forecast {
    double end, next; /* next: when it is worked out again */
};

/* A result that the committer has. */
struct arrival {
    uint32_t stage;
    enum store_status status;
};

/* A plan's reference while its candidates run. */
struct master_reference {
    double rate;   /* the best one's; 0: not known yet */
    bool hopeless; /* no candidate has a result that is one */
};

struct master_node {
    char host[STORE_NAME];
    bool present; /* has said hello, or never will */
    bool lost;    /* its rank has died */
};

enum { FAILURES_KEPT = 8 };

/* An attempt that failed, for status.json. */
struct failure {
    uint32_t stage, attempt;
    enum store_status status;
    double when; /* seconds since 1970 */
    char message[STORE_MESSAGE];
};

/* Points that may be trained together, side by side: of one base, model, task, degree. */
struct master_packs {
    uint32_t *order;  /* [count] stages, group by group, the longest of a group first */
    uint32_t *place;  /* [stages] in `order`; PLAN_NONE: never packed */
    uint32_t *widths; /* [models][methods] points a pack at most */
    size_t count;
};

struct master {
    const struct sweep *sweep;
    const struct plan *plan;
    struct transport *transport;
    struct master_options options;
    struct store *store;
    uint64_t generation;           /* store_stamp of it */
    struct data_check *data_check; /* NULL: nothing is left to run */
    int lock_fd, log_fd;           /* log_fd: logs/stages.jsonl */
    bool log_noted;                /* lines of it may not be on the disk yet */
    struct master_stage *stages;
    uint32_t *child_first, *children; /* children of stage s: children[child_first[s] .. child_first[s+1]-1] */
    unsigned char *committed;         /* [rows of the store] */
    uint32_t *attempts;               /* [rows of the store] by store_attempts, and since */
    struct losses *losses;
    struct master_reference *references; /* [of the plan] */
    size_t references_open;              /* neither known nor hopeless */
    bool candidate_ended;                /* since they were looked at */
    struct schedule schedule;
    struct schedule_node *nodes; /* [ranks] */
    struct master_node *node_info;
    size_t nodes_present;
    struct running *running;
    size_t running_count, running_capacity;
    struct committer *committer;
    bool committing;             /* the data set is known to be right */
    struct stage *clean_scratch; /* the committer's thread's */
    struct arrival *arrivals;    /* [first_arrival .. arrival_count) the committer has, in this order */
    size_t first_arrival, arrival_count, arrival_capacity;
    struct failure failures[FAILURES_KEPT]; /* a ring: number `failure_count` % FAILURES_KEPT is the next */
    size_t failure_count;
    bool draining, paused;
    bool nothing_fits; /* since the schedule was asked last, no device and no stage has become free */
    struct master_summary summary;
    double started, status_written, line_written, store_checked, requests_checked;
    struct calibration calibration; /* of the stages that completed in this run */
    struct master_forecast forecast;
    struct stage *scratch; /* a description at a time */
    struct master_packs packs;
    size_t ready; /* stages that are STAGE_READY */
};

/* Choose the order of the schedule for the nodes that are present and what is left to do. */
int master_choose_order(struct master *master, struct error *err);

/* The description of a stage that a worker gets; valid until the next call. */
struct stage *master_describe(struct master *master, uint32_t index);

/* master_stages.c. At the start: the children of each stage; what is left to do, ready where its parent is complete. */
int master_list_children(struct master *master, struct error *err);
int master_find_work(struct master *master, struct error *err);
/* What a stage needs is there: its parent's state, its learning rate. */
bool master_parent_complete(const struct master *master, uint32_t index);
int master_make_ready(struct master *master, uint32_t index, struct error *err);
/* A stage has its end state, or its row is committed: what waited for it is ready. */
int master_complete(struct master *master, uint32_t index, struct error *err);
/* An attempt has failed: another one, or the stage is given up. */
int master_fail(struct master *master, uint32_t index, const struct stage_outcome *outcome, struct error *err);
/* Rewrite a point's /state row. message: NULL leaves the last one. */
int master_set_state(struct master *master, uint32_t point, enum store_status status, double progress, bool new_attempt,
                     const char *message, struct error *err);
/* Everything that waits below a stage that has been given up. */
int master_skip_below(struct master *master, uint32_t index, struct error *err);

/* master_log.c. A line of the log of executed stages, as text for the committer, or written at once: of an attempt
 * without a result, of a trunk. */
#define MASTER_LINE 2048 /* names are shorter */
void master_line(struct master *master, uint32_t index, const struct stage_outcome *outcome, uint32_t node,
                 char line[MASTER_LINE]);
void master_log(struct master *master, uint32_t index, const struct stage_outcome *outcome, uint32_t node);
/* The lines are on the disk, those of rows apart, which the committer syncs. */
void master_log_sync(struct master *master);
/* Open it. What an earlier run has finished, dying before it said so, has its line now. */
int master_log_open(struct master *master, struct error *err);

/* master_references.c. At the start: the rates that are known, by logs/rates of an earlier run or by the results. Then,
 * whenever candidates have ended: those that all candidates are known of, and what waited for them. */
int master_open_references(struct master *master, struct error *err);
int master_resolve_references(struct master *master, struct error *err);
/* Whether a stage's learning rate is known, as most are in the plan. */
bool master_rate_known(const struct master *master, uint32_t index);

/* master_commit.c. A result goes to the committer, which begins once the data set is known to be the one that was
 * planned with; what has been committed is complete. */
int master_commit_start(struct master *master, struct error *err);
int master_queue(struct master *master, uint32_t index, uint32_t node, const struct stage_outcome *outcome,
                 struct error *err);
int master_take_committed(struct master *master, struct error *err);
/* Into the summary: what earlier runs have committed. */
int master_count_committed(struct master *master, struct error *err);
/* An error where another run has taken the directory over; looks at most once a second. */
int master_check_store(struct master *master, struct error *err);

/* master_requests.c. Drain or pause where a file asks for it; drain when the job's time is up. */
int master_watch_requests(struct master *master, struct error *err);
int master_watch_time(struct master *master, struct error *err);
/* Seconds, as the plan counts them, until a drain must begin. */
double master_seconds_left(const struct master *master);

/* master_pack.c. At the start: who may be packed, and how many. */
int master_packs_open(struct master *master, struct error *err);
void master_packs_free(struct master_packs *packs);
/* Ready stages that go to a worker with `lead`: fills members[0..], lead first, at most PACK_LIMIT; returns how many.
 * The lead's seat grows by their shares. */
size_t master_packs_gather(const struct master *master, uint32_t lead, double seconds_left, struct schedule_seat *seat,
                           uint32_t *members);

/* master_assign.c: give what is ready to free devices, unless it drains. seconds_left: as the plan counts them, until a
 * drain must begin. */
int master_assign(struct master *master, double seconds_left, struct error *err);
/* Before anything is ready: stages that were in flight when too many runs in a row have died are given up, until a
 * person asks for another try. */
int master_give_up_lost(struct master *master, struct error *err);

/* Whether a pretraining stage's end state is on disk. A damaged file is as none: the stage runs again; one that cannot
 * be looked at may be good: -1. Where there is none at all, that of options.bases is taken, as a link: files of states
 * never change once they have their name. */
int master_state_finished(struct master *master, uint32_t index, bool *finished, struct error *err);

/* Whether it is in this directory, and what it says of itself; nothing is taken from elsewhere. */
bool master_state_present(struct master *master, uint32_t index, struct checkpoint_header *header);

/* Whether the file is there that asks for a drain. */
bool master_drain_file(const struct master *master);

/* The lock, the drift once more, the next generation of the store, the log of stages. */
int master_open_store(struct master *master, struct error *err);

/* Remove files of committed points that a kill has kept from being removed. */
int master_remove_leftovers(struct master *master, struct error *err);

/* Seconds until the end, by what has been measured so far; negative: unknown yet. */
double master_eta(struct master *master);

/* News of a stage that runs; the end of a stage (a result): what it says of predicted seconds. */
void master_progress(struct running *running, const struct stage_progress *progress);
void master_observe(struct master *master, const struct plan_stage *stage, const struct stage_outcome *outcome);

/* Write DIR/status.json and the progress line when it is time, or now. */
void master_show(struct master *master, bool now);

/* A line for the person at the terminal, on stdout, clear of the progress line; also in rank 0's log. */
void master_say(const struct master *master, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
