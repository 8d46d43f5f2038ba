/* The text from which a prompt begins, as token ids: of the data set's tokenizer, without begin and end; in a data set
 * that was made of ids, the text is ids, too: decimal numbers between spaces. */
#ifndef TUNELAW_WORKERS_MODEL_PROMPT_TEXT_H
#define TUNELAW_WORKERS_MODEL_PROMPT_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "io/error.h"
#include "io/text/dataset.h"

/* *ids is malloc'ed, the caller frees; at least one, all below the data set's vocabulary. */
int prompt_text_ids(const struct dataset *dataset, const char *text, int32_t **ids, size_t *count, struct error *err);

#endif
