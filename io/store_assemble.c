/* Writes a whole store out of rows of others and publishes it: the next generation of a run, a merge, a salvage. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/store_internal.h"

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

static uint64_t row_offset(const uint64_t offsets[STORE_DATASETS], enum store_dataset dataset, size_t index)
{
    return offsets[dataset] + (uint64_t)index * store_layouts[dataset].size;
}

static int state_write(int fd, const uint64_t offsets[STORE_DATASETS], size_t index, const struct store_state *state)
{
    unsigned char slot[STORE_STATE_SLOT];
    store_pack_checked(STORE_STATE_ROWS, state, slot);
    return file_write_at(fd, slot, sizeof slot, row_offset(offsets, STORE_STATE_ROWS, index));
}

static int row_write(int fd, const char *path, const uint64_t offsets[STORE_DATASETS], size_t index,
                     const struct store_origin *origin, struct error *err)
{
    struct store_slots slots;
    if (!origin->store) return 0;
    if (origin->committed) {
        int found = store_read_slots(origin->store, origin->row, &slots, err);
        if (found != 1)
            return found < 0 ? -1 : error_set(err, "%s: row %zu has lost its result", origin->store->path, origin->row);
        if (file_write_at(fd, slots.result, sizeof slots.result, row_offset(offsets, STORE_RESULTS, index)) != 0 ||
            file_write_at(fd, slots.execution, sizeof slots.execution, row_offset(offsets, STORE_EXECUTIONS, index)) !=
                0 ||
            file_write_at(fd, slots.curve, sizeof slots.curve, row_offset(offsets, STORE_CURVES, index)) != 0)
            return error_set_errno(err, "%s: cannot copy row %zu of %s", path, origin->row, origin->store->path);
    }
    if (state_write(fd, offsets, index, &origin->state) != 0)
        return error_set_errno(err, "%s: cannot copy the state of row %zu of %s", path, origin->row,
                               origin->store->path);
    return 0;
}

/* The rows, the seal, and everything on disk. */
static int file_complete(const char *path, const uint64_t offsets[STORE_DATASETS], uint64_t directory_offset,
                         const struct store_origin *origins, size_t count, struct error *err)
{
    struct seal_range ranges[SEAL_RANGES];
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return error_set_errno(err, "%s", path);
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = row_write(fd, path, offsets, i, &origins[i], err);
    size_t unsealed = store_unsealed(offsets, count, ranges);
    if (result == 0) result = seal_write(fd, path, STORE_KIND, STORE_VERSION, ranges, unsealed, err);
    if (result == 0) result = store_directory_copy(fd, directory_offset, path, err);
    if (result == 0 && fsync(fd) != 0) result = error_set_errno(err, "%s: cannot sync", path);
    if (close(fd) != 0 && result == 0) result = error_set_errno(err, "%s", path);
    return result;
}

int store_assemble(const char *path, const struct store_header *header, uint64_t epoch,
                   const struct store_point *points, const struct store_origin *origins, size_t count,
                   struct error *err)
{
    char *temporary = NULL;
    uint64_t offsets[STORE_DATASETS], directory_offset;
    if (asprintf(&temporary, "%s.tmp", path) < 0) return error_set(err, "out of memory");
    int result = -1;
    if (unlink(temporary) != 0 && errno != ENOENT) {
        error_set_errno(err, "%s: cannot remove it", temporary);
        goto done;
    }
    if (store_layout_write(temporary, header, epoch, points, count, offsets, &directory_offset, err) != 0 ||
        file_complete(temporary, offsets, directory_offset, origins, count, err) != 0 ||
        file_publish(temporary, path, err) != 0) {
        unlink(temporary);
        goto done;
    }
    result = 0;
done:
    free(temporary);
    return result;
}
