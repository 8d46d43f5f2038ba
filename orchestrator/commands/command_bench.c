/* `tunelaw bench`: what this machine can do, and what a sweep would cost on it. Measures; writes nothing but its
 * output.
 */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "io/quantity.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/plan/simulate.h"
#include "orchestrator/run/host.h"
#include "orchestrator/run/plan_trials.h"

enum { SIZES = 3, PRODUCTS = PRECISIONS * SIZES };
static const uint32_t sizes[SIZES] = {256, 1024, 4096};

struct options {
    const char *file, *backend;
    double seconds;
    long devices;
    bool json;
};

/* FLOP/s of products of matrices of one size: of one device alone, and of each where all compute at once. */
struct product {
    enum precision precision;
    uint32_t size;
    double alone, together;
};

struct bench {
    const struct options *options;
    struct trials_host host;
    struct gpus gpus;
    struct probe probe;
    char processor[128];
    struct product products[PRODUCTS];
    int product_count;
    struct sweep *sweep; /* NULL: none was named */
    struct plan *plan;
    struct plan_trials trials;
    double predicted_seconds, seconds; /* of the sweep on this host, simulated */
};

static const struct argp_option option_list[] = {
    {"backend", 'b', "NAME", 0, "auto, cpu, cuda or reference, instead of what the sweep file says (auto)", 0},
    {"devices", 'd', "N", 0, "Use N devices (default: as the sweep file says, or all of this host)", 0},
    {"seconds", 's', "SECONDS", 0, "Measure each case for so long (default: 1)", 0},
    {"json", 'j', NULL, 0, "Print JSON", 0},
    {0}};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case 'b':
        if (!sweep_backend_known(arg)) argp_error(state, "--backend %s: allowed: " SWEEP_BACKENDS, arg);
        options->backend = arg;
        return 0;
    case 'd':
        options->devices = (long)command_number("devices", arg, 1, 1024, state);
        return 0;
    case 's':
        options->seconds = command_number("seconds", arg, 0.01, 600, state);
        return 0;
    case 'j':
        options->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (options->file) argp_error(state, "one sweep file is expected");
        options->file = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* "AMD EPYC 9654 96-Core Processor", as the kernel says; else the architecture. */
static void name_processor(char *out, size_t size)
{
    char line[256];
    struct utsname names;
    FILE *file = fopen("/proc/cpuinfo", "re");
    snprintf(out, size, "%s", uname(&names) ? "unknown" : names.machine);
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out, size, "%s", colon + 1 + strspn(colon + 1, " \t"));
        break;
    }
    if (file) fclose(file);
}

static int open_sweep(struct bench *bench, struct error *err)
{
    bench->sweep = sweep_load(bench->options->file, err);
    if (!bench->sweep || sweep_check_complete(bench->sweep, err)) return -1;
    if (bench->options->backend) sweep_set_backend(bench->sweep, bench->options->backend);
    if (bench->options->devices) bench->sweep->resources.devices = (uint32_t)bench->options->devices;
    return 0;
}

/* Backend and devices, as a run would have them; GPUs are claimed, so that no run is disturbed. */
static int open_host(struct bench *bench, struct error *err)
{
    const struct sweep_resources *resources = bench->sweep ? &bench->sweep->resources : NULL;
    const char *asked = bench->options->backend ? bench->options->backend : "auto";
    struct trials_host *host = &bench->host;
    host->threads = resources ? resources->threads : 1;
    enum precision precision = bench->sweep ? bench->sweep->precision : PRECISION_FP32;
    if (trials_machine(host->launcher, NULL, resources ? resources->backend : asked, precision, host->threads, false,
                       &bench->probe, err))
        return -1;
    bool gpus = host_has_gpus(&bench->probe);
    uint32_t wanted = resources ? resources->devices : (uint32_t)bench->options->devices;
    if (gpus && gpus_find(&bench->gpus, err)) return -1;
    if (gpus) host->gpus = &bench->gpus;
    host->devices = host_devices(host->gpus, wanted, host->threads);
    if (!host->devices)
        return error_set(err, "%" PRIu32 " devices are asked for, this host gives %" PRIu32 " GPUs", wanted,
                         bench->gpus.count);
    if (gpus && gpus_claim(&bench->gpus, 0, host->devices, 0, "tunelaw bench", err)) return -1;
    struct probe first; /* of the claimed */
    if (bench->sweep &&
        trials_machine(host->launcher, host->gpus, bench->probe.backend, precision, host->threads, true, &first, err))
        return -1;
    if (bench->sweep) bench->probe.rate = first.rate;
    if (bench->sweep) host_fill_resources(bench->sweep, &bench->probe);
    name_processor(bench->processor, sizeof bench->processor);
    return 0;
}

