/* Creates an empty store of a sweep's points: every dataset at its final size, points and header written, and the
 * directory by which a damaged store is read. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/log.h"
#include "io/store_internal.h"

static const char *text_or(const char *text, const char *otherwise)
{
    return text ? text : otherwise;
}

static int attributes_write(hid_t file, const struct store_header *header, uint64_t epoch, struct error *err)
{
    char created[32];
    time_t now = (time_t)clock_wall();
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (frozen_put_text(file, "format", STORE_KIND, err) != 0 ||
        frozen_put_u64(file, "version", STORE_VERSION, err) != 0 || frozen_put_u64(file, "epoch", epoch, err) != 0 ||
        frozen_put_text(file, "name", header->name, err) != 0 ||
        frozen_put_text(file, "config_path", header->config_path, err) != 0 ||
        frozen_put_text(file, "program_version", header->version, err) != 0 ||
        frozen_put_text(file, "dataset_digest", header->dataset_digest, err) != 0 ||
        frozen_put_text(file, "created", created, err) != 0 ||
        frozen_put_text(file, "shard", text_or(header->shard, ""), err) != 0 ||
        frozen_put_text(file, "made_by", text_or(header->made_by, "run"), err) != 0)
        return -1;
    return 0;
}

static int text_write(hid_t file, const char *name, const char *description, const char *text, struct store_span *span,
                      struct error *err)
{
    size_t size = strlen(text);
    if (size > STORE_CONFIG_LIMIT)
        return error_set(err, "%s is %zu bytes long; a store holds up to %zu", description, size, STORE_CONFIG_LIMIT);
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size > 0 ? size : 1);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    hid_t dataset = frozen_dataset_create(file, name, type, 0, NULL, description, "text", err);
    int result = -1;
    if (dataset >= 0) {
        *span =
            (struct store_span){H5Dget_offset(dataset), size > 0 ? size : 1, checksum_of(text, size > 0 ? size : 1)};
        result = H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) < 0
                     ? frozen_fail(err, "HDF5 cannot write dataset %s", name)
                     : 0;
        H5Dclose(dataset);
    }
    H5Tclose(type);
    return result;
}

/* An array of bytes or numbers in one piece; *offset is where it lies. */
static int array_write(hid_t file, const char *name, hid_t type, size_t count, const void *values,
                       const char *description, const char *units, uint64_t *offset, struct error *err)
{
    hsize_t dims[1] = {count};
    hid_t dataset = frozen_dataset_create(file, name, type, 1, dims, description, units, err);
    if (dataset < 0) return -1;
    *offset = H5Dget_offset(dataset);
    int result = H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0
                     ? frozen_fail(err, "HDF5 cannot write dataset %s", name)
                     : 0;
    H5Dclose(dataset);
    return result;
}

/* Rows of /points as they lie in the file, each with its checksum; malloc'ed. */
static struct store_point_copy *points_pack(const struct store_point *points, size_t count, struct error *err)
{
    struct store_point_copy *copies = calloc(count, sizeof *copies);
    if (!copies) {
        error_set(err, "out of memory for %zu points", count);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        frozen_layout_pack(&store_layouts[STORE_POINTS], &points[i], (unsigned char *)&copies[i].point);
        copies[i].checksum = checksum_of(&copies[i].point, sizeof copies[i].point);
    }
    return copies;
}

static int points_write(hid_t file, const struct store_point_copy *copies, size_t count, struct error *err)
{
    const struct frozen_layout *layout = &store_layouts[STORE_POINTS];
    struct store_point *rows = malloc(count * sizeof *rows);
    hid_t type = frozen_layout_type(layout);
    hid_t dataset = H5Dopen2(file, layout->name, H5P_DEFAULT);
    for (size_t i = 0; rows && i < count; i++)
        rows[i] = copies[i].point;
    int result = !rows || type < 0 || dataset < 0 || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) < 0
                     ? frozen_fail(err, "HDF5 cannot write dataset %s", layout->name)
                     : 0;
    H5Dclose(dataset);
    H5Tclose(type);
    free(rows);
    return result;
}

