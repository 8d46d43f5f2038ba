/* Makes the next generation of the store: the sweep's points in a new file, committed rows copied by identity, renamed
 * into place. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/store/store_internal.h"

/* Rows of the new file, and where each comes from in the old one. */
struct generation {
    struct store *old;    /* NULL: the first generation */
    signed char *verdict; /* [old rows] 1 committed and right, 0 not committed, -1 damaged */
    struct store_point *points;
    long *origin; /* [count] row of the old file, or -1 */
    size_t count;
    struct store_generation_report report;
};

static int compare_identities(const void *a, const void *b)
{
    return memcmp(((const struct store_point *const *)a)[0]->identity,
                  ((const struct store_point *const *)b)[0]->identity, DIGEST_HEX);
}

/* The sweep's points sorted by identity (malloc'ed), or NULL where two are the same. */
static const struct store_point **points_sorted(const struct store_point *points, size_t count, struct error *err)
{
    const struct store_point **sorted = calloc(count, sizeof(struct store_point *));
    if (!sorted) {
        error_set(err, "out of memory for %zu points", count);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        sorted[i] = &points[i];
    qsort(sorted, count, sizeof *sorted, compare_identities);
    for (size_t i = 1; i < count; i++) {
        if (compare_identities(&sorted[i - 1], &sorted[i]) != 0) continue;
        error_set(err, "two points of the sweep have the identity %.*s", DIGEST_HEX, sorted[i]->identity);
        free(sorted);
        return NULL;
    }
    return sorted;
}

/* Verify every committed row of the old file. */
static int rows_verify(struct generation *generation, struct error *err)
{
    const struct store *old = generation->old;
    if (!old) return 0;
    struct store_slots slots;
    generation->verdict = calloc(old->count, 1);
    if (!generation->verdict) return error_set(err, "out of memory for %zu points", old->count);
    for (size_t i = 0; i < old->count; i++) {
        generation->verdict[i] = (signed char)store_read_slots(old, i, &slots, NULL);
        generation->report.curves += generation->verdict[i] == 1 && slots.curve_lost;
    }
    return 0;
}

static void point_add(struct generation *generation, const struct store_point *point, long origin, uint32_t removed)
{
    struct store_generation_report *report = &generation->report;
    generation->points[generation->count] = *point;
    generation->points[generation->count].removed = removed;
    generation->origin[generation->count++] = origin;
    if (origin < 0)
        report->added++;
    else if (generation->verdict[origin] == 1)
        report->kept++;
    report->removed += removed;
}

/* The sweep's points in their order, then committed rows of points that it no longer has. */
static int points_merge(struct generation *generation, const struct store_point *points, size_t count,
                        struct error *err)
{
    struct store *old = generation->old;
    size_t most = count + (old ? old->count : 0);
    /* a row that is not found would be dropped */
    if (old && store_index_build(old, err) != 0) return -1;
    const struct store_point **sorted = points_sorted(points, count, err);
    if (!sorted) return -1;
    generation->points = calloc(most, sizeof *generation->points);
    generation->origin = calloc(most, sizeof *generation->origin);
    if (!generation->points || !generation->origin) {
        free(sorted);
        return error_set(err, "out of memory for %zu points", most);
    }
    for (size_t i = 0; i < count; i++)
        point_add(generation, &points[i], old ? store_find_exact(old, points[i].identity) : -1, 0);
    for (size_t i = 0; old && i < old->count; i++) {
        const struct store_point *point = &old->points[i];
        generation->report.damaged += generation->verdict[i] < 0;
        if (generation->verdict[i] == 1 && !bsearch(&point, sorted, count, sizeof *sorted, compare_identities))
            point_add(generation, point, (long)i, 1);
    }
    free(sorted);
    return 0;
}

static int file_replace(const struct generation *generation, const struct store_header *header, const char *path,
                        struct error *err)
{
    const struct store *old = generation->old;
    struct store_header carried = *header;
    struct store_origin *origins = calloc(generation->count, sizeof *origins);
    if (!origins) return error_set(err, "out of memory for %zu points", generation->count);
    for (size_t i = 0; i < generation->count; i++) {
        if (generation->origin[i] < 0) continue;
        size_t row = (size_t)generation->origin[i];
        bool committed = generation->verdict[row] == 1;
        origins[i] = (struct store_origin){
            .store = old, .row = row, .committed = committed, .state = store_state_carried(old, row, committed)};
    }
    if (!carried.provenance && old) carried.provenance = old->provenance;
    int result =
        store_assemble(path, &carried, generation->report.epoch, generation->points, origins, generation->count, err);
    free(origins);
    return result;
}

static int points_plausible(const struct store_point *points, size_t count, struct error *err)
{
    if (count == 0) return error_set(err, "a store needs at least one point");
    if (count > SIZE_MAX / STORE_SLOT / 4) return error_set(err, "%zu points are too many", count);
    for (size_t i = 0; i < count; i++)
        if (strnlen(points[i].identity, DIGEST_HEX) != DIGEST_HEX)
            return error_set(err, "point %zu of the sweep has no identity", i);
    return 0;
}

int store_generation(const char *dir, const struct store_header *header, const struct store_point *points, size_t count,
                     struct store_generation_report *report, struct error *err)
{
    struct generation generation = {0};
    struct stat status;
    char *path = NULL;
    int result = -1;
    if (points_plausible(points, count, err) != 0) return -1;
    if (asprintf(&path, "%s/%s", dir, STORE_FILE) < 0) return error_set(err, "out of memory");
    if (lstat(path, &status) == 0) {
        generation.old = store_open(path, false, err);
        if (!generation.old) goto done;
    } else if (errno != ENOENT) {
        error_set_errno(err, "%s", path);
        goto done;
    }
    generation.report.epoch = generation.old ? generation.old->epoch + 1 : 1;
    if (rows_verify(&generation, err) != 0 || points_merge(&generation, points, count, err) != 0 ||
        file_replace(&generation, header, path, err) != 0)
        goto done;
    if (report) *report = generation.report;
    result = 0;
done:
    store_close(generation.old);
    free(generation.verdict);
    free(generation.points);
    free(generation.origin);
    free(path);
    return result;
}
