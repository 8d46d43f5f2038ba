/* The layout of a dataset file: names, types and the digest over all parts. */
#include "io/text/dataset_format.h"

#include <inttypes.h>
#include <stdio.h>

#include "io/tokenizer/tokenizer.h"

#define EXAMPLE_PARTS(split)                                                                                           \
    {"/examples/" split "/tokens", PART_TOKENS, "begin, source, separator, target, end of each example"},              \
        {"/examples/" split "/offsets", PART_OFFSETS, "first token of each example, and the end of the last"},         \
    {                                                                                                                  \
        "/examples/" split "/sources", PART_COUNTS, "tokens before the first target token"                             \
    }

const struct part_format dataset_parts[PARTS] = {
    {"/tokenizer", PART_BYTES, "serialised sentencepiece model, or a tokenizer.json"},
    {"/text/train", PART_TOKENS, "pretraining text, documents closed by the end token"},
    {"/text/valid", PART_TOKENS, "text held back for validation"},
    EXAMPLE_PARTS("train"),
    EXAMPLE_PARTS("valid"),
    EXAMPLE_PARTS("test"),
};

const struct frozen_format dataset_file = {"tunelaw dataset", DATASET_VERSION, (uint64_t)16 << 20};

void dataset_specs(size_t vocabulary, struct frozen_spec specs[PARTS])
{
    static const char *const units[] = {"byte", "token id", "token index", "tokens"}; /* by enum part_kind */
    const enum frozen_type types[] = {FROZEN_U8, dataset_width(PART_TOKENS, vocabulary) == 2 ? FROZEN_U16 : FROZEN_U32,
                                      FROZEN_U64, FROZEN_U32};
    for (int i = 0; i < PARTS; i++) {
        const struct part_format *part = &dataset_parts[i];
        specs[i] = (struct frozen_spec){.name = part->path + 1, /* the slash */
                                        .description = part->description,
                                        .units = units[part->kind],
                                        .type = types[part->kind]};
    }
}

const char *dataset_split_name(enum dataset_split split)
{
    static const char *const names[SPLITS] = {"train", "valid", "test"};
    return split < SPLITS ? names[split] : "?";
}

size_t dataset_width(enum part_kind kind, size_t vocabulary)
{
    switch (kind) {
    case PART_BYTES:
        return 1;
    case PART_TOKENS:
        return vocabulary <= 65536 ? 2 : 4;
    case PART_OFFSETS:
        return 8;
    case PART_COUNTS:
        return 4;
    }
    return 0;
}

struct digest dataset_digest(const uint64_t counts[PARTS], const struct digest digests[PARTS],
                             const struct dataset_info *info)
{
    char text[PARTS * 128 + 256];
    /* 1: of what is hashed here, not of the file around it */
    size_t used = (size_t)snprintf(text, sizeof text, "dataset 1 vocabulary %zu separator %" PRId32 "\n",
                                   info->vocabulary, info->separator);
    if (info->sentinels)
        used += (size_t)snprintf(text + used, sizeof text - used, "reserved %" PRId32 " sentinels %zu\n",
                                 info->reserved, info->sentinels);
    if (info->begin != TOKEN_BEGIN || info->end != TOKEN_END)
        used += (size_t)snprintf(text + used, sizeof text - used, "begin %" PRId32 " end %" PRId32 "\n", info->begin,
                                 info->end);
    for (int i = 0; i < PARTS; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s %" PRIu64 " %s\n", dataset_parts[i].path,
                                 counts[i], digests[i].hex);
    return digest_of(text, used);
}
