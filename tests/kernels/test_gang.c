/* Gangs of the CUDA backend (kernels/cuda/gang.cu) over a runtime and a library that stand for CUDA's and for NCCL
 * (tests/emulation): sums are those of the host, also beside what is computed, and whatever rank fails, wherever it
 * does, the others end, and nothing is left. `--library FILE`: sums alone, of a backend out of a shared library. */
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "kernels/precision.h"
#include "kernels/random.h"
#include "tests/emulation/nccl.h"
#include "workers/stage/gang.h"

enum { RANKS = 4, MOST = 2053, RUNS = 6, ROUNDS = 40, STEPS = 6, PATIENCE = 60 /* seconds: a hang ends the test */ };

extern const struct kernels kernels_emulated; /* tests/emulation */
void emulated_fault(bool failing);
void emulated_devices(int count);
void emulated_refuse(int number);
int emulated_held(void);

static const struct kernels *k = &kernels_emulated;
static struct emulated_nccl *nccl;

/* A number that bf16 has, too. */
static float value(int rank, size_t i, uint64_t round)
{
    return bf16_value(bf16_of((float)random_normal((struct random_key){(uint64_t)rank, round}, i)));
}

static void fill(float *x, size_t n, int rank, uint64_t round)
{
    for (size_t i = 0; i < n; i++)
        x[i] = value(rank, i, round);
}

/* What the ranks of one run have, and what they get. */
struct run {
    enum precision precision;
    size_t n;
    float reals[RANKS][MOST], floats[RANKS][MOST], all[RANKS][RANKS * MOST];
    int fails, at;                          /* a rank before its operation `at`; -1: none */
    struct collective_group *_Atomic group; /* once it is there */
};

static struct run by_nccl[RUNS], by_host[RUNS];

struct rank {
    struct device *device;
    real *x;
    float *y, *all;
};

static void rank_close(struct rank *r)
{
    if (!r->device) return;
    k->release(r->device, r->x);
    k->release(r->device, r->y);
    k->release(r->device, r->all);
    k->device_destroy(r->device);
    r->device = NULL;
}

static int rank_open(struct rank *r, const struct run *run, const struct collective *c, struct error *err)
{
    *r = (struct rank){.device = k->device_create(c->rank, 1, err)};
    if (!r->device) return -1;
    k->set_precision(r->device, run->precision);
    r->x = k->allocate(r->device, run->n * k->element_bytes(r->device), err);
    if (r->x) r->y = k->allocate(r->device, run->n * sizeof(float), err);
    if (r->y) r->all = k->allocate(r->device, RANKS * run->n * sizeof(float), err);
    if (r->all) return 0;
    rank_close(r);
    return -1;
}

/* What went wrong, after an operation that said so. */
static int told(const struct rank *r, struct error *err)
{
    return k->synchronise(r->device, err) ? -1 : error_set(err, GANG_FAILED);
}

/* Of what the run says; what comes out is in it, and in all. */
static int sum_all(struct rank *r, struct run *run, const struct collective *c, struct error *err)
{
    size_t n = run->n;
    float *reals = run->reals[c->rank], *floats = run->floats[c->rank];
    k->set_precision(r->device, run->precision);
    fill(reals, n, c->rank, 0);
    fill(floats, n, c->rank, 1);
    k->upload(r->device, n, reals, r->x);
    k->to_device(r->device, r->y, floats, n * sizeof *floats);
    int failed = k->sum_ranks(r->device, c, n, r->x);
    k->download(r->device, n, r->x, reals);
    failed = failed || k->sum_ranks_floats(r->device, c, n, r->y);
    k->to_host(r->device, floats, r->y, n * sizeof *floats);
    failed = failed || k->gather_ranks(r->device, c, n, r->y, r->all);
    k->to_host(r->device, run->all[c->rank], r->all, (size_t)c->size * n * sizeof *floats);
    return failed ? told(r, err) : k->synchronise(r->device, err);
}

/* runs[RUNS]: in both precisions, of some sizes. */
static int every_sum(void *context, const struct collective *c, struct error *err)
{
    static const size_t sizes[RUNS / 2] = {1, 7, MOST};
    struct run *runs = context;
    struct rank r;
    if (rank_open(&r, &(struct run){.n = MOST}, c, err)) return -1;
    int failed = 0;
    for (int i = 0; i < RUNS && !failed; i++) {
        struct run *run = &runs[i];
        if (c->rank == 0) run->n = sizes[i / 2];
        if (c->rank == 0) run->precision = i % 2 ? PRECISION_BF16 : PRECISION_FP32;
        failed = collective_barrier(c) ? error_set(err, GANG_FAILED) : sum_all(&r, run, c, err);
    }
    rank_close(&r);
    return failed;
}

