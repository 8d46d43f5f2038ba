/* An array of jobs for one sweep: the trunks that several tasks need, the tasks, and the merge, each waiting for what
 * is before it. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/log.h"
#include "orchestrator/run/run_directory.h"
#include "orchestrator/slurm/array.h"
#include "orchestrator/slurm/submit.h"

#define MERGE_SECONDS 3600.0
#define MERGE_CPUS 2
#define MERGE_MIB 1024      /* and 16 KiB a point */
#define CANCEL_SECONDS 10.0 /* within which cancelled jobs have left the queue */

/* A run of the whole sweep has begun in the directory. */
static bool holds_a_run(const char *dir)
{
    char path[PATH_MAX + 16];
    struct stat status;
    snprintf(path, sizeof path, "%s/results.h5", dir);
    return stat(path, &status) == 0;
}

static int tasks_of_record(const struct submit *submit, const struct array_record *record, uint32_t *tasks,
                           struct error *err)
{
    const char *dir = submit->dir;
    *tasks = submit->options->tasks ? submit->options->tasks : record->tasks;
    if (*tasks == 1) return 0;
    if (*tasks != record->tasks)
        return error_set(err,
                         "%s is an array of %" PRIu32 " tasks; allowed: the same number, --array 1 (one job goes on "
                         "with what is merged there), another --dir",
                         dir, record->tasks);
    if (memcmp(&record->plan, &submit->plan->identity, sizeof record->plan))
        return error_set(err,
                         "%s: the sweep file has changed, its points would be dealt to other tasks; allowed: "
                         "--array 1 (one job goes on with what is merged there), another --dir",
                         dir);
    return 0;
}

int submit_tasks(const struct submit *submit, uint32_t *tasks, struct error *err)
{
    const struct submit_options *options = submit->options;
    struct array_record record;
    int recorded = array_read(submit->dir, &record, err);
    if (recorded != 0) return recorded < 0 ? -1 : tasks_of_record(submit, &record, tasks, err);
    size_t nodes = submit_nodes_wished(submit, submit->plan), jobs = (nodes + SUBMIT_NODES - 1) / SUBMIT_NODES;
    *tasks = options->tasks;
    if (*tasks == 0 && options->nodes == 0 && jobs > 1) {
        size_t most = submit->plan->point_count < ARRAY_TASKS ? submit->plan->point_count : ARRAY_TASKS;
        *tasks = (uint32_t)(jobs < most ? jobs : most);
        fprintf(options->dry_run ? stderr : stdout,
                "worth %zu nodes: split into an array, since the loss of a node ends its job; --array 1 for one job\n",
                nodes);
    }
    if (*tasks > 1 && holds_a_run(submit->dir)) {
        if (options->tasks > 1)
            return error_set(err,
                             "%s holds a run of the whole sweep; allowed: --array 1 (one job goes on with it), "
                             "another --dir",
                             submit->dir);
        fprintf(options->dry_run ? stderr : stdout, "%s holds a run already: one job goes on with it\n", submit->dir);
        *tasks = 1;
    }
    if (*tasks == 0) *tasks = 1;
    return 0;
}

struct parts {
    struct shard_array deal;
    struct slurm_job trunks, tasks, merge;
    unsigned char *left;             /* [tasks] */
    char *list;                      /* of the tasks that are run */
    size_t left_count, fewest, most; /* points of a task */
    bool train;                      /* shared trunks are missing */
};

static void parts_free(struct parts *parts)
{
    shard_array_free(&parts->deal);
    free(parts->left);
    free(parts->list);
}

static void enlarge(struct slurm_job *job, const struct slurm_job *other)
{
    if (other->nodes > job->nodes) job->nodes = other->nodes;
    if (other->seconds > job->seconds) job->seconds = other->seconds;
    if (other->grace > job->grace) job->grace = other->grace;
    if (other->memory_mib > job->memory_mib) job->memory_mib = other->memory_mib;
}

/* All tasks are jobs of one shape: what the largest of them needs. */
static int fit_tasks(const struct submit *submit, struct parts *parts, struct error *err)
{
    for (uint32_t task = 0; task <= parts->deal.count; task++) {
        struct plan *plan = shard_array_plan(submit->plan, &parts->deal, task, err);
        if (!plan) return -1;
        struct slurm_job job = task == 0 ? parts->trunks : parts->tasks;
        size_t points = plan->point_count;
        submit_fit(submit, plan, &job);
        if (task == 0)
            parts->trunks = job;
        else if (task == 1)
            parts->tasks = job;
        else
            enlarge(&parts->tasks, &job);
        if (task > 0 && (task == 1 || points < parts->fewest)) parts->fewest = points;
        if (points > parts->most) parts->most = points;
        plan_destroy(plan);
    }
    return 0;
}

