/* Frozen files: stores, checkpoints and data sets. To everybody else each is an ordinary HDF5 file; to this program it
 * is its first 8 KB, an HDF5 user block, which says where every dataset lies and what its checksum is.
 *
 * HDF5 lays a file out once, when it is created: every dataset at its final size, contiguous, allocated, never filled,
 * of fixed little-endian types, with the attributes `description` and `units`, without times. From then on HDF5 is not
 * needed: rows are written and read at offsets, and what is read from a file was checked against the file's size, and
 * what never changes against checksums. A file may be hostile, its checksums forged: every number in it is.
 * Byte by byte: docs/store-format.md.
 *
 * HDF5 is not thread safe: frozen_create is called by one thread at a time. All other functions need no HDF5. */
#ifndef TUNELAW_IO_FROZEN_FROZEN_H
#define TUNELAW_IO_FROZEN_FROZEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

/* One member of a compound: as in the C struct, as in the file. */
enum frozen_kind { FIELD_TEXT, FIELD_U32, FIELD_U64, FIELD_F64, FIELD_ROWS };
struct frozen_layout;
struct frozen_field {
    const char *name;
    enum frozen_kind kind;
    size_t offset, size;
    const char *units;
    const struct frozen_layout *rows; /* FIELD_ROWS: an array of size / rows->size of these */
};

/* A compound. Members at or behind `payload` (markers, checksums) are not part of the C struct. */
struct frozen_layout {
    size_t size, payload; /* bytes of a row in the file, of the C struct */
    const struct frozen_field *fields;
    size_t field_count;
};

#define FIELD(type, member, kind, units)                                                                               \
    {                                                                                                                  \
#member, kind, offsetof(struct type, member), sizeof(((struct type *)0)->member), units, NULL                  \
    }

/* Row as it goes to the file, slot[layout->size], from a C struct: text is zero-padded, every NaN is the same one, the
 * rest is zero. */
void frozen_layout_pack(const struct frozen_layout *layout, const void *row, unsigned char *slot);
/* "field: unit" lines, malloc'ed; NULL when memory is exhausted. */
char *frozen_layout_units(const struct frozen_layout *layout);
/* XXH3-64 of the members' names, types and places; 0 when memory is exhausted. */
uint64_t frozen_layout_digest(const struct frozen_layout *layout);

/* What elements a dataset has. A text is one element of any size. */
enum frozen_type {
    FROZEN_RECORD,
    FROZEN_TEXT,
    FROZEN_U8,
    FROZEN_U16,
    FROZEN_U32,
    FROZEN_U64,
    FROZEN_F32,
    FROZEN_TYPES
};

/* A dataset as this program writes it. */
struct frozen_spec {
    const char *name; /* without the first slash */
    const char *description, *units;
    enum frozen_type type;
    const struct frozen_layout *layout; /* FROZEN_RECORD, which has units of its own */
    bool sealed;                        /* written before frozen_seal and never again: under a checksum */
};

/* A dataset in a file. frozen_create takes rows (of a text: 1, and its row_size) and gives the rest, frozen_locate
 * gives all. */
struct frozen_part {
    const struct frozen_spec *spec;
    uint64_t rows, row_size; /* row_size in bytes */
    uint64_t offset;         /* of row 0 in the file; 0 where there are no rows */
    uint64_t checksum;       /* of a sealed dataset's bytes, as the block has it; from frozen_locate */
};

/* An attribute of the file. */
struct frozen_attribute {
    const char *name;
    const char *text; /* NULL: the number */
    uint64_t number;
};

struct frozen_format {
    const char *kind; /* at most 31 characters, such as "tunelaw store" */
    uint32_t version;
    uint64_t sealed_limit; /* bytes; frozen_verify reads no more than that */
};

#define FROZEN_BLOCK 8192
#define FROZEN_PARTS 24
#define FROZEN_PAGE 4096 /* rows of whole pages begin on a page */

/* The user block, as it lies in the file. */
struct frozen_entry {
    char name[48];
    char type[8];    /* "record", "text", "u1", "u2", "u4", "u8", "f4" */
    uint64_t record; /* frozen_layout_digest of a record, else 0 */
    uint64_t row_size, rows, offset;
    uint64_t checksum; /* XXH3-64 of the dataset's bytes where it is sealed, else 0 */
    uint32_t sealed;   /* 1 or 0 */
    uint32_t reserved; /* 0 */
};
struct frozen_block {
    char kind[32];
    uint32_t version;
    uint32_t part_count;
    uint64_t file_size;
    uint64_t between; /* XXH3-64 of the bytes behind the block that are in no dataset: HDF5's own */
    uint64_t attribute_size;
    struct frozen_entry parts[FROZEN_PARTS];
    char attributes[5624]; /* name, zero byte, value, zero byte, ...; numbers in decimal */
    uint64_t checksum;     /* XXH3-64 of all before it */
};
_Static_assert(sizeof(struct frozen_block) == FROZEN_BLOCK, "the block has no padding");

/* A new file at `path` with these attributes (beside them `format` and `version`) and parts[count], in this order.
 * Their rows are still to be written, through *fd, open for reading and writing and closed by the caller; then
 * frozen_seal. *block is filled but for its checksums. An existing file or link is an error; on failure nothing is
 * left. */
int frozen_create(const char *path, const struct frozen_format *format, const struct frozen_attribute *attributes,
                  size_t attribute_count, struct frozen_part *parts, size_t count, struct frozen_block *block, int *fd,
                  struct error *err);

/* Compute the checksums and write the block (not synced). */
int frozen_seal(int fd, const char *path, struct frozen_block *block, struct error *err);

/* Read and check the block of a file: of this format, as long as it says, every dataset inside it and none over
 * another. `path` is for messages, here and below. */
int frozen_open(int fd, const char *path, const struct frozen_format *format, struct frozen_block *block,
                struct error *err);

/* The dataset of part->spec in a block that frozen_open has checked: it is there, with exactly this element. */
int frozen_locate(const struct frozen_block *block, const char *path, struct frozen_part *part, struct error *err);

/* Read everything that never changes and compare with the checksums. */
int frozen_verify(int fd, const char *path, const struct frozen_format *format, const struct frozen_block *block,
                  struct error *err);

/* Attributes of a checked block; a text is owned by the block. */
int frozen_get_text(const struct frozen_block *block, const char *path, const char *name, const char **text,
                    struct error *err);
int frozen_get_u64(const struct frozen_block *block, const char *path, const char *name, uint64_t *value,
                   struct error *err);

/* Whether the block is one of this format with the right checksum, readable names and attributes, whatever the file
 * around it is: its datasets may lie anywhere. For salvage. */
bool frozen_block_right(const struct frozen_block *block, const struct frozen_format *format);

/* Shared by frozen_*.c: the names of types, and whether what the block says of its datasets can be (*name: the first
 * one where it cannot). */
extern const char *const frozen_type_names[FROZEN_TYPES];
size_t frozen_element_size(const struct frozen_spec *spec); /* 0: a text */
const char *frozen_misplaced(const struct frozen_block *block, const char **name);

#endif
