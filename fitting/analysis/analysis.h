/* Which laws are fitted to which points of a sweep, and what came of it: the contents of `tunelaw fit`, of fit.json and
 * of the report.
 *
 * A view is a set of points and the meaning of the laws' axes:
 *   model     one method and PET size, one count of pretraining tokens; X = model size
 *   pretrain  one method and PET size, one model;                       X = pretraining tokens
 *   joint     one method, all its points; X, P and T wherever they vary
 *   examples  one method and PET size, one model and pretraining count; D alone
 *   table     all rows of a CSV file
 *   pet       one method, one model and pretraining count;              X = PET size
 * of one task each. docs/laws.md says when each is made. Fits are in the order of tasks, methods, PET sizes, views,
 * laws. */
#ifndef TUNELAW_FITTING_ANALYSIS_ANALYSIS_H
#define TUNELAW_FITTING_ANALYSIS_ANALYSIS_H

#include <stdio.h>

#include "fitting/analysis/crossing.h"
#include "fitting/fit/fit.h"
#include "fitting/fit/heldout.h"
#include "fitting/fit/interval.h"
#include "fitting/fit/staged.h"
#include "fitting/observations/observations.h"

enum view_kind { VIEW_MODEL = 0, VIEW_PRETRAIN, VIEW_JOINT, VIEW_EXAMPLES, VIEW_TABLE, VIEW_PET, VIEWS };
const char *view_name(enum view_kind view); /* "model", ... */

/* Points that the bootstrap draws together: those of one pretraining trunk, those of one finetuning seed, none, those
 * that differ in their examples alone (which share the beginning of their finetuning where the sweep asks for it). */
enum cluster_kind { CLUSTER_TRUNKS = 0, CLUSTER_SEEDS, CLUSTER_POINTS, CLUSTER_RUNS, CLUSTERS };
const char *cluster_name(enum cluster_kind kind); /* "trunks", ... */
enum cluster_kind cluster_find(const char *name); /* CLUSTERS: no such name */

struct analysis_options {
    const char *law; /* NULL: those that suit each view; else this one, of the table or of the sweep file, in every
                        view whose axes it has */
    const struct user_law *user; /* the same for a law of the caller's, who keeps it */
    const char *x;               /* as in observation_options, as are the next two */
    const char *seeds, *metric;
    double delta;       /* 0: as the sweep file says, else 1e-3 */
    bool absolute;      /* least absolute residuals instead of Huber's loss */
    bool no_offset;     /* laws without E */
    bool log_residuals; /* residuals of log L; as the paper: of L */
    size_t resamples;   /* of the bootstrap */
    enum interval_kind intervals;
    enum cluster_kind resample; /* what the bootstrap draws */
    double level;               /* of the intervals, such as 0.9 */
};
struct analysis_options analysis_defaults(void);

#define ANALYSIS_LAWS (2 + SETTINGS_LAWS) /* of one view */

struct analysis_fit {
    enum view_kind view;
    char task[OBSERVATION_NAME], method[OBSERVATION_NAME];
    char group[3 * OBSERVATION_NAME + 8]; /* "full", "lora rank 8", "lora, all sizes"; of several tasks "en-de: full" */
    bool several_tasks;                   /* in the analysis */
    double pet_size;                      /* NAN: all sizes */
    double parameters, pretrain_tokens;   /* what the view holds fixed; NAN: varies */
    const char *x_symbol;                 /* "N", "P": what stands for X in the formula */
    struct law law;
    char formula[LAW_FORMULA];
    const char *ignored_axis; /* NULL, or an axis with too few levels for the joint law: its points are fitted as if it
                                 were one */
    bool fitted;
    char why[256]; /* it is not */
    struct fit fit;
    struct intervals intervals;
    struct heldout heldout; /* on the cells that the sweep holds out; as `levels` where there are none */
    struct heldout levels;  /* on levels left out in turn */
    size_t trunks, classes; /* pretraining trunks and execution classes of the fitted rows (0 classes: not known) */
    size_t *rows; /* indices into observations.rows: first `fitted_count` that are fitted, then those held out */
    size_t fitted_count, heldout_count;
};

/* The two stages of one method (fitting/fit/staged.h); the axis of PET sizes at one model and pretraining count. */
struct analysis_staged {
    char task[OBSERVATION_NAME], method[OBSERVATION_NAME];
    double pet_size; /* of the first two axes */
    bool fitted;
    char why[256];
    struct staged staged;
};

/* Examples at which two methods reach the same loss at one model size, by the laws of their model views. */
struct analysis_crossing {
    size_t first, second; /* fits */
    double parameters;
    double range[2]; /* of D that was searched */
    size_t count;
    double roots[CROSSING_LARGEST], low[CROSSING_LARGEST], high[CROSSING_LARGEST];
    struct span profile[CROSSING_LARGEST]; /* NAN where it was not asked for */
    double agreement;                      /* share of the resamples with as many roots; NAN without resamples */
};

/* Whether points and resamples tell a meeting: most resamples have as many, and its own interval holds it. Without an
 * interval nothing speaks against it. */
bool analysis_crossing_identified(const struct analysis_crossing *crossing, size_t root);

