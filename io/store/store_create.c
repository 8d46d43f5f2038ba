/* Creates an empty store of a sweep's points: every dataset at its final size, points and texts written, the points
 * once more for salvage. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/log.h"
#include "io/store/store_internal.h"

static const char *text_or(const char *text, const char *otherwise)
{
    return text ? text : otherwise;
}

static uint64_t text_size(const char *text)
{
    size_t size = strlen(text);
    return size > 0 ? size : 1; /* HDF5 has no text of size 0 */
}

/* The datasets of a store of these points. */
static int parts_fill(struct frozen_part parts[STORE_DATASETS], const struct store_header *header, size_t count,
                      struct error *err)
{
    const char *const texts[] = {header->config_text, text_or(header->provenance, "")};
    for (int i = 0; i < STORE_DATASETS; i++)
        parts[i] = (struct frozen_part){.spec = &store_specs[i], .rows = count};
    for (int i = STORE_CONFIG; i <= STORE_PROVENANCE; i++) {
        parts[i].rows = 1;
        parts[i].row_size = text_size(texts[i]);
        if (parts[i].row_size > STORE_CONFIG_LIMIT)
            return error_set(err, "%s is %llu bytes long; a store holds up to %zu", store_specs[i].description,
                             (unsigned long long)parts[i].row_size, STORE_CONFIG_LIMIT);
    }
    parts[STORE_POINTS_COPY].rows = count * sizeof(struct store_point_copy);
    parts[STORE_DIRECTORY].rows = sizeof(struct frozen_block);
    return 0;
}

static int file_create(struct store_file *file, const struct store_header *header, uint64_t epoch, size_t count,
                       struct error *err)
{
    char created[32];
    time_t now = (time_t)clock_wall();
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    const struct frozen_attribute attributes[] = {
        {"epoch", NULL, epoch},
        {"name", header->name, 0},
        {"config_path", header->config_path, 0},
        {"program_version", header->version, 0},
        {"dataset_digest", header->dataset_digest, 0},
        {"created", created, 0},
        {"shard", text_or(header->shard, ""), 0},
        {"made_by", text_or(header->made_by, "run"), 0},
    };
    struct frozen_part parts[STORE_DATASETS];
    if (parts_fill(parts, header, count, err) != 0) return error_prefix(err, "%s", file->path);
    if (frozen_create(file->path, &store_format, attributes, sizeof attributes / sizeof *attributes, parts,
                      STORE_DATASETS, &file->block, &file->fd, err) != 0)
        return -1;
    for (int i = 0; i < STORE_DATASETS; i++)
        file->offsets[i] = parts[i].offset;
    return 0;
}

/* `size` bytes of a dataset, at `at` behind its beginning. */
static int dataset_write(const struct store_file *file, enum store_dataset dataset, uint64_t at, const void *bytes,
                         size_t size, struct error *err)
{
    if (file_write_at(file->fd, bytes, size, file->offsets[dataset] + at) == 0) return 0;
    return error_set_errno(err, "%s: cannot write dataset %s", file->path, store_specs[dataset].name);
}

enum { CHUNK = 1024 };
struct chunk {
    struct store_point rows[CHUNK];
    uint64_t checksums[CHUNK];
    struct store_point_copy copies[CHUNK];
};

static int chunk_write(const struct store_file *file, struct chunk *chunk, const struct store_point *points,
                       size_t first, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        frozen_layout_pack(store_specs[STORE_POINTS].layout, &points[first + i], (unsigned char *)&chunk->rows[i]);
        chunk->checksums[i] = checksum_of(&chunk->rows[i], sizeof chunk->rows[i]);
        chunk->copies[i] = (struct store_point_copy){chunk->rows[i], chunk->checksums[i]};
    }
    const struct {
        enum store_dataset dataset;
        const void *rows;
        size_t size;
    } parts[] = {{STORE_POINTS, chunk->rows, sizeof chunk->rows[0]},
                 {STORE_POINT_CHECKSUMS, chunk->checksums, sizeof chunk->checksums[0]},
                 {STORE_POINTS_COPY, chunk->copies, sizeof chunk->copies[0]}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (dataset_write(file, parts[i].dataset, first * parts[i].size, parts[i].rows, count * parts[i].size, err) !=
            0)
            return -1;
    return 0;
}

/* /points, its checksums, and both in one. */
static int points_write(const struct store_file *file, const struct store_point *points, size_t count,
                        struct error *err)
{
    struct chunk *chunk = malloc(sizeof *chunk);
    int result = chunk ? 0 : error_set(err, "%s: out of memory", file->path);
    for (size_t first = 0; first < count && result == 0; first += CHUNK)
        result = chunk_write(file, chunk, points, first, count - first < CHUNK ? count - first : CHUNK, err);
    free(chunk);
    return result;
}

int store_layout_write(struct store_file *file, const struct store_header *header, uint64_t epoch,
                       const struct store_point *points, size_t count, struct error *err)
{
    const char *provenance = text_or(header->provenance, "");
    if (file_create(file, header, epoch, count, err) != 0) return -1;
    if (dataset_write(file, STORE_CONFIG, 0, header->config_text, text_size(header->config_text), err) == 0 &&
        dataset_write(file, STORE_PROVENANCE, 0, provenance, text_size(provenance), err) == 0 &&
        points_write(file, points, count, err) == 0)
        return 0;
    close(file->fd);
    file->fd = -1;
    unlink(file->path);
    return -1;
}
