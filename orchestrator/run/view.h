/* A run as the reading commands see it: a store, the folder around it, and one point's parts joined.
 *
 * At full size 10^5 points: rows are read one at a time. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_VIEW_H
#define TUNELAW_ORCHESTRATOR_RUN_VIEW_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "io/error.h"
#include "io/store/store.h"

struct view {
    struct store *store; /* open for reading */
    char dir[PATH_MAX];  /* run directory, absolute: checkpoints/ and logs/ are in it */
    bool idle;           /* no master speaks or holds the directory's lock: what was running was cut off */
};

/* path: a run directory, or a store file in one. */
int view_open(struct view *view, const char *path, struct error *err);
void view_close(struct view *view);

struct view_row {
    size_t index;
    struct store_point point;
    struct store_state state;
    bool committed;     /* result, execution and curve are filled */
    bool damaged;       /* the result's checksum is wrong: to be run again */
    bool state_damaged; /* that of the state is: it reads as one that was never written */
    bool interrupted;   /* its state says running, and nobody runs it: the next run goes on with it */
    struct store_result result;
    struct store_execution execution;
    struct store_curve curve;
    double learning_rate; /* of the result where there is one, else of the point; 0: none, or not known yet */
};

/* -1 where the file cannot be read. A damaged result is no error here: it is flagged, and its message is in
 * state.message; a damaged state (it is not synced) is as one that was never written, with a message. */
int view_read(const struct view *view, size_t index, struct view_row *row, struct error *err);

/* As view_read, without the curve: row->curve is not touched. */
int view_read_scalars(const struct view *view, size_t index, struct view_row *row, struct error *err);
/* As view_read, state and result alone: of the rest only point is touched. */
int view_read_outcome(const struct view *view, size_t index, struct view_row *row, struct error *err);

/* "done", "pending", ...; the result's own where there is one, "damaged" where it is, "interrupted" where its run has
 * died. */
const char *view_status(const struct view_row *row);

/* Row of a point: a row number (a decimal number below the number of points), or the beginning of an identity. */
int view_find(const struct view *view, const char *word, size_t *index, struct error *err);

/* Of a point whose learning rate was tuned at a reference cell, that is another's: which rates were tried there, and
 * that the best is one of their ends; "" of other points. */
void view_tuning(const struct view *view, const struct view_row *row, char *out, size_t size);

/* "m lora 8, 1000000 tokens, 500 examples, learning rate 0.005, seed 1": for a person. */
void view_describe(const struct store_point *point, char *out, size_t size);

#endif
