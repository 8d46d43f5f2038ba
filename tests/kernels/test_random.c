/* Random numbers: the known answers of Philox, and that what is drawn from it is fair. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels/random.h"

/* kat_vectors of Random123 (Salmon et al. 2011), philox4x32-10: counter, key, answer */
static const struct {
    uint32_t counter[4], key[2], answer[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static uint64_t join(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

static void known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const uint32_t *c = known[i].counter;
        struct random_key key = {join(known[i].key[0], known[i].key[1]), join(c[2], c[3])};
        uint32_t out[4];
        random_block(key, join(c[0], c[1]), out);
        assert_memory_equal(out, known[i].answer, sizeof out);
    }
}

static void permutation_has_every_number_once(void **state)
{
    (void)state;
    enum { N = 1000 };
    for (uint64_t n = 0; n <= N; n = n < 5 ? n + 1 : n * 3) {
        uint64_t order[N + 1];
        char seen[N] = {0};
        order[n] = 4711;
        random_permutation((struct random_key){n, 3}, n, order);
        assert_int_equal(order[n], 4711);
        for (uint64_t i = 0; i < n; i++) {
            assert_true(order[i] < n);
            assert_int_equal(seen[order[i]]++, 0);
        }
    }
}

/* 24 orders of 4, each expected 1,000 times: chi-square with 23 degrees of freedom is below 60 but for 4 in 100,000 */
static void permutations_are_fair(void **state)
{
    (void)state;
    int counts[256] = {0};
    for (uint64_t seed = 0; seed < 24000; seed++) {
        uint64_t order[4];
        random_permutation((struct random_key){seed, random_stream("order")}, 4, order);
        counts[order[0] * 64 + order[1] * 16 + order[2] * 4 + order[3]]++;
    }
    double chi2 = 0;
    int orders = 0;
    for (int i = 0; i < 256; i++) {
        if (!counts[i]) continue;
        orders++;
        chi2 += pow(counts[i] - 1000, 2) / 1000;
    }
    assert_int_equal(orders, 24);
    assert_true(chi2 < 60);
}

static void below_is_fair(void **state)
{
    (void)state;
    int counts[10] = {0};
    double chi2 = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t x = random_below((struct random_key){1, 2}, i, 10);
        assert_true(x < 10);
        counts[x]++;
    }
    for (int i = 0; i < 10; i++)
        chi2 += pow(counts[i] - 10000, 2) / 10000;
    assert_true(chi2 < 40); /* 9 degrees of freedom: above for 1 in 100,000 */
    assert_int_equal(random_below((struct random_key){1, 2}, 5, 1), 0);
}

static void moments_of_uniform_and_normal(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct random_key key = {5, random_stream("moments")};
    double uniform = 0, mean = 0, square = 0, fourth = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = random_uniform(key, i), x = random_normal(key, i);
        assert_true(u > 0 && u < 1);
        uniform += u / N;
        mean += x / N;
        square += x * x / N;
        fourth += x * x * x * x / N;
    }
    assert_true(fabs(uniform - 0.5) < 5 * 0.2887 / sqrt(N));
    assert_true(fabs(mean) < 5 / sqrt(N));
    assert_true(fabs(square - 1) < 5 * sqrt(2) / sqrt(N));
    assert_true(fabs(fourth - 3) < 5 * sqrt(96) / sqrt(N));
}

static void streams_and_seeds_differ(void **state)
{
    (void)state;
    uint64_t a = random_u64((struct random_key){1, random_stream("a")}, 0);
    assert_int_equal(a, random_u64((struct random_key){1, random_stream("a")}, 0));
    assert_int_not_equal(a, random_u64((struct random_key){1, random_stream("b")}, 0));
    assert_int_not_equal(a, random_u64((struct random_key){2, random_stream("a")}, 0));
    assert_int_not_equal(a, random_u64((struct random_key){1, random_stream("a")}, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(permutation_has_every_number_once),
        cmocka_unit_test(permutations_are_fair),
        cmocka_unit_test(below_is_fair),
        cmocka_unit_test(moments_of_uniform_and_normal),
        cmocka_unit_test(streams_and_seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
