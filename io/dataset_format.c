/* The layout of a dataset file: names, types and the digest over all parts. */
#include "io/dataset_format.h"

#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>

_Static_assert(sizeof(hid_t) == sizeof(int64_t), "dataset_type returns an HDF5 identifier");

#define EXAMPLE_PARTS(split)                                                                                           \
    {"/examples/" split "/tokens", PART_TOKENS, "begin, source, separator, target, end of each example"},              \
        {"/examples/" split "/offsets", PART_OFFSETS, "first token of each example, and the end of the last"},         \
    {                                                                                                                  \
        "/examples/" split "/sources", PART_COUNTS, "tokens before the first target token"                             \
    }

const struct part_format dataset_parts[PARTS] = {
    {"/tokenizer", PART_BYTES, "serialised sentencepiece model"},
    {"/text/train", PART_TOKENS, "pretraining text, documents closed by the end token"},
    {"/text/valid", PART_TOKENS, "text held back for validation"},
    EXAMPLE_PARTS("train"),
    EXAMPLE_PARTS("valid"),
    EXAMPLE_PARTS("test"),
};

const char *dataset_units(enum part_kind kind)
{
    return kind == PART_BYTES     ? "byte"
           : kind == PART_TOKENS  ? "token id"
           : kind == PART_OFFSETS ? "token index"
                                  : "tokens";
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

int64_t dataset_type(size_t width)
{
    switch (width) {
    case 1:
        return H5T_STD_U8LE;
    case 2:
        return H5T_STD_U16LE;
    case 4:
        return H5T_STD_U32LE;
    default:
        return H5T_STD_U64LE;
    }
}

struct digest dataset_digest(const uint64_t counts[PARTS], const struct digest digests[PARTS], size_t vocabulary,
                             int32_t separator)
{
    char text[PARTS * 128 + 128];
    size_t used = (size_t)snprintf(text, sizeof text, "dataset %d vocabulary %zu separator %" PRId32 "\n",
                                   DATASET_VERSION, vocabulary, separator);
    for (int i = 0; i < PARTS; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s %" PRIu64 " %s\n", dataset_parts[i].path,
                                 counts[i], digests[i].hex);
    return digest_of(text, used);
}