/* FLOP/s of each of so many devices at once. */
static int measure_rate(struct bench *bench, uint32_t devices, enum precision precision, uint32_t size, double *rate,
                        struct error *err)
{
    struct trial trial;
    struct trial_request request = {.kind = TRIAL_PRODUCTS,
                                    .seconds = bench->options->seconds / 2,
                                    .precision = precision,
                                    .threads = bench->host.threads,
                                    .size = size};
    snprintf(request.backend, sizeof request.backend, "%s", bench->probe.backend);
    if (trials_measure(&bench->host, devices, 1, &request, NULL, &trial, err)) return -1;
    *rate = trial.flops_per_second;
    return 0;
}

/* In each precision, or in the sweep's; the largest size on GPUs alone: a core takes seconds for one. */
static int measure_products(struct bench *bench, struct error *err)
{
    bool gpus = bench->host.gpus != NULL;
    for (int precision = PRECISION_FP32; precision < PRECISIONS; precision++)
        for (int i = 0; i < SIZES; i++) {
            struct product *product = &bench->products[bench->product_count];
            if ((bench->sweep && bench->sweep->precision != (enum precision)precision) || (sizes[i] > 1024 && !gpus) ||
                !sweep_backend_computes(bench->probe.backend, (enum precision)precision))
                continue;
            *product = (struct product){.precision = (enum precision)precision, .size = sizes[i]};
            if (measure_rate(bench, 1, product->precision, product->size, &product->alone, err) ||
                measure_rate(bench, bench->host.devices, product->precision, product->size, &product->together, err))
                return -1;
            bench->product_count++;
        }
    return 0;
}

/* Seconds of the sweep on this host alone, by the scheduler. */
static int simulate_here(const struct bench *bench, double *seconds, struct error *err)
{
    struct simulate_result result;
    struct simulate_options options = {
        .nodes = 1, .devices = bench->host.devices, .checkpoint_seconds = bench->sweep->resources.checkpoint_seconds};
    if (simulate_best(bench->plan, &options, &result, err)) return -1;
    *seconds = result.makespan_seconds;
    return 0;
}

static int measure_sweep(struct bench *bench, struct error *err)
{
    bench->plan = plan_create(bench->sweep, bench->probe.rate, err);
    if (!bench->plan || plan_trials_find(bench->plan, &bench->trials, err) ||
        simulate_here(bench, &bench->predicted_seconds, err))
        return -1;
    for (size_t i = 0; i < bench->trials.count; i++)
        if (plan_trials_measure(bench->plan, &bench->trials.cells[i], &bench->host, bench->options->seconds, err))
            return -1;
    if (plan_trials_apply(bench->plan, &bench->trials, err)) return -1;
    return simulate_here(bench, &bench->seconds, err);
}

static const char *model_name(const struct bench *bench, const struct trial_cell *cell)
{
    return bench->sweep->models[bench->plan->stages[cell->measured].model].name;
}

static double total_device_seconds(const struct bench *bench)
{
    double sum = 0;
    for (size_t i = 0; i < bench->trials.count; i++)
        sum += bench->trials.cells[i].device_seconds;
    return sum;
}

/* Of one device, while it trains; 0: no training. */
static double cell_flops_per_second(const struct bench *bench, const struct trial_cell *cell)
{
    const struct plan_stage *stage = &bench->plan->stages[cell->measured];
    uint64_t steps = stage->last_step - stage->first_step;
    if (!steps || !(cell->trial.step_seconds > 0.0)) return 0.0;
    double seconds = cell->trial.step_seconds * (double)steps * stage->degree;
    return stage->flops / seconds;
}

