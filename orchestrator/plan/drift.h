/* Drift: how the sweep file of a run differs from the one that its store was made with, and what that means for the
 * points. Pure: reads an open store, writes nothing. docs/configuration.md, "A changed sweep file", has the classes. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_DRIFT_H
#define TUNELAW_ORCHESTRATOR_PLAN_DRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "io/store/store.h"
#include "orchestrator/plan/plan.h"

enum drift_class {
    DRIFT_COMPATIBLE, /* how it is run */
    DRIFT_REFIT,      /* how it is fitted */
    DRIFT_EVALUATION, /* what is measured of points that are still to run */
    DRIFT_AXIS,       /* which points there are: others keep their identity */
    DRIFT_RERUN,      /* what points compute */
    DRIFT_RENAME,     /* of the sweep: another one, perhaps */
    DRIFT_CLASSES
};
const char *drift_class_name(enum drift_class class);

struct drift_change {
    char *field;          /* "finetune.batch", "models.s.layers"; members of lists by their names */
    char *before, *after; /* "" where the field is absent */
    enum drift_class class;
};

struct drift {
    struct drift_change *changes;
    size_t count;
    char incomparable[256]; /* why fields could not be compared; points are compared in any case */
    char refused[512];      /* why no run may go on here; "" for none */
    size_t kept;            /* committed points that stay, or come back */
    size_t added;           /* points of the sweep that the store does not have */
    size_t left;            /* committed points that leave the sweep; they stay in the store, marked */
    size_t again;           /* of these, points whose place in the grid is still there with another identity */
    char weights[256];      /* imported models whose weights are not those that points which run again began with */
    bool needs_acceptance;
};

/* shard: "" for the whole sweep. */
int drift_compare(const struct store *store, const struct sweep *sweep, const struct plan *plan, const char *shard,
                  struct drift *out, struct error *err);
void drift_free(struct drift *drift); /* what it holds */

/* Whether there is anything to tell. */
bool drift_any(const struct drift *drift);
void drift_print(const struct drift *drift, const char *dir, bool accepted, FILE *out);

/* Asked before a run writes anything, and again once it has the lock, since another run may have gone on meanwhile. */
struct drift_question {
    const char *dir, *shard; /* shard: "" for the whole sweep */
    bool accepted;           /* --accept-drift */
    bool absent;             /* found: no store is there, all points are new */
    char *said;              /* malloc'ed: what was printed last; it is printed again only where it differs */
};

/* What a run in the directory would say: nothing where there is no store; otherwise the verdict is printed to `out`,
 * and -1 with *err where the run is refused, or needs an acceptance that is not given. */
int drift_check(struct drift_question *question, const struct sweep *sweep, const struct plan *plan, FILE *out,
                struct error *err);

#endif
