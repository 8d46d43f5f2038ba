/* The seal: the first SEAL_SIZE bytes of our HDF5 files (an HDF5 user block, which HDF5 readers skip).
 *
 * It holds what the file is, its version and size, and a checksum over every byte of the file that never changes:
 * HDF5's own metadata and the datasets that are written once, at creation. It is checked before the HDF5 library sees
 * the file, so that a damaged or foreign file is refused with a line instead of upsetting the library. Byte by byte:
 * docs/store-format.md. */
#ifndef TUNELAW_IO_SEAL_H
#define TUNELAW_IO_SEAL_H

#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

#define SEAL_SIZE 4096
#define SEAL_RANGES 8

/* Bytes of the file that are not under the seal: rows that are written later, tensors with checksums of their own. */
struct seal_range {
    uint64_t offset, size;
};

/* Compute and write the seal of a complete file (not synced). kind: at most 31 characters, such as "tunelaw store".
 * ranges[count] are sorted and do not overlap. */
int seal_write(int fd, const char *path, const char *kind, uint32_t version, const struct seal_range *ranges,
               size_t count, struct error *err);

/* Check the seal of a file. It must be of this kind and version, with `count` ranges, which are returned: sorted,
 * inside the file. At most sealed_limit bytes may be under the seal (they are all read). `path` is for messages. */
int seal_check(int fd, const char *path, const char *kind, uint32_t version, uint64_t sealed_limit,
               struct seal_range *ranges, size_t count, struct error *err);

#endif
