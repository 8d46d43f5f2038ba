/* `tunelaw cancel DIR`: the Slurm jobs of a run directory end, after a checkpoint, and do not come back. */
#include <argp.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/slurm/slurm.h"

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
    default:
        return command_parse_directory(key, word, state, &arguments->dir);
    }
}

/* The job's script looks for this file before it queues itself again. */
static int leave_word(const char *dir, struct error *err)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/slurm/cancelled", dir);
    int fd = file_open_write(path, 0);
    if (fd < 0) return error_set_errno(err, "%s", path);
    close(fd);
    return 0;
}

static bool drains(const struct slurm_state *state, bool now)
{
    return !now && !strcmp(state->state, "RUNNING");
}

/* Every job, and every task of an array, that is to be ended in this way, in one call. */
static int end_jobs(const struct slurm_state *states, size_t count, bool now, bool drain, struct error *err)
{
    char out[1024], *head[] = {"scancel", "--batch", "--signal=USR1"};
    size_t words = drain ? 3 : 1, first = words;
    char **argv = calloc(count + 4, sizeof *argv), (*names)[SLURM_TASK] = malloc((count + 1) * sizeof *names);
    int code = argv && names ? 0 : error_set(err, "out of memory");
    for (size_t i = 0; i < first && code == 0; i++)
        argv[i] = head[i];
    for (size_t i = 0; i < count && code == 0; i++) {
        if (!slurm_state_active(&states[i]) || drains(&states[i], now) != drain) continue;
        slurm_task_name(&states[i], names[i]);
        argv[words++] = names[i];
        printf("job %s was %s: %s\n", names[i], states[i].state,
               drain ? "running stages checkpoint, then it ends" : "cancelled");
    }
    if (code == 0 && words > first) code = slurm_call(argv, out, sizeof out, err);
    if (code > 0) error_set(err, "scancel: %.*s", (int)strcspn(out, "\n"), out);
    free(argv);
    free(names);
    return code ? -1 : 0;
}

static int cancel(const struct arguments *arguments, struct error *err)
{
    char dir[PATH_MAX], id[1][SLURM_ID];
    size_t count, active = 0;
    struct slurm_state *states;
    if (!realpath(arguments->dir, dir)) return error_set_errno(err, "%s", arguments->dir);
    if (slurm_jobs_read(dir, id, 1, &count, err)) return -1;
    if (count == 0) return error_set(err, "%s: no job was submitted for it", dir);
    if (leave_word(dir, err) || slurm_states_of(dir, &states, &count, err)) return -1;
    for (size_t i = 0; i < count; i++)
        active += slurm_state_active(&states[i]);
    /* those that wait come first: what ends lets others start */
    int result = end_jobs(states, count, arguments->now, false, err);
    if (result == 0) result = end_jobs(states, count, arguments->now, true, err);
    if (result == 0 && !active) printf("none of its jobs is in the queue any more\n");
    free(states);
    return result;
}

int command_cancel(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"now", 'n', NULL, 0, "do not wait for checkpoints: what was trained since the last ones is lost", 0}, {0}};
    static const struct argp argp = {options,
                                     parse,
                                     "DIR",
                                     "End the Slurm jobs of the sweep in DIR, all tasks of an array. Running stages "
                                     "checkpoint first; `tunelaw submit` goes on from there.",
                                     NULL,
                                     NULL,
                                     NULL};
    struct arguments arguments = {0};
    struct error err = {""};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    return command_check_directory(arguments.dir, &err) || cancel(&arguments, &err) ? command_fail(&err) : 0;
}
