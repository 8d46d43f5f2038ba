/* `tunelaw plan`: what a sweep would run, before anything is launched. Writes nothing but its output. */
#include <argp.h>
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "io/quantity.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/plan/drift.h"
#include "orchestrator/plan/plan.h"
#include "orchestrator/plan/plan_identify.h"
#include "orchestrator/plan/plan_notes.h"
#include "orchestrator/plan/shard.h"
#include "orchestrator/plan/simulate_print.h"
#include "orchestrator/run/host.h"

#define GRACE 60.0             /* seconds */
#define NOISE 0.005            /* of a loss */
#define MOST_SIMULATED 1000000 /* devices */

struct options {
    const char *file, *dir, *shard, *task;
    bool identify;
    const char *laws; /* a run whose laws are taken for --identify */
    double noise;     /* of a loss, as a fraction */
    bool json, points, parameters;
    long devices;                      /* 0: those of this machine */
    double gflops;                     /* 0: measured */
    unsigned long nodes, node_devices; /* of --simulate; 0: not asked for */
    double wall, grace;                /* grace: NAN where it is not given */
};

static const struct argp_option option_list[] = {
    {"json", 'j', NULL, 0, "Print JSON: totals, every stage, every point", 0},
    {"dir", 'D', "DIR", 0,
     "Say first what a run in DIR would say of a changed sweep file; exit code 1 where it would stop", 0},
    {"shard", 's', "I/N", 0, "Plan shard I of N alone", 0},
    {"array-task", 't', "I/N", 0, "Plan task I of an array of N alone; task 0: what comes before the others", 0},
    {"points", 'p', NULL, 0, "List every point", 0},
    {"parameters", 'P', NULL, 0, "List every parameter as it was taken, defaults marked, and stop", 0},
    {"identify", 'i', NULL, 0,
     "Say how well the grid will tell the laws, which points would help most, and stop; --json too", 0},
    {"laws", 'l', "DIR", 0, "For --identify: take the laws of this run as true (default: a guess)", 0},
    {"noise", 'n', "PERCENT", 0, "For --identify: spread of a loss between seeds (default: 0.5)", 0},
    {"devices", 'd', "N", 0, "Predict the time on N devices (default: those of this machine)", 0},
    {"rate", 'r', "GFLOPS", 0, "Speed of one device in training, GFLOP/s (default: measured here in 0.3 s)", 0},
    {"simulate", 'S', "NODESxDEVICES", 0, "Say how the scheduler would fill a cluster, and stop; --json too", 1},
    {"wall", 'w', "TIME", 0, "For --simulate: of a job, as 4h, 90m or 12:00:00 (default: one job without an end)", 1},
    {"grace", 'g', "SECONDS", 0, "For --simulate: a job drains so long before its end (default: 60)", 1},
    {0}};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct options *options = state->input;
    char *end = NULL;
    switch (key) {
    case 'j':
        options->json = true;
        return 0;
    case 'D':
        options->dir = arg;
        return 0;
    case 's':
        options->shard = arg;
        return 0;
    case 't':
        options->task = arg;
        return 0;
    case 'p':
        options->points = true;
        return 0;
    case 'P':
        options->parameters = true;
        return 0;
    case 'i':
        options->identify = true;
        return 0;
    case 'l':
        options->laws = arg;
        return 0;
    case 'n':
        options->noise = strtod(arg, &end) / 100;
        if (*end || !isfinite(options->noise) || options->noise <= 0.0)
            argp_error(state, "--noise %s: allowed: above 0", arg);
        return 0;
    case 'd':
        options->devices = strtol(arg, &end, 10);
        if (*end || options->devices < 1 || options->devices > 1000000)
            argp_error(state, "--devices %s: allowed: 1..1000000", arg);
        return 0;
    case 'r':
        options->gflops = strtod(arg, &end);
        if (*end || !isfinite(options->gflops) || options->gflops <= 0.0)
            argp_error(state, "--rate %s: allowed: a number above 0, of GFLOP/s", arg);
        return 0;
    case 'S':
        if (quantity_parse_product(arg, &options->nodes, &options->node_devices) ||
            options->nodes > MOST_SIMULATED / options->node_devices)
            argp_error(state, "--simulate %s: allowed: NODESxDEVICES, as 128x8, up to %d devices in all", arg,
                       MOST_SIMULATED);
        return 0;
    case 'w':
        if (quantity_parse_time(arg, &options->wall))
            argp_error(state, "--wall %s: allowed: a time above 0, as 4h, 90m, 12:00:00", arg);
        return 0;
    case 'g':
        options->grace = strtod(arg, &end);
        if (*end || end == arg || !(options->grace >= 0.0 && options->grace <= 1e6))
            argp_error(state, "--grace %s: allowed: 0..1e6", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (options->file) argp_error(state, "one sweep file is expected");
        options->file = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which sweep file?");
        return 0;
    case ARGP_KEY_END:
        if (!options->nodes && !isnan(options->grace)) argp_error(state, "--grace goes with --simulate");
        if (!options->identify && (options->laws || !isnan(options->noise)))
            argp_error(state, "--laws and --noise go with --identify");
        if (isnan(options->grace)) options->grace = GRACE;
        if (isnan(options->noise)) options->noise = NOISE;
        if (options->wall > 0.0 && options->wall <= options->grace)
            argp_error(state, "--wall: allowed: more than the %g s of --grace", options->grace);
        if (options->wall > 0.0 && !options->nodes) argp_error(state, "--wall goes with --simulate");
        if (options->identify + options->parameters + (options->nodes > 0) > 1)
            argp_error(state, "allowed: one of --identify, --parameters, --simulate");
        if (options->parameters && (options->points || options->json))
            argp_error(state, "--parameters goes with neither --points nor --json");
        if (options->nodes && options->devices) argp_error(state, "--simulate says how many devices: no --devices");
        if (options->task && (options->shard || options->dir))
            argp_error(state, "--array-task goes with neither --shard nor --dir");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static size_t device_count(const struct sweep *sweep, const struct options *options)
{
    cpu_set_t set;
    if (options->devices) return (size_t)options->devices;
    if (sweep->resources.devices) return sweep->resources.devices;
    int cores = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    size_t devices = (size_t)cores / sweep->resources.threads;
    return devices ? devices : 1;
}

/* As `run` will: how many devices a stage needs depends on it, and who shares one. A fixed number of devices is only
 * warned about, since the plan may be for another machine. */
static int look_at_host(struct sweep *sweep, const struct options *options, double *rate, struct error *err)
{
    const struct sweep_resources *resources = &sweep->resources;
    bool automatic = strcmp(resources->backend, "auto") == 0, given = resources->device_bytes > 0;
    bool depends = given ? automatic : !resources->tensor_parallel || resources->stages_per_device > 1;
    bool measure = options->gflops <= 0.0;
    struct probe probe;
    *rate = options->gflops * 1e9;
    if (!depends && !measure) return 0;
    if (host_probe(sweep, NULL, measure, &probe, err))
        return error_prefix(err, depends ? "this host is looked at (resources.device_bytes and backend, and --rate "
                                           "GFLOPS, say what it has)"
                                         : "--rate GFLOPS gives the speed of a device");
    if (depends)
        host_fill_resources(sweep, &probe);
    else
        sweep_set_backend(sweep, probe.backend); /* what its stages take depends on it */
    if (measure) *rate = probe.rate;
    return 0;
}

static void warn_memory(const struct plan *plan, size_t devices)
{
    struct plan_forecast forecast = plan_forecast(plan, devices);
    double have = (double)host_memory();
    double need = (double)forecast.largest_bytes * (double)devices;
    if (need > have)
        fprintf(stderr,
                "tunelaw: warning: %zu devices with the largest stage need %.1f GiB, this machine has %.1f GiB\n",
                devices, need / 0x1p30, have / 0x1p30);
}

static void warn_cores(const struct sweep *sweep, size_t devices)
{
    const struct sweep_resources *resources = &sweep->resources;
    size_t wanted = devices * (resources->threads ? resources->threads : 1), cores = host_cpus();
    if (strcmp(resources->backend, "cuda") != 0 && strcmp(resources->backend, "auto") != 0 && resources->threads > 1 &&
        wanted > cores)
        fprintf(stderr,
                "tunelaw: warning: %zu devices of %u threads are more than the %zu cores of this machine: they take "
                "turns\n",
                devices, resources->threads, cores);
}

static int simulate_jobs(const struct plan *plan, const struct options *options, struct error *err)
{
    struct simulate_options cluster = {.nodes = options->nodes,
                                       .devices = (uint32_t)options->node_devices,
                                       .wall_seconds = options->wall,
                                       .grace_seconds = options->grace,
                                       .checkpoint_seconds = plan->sweep->resources.checkpoint_seconds};
    return simulate_print(plan, &cluster, options->json, stdout, err);
}

static int print(const struct plan *plan, const struct options *options, size_t devices, struct error *err)
{
    if (options->nodes) return simulate_jobs(plan, options, err);
    if (options->json) {
        if (plan_print_json(plan, devices, stdout)) return error_set_errno(err, "standard output");
        return plan_notes(plan, stderr, err);
    }
    plan_print(plan, devices, stdout);
    int result = plan_notes(plan, stdout, err);
    if (options->points) plan_print_points(plan, stdout);
    return result;
}

/* A task of an array as it is once what is shared is there, or that alone. */
static int replace(struct plan **plan, const struct shard *shard, struct error *err)
{
    struct shard_array array;
    if (shard_array_deal(*plan, shard->count, &array, err)) return -1;
    struct plan *part = shard_array_plan(*plan, &array, shard->index, err);
    shard_array_free(&array);
    if (!part) return -1;
    plan_destroy(*plan);
    *plan = part;
    return 0;
}

/* The shard alone, and the verdict on what is in --dir. */
static int narrow(const struct sweep *sweep, struct plan **plan, const struct options *options, struct error *err)
{
    struct shard shard = {0};
    char part[SHARD_LABEL];
    if (options->shard && (shard_parse(options->shard, false, &shard, err) || shard_select(*plan, &shard, err)))
        return -1;
    if (options->task && (shard_parse(options->task, true, &shard, err) || replace(plan, &shard, err))) return -1;
    shard_label(&shard, part);
    if (!options->dir) return 0;
    FILE *out = options->json ? stderr : stdout;
    struct drift_question question = {.dir = options->dir, .shard = part};
    int result = drift_check(&question, sweep, *plan, out, err);
    if (question.absent) fprintf(out, "%s: no run is there yet; all points are new\n", options->dir);
    free(question.said);
    return result;
}

int command_plan(int argc, char **argv)
{
    static const struct argp argp = {
        option_list, parse_option,
        "FILE",      "Print the points of a sweep, the stages they share, FLOPs, memory and time.",
        NULL,        NULL,
        NULL};
    struct options options = {.noise = NAN, .grace = NAN};
    struct error err = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    struct sweep *sweep = sweep_load(options.file, &err);
    struct plan *plan = NULL;
    double rate = 0.0;
    int rc = -1;
    if (sweep && options.parameters)
        rc = fputs(sweep->parameters, stdout) < 0 ? error_set_errno(&err, "standard output") : 0;
    else if (sweep && !look_at_host(sweep, &options, &rate, &err) && (plan = plan_create(sweep, rate, &err)) &&
             !narrow(sweep, &plan, &options, &err)) {
        const struct identify_options identify = {options.laws, options.noise, options.json};
        size_t devices = device_count(sweep, &options);
        if (!options.nodes) warn_memory(plan, devices);
        if (!options.nodes) warn_cores(sweep, devices);
        rc = options.identify ? plan_identify(plan, &identify, stdout, &err) : print(plan, &options, devices, &err);
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
    return rc ? command_fail(&err) : 0;
}
