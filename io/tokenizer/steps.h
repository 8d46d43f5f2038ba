/* The steps of a tokenizer.json around its model: normalizers and pre-tokenizers before it, decoders behind it, as the
 * library tokenizers of Hugging Face defines them. Private to io/tokenizer.
 *
 * Nothing changes after steps_read: several threads may use the same steps. Texts are valid UTF-8 without zero bytes.
 */
#ifndef TUNELAW_IO_TOKENIZER_STEPS_H
#define TUNELAW_IO_TOKENIZER_STEPS_H

#include <jansson.h>
#include <stdbool.h>

#include "io/tokenizer/bytes.h"

enum step_kind {
    /* normalizers */
    STEP_NFC,
    STEP_NFD,
    STEP_NFKC,
    STEP_NFKD,
    STEP_LOWERCASE,
    STEP_PREPEND,
    STEP_REPLACE, /* a decoder, too */
    /* pre-tokenizers */
    STEP_SPLIT,
    STEP_BYTE_LEVEL, /* a decoder, too */
    STEP_METASPACE,  /* a decoder, too */
    /* decoders */
    STEP_BYTE_FALLBACK,
    STEP_FUSE,
    STEP_STRIP
};

/* What becomes of the pieces that a split finds. */
enum split_behaviour { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_CONTIGUOUS, SPLIT_WITH_PREVIOUS, SPLIT_WITH_NEXT };
enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct step {
    enum step_kind kind;
    struct re_pattern_buffer *regex; /* split, replace: or `text` */
    char *text;                      /* split, replace: what is looked for; owned */
    char *content;                   /* prepend, replace, metaspace, strip: owned */
    enum split_behaviour behaviour;
    bool invert;
    bool adds_space, splits; /* byte level; metaspace splits */
    enum prepend_scheme scheme;
    size_t start, stop; /* strip */
};

struct steps {
    bool there; /* an empty list is another thing than none, to a decoder */
    struct step *list;
    size_t count;
};

enum step_group { STEPS_NORMALIZER, STEPS_PRE_TOKENIZER, STEPS_DECODER };

/* object: the group of a tokenizer.json, or NULL or null: no steps. What is not supported is refused. */
int steps_read(const json_t *object, enum step_group group, struct steps *steps, struct error *err);
void steps_free(struct steps *steps);

/* The text is replaced by its normal form. */
int steps_normalize(const struct steps *steps, struct bytes *text, struct error *err);
/* The text and its words: *text is replaced where a step changes it. first: it is the beginning of what is encoded. */
int steps_split(const struct steps *steps, bool first, struct bytes *text, struct spans *words, struct error *err);
/* From the pieces of ids (words of *text) to a text, which replaces *text. */
int steps_decode(const struct steps *steps, struct bytes *text, struct spans *pieces, struct error *err);

/* A member that is true or false; otherwise: it is neither. */
bool step_flag(const json_t *object, const char *key, bool otherwise);

/* Private to steps*.c. Where `step` finds something from `from` on: 1, 0, -1. A pattern may find nothing at a place (a
 * cut), but not right behind what it has found before: at `from`, where `again` says that it ends there. */
int step_find(const struct step *step, const struct bytes *text, size_t from, bool again, struct span *found,
              struct error *err);
/* All that a replacing step finds in text[size] is replaced, behind *out. */
int step_replace(const struct step *step, const char *text, size_t size, struct bytes *out, struct error *err);
/* The character that stands for a byte in byte-level pieces: two bytes at most behind *out. */
int byte_character(unsigned char byte, struct bytes *out, struct error *err);
/* The byte that the character at text stands for; -1: none. */
int character_byte(const char *text, size_t size);

#endif
