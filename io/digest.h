/* Identities and checksums: XXH3, 128 bits written as 32 lower-case hexadecimal digits, 64 bits for rows.
 * An identity is a name, not a secret: XXH3 is not cryptographic. */
#ifndef TUNELAW_IO_DIGEST_H
#define TUNELAW_IO_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

#define DIGEST_HEX 32 /* digits, without the terminating zero */

struct digest {
    char hex[DIGEST_HEX + 1]; /* zero-terminated; "" means none */
};

/* 128-bit XXH3 of `size` bytes. */
struct digest digest_of(const void *bytes, size_t size);

/* Incremental form; create returns NULL only when memory is exhausted. */
struct digest_stream;
struct digest_stream *digest_stream_create(void);
void digest_stream_add(struct digest_stream *stream, const void *bytes, size_t size);
struct digest digest_stream_result(const struct digest_stream *stream);
void digest_stream_destroy(struct digest_stream *stream);

/* Digest of a whole file, read in blocks. */
int digest_of_file(const char *path, struct digest *out, struct error *err);

/* 64-bit XXH3, the checksum of store rows and checkpoint tensors. */
uint64_t checksum_of(const void *bytes, size_t size);

#endif
