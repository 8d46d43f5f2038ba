/* Texts as the metrics read them: sacrebleu's tokenizer 13a, rouge-score's, the characters of chrF. */
#ifndef TUNELAW_WORKERS_TEXT_METRIC_TEXT_H
#define TUNELAW_WORKERS_TEXT_METRIC_TEXT_H

#include "workers/text/ngrams.h"

/* The text with spaces between its tokens (malloc, the caller frees); NULL: no memory. */
char *metric_tokenise_13a(const char *text, struct error *err);
char *metric_tokenise_rouge(const char *text, struct error *err); /* also in lower case */

/* The next word at *at between white space (Python's str.split), *at moves behind it; NULL at the end. */
const char *metric_word(const char **at, size_t *size);

/* Code points that are not white space. */
int metric_characters(const char *text, struct symbols *out, struct error *err);

#endif
