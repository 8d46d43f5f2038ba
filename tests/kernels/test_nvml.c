/* What the driver counts of this process on its GPUs, by a library that stands for the driver's (fake_nvml.c, found by
 * LD_LIBRARY_PATH). */
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cuda/nvml.h"

static unsigned long long *bytes;
static unsigned *others;
static int *hidden, *growing;

static int find_fake(void **state)
{
    (void)state;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return -1;
    bytes = dlsym(library, "fake_bytes");
    others = dlsym(library, "fake_others");
    hidden = dlsym(library, "fake_hidden");
    growing = dlsym(library, "fake_growing");
    return bytes && others && hidden && growing ? 0 : -1;
}

static int begin(void **state)
{
    (void)state;
    *bytes = 0;
    *others = 0;
    *hidden = *growing = 0;
    nvml_reset();
    return 0;
}

static void test_version(void **state)
{
    char version[32], narrow[4] = "x";
    (void)state;
    nvml_driver_version(version, sizeof version);
    assert_string_equal(version, "580.65.06");
    nvml_driver_version(narrow, sizeof narrow);
    assert_string_equal(narrow, "");
}

/* The most since the reset, of this process alone, of the GPUs that it has used. */
static void test_peak(void **state)
{
    (void)state;
    assert_int_equal(nvml_peak(), 0);
    *bytes = 700;
    *others = 40;
    nvml_note("GPU-one");
    *bytes = 300;
    assert_int_equal(nvml_peak(), 700);
    nvml_note("GPU-two");
    assert_int_equal(nvml_peak(), 700 + 2 * 300);
    *bytes = 800; /* what a library has taken by itself */
    assert_int_equal(nvml_peak(), 3 * 800);
    nvml_reset();
    assert_int_equal(nvml_peak(), 0);
    *bytes = 500;
    nvml_note("GPU-two");
    assert_int_equal(nvml_peak(), 2 * 500);
}

/* A part of the sum would pass for all of it. */
static void test_unknown(void **state)
{
    (void)state;
    *bytes = 700;
    nvml_note("GPU-one");
    nvml_note("GPU-unheard-of");
    assert_int_equal(nvml_peak(), 0);
    nvml_reset();
    *hidden = 1;
    nvml_note("GPU-one");
    assert_int_equal(nvml_peak(), 0);
    *others = 3;
    assert_int_equal(nvml_peak(), 0);
    *hidden = 0;
    *bytes = ~0ull;
    assert_int_equal(nvml_peak(), 0);
    *bytes = 600;
    assert_int_equal(nvml_peak(), 600);
}

/* More GPUs than are counted: a part of them is no sum. */
static void test_many(void **state)
{
    (void)state;
    *bytes = 1;
    for (int i = 0; i <= NVML_DEVICES; i++) {
        char uuid[NVML_UUID];
        snprintf(uuid, sizeof uuid, "GPU-%d", i);
        if (i < NVML_DEVICES) nvml_note(uuid);
        if (i == NVML_DEVICES - 1) assert_int_equal(nvml_peak(), NVML_DEVICES);
        if (i == NVML_DEVICES) nvml_note(uuid);
    }
    assert_int_equal(nvml_peak(), 0);
    nvml_reset();
    nvml_note("GPU-one");
    assert_int_equal(nvml_peak(), 1);
}

/* Others come between the question for their number and that for the list. */
static void test_growing_list(void **state)
{
    (void)state;
    *bytes = 700;
    *growing = 30;
    nvml_note("GPU-one");
    assert_int_equal(nvml_peak(), 700);
}

/* CUDA gives a slice of a GPU a UUID like a GPU's. */
static void test_slice(void **state)
{
    (void)state;
    *bytes = 700;
    nvml_note("GPU-slice");
    assert_int_equal(nvml_peak(), 700);
}

static void *note_many(void *uuid)
{
    for (int i = 0; i < 1000; i++) {
        nvml_note(uuid);
        nvml_peak();
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    static char uuids[4][NVML_UUID] = {"GPU-0", "GPU-1", "GPU-2", "GPU-2"};
    *bytes = 700;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, note_many, uuids[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(nvml_peak(), 3 * 700);
}

/* In a process that has not asked before. */
static void test_no_nvml(void **state)
{
    char version[32] = "x";
    (void)state;
    setenv("FAKE_NVML_BROKEN", "1", 1);
    nvml_driver_version(version, sizeof version);
    unsetenv("FAKE_NVML_BROKEN");
    assert_string_equal(version, "");
    nvml_note("GPU-one");
    assert_int_equal(nvml_peak(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_version, begin),      cmocka_unit_test_setup(test_peak, begin),
        cmocka_unit_test_setup(test_unknown, begin),      cmocka_unit_test_setup(test_many, begin),
        cmocka_unit_test_setup(test_growing_list, begin), cmocka_unit_test_setup(test_slice, begin),
        cmocka_unit_test_setup(test_threads, begin),
    };
    const struct CMUnitTest broken[] = {cmocka_unit_test(test_no_nvml)};
    pid_t child = fork();
    if (child == 0) exit(cmocka_run_group_tests(broken, NULL, NULL) ? 1 : 0);
    int status = -1;
    waitpid(child, &status, 0);
    int failed = cmocka_run_group_tests(tests, find_fake, NULL);
    return failed || status != 0;
}
