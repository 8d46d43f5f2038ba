/* Tokens that are looked for in the text itself, before any word is cut: "added_tokens" of a tokenizer.json. Private to
 * io/tokenizer. */
#ifndef TUNELAW_IO_TOKENIZER_ADDED_H
#define TUNELAW_IO_TOKENIZER_ADDED_H

#include "io/tokenizer/bpe.h"
#include "io/tokenizer/steps.h"

struct added_token {
    char *text; /* as it is written; owned */
    char *form; /* what is looked for; owned */
    size_t size;
    int32_t id;
    bool special;     /* not part of a decoded text */
    bool normalized;  /* looked for in the normal form of the text */
    bool left, right; /* takes the white space beside it */
};

struct added {
    struct added_token *list; /* by the first byte of their form, and the longest first */
    size_t count;
    size_t first[257]; /* index of the first one of each first byte */
};

/* tokens: the list, or NULL; normalizer: for those that are normalized; bpe: one of its pieces has the same id here. */
int added_read(const json_t *tokens, const struct steps *normalizer, const struct bpe *bpe, struct added *added,
               struct error *err);
void added_free(struct added *added);

/* The next token of text[size] at or behind `from`, of those that are normalized or those that are not, and the bytes
 * that it takes; NULL: none. */
const struct added_token *added_find(const struct added *added, bool normalized, const char *text, size_t size,
                                     size_t from, struct span *place);

#endif
