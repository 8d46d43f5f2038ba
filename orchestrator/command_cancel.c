/* `tunelaw cancel DIR`: the Slurm jobs of a run directory end, after a checkpoint, and do not come back. */
#include <argp.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "orchestrator/command.h"
#include "orchestrator/slurm.h"

struct arguments {
    const char *dir;
    bool now;
};

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'n':
        arguments->now = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->dir) argp_error(state, "one run directory, not also %s", word);
        arguments->dir = word;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which run directory?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The job's script looks for this file before it queues itself again. */
static int leave_word(const char *dir, struct error *err)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/slurm/cancelled", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return error_set_errno(err, "%s", path);
    close(fd);
    return 0;
}

static int cancel_job(struct slurm_state *job, bool now, struct error *err)
{
    char out[1024];
    bool drains = !now && !strcmp(job->state, "RUNNING");
    char *warn[] = {"scancel", "--batch", "--signal=USR1", job->id, NULL}, *end[] = {"scancel", job->id, NULL};
    int code = slurm_call(drains ? warn : end, out, sizeof out, err);
    if (code < 0) return -1;
    if (code > 0) return error_set(err, "scancel %s: %.*s", job->id, (int)strcspn(out, "\n"), out);
    printf("job %s was %s: %s\n", job->id, job->state,
           drains ? "running stages checkpoint, then it ends" : "cancelled");
    return 0;
}

static int cancel(const struct arguments *arguments, struct error *err)
{
    char dir[PATH_MAX], ids[SLURM_JOBS][SLURM_ID];
    size_t count, active = 0;
    if (!realpath(arguments->dir, dir)) return error_set_errno(err, "%s", arguments->dir);
    if (slurm_jobs_read(dir, ids, SLURM_JOBS, &count, err)) return -1;
    if (count == 0) return error_set(err, "%s: no job was submitted for it", dir);
    if (leave_word(dir, err)) return -1;
    for (size_t i = 0; i < count; i++) {
        struct slurm_state state;
        if (slurm_state_ask(ids[i], &state, err)) return -1;
        if (!slurm_state_active(&state)) continue;
        active++;
        if (cancel_job(&state, arguments->now, err)) return -1;
    }
    if (!active) printf("none of its jobs is in the queue any more\n");
    return 0;
}

int command_cancel(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"now", 'n', NULL, 0, "do not wait for checkpoints: what was trained since the last ones is lost", 0}, {0}};
    static const struct argp argp = {
        options,
        parse,
        "DIR",
        "End the Slurm jobs of the sweep in DIR. Running stages checkpoint first; `tunelaw submit` goes on from there.",
        NULL,
        NULL,
        NULL};
    struct arguments arguments = {0};
    struct error err = {""};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    return cancel(&arguments, &err) ? command_fail(&err) : 0;
}
