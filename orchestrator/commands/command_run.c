/* `tunelaw run FILE`: the whole job, under mpirun or alone. Rank 0 is the master and an agent, the others are agents.
 */
#include <argp.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/log.h"
#include "io/version.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/plan/drift.h"
#include "orchestrator/plan/plan_notes.h"
#include "orchestrator/plan/shard.h"
#include "orchestrator/run/agent.h"
#include "orchestrator/run/host.h"
#include "orchestrator/run/launcher.h"
#include "orchestrator/run/master.h"
#include "orchestrator/run/protocol.h"
#include "orchestrator/run/run_directory.h"
#include "orchestrator/run/transport.h"

#define EXIT_INCOMPLETE 3 /* drained: points are left, the same command goes on */
/* Seconds between looks for messages, which cannot be waited for together with sockets; shortly after one, an answer is
 * to be expected, or by rank 0 the end of another short stage. */
#define POLL_MPI 2e-3
#define POLL_MASTER 1.5e-3 /* the same of rank 0, to whom the others speak first */
#define POLL_TALKING 1e-4
#define TALKING 5e-3
#define TALKING_MASTER 25e-3
#define POLL_ALONE 0.2
#define POLL_SLACK 1000 /* ns by which the kernel may be late */

struct arguments {
    struct command_sweep sweep;
    const char *shard, *task, *bases, *drain_file, *backend;
    bool fail_fast, accept_drift;
    double end_time, grace, wait;
};

static volatile sig_atomic_t signalled;

static void on_signal(int number)
{
    (void)number;
    signalled++;
}

/* From here on they drain. main.c has held them back since the process began: mpirun hands a signal on to ranks that it
 * has only just started. */
static void catch_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1};
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}; /* but poll ends */
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaction(numbers[i], &action, NULL);
        sigaddset(&held, numbers[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_UNBLOCK, &held, NULL);
}

static double seconds_of(struct argp_state *state, const char *option, const char *text, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value >= 0 && value <= most))
        argp_error(state, "%s %s: allowed: 0..%.0f seconds", option, text, most);
    return value;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->sweep;
        return 0;
    case 'f':
        a->fail_fast = true;
        return 0;
    case 'e':
        a->end_time = seconds_of(state, "--end-time", arg, 1e11);
        return 0;
    case 'g':
        a->grace = seconds_of(state, "--grace", arg, 1e6);
        return 0;
    case 'w':
        a->wait = seconds_of(state, "--wait", arg, 1e6);
        return 0;
    case 'a':
        a->accept_drift = true;
        return 0;
    case 'D':
        a->drain_file = arg;
        return 0;
    case 's':
        a->shard = arg;
        return 0;
    case 't':
        a->task = arg;
        return 0;
    case 'b':
        a->bases = arg;
        return 0;
    case 'B':
        if (!sweep_backend_known(arg)) argp_error(state, "--backend %s: allowed: " SWEEP_BACKENDS, arg);
        a->backend = arg;
        return 0;
    case ARGP_KEY_END:
        if (a->shard && a->task) argp_error(state, "--shard or --array-task, not both");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"fail-fast", 'f', NULL, 0, "drain when the first stage is given up", 0},
    {"end-time", 'e', "TIME", 0,
     "when the job is ended, seconds since 1970: nothing starts that would not reach a checkpoint", 0},
    {"grace", 'g', "SECONDS", 0, "drain so long before --end-time (default: 60)", 0},
    {"drain-file", 'D', "FILE", 0, "drain, as a signal does, as soon as FILE is there", 0},
    {"wait", 'w', "SECONDS", 0, "wait so long for another run in DIR to end (default: 15)", 0},
    {"accept-drift", 'a', NULL, 0,
     "go on with a changed sweep file though finished points run again as others, or the sweep has another name", 0},
    {"shard", 's', "I/N", 0, "run shard I of N alone, in a run directory of its own (default: runs/NAME.I-of-N)", 0},
    {"array-task", 't', "I/N", 0,
     "run task I of an array of N alone (default: in runs/NAME/shards/I); task 0, in runs/NAME: what comes "
     "before the others, trunks that several need and candidates of tuned learning rates. `tunelaw submit --array` "
     "does this",
     0},
    {"backend", 'B', "NAME", 0, "instead of the sweep file's resources.backend: " SWEEP_BACKENDS, 0},
    {"bases", 'b', "DIR", 0,
     "take pretrained states, and tuned learning rates, from the run directory DIR where this one has none", 0},
    {0}};
