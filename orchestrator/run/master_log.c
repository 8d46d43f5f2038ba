/* The log of executed stages, logs/stages.jsonl: a line for each attempt that ended, and of each stage one that says
 * that it is done.
 *
 * A row is committed, or a state gets its name, before the log says so. A run that dies in between leaves its stage in
 * flight (losses.h): the next one finds it done, and writes its line then. So that a power loss takes no line either,
 * lines are on the disk before the file of flights is that says that a stage has ended. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/log.h"
#include "orchestrator/run/master_internal.h"
#include "workers/stage/stage_files.h"

struct entry {
    const struct plan_stage *stage;
    const struct stage_outcome *outcome;
    const char *host;
    uint32_t attempt, rank;
    double finished, eta; /* clock_wall; seconds */
    bool recovered;       /* an earlier run's, written by this one */
};

static void entry_write(const struct plan *plan, const struct entry *entry, char line[MASTER_LINE])
{
    const struct plan_stage *stage = entry->stage;
    const struct sweep *sweep = plan->sweep;
    const struct stage_outcome *outcome = entry->outcome;
    snprintf(line, MASTER_LINE,
             "{\"stage\": \"%s\", \"kind\": \"%s\", \"attempt\": %u, \"status\": \"%s\", \"from_step\": %" PRIu64
             ", \"to_step\": %" PRIu64 ", \"steps\": %" PRIu64 ", \"recomputed_steps\": %" PRIu64
             ", \"executed_steps\": %" PRIu64 ", \"repeated_steps\": %" PRIu64
             ", \"flops\": %.17g, \"seconds\": %.6f, \"predicted_seconds\": %.6f, \"model\": \"%s\", "
             "\"method\": \"%s\", \"predicted_bytes\": %" PRIu64 ", \"peak_bytes\": %" PRIu64
             ", \"packed\": %u, \"rank\": %u, \"host\": \"%s\", \"finished\": %.3f, \"eta_seconds\": %.3f%s}\n",
             stage->identity.hex, stage_kind_name(stage->kind), entry->attempt, store_status_name(outcome->status),
             outcome->resumed_step, outcome->end_step, stage->last_step - stage->first_step, outcome->recomputed_steps,
             outcome->executed_steps, outcome->repeated_steps, outcome->flops, outcome->seconds, stage->seconds,
             sweep->models[stage->model].name,
             stage->kind == STAGE_PRETRAIN ? "pretrain" : method_name(sweep->methods[stage->method].config.kind),
             plan_stage_bytes(plan, stage), outcome->peak_bytes, outcome->packed ? outcome->packed : 1, entry->rank,
             entry->host, entry->finished, entry->eta, entry->recovered ? ", \"recovered\": true" : "");
}

void master_line(struct master *master, uint32_t index, const struct stage_outcome *outcome, uint32_t node,
                 char line[MASTER_LINE])
{
    const struct entry entry = {.stage = &master->plan->stages[index],
                                .outcome = outcome,
                                .host = master->node_info[node].host,
                                .attempt = master->stages[index].attempts,
                                .rank = node,
                                .finished = clock_wall(),
                                .eta = master_eta(master)};
    entry_write(master->plan, &entry, line);
}

/* What the step file says of all attempts: of one that died nobody else knows. */
static void count_trained(struct master *master, uint32_t index, struct stage_outcome *outcome)
{
    struct stage_trained trained;
    if (!stage_trained_read(master_describe(master, index), &trained)) return;
    outcome->executed_steps = trained.executed;
    outcome->repeated_steps = stage_trained_repeated(&trained, master->plan->stages[index].first_step);
}

void master_log(struct master *master, uint32_t index, const struct stage_outcome *outcome, uint32_t node)
{
    char line[MASTER_LINE];
    struct stage_outcome counted = *outcome;
    if (counted.executed_steps == 0) count_trained(master, index, &counted);
    master_line(master, index, &counted, node, line);
    file_append(master->log_fd, line, strlen(line)); /* a gap in the log is no reason to end the run */
    master->log_noted = true;
}

void master_log_sync(struct master *master)
{
    if (master->log_noted) fdatasync(master->log_fd);
    master->log_noted = false;
}

static int compare(const void *a, const void *b, void *context)
{
    const struct plan *plan = context;
    return strcmp(plan->stages[*(const uint32_t *)a].identity.hex, plan->stages[*(const uint32_t *)b].identity.hex);
}

/* Stages of earlier runs whose end is not known: count of list[], in the order of their identities. */
static size_t list_flights(const struct master *master, uint32_t *list)
{
    size_t count = 0;
    for (uint32_t i = 0; i < master->plan->stage_count; i++)
        if (losses_open_flight(master->losses, i)) list[count++] = i;
    qsort_r(list, count, sizeof *list, compare, (void *)(uintptr_t)master->plan);
    return count;
}

