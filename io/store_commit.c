/* Commits rows: payloads of a group, fdatasync, markers, fdatasync. What is acknowledged survives a kill and a power
 * loss. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/store_internal.h"

static int compare_indices(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

static int group_distinct(const struct store_row *rows, size_t count, struct error *err)
{
    size_t *indices = calloc(count, sizeof *indices);
    if (!indices) return error_set(err, "out of memory");
    for (size_t i = 0; i < count; i++)
        indices[i] = rows[i].index;
    qsort(indices, count, sizeof *indices, compare_indices);
    int result = 0;
    for (size_t i = 1; i < count && result == 0; i++)
        if (indices[i] == indices[i - 1]) result = error_set(err, "row %zu is twice in one commit", indices[i]);
    free(indices);
    return result;
}

static int row_allowed(const struct store *store, const struct store_row *row, struct error *err)
{
    static const struct store_marker empty;
    struct store_marker marker;
    if (row->index >= store->count)
        return error_set(err, "%s: there is no row %zu; rows are 0..%zu", store->path, row->index, store->count - 1);
    if (memcmp(row->result.identity, store->points[row->index].identity, DIGEST_HEX) != 0)
        return error_set(err, "%s: row %zu is point %.*s, the result is of %.*s", store->path, row->index, DIGEST_HEX,
                         store->points[row->index].identity, DIGEST_HEX, row->result.identity);
    if (row->result.status != STORE_DONE && row->result.status != STORE_DIVERGED)
        return error_set(err, "%s: row %zu: a result is done or diverged, not %s", store->path, row->index,
                         store_status_name((enum store_status)row->result.status));
    if (row->curve.count > STORE_CURVE)
        return error_set(err, "%s: row %zu: a curve of %llu entries; at most %d fit", store->path, row->index,
                         (unsigned long long)row->curve.count, STORE_CURVE);
    uint64_t at = store_offset(store, STORE_RESULTS, row->index) + STORE_MARKER_OFFSET;
    if (file_read_at(store->fd, &marker, sizeof marker, at) != 0)
        return error_set_errno(err, "%s: cannot read the marker of row %zu", store->path, row->index);
    if (memcmp(&marker, &empty, sizeof marker) != 0)
        return error_set(err, "%s: row %zu (%.*s) is already committed", store->path, row->index, DIGEST_HEX,
                         row->result.identity);
    return 0;
}

static void curve_pack(const struct store_row *row, unsigned char *slot)
{
    struct store_curve curve;
    memset(&curve, 0, sizeof curve);
    memcpy(curve.identity, row->result.identity, DIGEST_HEX);
    curve.count = row->curve.count;
    memcpy(curve.entries, row->curve.entries, (size_t)curve.count * sizeof curve.entries[0]);
    store_pack_checked(STORE_CURVES, &curve, slot);
}

/* Everything but the marker, whose checksum is returned. */
static int payload_write(const struct store *store, const struct store_row *row, struct store_marker *marker)
{
    unsigned char slot[STORE_SLOT];
    struct store_execution execution = row->execution;
    execution.epoch = store->epoch;
    store_pack_checked(STORE_EXECUTIONS, &execution, slot);
    if (store->calls.write_at(store->fd, slot, STORE_EXECUTION_SLOT,
                              store_offset(store, STORE_EXECUTIONS, row->index)) != 0)
        return -1;
    curve_pack(row, slot);
    if (store->calls.write_at(store->fd, slot, STORE_SLOT, store_offset(store, STORE_CURVES, row->index)) != 0)
        return -1;
    frozen_layout_pack(store_specs[STORE_RESULTS].layout, &row->result, slot);
    *marker = (struct store_marker){.committed = 1, .checksum = checksum_of(slot, STORE_MARKER_OFFSET)};
    return store->calls.write_at(store->fd, slot, STORE_MARKER_OFFSET, store_offset(store, STORE_RESULTS, row->index));
}

static int marker_write(const struct store *store, size_t index, const struct store_marker *marker)
{
    return store->calls.write_at(store->fd, marker, sizeof *marker,
                                 store_offset(store, STORE_RESULTS, index) + STORE_MARKER_OFFSET);
}

/* After a failed fdatasync the kernel takes the lost pages for clean: the next one would succeed without them. */
static int commit_sync(struct store *store)
{
    int result = store->calls.sync(store->fd);
    if (result != 0) store->sync_failed = true;
    return result;
}

int store_commit(struct store *store, const struct store_row *rows, size_t count, struct error *err)
{
    if (!store->writable) return error_set(err, "%s: opened for reading only", store->path);
    if (store->sync_failed)
        return error_set(err, "%s: an earlier sync to the disk failed; nothing more is committed here", store->path);
    if (count == 0) return 0;
    if (group_distinct(rows, count, err) != 0) return -1;
    for (size_t i = 0; i < count; i++)
        if (row_allowed(store, &rows[i], err) != 0) return -1;
    struct store_marker *markers = calloc(count, sizeof *markers);
    if (!markers) return error_set(err, "out of memory");
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = payload_write(store, &rows[i], &markers[i]);
    if (result == 0) result = commit_sync(store);
    for (size_t i = 0; i < count && result == 0; i++)
        result = marker_write(store, rows[i].index, &markers[i]);
    if (result == 0) result = commit_sync(store);
    if (result != 0) error_set_errno(err, "%s: cannot commit %zu rows", store->path, count);
    free(markers);
    return result;
}

int store_set_state(struct store *store, size_t index, const struct store_state *state, struct error *err)
{
    unsigned char slot[STORE_STATE_SLOT];
    if (!store->writable) return error_set(err, "%s: opened for reading only", store->path);
    if (index >= store->count)
        return error_set(err, "%s: there is no row %zu; rows are 0..%zu", store->path, index, store->count - 1);
    if (state->status >= STORE_STATUSES) return error_set(err, "%s: %u is not a status", store->path, state->status);
    store_pack_checked(STORE_STATE_ROWS, state, slot);
    if (store->calls.write_at(store->fd, slot, sizeof slot, store_offset(store, STORE_STATE_ROWS, index)) != 0)
        return error_set_errno(err, "%s: cannot write the state of row %zu", store->path, index);
    return 0;
}
