/* Collectives of the threads of a gang: the same bytes on every rank whoever comes first, and nobody waits for the
 * dead. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/collective.h"
#include "kernels/random.h"

enum { RANKS = 4, N = 1013, ROUNDS = 200 };

struct rank {
    pthread_t thread;
    struct collective collective;
    uint64_t seed; /* of the delays */
    int result;    /* of the last collective operation */
    int finished;  /* operations before one failed */
    float x[N], all[RANKS * N];
    double scalar;
};

static struct rank ranks[RANKS];

static void run(int size, struct collective_group *group, void *(*body)(void *), uint64_t seed)
{
    for (int r = 0; r < size; r++) {
        memset(&ranks[r], 0, sizeof ranks[r]);
        ranks[r].collective = (struct collective){group, r, size};
        ranks[r].seed = seed;
        assert_int_equal(pthread_create(&ranks[r].thread, NULL, body, &ranks[r]), 0);
    }
    for (int r = 0; r < size; r++)
        pthread_join(ranks[r].thread, NULL);
}

/* Values whose sum depends on the order of the additions. */
static float value(int rank, size_t i, uint64_t round)
{
    double x = random_normal((struct random_key){(uint64_t)rank, round}, i);
    return (float)(x * (i % 3 == 0 ? 1e6 : 1));
}

static void dawdle(const struct rank *r, uint64_t round)
{
    struct random_key key = {r->seed, (uint64_t)r->collective.rank};
    if (random_below(key, round, 8) == 0) usleep((useconds_t)random_below(key, round + 1000, 200));
}

static void *sums(void *argument)
{
    struct rank *r = argument;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        size_t n = round % 5 ? N : round % 7; /* also fewer numbers than ranks */
        for (size_t i = 0; i < n; i++)
            r->x[i] = value(r->collective.rank, i, round);
        dawdle(r, round);
        r->result |= collective_sum(&r->collective, n, r->x);
        for (size_t i = 0; i < n; i++) {
            float expected = value(0, i, round);
            for (int other = 1; other < r->collective.size; other++)
                expected += value(other, i, round);
            if (memcmp(&expected, &r->x[i], sizeof expected)) r->result = 1;
        }
    }
    return NULL;
}

static void sums_are_in_rank_order(void **state)
{
    (void)state;
    for (int size = 1; size <= RANKS; size++) {
        struct collective_group *group = collective_group_create(size, NULL);
        assert_non_null(group);
        for (uint64_t seed = 0; seed < 3; seed++) {
            run(size, group, sums, seed);
            for (int r = 0; r < size; r++)
                assert_int_equal(ranks[r].result, 0);
        }
        collective_group_destroy(group);
    }
}

static void *gathers(void *argument)
{
    struct rank *r = argument;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < N; i++)
            r->x[i] = value(r->collective.rank, i, round);
        dawdle(r, round);
        r->result |= collective_gather(&r->collective, N, r->x, r->all);
        memset(r->x, 0, sizeof r->x); /* the others have theirs */
        for (size_t i = 0; i < (size_t)r->collective.size * N; i += 97) {
            if (r->all[i] != value((int)(i / N), i % N, round)) r->result = 1;
        }
        r->scalar = 0.1 * (r->collective.rank + 1);
        r->result |= collective_sum_double(&r->collective, &r->scalar);
        double expected = 0.1;
        for (int other = 1; other < r->collective.size; other++)
            expected += 0.1 * (other + 1);
        if (r->scalar != expected) r->result = 1;
    }
    return NULL;
}

static void gathers_and_scalars_are_in_rank_order(void **state)
{
    (void)state;
    for (int size = 1; size <= RANKS; size++) {
        struct collective_group *group = collective_group_create(size, NULL);
        assert_non_null(group);
        run(size, group, gathers, 1);
        for (int r = 0; r < size; r++)
            assert_int_equal(ranks[r].result, 0);
        collective_group_destroy(group);
    }
}

/* The last rank fails after some rounds; the others would wait for it for ever. */
static void *until_one_fails(void *argument)
{
    struct rank *r = argument;
    for (uint64_t round = 0; r->result == 0; round++) {
        if (r->collective.rank == r->collective.size - 1 && round == 20 + r->seed) {
            collective_abort(r->collective.group);
            break;
        }
        dawdle(r, round);
        if (round % 3 == 0) r->result = collective_sum(&r->collective, N, r->x);
        if (round % 3 == 1) r->result = collective_gather(&r->collective, N, r->x, r->all);
        if (round % 3 == 2) r->result = collective_barrier(&r->collective);
        if (r->result == 0) r->finished++;
    }
    return NULL;
}

static void abort_releases_the_waiters(void **state)
{
    (void)state;
    for (int size = 2; size <= RANKS; size++) {
        for (uint64_t seed = 0; seed < 6; seed++) {
            struct collective_group *group = collective_group_create(size, NULL);
            assert_non_null(group);
            alarm(60); /* a hang ends the test */
            run(size, group, until_one_fails, seed);
            alarm(0);
            for (int r = 0; r < size; r++) {
                assert_int_equal(ranks[r].finished, 20 + seed);
                assert_int_equal(ranks[r].result, r == size - 1 ? 0 : -1);
            }
            assert_int_equal(collective_barrier(&ranks[0].collective), -1); /* and it stays aborted */
            collective_group_destroy(group);
        }
    }
}

static void no_gang_of_nobody(void **state)
{
    (void)state;
    struct error err;
    assert_null(collective_group_create(0, &err));
    assert_non_null(strstr(err.text, "at least 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_in_rank_order),
        cmocka_unit_test(gathers_and_scalars_are_in_rank_order),
        cmocka_unit_test(abort_releases_the_waiters),
        cmocka_unit_test(no_gang_of_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
