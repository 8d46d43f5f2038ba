/* `tunelaw submit FILE`: what a sweep needs, from its plan, told to the person and then to Slurm. */
#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "orchestrator/command.h"
#include "orchestrator/host.h"
#include "orchestrator/launcher.h"
#include "orchestrator/losses.h"
#include "orchestrator/plan.h"
#include "orchestrator/run_directory.h"
#include "orchestrator/slurm.h"
#include "workers/probe.h"

#define MOST_NODES 32                    /* by default: with Open MPI 4.1 the loss of a node ends its job */
#define MOST_SECONDS (24 * 3600.0)       /* by default: the job comes back for the rest */
#define WORTH_A_NODE 3600.0              /* more nodes are not asked for to save less than this */
#define PROGRAM_MIB 256                  /* of an agent and its libraries */
#define WORKER_MIB 128                   /* of a worker beside its model */
#define CHECKPOINT_RATE 50e6             /* bytes a second that a busy file system takes from one worker */
#define CHECKPOINT_SECONDS 30.0          /* to see the warning, to end a step, to end the ranks */
#define LEAST_USEFUL(grace) (grace + 30) /* a job that is shorter would only start and drain */

struct options {
    const char *file, *dir;
    const char *partition, *account, *qos, *mail;
    size_t nodes, gpus;
    double seconds, grace, gflops; /* 0: from the plan, the plan, measured */
    bool dry_run, yes, srun;
    char *const *extra;
    size_t extra_count;
};

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
    {"dir", 'd', "DIR", 0, "run directory (default: runs/NAME, after the sweep's name)", 0},
    {"nodes", 'N', "N", 0, "nodes (default: from the plan, at most 32)", 0},
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
    {"dry-run", 'n', NULL, 0, "print the script, submit and write nothing", 0},
    {"yes", 'y', NULL, 0, "do not ask", 0},
    {0}};

static error_t parse_launcher(struct options *options, const char *word, struct argp_state *state)
{
    options->srun = !strcmp(word, "srun");
    if (!options->srun && strcmp(word, "mpirun")) argp_error(state, "--launcher %s: allowed: mpirun, srun", word);
    return 0;
}

