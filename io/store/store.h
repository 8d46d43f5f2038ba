/* The results store: one HDF5 file with a frozen layout, one row a point, readable by h5py and h5dump at every instant.
 *
 * At full size: 10^5 points and more, written by one committer (the master) while any number of readers look.
 * The file is created once (io/frozen/frozen.h), with every dataset at its final size, synced and renamed into place.
 * From then on the committer writes rows with pwrite, and readers need no lock. Every resume and every extension writes
 * a new generation of the file beside the old one (committed rows copied, epoch raised) and renames it into place, so
 * that a process of an earlier attempt holds the old file and can harm nothing.
 *
 *   /points     compound: what the point is; never changes within a generation
 *   /results    compound of STORE_SLOT bytes: what was computed; deterministic; written once; ends with a marker and a
 *               checksum
 *   /execution  compound: where, when and how fast; written together with the result; own checksum
 *   /curves     compound of STORE_SLOT bytes: losses during training; written with the result; deterministic
 *   /state      compound: pending, running, attempts, last error; the only part that is rewritten
 *   /config     the sweep file's text
 *
 * Row i of every dataset is the same point. "Committed" means: the marker of the /results slot is set and its checksum
 * is right. Commit: payloads of a group of rows -> fdatasync -> markers -> fdatasync -> the caller may acknowledge. */
#ifndef TUNELAW_IO_STORE_STORE_H
#define TUNELAW_IO_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/digest.h"
#include "io/error.h"

#define STORE_VERSION 3
#define STORE_SLOT 4096
#define STORE_NAME 48  /* bytes of a name in a row, zero-padded */
#define STORE_CURVE 64 /* evaluations kept a point; a longer curve is thinned evenly, first and last kept */
#define STORE_MESSAGE 192

/* How a point stands. Done and diverged are results (deterministic, committed once); the others live in /state only. */
enum store_status {
    STORE_PENDING = 0,
    STORE_RUNNING,
    STORE_DONE,
    STORE_DIVERGED,
    STORE_OUT_OF_MEMORY,
    STORE_CRASHED,
    STORE_TIMED_OUT,
    STORE_CUT,     /* checkpointed and stopped: by the wall time or a drain */
    STORE_SKIPPED, /* a stage that it needs has failed */
    STORE_STATUSES
};
const char *store_status_name(enum store_status status); /* "pending", "out-of-memory", ... */

/* What a point is. Strings are zero-padded, not necessarily zero-terminated when full. */
struct store_point {
    char identity[DIGEST_HEX]; /* of what the point computes */
    char base[DIGEST_HEX]; /* identity of the pretraining stage, or digest of the imported files, that it starts from */
    char trunk[DIGEST_HEX]; /* identity of the pretraining trunk: points of one trunk are correlated */
    char task[STORE_NAME];
    char model[STORE_NAME];
    char method[STORE_NAME]; /* name in the sweep file: none, full, lora, ... */
    uint64_t parameters;     /* all weights of the base */
    uint64_t non_embedding_parameters;
    uint64_t trainable_parameters;
    uint64_t pretrain_tokens;
    uint64_t finetune_examples;
    uint64_t pet_size; /* LoRA rank, prompt or prefix length, adapter width; 0 for methods without */
    uint64_t seed;
    double learning_rate; /* 0: none, or that of the method's reference cell, known with the result */
    uint32_t held_out;    /* 1: never used to fit, only to judge the fit */
    uint32_t removed;     /* 1: no longer in the sweep file, kept */
};

/* What was computed. Every field is a function of the point and its execution class alone. */
struct store_result {
    char identity[DIGEST_HEX];
    uint32_t status; /* STORE_DONE or STORE_DIVERGED */
    uint32_t evaluations;
    uint64_t steps;         /* optimiser steps taken */
    uint64_t best_step;     /* step of the best validation loss */
    uint64_t tokens;        /* tokens seen in training, padding excluded */
    uint64_t target_tokens; /* of these, tokens with a loss */
    double flops;           /* of the training, as planned */
    double train_loss;      /* nats per target token, mean over the steps since the last evaluation */
    double valid_loss;      /* nats per target token, best */
    double test_loss;       /* nats per target token, of the best checkpoint */
    double test_perplexity; /* exp(test_loss) */
    double pretrain_loss;   /* nats per token on the pretraining validation text, of the best checkpoint: forgetting */
    double gradient_norm;   /* of the last step, before clipping */
    uint64_t test_tokens;
    uint64_t valid_tokens;
    char best_digest[DIGEST_HEX]; /* of the best checkpoint's tensors */
    /* Of texts generated for the first `generated` test examples by the best checkpoint; NaN: not asked for. */
    double bleu, chrf;              /* 0..100, as sacrebleu's */
    double rouge1, rouge2, rougeL;  /* mean F1, 0..1, as rouge-score's */
    double length_penalty;          /* of beam search; NaN without generation */
    uint64_t generated;             /* examples; 0: nothing was generated */
    uint32_t beams, max_new_tokens; /* 0 without generation */
    char generations[DIGEST_HEX];   /* of the texts, in their order (workers/text/generation.h); zeros without */
    double learning_rate;           /* at the peak of its schedule; 0 without training */
};
/* A result for which nothing was generated: the members above. */
void store_result_without_generations(struct store_result *result);

