/* The devices of a node: gaps between busy ones, room beside what is on them. */
#include <stdlib.h>

#include "orchestrator/plan/schedule_node.h"

static bool is_free(const struct schedule_device *device)
{
    return !device->lost && device->used == 0;
}

/* Counts of a node whose devices have changed. */
static void count(struct schedule_node *node)
{
    uint32_t run = 0;
    node->devices = node->free = node->gap = node->shared = 0;
    for (uint32_t d = 0; d < node->size; d++) {
        const struct schedule_device *device = &node->device[d];
        node->devices += !device->lost;
        node->free += is_free(device);
        node->shared += !device->lost && !is_free(device) && device->used < SHARE_WHOLE;
        run = is_free(device) ? run + 1 : 0;
        if (run > node->gap) node->gap = run;
    }
}

int schedule_node_init(struct schedule_node *node, uint32_t devices)
{
    *node = (struct schedule_node){.size = devices, .device = calloc((size_t)devices + 1, sizeof *node->device)};
    if (!node->device) return -1;
    count(node);
    return 0;
}

int schedule_node_copy(struct schedule_node *node, const struct schedule_node *from)
{
    if (schedule_node_init(node, from->size)) return -1;
    for (uint32_t d = 0; d < from->size; d++)
        node->device[d].lost = from->device[d].lost;
    count(node);
    return 0;
}

void schedule_node_free(struct schedule_node *node)
{
    free(node->device);
    *node = (struct schedule_node){.size = 0};
}

void schedule_node_lose(struct schedule_node *node, uint32_t device)
{
    if (device >= node->size) return;
    node->device[device].lost = true;
    count(node);
}

uint32_t schedule_node_widest(const struct schedule_node *node)
{
    uint32_t most = 0, run = 0;
    for (uint32_t d = 0; d < node->size; d++) {
        run = node->device[d].lost ? 0 : run + 1;
        if (run > most) most = run;
    }
    return most;
}

/* The smallest gap of a node that holds so many, and the place in it: wide stages at its left, single devices at its
 * right, so that these come to lie beside each other. 0: no gap does. */
static uint32_t best_gap(const struct schedule_node *node, uint32_t degree, uint32_t *first)
{
    uint32_t least = 0;
    for (uint32_t d = 0, run = 0; d <= node->size; d++) {
        bool here = d < node->size && is_free(&node->device[d]);
        if (!here && run >= degree && (!least || run < least)) {
            least = run;
            *first = degree > 1 ? d - run : d - 1;
        }
        run = here ? run + 1 : 0;
    }
    return least;
}

static void take(struct schedule_node *node, const struct schedule_seat *seat)
{
    for (uint32_t d = seat->first; d < seat->first + seat->degree; d++)
        node->device[d].used += seat->share;
    count(node);
}

bool schedule_seat_whole(struct schedule_node *nodes, size_t node_count, uint32_t degree, uint32_t share,
                         struct schedule_seat *seat)
{
    size_t best = node_count;
    uint32_t least = 0, first = 0;
    for (size_t i = 0; i < node_count; i++) {
        uint32_t at = 0;
        if (nodes[i].gap < degree) continue;
        uint32_t gap = best_gap(&nodes[i], degree, &at);
        if (best < node_count && (gap > least || (gap == least && nodes[i].free >= nodes[best].free))) continue;
        best = i;
        least = gap;
        first = at;
    }
    if (best == node_count) return false;
    *seat = (struct schedule_seat){(uint32_t)best, first, degree, share};
    take(&nodes[best], seat);
    return true;
}

uint32_t schedule_seat_base(const struct schedule_node *nodes, const struct schedule_seat *seat)
{
    const struct schedule_device *device = nodes[seat->node].device;
    uint32_t base = device[seat->first].base;
    for (uint32_t d = seat->first; d < seat->first + seat->degree; d++)
        if (device[d].base != base) return 0;
    return base;
}

void schedule_seat_leave(struct schedule_node *nodes, const struct schedule_seat *seat, uint32_t base)
{
    for (uint32_t d = seat->first; d < seat->first + seat->degree; d++)
        nodes[seat->node].device[d].base = base;
}

/* The device with the least room beside what is on it that is enough. */
static bool find_beside(const struct schedule_node *nodes, size_t node_count, uint32_t share,
                        struct schedule_seat *seat)
{
    uint32_t most = 0;
    for (size_t i = 0; i < node_count; i++)
        for (uint32_t d = 0; nodes[i].shared && d < nodes[i].size; d++) {
            const struct schedule_device *device = &nodes[i].device[d];
            if (device->lost || device->used <= most || device->used + share > SHARE_WHOLE) continue;
            most = device->used;
            *seat = (struct schedule_seat){(uint32_t)i, d, 1, share};
        }
    return most > 0;
}

bool schedule_room_beside(const struct schedule_node *nodes, size_t node_count, uint32_t share)
{
    struct schedule_seat seat;
    return find_beside(nodes, node_count, share, &seat);
}

bool schedule_seat_beside(struct schedule_node *nodes, size_t node_count, uint32_t share, struct schedule_seat *seat)
{
    if (!find_beside(nodes, node_count, share, seat)) return false;
    take(&nodes[seat->node], seat);
    return true;
}

bool schedule_grow(struct schedule_node *nodes, struct schedule_seat *seat, uint32_t share)
{
    struct schedule_node *node = &nodes[seat->node];
    uint32_t used = node->device[seat->first].used, room = SHARE_WHOLE - used;
    bool alone = used == seat->share;
    if (share > room && !alone) return false;
    struct schedule_seat more = *seat;
    more.share = share < room ? share : room;
    take(node, &more);
    seat->share += more.share;
    return true;
}

void schedule_release(struct schedule_node *nodes, const struct schedule_seat *seat)
{
    struct schedule_node *node = &nodes[seat->node];
    for (uint32_t d = seat->first; d < seat->first + seat->degree && d < node->size; d++)
        node->device[d].used -= seat->share;
    count(node);
}
