/* The tokenizer of a Hugging Face model's folder beside that of a data set: ids mean the same pieces, or not.
 *
 * At full size: a tokenizer.json of 200,000 pieces and 30 MB, read once a model and data set with a tokenizer. */
#ifndef TUNELAW_IO_TEXT_TOKENIZER_FOLDER_H
#define TUNELAW_IO_TEXT_TOKENIZER_FOLDER_H

#include <stddef.h>

#include "io/error.h"

enum tokenizer_match {
    TOKENIZERS_UNKNOWN, /* the folder has none that can be compared, or the data set has none (ids, `size` 0) */
    TOKENIZERS_SAME,
    TOKENIZERS_DIFFER
};

/* model[size]: the data set's tokenizer. The folder's tokenizer.json, sentencepiece.model or tokenizer.model, the first
 * that can be read as such: the same where all but a few pieces (special ones have other names after a
 * conversion, one may have become the separator) have the ids that they have in the data set. file[size_of_file]: what
 * was compared. -1: model is none (seen where it is not the folder's file itself). */
int tokenizer_match_folder(const char *dir, const void *model, size_t size, enum tokenizer_match *match, char *file,
                           size_t size_of_file, struct error *err);

#endif
