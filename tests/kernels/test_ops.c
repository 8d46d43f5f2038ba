/* Every operation of every backend of this machine, against the reference and against finite differences; --help says
 * what else. Without words: test, then grad. */
#include <argp.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/plugin.h"
#include "kernels/random.h"
#include "tests/kernels/ops_check.h"

#ifdef OPS_EMULATED
extern const struct kernels kernels_emulated; /* tests/emulation */
#endif

enum { BACKENDS = 4, WANTED = 64, SKIPPED = 77 };

static const struct kernels *backends[BACKENDS];
static size_t backend_count;

/* What the command line says. Nothing wanted of a kind: all of it. */
static struct options {
    const char *mode;
    const char *wanted[3][WANTED]; /* backends, precisions, operations */
    int count[3];
    uint64_t seed;
    int shapes, threads;
    bool complete;
    const char *library;
} options = {.mode = "", .seed = 2026, .threads = 1};
enum { OF_BACKENDS, OF_PRECISIONS, OF_OPERATIONS };

static bool is_wanted(int kind, const char *name)
{
    for (int i = 0; i < options.count[kind]; i++)
        if (strcmp(options.wanted[kind][i], name) == 0) return true;
    return options.count[kind] == 0;
}

static bool op_wanted(const char *name)
{
    return is_wanted(OF_OPERATIONS, name);
}

/* matmul_bf16 rounds what is stored as floats: where reals are stored in bf16, matmul does that. matmul_bf16x3 is of
 * the host's backends. */
static bool has_case(const struct target *t, const char *name)
{
    if (!op_wanted(name) || !op_there(op_find(name), t->k)) return false;
    if (!strcmp(name, "matmul_bf16x3")) return !strcmp(t->k->name, "cpu") || !strcmp(t->k->name, "reference");
    if (strcmp(name, "matmul_bf16")) return true;
    t->k->set_precision(t->device, PRECISION_BF16);
    bool floats = t->k->element_bytes(t->device) == sizeof(float);
    t->k->set_precision(t->device, t->precision);
    return floats;
}

static void verdict(const char *what, const struct target *t, int threads, int count, int failed)
{
    printf("%s: %s, %s, %d threads: %d of %d cases\n", what, t->k->name, precision_name(t->precision), threads,
           count - failed, count);
    fflush(stdout);
}

static int test_cases(const struct target *t, int threads)
{
    int count = 0, failed = 0;
    for (size_t i = 0; i < test_shape_count; i++) {
        if (!has_case(t, test_shapes[i].op)) continue;
        failed += ops_check(t, &test_shapes[i], 1);
        count++;
    }
    for (size_t i = 0; i < nan_case_count; i++) {
        if (!has_case(t, nan_cases[i].shape.op)) continue;
        failed += ops_check_nan(t, &nan_cases[i]);
        count++;
    }
    verdict("test", t, threads, count, failed);
    return failed;
}

/* Log-uniform: small sizes are as likely as large ones, and odd ones as even ones. */
static size_t draw_size(const size_t range[2], struct random_key key, uint64_t *draws)
{
    double low = (double)range[0], high = (double)range[1];
    size_t size = (size_t)(exp(log(low + 1) + random_uniform(key, (*draws)++) * (log(high + 2) - log(low + 1))) - 1);
    return size < range[0] ? range[0] : size > range[1] ? range[1] : size;
}

/* Shapes of each operation, a function of the seed. The reference is their oracle. */
static int random_cases(const struct target *t, int threads)
{
    int count = 0, failed = 0;
    if (strcmp(t->k->name, "reference") == 0) return 0;
    for (size_t i = 0; i < random_shape_count; i++) {
        const struct random_shape *r = &random_shapes[i];
        struct random_key key = {options.seed, random_stream(r->op)};
        uint64_t draws = 0;
        if (!has_case(t, r->op)) continue;
        for (int n = 0; n < options.shapes; n++, count++) {
            struct shape shape = {.op = r->op};
            for (int j = 0; j < PARAMETERS; j++)
                shape.p[j] = draw_size(r->range[j], key, &draws);
            if (r->tidy) r->tidy(shape.p);
            failed += ops_check(t, &shape, 10); /* few elements: errors average less */
        }
    }
    verdict("random", t, threads, count, failed);
    return failed;
}

