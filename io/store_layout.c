/* The frozen layout of results.h5: the members of every dataset. */
#include <stdlib.h>
#include <string.h>

#include "io/store_internal.h"

static const struct frozen_field point_fields[] = {
    FIELD(store_point, identity, FIELD_TEXT, "hexadecimal digest of what the point computes"),
    FIELD(store_point, base, FIELD_TEXT, "hexadecimal digest of the base that it starts from"),
    FIELD(store_point, trunk, FIELD_TEXT, "hexadecimal digest of the pretraining trunk"),
    FIELD(store_point, task, FIELD_TEXT, "name"),
    FIELD(store_point, model, FIELD_TEXT, "name"),
    FIELD(store_point, method, FIELD_TEXT, "name: none, full, lora, prompt"),
    FIELD(store_point, parameters, FIELD_U64, "weights of the base"),
    FIELD(store_point, non_embedding_parameters, FIELD_U64, "weights of the base outside embeddings"),
    FIELD(store_point, trainable_parameters, FIELD_U64, "weights that the method trains"),
    FIELD(store_point, pretrain_tokens, FIELD_U64, "tokens"),
    FIELD(store_point, finetune_examples, FIELD_U64, "examples"),
    FIELD(store_point, pet_size, FIELD_U64, "LoRA rank or prompt tokens; 0 for none and full"),
    FIELD(store_point, seed, FIELD_U64, "1"),
    FIELD(store_point, learning_rate, FIELD_F64, "1"),
    FIELD(store_point, held_out, FIELD_U32, "1: only judges the fit"),
    FIELD(store_point, removed, FIELD_U32, "1: no longer in the sweep file"),
};

static const struct frozen_field state_fields[] = {
    FIELD(store_state, status, FIELD_U32,
          "0 pending, 1 running, 2 done, 3 diverged, 4 out-of-memory, 5 crashed, 6 timed-out, 7 cut, 8 skipped"),
    FIELD(store_state, attempts, FIELD_U32, "attempts started"),
    FIELD(store_state, updated, FIELD_F64, "seconds since 1970-01-01 UTC"),
    FIELD(store_state, progress, FIELD_F64, "fraction of the training steps"),
    FIELD(store_state, message, FIELD_TEXT, "last error"),
    {"checksum", FIELD_U64, STORE_STATE_SLOT - 8, 8, "XXH3-64 of the row before it; 0: never written", NULL},
};

static const struct frozen_field execution_fields[] = {
    FIELD(store_execution, host, FIELD_TEXT, "name"),
    FIELD(store_execution, device, FIELD_TEXT, "name"),
    FIELD(store_execution, execution_class, FIELD_TEXT, "name"),
    FIELD(store_execution, version, FIELD_TEXT, "program version and revision"),
    FIELD(store_execution, started, FIELD_F64, "seconds since 1970-01-01 UTC"),
    FIELD(store_execution, finished, FIELD_F64, "seconds since 1970-01-01 UTC"),
    FIELD(store_execution, seconds, FIELD_F64, "seconds in training and evaluation"),
    FIELD(store_execution, tokens_per_second, FIELD_F64, "tokens/second"),
    FIELD(store_execution, peak_bytes, FIELD_U64, "bytes"),
    FIELD(store_execution, predicted_bytes, FIELD_U64, "bytes"),
    FIELD(store_execution, rank, FIELD_U32, "MPI rank"),
    FIELD(store_execution, attempt, FIELD_U32, "attempts used, from 1"),
    FIELD(store_execution, epoch, FIELD_U64, "generation of the store in which the row was committed"),
    {"checksum", FIELD_U64, STORE_EXECUTION_SLOT - 8, 8, "XXH3-64 of the row before it", NULL},
};

static const struct frozen_field result_fields[] = {
    FIELD(store_result, identity, FIELD_TEXT, "hexadecimal digest of what the point computes"),
    FIELD(store_result, status, FIELD_U32, "2 done, 3 diverged"),
    FIELD(store_result, evaluations, FIELD_U32, "evaluations during training"),
    FIELD(store_result, steps, FIELD_U64, "optimiser steps"),
    FIELD(store_result, best_step, FIELD_U64, "optimiser step"),
    FIELD(store_result, tokens, FIELD_U64, "tokens"),
    FIELD(store_result, target_tokens, FIELD_U64, "tokens"),
    FIELD(store_result, flops, FIELD_F64, "floating-point operations"),
    FIELD(store_result, train_loss, FIELD_F64, "nats/token"),
    FIELD(store_result, valid_loss, FIELD_F64, "nats/token"),
    FIELD(store_result, test_loss, FIELD_F64, "nats/token"),
    FIELD(store_result, test_perplexity, FIELD_F64, "1"),
    FIELD(store_result, pretrain_loss, FIELD_F64, "nats/token"),
    FIELD(store_result, gradient_norm, FIELD_F64, "nats/token per unit of weight"),
    FIELD(store_result, test_tokens, FIELD_U64, "tokens"),
    FIELD(store_result, valid_tokens, FIELD_U64, "tokens"),
    FIELD(store_result, best_digest, FIELD_TEXT, "hexadecimal digest of the best checkpoint's tensors"),
    {"committed", FIELD_U32, STORE_MARKER_OFFSET, 4, "1: the row is committed", NULL},
    {"checksum", FIELD_U64, STORE_MARKER_OFFSET + 8, 8, "XXH3-64 of the row before `committed`", NULL},
};