/* Where and how it ran. */
struct store_execution {
    char host[STORE_NAME];
    char device[STORE_NAME];          /* "cpu" or the GPU's name */
    char execution_class[STORE_NAME]; /* backend, degree, threads, library versions: what can change the last bits */
    char version[STORE_NAME];         /* tunelaw's version and revision */
    double started, finished;         /* seconds since 1970-01-01 UTC */
    double seconds;                   /* in training and evaluation, all attempts that counted */
    double tokens_per_second;
    uint64_t peak_bytes;      /* of the worker, on GPUs their memory, else resident; 0: not known */
    uint64_t predicted_bytes; /* as planned, on GPUs with what a process has beside its arenas */
    uint32_t rank, attempt;   /* MPI rank; attempts used, from 1 */
    uint64_t epoch;           /* generation in which it was committed */
};

struct store_curve_entry {
    double step, tokens, train_loss, valid_loss, gradient_norm, learning_rate;
};
struct store_curve {
    char identity[DIGEST_HEX];
    uint64_t count;
    struct store_curve_entry entries[STORE_CURVE];
};

struct store_state {
    uint32_t status;             /* enum store_status */
    uint32_t attempts;           /* counted before they start */
    double updated;              /* seconds since 1970 */
    double progress;             /* 0..1 of the training steps */
    char message[STORE_MESSAGE]; /* last error, for a person */
};

struct store_row { /* everything that one commit writes */
    size_t index;
    struct store_result result;
    struct store_execution execution;
    struct store_curve curve;
};

/* What a new generation is made of. */
struct store_header {
    const char *config_text; /* the sweep file */
    const char *config_path; /* for provenance */
    const char *version;     /* program version and revision */
    const char *dataset_digest;
    const char *name;    /* of the sweep */
    const char *shard;   /* "2/4": the part of the sweep that this store holds; NULL: the whole sweep */
    const char *made_by; /* "merge", "salvage"; NULL: "run" */
    const char
        *provenance; /* stores that rows came from, JSON lines (io/store/store_merge.h); NULL: those of the old file */
};

/* What store_generation found in the old file. */
struct store_generation_report {
    size_t kept;    /* committed rows copied */
    size_t added;   /* points that the old generation did not have */
    size_t removed; /* committed points that are no longer in the sweep: kept, marked, appended after the points of the
                       sweep */
    size_t damaged; /* committed rows whose checksum is wrong: to be run again */
    size_t curves;  /* kept rows whose curve was damaged: it is empty now */
    uint64_t epoch; /* of the new generation, from 1 */
};

/* Create DIR/results.h5, or replace it by its next generation: rows of points[0..count) in this order, then removed
 * ones. Attempts of unfinished points are carried over; statuses other than done and diverged become pending again.
 * Nothing on disk has changed if it fails. `report` may be NULL. */
int store_generation(const char *dir, const struct store_header *header, const struct store_point *points, size_t count,
                     struct store_generation_report *report, struct error *err);

/* Take the sidecar lock DIR/results.lock (fcntl, exclusive, released when the process ends), waiting up to
 * wait_seconds; where another holds it errno is EAGAIN and the line names the holder (host, pid, since). *lock_fd is
 * closed by the caller to release. A file system without such locks, or one that grants them to two at once, is found
 * by a probe and refused. */
int store_lock(const char *dir, double wait_seconds, int *lock_fd, struct error *err);

/* Whether somebody holds that lock, as it is seen from here: 1, 0, or -1 with *err where it cannot be known. Asked on
 * another node while the master holds it, 0 means a file system whose locks do not reach over nodes. */
int store_lock_held(const char *dir, struct error *err);

/* Open a store for reading, or for committing. `path` is a run directory or a file. Returns NULL with *err set. Hostile
 * files (truncated, other layouts, absurd sizes) are refused. A writable store keeps the generation it opened. */
struct store;
struct store *store_open(const char *path, bool writable, struct error *err);
void store_close(struct store *store);

