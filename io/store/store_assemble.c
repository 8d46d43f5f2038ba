/* Writes a whole store out of rows of others and publishes it: the next generation of a run, a merge, a salvage. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/store/store_internal.h"

struct store_state store_state_carried(const struct store *old, size_t row, bool committed)
{
    struct store_state state;
    struct store_result result;
    if (store_read_state(old, row, &state, NULL) != 0) memset(&state, 0, sizeof state);
    state.status = STORE_PENDING;
    if (committed && store_read(old, row, &result, NULL, NULL, NULL) == 1) state.status = result.status;
    state.progress = committed ? 1.0 : 0.0;
    return state;
}

static int slot_write(const struct store_file *file, enum store_dataset dataset, size_t index, const void *slot)
{
    size_t size = store_specs[dataset].layout->size;
    return file_write_at(file->fd, slot, size, file->offsets[dataset] + (uint64_t)index * size);
}

/* A committed slot. */
static void result_pack(const struct store_result *result, unsigned char *slot)
{
    frozen_layout_pack(store_specs[STORE_RESULTS].layout, result, slot);
    const struct store_marker marker = {.committed = 1, .checksum = checksum_of(slot, STORE_MARKER_OFFSET)};
    memcpy(slot + STORE_MARKER_OFFSET, &marker, sizeof marker);
}

static int row_write(const struct store_file *file, size_t index, const struct store_origin *origin, struct error *err)
{
    struct store_slots slots;
    unsigned char state[STORE_STATE_SLOT];
    if (!origin->store) return 0;
    if (origin->committed) {
        int found = store_read_slots(origin->store, origin->row, &slots, err);
        if (found != 1)
            return found < 0 ? -1 : error_set(err, "%s: row %zu has lost its result", origin->store->path, origin->row);
        if (origin->result) result_pack(origin->result, slots.result);
        if (slot_write(file, STORE_RESULTS, index, slots.result) != 0 ||
            slot_write(file, STORE_EXECUTIONS, index, slots.execution) != 0 ||
            slot_write(file, STORE_CURVES, index, slots.curve) != 0)
            return error_set_errno(err, "%s: cannot copy row %zu of %s", file->path, origin->row, origin->store->path);
    }
    store_pack_checked(STORE_STATE_ROWS, &origin->state, state);
    if (slot_write(file, STORE_STATE_ROWS, index, state) != 0)
        return error_set_errno(err, "%s: cannot copy the state of row %zu of %s", file->path, origin->row,
                               origin->store->path);
    return 0;
}

/* The rows, the seal, its copy, and everything on disk. */
static int file_complete(struct store_file *file, const struct store_origin *origins, size_t count, struct error *err)
{
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = row_write(file, i, &origins[i], err);
    if (result == 0) result = frozen_seal(file->fd, file->path, &file->block, err);
    if (result == 0 && file_write_at(file->fd, &file->block, sizeof file->block, file->offsets[STORE_DIRECTORY]) != 0)
        result = error_set_errno(err, "%s: cannot write", file->path);
    if (result == 0 && fsync(file->fd) != 0) result = error_set_errno(err, "%s: cannot sync", file->path);
    return result;
}

int store_assemble(const char *path, const struct store_header *header, uint64_t epoch,
                   const struct store_point *points, const struct store_origin *origins, size_t count,
                   struct error *err)
{
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.tmp", path) < 0) return error_set(err, "out of memory");
    struct store_file file = {.path = temporary, .fd = -1};
    int result = -1;
    if (unlink(temporary) != 0 && errno != ENOENT) {
        error_set_errno(err, "%s: cannot remove it", temporary);
        goto done;
    }
    if (store_layout_write(&file, header, epoch, points, count, err) != 0) goto done;
    result = file_complete(&file, origins, count, err);
    if (close(file.fd) != 0 && result == 0) result = error_set_errno(err, "%s", temporary);
    if (result == 0) result = file_publish(temporary, path, err);
    if (result != 0) unlink(temporary);
done:
    free(temporary);
    return result;
}