static int perf_cases(const struct target *t, int threads)
{
    (void)threads;
    for (size_t i = 0; strcmp(t->k->name, "reference") && i < perf_shape_count; i++)
        if (has_case(t, perf_shapes[i].op)) ops_measure(t, &perf_shapes[i]);
    return 0;
}

/* In each precision whose reals are stored differently, with so many host threads. */
static int in_precisions(const struct kernels *k, int threads, int (*cases)(const struct target *, int))
{
    int failed = 0;
    size_t floats = 0;
    struct target t = {.k = k, .device = ops_device(k, threads)};
    for (int precision = PRECISION_FP32; precision <= PRECISION_BF16; precision++) {
        t.precision = (enum precision)precision;
        k->set_precision(t.device, t.precision);
        if (precision == PRECISION_FP32) floats = k->element_bytes(t.device);
        if (precision != PRECISION_FP32 && k->element_bytes(t.device) == floats) continue;
        if (is_wanted(OF_PRECISIONS, precision_name(t.precision))) failed += cases(&t, threads);
    }
    k->device_destroy(t.device);
    return failed;
}

/* Backends of the host at one thread and at two; a device has none of its own. */
static int run_cases(int (*cases)(const struct target *, int))
{
    int failed = 0;
    for (size_t b = 0; b < backend_count; b++) {
        bool host = strcmp(backends[b]->name, "reference") == 0 || strcmp(backends[b]->name, "cpu") == 0;
        for (int threads = 1; threads <= (host ? 2 : 1); threads++)
            failed += in_precisions(backends[b], threads, cases);
    }
    return failed;
}

static int run_perf(void)
{
    for (size_t b = 0; b < backend_count; b++)
        in_precisions(backends[b], options.threads, perf_cases);
    return 0;
}

static int run_gradients(void)
{
    int failed = 0;
    for (size_t b = 0; b < backend_count; b++)
        failed += gradients_check(backends[b], op_wanted);
    return failed;
}

/* A line for each operation that a backend lacks. */
static int run_missing(void)
{
    int missing = 0;
    for (size_t b = 0; b < backend_count; b++) {
        for (size_t i = 0; op_at(i); i++) {
            if (!op_wanted(op_at(i)->name) || op_there(op_at(i), backends[b])) continue;
            printf("missing %-10s %s\n", backends[b]->name, op_at(i)->name);
            missing++;
        }
    }
    return missing;
}

/* A line a backend, then one for each operation that it lacks. A plugin without all of them is not used. */
static void support_of(const char *name)
{
    struct error err, none;
    char library[64] = "";
    const struct kernels *k = kernels_find(name, &err), *table = k;
    const struct kernels_plugin *plugin = k || strcmp(name, "cuda") ? NULL : plugin_load(&none);
    if (plugin) table = plugin->kernels;
    size_t count = 0, all = 0;
    for (; op_at(all); all++)
        count += table && op_there(op_at(all), table);
    if (k) kernels_library(k, library, sizeof library);
    const char *bf16 = !k ? "" : kernels_fast_bf16(k) ? "; bf16 arithmetic" : "; bf16 by rounding";
    printf("support: %s: %zu of %zu operations%s%s%s\n", name, count, all, k ? "" : "; ", k ? "" : err.text, bf16);
    if (k) printf("support: %s: matrix products by %s\n", name, library);
    for (size_t o = 0; table && o < all; o++)
        if (!op_there(op_at(o), table)) printf("support: %s: no %s\n", name, op_at(o)->name);
}

static int run_support(void)
{
    support_of("reference");
    support_of("cpu");
    support_of("cuda");
    return 0;
}

static const char *const modes[] = {"test", "grad", "perf", "support", "random"};

static bool is_mode(const char *word)
{
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(modes[i], word) == 0) return true;
    return false;
}

