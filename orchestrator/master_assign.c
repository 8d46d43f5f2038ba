/* From ready stages to agents: who gets what, and the count of attempts, which is on disk before an agent hears of one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "orchestrator/master_internal.h"

static int add_running(struct master *master, uint32_t index, uint32_t node, struct error *err)
{
    if (master->running_count == master->running_capacity) {
        size_t capacity = master->running_capacity ? 2 * master->running_capacity : 16;
        struct running *grown = realloc(master->running, capacity * sizeof *grown);
        if (!grown) return error_set(err, "out of memory");
        master->running = grown;
        master->running_capacity = capacity;
    }
    struct running running = {.stage = index, .node = node, .started = clock_elapsed()};
    master->stages[index].running = (uint32_t)master->running_count;
    master->running[master->running_count++] = running;
    return 0;
}

/* A stage is as good as on its way: its devices are taken, its attempt is counted. */
static int take(struct master *master, uint32_t index, size_t node, struct error *err)
{
    struct master_stage *stage = &master->stages[index];
    uint32_t point = master->plan->stages[index].point;
    stage->state = STAGE_RUNNING;
    stage->attempts++;
    stage->node = (uint32_t)node;
    losses_begin(master->losses, index);
    if (add_running(master, index, (uint32_t)node, err) != 0) return -1;
    return point == PLAN_NONE ? 0 : master_set_state(master, point, STORE_RUNNING, 0, true, NULL, err);
}

static int send(struct master *master, uint32_t index, uint32_t node, struct error *err)
{
    const struct stage *stage = master_describe(master, index);
    char *text = stage_encode(stage);
    struct message_assign header = {.stage = index,
                                    .attempt = stage->attempt,
                                    .degree = stage->degree,
                                    .hang_seconds = stage->hang_seconds,
                                    .identity = stage->identity};
    size_t size = text ? strlen(text) : 0;
    char *message = text ? malloc(sizeof header + size) : NULL;
    int result = -1;
    if (message) {
        memcpy(message, &header, sizeof header);
        memcpy(message + sizeof header, text, size);
        result = transport_send(master->transport, (int)node, MESSAGE_ASSIGN, message, sizeof header + size, err);
    } else {
        error_set(err, "out of memory");
    }
    free(message);
    free(text);
    return result;
}

int master_assign(struct master *master, double seconds_left, struct error *err)
{
    struct schedule_stage next;
    size_t node, first = master->running_count;
    while (!master->draining && !master->paused && !master->nothing_fits) {
        if (!schedule_next(&master->schedule, master->nodes, (size_t)master->transport->size, seconds_left, &next,
                           &node)) {
            master->nothing_fits = true;
            break;
        }
        if (master_parent_complete(master, next.stage)) {
            if (take(master, next.stage, node, err) != 0) return -1;
        } else { /* its parent's state was found damaged after it had become ready */
            master->nodes[node].free += next.degree;
            master->stages[next.stage].state = STAGE_WAITING;
        }
    }
    if (master->running_count > first && losses_sync(master->losses, err) != 0) return -1;
    for (size_t i = first; i < master->running_count; i++)
        if (send(master, master->running[i].stage, master->running[i].node, err) != 0) return -1;
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