static const struct argp argp = {
    options,
    parse_option,
    "FILE",
    "Run a sweep, or go on with it: committed points are not run again, training goes on from its last checkpoint.\v"
    "  mpirun -n 4 tunelaw run sweep.cfg     one rank a node\n"
    "  tunelaw run sweep.cfg                 this machine alone\n\n"
    "SIGTERM, SIGINT and SIGUSR1 drain: running stages checkpoint and stop; exit code 3. Under mpirun send SIGUSR1 to "
    "mpirun, which hands it on; after the other two mpirun kills the ranks within a second or two. Either way the "
    "same command goes on.",
    command_sweep_children,
    NULL,
    NULL};

static int open_rank_log(const char *dir, int rank, struct error *err)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/logs/rank-%d.log", dir, rank);
    int fd = file_open_write(path, O_APPEND);
    if (fd < 0) return error_set_errno(err, "%s", path);
    log_open(fd, rank);
    return 0;
}

/* What only rank 0 has. */
struct run {
    struct sweep *sweep;
    struct plan *plan;
    struct master *master;
    struct shard_array array;              /* task 0 of an array: which stages are run */
    char dir[PATH_MAX], part[SHARD_LABEL]; /* as given or by default; of a shard "2/4" */
    char absolute[PATH_MAX];               /* dir, for the master, which outlives the start of the ranks */
    struct drift_question drift;
    bool looping; /* the ranks are at work: one that fails now must not wait for the others */
};

/* DIR/logs/parameters.txt: every parameter as it was taken, those left at their default marked. */
static int write_parameters(const struct run *run, const char *dir, struct error *err)
{
    char path[PATH_MAX + 32];
    struct file_draft draft;
    snprintf(path, sizeof path, "%s/logs/parameters.txt", dir);
    if (file_draft_open(&draft, path, 0666, err) != 0) return -1;
    fprintf(draft.file, "# %s, version %s, plan %s\n%s", run->sweep->path, version_string(), run->plan->identity.hex,
            run->sweep->parameters);
    return file_draft_publish(&draft, false, err);
}

/* The part of the sweep that is run, what its store says of itself, and where it is by default. */
static int narrow(struct run *run, const struct arguments *a, char dir[PATH_MAX], char part[SHARD_LABEL],
                  struct error *err)
{
    struct shard shard = {0};
    char suffix[32] = "";
    if ((a->shard && shard_parse(a->shard, false, &shard, err) != 0) ||
        (a->task && shard_parse(a->task, true, &shard, err) != 0))
        return -1;
    if (a->task && shard.index == 0 && shard_array_deal(run->plan, shard.count, &run->array, err) != 0) return -1;
    if (shard_select(run->plan, &shard, err) != 0) return -1;
    shard_label(&shard, part);
    if (shard.index > 0)
        snprintf(suffix, sizeof suffix, shard.array ? "/shards/%u" : ".%u-of-%u", shard.index, shard.count);
    snprintf(dir, PATH_MAX, "%s%s%s", a->sweep.dir ? a->sweep.dir : "runs/", a->sweep.dir ? "" : run->sweep->name,
             a->sweep.dir ? "" : suffix);
    return 0;
}

static int make_absolute(char path[PATH_MAX], struct error *err)
{
    char absolute[PATH_MAX];
    if (run_path(path, absolute, err) != 0) return -1;
    strcpy(path, absolute);
    return 0;
}

/* Workers stand elsewhere. */
static int absolute_paths(struct sweep *sweep, struct error *err)
{
    for (size_t i = 0; i < sweep->task_count; i++)
        if (make_absolute(sweep->tasks[i].dataset, err) != 0) return -1;
    for (size_t i = 0; i < sweep->import_count; i++)
        if (make_absolute(sweep->imports[i].dir, err) != 0) return -1;
    for (size_t i = 0; i < sweep->method_count; i++)
        if (sweep->methods[i].start.dir[0] && make_absolute(sweep->methods[i].start.dir, err) != 0) return -1;
    return 0;
}

static void log_devices(const struct probe *probe)
{
    char text[HOST_GPU_TEXT];
    LOG("backend %s, %s", probe->backend, probe->library);
    for (uint32_t i = 0; i < probe->gpus; i++)
        LOG("GPU %u that this process sees: %s", i, host_gpu_text(probe, i, text));
}

static int check_bases(const char *dir, struct error *err)
{
    struct stat status;
    if (stat(dir, &status) != 0) return error_set_errno(err, "--bases %s", dir);
    return S_ISDIR(status.st_mode) ? 0 : error_set(err, "--bases %s: no directory", dir);
}