const struct frozen_field store_curve_entry_fields[STORE_CURVE_ENTRY_FIELDS] = {
    FIELD(store_curve_entry, step, FIELD_F64, "optimiser steps"),
    FIELD(store_curve_entry, tokens, FIELD_F64, "tokens"),
    FIELD(store_curve_entry, train_loss, FIELD_F64, "nats/token"),
    FIELD(store_curve_entry, valid_loss, FIELD_F64, "nats/token"),
    FIELD(store_curve_entry, gradient_norm, FIELD_F64, "nats/token per unit of weight"),
    FIELD(store_curve_entry, learning_rate, FIELD_F64, "1"),
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct frozen_layout curve_entry_layout = {"curve entry",
                                                        "one evaluation",
                                                        sizeof(struct store_curve_entry),
                                                        sizeof(struct store_curve_entry),
                                                        store_curve_entry_fields,
                                                        STORE_CURVE_ENTRY_FIELDS};

static const struct frozen_field curve_fields[] = {
    FIELD(store_curve, identity, FIELD_TEXT, "hexadecimal digest of what the point computes"),
    FIELD(store_curve, count, FIELD_U64, "entries in use"),
    {"entries", FIELD_ROWS, offsetof(struct store_curve, entries), sizeof(((struct store_curve *)0)->entries),
     "one evaluation each", &curve_entry_layout},
    {"checksum", FIELD_U64, STORE_SLOT - 8, 8, "XXH3-64 of the row before it", NULL},
};

const struct frozen_layout store_layouts[STORE_DATASETS] = {
    [STORE_POINTS] = {"points", "what each point is; row i of every dataset is the same point",
                      sizeof(struct store_point), sizeof(struct store_point), point_fields, COUNT(point_fields)},
    [STORE_STATE_ROWS] = {"state", "how each point stands; rewritten while the sweep runs", STORE_STATE_SLOT,
                          sizeof(struct store_state), state_fields, COUNT(state_fields)},
    [STORE_EXECUTIONS] = {"execution", "where, when and how fast; meaningful where results.committed is 1",
                          STORE_EXECUTION_SLOT, sizeof(struct store_execution), execution_fields,
                          COUNT(execution_fields)},
    [STORE_RESULTS] = {"results", "what was computed; meaningful where committed is 1", STORE_SLOT,
                       sizeof(struct store_result), result_fields, COUNT(result_fields)},
    [STORE_CURVES] = {"curves", "losses during training; meaningful where results.committed is 1", STORE_SLOT,
                      sizeof(struct store_curve), curve_fields, COUNT(curve_fields)},
};

_Static_assert(sizeof(struct store_point) == 312,
               "a member of /points needs an entry in point_fields and a new version");
_Static_assert(sizeof(struct store_state) == 216, "likewise /state");
_Static_assert(sizeof(struct store_execution) == 256, "likewise /execution");
_Static_assert(sizeof(struct store_result) == 176, "likewise /results");
_Static_assert(sizeof(struct store_curve) == 40 + 48 * STORE_CURVE, "likewise /curves");

uint64_t store_offset(const struct store *store, enum store_dataset dataset, size_t index)
{
    return store->offsets[dataset] + (uint64_t)index * store_layouts[dataset].size;
}

void store_pack_checked(enum store_dataset dataset, const void *row, unsigned char *slot)
{
    const struct frozen_layout *layout = &store_layouts[dataset];
    frozen_layout_pack(layout, row, slot);
    uint64_t checksum = checksum_of(slot, layout->size - sizeof checksum);
    memcpy(slot + layout->size - sizeof checksum, &checksum, sizeof checksum);
}

static int compare_ranges(const void *a, const void *b)
{
    const struct seal_range *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

size_t store_unsealed(const uint64_t offsets[STORE_DATASETS], size_t count, struct seal_range *ranges)
{
    size_t used = 0;
    for (int i = 0; i < STORE_DATASETS; i++)
        if (i != STORE_POINTS)
            ranges[used++] = (struct seal_range){offsets[i], (uint64_t)count * store_layouts[i].size};
    qsort(ranges, used, sizeof *ranges, compare_ranges); /* HDF5 places small datasets as it likes */
    return used;
}
