/* From ready stages to agents: who gets what, and the count of attempts, which is on disk before an agent hears of one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "orchestrator/run/master_internal.h"
#include "workers/model/model.h"

static int add_running(struct master *master, uint32_t index, struct master_seat *seat, uint32_t packed,
                       struct error *err)
{
    if (master->running_count == master->running_capacity) {
        size_t capacity = master->running_capacity ? 2 * master->running_capacity : 16;
        struct running *grown = realloc(master->running, capacity * sizeof *grown);
        if (!grown) return error_set(err, "out of memory");
        master->running = grown;
        master->running_capacity = capacity;
    }
    struct running running = {
        .stage = index, .node = seat->at.node, .packed = packed, .seat = seat, .started = clock_elapsed()};
    master->stages[index].running = (uint32_t)master->running_count;
    master->running[master->running_count++] = running;
    return 0;
}

/* A stage is as good as on its way: its devices are taken, its attempt is counted. */
static int take(struct master *master, uint32_t index, struct master_seat *seat, size_t packed, struct error *err)
{
    struct master_stage *stage = &master->stages[index];
    uint32_t point = master->plan->stages[index].point;
    stage->state = STAGE_RUNNING;
    master->ready--;
    stage->attempts++;
    stage->node = seat->at.node;
    losses_begin(master->losses, index, point != PLAN_NONE && master->attempts[point] == 0);
    if (add_running(master, index, seat, (uint32_t)packed, err) != 0) return -1;
    seat->left++;
    return point == PLAN_NONE ? 0 : master_set_state(master, point, STORE_RUNNING, 0, true, NULL, err);
}

static struct message_assign header_of(const struct stage *stage, const struct plan_stage *planned,
                                       const struct running *running, size_t count)
{
    const struct schedule_seat *seat = &running->seat->at;
    return (struct message_assign){.stage = running->stage,
                                   .attempt = stage->attempt,
                                   .first = seat->first,
                                   .degree = seat->degree,
                                   .count = (uint32_t)count,
                                   .shared = seat->share < SHARE_WHOLE,
                                   .bytes = planned->bytes,
                                   .hang_seconds = stage->hang_seconds,
                                   .identity = stage->identity};
}

/* One message for the stages of a pack: their headers, then their JSON, one a line. */
static int send(struct master *master, const struct running *running, size_t count, struct error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; out && i < count; i++) {
        struct message_assign header = header_of(master_describe(master, running[i].stage),
                                                 &master->plan->stages[running[i].stage], &running[i], count);
        fwrite(&header, sizeof header, 1, out);
    }
    bool failed = !out;
    for (size_t i = 0; out && i < count; i++) {
        char *line = stage_encode(master_describe(master, running[i].stage));
        failed = failed || !line || fprintf(out, "%s%s", i ? "\n" : "", line) < 0;
        free(line);
    }
    if (out && fclose(out) != 0) failed = true;
    int result = failed ? error_set(err, "out of memory")
                        : transport_send(master->transport, (int)running->node, MESSAGE_ASSIGN, text, size, err);
    free(text);
    return result;
}

/* A stage, with those that are packed with it. */
static int take_pack(struct master *master, uint32_t lead, const struct schedule_seat *at, double seconds_left,
                     struct error *err)
{
    uint32_t members[PACK_LIMIT];
    struct master_seat *seat = calloc(1, sizeof *seat);
    if (!seat) return error_set(err, "out of memory");
    seat->at = *at;
    size_t count = master_packs_gather(master, lead, seconds_left, &seat->at, members);
    for (size_t i = 0; i < count; i++)
        if (take(master, members[i], seat, count, err) != 0) {
            if (!seat->left) free(seat);
            return -1;
        }
    return 0;
}

int master_assign(struct master *master, double seconds_left, struct error *err)
{
    struct schedule_stage next;
    struct schedule_seat seat;
    size_t first = master->running_count;
    while (!master->draining && !master->paused && !master->nothing_fits) {
        if (!schedule_next(&master->schedule, master->nodes, (size_t)master->transport->size, seconds_left, &next,
                           &seat)) {
            master->nothing_fits = true;
            break;
        }
        if (master->stages[next.stage].state != STAGE_READY) { /* it has gone with a pack */
            schedule_release(master->nodes, &seat);
        } else if (master_parent_complete(master, next.stage)) {
            if (take_pack(master, next.stage, &seat, seconds_left, err) != 0) return -1;
        } else { /* its parent's state was found damaged after it had become ready */
            schedule_release(master->nodes, &seat);
            master->stages[next.stage].state = STAGE_WAITING;
            master->ready--;
        }
    }
    if (master->running_count > first) master_log_sync(master);
    if (master->running_count > first && losses_sync(master->losses, err) != 0) return -1;
    for (size_t i = first; i < master->running_count; i += master->running[i].packed)
        if (send(master, &master->running[i], master->running[i].packed, err) != 0) return -1;
    return 0;
}

static int give_up(struct master *master, uint32_t index, struct error *err)
{
    const struct plan_stage *stage = &master->plan->stages[index];
    char message[STORE_MESSAGE];
    snprintf(message, sizeof message,
             "%u runs in a row have died while it was in flight, without a new checkpoint of it",
             losses_of(master->losses, index));
    master_say(master,
               "stage %.12s is given up: %s; `tunelaw submit`, or without Slurm the removal of %s/logs/flights, lets "
               "it be tried again",
               stage->identity.hex, message, master->options.dir);
    master->stages[index].state = STAGE_FAILED;
    if (stage->point != PLAN_NONE) {
        master->summary.failed++;
        if (master_set_state(master, stage->point, STORE_CRASHED, 0, false, message, err) != 0) return -1;
    }
    return master_skip_below(master, index, err);
}

int master_give_up_lost(struct master *master, struct error *err)
{
    for (uint32_t i = 0; i < master->plan->stage_count; i++)
        if (master->stages[i].state == STAGE_WAITING &&
            losses_of(master->losses, i) >= master->sweep->resources.attempts && give_up(master, i, err) != 0)
            return -1;
    return 0;
}
