/* The CUDA plugin loads where it was built, and where it is not used the program says in one line why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/plugin.h"

static void plugin_knows_the_devices(void **state)
{
    (void)state;
#ifndef PLUGIN_BUILT
    print_message("skipped: the CUDA plugin is not built (no CUDA toolkit, or TUNELAW_CUDA=OFF)\n");
    skip();
#else
    struct error err;
    const struct kernels_plugin *plugin = plugin_load(&err);
    if (!plugin) fail_msg("%s", err.text);
    struct kernels_device devices[8];
    int count = plugin->probe(devices, 8, &err);
    if (count < 0) print_message("no device: %s\n", err.text);
    if (count < 0) assert_int_not_equal(strlen(err.text), 0);
    for (int i = 0; i < count && i < 8; i++) {
        print_message("device %d: %s, %.1f GiB, compute capability %d.%d\n", i, devices[i].name,
                      (double)devices[i].memory / 0x1p30, devices[i].major, devices[i].minor);
        assert_true(devices[i].name[0] && devices[i].memory > 0 && devices[i].major >= 3);
    }
    assert_string_equal(plugin->kernels->name, "cuda");
    assert_int_equal(plugin->kernels->abi, KERNELS_ABI);
#endif
}

static void cuda_is_complete_or_says_why_not(void **state)
{
    (void)state;
    struct error err = {""};
    const struct kernels *cuda = kernels_find("cuda", &err);
    if (cuda) {
        assert_null(kernels_missing(cuda));
        return;
    }
    print_message("%s\n", err.text);
    assert_memory_equal(err.text, "cuda: ", 6);
    assert_null(strchr(err.text, '\n'));
#ifdef PLUGIN_BUILT
    assert_null(strstr(err.text, "not built"));
#else
    assert_non_null(strstr(err.text, "plugin not built"));
    assert_non_null(strstr(err.text, "TUNELAW_CUDA=ON"));
#endif
}

static void auto_is_cuda_or_cpu(void **state)
{
    (void)state;
    const struct kernels *cuda = kernels_find("cuda", NULL), *found = kernels_find("auto", NULL);
    assert_ptr_equal(found, cuda ? cuda : kernels_find("cpu", NULL));
}

static void unknown_names_are_refused(void **state)
{
    (void)state;
    struct error err;
    assert_null(kernels_find("gpu", &err));
    assert_string_equal(err.text, "unknown backend \"gpu\"; allowed: auto, reference, cpu, cuda");
}

static void available_backends_are_complete(void **state)
{
    (void)state;
    const struct kernels *all[3];
    size_t count = kernels_available(all, 3);
    assert_true(count >= 2);
    assert_string_equal(all[0]->name, "reference");
    assert_string_equal(all[1]->name, "cpu");
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(all[i]->abi, KERNELS_ABI);
        assert_null(kernels_missing(all[i]));
    }
    assert_int_equal(kernels_available(all, 1), 1);
    struct kernels partial = *all[0];
    partial.rotary = NULL;
    assert_string_equal(kernels_missing(&partial), "rotary");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plugin_knows_the_devices),
        cmocka_unit_test(cuda_is_complete_or_says_why_not),
        cmocka_unit_test(auto_is_cuda_or_cpu),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(available_backends_are_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