static void nothing_is_left(void)
{
    assert_int_equal(nccl->communicators, 0);
    assert_int_equal(emulated_held(), 0);
}

static int run_gang(int size, int (*body)(void *, const struct collective *, struct error *), struct run *run,
                    struct error *err)
{
    nccl->joining = 0;
    alarm(PATIENCE);
    int result = gang_run(size, body, run, err);
    alarm(0);
    return result;
}

static void pass(int size, int (*body)(void *, const struct collective *, struct error *), struct run *run)
{
    struct error err = {""};
    if (run_gang(size, body, run, &err)) fail_msg("%d ranks: %s", size, err.text);
    nothing_is_left();
}

/* One rounding for each rank that is added, and one on the host: 2^-8 of what is added up each. */
static void sums_agree(const struct run *run, const struct run *other, int size)
{
    bool exact = run->precision == PRECISION_FP32 || size == 2;
    for (int rank = 0; rank < size; rank++) {
        size_t n = run->n, bytes = n * sizeof(float);
        assert_memory_equal(run->floats[rank], other->floats[rank], bytes);
        assert_memory_equal(run->all[rank], other->all[rank], (size_t)size * bytes);
        assert_memory_equal(run->reals[rank], run->reals[0], bytes);
        if (exact) assert_memory_equal(run->reals[rank], other->reals[rank], bytes);
        for (size_t i = 0; i < n; i++) {
            float sum = 0, difference = fabsf(run->reals[rank][i] - other->reals[rank][i]);
            for (int from = 0; from < size; from++)
                sum += fabsf(value(from, i, 0));
            if (!(difference <= (float)size * 0x1p-8F * sum)) fail_msg("element %zu differs by %g", i, difference);
        }
    }
}

static void all_sums_agree(int size)
{
    setenv("TUNELAW_HOST_COLLECTIVES", "1", 1);
    pass(size, every_sum, by_host);
    unsetenv("TUNELAW_HOST_COLLECTIVES");
    assert_int_equal(nccl->joining, 0);
    for (int i = 0; i < RUNS; i++)
        sums_agree(&by_nccl[i], &by_host[i], size);
}

static void sums_of(int size)
{
    nccl->looks = size % 2 ? 3 : 0;
    pass(size, every_sum, by_nccl);
    assert_int_equal(nccl->joining, size);
    all_sums_agree(size);
}

static void sums_are_those_of_the_host(void **state)
{
    (void)state;
    for (int size = 2; size <= RANKS; size++)
        sums_of(size);
}

static void sums_of_three_ranks(void **state)
{
    (void)state;
    sums_of(3);
}

/* Rounds of a sum of what was computed just before, beside something else, of which more is computed just after. */
static int beside(void *context, const struct collective *c, struct error *err)
{
    struct run *run = context;
    struct rank r;
    size_t n = run->n;
    float *reals = run->reals[c->rank], *floats = run->floats[c->rank];
    int failed = rank_open(&r, run, c, err), wrong = 0;
    for (uint64_t round = 0; round < ROUNDS && !failed; round++) {
        fill(reals, n, c->rank, round);
        k->upload(r.device, n, reals, r.x);
        k->to_device(r.device, r.y, reals, n * sizeof *reals);
        k->scale(r.device, n, 4, r.x);
        failed = k->sum_ranks_begin(r.device, c, n, r.x);
        k->copy(r.device, n * sizeof *reals, r.y, r.all);
        failed = failed || k->sum_ranks_end(r.device, c);
        k->scale(r.device, n, 0.25F, r.x);
        k->download(r.device, n, r.x, reals);
        k->to_host(r.device, floats, r.all, n * sizeof *floats);
        for (size_t i = 0; i < n; i++) {
            float sum = value(0, i, round);
            for (int other = 1; other < c->size; other++)
                sum += value(other, i, round);
            if (run->precision == PRECISION_BF16) sum = bf16_value(bf16_of(sum));
            wrong += sum < reals[i] || sum > reals[i] || isnan(reals[i]) || floats[i] < value(c->rank, i, round) ||
                     floats[i] > value(c->rank, i, round);
        }
        failed = failed ? told(&r, err) : k->synchronise(r.device, err);
    }
    if (!failed && wrong) failed = error_set(err, "%d of %zu sums are wrong", wrong, ROUNDS * n);
    rank_close(&r);
    return failed;
}

static void sums_beside_what_is_computed(void **state)
{
    static struct run run;
    (void)state;
    for (int way = 0; way < 4; way++) {
        nccl->looks = way < 2 ? 0 : 3;
        run = (struct run){.precision = way % 2 ? PRECISION_BF16 : PRECISION_FP32, .n = 65};
        pass(way % 2 ? 2 : 3, beside, &run);
    }
}

