/* `tunelaw submit FILE`: what a sweep needs, from its plan, told to the person and then to Slurm. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "orchestrator/commands/command.h"
#include "orchestrator/run/host.h"
#include "orchestrator/run/launcher.h"
#include "orchestrator/run/run_directory.h"
#include "orchestrator/slurm/array.h"
#include "orchestrator/slurm/submit.h"

static size_t count_of(struct argp_state *state, const char *option, const char *text, long most)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || end == text || value < 1 || value > most)
        argp_error(state, "%s %s: allowed: 1..%ld", option, text, most);
    return (size_t)value;
}

static double positive(struct argp_state *state, const char *option, const char *text, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value > 0 && value <= most))
        argp_error(state, "%s %s: allowed: above 0, at most %g", option, text, most);
    return value;
}

static const char *name_of(struct argp_state *state, const char *option, const char *word)
{
    struct error err;
    if (slurm_name_check(option, word, &err)) argp_error(state, "%s", err.text);
    return word;
}

enum { KEY_GPUS = 256, KEY_QOS, KEY_MAIL, KEY_LAUNCHER, KEY_GRACE };

static const struct argp_option option_list[] = {
    {"nodes", 'N', "N", 0, "nodes of a job (default: from the plan, at most 32)", 0},
    {"array", 'a', "N", 0,
     "run as an array of N jobs of their own; 1: one job (default: so many that none needs more than 32 nodes)", 0},
    {"gpus-per-node", KEY_GPUS, "N", 0, "GPUs of a node (default: none)", 0},
    {"time", 't', "TIME", 0, "time limit of one job, as sbatch writes it (default: from the plan, at most a day)", 0},
    {"partition", 'p', "NAME", 0, "partition", 0},
    {"account", 'A', "NAME", 0, "account", 0},
    {"qos", KEY_QOS, "NAME", 0, "quality of service", 0},
    {"mail", KEY_MAIL, "ADDRESS", 0, "mail at the end, at a failure, and when the job is requeued", 0},
    {"launcher", KEY_LAUNCHER, "NAME", 0, "what starts the ranks: mpirun (default) or srun, which needs Slurm's PMIx",
     0},
    {"grace", KEY_GRACE, "SECONDS", 0, "begin to drain so long before the end (default: from the largest checkpoint)",
     0},
    {"rate", 'r', "GFLOPS", 0, "speed of one device in training, GFLOP/s (default: measured here in 0.3 s)", 0},
    {"dry-run", 'n', NULL, 0, "print the scripts, submit and write nothing", 0},
    {"yes", 'y', NULL, 0, "do not ask", 0},
    {0}};

struct arguments {
    struct command_sweep sweep;
    struct submit_options options;
};

static error_t parse_launcher(struct submit_options *options, const char *word, struct argp_state *state)
{
    options->srun = !strcmp(word, "srun");
    if (!options->srun && strcmp(word, "mpirun")) argp_error(state, "--launcher %s: allowed: mpirun, srun", word);
    return 0;
}

static error_t parse_option(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    struct submit_options *o = &arguments->options;
    struct error err;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->sweep;
        return 0;
    case 'N':
        o->nodes = count_of(state, "--nodes", word, 100000);
        return 0;
    case 'a':
        o->tasks = (uint32_t)count_of(state, "--array", word, ARRAY_TASKS);
        return 0;
    case KEY_GPUS:
        o->gpus = count_of(state, "--gpus-per-node", word, 64);
        return 0;
    case 't':
        if (slurm_time_parse(word, &o->seconds, &err)) argp_error(state, "%s", err.text);
        return 0;
    case 'p':
        o->partition = name_of(state, "partition", word);
        return 0;
    case 'A':
        o->account = name_of(state, "account", word);
        return 0;
    case KEY_QOS:
        o->qos = name_of(state, "qos", word);
        return 0;
    case KEY_MAIL:
        o->mail = name_of(state, "mail", word);
        return 0;
    case KEY_LAUNCHER:
        return parse_launcher(o, word, state);
    case KEY_GRACE:
        o->grace = positive(state, "--grace", word, 65535);
        return 0;
    case 'r':
        o->gflops = positive(state, "--rate", word, 1e12);
        return 0;
    case 'n':
        o->dry_run = true;
        return 0;
    case 'y':
        o->yes = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    option_list,
    parse_option,
    "FILE [-- SBATCH-OPTION...]",
    "Submit a sweep to Slurm as a job that comes back by itself until no point is left: after its time limit, a "
    "preemption, the loss of a node. What it needs comes from the plan.\v"
    "  tunelaw submit sweep.cfg                                  asks before it submits\n"
    "  tunelaw submit sweep.cfg --dry-run                        prints the script\n"
    "  tunelaw submit sweep.cfg --array 8                        eight jobs, then the merge and the fit\n"
    "  tunelaw submit sweep.cfg -p long -t 2-00 -- --constraint=fast\n\n"
    "A sweep that is worth more than 32 nodes becomes an array: pretraining that several of its tasks need is a job "
    "before it, and a job after it joins the results and fits. The scripts stay in DIR/slurm. `tunelaw status DIR` "
    "shows the job, `tunelaw cancel DIR` ends it. Options of sbatch come after --.",
    command_sweep_children,
    NULL,
    NULL};

/* The words after "--" are sbatch's; argp sees those before. */
static int split_words(int argc, char **argv, struct submit_options *options)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--")) {
            options->extra = argv + i + 1;
            options->extra_count = (size_t)(argc - i - 1);
            argv[i] = NULL;
            return i;
        }
    return argc;
}

