/* One job of a sweep: what it needs, its script, its place in the queue. */
#include "orchestrator/slurm/submit.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "orchestrator/run/losses.h"
#include "orchestrator/run/run_directory.h"
#include "orchestrator/slurm/array.h"

#define MOST_SECONDS (24 * 3600.0)       /* by default: the job comes back for the rest */
#define WORTH_A_NODE 3600.0              /* more nodes are not asked for to save less than this */
#define PROGRAM_MIB 256                  /* of an agent and its libraries */
#define WORKER_MIB 128                   /* of a worker beside its model */
#define CHECKPOINT_RATE 50e6             /* bytes a second that a busy file system takes from one worker */
#define CHECKPOINT_SECONDS 30.0          /* to see the warning, to end a step, to end the ranks */
#define LEAST_USEFUL(grace) (grace + 30) /* a job that is shorter would only start and drain */

static size_t round_up(double value, size_t unit)
{
    return (size_t)ceil(value / (double)unit) * unit;
}

size_t submit_nodes_wished(const struct submit *submit, const struct plan *plan)
{
    struct plan_forecast all = plan_forecast(plan, submit->devices);
    double wished = all.longest_seconds > WORTH_A_NODE ? all.longest_seconds : WORTH_A_NODE;
    double nodes = ceil(all.device_seconds / ((double)submit->devices * wished));
    return nodes < 1 ? 1 : nodes > INT_MAX ? INT_MAX : (size_t)nodes;
}

