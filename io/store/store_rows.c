/* Reads rows of an open store: markers alone, whole rows with their checksums, states. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/store/store_internal.h"

static int row_error(const struct store *store, size_t index, const char *what, struct error *err)
{
    return error_set(err, "%s: row %zu is damaged: %s", store->path, index, what);
}

static bool checksum_right(const unsigned char *slot, size_t size)
{
    uint64_t checksum;
    memcpy(&checksum, slot + size - sizeof checksum, sizeof checksum);
    return checksum == checksum_of(slot, size - sizeof checksum);
}

/* A state that was never written, or that is as it was written. */
static bool state_right(const unsigned char *slot)
{
    static const unsigned char never[STORE_STATE_SLOT];
    return memcmp(slot, never, sizeof never) == 0 || checksum_right(slot, STORE_STATE_SLOT);
}

static int slot_read(const struct store *store, enum store_dataset dataset, size_t index, void *slot, struct error *err)
{
    if (file_read_at(store->fd, slot, store_specs[dataset].layout->size, store_offset(store, dataset, index)) != 0)
        return error_set_errno(err, "%s: cannot read row %zu of %s", store->path, index, store_specs[dataset].name);
    return 0;
}

/* 1 committed and right, 0 not committed, -1 damaged. */
static int result_check(const struct store *store, size_t index, const unsigned char *slot, struct error *err)
{
    struct store_marker marker;
    struct store_result result;
    memcpy(&marker, slot + STORE_MARKER_OFFSET, sizeof marker);
    memcpy(&result, slot, sizeof result);
    if (marker.committed == 0 && marker.reserved == 0 && marker.checksum == 0) return 0;
    if (marker.committed != 1 || marker.reserved != 0) return row_error(store, index, "its marker", err);
    if (marker.checksum != checksum_of(slot, STORE_MARKER_OFFSET))
        return row_error(store, index, "the result's checksum", err);
    if (memcmp(result.identity, store->points[index].identity, DIGEST_HEX) != 0)
        return row_error(store, index, "the result is of another point", err);
    if (result.status != STORE_DONE && result.status != STORE_DIVERGED)
        return row_error(store, index, "the result's status", err);
    return 1;
}

static int execution_check(const struct store *store, size_t index, const unsigned char *slot, struct error *err)
{
    return checksum_right(slot, STORE_EXECUTION_SLOT) ? 0 : row_error(store, index, "the execution's checksum", err);
}

static int curve_check(const struct store *store, size_t index, const unsigned char *slot, struct error *err)
{
    uint64_t count;
    memcpy(&count, slot + offsetof(struct store_curve, count), sizeof count);
    if (!checksum_right(slot, STORE_SLOT)) return row_error(store, index, "the curve's checksum", err);
    if (count > STORE_CURVE || memcmp(slot, store->points[index].identity, DIGEST_HEX) != 0)
        return row_error(store, index, "the curve is of another point", err);
    return 0;
}

/* The committer may be at work on the row: a reader then sees a part of 16 or 256 bytes. What is wrong for long is
 * damaged. */
enum { READ_TRIES = 4 };

static int result_look(const struct store *store, size_t index, unsigned char *slot, struct error *err)
{
    int found = -1;
    for (int tries = 0; tries < READ_TRIES && found < 0; tries++) {
        if (slot_read(store, STORE_RESULTS, index, slot, err) != 0) return -1;
        found = result_check(store, index, slot, err);
    }
    return found;
}

/* A row is committed before its state says so. */
static bool finished(const struct store *store, size_t index)
{
    struct store_state state;
    if (store_read_state(store, index, &state, NULL) != 0) return false;
    return state.status == STORE_DONE || state.status == STORE_DIVERGED;
}

static int result_read(const struct store *store, size_t index, unsigned char *slot, struct error *err)
{
    int found = result_look(store, index, slot, err);
    if (found == 0 && finished(store, index)) {
        found = result_look(store, index, slot, err); /* it may have been committed meanwhile */
        if (found == 0) return row_error(store, index, "it is finished, and its result is not there", err);
    }
    return found;
}

static int curve_read(const struct store *store, size_t index, unsigned char *slot, struct error *err)
{
    if (slot_read(store, STORE_CURVES, index, slot, err) != 0) return -1;
    return curve_check(store, index, slot, err);
}

int store_check_curve(const struct store *store, size_t index, struct error *err)
{
    unsigned char slot[STORE_SLOT];
    return curve_read(store, index, slot, err);
}

static int index_check(const struct store *store, size_t index, struct error *err)
{
    if (index < store->count) return 0;
    return error_set(err, "%s: there is no row %zu; rows are 0..%zu", store->path, index, store->count - 1);
}

