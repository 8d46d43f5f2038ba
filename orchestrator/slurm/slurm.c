/* Words for Slurm, and Slurm's words on the jobs of a run directory: between `tunelaw submit`, `status`, `cancel` and
 * Slurm's own programs. */
#include "orchestrator/slurm/slurm.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"

extern char **environ;

/* Up to three numbers with colons between them. */
static int read_fields(const char *text, long fields[3])
{
    int count = 0;
    do {
        char *end;
        if (count == 3 || !isdigit((unsigned char)*text)) return -1;
        errno = 0;
        fields[count++] = strtol(text, &end, 10);
        if (errno || fields[count - 1] > 10000000) return -1;
        text = end;
    } while (*text++ == ':');
    return text[-1] ? -1 : count;
}

int slurm_time_parse(const char *word, double *seconds, struct error *err)
{
    long days = 0, f[3] = {0, 0, 0};
    const char *dash = strchr(word, '-'), *rest = dash ? dash + 1 : word;
    char *end;
    if (dash) days = isdigit((unsigned char)*word) ? strtol(word, &end, 10) : -1;
    int count = (dash && (days < 0 || days > 10000 || end != dash)) ? -1 : read_fields(rest, f);
    double hours = 0, minutes = 0, rest_seconds = 0;
    if (dash || count == 3) {
        hours = (double)f[0];
        minutes = (double)f[1];
        rest_seconds = (double)f[2];
    } else {
        minutes = (double)f[0];
        rest_seconds = (double)f[1];
    }
    *seconds = (double)days * 86400 + hours * 3600 + minutes * 60 + rest_seconds;
    if (count < 0 || *seconds <= 0)
        return error_set(err,
                         "--time %s: allowed: MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS, "
                         "DAYS-HOURS:MINUTES or DAYS-HOURS:MINUTES:SECONDS, above 0",
                         word);
    return 0;
}

int slurm_name_check(const char *name, const char *word, struct error *err)
{
    size_t good = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._,+@-");
    if (!*word || *word == '-' || word[good])
        return error_set(err, "--%s \"%s\": allowed: letters, digits and . _ , + @ -, not beginning with -", name,
                         word);
    return 0;
}

int slurm_extra_check(const char *word, struct error *err)
{
    /* what the script itself depends on */
    static const char *const ours[] = {"--signal", "--open-mode", "--output", "--chdir",      "--wrap",
                                       "--ntasks", "--requeue",   "--array",  "--no-requeue", "--nodes"};
    if (*word != '-' || !word[1])
        return error_set(err, "\"%s\" after --: an option of sbatch as one word, such as --constraint=fast", word);
    for (const char *c = word; *c; c++)
        if (iscntrl((unsigned char)*c) || strchr("\"\\`$", *c))
            return error_set(err, "option \"%s\" of sbatch: allowed: no control characters and none of \" \\ ` $",
                             word);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        size_t written = strcspn(word, "="), whole = strlen(ours[i]); /* sbatch takes --out for --output */
        const char *set = strcmp(ours[i], "--no-requeue") ? ours[i] : "--requeue";
        if (!strncmp(word, ours[i], written < whole ? written : whole))
            return error_set(err, "option %s of sbatch: the job's script sets %s itself", word, set);
    }
    if (strchr("aDnNo", word[1])) /* --array, --chdir, --ntasks, --nodes, --output */
        return error_set(err, "option %s of sbatch: the job's script sets it itself", word);
    return 0;
}

int slurm_path_check(const char *path, struct error *err)
{
    for (const char *c = path; *c; c++)
        if (iscntrl((unsigned char)*c) || strchr("\"\\%", *c))
            return error_set(err, "%s: Slurm cannot be given a path with control characters, \", \\ or %%", path);
    return 0;
}

/* Everything that comes through a pipe, as much of it as `out` holds. */
static void read_all(int fd, char *out, size_t size)
{
    size_t used = 0;
    char rest[512];
    for (;;) {
        bool full = used + 1 >= size;
        ssize_t got = full ? read(fd, rest, sizeof rest) : read(fd, out + used, size - 1 - used);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        if (!full) used += (size_t)got;
    }
    out[used] = 0;
}