/* Not by NCCL, which forbids it. */
static void ranks_of_one_gpu_go_through_the_host(void **state)
{
    (void)state;
    emulated_devices(1);
    setenv("TUNELAW_SHARE_GPU", "1", 1);
    pass(2, every_sum, by_nccl);
    unsetenv("TUNELAW_SHARE_GPU");
    emulated_devices(8);
    assert_int_equal(nccl->joining, 0);
    all_sums_agree(2);
}

static int operation(struct rank *r, const struct collective *c, size_t n, int step)
{
    float *host = (float[2]){0};
    switch (step) {
    case 0:
        return k->sum_ranks(r->device, c, n, r->x);
    case 1:
        return k->sum_ranks_begin(r->device, c, n, r->x);
    case 2:
        k->scale(r->device, n, 2, (real *)(void *)r->y);
        return k->sum_ranks_end(r->device, c);
    case 3:
        return k->gather_ranks(r->device, c, n, r->y, r->all);
    case 4:
        k->to_host(r->device, host, r->all, sizeof(float));
        return k->synchronise(r->device, NULL);
    default:
        return k->sum_ranks_floats(r->device, c, n, r->y);
    }
}

static int steps(void *context, const struct collective *c, struct error *err)
{
    struct run *run = context;
    struct rank r;
    int failed = rank_open(&r, run, c, err);
    run->group = c->group;
    for (int step = 0; step < STEPS && !failed; step++) {
        failed = c->rank == run->fails && step == run->at ? error_set(err, "it gives up") : 0;
        if (!failed && operation(&r, c, run->n, step)) failed = told(&r, err);
    }
    if (!failed) failed = k->synchronise(r.device, err);
    rank_close(&r);
    return failed;
}

/* Every rank ends, what went wrong is told, and no device is blamed for it. */
static void fail_with(int size, struct run *run, const char *line)
{
    struct error err = {""};
    assert_int_equal(run_gang(size, steps, run, &err), -1);
    if (!strstr(err.text, line)) fail_msg("trouble %d, step %d: \"%s\"", (int)nccl->trouble, run->at, err.text);
    assert_null(strstr(err.text, DEVICE_FAILED));
    nothing_is_left();
}

static void a_rank_gives_up(void **state)
{
    static struct run run;
    (void)state;
    for (int way = 0; way < 2 * STEPS; way++) {
        nccl->looks = way % 2 ? 0 : 3;
        run = (struct run){.precision = PRECISION_BF16, .n = 7, .fails = way / STEPS, .at = way % STEPS};
        fail_with(2 + way % 2, &run, "it gives up");
    }
}

static void nccl_fails_on_a_rank(void **state)
{
    static struct run run;
    (void)state;
    for (int trouble = NCCL_REFUSES_TO_JOIN; trouble <= NCCL_BREAKS; trouble++) {
        if (trouble == NCCL_NEVER_JOINS) continue; /* a state that does not say so */
        for (int way = 0; way < (trouble < NCCL_NEVER_JOINS ? 2 : 4); way++) {
            nccl->looks = way % 2 ? 3 : 0;
            nccl->trouble = (enum nccl_trouble)trouble;
            nccl->sums = way;
            nccl->rank = way / 2;
            run = (struct run){.n = 7, .fails = -1, .at = nccl->sums};
            fail_with(2 + way % 2, &run, "or NCCL itself");
        }
    }
}

static void *abort_once_all_join(void *argument)
{
    struct run *run = argument;
    while (__atomic_load_n(&nccl->joining, __ATOMIC_SEQ_CST) < 3)
        sched_yield();
    collective_abort(run->group);
    return NULL;
}

static void one_never_joins(void **state)
{
    static struct run run;
    pthread_t thread;
    (void)state;
    run = (struct run){.n = 7, .fails = -1};
    nccl->trouble = NCCL_NEVER_JOINS;
    nccl->rank = 1;
    nccl->joining = 0;
    assert_int_equal(pthread_create(&thread, NULL, abort_once_all_join, &run), 0);
    fail_with(3, &run, GANG_FAILED);
    pthread_join(thread, NULL);
}

/* The first, the second, ... that is taken of any device cannot be had. */
static void want_of_memory_anywhere(void **state)
{
    static struct run run;
    int number = 0, failed = -1;
    (void)state;
    while (failed) {
        struct error err = {""};
        run = (struct run){.precision = PRECISION_BF16, .n = 7, .fails = -1};
        nccl->looks = ++number % 2 ? 3 : 0;
        emulated_refuse(number);
        failed = run_gang(2, steps, &run, &err);
        emulated_refuse(0);
        if (failed && !strstr(err.text, "out of memory")) fail_msg("%d: %s", number, err.text);
        nothing_is_left();
    }
    assert_true(number > 2 * 10); /* streams, rings, buffers, events */
}