/* Rank 0: read, plan, open the store. Nothing is written before the sweep file has been found good. */
static int prepare(struct run *run, const struct arguments *a, struct launcher *launcher, struct transport *transport,
                   struct message_start *start, struct error *err)
{
    run->sweep = sweep_load(a->sweep.file, err);
    if (run->sweep && a->backend && !sweep_backend_computes(a->backend, run->sweep->precision))
        return error_set(err, "--backend %s: precision bf16x3 is of the backends cpu and reference", a->backend);
    if (run->sweep && a->backend) sweep_set_backend(run->sweep, a->backend);
    if (!run->sweep || sweep_check_complete(run->sweep, err) != 0 || absolute_paths(run->sweep, err) != 0) return -1;
    struct probe probe;
    if (host_probe(run->sweep, launcher, true, &probe, err) != 0) return -1;
    host_fill_resources(run->sweep, &probe);
    run->plan = plan_create(run->sweep, probe.rate, err);
    if (!run->plan) return -1;
    char bases[PATH_MAX];
    if (narrow(run, a, run->dir, run->part, err) != 0 ||
        (a->bases && (check_bases(a->bases, err) != 0 || run_path(a->bases, bases, err) != 0)))
        return -1;
    run->drift = (struct drift_question){.dir = run->dir, .shard = run->part, .accepted = a->accept_drift};
    if (drift_check(&run->drift, run->sweep, run->plan, stdout, err) != 0) return -1;
    if (plan_notes(run->plan, stdout, err) != 0) return -1;
    if (run_directory_make(run->dir, start->dir, err) != 0) return -1;
    strcpy(run->absolute, start->dir);
    if (open_rank_log(start->dir, 0, err) != 0) return -1;
    LOG("%s; %s: %zu points, %zu stages, plan %s", version_string(), a->sweep.file, run->plan->point_count,
        run->plan->stage_count, run->plan->identity.hex);
    log_devices(&probe);
    struct master_options o = {.dir = run->absolute,
                               .drift = &run->drift,
                               .only = run->array.shared,
                               .bases = a->bases ? bases : NULL,
                               .fail_fast = a->fail_fast,
                               .progress_line = isatty(STDERR_FILENO) != 0,
                               .lock_wait = a->wait,
                               .end_time = a->end_time,
                               .grace = a->grace,
                               .signalled = &signalled,
                               .rows_join = probe.joins,
                               .drain_file = a->drain_file};
    run->master = master_create(run->sweep, run->plan, transport, &o, err);
    if (!run->master || write_parameters(run, start->dir, err) != 0) return -1;
    start->devices = run->sweep->resources.devices;
    start->threads = run->sweep->resources.threads;
    start->device_bytes = run->sweep->resources.stages_per_device > 1 ? run->sweep->resources.device_bytes : 0;
    start->gpus = host_has_gpus(&probe);
    return 0;
}

static void release(struct run *run)
{
    master_destroy(run->master);
    shard_array_free(&run->array);
    free(run->drift.said);
    plan_destroy(run->plan);
    sweep_destroy(run->sweep);
}

static bool is_for_master(int tag)
{
    return tag == MESSAGE_HELLO || tag == MESSAGE_PROGRESS || tag == MESSAGE_OUTCOME;
}

/* Everything that has arrived; *count rises by what may be answered. A drain goes to the agent when the master sent it,
 * to the master when an agent did. */
static int take_messages(struct transport *transport, struct run *run, struct agent *agent, size_t *count,
                         struct error *err)
{
    int rank, tag, got;
    void *payload;
    size_t size;
    while ((got = transport_receive(transport, &rank, &tag, &payload, &size, err)) > 0) {
        int result;
        *count += tag != MESSAGE_PROGRESS;
        if (run->master && (is_for_master(tag) || (tag == MESSAGE_DRAIN && rank != 0)))
            result = master_message(run->master, rank, tag, payload, size, err);
        else
            result = agent_message(agent, tag, payload, size, err);
        free(payload);
        if (result != 0) return -1;
    }
    return got;
}

static int tell_all_to_stop(struct transport *transport, struct error *err)
{
    for (int rank = 0; rank < transport->size; rank++)
        if (transport_send(transport, rank, MESSAGE_STOP, NULL, 0, err) != 0) return -1;
    return 0;
}

/* Ranks that have died: the master goes on without them, nobody goes on without the master. */
static int take_losses(struct transport *transport, struct run *run, struct error *err)
{
    int rank;
    while ((rank = transport_lost(transport)) >= 0) {
        LOG("rank %d is lost", rank);
        if (rank == 0) return error_set(err, "rank %d: the master's rank is lost", transport->rank);
        if (run->master && master_lost(run->master, rank, err) != 0) return -1;
    }
    return 0;
}

/* Seconds that a rank may wait for its workers before it looks for messages. What the master has just told its own
 * agent must not wait at all. */
