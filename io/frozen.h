/* Frozen HDF5 files: stores and checkpoints. Every dataset is contiguous, allocated at creation and never filled, of
 * fixed little-endian types, with the attributes `description` and `units`, without times, without file locks.
 *
 * HDF5 is not thread safe: all of io's functions that read or write HDF5 files are called by one thread at a time. */
#ifndef TUNELAW_IO_FROZEN_H
#define TUNELAW_IO_FROZEN_H

#include <hdf5.h>
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

/* A compound dataset. Members at or behind `payload` (markers, checksums) are not part of the C struct. */
struct frozen_layout {
    const char *name, *description;
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
hid_t frozen_layout_type(const struct frozen_layout *layout); /* H5Tclose by the caller */
/* "field: unit" lines, malloc'ed; NULL when memory is exhausted. */
char *frozen_layout_units(const struct frozen_layout *layout);

/* As error_set, right behind an HDF5 call that failed: what the system said to HDF5 (a full disk) is appended. */
int frozen_fail(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A new file at `path` with a user block of user_block bytes (0, or a power of two from 512); an existing file or link
 * is an error. From STORE_SLOT bytes on, datasets begin at multiples of 4096. */
hid_t frozen_create(const char *path, size_t user_block, struct error *err);
/* Read-only, the file behind `fd`; `path` is for messages. */
hid_t frozen_open_fd(int fd, const char *path, struct error *err);

/* A new dataset; dims[rank], rank 0 is a scalar. */
hid_t frozen_dataset_create(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims,
                            const char *description, const char *units, struct error *err);
/* As frozen_dataset_create, of `rows` rows; *offset is where row 0 lies in the file (0 where there are no rows). */
int frozen_layout_create(hid_t file, const struct frozen_layout *layout, size_t rows, uint64_t *offset,
                         struct error *err);

/* Open a dataset that must be contiguous, stored in this file inside file_size bytes, of exactly this type and rank;
 * fills dims[rank] and *offset (may be NULL). */
hid_t frozen_dataset_open(hid_t file, const char *path, const char *name, hid_t type, int rank, hsize_t *dims,
                          uint64_t file_size, uint64_t *offset, struct error *err);
/* Check a dataset of a layout: *rows and *offset as frozen_layout_create gave them. */
int frozen_layout_check(hid_t file, const char *path, const struct frozen_layout *layout, uint64_t file_size,
                        size_t *rows, uint64_t *offset, struct error *err);

/* Attributes: fixed zero-padded text, uint64. Text read is malloc'ed and zero-terminated. */
int frozen_put_text(hid_t object, const char *name, const char *text, struct error *err);
int frozen_put_u64(hid_t object, const char *name, uint64_t value, struct error *err);
int frozen_get_text(hid_t object, const char *path, const char *name, char **text, struct error *err);
int frozen_get_u64(hid_t object, const char *path, const char *name, uint64_t *value, struct error *err);

#endif
