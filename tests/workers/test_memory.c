/* What a stage takes: the bytes that its arenas are planned with, beside what the process had before, are what the
 * operating system counted at its peak, within 5 % of them. Stages run one after another in a process of their own, as
 * a worker's. `test_workers_memory --backend cuda`: the same on a GPU, where the driver counts (NVML); exit code 77
 * where there is none, or where it cannot list this process. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/workers/trained.h"
#include "workers/model/cost.h"
#include "workers/model/model.h"
#include "workers/stage/monitor.h"
#include "workers/train/batch.h"

static struct fixture fixture;
static const char *backend = "cpu";

struct measured {
    struct stage_outcome outcome;
    uint64_t before;
};

static uint64_t resident(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*u %lu", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

enum { STAGES = 4 };

static uint64_t predicted_bytes(const struct stage *stage)
{
    struct memory memory;
    struct error err = {""};
    const struct batch_capacity capacity = batch_capacity_of(&stage->recipe, &stage->model, &stage->method);
    struct recipe recipe = stage->recipe;
    if (model_memory(&stage->model, &stage->method, &capacity, &recipe,
                     kernels_storage(backend, stage->recipe.precision), (int)stage->degree, &memory, &err))
        fail_msg("%s", err.text);
    return memory_total(&memory) * stage->degree;
}

/* What a worker's process has of its own: a tiny stage has made it load its libraries and their buffers. Its peak,
 * beside its arenas. */
static uint64_t warm_up(uint32_t degree)
{
    struct stage_outcome outcome;
    struct stage first = stage_pretrain(&fixture, 0, 1);
    first.identity = digest_of("first", 5);
    first.recipe.warmup_steps = 0;
    first.degree = degree;
    strcpy(first.backend, backend);
    stage_run(&first, NULL, &outcome);
    forget(&first);
    if (outcome.status != STORE_DONE) {
        fprintf(stderr, "%s\n", outcome.message);
        _exit(1);
    }
    return outcome.peak_bytes - predicted_bytes(&first);
}

static void run_here(const struct stage *stages, struct measured *out)
{
    uint64_t own = warm_up(stages[0].degree);
    for (int i = 0; i < STAGES; i++) {
        out[i].before = strcmp(backend, "cpu") ? own : resident();
        stage_run(&stages[i], NULL, &out[i].outcome);
    }
}

/* One after another in a process of their own. */
static void run_apart(const struct stage *stages, struct measured *out)
{
    int ends[2];
    const size_t size = STAGES * sizeof *out;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        memset(out, 0, size);
        run_here(stages, out);
        ssize_t written = write(ends[1], out, size);
        _exit(written == (ssize_t)size ? 0 : 1);
    }
    close(ends[1]);
    size_t got = 0;
    for (ssize_t more = 1; got < size && more > 0; got += more > 0 ? (size_t)more : 0)
        more = read(ends[0], (char *)out + got, size - got);
    close(ends[0]);
    waitpid(child, NULL, 0);
    assert_int_equal(got, size);
}

static void enlarge(struct stage *stage)
{
    stage->model.layers = 16; /* 50M weights: what libraries pack for a matrix product is small beside them */
    stage->model.width = 512;
    stage->model.heads = 8;
    stage->model.kv_heads = 8;
    stage->model.head_width = 64;
    stage->model.ffn = 1536;
    stage->recipe.batch = 8;
    stage->recipe.warmup_steps = 0;
}

static int set_up(void **state)
{
    (void)state;
    return fixture_create(&fixture);
}

static int tear_down(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

static void check(const struct stage *stage, const struct measured *measured)
{
    const char *name = stage->kind == STAGE_PRETRAIN ? "pretrain" : method_name(stage->method.kind);
    double before = (double)measured->before, predicted = (double)predicted_bytes(stage),
           peak = (double)measured->outcome.peak_bytes;
    if (measured->outcome.status != STORE_DONE) fail_msg("%s: %s", name, measured->outcome.message);
    print_message("%-8s over %u: %5.1f MiB of the process, %5.1f predicted, %5.1f at the peak: %+.1f %%\n", name,
                  stage->degree, before / 0x1p20, predicted / 0x1p20, peak / 0x1p20,
                  100 * (peak / (before + predicted) - 1));
    assert_true(fabs(peak - before - predicted) < 0.05 * predicted);
    if (!strcmp(backend, "cpu")) assert_true(before < 96 * 0x1p20); /* the stage before has given back what it had */
}

static void test_stages(void **state)
{
    (void)state;
    for (uint32_t degree = 1; degree <= 2; degree++) {
        struct stage stages[STAGES] = {stage_pretrain(&fixture, 0, 1)};
        struct measured measured[STAGES];
        for (int method = METHOD_FULL; method <= METHOD_PROMPT; method++)
            stages[method - METHOD_FULL + 1] = stage_finetune(&fixture, &stages[0], (enum method_kind)method, 1);
        for (int i = 0; i < STAGES; i++) {
            enlarge(&stages[i]);
            stages[i].recipe.evaluations = 1;
            stages[i].degree = degree;
            strcpy(stages[i].backend, backend);
            forget(&stages[i]);
        }
        run_apart(stages, measured);
        for (int i = 0; i < STAGES; i++)
            check(&stages[i], &measured[i]);
    }
}

/* This process has numbers in several PID namespaces, or is in a container that does not show the others. */
static bool own_namespace(void)
{
    struct stat space;
    return stat("/proc/self/ns/pid", &space) != 0 || space.st_ino != 0xEFFFFFFCu; /* PROC_PID_INIT_INO */
}

/* In a process of its own: what has loaded CUDA may not fork. */
static bool driver_counts(void)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct error err = {""};
        struct kernels_device gpu;
        if (kernels_devices(&gpu, 1, &err) <= 0) {
            printf("skipped: no GPU: %s\n", err.text);
            exit(77);
        }
        const struct kernels *kernels = kernels_find(backend, &err);
        struct device *device = kernels ? kernels->device_create(0, 1, &err) : NULL;
        void *memory = device ? kernels->allocate(device, 1, &err) : NULL;
        if (!memory) {
            printf("%s\n", err.text);
            exit(1);
        }
        if (kernels->peak_bytes() > 0) exit(0);
        bool outside = own_namespace();
        printf(outside ? "skipped: the driver lists processes by their numbers in another PID namespace\n"
                       : "the driver's count of this process is not known\n");
        exit(outside ? 77 : 1);
    }
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 77)) exit(1);
    return WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "--backend")) backend = argv[2];
    if (!strcmp(backend, "cuda") && !driver_counts()) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stages)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