static double patience(const struct transport *transport, double talked)
{
    if (transport_waiting(transport)) return 0;
    if (!transport->mpi) return POLL_ALONE;
    bool master = transport->rank == 0;
    if (clock_elapsed() - talked < (master ? TALKING_MASTER : TALKING)) return POLL_TALKING;
    return master ? POLL_MASTER : POLL_MPI;
}

static int loop(struct transport *transport, struct run *run, struct agent *agent, struct error *err)
{
    bool told = false, drained = false;
    double talked = 0;
    int wake = run->master ? master_wake_fd(run->master) : -1;
    prctl(PR_SET_TIMERSLACK, POLL_SLACK);
    while (!agent_stopped(agent)) {
        size_t messages = 0;
        if (take_messages(transport, run, agent, &messages, err) != 0 || take_losses(transport, run, err) != 0)
            return -1;
        if (signalled && !drained) {
            drained = true;
            if (run->master ? master_drain(run->master, "a signal", err) != 0
                            : transport_send(transport, 0, MESSAGE_DRAIN, NULL, 0, err) != 0)
                return -1;
        }
        if (run->master && master_step(run->master, err) != 0) return -1;
        if (signalled > 1 && !transport->mpi) return error_set(err, "stopped by a second signal");
        if (run->master && !told && master_finished(run->master)) {
            told = true;
            if (tell_all_to_stop(transport, err) != 0) return -1;
        }
        if (messages + transport_pending(transport) > 0) talked = clock_elapsed();
        if (agent_step(agent, patience(transport, talked), wake, err) != 0) return -1;
    }
    return 0;
}

static int exit_code(const struct run *run)
{
    if (!run->master) return 0;
    struct master_summary s = master_summary(run->master);
    master_print_summary(run->master);
    if (s.failed + s.skipped > 0 || s.disk_full) return 1;
    return s.left > 0 ? EXIT_INCOMPLETE : 0;
}

/* Workers of every rank write into the run directory. */
static int check_shared(const char *dir, int rank, struct error *err)
{
    char logs[PATH_MAX + 8];
    snprintf(logs, sizeof logs, "%s/logs", dir);
    if (access(logs, W_OK) == 0) return 0;
    return error_set_errno(err, "rank %d: %s: the run directory must be where every node sees it and may write", rank,
                           logs);
}

static int run_ranks(const struct arguments *a, struct launcher *launcher, struct transport *transport, struct run *run,
                     struct error *err)
{
    struct message_start start = {.outcome_size = sizeof(struct stage_outcome)};
    store_field(start.version, sizeof start.version, version_string());
    int prepared = transport->rank == 0 ? prepare(run, a, launcher, transport, &start, err) : 0;
    start.failed = prepared != 0;
    transport_broadcast(transport, &start, sizeof start);
    if (start.failed) return prepared;
    run->looping = true;
    char mine[STORE_NAME];
    store_field(mine, sizeof mine, version_string());
    if (start.outcome_size != sizeof(struct stage_outcome) || memcmp(start.version, mine, sizeof mine) != 0)
        return error_set(err, "rank %d is another build (%s) than rank 0", transport->rank, version_string());
    if (check_shared(start.dir, transport->rank, err) != 0) return -1;
    if (transport->rank != 0 && open_rank_log(start.dir, transport->rank, err) != 0) return -1;
    struct gpus gpus;
    if (start.gpus && gpus_find(&gpus, err) != 0) return -1;
    const struct agent_devices devices = {start.devices, start.threads, start.gpus ? &gpus : NULL,
                                          a->wait,       start.dir,     start.device_bytes};
    struct agent *agent = agent_create(launcher, transport, &devices, err);
    int result = agent ? loop(transport, run, agent, err) : -1;
    agent_destroy(agent);
    return result;
}

int command_run(int argc, char **argv)
{
    struct arguments a = {.wait = 15, .grace = 60}; /* the ranks of a killed job live on for about a second */
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    struct error err = {{0}};
    struct launcher launcher = {0};
    struct transport transport = {0};
    struct run run = {0};
    catch_signals();
    clock_elapsed();
    int code = 1;
    if (launcher_start(&launcher, &err) != 0) return command_fail(&err);
    if (transport_open(&transport, &argc, &argv, &err) != 0) {
        code = command_fail(&err);
    } else if (run_ranks(&a, &launcher, &transport, &run, &err) != 0) {
        code = command_fail(&err);
        if (run.looping &&
            transport.size > 1) { /* MPI_Finalize would wait for ranks that wait for this one: let mpirun end the job */
            launcher_stop(&launcher);
            master_destroy(run.master); /* commits what has arrived */
            fflush(NULL);
            _exit(code);
        }
    } else {
        code = exit_code(&run);
    }
    launcher_stop(&launcher);
    release(&run);
    transport_close(&transport);
    return code;
}
