/* The frozen layout of results.h5: the members of every dataset. */
#include <math.h>
#include <string.h>

#include "io/store/store_internal.h"

static const struct frozen_field point_fields[] = {
    FIELD(store_point, identity, FIELD_TEXT, "hexadecimal digest of what the point computes"),
    FIELD(store_point, base, FIELD_TEXT, "hexadecimal digest of the base that it starts from"),
    FIELD(store_point, trunk, FIELD_TEXT, "hexadecimal digest of the pretraining trunk"),
    FIELD(store_point, task, FIELD_TEXT, "name"),
    FIELD(store_point, model, FIELD_TEXT, "name"),
    FIELD(store_point, method, FIELD_TEXT, "name of the method in the sweep file, such as full or lora"),
    FIELD(store_point, parameters, FIELD_U64, "weights of the base"),
    FIELD(store_point, non_embedding_parameters, FIELD_U64, "weights of the base outside embeddings"),
    FIELD(store_point, trainable_parameters, FIELD_U64, "weights that the method trains"),
    FIELD(store_point, pretrain_tokens, FIELD_U64, "tokens"),
    FIELD(store_point, finetune_examples, FIELD_U64, "examples"),
    FIELD(store_point, pet_size, FIELD_U64, "LoRA rank, prompt or prefix length, adapter width; 0 for methods without"),
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
    FIELD(store_result, bleu, FIELD_F64, "0 to 100"),
    FIELD(store_result, chrf, FIELD_F64, "0 to 100"),
    FIELD(store_result, rouge1, FIELD_F64, "F1, 0 to 1"),
    FIELD(store_result, rouge2, FIELD_F64, "F1, 0 to 1"),
    FIELD(store_result, rougeL, FIELD_F64, "F1, 0 to 1"),
    FIELD(store_result, length_penalty, FIELD_F64, "exponent of the length"),
    FIELD(store_result, generated, FIELD_U64, "examples"),
    FIELD(store_result, beams, FIELD_U32, "beams"),
    FIELD(store_result, max_new_tokens, FIELD_U32, "tokens"),
    FIELD(store_result, generations, FIELD_TEXT, "hexadecimal digest of the generated texts"),
    FIELD(store_result, learning_rate, FIELD_F64, "1"),
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

#define LAYOUT(size, type, fields)                                                                                     \
    {                                                                                                                  \
        size, sizeof(struct type), fields, COUNT(fields)                                                               \
    }

static const struct frozen_layout curve_entry_layout =
    LAYOUT(sizeof(struct store_curve_entry), store_curve_entry, store_curve_entry_fields);

static const struct frozen_field curve_fields[] = {
    FIELD(store_curve, identity, FIELD_TEXT, "hexadecimal digest of what the point computes"),
    FIELD(store_curve, count, FIELD_U64, "entries in use"),
    {"entries", FIELD_ROWS, offsetof(struct store_curve, entries), sizeof(((struct store_curve *)0)->entries),
     "one evaluation each", &curve_entry_layout},
    {"checksum", FIELD_U64, STORE_SLOT - 8, 8, "XXH3-64 of the row before it", NULL},
};

static const struct frozen_layout point_layout = LAYOUT(sizeof(struct store_point), store_point, point_fields);
static const struct frozen_layout state_layout = LAYOUT(STORE_STATE_SLOT, store_state, state_fields);
static const struct frozen_layout execution_layout = LAYOUT(STORE_EXECUTION_SLOT, store_execution, execution_fields);
static const struct frozen_layout result_layout = LAYOUT(STORE_SLOT, store_result, result_fields);
static const struct frozen_layout curve_layout = LAYOUT(STORE_SLOT, store_curve, curve_fields);

/* Under the seal: all but the rows that are written while the sweep runs, and the block's copy, which is compared. */
const struct frozen_spec store_specs[STORE_DATASETS] = {
    [STORE_CONFIG] = {"config", "the sweep file's text", "text", FROZEN_TEXT, NULL, true},
    [STORE_PROVENANCE] = {"provenance", "the stores that rows were merged from, JSON lines", "text", FROZEN_TEXT, NULL,
                          true},
    [STORE_POINTS] = {"points", "what each point is; row i of every dataset is the same point", NULL, FROZEN_RECORD,
                      &point_layout, true},
    [STORE_POINT_CHECKSUMS] = {"point_checksums", "XXH3-64 of each row of /points", "1", FROZEN_U64, NULL, true},
    [STORE_STATE_ROWS] = {"state", "how each point stands; rewritten while the sweep runs", NULL, FROZEN_RECORD,
                          &state_layout, false},
    [STORE_EXECUTIONS] = {"execution", "where, when and how fast; meaningful where results.committed is 1", NULL,
                          FROZEN_RECORD, &execution_layout, false},
    [STORE_RESULTS] = {"results", "what was computed; meaningful where committed is 1", NULL, FROZEN_RECORD,
                       &result_layout, false},
    [STORE_CURVES] = {"curves", "losses during training; meaningful where results.committed is 1", NULL, FROZEN_RECORD,
                      &curve_layout, false},
    [STORE_POINTS_COPY] = {"points_copy", "rows of /points, each with its checksum: for salvage, docs/store-format.md",
                           "bytes", FROZEN_U8, NULL, true},
    [STORE_DIRECTORY] = {"directory", "the file's first bytes again: for salvage, docs/store-format.md", "bytes",
                         FROZEN_U8, NULL, false},
};

/* points, config and metadata: 10^7 points are 7 GB */
const struct frozen_format store_format = {"tunelaw store", STORE_VERSION, (uint64_t)16 << 30};

_Static_assert(sizeof(struct store_point) == 312,
               "a member of /points needs an entry in point_fields and a new version");
_Static_assert(sizeof(struct store_state) == 216, "likewise /state");
_Static_assert(sizeof(struct store_execution) == 256, "likewise /execution");
_Static_assert(sizeof(struct store_result) == 280, "likewise /results");
_Static_assert(sizeof(struct store_curve) == 40 + 48 * STORE_CURVE, "likewise /curves");

void store_result_without_generations(struct store_result *result)
{
    result->bleu = result->chrf = result->rouge1 = result->rouge2 = result->rougeL = result->length_penalty = NAN;
    result->generated = 0;
    result->beams = result->max_new_tokens = 0;
    memset(result->generations, 0, sizeof result->generations);
}

uint64_t store_offset(const struct store *store, enum store_dataset dataset, size_t index)
{
    return store->offsets[dataset] + (uint64_t)index * store_specs[dataset].layout->size;
}

void store_pack_checked(enum store_dataset dataset, const void *row, unsigned char *slot)
{
    const struct frozen_layout *layout = store_specs[dataset].layout;
    frozen_layout_pack(layout, row, slot);
    uint64_t checksum = checksum_of(slot, layout->size - sizeof checksum);
    memcpy(slot + layout->size - sizeof checksum, &checksum, sizeof checksum);
}
