/* The table that laws are fitted to: one row a measured loss, and beside it what was left out and why.
 *
 * At full size: 10^5 rows. From a store: committed rows that are done. Of several learning rates of one cell the best
 * by validation loss is kept (mean over the cell's seeds, among the rates with the most finished seeds); seeds stay as
 * replicates; method none, the untuned model, is kept apart as the base. Nothing is dropped in silence: every other
 * point is listed with a reason. */
#ifndef TUNELAW_FITTING_OBSERVATIONS_H
#define TUNELAW_FITTING_OBSERVATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/digest.h"
#include "io/error.h"

#define OBSERVATION_NAME 64

struct observation {
    char identity[DIGEST_HEX + 1]; /* of the point; of a table: "row 12" */
    char method[OBSERVATION_NAME], model[OBSERVATION_NAME], task[OBSERVATION_NAME];
    double parameters;      /* X: all weights or those without embeddings, as chosen */
    double pretrain_tokens; /* P */
    double pet_size;        /* T: 0 where the method has none */
    double examples;        /* D: 0 for the base */
    double loss;            /* test, nats per target token */
    double valid_loss;
    double pretrain_loss; /* after finetuning, on the pretraining text; NAN: not measured */
    double seconds;       /* of training and evaluation; 0: not known */
    double learning_rate;
    uint64_t seed;
    size_t trunk; /* number of the pretraining trunk, from 0 */
    bool held_out;
};

enum omission {
    OMITTED_UNFINISHED = 0, /* pending, running, cut */
    OMITTED_FAILED,         /* out of memory, crashed, timed out, skipped */
    OMITTED_DIVERGED,
    OMITTED_RATE,    /* another learning rate of its cell has a lower validation loss */
    OMITTED_REMOVED, /* no longer in the sweep file */
    OMITTED_DAMAGED, /* its row does not match its checksum */
    OMITTED_LOSS,    /* done, but its loss is not a positive number */
    OMISSIONS
};
const char *omission_name(enum omission why); /* "not finished", "diverged", ... */

struct observation_omitted {
    struct observation point; /* loss 0 */
    enum omission why;
    char status[32];   /* "pending", "crashed", ... */
    char message[192]; /* last error of the point, "" for none */
};

struct observations {
    struct observation *rows; /* finetuned, to fit or held out */
    size_t count;
    struct observation *base; /* method none */
    size_t base_count;
    struct observation_omitted *omitted;
    size_t omitted_count, omitted_by[OMISSIONS];
    size_t points, trunks; /* of the store */
    /* where they come from */
    char source[4096]; /* path */
    char name[OBSERVATION_NAME];
    char dataset_digest[DIGEST_HEX + 1];
    char x_name[48];    /* "parameters", "non_embedding_parameters" */
    char *config;       /* the sweep file's text, "" for a table */
    uint64_t epoch;     /* generation of the store, 0 for a table */
    double huber_delta; /* of the sweep file, 0 where it says nothing */
};

/* Read a store (run directory or file). x: "parameters", "non_embedding_parameters", or NULL: as the sweep file says,
 * else "parameters". */
int observations_from_store(const char *path, const char *x, struct observations *out, struct error *err);

/* Read a CSV file with a header line. `columns` maps axes to columns: "N=params,D=tokens,L=loss" with X or N model
 * size, P pretraining tokens, T PET size, D examples or tokens, L loss (needed), M method, C cluster, H held out (0 or
 * 1). Malformed input: FILE:LINE. */
int observations_from_table(const char *path, const char *columns, struct observations *out, struct error *err);

void observations_destroy(struct observations *observations); /* frees what it holds, not the struct itself */

#endif
