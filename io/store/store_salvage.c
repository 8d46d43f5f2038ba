/* Reads what is left of a damaged store: its datasets are found by the block, of which there are two, each row of
 * /points (there is a copy) and each result has its own checksum, so that damage costs no more than the rows it hit. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/store/store_internal.h"
#include "io/store/store_merge.h"

/* The block in its place, else its copy on any page: that dataset lies behind the rows. */
static int block_find(int fd, uint64_t file_size, struct frozen_block *block)
{
    if (file_read_at(fd, block, sizeof *block, 0) == 0 && frozen_block_right(block, &store_format)) return 0;
    for (uint64_t pages = file_size / FROZEN_PAGE; pages > 0; pages--)
        if (file_read_at(fd, block, sizeof *block, (pages - 1) * FROZEN_PAGE) == 0 &&
            frozen_block_right(block, &store_format))
            return 0;
    return -1;
}

/* The bytes of a text dataset; empty, and *lost, where they are not what was written. */
static char *text_salvage(int fd, uint64_t file_size, const struct frozen_part *part, bool *lost)
{
    *lost = true;
    if (part->row_size > STORE_CONFIG_LIMIT || part->row_size > file_size) return strdup("");
    size_t size = (size_t)part->row_size;
    char *text = calloc(1, size + 1);
    if (!text) return NULL;
    if (file_read_at(fd, text, size, part->offset) == 0 && checksum_of(text, size) == part->checksum)
        *lost = false;
    else
        text[0] = '\0';
    return text;
}

/* A row of /points by its checksum, else by its copy; zeros where neither is right. */
static void point_read(const struct store *store, size_t row, struct store_point *point)
{
    struct store_point_copy copy;
    const uint64_t *offsets = store->offsets;
    uint64_t at = row * sizeof *point, checksum;
    if (file_read_at(store->fd, point, sizeof *point, offsets[STORE_POINTS] + at) == 0 &&
        file_read_at(store->fd, &checksum, sizeof checksum, offsets[STORE_POINT_CHECKSUMS] + row * sizeof checksum) ==
            0 &&
        checksum == checksum_of(point, sizeof *point))
        return;
    if (file_read_at(store->fd, &copy, sizeof copy, offsets[STORE_POINTS_COPY] + row * sizeof copy) == 0 &&
        copy.checksum == checksum_of(&copy.point, sizeof copy.point))
        *point = copy.point;
    else
        memset(point, 0, sizeof *point);
}

static int described_read(struct store *store, uint64_t rows, uint64_t file_size, struct error *err)
{
    uint64_t most = file_size / sizeof *store->points; /* a forged number must not be believed */
    store->count = (size_t)(rows < most ? rows : most);
    store->points = calloc(store->count ? store->count : 1, sizeof *store->points);
    if (!store->points) return error_set(err, "%s: out of memory for %zu points", store->path, store->count);
    for (size_t i = 0; i < store->count; i++)
        point_read(store, i, &store->points[i]);
    return 0;
}

static int damaged_load(struct store *store, struct store_damage *damage, struct error *err)
{
    struct frozen_block block;
    struct frozen_part parts[STORE_DATASETS];
    struct stat status;
    if (fstat(store->fd, &status) != 0) return error_set_errno(err, "%s", store->path);
    uint64_t file_size = (uint64_t)status.st_size;
    if (!S_ISREG(status.st_mode) || block_find(store->fd, file_size, &block) != 0)
        return error_set(err, "%s; no directory of a store is left in it", damage->header);
    for (int i = 0; i < STORE_DATASETS; i++) {
        parts[i].spec = &store_specs[i];
        if (frozen_locate(&block, store->path, &parts[i], err) != 0) return -1;
        store->offsets[i] = parts[i].offset;
    }
    if (store_attributes_read(store, &block, err) != 0) return -1;
    store->config = text_salvage(store->fd, file_size, &parts[STORE_CONFIG], &damage->config_lost);
    store->provenance = text_salvage(store->fd, file_size, &parts[STORE_PROVENANCE], &damage->provenance_lost);
    if (!store->config || !store->provenance) return error_set(err, "%s: out of memory", store->path);
    return described_read(store, parts[STORE_POINTS].rows, file_size, err);
}

static bool described(const struct store *store, size_t row)
{
    return store->points[row].identity[0] != '\0';
}

/* Whether the bytes of a row's result are there, right or wrong. */
static bool result_readable(const struct store *store, size_t row)
{
    unsigned char slot[STORE_SLOT];
    return file_read_at(store->fd, slot, sizeof slot, store_offset(store, STORE_RESULTS, row)) == 0;
}

static void damage_count(const struct store *store, struct store_damage *damage)
{
    struct store_slots slots;
    damage->points = store->count;
    for (size_t i = 0; i < store->count; i++) {
        int found = described(store, i) ? store_read_slots(store, i, &slots, NULL) : 0;
        damage->undescribed += !described(store, i);
        damage->committed += found == 1;
        damage->curves += found == 1 && slots.curve_lost;
        if (found < 0) *(result_readable(store, i) ? &damage->damaged : &damage->unreadable) += 1;
    }
}

struct store *store_open_damaged(const char *path, struct store_damage *damage, struct error *err)
{
    struct error why = {""};
    *damage = (struct store_damage){0};
    struct store *store = store_open(path, false, &why);
    if (!store) {
        snprintf(damage->header, sizeof damage->header, "%s", why.text);
        store = store_open_file(path, false, err);
        if (store && damaged_load(store, damage, err) != 0) {
            store_close(store);
            store = NULL;
        }
    }
    if (!store) return NULL;
    store->damaged = true;
    damage_count(store, damage);
    return store;
}

int store_salvage(const struct store *damaged, const char *out, const char *version, struct error *err)
{
    struct store_slots slots;
    struct store_header header = {.config_text = damaged->config,
                                  .config_path = damaged->config_path,
                                  .version = version,
                                  .dataset_digest = damaged->dataset_digest,
                                  .name = damaged->name,
                                  .shard = damaged->shard,
                                  .made_by = "salvage"};
    struct store_point *points = calloc(damaged->count, sizeof *points);
    struct store_origin *origins = calloc(damaged->count, sizeof *origins);
    char *path = NULL, *provenance = NULL;
    size_t count = 0;
    int result = -1;
    if (!points || !origins) {
        error_set(err, "out of memory for %zu points", damaged->count);
        goto done;
    }
    for (size_t i = 0; i < damaged->count; i++) {
        if (!described(damaged, i)) continue;
        bool committed = store_read_slots(damaged, i, &slots, NULL) == 1;
        points[count] = damaged->points[i];
        origins[count++] = (struct store_origin){
            .store = damaged, .row = i, .committed = committed, .state = store_state_carried(damaged, i, committed)};
    }
    if (count == 0) {
        error_set(err, "%s: no row is left", damaged->path);
        goto done;
    }
    provenance = store_sources(&damaged, 1, err);
    header.provenance = provenance;
    if (!provenance || store_out_path(out, &path, err) != 0) goto done;
    if (access(path, F_OK) == 0 || errno != ENOENT)
        error_set(err, "%s is already there; a salvage replaces nothing", path);
    else
        result = store_assemble(path, &header, damaged->epoch, points, origins, count, err);
done:
    free(provenance);
    free(path);
    free(points);
    free(origins);
    return result;
}
