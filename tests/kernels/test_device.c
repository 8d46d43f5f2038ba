/* Device memory, transfers and errors of the CUDA backend (kernels/cuda/device.cu) over a runtime that stands for
 * CUDA's (tests/emulation/runtime.h), whose streams lag behind. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"

extern const struct kernels kernels_emulated; /* tests/emulation */
void emulated_memory(size_t bytes);
void emulated_fault(bool failing);
void emulated_refuse(int number);
int emulated_held(void);

static const struct kernels *const k = &kernels_emulated;

static struct device *open_device(void)
{
    struct error err;
    struct device *device = k->device_create(0, 1, &err);
    if (!device) fail_msg("%s", err.text);
    return device;
}

static void transfers_are_whole_and_in_order(void **state)
{
    (void)state;
    enum { MOST = 45 << 20 }; /* bytes: more than are on their way at a time */
    static const size_t sizes[] = {1, 255, 4097, 1 << 20, 9 << 20, MOST, 3, 11 << 20};
    struct error err;
    struct device *device = open_device();
    unsigned char *x = k->allocate(device, MOST, &err), *from = malloc(MOST), *to = malloc(MOST);
    assert_true(x && from && to);
    k->to_host(device, to, x, MOST);
    for (size_t i = 0; i < MOST; i++)
        if (to[i]) fail_msg("byte %zu of new memory is %u", i, to[i]);
    for (size_t turn = 0; turn < sizeof sizes / sizeof *sizes; turn++) {
        for (size_t i = 0; i < sizes[turn]; i++)
            from[i] = (unsigned char)(i * 31 + i / 251 + turn);
        k->to_device(device, x, from, sizes[turn]);
        memset(from, 0xee, sizes[turn]); /* it may be changed on return */
    }
    k->to_host(device, to, x, MOST);
    for (size_t i = 0; i < MOST; i++) {
        size_t turn = i < (11 << 20) ? 7 : 5;
        if (i < 3) turn = 7;
        if (to[i] != (unsigned char)(i * 31 + i / 251 + turn))
            fail_msg("byte %zu is not that of transfer %zu", i, turn);
    }
    k->release(device, x);
    k->device_destroy(device);
    free(from);
    free(to);
}

static void want_of_memory_is_told_and_passes(void **state)
{
    (void)state;
    struct error err;
    struct device *device = open_device();
    emulated_memory((size_t)64 << 20);
    assert_null(k->allocate(device, (size_t)60 << 20, &err));
    assert_non_null(strstr(err.text, "out of memory"));
    assert_null(strstr(err.text, DEVICE_FAILED));
    void *x = k->allocate(device, 4096, &err);
    if (!x) fail_msg("%s", err.text);
    k->zero(device, 4096, x);
    if (k->synchronise(device, &err)) fail_msg("%s", err.text);
    k->release(device, x);
    k->device_destroy(device);
    emulated_memory((size_t)1 << 30);
}

/* Whatever it is that a device, or one that computes already, cannot have: nothing of it stays. */
static void want_of_anything_leaves_nothing(void **state)
{
    enum { N = 3 << 20, MOST = 100 };
    int number = 0;
    (void)state;
    for (bool whole = false; !whole && number < MOST;) {
        struct error err = {""};
        real *x = NULL;
        emulated_refuse(++number);
        struct device *device = k->device_create(0, 1, &err);
        if (device) {
            k->set_precision(device, PRECISION_BF16);
            x = k->allocate(device, N * sizeof(float), &err);
        }
        if (x) {
            float *host = calloc(N, sizeof *host);
            assert_non_null(host);
            k->upload(device, N, host, x); /* by way of scratch */
            free(host);
            whole = k->synchronise(device, &err) == 0;
        }
        emulated_refuse(0);
        if (!whole && !strstr(err.text, "out of memory")) fail_msg("%d: %s", number, err.text);
        if (device) k->release(device, x);
        k->device_destroy(device);
        assert_int_equal(emulated_held(), 0);
    }
    assert_in_range(number, 8, MOST - 1);
}

