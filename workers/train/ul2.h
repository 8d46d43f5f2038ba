/* The UL2 mixture of denoisers (Tay et al. 2022) for a decoder-only model: a block of text becomes one sequence, inputs
 * with spans taken out, then what was taken out, with a loss on the latter alone.
 *
 * R and X (span corruption, Raffel et al. 2020): [mode] kept 0, sentinel 0, kept 1, sentinel 1, ..., then the targets
 * sentinel 0, span 0, sentinel 1, span 1, ..., and the sentinel after the last. S (prefix language model): [mode]
 * prefix, then the rest of the block as targets. The model stays causal, over the inputs, too.
 *
 * Every sequence has exactly length + 1 tokens, as a causal block has, so that steps and token counts mean the same.
 * What a position of a feed becomes is a function of (seed, position): which denoiser, where in the block the text
 * begins, and the lengths of all pieces (each split of a number of tokens into so many pieces is equally likely). */
#ifndef TUNELAW_WORKERS_TRAIN_UL2_H
#define TUNELAW_WORKERS_TRAIN_UL2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"
#include "io/text/dataset.h"
#include "workers/model/mixture.h"

struct ul2 {
    struct mixture mixture;
    struct denoiser_shape shapes[DENOISERS];
    uint32_t length;
    uint64_t seed;
    int32_t modes, sentinels; /* ids of the first mode, of the first sentinel */
    size_t room;              /* pieces of a sequence at most, of kept text and of spans together */
    uint32_t *pieces;         /* [room], owned; one user at a time */
};

/* For sequences of `length` inputs. -1: they are too short, or the vocabulary reserves too few sentinels. */
int ul2_create(struct ul2 *ul2, const struct mixture *mixture, uint32_t length, const struct dataset_info *info,
               uint64_t seed, struct error *err);
void ul2_destroy(struct ul2 *ul2);

/* Which denoiser a position has; and how far into its block the text begins. */
uint32_t ul2_denoiser(const struct ul2 *ul2, uint64_t position);
uint32_t ul2_offset(const struct ul2 *ul2, uint64_t position);
/* From text[shapes[denoiser].text] to out[length + 1]; returns the index of the first target. */
size_t ul2_corrupt(const struct ul2 *ul2, uint64_t position, const int32_t *text, int32_t *out);

#endif