/* Devices of a node: those of the sweep, its GPUs, or, where neither is given, what this machine would have. */
static size_t devices_of_node(const struct submit_options *options, const struct sweep *sweep)
{
    if (sweep->resources.devices) return sweep->resources.devices;
    if (options->gpus) return options->gpus;
    size_t devices = launcher_host_cpus() / sweep->resources.threads;
    return devices ? devices : 1;
}

static int submit_sweep(const struct arguments *arguments, const struct sweep *sweep, const struct plan *plan,
                        struct error *err)
{
    const struct submit_options *options = &arguments->options;
    char word[PATH_MAX], dir[PATH_MAX], program[PATH_MAX], file[PATH_MAX], folder[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0 || !realpath(arguments->sweep.file, file) || !getcwd(folder, sizeof folder))
        return error_set_errno(err, "%s", arguments->sweep.file);
    program[length] = 0;
    snprintf(word, sizeof word, "%s%s", arguments->sweep.dir ? arguments->sweep.dir : "runs/",
             arguments->sweep.dir ? "" : sweep->name);
    if (slurm_name_check("name", sweep->name, err) || run_path(word, dir, err)) return -1;
    struct submit submit = {.options = options,
                            .sweep = sweep,
                            .plan = plan,
                            .dir = dir,
                            .devices = devices_of_node(options, sweep),
                            .job = {.name = sweep->name,
                                    .program = program,
                                    .sweep = file,
                                    .dir = dir,
                                    .folder = folder,
                                    .points = plan->point_count,
                                    .srun = options->srun,
                                    .partition = options->partition,
                                    .account = options->account,
                                    .qos = options->qos,
                                    .mail = options->mail,
                                    .extra = options->extra,
                                    .extra_count = options->extra_count}};
    uint32_t tasks;
    if (submit_tasks(&submit, &tasks, err)) return -1;
    return tasks > 1 ? submit_array(&submit, tasks, err) : submit_one(&submit, err);
}

int command_submit(int argc, char **argv)
{
    struct arguments arguments = {.options = {.nodes = 0}};
    struct error err = {""};
    argc = split_words(argc, argv, &arguments.options);
    if (argp_parse(&argp, argc, argv, 0, NULL, &arguments)) return 1;
    struct sweep *sweep = sweep_load(arguments.sweep.file, &err);
    struct plan *plan = NULL;
    struct probe probe = {.rate = arguments.options.gflops * 1e9};
    int rc = -1;
    bool whole = sweep && sweep_check_complete(sweep, &err) == 0;
    bool known = whole && (probe.rate > 0 || !host_probe(sweep, NULL, true, &probe, &err));
    if (whole && !known) error_prefix(&err, "--rate GFLOPS gives the speed of a device");
    if (known && (plan = plan_create(sweep, probe.rate, &err))) rc = submit_sweep(&arguments, sweep, plan, &err);
    plan_destroy(plan);
    sweep_destroy(sweep);
    return rc ? command_fail(&err) : 0;
}
