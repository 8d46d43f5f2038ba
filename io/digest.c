/* Identities and checksums over XXH3 (libxxhash). */
#include "io/digest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

struct digest_stream {
    XXH3_state_t *state;
};

static struct digest digest_print(XXH128_hash_t hash)
{
    struct digest out;
    snprintf(out.hex, sizeof out.hex, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    return out;
}

struct digest digest_of(const void *bytes, size_t size)
{
    return digest_print(XXH3_128bits(bytes, size));
}

uint64_t checksum_of(const void *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

struct digest_stream *digest_stream_create(void)
{
    struct digest_stream *stream = malloc(sizeof *stream);
    if (!stream) return NULL;
    stream->state = XXH3_createState();
    if (!stream->state) {
        free(stream);
        return NULL;
    }
    XXH3_128bits_reset(stream->state);
    return stream;
}

void digest_stream_add(struct digest_stream *stream, const void *bytes, size_t size)
{
    XXH3_128bits_update(stream->state, bytes, size);
}

struct digest digest_stream_result(const struct digest_stream *stream)
{
    return digest_print(XXH3_128bits_digest(stream->state));
}

void digest_stream_destroy(struct digest_stream *stream)
{
    if (!stream) return;
    XXH3_freeState(stream->state);
    free(stream);
}

int digest_of_file(const char *path, struct digest *out, struct error *err)
{
    enum { BLOCK = 1 << 20 };
    int result = -1;
    struct digest_stream *stream = digest_stream_create();
    char *block = malloc(BLOCK);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        error_set_errno(err, "%s", path);
        goto done;
    }
    if (!stream || !block) {
        error_set(err, "out of memory while reading %s", path);
        goto done;
    }
    for (;;) {
        ssize_t got = read(fd, block, BLOCK);
        if (got < 0) {
            error_set_errno(err, "%s", path);
            goto done;
        }
        if (got == 0) break;
        digest_stream_add(stream, block, (size_t)got);
    }
    *out = digest_stream_result(stream);
    result = 0;
done:
    if (fd >= 0) close(fd);
    free(block);
    digest_stream_destroy(stream);
    return result;
}