static int plan_parts(const struct submit *submit, uint32_t tasks, struct parts *parts, struct error *err)
{
    parts->trunks = parts->tasks = parts->merge = submit->job;
    parts->trunks.kind = SLURM_TRUNKS;
    parts->tasks.kind = SLURM_TASKS;
    parts->merge.kind = SLURM_MERGE;
    parts->left = calloc(tasks, 1);
    parts->list = calloc(tasks, 8);
    if (!parts->left || !parts->list) return error_set(err, "out of memory");
    if (shard_array_deal(submit->plan, tasks, &parts->deal, err) || fit_tasks(submit, parts, err) ||
        array_tasks_left(submit->dir, tasks, parts->left, &parts->left_count, err))
        return -1;
    array_list(parts->left, tasks, parts->list);
    parts->train = array_candidates_left(submit->dir, submit->plan) ||
                   (parts->left_count > 0 && array_trunks_left(submit->dir, submit->plan, &parts->deal));
    parts->trunks.points = parts->deal.shared_count;
    parts->trunks.tasks = parts->tasks.tasks = tasks;
    parts->tasks.task_list = parts->list;
    parts->tasks.points = parts->most;
    parts->merge.nodes = 1;
    parts->merge.cpus = MERGE_CPUS;
    parts->merge.seconds = parts->tasks.seconds < MERGE_SECONDS ? parts->tasks.seconds : MERGE_SECONDS;
    parts->merge.memory_mib = MERGE_MIB + submit->plan->point_count / 64;
    return submit_check(&parts->trunks, err) || submit_check(&parts->tasks, err) ? -1 : 0;
}

static void print_parts(const struct submit *submit, const struct parts *parts, FILE *out)
{
    submit_print_sweep(submit, out);
    fprintf(out, "predicted: at least %.3g node hours, on nodes of %zu device%s\n",
            plan_forecast(submit->plan, submit->devices).device_seconds / (double)submit->devices / 3600,
            submit->devices, submit->devices == 1 ? "" : "s");
    fprintf(out, "an array of %" PRIu32 " tasks, %zu to %zu points each", parts->deal.count, parts->fewest,
            parts->most);
    if (parts->left_count < parts->deal.count)
        fprintf(out, "; run: %s", parts->left_count ? parts->list : "none, all points have a result");
    const char *what = submit->plan->reference_count
                           ? "stages that several tasks need (pretraining, candidates of rates)"
                           : "pretraining stages that several tasks need";
    if (parts->train) {
        fprintf(out, "\n  before: %zu %s; ", parts->deal.shared_count, what);
        submit_print_request(&parts->trunks, out);
    } else if (parts->deal.shared_count > 0) {
        fprintf(out, "\n  the %zu %s are there", parts->deal.shared_count, what);
    }
    fprintf(out, "\n  each task: ");
    submit_print_request(&parts->tasks, out);
    fprintf(out, "\n  after: merge, fit and report; ");
    submit_print_request(&parts->merge, out);
    fputc('\n', out);
    fprintf(out, "jobs drain %.0f s before their end and come back while points are left\n", parts->tasks.grace);
}

static int print_scripts(const struct parts *parts)
{
    const struct slurm_job *jobs[] = {&parts->trunks, &parts->tasks, &parts->merge};
    bool tasks = parts->left_count > 0, submitted[] = {parts->train, tasks, true};
    const char *const after[] = {"", parts->train ? " with --dependency=afterok:TRUNKS" : "",
                                 tasks          ? " with --dependency=afterany:ARRAY"
                                 : parts->train ? " with --dependency=afterany:TRUNKS"
                                                : ""};
    for (size_t i = 0; i < 3; i++) {
        if (!submitted[i]) continue;
        printf("### %s/slurm/%s, submitted%s\n", jobs[i]->dir, slurm_script_name(jobs[i]->kind), after[i]);
        if (slurm_script_write(jobs[i], stdout)) return -1;
        putchar('\n');
    }
    return 0;
}

/* Every point of the sweep is in the directory's store from the beginning, so that what is missing can be told. */
static int create_store(const struct submit *submit, struct error *err)
{
    int lock;
    if (holds_a_run(submit->dir)) return 0;
    if (store_lock(submit->dir, 5, &lock, err)) return -1;
    int result = run_directory_store(submit->dir, submit->sweep, submit->plan, NULL, NULL, err);
    close(lock);
    return result;
}

static void each_task(const struct submit *submit, const struct parts *parts, void (*act)(const char *dir))
{
    char dir[PATH_MAX];
    for (uint32_t i = 0; i < parts->deal.count; i++) {
        array_task_dir(submit->dir, i + 1, dir);
        act(dir);
    }
}

static int try_tasks(const struct submit *submit, const struct parts *parts,
                     int (*act)(const char *dir, struct error *err), struct error *err)
{
    char dir[PATH_MAX];
    for (uint32_t i = 0; i < parts->deal.count; i++) {
        array_task_dir(submit->dir, i + 1, dir);
        if (act(dir, err)) return -1;
    }
    return 0;
}

static int keep(const struct submit *submit, const struct parts *parts, struct error *err)
{
    if (!submit_keep(submit->dir, err) && !try_tasks(submit, parts, submit_keep, err)) return 0;
    submit_settle(submit->dir);
    each_task(submit, parts, submit_settle);
    return -1;
}