static error_t parse_option(int key, char *word, struct argp_state *state)
{
    struct options *o = state->input;
    struct error err;
    switch (key) {
    case 'd':
        o->dir = word;
        return 0;
    case 'N':
        o->nodes = count_of(state, "--nodes", word, 100000);
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
    case ARGP_KEY_ARG:
        if (o->file) argp_error(state, "one sweep file, not also %s; options of sbatch come after --", word);
        o->file = word;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which sweep file?");
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
    "  tunelaw submit sweep.cfg -p long -t 2-00 -- --constraint=fast\n\n"
    "The script stays in DIR/slurm/job.sh. `tunelaw status DIR` shows the job, `tunelaw cancel DIR` ends it.",
    NULL,
    NULL,
    NULL};

/* The words after "--" are sbatch's; argp sees those before. */
static int split_words(int argc, char **argv, struct options *options)
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

static size_t round_up(double value, size_t unit)
{
    return (size_t)ceil(value / (double)unit) * unit;
}

/* Devices of a node: those of the sweep, its GPUs, or, where neither is given, what this machine would have. */
static size_t devices_of_node(const struct options *options, const struct sweep *sweep)
{
    if (sweep->resources.devices) return sweep->resources.devices;
    if (options->gpus) return options->gpus;
    size_t devices = launcher_host_cpus() / sweep->resources.threads;
    return devices ? devices : 1;
}

/* Fill in what the person has not said. */
static void fit_to_plan(const struct options *options, const struct plan *plan, size_t devices, struct slurm_job *job)
{
    const struct sweep_resources *resources = &plan->sweep->resources;
    struct plan_forecast all = plan_forecast(plan, devices);
    double wished = all.longest_seconds > WORTH_A_NODE ? all.longest_seconds : WORTH_A_NODE;
    double nodes = ceil(all.device_seconds / ((double)devices * wished));
    job->nodes = options->nodes ? options->nodes : nodes < 1 ? 1 : nodes > MOST_NODES ? MOST_NODES : (size_t)nodes;
    double predicted = plan_forecast(plan, devices * job->nodes).seconds;
    double seconds = 60.0 * (double)round_up(predicted * 1.5 / 60 + 10, 10); /* the forecast is a lower bound */
    job->seconds = options->seconds > 0 ? options->seconds : seconds > MOST_SECONDS ? MOST_SECONDS : seconds;
    double checkpoint = (double)all.largest_gang_bytes / CHECKPOINT_RATE;
    job->grace = options->grace > 0 ? options->grace : ceil(CHECKPOINT_SECONDS + checkpoint);
    job->gpus = options->gpus;
    job->cpus = resources->devices || options->gpus ? devices * resources->threads : 0;
    double mib = PROGRAM_MIB + (double)devices * (WORKER_MIB + (double)all.largest_bytes / 0x1p20);
    job->memory_mib = job->cpus ? round_up(mib * 1.25, 64) : 0;
}

static void print_cost(const struct plan *plan, const struct slurm_job *job, size_t devices, FILE *out)
{
    char limit[32], predicted[32];
    struct plan_forecast forecast = plan_forecast(plan, devices * job->nodes);
    slurm_time_format(job->seconds, limit);
    slurm_time_format(forecast.seconds, predicted);
    fprintf(out, "sweep \"%s\": %zu points, %zu stages, %.3g FLOPs\n", job->name, plan->point_count, plan->stage_count,
            plan->flops);
    fprintf(out, "predicted: at least %s on %zu node%s of %zu device%s, %.3g node hours\n", predicted, job->nodes,
            job->nodes == 1 ? "" : "s", devices, devices == 1 ? "" : "s", (double)job->nodes * forecast.seconds / 3600);
    fprintf(out, "asked of Slurm: %zu node%s, time limit %s", job->nodes, job->nodes == 1 ? "" : "s", limit);
    if (job->memory_mib)
        fprintf(out, ", %zu MiB a node", job->memory_mib);
    else
        fprintf(out, ", whole nodes");
    if (job->gpus) fprintf(out, ", %zu GPUs a node", job->gpus);
    fprintf(out, "; the job drains %.0f s before its end and comes back while points are left\n", job->grace);
}

static int check_job(const struct slurm_job *job, struct error *err)
{
    if (slurm_path_check(job->dir, err) || slurm_path_check(job->folder, err)) return -1;
    for (size_t i = 0; i < job->extra_count; i++)
        if (slurm_extra_check(job->extra[i], err)) return -1;
    if (job->seconds < LEAST_USEFUL(job->grace))
        return error_set(
            err,
            "a time limit of %.0f s is too short: checkpoints take %.0f s of it; allowed: --time of %.0f s "
            "or more, or a smaller --grace",
            job->seconds, job->grace, LEAST_USEFUL(job->grace));
    return 0;
}

/* One job at a time for a directory: a second would wait for the first one's lock. */
static int check_queue(const char *dir, struct error *err)
{
    char ids[SLURM_JOBS][SLURM_ID];
    size_t count;
    if (slurm_jobs_read(dir, ids, SLURM_JOBS, &count, err)) return -1;
    for (size_t i = 0; i < count; i++) {
        struct slurm_state state;
        if (slurm_state_ask(ids[i], &state, err)) return -1;
        if (slurm_state_active(&state))
            return error_set(err, "%s: its job %s is %s; `tunelaw cancel %s` ends it", dir, ids[i], state.state, dir);
    }
    return 0;
}

static bool agreed(void)
{
    char answer[16] = "";
    if (!isatty(STDIN_FILENO)) return true;
    printf("submit? [y/N] ");
    fflush(stdout);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int write_script(const struct slurm_job *job, const char *path, struct error *err)
{
    FILE *file = fopen(path, "we");
    if (!file) return error_set_errno(err, "%s", path);
    int failed = slurm_script_write(job, file);
    if (fclose(file)) failed = -1;
    if (!failed && chmod(path, 0755)) failed = -1;
    return failed ? error_set_errno(err, "%s", path) : 0;
}

/* What earlier jobs have left there: a new one may start again, counts its starts anew, and tries every stage. */
static int forget_earlier_jobs(const char *dir, struct error *err)
{
    static const char *const names[] = {"cancelled", "left", "idle"};
    char path[PATH_MAX + 32];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/slurm/%s", dir, names[i]);
        unlink(path);
    }
    return losses_forget(dir, err);
}

/* Warnings come before the job's id. */
static char *last_line(char *text)
{
    size_t size = strlen(text);
    while (size && text[size - 1] == '\n')
        text[--size] = 0;
    char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

static int submit(const struct slurm_job *job, struct error *err)
{
    char path[PATH_MAX + 32], out[2048];
    snprintf(path, sizeof path, "%s/slurm", job->dir);
    if (check_queue(job->dir, err)) return -1;
    if (mkdir(path, 0777) && errno != EEXIST) return error_set_errno(err, "%s", path);
    snprintf(path, sizeof path, "%s/slurm/job.sh", job->dir);
    if (write_script(job, path, err) || forget_earlier_jobs(job->dir, err)) return -1;
    char *argv[] = {"sbatch", "--parsable", path, NULL};
    int code = slurm_call(argv, out, sizeof out, err);
    if (code < 0) return -1;
    char *id = last_line(out);
    size_t digits = strspn(id, "0123456789");
    if (code || !digits || digits >= SLURM_ID)
        return error_set(err, "%s", out[0] ? strtok(out, "\n") : "sbatch says nothing");
    id[digits] = 0;
    if (slurm_jobs_add(job->dir, id, err)) return -1;
    printf("job %s, output in %s/logs/slurm-%s.out; `tunelaw status %s` shows it\n", id, job->dir, id, job->dir);
    return 0;
}

/* Where the run will be: its absolute path; made now unless nothing is to be written. */
static int find_directory(const struct options *options, const struct sweep *sweep, char dir[PATH_MAX],
                          struct error *err)
{
    char word[PATH_MAX];
    snprintf(word, sizeof word, "%s%s", options->dir ? options->dir : "runs/", options->dir ? "" : sweep->name);
    return options->dry_run ? run_path(word, dir, err) : run_directory_make(word, dir, err);
}

static int submit_sweep(const struct options *options, const struct sweep *sweep, const struct plan *plan,
                        struct error *err)
{
    char dir[PATH_MAX], program[PATH_MAX], file[PATH_MAX], folder[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0 || !realpath(options->file, file) || !getcwd(folder, sizeof folder))
        return error_set_errno(err, "%s", options->file);
    program[length] = 0;
    struct slurm_job job = {.name = sweep->name,
                            .program = program,
                            .sweep = file,
                            .dir = options->dir ? options->dir : "",
                            .folder = folder,
                            .points = plan->point_count,
                            .srun = options->srun,
                            .partition = options->partition,
                            .account = options->account,
                            .qos = options->qos,
                            .mail = options->mail,
                            .extra = options->extra,
                            .extra_count = options->extra_count};
    size_t devices = devices_of_node(options, sweep);
    fit_to_plan(options, plan, devices, &job);
    if (slurm_name_check("name", sweep->name, err) || check_job(&job, err)) return -1;
    print_cost(plan, &job, devices, options->dry_run ? stderr : stdout);
    if (!options->dry_run && !options->yes && !agreed()) return error_set(err, "not submitted");
    if (find_directory(options, sweep, dir, err)) return -1;
    job.dir = dir;
    if (!options->dry_run) return submit(&job, err);
    return slurm_script_write(&job, stdout) ? error_set_errno(err, "standard output") : 0;
}

int command_submit(int argc, char **argv)
{
    struct options options = {0};
    struct error err = {""};
    argc = split_words(argc, argv, &options);
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    struct sweep *sweep = sweep_load(options.file, &err);
    struct plan *plan = NULL;
    double rate = options.gflops * 1e9;
    int rc = -1;
    if (sweep && (rate > 0 || !probe_rate(sweep->resources.backend, sweep->resources.threads, &rate, &err)) &&
        (plan = plan_create(sweep, rate, &err)))
        rc = submit_sweep(&options, sweep, plan, &err);
    plan_destroy(plan);
    sweep_destroy(sweep);
    return rc ? command_fail(&err) : 0;
}
