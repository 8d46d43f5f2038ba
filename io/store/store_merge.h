/* Joins stores of one or several sweeps, job-array shards or clusters by point identity, and tells where rows came
 * from.
 *
 * The merge is a join in the sense of a lattice: the same stores in any order and any grouping give the same rows, and
 * a store merged with itself is itself. Whether results conflict is judged of every two of a point, so that the order
 * does not matter for that either; but a store no longer has the results that were close to the ones it kept, so that
 * STORE_RULE_FAIL may accept in one grouping what it refuses in another. At full size: tens of stores of 10^5 points;
 * every result is read once with its checksum, memory is a few hundred bytes a point and input. */
#ifndef TUNELAW_IO_STORE_STORE_MERGE_H
#define TUNELAW_IO_STORE_STORE_MERGE_H

#include "io/store/store.h"

/* Which of two different results of one point is kept, whole: no number is ever a mixture of two. */
enum store_rule {
    STORE_RULE_FAIL,     /* neither: the merge is refused; of equal ones the earliest */
    STORE_RULE_EARLIEST, /* by the time it was finished */
    STORE_RULE_NEWEST
};
#define STORE_TOLERANCE 5e-3 /* relative, of losses in different execution classes */

/* The same point with different results. */
struct store_conflict {
    size_t first_input, first_row, other_input, other_row;
    bool kept;       /* the first is the one that the rule keeps; else neither is, a third one is */
    bool same_class; /* of one execution class, where results are equal bit for bit */
};

struct store_merge_options {
    enum store_rule rule;
    double tolerance;
};

struct store_merge_report {
    size_t points, committed;
    size_t equal;     /* results that were there more than once, equal */
    size_t close;     /* of another execution class, losses within the tolerance */
    size_t damaged;   /* committed rows whose checksum is wrong: not taken */
    size_t renamed;   /* points that the inputs name or mark differently */
    size_t configs;   /* different sweep files among the inputs */
    size_t conflicts; /* results that differ from one that comes before them by the rule; list[] has the first ones */
    struct store_conflict *list;
    size_t listed;
};
void store_merge_report_free(struct store_merge_report *report); /* of the list */

/* Merge inputs[count] into `out` (a file, or a directory that gets a results.h5), replacing what is there: the caller
 * makes that one of the inputs. With STORE_RULE_FAIL and a conflict: -1, nothing is written, the report says which.
 * Rows are sorted by what the points are. The header is that of the input with the longest sweep file. */
int store_merge(const struct store *const *inputs, size_t count, const struct store_merge_options *options,
                const char *out, const char *version, struct store_merge_report *report, struct error *err);

/* The file that `out` names: OUT.h5 is itself, anything else is a directory (made where it is missing) with a
 * results.h5 in it. Malloc'ed. */
int store_out_path(const char *out, char **path, struct error *err);

/* Provenance of rows taken from these stores, sorted JSON lines, each once: a line {"source": DIGEST of the file, ...}
 * for each store that is not itself a merge, the lines that the stores have, and {"sweep_file": DIGEST, "text": ...}.
 * Malloc'ed, NULL with *err. */
char *store_sources(const struct store *const *stores, size_t count, struct error *err);

#endif