/* A line that says that one of the stages is done. */
static void take_line(struct master *master, const char *line, const uint32_t *list, size_t count)
{
    char hex[DIGEST_HEX + 1];
    size_t size = strlen(line);
    if (size < 2 || strcmp(line + size - 2, "}\n") != 0) return; /* torn: it says nothing */
    if (sscanf(line, "{\"stage\": \"%32[0-9a-f]\"", hex) != 1) return;
    if (!strstr(line, "\"status\": \"done\"") && !strstr(line, "\"status\": \"diverged\"")) return;
    for (size_t low = 0, high = count; low < high;) {
        size_t middle = (low + high) / 2;
        int order = strcmp(hex, master->plan->stages[list[middle]].identity.hex);
        if (order == 0) losses_end(master->losses, list[middle]);
        if (order == 0) return;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
}

/* A committed row's, or a finished state's, of which the log has nothing. */
static int recover(struct master *master, uint32_t index, struct error *err)
{
    const struct plan_stage *stage = &master->plan->stages[index];
    struct store_result result = {.status = STORE_DONE};
    struct store_execution execution = {0};
    struct checkpoint_header header;
    char host[STORE_NAME + 1], line[MASTER_LINE];
    if (stage->point != PLAN_NONE) {
        if (!master->committed[stage->point]) return 0;
        if (store_read(master->store, stage->point, &result, &execution, NULL, err) < 0) return -1;
    } else {
        if (!master_state_present(master, index, &header)) return 0;
        execution.seconds = header.seconds;
    }
    struct stage_outcome outcome = {.status = (enum store_status)result.status,
                                    .resumed_step = stage->first_step,
                                    .end_step = result.status == STORE_DIVERGED ? result.steps : stage->last_step,
                                    .flops = stage->flops,
                                    .seconds = execution.seconds,
                                    .peak_bytes = execution.peak_bytes};
    count_trained(master, index, &outcome);
    /* it may have died before it counted its last steps */
    uint64_t once = outcome.end_step > stage->first_step ? outcome.end_step - stage->first_step : 0;
    if (outcome.executed_steps < once) outcome.executed_steps = once;
    outcome.repeated_steps = outcome.executed_steps - once;
    store_text(host, sizeof host, execution.host, sizeof execution.host);
    const struct entry entry = {.stage = stage,
                                .outcome = &outcome,
                                .host = host,
                                .attempt = execution.attempt,
                                .rank = execution.rank,
                                .finished = stage->point != PLAN_NONE ? execution.finished : clock_wall(),
                                .eta = -1,
                                .recovered = true};
    entry_write(master->plan, &entry, line);
    if (file_append(master->log_fd, line, strlen(line)) != 0) return error_set_errno(err, "logs/stages.jsonl");
    master->log_noted = true;
    losses_end(master->losses, index);
    if (stage->point != PLAN_NONE) return 0; /* a row's files are looked for */
    master_log_sync(master);
    stage_cleanup(master_describe(master, index));
    return 0;
}

/* A run that a full disk or a power loss has stopped may have left half a line; what comes next begins a new one. */
static int end_torn_line(int fd, FILE *file, struct error *err)
{
    if (fseek(file, -1, SEEK_END) != 0 || fgetc(file) == '\n') return 0; /* empty, or whole */
    return write(fd, "\n", 1) == 1 ? 0 : error_set_errno(err, "logs/stages.jsonl");
}

int master_log_open(struct master *master, struct error *err)
{
    char path[PATH_MAX], *line = NULL;
    size_t room = 0;
    snprintf(path, sizeof path, "%s/logs/stages.jsonl", master->options.dir);
    master->log_fd = file_open_write(path, O_APPEND);
    if (master->log_fd < 0) return error_set_errno(err, "%s", path);
    FILE *file = fopen(path, "re");
    uint32_t *list = calloc(master->plan->stage_count + 1, sizeof *list);
    int result = file && list ? 0 : error_set_errno(err, "%s", path);
    size_t count = result == 0 ? list_flights(master, list) : 0;
    while (count > 0 && getline(&line, &room, file) > 0)
        take_line(master, line, list, count);
    if (result == 0) result = end_torn_line(master->log_fd, file, err);
    for (size_t i = 0; i < count && result == 0; i++)
        if (losses_open_flight(master->losses, list[i])) result = recover(master, list[i], err);
    master_log_sync(master);
    free(line);
    free(list);
    if (file) fclose(file);
    return result;
}
