/* Inside the scheduler (orchestrator/plan/schedule.h): seats on the devices of nodes. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_SCHEDULE_NODE_H
#define TUNELAW_ORCHESTRATOR_PLAN_SCHEDULE_NODE_H

#include "orchestrator/plan/schedule.h"

/* A seat on free devices side by side: on the node with the fewest free ones that has such a gap. */
bool schedule_seat_whole(struct schedule_node *nodes, size_t node_count, uint32_t degree, uint32_t share,
                         struct schedule_seat *seat);

/* The base that the devices of a seat hold, all of them; 0: none. What they will hold from now on. */
uint32_t schedule_seat_base(const struct schedule_node *nodes, const struct schedule_seat *seat);
void schedule_seat_leave(struct schedule_node *nodes, const struct schedule_seat *seat, uint32_t base);

/* Whether there is room for a share on a device that has something on it; a seat there. */
bool schedule_room_beside(const struct schedule_node *nodes, size_t node_count, uint32_t share);
bool schedule_seat_beside(struct schedule_node *nodes, size_t node_count, uint32_t share, struct schedule_seat *seat);

#endif