static void print_products(const struct bench *bench)
{
    char alone[QUANTITY_TEXT], together[QUANTITY_TEXT], gpu[HOST_GPU_TEXT];
    const struct probe *probe = &bench->probe;
    printf("%s: %" PRIu32 " device%s of backend %s (%s)", bench->processor, bench->host.devices,
           bench->host.devices == 1 ? "" : "s", probe->backend, probe->library);
    if (!bench->host.gpus)
        printf(", %" PRIu32 " thread%s each", bench->host.threads, bench->host.threads == 1 ? "" : "s");
    printf(", %.1f GiB of memory\n", (double)host_memory() / 0x1p30);
    for (uint32_t i = 0; i < probe->gpus; i++)
        printf("  GPU %" PRIu32 ": %s\n", i, host_gpu_text(probe, i, gpu));
    printf("\nproducts of matrices, FLOP/s of a device:\n");
    printf("  %-9s %-12s %10s %16s\n", "precision", "size", "alone", "all at once");
    for (int i = 0; i < bench->product_count; i++) {
        const struct product *p = &bench->products[i];
        char size[32];
        snprintf(size, sizeof size, "%" PRIu32 " x %" PRIu32, p->size, p->size);
        printf("  %-9s %-12s %10s %16s\n", precision_name(p->precision), size, quantity_number(p->alone, alone),
               quantity_number(p->together, together));
    }
}

/* Times are of devices: what one would need alone. */
static void print_sweep(const struct bench *bench)
{
    char a[QUANTITY_TEXT], b[QUANTITY_TEXT], c[QUANTITY_TEXT], d[QUANTITY_TEXT], e[QUANTITY_TEXT];
    printf("\n%s, a stage of each kind on each device at once. Memory of a device as planned; time of one device for "
           "all of the kind:\n",
           bench->options->file);
    printf("  %-12s %-11s %6s %9s %9s %10s %10s %10s\n", "model", "method", "stages", "tokens/s", "FLOP/s", "memory",
           "planned", "measured");
    for (size_t i = 0; i < bench->trials.count; i++) {
        const struct trial_cell *cell = &bench->trials.cells[i];
        const struct trial *t = &cell->trial;
        bool trains = t->step_seconds > 0.0;
        printf("  %-12s %-11s %6zu %9s %9s %10s %10s %10s\n", model_name(bench, cell),
               plan_trials_name(bench->plan, cell), cell->stages,
               trains ? quantity_number(t->step_tokens / t->step_seconds, a) : "-",
               trains ? quantity_number(cell_flops_per_second(bench, cell), b) : "-",
               quantity_bytes((double)bench->plan->stages[cell->measured].bytes, c),
               quantity_time(cell->predicted_device_seconds, d), quantity_time(cell->device_seconds, e));
    }
    printf("\nThe whole sweep here: %s (%s as planned), %s of devices; without texts that are generated, checkpoints,\n"
           "starts of workers and what packs of points save. `tunelaw plan --rate` takes GFLOP/s of other machines.\n",
           quantity_clock(bench->seconds, a), quantity_clock(bench->predicted_seconds, b),
           quantity_clock(total_device_seconds(bench), c));
}