int slurm_call(char *const argv[], char *out, size_t size, struct error *err)
{
    int ends[2], status = 0;
    pid_t pid;
    if (pipe2(ends, O_CLOEXEC)) return error_set_errno(err, "pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    int failed = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (failed) {
        close(ends[0]);
        errno = failed;
        return error_set_errno(err, "%s", argv[0]);
    }
    read_all(ends[0], out, size);
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return error_set_errno(err, "%s", argv[0]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int slurm_jobs_read(const char *dir, char ids[][SLURM_ID], size_t limit, size_t *count, struct error *err)
{
    char line[SLURM_ID + 2];
    *count = 0;
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/slurm/jobs", dir);
    FILE *file = fopen(path, "re");
    if (!file) return errno == ENOENT ? 0 : error_set_errno(err, "%s/slurm/jobs", dir);
    while (fgets(line, sizeof line, file)) {
        size_t digits = strspn(line, "0123456789");
        if (!digits || digits >= SLURM_ID || line[digits] != '\n') continue; /* no job id */
        line[digits] = 0;
        if (*count == limit) memmove(ids[0], ids[1], (limit - 1) * sizeof *ids);
        *count += *count < limit;
        memcpy(ids[*count - 1], line, digits + 1);
    }
    fclose(file);
    return 0;
}

int slurm_jobs_add(const char *dir, const char *id, struct error *err)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/slurm/jobs", dir);
    int fd = file_open_write(path, O_APPEND);
    bool failed = fd < 0 || dprintf(fd, "%s\n", id) < 0;
    if (failed) error_set_errno(err, "%s", path);
    if (fd >= 0) close(fd);
    return failed ? -1 : 0;
}

/* The text up to the next '|' or the end of the line; *text moves behind it. */
static void take_field(char **text, char *out, size_t size)
{
    size_t length = strcspn(*text, "|\n");
    snprintf(out, size, "%.*s", (int)length, *text);
    *text += length + ((*text)[length] == '|');
}

static void take_state(char **line, struct slurm_state *state)
{
    char task[16];
    take_field(line, state->id, sizeof state->id);
    take_field(line, task, sizeof task);
    state->task = (uint32_t)strtoul(task, NULL, 10); /* "N/A": 0 */
    take_field(line, state->state, sizeof state->state);
    take_field(line, state->reason, sizeof state->reason);
    take_field(line, state->elapsed, sizeof state->elapsed);
    take_field(line, state->limit, sizeof state->limit);
    take_field(line, state->nodes, sizeof state->nodes);
    *line += **line == '\n';
}

static int read_states(char *text, struct slurm_state **states, size_t *found, struct error *err)
{
    size_t lines = 0;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    *states = calloc(lines + 1, sizeof **states);
    if (!*states) return error_set(err, "out of memory");
    while (*found < lines)
        take_state(&text, &(*states)[(*found)++]);
    return 0;
}

int slurm_states_ask(const char ids[][SLURM_ID], size_t count, struct slurm_state **states, size_t *found,
                     struct error *err)
{
    enum { ANSWER = 1 << 21 };
    *states = NULL;
    *found = 0;
    if (count == 0) return 0;
    char *list = malloc(count * SLURM_ID), *answer = malloc(ANSWER);
    int result = list && answer ? 0 : error_set(err, "out of memory");
    for (size_t i = 0, at = 0; i < count && result == 0; i++)
        at += (size_t)sprintf(list + at, "%s%s", i ? "," : "", ids[i]);
    char *argv[] = {"squeue", "-h", "-r", "-t", "all", "-o", "%F|%K|%T|%r|%M|%l|%N", "-j", list, NULL};
    int code = result == 0 ? slurm_call(argv, answer, ANSWER, err) : -1;
    if (code > 0 && !strstr(answer, "Invalid job id"))
        result = error_set(err, "squeue: %.*s", (int)strcspn(answer, "\n"), answer);
    else if (code <= 0)
        result = code < 0 ? -1 : read_states(answer, states, found, err);
    free(list);
    free(answer);
    return result;
}

int slurm_states_of(const char *dir, struct slurm_state **states, size_t *found, struct error *err)
{
    char(*ids)[SLURM_ID] = malloc(SLURM_JOBS * sizeof *ids);
    size_t count;
    *states = NULL;
    *found = 0;
    int result = ids ? slurm_jobs_read(dir, ids, SLURM_JOBS, &count, err) : error_set(err, "out of memory");
    if (result == 0) result = slurm_states_ask(ids, count, states, found, err);
    free(ids);
    return result;
}

void slurm_task_name(const struct slurm_state *state, char out[SLURM_TASK])
{
    int used = snprintf(out, SLURM_TASK, "%s", state->id);
    if (state->task) snprintf(out + used, SLURM_TASK - (size_t)used, "_%" PRIu32, state->task);
}

bool slurm_state_active(const struct slurm_state *state)
{
    static const char *const active[] = {"PENDING",  "RUNNING",      "CONFIGURING", "COMPLETING", "SUSPENDED",
                                         "REQUEUED", "REQUEUE_HOLD", "SIGNALING",   "REQUEUE_FED"};
    for (size_t i = 0; i < sizeof active / sizeof *active; i++)
        if (!strcmp(state->state, active[i])) return true;
    return false;
}

void slurm_state_print(const struct slurm_state *state, FILE *out)
{
    fprintf(out, "%s", state->state);
    if (!strcmp(state->state, "PENDING"))
        fprintf(out, " (%s)", state->reason);
    else if (slurm_state_active(state))
        fprintf(out, " for %s of %s on %s", state->elapsed, state->limit, state->nodes);
}

json_t *slurm_state_json(const struct slurm_state *state)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "job", state->id, "state", state->state, "reason", state->reason,
                     "elapsed", state->elapsed, "limit", state->limit, "nodes", state->nodes);
}
