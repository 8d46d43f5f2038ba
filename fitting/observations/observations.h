/* The table that laws are fitted to: one row a measured loss, and beside it what was left out and why.
 *
 * At full size: 10^5 rows. From a store: committed rows that are done. Of several learning rates of one cell the best
 * by validation loss is kept (mean over the cell's seeds, among the rates with the most finished seeds); seeds stay as
 * replicates, or become one row with their mean; method none, the untuned model, is kept apart as the base. Nothing is
 * dropped in silence: every other point is listed with a reason. */
#ifndef TUNELAW_FITTING_OBSERVATIONS_OBSERVATIONS_H
#define TUNELAW_FITTING_OBSERVATIONS_OBSERVATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fitting/settings.h"
#include "io/digest.h"
#include "io/error.h"
#include "io/store/store.h"

#define OBSERVATION_NAME 64
#define OBSERVATION_LABEL (2 * OBSERVATION_NAME + 2)
enum { OBSERVATION_SCORES = 5 };

struct observation {
    char identity[DIGEST_HEX + 1]; /* of the point; of a table: "row 12" */
    char method[OBSERVATION_NAME], model[OBSERVATION_NAME], task[OBSERVATION_NAME];
    double parameters;      /* X: all weights, those without embeddings, or those that are trained, as chosen */
    double pretrain_tokens; /* P */
    double pet_size;        /* T: 0 where the method has none */
    double examples;        /* D: 0 for the base */
    double loss;            /* the metric: of the test set, nats per target token, unless another was chosen */
    double targets;         /* tokens that the loss is the mean of; 0: not known, or no such loss */
    double valid_loss;
    double pretrain_loss;              /* after finetuning, on the pretraining text; NAN: not measured */
    double scores[OBSERVATION_SCORES]; /* of generated texts: BLEU, chrF, ROUGE-1, -2, -L; NAN: not measured */
    double seconds;                    /* of training and evaluation; 0: not known */
    double learning_rate;
    uint64_t seed;
    size_t replicates;      /* seeds in the loss: 1, or more where it is their mean */
    size_t trunk;           /* number of the pretraining trunk, from 0 */
    size_t execution_class; /* index into the observations' classes */
    bool held_out;
};

enum omission {
    OMITTED_UNFINISHED = 0, /* pending, running */
    OMITTED_CUT,            /* stopped on the way, by the wall time or a drain; goes on with the next run */
    OMITTED_FAILED,         /* out of memory, crashed, timed out, skipped */
    OMITTED_DIVERGED,
    OMITTED_RATE,    /* another learning rate of its cell has a lower validation loss */
    OMITTED_REMOVED, /* no longer in the sweep file */
    OMITTED_DAMAGED, /* its row does not match its checksum */
    OMITTED_LOSS,    /* done, but its loss is not a positive number */
    OMITTED_METRIC,  /* done, but the metric was not measured */
    OMISSIONS
};
const char *omission_name(enum omission why); /* "not finished", "diverged", ... */

struct observation_omitted {
    struct observation point; /* loss 0 */
    enum omission why;
    char status[32];   /* "pending", "crashed", ... */
    char message[192]; /* last error of the point, "" for none */
};

/* How far seeds of one cell lie apart. */
struct observation_noise {
    char task[OBSERVATION_NAME], method[OBSERVATION_NAME];
    size_t cells, degrees; /* cells with several seeds; seeds in them less the cells */
    double deviation;      /* standard deviation of log L within cells, pooled */
};

/* What L is: a loss, or what a metric of generated texts is short of its best (100 - BLEU, 1 - ROUGE-1), so that less
 * is better in each. */
enum metric {
    METRIC_TEST = 0,
    METRIC_VALID,
    METRIC_PRETRAIN,
    METRIC_BLEU, /* from here on of texts, in the order of struct observation's scores */
    METRIC_CHRF,
    METRIC_ROUGE1,
    METRIC_ROUGE2,
    METRIC_ROUGEL,
    METRICS
};
extern const char *const metric_names[METRICS];  /* "test_loss", "valid_loss", "pretrain_loss", "bleu", ... */
extern const char *const metric_titles[METRICS]; /* for people: "test loss", "100 - BLEU" */
extern const char *const metric_units[METRICS];  /* "nats per token", "" */
extern const char *const metric_scores[METRICS]; /* "BLEU"; of losses "" */

/* NULLs: as the sweep file says. */
struct observation_options {
    const char *x, *seeds; /* of settings_x_names, settings_seed_names */
    const char *metric;    /* of metric_names; NULL: test_loss */
};

struct observations {
    struct observation *rows; /* finetuned, to fit or held out; in order of task, method, PET size, model size,
                                 pretraining, examples */
    size_t count;
    struct observation *base; /* method none */
    size_t base_count;
    struct observation_omitted *omitted;
    size_t omitted_count, omitted_by[OMISSIONS];
    bool several_tasks;              /* among all points */
    size_t points, trunks;           /* of the store */
    char (*classes)[STORE_NAME + 1]; /* execution classes of the rows */
    size_t class_count;
    struct observation_noise *noise; /* one a task and method that has cells with several seeds */
    size_t noise_count;
    size_t cells, recipe_cells;    /* those where several points have the same seed, and so other recipes */
    size_t rate_cells, rate_edges; /* cells with several learning rates; those where the best is the lowest or the
                                      highest that was tried */
    /* where they come from */
    char source[4096]; /* path */
    char name[OBSERVATION_NAME];
    char *dataset_digest; /* of several tasks "en-de 29823c…, en-fr 86e5…" */
    char x_name[48];      /* of settings_x_names; of a table the column's name */
    enum metric metric;
    enum settings_seeds seeds;
    char *config;   /* the sweep file's text, "" for a table */
    uint64_t epoch; /* generation of the store, 0 for a table */
    struct fit_settings settings;
    struct error settings_lost; /* why the sweep file's word on fitting is not known and the defaults hold, or "" */
};

/* Whether a finetuned point's learning rate is that of its method's reference cell, and not known: it is with the
 * point's result. */
bool observation_is_tuned(const struct observation *row);

/* Whose a number is: "en-de: lora", and where there is one task "lora". Returns `out`. */
const char *observations_label(const struct observations *observations, const char *task, const char *method,
                               char out[OBSERVATION_LABEL]);

/* X of the model axis of a point. */
double observations_size(const struct store_point *point, enum settings_x x);

/* Read a store (run directory or file). options NULL: the defaults. */
int observations_from_store(const char *path, const struct observation_options *options, struct observations *out,
                            struct error *err);

/* One field of a point, for whoever goes over its levels. */
typedef double observation_field(const struct observation *row);
observation_field observation_parameters, observation_pretrain_tokens, observation_pet_size, observation_examples,
    observation_learning_rate, observation_seed;

/* Read a CSV file with a header line. `columns` maps axes to columns: "N=params,D=tokens,L=loss" with X or N model
 * size, P pretraining tokens, T PET size, D examples or tokens, L loss (needed), M method, C cluster, H held out (0 or
 * 1). Malformed input: FILE:LINE. */
int observations_from_table(const char *path, const char *columns, struct observations *out, struct error *err);

void observations_destroy(struct observations *observations); /* frees what it holds, not the struct itself */

#endif
