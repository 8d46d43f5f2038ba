/* The base that stays between stages: the bytes of a process that keeps nothing, and the base's file is not read again.
 */
#include "workers/stage/residence.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/checkpoint/checkpoint.h"
#include "tests/workers/trained.h"
#include "workers/stage/gang.h"

static struct fixture fixture;
static struct stage trunk;

static struct stage_outcome run(const struct stage *stage, struct residence *residence)
{
    struct stage_outcome outcome;
    const struct stage_hooks hooks = {.residence = residence};
    stage_run(stage, &hooks, &outcome);
    return outcome;
}

static void done(const struct stage_outcome *outcome)
{
    if (outcome->status != STORE_DONE) fail_msg("%s: %s", store_status_name(outcome->status), outcome->message);
}

static int set_up(void **state)
{
    (void)state;
    if (fixture_create(&fixture)) return -1;
    trunk = stage_pretrain(&fixture, 0, 60);
    struct stage_outcome outcome = run(&trunk, NULL);
    return outcome.status != STORE_DONE;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

static void same(const struct stage_outcome *a, const struct stage_outcome *b)
{
    assert_memory_equal(&a->row.result, &b->row.result, sizeof a->row.result);
    assert_memory_equal(&a->row.curve, &b->row.curve, sizeof a->row.curve);
}

/* Whether the base of this stage is there, as it will be when it begins. */
static bool holds(struct residence *residence, const struct stage *stage)
{
    struct error err;
    const struct kernels *kernels = kernels_find(stage->backend, &err);
    assert_int_equal(residence_enter(residence, stage, kernels, &err), 0);
    return residence_holds(residence);
}

/* Every method after every other: who leaves its base as it is finds it, and keeps it; who trains it removes it. */
static void test_methods(void **state)
{
    (void)state;
    for (uint32_t degree = 1; degree <= 2; degree++) {
        struct stage stages[METHODS];
        struct stage_outcome alone[METHODS];
        for (int method = 0; method < METHODS; method++) {
            stages[method] = stage_finetune(&fixture, &trunk, (enum method_kind)method, 12);
            stages[method].degree = degree;
            alone[method] = run(&stages[method], NULL);
            done(&alone[method]);
            forget(&stages[method]);
        }
        struct residence *residence = residence_create();
        for (int step = 0; step < METHODS * METHODS; step++) {
            int method = step % METHODS, before = (step + METHODS - 1) % METHODS;
            if (step / METHODS % 2) method = METHODS - 1 - method, before = (method + 1) % METHODS;
            bool base = method == METHOD_FULL || method == METHOD_UNFREEZE;
            bool base_before = before == METHOD_FULL || before == METHOD_UNFREEZE;
            if (step % METHODS) assert_int_equal(holds(residence, &stages[method]), !base && !base_before);
            struct stage_outcome outcome = run(&stages[method], residence);
            done(&outcome);
            same(&outcome, &alone[method]);
            forget(&stages[method]);
        }
        residence_destroy(residence);
    }
}

/* Another base, precision, backend or number of threads is not this one. */
static void test_key(void **state)
{
    (void)state;
    struct residence *residence = residence_create();
    struct stage first = stage_finetune(&fixture, &trunk, METHOD_LORA, 4);
    struct stage others[5];
    for (int i = 0; i < 5; i++)
        others[i] = first;
    others[0].base = digest_of("another", 7);
    others[1].recipe.precision = PRECISION_BF16;
    strcpy(others[2].backend, "reference");
    others[3].threads = 2;
    others[4].model.rope_theta = 500;
    for (int i = 0; i < 5; i++) {
        struct stage_outcome outcome = run(&first, residence);
        done(&outcome);
        forget(&first);
        assert_true(holds(residence, &first));
        assert_false(holds(residence, &others[i]));
        assert_false(holds(residence, &first)); /* it has gone */
        residence_leave(residence, true);
    }
    residence_destroy(residence);
}

/* The file of the base is damaged: what is resident serves on; a failure, and nothing is. */
static void test_not_read_again(void **state)
{
    (void)state;
    char path[PATH_MAX], kept[PATH_MAX + 8];
    struct residence *residence = residence_create();
    struct stage lora = stage_finetune(&fixture, &trunk, METHOD_LORA, 12);
    struct stage prompt = stage_finetune(&fixture, &trunk, METHOD_PROMPT, 12);
    struct stage_outcome alone = run(&prompt, NULL), outcome = run(&lora, residence);
    done(&alone);
    done(&outcome);
    forget(&prompt);
    forget(&lora);
    stage_state_path(&trunk, path);
    snprintf(kept, sizeof kept, "%s.kept", path);
    char command[3 * PATH_MAX];
    snprintf(command, sizeof command, "cp '%s' '%s'", path, kept);
    assert_int_equal(system(command), 0);
    int fd = open(path, O_RDWR);
    off_t size = lseek(fd, 0, SEEK_END);
    assert_int_equal(pwrite(fd, "lightning", 9, size / 2), 9);
    close(fd);
    outcome = run(&prompt, residence);
    done(&outcome);
    same(&outcome, &alone);
    forget(&prompt);
    struct stage wrong = lora;
    wrong.examples = 1u << 30; /* more than there are */
    outcome = run(&wrong, residence);
    assert_int_equal(outcome.status, STORE_CRASHED);
    forget(&lora);
    outcome = run(&prompt, residence);
    assert_int_equal(outcome.status, STORE_CRASHED); /* it has to read it */
    forget(&prompt);
    assert_int_equal(rename(kept, path), 0);
    outcome = run(&prompt, residence);
    done(&outcome);
    same(&outcome, &alone);
    forget(&prompt);
    residence_destroy(residence);
}

/* Devices of a backend that fails to make them now and then, and what is allocated on them. */
static struct kernels weak;
static bool no_devices;
static _Atomic int allocations;

static struct device *device_or_none(int index, int threads, struct error *err)
{
    if (!no_devices) return kernels_find("reference", err)->device_create(index, threads, err);
    error_set(err, DEVICE_FAILED ": none today");
    return NULL;
}

static void *counted_allocate(struct device *device, size_t bytes, struct error *err)
{
    allocations++;
    return kernels_find("reference", err)->allocate(device, bytes, err);
}

static void counted_release(struct device *device, void *memory)
{
    struct error err;
    allocations--;
    kernels_find("reference", &err)->release(device, memory);
}

static int take_base(void *context, const struct collective *collective, struct error *err)
{
    struct residence *residence = context;
    struct stage stage = stage_finetune(&fixture, &trunk, METHOD_LORA, 4);
    struct device *device = weak.device_create(collective->rank, 1, err);
    struct parameters *base = residence_base(residence, &stage, collective, &weak, device, err);
    weak.device_destroy(device);
    return base ? 0 : -1;
}

/* No device can be had to release it with: it is remembered, no stage counts on it, and it goes when one can. */
static void test_released_later(void **state)
{
    struct error err = {""};
    struct stage lora = stage_finetune(&fixture, &trunk, METHOD_LORA, 4), full = lora;
    struct residence *residence = residence_create();
    (void)state;
    weak = *kernels_find("reference", &err);
    weak.device_create = device_or_none;
    weak.allocate = counted_allocate;
    weak.release = counted_release;
    lora.degree = full.degree = 2;
    full.method.kind = METHOD_FULL;
    assert_int_equal(residence_enter(residence, &lora, &weak, &err), 0);
    if (gang_run(2, take_base, residence, &err)) fail_msg("%s", err.text);
    assert_int_equal(allocations, 2);
    for (int way = 0; way < 2; way++) {
        no_devices = true;
        residence_leave(residence, way == 0); /* a stage that failed; later one that had a base of its own */
        assert_int_equal(residence_enter(residence, way ? &lora : &full, &weak, &err), 0);
        assert_false(residence_holds(residence));
        assert_int_equal(allocations, 2);
    }
    residence_leave(residence, false);
    no_devices = false;
    assert_int_equal(residence_enter(residence, &lora, &weak, &err), 0);
    assert_false(residence_holds(residence));
    assert_int_equal(allocations, 0);
    if (gang_run(2, take_base, residence, &err)) fail_msg("%s", err.text);
    residence_leave(residence, false);
    assert_int_equal(residence_enter(residence, &lora, &weak, &err), 0);
    assert_true(residence_holds(residence));
    residence_leave(residence, false);
    residence_destroy(residence);
    assert_int_equal(allocations, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_not_read_again),
        cmocka_unit_test(test_released_later),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
