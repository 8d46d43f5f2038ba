/* A tokenised dataset in one HDF5 file: pretraining text as one stream of tokens a split, finetuning examples with
 * offsets and the boundary between source and target.
 *
 * At full size: 10^11 pretraining tokens, 10^8 examples. Token arrays are contiguous datasets of uint16 (vocabulary up
 * to 65,536) or uint32 that readers map into memory; nothing is loaded whole.
 *
 *   /tokenizer                      uint8: serialised sentencepiece model, or the text of a tokenizer.json
 *   /text/{train,valid}             tokens; documents are closed by the end token
 *   /examples/{train,valid,test}/tokens   source then target; the begin token before the source, between them the id of
 *                                   attribute `separator`, the end token at the end
 *   /examples/SPLIT/offsets         uint64 [n+1] into tokens
 *   /examples/SPLIT/sources         uint32 [n]: tokens before the first target token (begin, source, separator)
 * Attributes of /: digest (of all the above, of vocabulary and separator), vocabulary, separator, task, description.
 * docs/store-format.md has the bytes. HDF5 is used to create the file, not to read it.
 *
 * Where ids are reserved for sentinels there are two attributes more, `reserved` (the first one) and `sentinels` (how
 * many, behind the three modes), and they are part of the digest. They are the pieces <R>, <S>, <X>, <extra_id_0>, ...
 * of the tokenizer (control symbols: no text ever encodes to them), or what is said of given ids.
 *
 * The separator is the id of the piece TOKENIZER_SEPARATOR ("<sep>", a control symbol: 4 in tokenizers trained here),
 * or what was asked for; none: the vocabulary's size. The begin and end tokens are TOKEN_BEGIN and TOKEN_END; where a
 * tokenizer.json has others they are the attributes `begin` (none: the vocabulary's size) and `end`, part of the
 * digest.
 *
 * The file is hostile until it is checked. Opening checks the layout, every place and length, all offsets and source
 * counts; tokens are too many for that, so a token that is not in the vocabulary reads as TOKEN_UNKNOWN, and
 * dataset_verify refuses it. */
#ifndef TUNELAW_IO_TEXT_DATASET_H
#define TUNELAW_IO_TEXT_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/digest.h"
#include "io/error.h"
#include "io/text/text.h"

#define DATASET_VERSION 2
#define DATASET_MODES 3 /* reserved ids before the sentinels */

enum dataset_split { SPLIT_TRAIN = 0, SPLIT_VALID, SPLIT_TEST, SPLITS };
const char *dataset_split_name(enum dataset_split split);

struct dataset_info {
    struct digest digest;
    char task[48];
    size_t vocabulary;
    size_t text_tokens[2]; /* train, valid */
    size_t examples[SPLITS];
    size_t example_tokens[SPLITS];
    size_t example_targets[SPLITS]; /* of example_tokens, those after the source: with a loss */
    size_t longest[SPLITS];         /* tokens of the longest example */
    size_t repeated[SPLITS];        /* by dataset_build alone: examples that are, token by token, of train, too */
    size_t endless;                 /* by dataset_build alone: examples whose target has no end token */
    int32_t begin, end;             /* ids before an example (-1: nothing) and behind it */
    int32_t separator;              /* id between source and target; -1: nothing. Of ids 0, and nothing is added */
    bool has_tokenizer;             /* false: it was made of ids */
    /* ids that no text has, for objectives of pretraining: from `reserved` on the modes R, S, X and then so many
     * sentinels; none: 0 */
    int32_t reserved;
    size_t sentinels;
};

struct dataset;
struct dataset *dataset_open(const char *path,
                             struct error *err); /* checks layout and bounds; the digest is not recomputed */
void dataset_close(struct dataset *dataset);
const struct dataset_info *dataset_info(const struct dataset *dataset);
/* Recompute the digest over all content; -1 where it differs from the stored one. */
int dataset_verify(const struct dataset *dataset, struct error *err);

/* out[count] = tokens [first, first+count) of the pretraining text of a split (SPLIT_TRAIN or SPLIT_VALID), wrapping
 * round at its end. An empty text reads as TOKEN_PAD. */
void dataset_text(const struct dataset *dataset, enum dataset_split split, uint64_t first, size_t count, int32_t *out);

/* A worker may call these from several threads; an index must be below info's count.
 * Copy example `index` of a split into out[capacity], cut to `capacity` tokens; returns its length in tokens and in
 * *source the number of tokens before the first target token (at most the length). */
size_t dataset_example(const struct dataset *dataset, enum dataset_split split, size_t index, size_t capacity,
                       int32_t *out, size_t *source);
/* Tokens of an example, uncut; those before its first target token. No token is read. */
size_t dataset_example_length(const struct dataset *dataset, enum dataset_split split, size_t index);
size_t dataset_example_source(const struct dataset *dataset, enum dataset_split split, size_t index);

/* Serialised sentencepiece model or the text of a tokenizer.json, owned by the dataset; *size 0: it was made of ids. */
const void *dataset_tokenizer(const struct dataset *dataset, size_t *size);

/* The attribute `description`, owned by the dataset. */
const char *dataset_description(const struct dataset *dataset);

struct dataset_files { /* of one split, joined in this order; the caller's */
    const char *const *paths;
    size_t count;
};

/* What `tunelaw data` builds from. Pairs are TSV files: source TAB target, UTF-8, one example a line. Text files: one
 * document a line. Either may be JSON lines (io/text/text.h). */
struct dataset_sources {
    const char *const *text; /* pretraining text files; may be none */
    size_t text_count;
    const char *const *valid_text; /* none: documents 1, 201, 401... of text are held back for validation */
    size_t valid_text_count;
    struct dataset_files pairs[SPLITS];
    struct text_fields fields; /* of JSON lines */
    const char *tokenizer;     /* as tokenizer_source_open; NULL: train one on text and training pairs */
    const char *end_token;     /* of a tokenizer.json, or NULL: as its folder says */
    const char *separator;     /* of `tokenizer`: the text of one piece; "": none; NULL: <sep>, else a newline */
    bool as_written;   /* of a tokenizer.json: pairs spell their special tokens themselves, as a chat's template does;
                          nothing is added, source and target are one text. Documents end as ever */
    size_t vocabulary; /* wanted size when training; with `ids` that of their tokenizer */
    size_t sentinels;  /* to reserve: pieces of a trained tokenizer; with `ids` from first_reserved on */
    size_t first_reserved; /* with `ids` */
    bool ids; /* the files hold token ids of another tokenizer, as decimal numbers between spaces: nothing is added to
                 them, and the data set has no tokenizer (separator: 0). None may be one of `sentinels` */
    const char *task; /* a name (text_is_name), or NULL: none */
    const char *description;
};
/* Build PATH. All input is checked first; malformed input (not UTF-8, a missing column, an empty file or example) is
 * refused with FILE:LINE. Tokens go through unnamed files beside PATH, then PATH.tmp, which is synced, opened, and
 * renamed: on failure nothing is left and an older PATH is as it was. Memory does not grow with the input, except for
 * training a tokenizer (TOKENIZER_TRAIN_BYTES) and some 25 bytes an example of validation and test. *info may be NULL.
 */
int dataset_build(const char *path, const struct dataset_sources *sources, struct dataset_info *info,
                  struct error *err);

#endif