static int checksums_write(hid_t file, const struct store_point_copy *copies, size_t count, uint64_t *offset,
                           struct error *err)
{
    uint64_t *checksums = malloc(count * sizeof *checksums);
    if (!checksums) return error_set(err, "out of memory for %zu points", count);
    for (size_t i = 0; i < count; i++)
        checksums[i] = copies[i].checksum;
    int result = array_write(file, "point_checksums", H5T_STD_U64LE, count, checksums, "XXH3-64 of each row of /points",
                             "1", offset, err);
    free(checksums);
    return result;
}

/* /points and its checksums in front, the rows in the middle, the copy of /points at the end: no damage in one place
 * takes a description from its row. */
static int datasets_create(hid_t file, const struct store_point *points, size_t count,
                           struct store_directory *directory, struct error *err)
{
    uint64_t *offsets = directory->offsets;
    struct store_point_copy *copies = points_pack(points, count, err);
    int result = copies ? 0 : -1;
    for (int i = 0; i < STORE_DATASETS && result == 0; i++) {
        result = frozen_layout_create(file, &store_layouts[i], count, &offsets[i], err);
        if (result == 0 && i == STORE_POINTS)
            result = checksums_write(file, copies, count, &directory->point_checksums, err);
        if (result == 0 && store_layouts[i].size % STORE_SLOT == 0 && offsets[i] % STORE_SLOT != 0)
            result = error_set(err, "HDF5 has not aligned dataset %s", store_layouts[i].name);
    }
    if (result == 0) result = points_write(file, copies, count, err);
    if (result == 0)
        result = array_write(file, "points_copy", H5T_STD_U8LE, count * sizeof *copies, copies,
                             "rows of /points, each with its checksum: for salvage, docs/store-format.md", "bytes",
                             &directory->points_copy, err);
    free(copies);
    return result;
}

static int directory_write(hid_t file, const struct store_header *header, struct store_directory *directory,
                           uint64_t *offset, struct error *err)
{
    unsigned char page[STORE_DIRECTORY_SIZE] = {0};
    directory->version = STORE_VERSION;
    store_field(directory->kind, sizeof directory->kind, STORE_DIRECTORY_KIND);
    store_field(directory->name, sizeof directory->name - 1, header->name);
    store_field(directory->dataset_digest, sizeof directory->dataset_digest - 1, header->dataset_digest);
    store_field(directory->shard, sizeof directory->shard - 1, text_or(header->shard, ""));
    store_field(directory->made_by, sizeof directory->made_by - 1, text_or(header->made_by, "run"));
    store_field(directory->program_version, sizeof directory->program_version - 1, header->version);
    store_field(directory->config_path, sizeof directory->config_path - 1, header->config_path);
    directory->checksum = checksum_of(directory, offsetof(struct store_directory, checksum));
    memcpy(page, directory, sizeof *directory);
    return array_write(file, "directory", H5T_STD_U8LE, sizeof page, page,
                       "where the datasets lie: for salvage, docs/store-format.md", "bytes", offset, err);
}

int store_layout_write(const char *path, const struct store_header *header, uint64_t epoch,
                       const struct store_point *points, size_t count, uint64_t offsets[STORE_DATASETS],
                       uint64_t *directory_offset, struct error *err)
{
    struct store_directory directory = {.rows = count, .epoch = epoch};
    hid_t file = frozen_create(path, SEAL_SIZE, err);
    if (file < 0) return -1;
    int result = -1;
    if (attributes_write(file, header, epoch, err) != 0 ||
        text_write(file, "config", "the sweep file's text", header->config_text, &directory.config, err) != 0 ||
        text_write(file, "provenance", "the stores that rows were merged from, JSON lines",
                   text_or(header->provenance, ""), &directory.provenance, err) != 0 ||
        datasets_create(file, points, count, &directory, err) != 0)
        goto done;
    memcpy(offsets, directory.offsets, sizeof directory.offsets);
    result = directory_write(file, header, &directory, directory_offset, err);
done:
    if (H5Fclose(file) < 0 && result == 0) result = frozen_fail(err, "HDF5 cannot close the new store");
    return result == 0 ? 0 : error_prefix(err, "%s", path);
}