size_t store_count(const struct store *store);
uint64_t store_epoch(const struct store *store);
const char *store_config(const struct store *store);      /* the sweep file's text; owned by the store */
const char *store_config_path(const struct store *store); /* as given when it was created */
const char *store_name(const struct store *store);
const char *store_dataset_digest(const struct store *store);
const char *store_shard(const struct store *store);      /* "" for the whole sweep */
const char *store_made_by(const struct store *store);    /* "run", "merge", "salvage" */
const char *store_provenance(const struct store *store); /* JSON lines, "" where all rows were computed here */
const char *store_program_version(const struct store *store);
const struct store_point *store_point(const struct store *store, size_t index); /* owned by the store */

/* Row of an identity (32 digits, or a unique prefix of at least 4); -1 with *err set where there is none or more than
 * one. */
long store_find(const struct store *store, const char *identity, struct error *err);
/* Row with exactly this identity, or -1. */
long store_find_exact(const struct store *store, const char identity[DIGEST_HEX]);

/* 1: committed, *result (and *execution, *curve where not NULL) filled; 0: not committed; -1: damaged or unreadable,
 * also where a finished row has no result, *err set. A damaged curve damages nothing else: it is empty then (count 0),
 * and store_check_curve says why. */
int store_read(const struct store *store, size_t index, struct store_result *result, struct store_execution *execution,
               struct store_curve *curve, struct error *err);
int store_check_curve(const struct store *store, size_t index, struct error *err); /* of a committed row */
int store_read_state(const struct store *store, size_t index, struct store_state *state, struct error *err);

/* attempts[i]: of row i, for all rows in one pass; STORE_ATTEMPTS_UNKNOWN where its state has a message or is damaged
 * and must be read by itself. */
#define STORE_ATTEMPTS_UNKNOWN UINT32_MAX
int store_attempts(const struct store *store, uint32_t *attempts, struct error *err);

/* committed[i] = 1 where row i is committed, 0 where not, for all rows in one pass over the markers alone (no
 * checksums). */
int store_committed(const struct store *store, unsigned char *committed, struct error *err);

/* Whether DIR/results.h5 is not the file any more that this store has opened: a run that was taken for dead must end.
 */
bool store_is_replaced(const struct store *store);
int store_check_replaced(const struct store *store, struct error *err); /* -1 with *err where it is so */

/* What tells the generation in DIR from every other: the checksum of its first block, which is written once. 0 where it
 * cannot be read. */
uint64_t store_stamp(const char *dir);

/* Commit a group of rows under one pair of fdatasync. A row that is already committed is an error. On success every row
 * is durable. Another thread may call store_set_state meanwhile, and read. */
int store_commit(struct store *store, const struct store_row *rows, size_t count, struct error *err);

/* Write the next generation of DIR/results.h5, in which finished rows have other metrics of generated texts: those of
 * results[count], found by their identities; every other member of a row, and every other row, stays as it is. The
 * caller holds the lock. Nothing on disk has changed if it fails. */
int store_amend(const char *dir, const struct store_result *results, size_t count, const char *version,
                struct error *err);

/* Rewrite the state of one row (not synced: it survives a kill, not a power loss). */
int store_set_state(struct store *store, size_t index, const struct store_state *state, struct error *err);

/* What is still good of a store whose seal, metadata, /points, texts or rows are damaged. */
struct store_damage {
    char header[512];   /* why store_open refuses the file; "" where it does not */
    size_t points;      /* rows of the file */
    size_t undescribed; /* rows whose /points entry is damaged: what was computed there cannot be told, they are lost */
    size_t committed;   /* rows with a good description and a good result */
    size_t damaged;     /* rows with a good description and a damaged result */
    size_t curves;      /* of the committed ones, those whose curve is damaged: it becomes an empty one */
    size_t unreadable;  /* rows with a good description whose result, if there was one, cannot be read: cut off */
    bool config_lost, provenance_lost; /* the texts; empty then */
};
/* As store_open for reading, but a damaged store is opened as far as it can be: by its directory, found in either
 * place. Undescribed rows have an identity of zeros and never count as committed. NULL with *err where nothing can be
 * told. */
struct store *store_open_damaged(const char *path, struct store_damage *damage, struct error *err);

/* Write a new store of all described rows and good results to `out` (a file name or a directory; it must not be there).
 */
int store_salvage(const struct store *damaged, const char *out, const char *version, struct error *err);

/* Copy a zero-padded field into a zero-terminated buffer, or a string into a zero-padded field (cut at the field's
 * size). */
void store_text(char *out, size_t out_size, const char *field, size_t field_size);
void store_field(char *field, size_t field_size, const char *text);

#endif