void submit_fit(const struct submit *submit, const struct plan *plan, struct slurm_job *job)
{
    const struct submit_options *options = submit->options;
    const struct sweep_resources *resources = &submit->sweep->resources;
    size_t devices = submit->devices, nodes = submit_nodes_wished(submit, plan);
    struct plan_forecast all = plan_forecast(plan, devices);
    job->nodes = options->nodes ? options->nodes : nodes > SUBMIT_NODES ? SUBMIT_NODES : nodes;
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

void submit_print_sweep(const struct submit *submit, FILE *out)
{
    fprintf(out, "sweep \"%s\": %zu points, %zu stages, %.3g FLOPs\n", submit->sweep->name, submit->plan->point_count,
            submit->plan->stage_count, submit->plan->flops);
}

void submit_print_request(const struct slurm_job *job, FILE *out)
{
    char limit[32];
    slurm_time_format(job->seconds, limit);
    fprintf(out, "%zu node%s, time limit %s", job->nodes, job->nodes == 1 ? "" : "s", limit);
    if (job->memory_mib)
        fprintf(out, ", %zu MiB a node", job->memory_mib);
    else
        fprintf(out, ", whole nodes");
    if (job->gpus) fprintf(out, ", %zu GPUs a node", job->gpus);
}

static void print_cost(const struct submit *submit, const struct slurm_job *job, FILE *out)
{
    char predicted[32];
    size_t devices = submit->devices;
    struct plan_forecast forecast = plan_forecast(submit->plan, devices * job->nodes);
    slurm_time_format(forecast.seconds, predicted);
    submit_print_sweep(submit, out);
    fprintf(out, "predicted: at least %s on %zu node%s of %zu device%s, %.3g node hours\nasked of Slurm: ", predicted,
            job->nodes, job->nodes == 1 ? "" : "s", devices, devices == 1 ? "" : "s",
            (double)job->nodes * forecast.seconds / 3600);
    submit_print_request(job, out);
    fprintf(out, "; the job drains %.0f s before its end and comes back while points are left\n", job->grace);
}

int submit_check(const struct slurm_job *job, struct error *err)
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

int submit_queue_check(const char *dir, struct error *err)
{
    struct slurm_state *states;
    size_t count;
    int result = slurm_states_of(dir, &states, &count, err);
    for (size_t i = 0; i < count && result == 0; i++) {
        char name[SLURM_TASK];
        slurm_task_name(&states[i], name);
        if (slurm_state_active(&states[i]))
            result =
                error_set(err, "%s: its job %s is %s; `tunelaw cancel %s` ends it", dir, name, states[i].state, dir);
    }
    free(states);
    return result;
}

int submit_agreed(const struct submit *submit, struct error *err)
{
    char answer[16] = "";
    if (submit->options->dry_run || submit->options->yes || !isatty(STDIN_FILENO)) return 0;
    printf("submit? [y/N] ");
    fflush(stdout);
    if (fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y')) return 0;
    return error_set(err, "not submitted");
}

static int write_script(const struct slurm_job *job, const char *path, struct error *err)
{
    struct file_draft draft;
    if (file_draft_open(&draft, path, 0777, err)) return -1;
    if (!slurm_script_write(job, draft.file)) return file_draft_publish(&draft, false, err);
    error_set_errno(err, "%s", draft.temporary);
    file_draft_discard(&draft);
    return -1;
}

int submit_forget(const char *dir, struct error *err)
{
    static const char *const names[] = {"cancelled", "left", "idle"};
    char path[PATH_MAX + 32];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/slurm/%s", dir, names[i]);
        unlink(path);
    }
    return losses_forget(dir, err);
}

int submit_prepare(const char *dir, struct error *err)
{
    char made[PATH_MAX], path[PATH_MAX + 32];
    if (run_directory_make(dir, made, err)) return -1;
    snprintf(path, sizeof path, "%s/slurm", dir);
    if (mkdir(path, 0777) && errno != EEXIST) return error_set_errno(err, "%s", path);
    return submit_forget(dir, err);
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

int submit_script(const struct slurm_job *job, const char *dependency, char id[SLURM_ID], struct error *err)
{
    char path[PATH_MAX + 32], option[64 + SLURM_ID], out[2048];
    snprintf(path, sizeof path, "%s/slurm/%s", job->dir, slurm_script_name(job->kind));
    if (write_script(job, path, err)) return -1;
    snprintf(option, sizeof option, "--dependency=%s", dependency ? dependency : "");
    char *argv[] = {"sbatch", "--parsable", dependency ? option : path, dependency ? path : NULL, NULL};
    int code = slurm_call(argv, out, sizeof out, err);
    if (code < 0) return -1;
    const char *word = last_line(out);
    size_t digits = strspn(word, "0123456789");
    if (code == 0 || strstr(out, "timed out")) snprintf(id, SLURM_ID, "?"); /* it may have taken the job */
    if (code || !digits || digits >= SLURM_ID)
        return error_set(err, "%s: %s", slurm_script_name(job->kind),
                         out[0] ? strtok(out, "\n") : "sbatch says nothing");
    snprintf(id, SLURM_ID, "%.*s", (int)digits, word);
    return slurm_jobs_add(job->dir, id, err);
}

int submit_one(struct submit *submit, struct error *err)
{
    struct slurm_job *job = &submit->job;
    char id[SLURM_ID] = "";
    submit_fit(submit, submit->plan, job);
    if (submit_check(job, err)) return -1;
    print_cost(submit, job, submit->options->dry_run ? stderr : stdout);
    if (submit_agreed(submit, err)) return -1;
    if (submit->options->dry_run) return slurm_script_write(job, stdout) ? error_set_errno(err, "standard output") : 0;
    struct submit_before before = submit_look(submit->dir);
    if (submit_queue_check(submit->dir, err) || submit_keep(submit->dir, err)) return -1;
    int result =
        submit_prepare(submit->dir, err) || array_forget(submit->dir, err) || submit_script(job, NULL, id, err);
    if (result && !id[0])
        submit_take_back(submit->dir, &before);
    else
        submit_settle(submit->dir);
    if (result) return -1;
    printf("job %s, output in %s/logs/slurm-%s.out; `tunelaw status %s` shows it\n", id, submit->dir, id, submit->dir);
    return 0;
}
