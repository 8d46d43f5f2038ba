/* Commits rows: payloads of a group, fdatasync, markers, fdatasync. What is acknowledged survives a kill and a power
 * loss. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/store/store_internal.h"

/* Rows under one write, where they lie side by side. */
enum { RUN = 64 };

static int compare_rows(const void *a, const void *b)
{
    size_t x = (*(const struct store_row *const *)a)->index, y = (*(const struct store_row *const *)b)->index;
    return (x > y) - (x < y);
}

/* The rows in the order of the file, each once; the caller frees. */
static const struct store_row **group_sort(const struct store_row *rows, size_t count, struct error *err)
{
    const struct store_row **sorted = calloc(count, sizeof *sorted);
    if (!sorted) {
        error_set(err, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        sorted[i] = &rows[i];
    qsort(sorted, count, sizeof *sorted, compare_rows);
    for (size_t i = 1; i < count; i++)
        if (sorted[i]->index == sorted[i - 1]->index) {
            error_set(err, "row %zu is twice in one commit", sorted[i]->index);
            free(sorted);
            return NULL;
        }
    return sorted;
}

/* The file is ours alone: what its markers say is read once. */
static int markers_known(struct store *store, struct error *err)
{
    if (store->marked) return 0;
    unsigned char *marked = malloc(store->count + 1);
    if (!marked) return error_set(err, "out of memory");
    if (store_markers(store, marked, err) != 0) {
        free(marked);
        return -1;
    }
    store->marked = marked;
    return 0;
}

static int row_allowed(const struct store *store, const struct store_row *row, struct error *err)
{
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
    if (store->marked[row->index])
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

static void execution_pack(const struct store *store, const struct store_row *row, unsigned char *slot)
{
    struct store_execution execution = row->execution;
    execution.epoch = store->epoch;
    store_pack_checked(STORE_EXECUTIONS, &execution, slot);
}

static int slots_write(const struct store *store, enum store_dataset dataset, size_t index, const unsigned char *slots,
                       size_t size)
{
    return store->calls.write_at(store->fd, slots, size, store_offset(store, dataset, index));
}

/* Everything of rows side by side but their markers, which are zero and whose checksums go to markers[count]. slots:
 * room for them. */
static int payload_write(const struct store *store, const struct store_row *const *rows, size_t count,
                         unsigned char *slots, struct store_marker *markers)
{
    size_t first = rows[0]->index;
    for (size_t i = 0; i < count; i++)
        execution_pack(store, rows[i], slots + i * STORE_EXECUTION_SLOT);
    if (slots_write(store, STORE_EXECUTIONS, first, slots, count * STORE_EXECUTION_SLOT) != 0) return -1;
    for (size_t i = 0; i < count; i++)
        curve_pack(rows[i], slots + i * STORE_SLOT);
    if (slots_write(store, STORE_CURVES, first, slots, count * STORE_SLOT) != 0) return -1;
    for (size_t i = 0; i < count; i++) {
        unsigned char *slot = slots + i * STORE_SLOT;
        frozen_layout_pack(store_specs[STORE_RESULTS].layout, &rows[i]->result, slot);
        markers[i] = (struct store_marker){.committed = 1, .checksum = checksum_of(slot, STORE_MARKER_OFFSET)};
    }
    return slots_write(store, STORE_RESULTS, first, slots, (count - 1) * STORE_SLOT + STORE_MARKER_OFFSET);
}

/* How many of the rows lie side by side from the first on. */
static size_t run_of(const struct store_row *const *rows, size_t count)
{
    size_t run = 1;
    while (run < count && run < RUN && rows[run]->index == rows[0]->index + run)
        run++;
    return run;
}

static int payloads_write(const struct store *store, const struct store_row *const *rows, size_t count,
                          unsigned char *slots, struct store_marker *markers)
{
    int result = 0;
    for (size_t i = 0, run; i < count && result == 0; i += run) {
        run = run_of(rows + i, count - i);
        result = payload_write(store, rows + i, run, slots, markers + i);
    }
    return result;
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

static int sorted_commit(struct store *store, const struct store_row *const *rows, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (row_allowed(store, rows[i], err) != 0) return -1;
    struct store_marker *markers = calloc(count, sizeof *markers);
    unsigned char *slots = malloc((count < RUN ? count : RUN) * STORE_SLOT);
    int result = -1;
    if (!markers || !slots) {
        error_set(err, "out of memory");
    } else {
        result = payloads_write(store, rows, count, slots, markers);
        if (result == 0) result = commit_sync(store);
        for (size_t i = 0; i < count && result == 0; i++) {
            store->marked[rows[i]->index] = 1;
            result = marker_write(store, rows[i]->index, &markers[i]);
        }
        if (result == 0) result = commit_sync(store);
        if (result != 0) error_set_errno(err, "%s: cannot commit %zu rows", store->path, count);
    }
    free(slots);
    free(markers);
    return result;
}

int store_commit(struct store *store, const struct store_row *rows, size_t count, struct error *err)
{
    if (!store->writable) return error_set(err, "%s: opened for reading only", store->path);
    if (store->sync_failed)
        return error_set(err, "%s: an earlier sync to the disk failed; nothing more is committed here", store->path);
    if (count == 0) return 0;
    if (markers_known(store, err) != 0) return -1;
    const struct store_row **sorted = group_sort(rows, count, err);
    int result = sorted ? sorted_commit(store, sorted, count, err) : -1;
    free(sorted);
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