static json_t *cells_json(const struct bench *bench)
{
    json_t *list = json_array();
    for (size_t i = 0; i < bench->trials.count; i++) {
        const struct trial_cell *cell = &bench->trials.cells[i];
        const struct plan_stage *stage = &bench->plan->stages[cell->measured];
        const struct trial *t = &cell->trial;
        double tokens = t->step_seconds > 0.0 ? t->step_tokens / t->step_seconds : 0.0;
        double evaluated = t->evaluation_seconds > 0.0 ? t->evaluation_tokens / t->evaluation_seconds : 0.0;
        json_t *object = json_pack(
            "{s:s, s:s, s:I, s:I, s:s, s:f, s:f, s:f, s:f, s:I, s:f, s:f}", "model", model_name(bench, cell), "method",
            plan_trials_name(bench->plan, cell), "stages", (json_int_t)cell->stages, "degree",
            (json_int_t)stage->degree, "stage", stage->identity.hex, "step_seconds", t->step_seconds,
            "tokens_per_second", tokens, "evaluation_tokens_per_second", evaluated, "flops_per_second",
            cell_flops_per_second(bench, cell), "predicted_bytes", (json_int_t)plan_stage_bytes(bench->plan, stage),
            "predicted_device_seconds", cell->predicted_device_seconds, "device_seconds", cell->device_seconds);
        if (t->peak_bytes) json_object_set_new(object, "peak_bytes", json_integer((json_int_t)t->peak_bytes));
        json_array_append_new(list, object);
    }
    return list;
}

static int print_json(const struct bench *bench, struct error *err)
{
    const struct probe *probe = &bench->probe;
    json_t *products = json_array(), *gpus = json_array();
    for (uint32_t i = 0; i < probe->gpus; i++)
        json_array_append_new(gpus, json_pack("{s:s, s:s, s:I}", "name", probe->gpu[i].name, "uuid", probe->gpu[i].uuid,
                                              "memory_bytes", (json_int_t)probe->gpu[i].memory));
    for (int i = 0; i < bench->product_count; i++) {
        const struct product *p = &bench->products[i];
        json_array_append_new(products, json_pack("{s:s, s:I, s:f, s:f}", "precision", precision_name(p->precision),
                                                  "size", (json_int_t)p->size, "flops_per_second_alone", p->alone,
                                                  "flops_per_second", p->together));
    }
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o}", "processor", bench->processor, "backend", probe->backend,
                  "library", probe->library, "driver", probe->driver, "devices", (json_int_t)bench->host.devices,
                  "threads", (json_int_t)bench->host.threads, "gpus", gpus, "products", products);
    if (object && bench->sweep) {
        json_object_set_new(object, "cells", cells_json(bench));
        json_object_set_new(object, "predicted_seconds", json_real(bench->predicted_seconds));
        json_object_set_new(object, "seconds", json_real(bench->seconds));
        json_object_set_new(object, "device_seconds", json_real(total_device_seconds(bench)));
    }
    int rc = object ? json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : -1;
    json_decref(object);
    return rc || putchar('\n') == EOF ? error_set_errno(err, "standard output") : 0;
}

static int run_bench(struct bench *bench, struct error *err)
{
    if (bench->options->file && open_sweep(bench, err)) return -1;
    if (open_host(bench, err) || measure_products(bench, err)) return -1;
    if (!bench->options->json) print_products(bench);
    fflush(stdout);
    if (bench->sweep && measure_sweep(bench, err)) return -1;
    if (bench->options->json && print_json(bench, err)) return -1;
    if (!bench->options->json && bench->sweep) print_sweep(bench);
    return 0;
}

int command_bench(int argc, char **argv)
{
    static const struct argp argp = {option_list,
                                     parse_option,
                                     "[FILE]",
                                     "What this machine can do, and what a sweep would cost on it.\v"
                                     "Measures products of matrices and, of a sweep file's models and methods, some "
                                     "steps and some validation of one "
                                     "stage each, with the sweep's own data, on all devices at once as a run does. "
                                     "Other stages are counted by their "
                                     "FLOPs. Writes no file and needs none of a run.",
                                     NULL,
                                     NULL,
                                     NULL};
    struct options options = {.seconds = 1};
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    struct bench bench = {.options = &options};
    struct launcher launcher;
    struct error err = {""};
    memset(bench.gpus.locks, -1, sizeof bench.gpus.locks);
    if (launcher_start(&launcher, &err)) return command_fail(&err);
    bench.host.launcher = &launcher;
    int code = run_bench(&bench, &err) ? command_fail(&err) : 0;
    launcher_stop(&launcher);
    gpus_release(&bench.gpus);
    plan_trials_free(&bench.trials);
    plan_destroy(bench.plan);
    sweep_destroy(bench.sweep);
    return code;
}