static int kind_of(const char *word)
{
    const char *names[] = {"reference", "cpu", "cuda", "emulated"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], word) == 0) return OF_BACKENDS;
    if (precision_find(word) >= 0) return OF_PRECISIONS;
    return op_find(word) ? OF_OPERATIONS : -1;
}

static error_t parse_word(char *word, struct argp_state *state)
{
    int kind = kind_of(word);
    if (!options.mode[0] && is_mode(word)) {
        options.mode = word;
    } else if (kind < 0) {
        argp_error(state, "\"%s\" is no mode, backend, precision or operation; `perf` names the operations", word);
    } else if (options.count[kind] == WANTED) {
        argp_error(state, "too many words");
    } else {
        options.wanted[kind][options.count[kind]++] = word;
    }
    return 0;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 's':
        options.seed = strtoull(text, NULL, 10);
        return 0;
    case 'c':
        options.shapes = atoi(text);
        return 0;
    case 't':
        options.threads = atoi(text);
        if (options.threads < 1) argp_error(state, "--threads: at least 1");
        return 0;
    case 'a':
        options.complete = true;
        return 0;
    case 'l':
        options.library = text;
        return 0;
    case ARGP_KEY_ARG:
        return parse_word(text, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option argp_options[] = {
    {"seed", 's', "N", 0, "of the random shapes (2026)", 0},
    {"count", 'c', "N", 0, "random shapes of each operation (2; in mode random 50)", 0},
    {"threads", 't', "N", 0, "of the device in mode perf (1)", 0},
    {"library", 'l', "FILE", 0, "the emulated backend out of a shared library", 0},
    {"all", 'a', NULL, 0, "operations that a backend lacks count as failed", 0},
    {0}};
static const struct argp argp = {
    argp_options,
    parse_option,
    "[test|grad|perf|support|random] [BACKEND|PRECISION|OPERATION]...",
    "Every operation of every backend of this machine, or those that the words name.\v"
    "test: each case against the reference, in each precision that is stored differently, on hosts at 1 and 2 threads, "
    "outputs poisoned, buffers guarded, the same bytes at other addresses; then some random shapes.\n"
    "grad: backward operations against finite differences of the forward ones, in fp32.\n"
    "perf: the fastest of some calls, GFLOP/s or GB/s.\n"
    "support: which operations a backend has.\n"
    "random: random shapes alone.\n"
    "Without a mode: test and grad. Exit code 77: this machine has none of the backends.",
    NULL,
    NULL,
    NULL};

static const struct kernels *emulated(void)
{
    const struct kernels *k = NULL;
#ifdef OPS_EMULATED
    k = &kernels_emulated;
#endif
    if (!options.library) return k;
    void *library = dlopen(options.library, RTLD_NOW | RTLD_LOCAL);
    k = library ? dlsym(library, "kernels_emulated") : NULL;
    if (k) return k;
    fprintf(stderr, "test_kernels_ops: %s\n", dlerror());
    exit(2);
}

static void find_backends(void)
{
    const struct kernels *all[BACKENDS];
    size_t count = kernels_available(all, BACKENDS);
    if (emulated()) all[count++] = emulated();
    for (size_t i = 0; i < count; i++)
        if (is_wanted(OF_BACKENDS, all[i]->name)) backends[backend_count++] = all[i];
}

int main(int argc, char **argv)
{
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    const char *mode = options.mode;
    int failed = 0;
    if (!options.shapes) options.shapes = strcmp(mode, "random") == 0 ? 50 : 2;
    if (strcmp(mode, "support") == 0) return run_support();
    find_backends();
    if (!backend_count) {
        printf("skipped: no such backend on this machine\n");
        return SKIPPED;
    }
    if (strcmp(mode, "perf") == 0) return run_perf();
    if (strcmp(mode, "grad") && strcmp(mode, "random")) failed += run_cases(test_cases);
    if (strcmp(mode, "grad")) failed += run_cases(random_cases);
    if (strcmp(mode, "grad") == 0 || !mode[0]) failed += run_gradients();
    int missing = run_missing();
    if (options.complete) failed += missing;
    printf(failed ? "FAILED: %d cases\n" : "passed\n", failed);
    return failed ? 1 : 0;
}
