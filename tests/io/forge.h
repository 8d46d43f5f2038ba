/* Right checksums around changed bytes of a frozen file, as someone would put them there who forges one. */
#ifndef TUNELAW_TESTS_IO_FORGE_H
#define TUNELAW_TESTS_IO_FORGE_H

#include <string.h>
#include <xxhash.h>

#include "io/digest.h"
#include "io/frozen/frozen.h"

/* The first dataset with rows that begins at or behind `at`, or NULL. */
static inline const struct frozen_entry *forge_next(const struct frozen_block *block, uint64_t at)
{
    const struct frozen_entry *next = NULL;
    for (size_t i = 0; i < block->part_count; i++) {
        const struct frozen_entry *entry = &block->parts[i];
        if (entry->rows > 0 && entry->offset >= at && (!next || entry->offset < next->offset)) next = entry;
    }
    return next;
}

static inline uint64_t forge_between(const struct frozen_block *block, const unsigned char *bytes)
{
    XXH3_state_t *state = XXH3_createState();
    XXH3_64bits_reset(state);
    uint64_t at = FROZEN_BLOCK;
    for (const struct frozen_entry *entry; (entry = forge_next(block, at));) {
        XXH3_64bits_update(state, bytes + at, (size_t)(entry->offset - at));
        at = entry->offset + entry->rows * entry->row_size;
    }
    XXH3_64bits_update(state, bytes + at, (size_t)(block->file_size - at));
    uint64_t sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return sum;
}

/* Put this block at the beginning of the file, and of a store also in its /directory, with its own checksum right and
 * the others as they are. */
static inline void forge_block(unsigned char *bytes, size_t size, struct frozen_block *block)
{
    block->checksum = checksum_of(block, offsetof(struct frozen_block, checksum));
    memcpy(bytes, block, sizeof *block);
    for (size_t i = 0; i < block->part_count && i < FROZEN_PARTS; i++) {
        const struct frozen_entry *entry = &block->parts[i];
        if (strncmp(entry->name, "directory", sizeof entry->name) == 0 && entry->offset >= sizeof *block &&
            size > sizeof *block && entry->offset <= size - sizeof *block)
            memcpy(bytes + entry->offset, block, sizeof *block);
    }
}

/* All checksums as the bytes are, where the block says where they lie; else the block's own. */
static inline void forge(unsigned char *bytes, size_t size)
{
    struct frozen_block block;
    const char *name;
    if (size < sizeof block) return;
    memcpy(&block, bytes, sizeof block);
    block.file_size = size;
    for (size_t i = 0; i < block.part_count && i < FROZEN_PARTS; i++)
        if (!block.parts[i].sealed) block.parts[i].checksum = 0;
    if (!frozen_misplaced(&block, &name)) {
        block.between = forge_between(&block, bytes);
        for (size_t i = 0; i < block.part_count; i++) {
            struct frozen_entry *entry = &block.parts[i];
            if (entry->sealed)
                entry->checksum = checksum_of(bytes + entry->offset, (size_t)(entry->rows * entry->row_size));
        }
    }
    forge_block(bytes, size, &block);
}

/* The entry of a dataset in a block, or NULL. */
static inline struct frozen_entry *forge_entry(struct frozen_block *block, const char *name)
{
    for (size_t i = 0; i < block->part_count; i++)
        if (strcmp(block->parts[i].name, name) == 0) return &block->parts[i];
    return NULL;
}

/* Give an attribute another value (NULL: remove it); the others stay. */
static inline void forge_attribute(struct frozen_block *block, const char *name, const char *value)
{
    struct frozen_block changed = *block;
    memset(changed.attributes, 0, sizeof changed.attributes);
    changed.attribute_size = 0;
    for (size_t at = 0; at < block->attribute_size;) {
        const char *pair[2] = {block->attributes + at, block->attributes + at + strlen(block->attributes + at) + 1};
        at += strlen(pair[0]) + 1 + strlen(pair[1]) + 1;
        if (strcmp(pair[0], name) == 0) pair[1] = value;
        for (int i = 0; pair[1] && i < 2; i++) {
            strcpy(changed.attributes + changed.attribute_size, pair[i]);
            changed.attribute_size += strlen(pair[i]) + 1;
        }
    }
    *block = changed;
}

#endif