/* It stays, what follows is skipped, and memory still goes. */
static void an_error_of_the_device_stays(void **state)
{
    (void)state;
    struct error err;
    float y[4] = {1, 2, 3, 4};
    struct device *device = open_device();
    float *x = k->allocate(device, sizeof y, &err);
    assert_non_null(x);
    k->to_device(device, x, y, sizeof y);
    emulated_fault(true);
    k->scale(device, 4, 2, (real *)(void *)x);
    assert_int_equal(k->synchronise(device, &err), -1);
    assert_non_null(strstr(err.text, DEVICE_FAILED));
    emulated_fault(false);
    k->to_host(device, y, x, sizeof y);
    assert_true(y[0] == 1 && y[3] == 4); /* not read from a device that has failed */
    assert_int_equal(k->synchronise(device, &err), -1);
    k->release(device, x);
    k->device_destroy(device);
    device = open_device();
    if (k->synchronise(device, &err)) fail_msg("%s", err.text);
    k->device_destroy(device);
}

/* Sums are what their numbers were when they were asked for, each where it belongs, however far the host has gone on.
 */
static void numbers_come_when_they_are_collected(void **state)
{
    enum { COUNT = 1500, TURNS = 200, LATER = 3, MOST = 140000 };
    static double out[LATER + 1][COUNT], many[MOST];
    static struct span spans[MOST];
    (void)state;
    struct error err;
    struct device *device = open_device();
    float *x = k->allocate(device, 2 * sizeof *x, &err);
    assert_non_null(x);
    for (size_t turn = 0; turn < TURNS + LATER; turn++) { /* their room goes round */
        if (turn < TURNS) {
            const float y[2] = {(float)turn, 3};
            k->to_device(device, x, y, sizeof y);
            for (size_t i = 0; i < COUNT; i++)
                spans[i] = (struct span){1 + i % 2, x};
            k->sums(device, COUNT, spans, false, out[turn % (LATER + 1)]);
        }
        if (turn < LATER) continue;
        size_t first = turn - LATER, later = turn < TURNS ? LATER : TURNS + LATER - 1 - turn;
        if (k->collect(device, later, &err)) fail_msg("%s", err.text);
        for (size_t i = 0; i < COUNT; i++)
            if ((size_t)out[first % (LATER + 1)][i] != first + 3 * (i % 2))
                fail_msg("turn %zu, number %zu: %g", first, i, out[first % (LATER + 1)][i]);
    }
    for (size_t i = 0; i < MOST; i++)
        spans[i] = (struct span){1, x + i % 2};
    k->sums(device, MOST, spans, true, many); /* more than there is room for */
    if (k->synchronise(device, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; i < MOST; i++)
        if ((int)many[i] != (i % 2 ? 9 : (TURNS - 1) * (TURNS - 1))) fail_msg("number %zu of many: %g", i, many[i]);
    k->release(device, x);
    k->device_destroy(device);
}

static void a_device_that_fails_has_no_numbers(void **state)
{
    (void)state;
    struct error err;
    const float y[2] = {1, 2};
    double out[2] = {5, 5};
    struct device *device = open_device();
    float *x = k->allocate(device, sizeof y, &err);
    assert_non_null(x);
    k->to_device(device, x, y, sizeof y);
    const struct span spans[2] = {{2, x}, {1, x}};
    emulated_fault(true);
    k->sums(device, 2, spans, false, out);
    assert_int_equal(k->collect(device, 0, &err), -1);
    assert_non_null(strstr(err.text, DEVICE_FAILED));
    assert_true(isnan(out[0]) && isnan(out[1]));
    emulated_fault(false);
    k->release(device, x);
    k->device_destroy(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transfers_are_whole_and_in_order),     cmocka_unit_test(want_of_memory_is_told_and_passes),
        cmocka_unit_test(want_of_anything_leaves_nothing),      cmocka_unit_test(an_error_of_the_device_stays),
        cmocka_unit_test(numbers_come_when_they_are_collected), cmocka_unit_test(a_device_that_fails_has_no_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