/* What a reader must know before believing the numbers. */
enum warning_kind {
    WARN_TRUNKS = 0,     /* rows of a fit share pretraining trunks: their errors are correlated */
    WARN_CLASSES,        /* rows of a fit are of several execution classes */
    WARN_NOT_IDENTIFIED, /* the grid, or what was measured on it, does not tell a parameter */
    WARN_NOT_CONVERGED,
    WARN_CONSTANT,  /* a law predicts what it has not seen no better than a constant */
    WARN_ONE_SEED,  /* no cell has several seeds: their spread is not measured */
    WARN_RATES,     /* the best learning rate is often the lowest or highest that was tried */
    WARN_SETTINGS,  /* what the sweep file says about fitting is not known */
    WARN_RECIPES,   /* points of one cell and seed differ in what the axes do not say */
    WARN_TARGETS,   /* losses of one task are means over different numbers of tokens */
    WARN_SATURATED, /* texts share next to nothing with their references: no power law bends there */
    WARNINGS
};
const char *warning_name(enum warning_kind kind); /* "shared_trunks", ... */

struct analysis_warning {
    enum warning_kind kind;
    size_t fit;     /* SIZE_MAX: the sweep as a whole */
    char text[480]; /* one sentence */
};

struct analysis {
    struct analysis_warning *warnings; /* those of the whole first, then in the order of fits */
    size_t warning_count;
    struct analysis_staged *staged;
    size_t staged_count;
    struct analysis_crossing *crossings;
    size_t crossing_count;
    struct observations observations;
    struct analysis_options options; /* delta resolved; names and laws are not kept */
    struct analysis_fit *fits;
    size_t fit_count;
};

/* Axis values of an observation in a view, as the law's axes (X is P in the pretrain view). */
void analysis_axes(const struct analysis_fit *fit, const struct observation *row, double x[LAW_AXES]);

/* Predicted loss of an observation. */
double analysis_predict(const struct analysis_fit *fit, const struct observation *row);

/* The better law of a view by held-out error: index of the fit, or SIZE_MAX where fewer than two laws were judged on
 * the same points; a law with an exponent that the levels cannot tell is no candidate. `first` is any fit of the view.
 */
size_t analysis_best(const struct analysis *analysis, size_t first);
bool analysis_same_view(const struct analysis_fit *a, const struct analysis_fit *b);

/* The fit of the view of fits[first] to predict with: the better one by held-out error, else the first that was fitted
 * and whose exponents are identified; SIZE_MAX for none. */
size_t analysis_shown(const struct analysis *analysis, size_t first);

/* The laws of one view side by side. */
struct analysis_choice {
    size_t first, count;          /* fits first .. first + count - 1 */
    size_t best;                  /* as analysis_best */
    double akaike[ANALYSIS_LAWS]; /* AICc less the least of the view, NAN: not fitted, or too few points */
};
/* The view that begins at fit `first` of several laws; returns the fit where the next view begins. */
size_t analysis_choose(const struct analysis *analysis, size_t first, struct analysis_choice *out);

/* Mean over the views of a kind in which every law was judged on the same cells or levels, by fits whose exponents are
 * identified (a law that has no such fit in any view is not asked of the others): of the law's held-out errors
 * (`cells`) or of its errors on levels left out. `law`: its name. Returns the number of views, 0: *mean is NAN.
 * beyond: NULL, or the errors are taken as heldout_told has them, and it says whether the mean is more. */
size_t analysis_mean_error(const struct analysis *analysis, enum view_kind view, const char *law, bool cells,
                           double *mean, bool *beyond);

/* Such means of every law of a kind of view that was judged in two views or more; out[ANALYSIS_LAWS]. Returns how many.
 */
struct analysis_mean {
    const char *law;
    size_t views[2]; /* by held-out cells, by levels */
    double error[2]; /* NAN: fewer than two views */
    bool beyond[2];  /* it is more than that */
};
size_t analysis_means(const struct analysis *analysis, enum view_kind view, struct analysis_mean *out);

/* The held-out error of a fit on cells, or on levels; NULL: it was not judged so. */
const struct heldout *analysis_error(const struct analysis_fit *fit, bool cells);

/* Fit a store, or a table. Too few points for a law is not an error: its entry says so. */
int fitting_fit_store(const char *path, const struct analysis_options *options, struct analysis *out,
                      struct error *err);
int fitting_fit_table(const char *path, const char *columns, const struct analysis_options *options,
                      struct analysis *out, struct error *err);
void analysis_destroy(struct analysis *analysis); /* frees what it holds */

/* The warnings as sentences, each given to `tell`: those of the whole, then one a kind for those of single fits. */
void analysis_tell_warnings(const struct analysis *analysis, void tell(void *to, const char *sentence), void *to);

/* For people: one table, and with `verbose` every law with its intervals and how it was found; for programs: full
 * precision, one JSON object, docs/laws.md. */
void analysis_print(const struct analysis *analysis, bool verbose, FILE *out);
int analysis_print_json(const struct analysis *analysis, FILE *out, struct error *err);

/* Write the JSON to DIR/fit.json: beside it, synced, renamed. */
int analysis_write(const struct analysis *analysis, const char *dir, struct error *err);

#endif
