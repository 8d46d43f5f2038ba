/* Byte pair encoding with a given vocabulary and list of merges (Sennrich et al. 2016, as tokenizer.json has it).
 * Private to io/tokenizer.
 *
 * At full size: 10^6 pieces and merges; a word of n characters takes n log n, since one may be a whole document.
 * Nothing changes after bpe_create: several threads may encode. */
#ifndef TUNELAW_IO_TOKENIZER_BPE_H
#define TUNELAW_IO_TOKENIZER_BPE_H

#include <jansson.h>

#include "io/tokenizer/bytes.h"

#define BPE_LARGEST 1000000 /* ids are below */

struct bpe;

/* model: the group "model" of a tokenizer.json; what is not supported or does not fit is refused. */
struct bpe *bpe_create(const json_t *model, struct error *err);
void bpe_destroy(struct bpe *bpe);

/* One more than the largest id. */
size_t bpe_size(const struct bpe *bpe);
/* NULL: no piece has this id. As long as bpe. */
const char *bpe_piece(const struct bpe *bpe, size_t id);
/* -1: there is no such piece. */
int32_t bpe_id(const struct bpe *bpe, const char *piece, size_t size);

/* What bpe_encode works with; one a thread, zeroed at first. */
struct bpe_scratch {
    struct bpe_symbol *symbols;
    struct bpe_candidate *heap;
    size_t symbol_room, heap_room;
};
void bpe_scratch_free(struct bpe_scratch *scratch);
/* The ids of a word of valid UTF-8 behind *out. */
int bpe_encode(const struct bpe *bpe, const char *word, size_t size, struct bpe_scratch *scratch, struct ids *out,
               struct error *err);

#endif
