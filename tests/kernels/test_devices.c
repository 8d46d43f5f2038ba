/* Devices of several host threads at once, as in a tensor-parallel gang: each computes what it computes alone. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "kernels/random.h"

enum { TOKENS = 96, HEADS = 2, WIDTH = 16, N = TOKENS * HEADS * WIDTH, ROUNDS = 20, THREADS = 3 };

struct worker {
    pthread_t thread;
    const struct kernels *kernels;
    int number, threads, failed;
    float out[N];
};

static int setup(const struct kernels *k, struct device *d, int number, float *buffers[6])
{
    for (int i = 0; i < 6; i++) {
        buffers[i] = k->allocate(d, N * sizeof(float), NULL);
        if (!buffers[i]) return -1;
        float host[N];
        for (size_t j = 0; j < N; j++)
            host[j] = (float)random_normal((struct random_key){(uint64_t)number, 1}, j + N * (size_t)i);
        k->to_device(d, buffers[i], host, sizeof host);
    }
    return 0;
}

/* A chain of a projection, attention and a gated product, some times over. */
static void compute(const struct kernels *k, struct device *d, float *b[6])
{
    uint32_t offsets[] = {0, 40, TOKENS}, kv_head_of[HEADS] = {0, 1};
    struct attention attention = {.sequences = {2, offsets, 56, TOKENS},
                                  .heads = HEADS,
                                  .kv_heads = HEADS,
                                  .head_width = WIDTH,
                                  .kv_head_of = kv_head_of};
    for (int round = 0; round < ROUNDS; round++) {
        k->matmul(d, false, true, TOKENS, HEADS * WIDTH, HEADS * WIDTH, 0.2f, b[0], HEADS * WIDTH, b[1], HEADS * WIDTH,
                  0, b[3], HEADS * WIDTH);
        k->attention_forward(d, &attention, b[3], b[1], b[2], b[4], b[5]);
        k->swiglu_forward(d, N, b[4], b[2], b[0]);
    }
}

static void *work(void *argument)
{
    struct worker *w = argument;
    const struct kernels *k = w->kernels;
    float *buffers[6] = {0};
    w->failed = 1;
    struct device *d = k->device_create(w->number, w->threads, NULL);
    if (!d) return NULL;
    if (setup(k, d, w->number, buffers) == 0) {
        compute(k, d, buffers);
        k->to_host(d, w->out, buffers[0], sizeof w->out);
        w->failed = k->synchronise(d, NULL);
    }
    for (int i = 0; i < 6; i++)
        k->release(d, buffers[i]);
    k->device_destroy(d);
    return NULL;
}

static void devices_do_not_disturb_each_other(void **state)
{
    (void)state;
    const struct kernels *backends[3];
    size_t count = kernels_available(backends, 3);
    static struct worker alone[THREADS], together[THREADS];
    for (size_t b = 0; b < count; b++) {
        for (int i = 0; i < THREADS; i++) {
            alone[i] = together[i] = (struct worker){.kernels = backends[b], .number = i, .threads = 1 + i / 2};
            if (strcmp(backends[b]->name, "cuda") == 0) alone[i].number = together[i].number = 0;
            assert_int_equal(pthread_create(&alone[i].thread, NULL, work, &alone[i]), 0);
            pthread_join(alone[i].thread, NULL);
        }
        for (int i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_create(&together[i].thread, NULL, work, &together[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(together[i].thread, NULL);
            assert_int_equal(alone[i].failed | together[i].failed, 0);
            assert_memory_equal(alone[i].out, together[i].out, sizeof alone[i].out);
        }
    }
}

static void too_much_memory_is_an_error(void **state)
{
    (void)state;
    const struct kernels *backends[3];
    size_t count = kernels_available(backends, 3);
    for (size_t b = 0; b < count; b++) {
        struct error err = {""};
        struct device *d = backends[b]->device_create(0, 1, &err);
        assert_non_null(d);
        assert_null(backends[b]->allocate(d, SIZE_MAX, &err));
        assert_non_null(strstr(err.text, "memory"));
        assert_null(backends[b]->allocate(d, SIZE_MAX - 100, &err));
        void *empty = backends[b]->allocate(d, 0, &err);
        assert_non_null(empty);
        assert_int_equal((uintptr_t)empty % 64, 0);
        backends[b]->release(d, empty);
        backends[b]->release(d, NULL);
        backends[b]->device_destroy(d);
        backends[b]->device_destroy(NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_do_not_disturb_each_other),
        cmocka_unit_test(too_much_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
