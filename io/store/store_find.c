/* Finds rows by identity: row numbers sorted by identity, built once for an open store. */
#include <stdlib.h>
#include <string.h>

#include "io/store/store_internal.h"

struct store_index {
    size_t rows[1]; /* store->count */
};

static int compare_rows(const void *a, const void *b, void *points)
{
    const struct store_point *all = points;
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    int order = memcmp(all[x].identity, all[y].identity, DIGEST_HEX);
    return order != 0 ? order : (x > y) - (x < y);
}

static const struct store_index *index_get(const struct store *store)
{
    size_t size;
    struct store_index *index = *store->index;
    if (index) return index;
    if (__builtin_mul_overflow(store->count, sizeof(size_t), &size)) return NULL;
    index = malloc(size);
    if (!index) return NULL;
    for (size_t i = 0; i < store->count; i++)
        index->rows[i] = i;
    qsort_r(index->rows, store->count, sizeof index->rows[0], compare_rows, store->points);
    *store->index = index;
    return index;
}

void store_index_destroy(struct store_index *index)
{
    free(index);
}

/* First place in the sorted rows whose identity is not below the prefix. */
static size_t lower_bound(const struct store *store, const struct store_index *index, const char *prefix, size_t size)
{
    size_t low = 0, high = store->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(store->points[index->rows[middle]].identity, prefix, size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int store_index_build(const struct store *store, struct error *err)
{
    return index_get(store) ? 0 : error_set(err, "out of memory for %zu points", store->count);
}

long store_find_exact(const struct store *store, const char identity[DIGEST_HEX])
{
    const struct store_index *index = index_get(store);
    if (!index) return -1;
    size_t at = lower_bound(store, index, identity, DIGEST_HEX);
    if (at == store->count) return -1;
    size_t row = index->rows[at];
    return memcmp(store->points[row].identity, identity, DIGEST_HEX) == 0 ? (long)row : -1;
}

long store_find(const struct store *store, const char *identity, struct error *err)
{
    enum { SHORTEST = 4 };
    size_t size = strlen(identity);
    if (size < SHORTEST || size > DIGEST_HEX)
        return error_set(err, "\"%s\" is not a point; give %d to %d digits of its identity", identity, SHORTEST,
                         DIGEST_HEX);
    const struct store_index *index = index_get(store);
    if (!index) return error_set(err, "out of memory for %zu points", store->count);
    size_t at = lower_bound(store, index, identity, size);
    if (at == store->count || memcmp(store->points[index->rows[at]].identity, identity, size) != 0)
        return error_set(err, "%s: no point begins with %s", store->path, identity);
    if (at + 1 < store->count && memcmp(store->points[index->rows[at + 1]].identity, identity, size) == 0)
        return error_set(err, "%s: more than one point begins with %s; give more digits", store->path, identity);
    return (long)index->rows[at];
}
