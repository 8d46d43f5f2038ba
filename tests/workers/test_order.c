/* The order in which gradients of a table's rows are summed: by id, those of one id in the order of the tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels/random.h"
#include "workers/model/model_parts.h"

/* By id, ties by place: against the C library's sort. */
static const int32_t *sorted_by;

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (sorted_by[x] != sorted_by[y]) return sorted_by[x] < sorted_by[y] ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void check(size_t count, int32_t lowest, uint64_t range, uint64_t seed)
{
    int32_t *ids = calloc(count + 1, sizeof *ids);
    uint64_t *room = calloc(2 * count + 1, sizeof *room);
    uint32_t *order = calloc(count + 1, sizeof *order), *expected = calloc(count + 1, sizeof *expected);
    for (size_t i = 0; i < count; i++) {
        ids[i] = (int32_t)(lowest + (int64_t)random_below((struct random_key){seed, 1}, i, range));
        expected[i] = (uint32_t)i;
    }
    token_order(count, ids, room, room + count, order);
    sorted_by = ids;
    qsort(expected, count, sizeof *expected, by_id);
    assert_memory_equal(order, expected, count * sizeof *order);
    free(ids);
    free(room);
    free(order);
    free(expected);
}

static void test_orders(void **state)
{
    (void)state;
    check(0, 0, 1, 1);
    check(1, 7, 1, 1);
    check(1000, 5, 1, 2);                         /* one id */
    check(5000, -20, 300, 3);                     /* virtual tokens among them */
    check(20000, -3, 262147, 4);                  /* a large vocabulary */
    check(3000, INT32_MIN, UINT64_C(1) << 32, 5); /* every digit differs */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_orders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