static bool is_empty(const char *dir, const char *name)
{
    char path[PATH_MAX + 16];
    size_t entries = 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    DIR *folder = opendir(path);
    if (!folder) return errno == ENOENT;
    while (readdir(folder))
        entries++;
    closedir(folder);
    return entries <= 2; /* . and .. */
}

/* Whether the jobs leave the queue, so that nothing is written any more. */
static bool wait_until_gone(char ids[][SLURM_ID], size_t count)
{
    double end = clock_elapsed() + CANCEL_SECONDS;
    for (;;) {
        struct slurm_state *states;
        struct error ignored;
        size_t found;
        if (slurm_states_ask(ids, count, &states, &found, &ignored)) return false;
        bool active = false;
        for (size_t i = 0; i < found; i++)
            active = active || slurm_state_active(&states[i]);
        free(states);
        if (!active || clock_elapsed() > end) return !active;
        usleep(100000);
    }
}

/* Where one is refused, those that are taken end, the last one first. They are in the record no more if they have left
 * nothing behind; `begun`: there was something before. */
static void cancel_jobs(const char *dir, bool begun, struct array_record *record)
{
    char *const taken[] = {record->merge, record->array, record->trunks};
    char ids[3][SLURM_ID], out[256], *argv[5] = {"scancel"};
    size_t count = 0;
    bool unsure = false;
    struct error ignored;
    for (size_t i = 0; i < 3; i++) {
        unsure = unsure || taken[i][0] == '?';
        if (!taken[i][0] || taken[i][0] == '?') continue;
        memcpy(ids[count], taken[i], SLURM_ID);
        argv[count + 1] = ids[count];
        count++;
    }
    if (count == 0 || slurm_call(argv, out, sizeof out, &ignored) || unsure || !wait_until_gone(ids, count)) return;
    if (!begun && !(is_empty(dir, "checkpoints") && is_empty(dir, "shards"))) return;
    for (size_t i = 0; i < 3; i++)
        taken[i][0] = 0;
}

/* Each job waits for the one before. */
static int submit_parts(const struct submit *submit, const struct parts *parts, struct array_record *record,
                        struct error *err)
{
    char dependency[16 + SLURM_ID];
    int result = parts->train ? submit_script(&parts->trunks, NULL, record->trunks, err) : 0;
    snprintf(dependency, sizeof dependency, "afterok:%s", record->trunks);
    if (result == 0 && parts->left_count > 0)
        result = submit_script(&parts->tasks, parts->train ? dependency : NULL, record->array, err);
    const char *before = parts->left_count > 0 ? record->array : record->trunks;
    snprintf(dependency, sizeof dependency, "afterany:%s", before);
    if (result == 0) result = submit_script(&parts->merge, before[0] ? dependency : NULL, record->merge, err);
    return result == 0 ? array_write(submit->dir, record, err) : -1;
}

/* The empty store of a new array would only forbid another N, or one job; with_lock: the lock's file is of this submit,
 * too. */
static void remove_store(const char *dir, bool with_lock)
{
    char path[PATH_MAX + 16];
    struct error ignored;
    int lock;
    if (store_lock(dir, 0, &lock, &ignored)) return;
    snprintf(path, sizeof path, "%s/results.h5", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/results.lock", dir);
    if (with_lock) unlink(path); /* while it is ours */
    close(lock);
}

static int submit_all(const struct submit *submit, const struct parts *parts, struct error *err)
{
    struct array_record record = {.tasks = parts->deal.count, .plan = submit->plan->identity};
    bool begun = holds_a_run(submit->dir);
    struct submit_before before = submit_look(submit->dir);
    if (submit_queue_check(submit->dir, err) || keep(submit, parts, err)) return -1;
    int result = submit_prepare(submit->dir, err) || create_store(submit, err) ||
                 array_write(submit->dir, &record, err) || try_tasks(submit, parts, submit_forget, err) ||
                 submit_parts(submit, parts, &record, err);
    if (result) cancel_jobs(submit->dir, begun, &record);
    bool taken = record.trunks[0] || record.array[0] || record.merge[0];
    if (!taken && !begun) remove_store(submit->dir, !before.lock);
    each_task(submit, parts, taken ? submit_settle : submit_put_back);
    if (taken)
        submit_settle(submit->dir);
    else
        submit_take_back(submit->dir, &before);
    if (result) return -1;
    printf("submitted:");
    if (record.trunks[0]) printf(" trunks: job %s;", record.trunks);
    if (record.array[0]) printf(" tasks %s: job %s;", parts->list, record.array);
    printf(" merge: job %s. Output in %s/logs; `tunelaw status %s` shows them\n", record.merge, submit->dir,
           submit->dir);
    return 0;
}

int submit_array(struct submit *submit, uint32_t tasks, struct error *err)
{
    struct parts parts = {0};
    bool dry = submit->options->dry_run;
    int result = plan_parts(submit, tasks, &parts, err);
    if (result == 0) {
        print_parts(submit, &parts, dry ? stderr : stdout);
        result = submit_agreed(submit, err);
    }
    if (result == 0 && dry && print_scripts(&parts)) result = error_set_errno(err, "standard output");
    if (result == 0 && !dry) result = submit_all(submit, &parts, err);
    parts_free(&parts);
    return result;
}