int store_read(const struct store *store, size_t index, struct store_result *result, struct store_execution *execution,
               struct store_curve *curve, struct error *err)
{
    unsigned char slot[STORE_SLOT];
    if (index_check(store, index, err) != 0) return -1;
    int committed = result_read(store, index, slot, err);
    if (committed != 1) return committed;
    if (result) memcpy(result, slot, sizeof *result);
    if (slot_read(store, STORE_EXECUTIONS, index, slot, err) != 0 || execution_check(store, index, slot, err) != 0)
        return -1;
    if (execution) memcpy(execution, slot, sizeof *execution);
    if (curve && curve_read(store, index, slot, NULL) != 0) memset(slot, 0, sizeof slot);
    if (curve) memcpy(curve, slot, sizeof *curve);
    return 1;
}

int store_read_slots(const struct store *store, size_t index, struct store_slots *slots, struct error *err)
{
    if (index_check(store, index, err) != 0) return -1;
    int committed = result_read(store, index, slots->result, err);
    if (committed != 1) return committed;
    if (slot_read(store, STORE_EXECUTIONS, index, slots->execution, err) != 0 ||
        execution_check(store, index, slots->execution, err) != 0)
        return -1;
    if (slot_read(store, STORE_CURVES, index, slots->curve, err) == 0)
        slots->curve_lost = curve_check(store, index, slots->curve, NULL) != 0;
    else if (store->damaged)
        slots->curve_lost = true;
    else
        return -1; /* it may be read another time */
    if (slots->curve_lost) {
        struct store_curve none = {.count = 0};
        memcpy(none.identity, store->points[index].identity, DIGEST_HEX);
        store_pack_checked(STORE_CURVES, &none, slots->curve);
    }
    return 1;
}

int store_read_state(const struct store *store, size_t index, struct store_state *state, struct error *err)
{
    unsigned char slot[STORE_STATE_SLOT];
    bool right = false;
    if (index_check(store, index, err) != 0) return -1;
    for (int tries = 0; tries < READ_TRIES && !right; tries++) {
        if (slot_read(store, STORE_STATE_ROWS, index, slot, err) != 0) return -1;
        right = state_right(slot);
    }
    if (!right) return row_error(store, index, "the state's checksum", err);
    memcpy(state, slot, sizeof *state);
    if (state->status >= STORE_STATUSES) return row_error(store, index, "the state's status", err);
    return 0;
}

/* First row at or after `index` whose marker may lie in allocated bytes: a new store is almost all holes. */
static size_t skip_holes(const struct store *store, size_t index)
{
    uint64_t marker = store_offset(store, STORE_RESULTS, index) + STORE_MARKER_OFFSET;
    off_t data = lseek(store->fd, (off_t)marker, SEEK_DATA);
    if (data < 0) return errno == ENXIO ? store->count : index;
    if ((uint64_t)data <= marker) return index;
    size_t row = (size_t)(((uint64_t)data - store->offsets[STORE_RESULTS]) / STORE_SLOT);
    return row < store->count ? row : store->count;
}

int store_markers(const struct store *store, unsigned char *marked, struct error *err)
{
    static const struct store_marker empty;
    memset(marked, 0, store->count);
    size_t i = 0;
    bool seek = true; /* only behind an empty marker: a hole may begin there */
    while (i < store->count) {
        if (seek) i = skip_holes(store, i);
        if (i >= store->count) break;
        struct store_marker marker;
        uint64_t offset = store_offset(store, STORE_RESULTS, i) + STORE_MARKER_OFFSET;
        if (file_read_at(store->fd, &marker, sizeof marker, offset) != 0) {
            if (!store->damaged) return error_set_errno(err, "%s: cannot read the marker of row %zu", store->path, i);
            memset(&marker, 0xff, sizeof marker);
        }
        if (memcmp(&marker, &empty, sizeof marker) != 0) marked[i] = marker.committed == 1 ? 1 : STORE_MARKER_ODD;
        seek = !marked[i];
        i++;
    }
    return 0;
}

int store_committed(const struct store *store, unsigned char *committed, struct error *err)
{
    if (store_markers(store, committed, err) != 0) return -1;
    for (size_t i = 0; i < store->count; i++)
        committed[i] = committed[i] == 1;
    return 0;
}

int store_attempts(const struct store *store, uint32_t *attempts, struct error *err)
{
    enum { BLOCK = 256 };
    unsigned char *slots = malloc(BLOCK * STORE_STATE_SLOT);
    if (!slots) return error_set(err, "out of memory");
    int result = 0;
    for (size_t first = 0; first < store->count && result == 0; first += BLOCK) {
        size_t count = store->count - first < BLOCK ? store->count - first : BLOCK;
        if (file_read_at(store->fd, slots, count * STORE_STATE_SLOT, store_offset(store, STORE_STATE_ROWS, first)) != 0)
            result = error_set_errno(err, "%s: cannot read states", store->path);
        for (size_t i = 0; i < count && result == 0; i++) {
            const unsigned char *slot = slots + i * STORE_STATE_SLOT;
            struct store_state state;
            memcpy(&state, slot, sizeof state);
            bool known = state_right(slot) && !state.message[0];
            attempts[first + i] = known ? state.attempts : STORE_ATTEMPTS_UNKNOWN;
        }
    }
    free(slots);
    return result;
}