/* A device that fails is told as one, whichever rank sees it. */
static int broken_device(void *context, const struct collective *c, struct error *err)
{
    const struct run *run = context;
    struct rank r;
    int failed = rank_open(&r, run, c, err);
    for (int step = 0; step < STEPS && !failed; step++) {
        if (c->rank == 1 && step == 3) emulated_fault(true);
        if (operation(&r, c, run->n, step)) failed = told(&r, err);
    }
    if (!failed) failed = k->synchronise(r.device, err);
    rank_close(&r);
    return failed;
}

static void a_device_fails(void **state)
{
    static struct run run;
    struct error err = {""};
    (void)state;
    run = (struct run){.n = 7, .fails = -1};
    nccl->looks = 3;
    assert_int_equal(run_gang(2, broken_device, &run, &err), -1);
    emulated_fault(false);
    assert_non_null(strstr(err.text, DEVICE_FAILED));
    nothing_is_left();
}

/* Of a process with these GPUs, and with or without a word of its own. */
static void loads_kernels(const char *environment, const char *wanted)
{
    char program[4096] = "", command[8192], line[64] = "";
    assert_true(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    snprintf(command, sizeof command, "env -u CUDA_MODULE_LOADING %s '%s' --loading", environment, program);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    if (!fgets(line, sizeof line, pipe)) line[0] = 0;
    assert_int_equal(pclose(pipe), 0);
    line[strcspn(line, "\n")] = 0;
    assert_string_equal(line, wanted);
}

static void kernels_are_loaded_before_sums(void **state)
{
    (void)state;
    loads_kernels("CUDA_VISIBLE_DEVICES=4,7", "EAGER");
    loads_kernels("-u CUDA_VISIBLE_DEVICES", "EAGER");
    loads_kernels("CUDA_VISIBLE_DEVICES=4", "");
    loads_kernels("CUDA_VISIBLE_DEVICES=4,7 CUDA_MODULE_LOADING=LAZY", "LAZY");
}

static int begin(void **state)
{
    (void)state;
    nccl->trouble = NCCL_WELL;
    nccl->looks = 0;
    return 0;
}

static int find_nccl(const char *file)
{
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    setenv("EMULATED_NCCL", file, 1);
    nccl = library ? dlsym(library, "emulated_nccl") : NULL;
    if (!nccl) fprintf(stderr, "%s\n", dlerror());
    return nccl ? 0 : -1;
}

/* In a process whose NCCL is too old, or none at all. */
static void without_nccl(void **state)
{
    static struct emulated_nccl none;
    (void)state;
    nccl = &none;
    setenv("EMULATED_NCCL", "libm.so.6", 1);
    pass(2, every_sum, by_nccl);
    all_sums_agree(2);
}

static int run_mutant(const char *file)
{
    const struct CMUnitTest sums[] = {
        cmocka_unit_test_setup(sums_beside_what_is_computed, begin),
        cmocka_unit_test_setup(sums_of_three_ranks, begin),
    };
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    k = library ? dlsym(library, "kernels_emulated") : NULL;
    if (!k) return fprintf(stderr, "%s\n", dlerror()), 2;
    return cmocka_run_group_tests(sums, NULL, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sums_are_those_of_the_host, begin),
        cmocka_unit_test_setup(sums_beside_what_is_computed, begin),
        cmocka_unit_test_setup(ranks_of_one_gpu_go_through_the_host, begin),
        cmocka_unit_test_setup(a_rank_gives_up, begin),
        cmocka_unit_test_setup(nccl_fails_on_a_rank, begin),
        cmocka_unit_test_setup(one_never_joins, begin),
        cmocka_unit_test_setup(want_of_memory_anywhere, begin),
        cmocka_unit_test_setup(a_device_fails, begin),
        cmocka_unit_test(kernels_are_loaded_before_sums),
    };
    const struct CMUnitTest old[] = {cmocka_unit_test(without_nccl)};
    if (argc == 2 && !strcmp(argv[1], "--loading")) {
        const char *loading = getenv("CUDA_MODULE_LOADING");
        return puts(loading ? loading : "") < 0;
    }
    if (argc == 3 && !strcmp(argv[1], "--library")) return find_nccl(FAKE_NCCL) ? 2 : run_mutant(argv[2]);
    pid_t child = fork();
    if (child == 0) exit(cmocka_run_group_tests(old, NULL, NULL) ? 1 : 0);
    int status = -1;
    waitpid(child, &status, 0);
    if (find_nccl(FAKE_NCCL)) return 2;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed || status != 0;
}
