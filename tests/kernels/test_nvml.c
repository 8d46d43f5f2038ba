/* What the driver counts of this process on its GPUs, by a library that stands for the driver's (fake_nvml.c, found by
 * LD_LIBRARY_PATH). */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "kernels/cuda/nvml.h"

static unsigned long long *bytes;
static unsigned *others;
static int *hidden;

static int find_fake(void **state)
{
    (void)state;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return -1;
    bytes = dlsym(library, "fake_bytes");
    others = dlsym(library, "fake_others");
    hidden = dlsym(library, "fake_hidden");
    return bytes && others && hidden ? 0 : -1;
}

static int begin(void **state)
{
    (void)state;
    *bytes = 0;
    *others = 0;
    *hidden = 0;
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
    assert_int_equal(nvml_peak(), 1000);
    *bytes = 800; /* what a library has taken by itself */
    assert_int_equal(nvml_peak(), 1600);
    nvml_reset();
    assert_int_equal(nvml_peak(), 0);
    *bytes = 500;
    nvml_note("GPU-two");
    assert_int_equal(nvml_peak(), 500);
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

static void test_many(void **state)
{
    (void)state;
    *bytes = 1;
    for (int i = 0; i <= NVML_DEVICES; i++) {
        char uuid[NVML_UUID];
        snprintf(uuid, sizeof uuid, "GPU-%d", i);
        nvml_note(uuid);
    }
    assert_int_equal(nvml_peak(), 0);
    nvml_reset();
    nvml_note("GPU-one");
    assert_int_equal(nvml_peak(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_version, begin),
        cmocka_unit_test_setup(test_peak, begin),
        cmocka_unit_test_setup(test_unknown, begin),
        cmocka_unit_test_setup(test_many, begin),
    };
    return cmocka_run_group_tests(tests, find_fake, NULL);
}
