/* Ready stages to nodes: heaps by longest chain, one for each number of devices and class of shares; their seats are
 * orchestrator/plan/schedule_node.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/schedule_node.h"

#define NEAR (1.0 / 32) /* of a priority: what is so near may change places */
enum { LOOKS = 256 };   /* places that are looked at for a base */

void schedule_init(struct schedule *schedule)
{
    memset(schedule, 0, sizeof *schedule);
    schedule->late_least = INFINITY;
}

void schedule_free(struct schedule *schedule)
{
    for (size_t i = 0; i < schedule->degrees; i++)
        free(schedule->heaps[i].stages);
    free(schedule->heaps);
    for (size_t i = 0; i < SCHEDULE_SHARES; i++)
        free(schedule->shares[i].stages);
    free(schedule->late.stages);
    schedule_init(schedule);
}

static bool before(const struct schedule_stage *a, const struct schedule_stage *b)
{
    if (a->priority > b->priority || a->priority < b->priority) return a->priority > b->priority;
    if (a->flops > b->flops || a->flops < b->flops) return a->flops > b->flops;
    return a->stage < b->stage;
}

static void swap(struct schedule_stage *a, struct schedule_stage *b)
{
    struct schedule_stage t = *a;
    *a = *b;
    *b = t;
}

static int append(struct schedule_heap *heap, const struct schedule_stage *stage)
{
    if (heap->count == heap->capacity) {
        size_t capacity = heap->capacity ? 2 * heap->capacity : 64;
        struct schedule_stage *grown = realloc(heap->stages, capacity * sizeof *grown);
        if (!grown) return -1;
        heap->stages = grown;
        heap->capacity = capacity;
    }
    heap->stages[heap->count++] = *stage;
    return 0;
}

static int push(struct schedule_heap *heap, const struct schedule_stage *stage)
{
    if (append(heap, stage)) return -1;
    struct schedule_stage *s = heap->stages;
    for (size_t at = heap->count - 1; at > 0 && before(&s[at], &s[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&s[at], &s[(at - 1) / 2]);
    return 0;
}

/* The stage at a place of the heap; the last one takes the place, and goes up or down from there. */
static struct schedule_stage take_at(struct schedule_heap *heap, size_t at)
{
    struct schedule_stage *s = heap->stages, taken = s[at];
    s[at] = s[--heap->count];
    for (; at > 0 && at < heap->count && before(&s[at], &s[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&s[at], &s[(at - 1) / 2]);
    for (;;) {
        size_t best = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < heap->count && before(&s[child], &s[best])) best = child;
        if (best == at) return taken;
        swap(&s[at], &s[best]);
        at = best;
    }
}

static struct schedule_stage pop(struct schedule_heap *heap)
{
    return take_at(heap, 0);
}

/* The first place, of those near the top that come next to within NEAR, whose stage uses a base; 0: the top itself, or
 * none does. What comes before a place lies on the way to it, so that the search never leaves what is near. */
static size_t find_base(const struct schedule_heap *heap, uint32_t base, double seconds_left)
{
    size_t list[LOOKS] = {0}, found = 0;
    const struct schedule_stage *s = heap->stages;
    for (size_t at = 0, count = 1; at < count; at++) {
        size_t place = list[at];
        if (s[place].base == base && s[place].seconds <= seconds_left &&
            (s[found].base != base || before(&s[place], &s[found])))
            found = place;
        for (size_t child = 2 * place + 1; child <= 2 * place + 2 && child < heap->count && count < LOOKS; child++)
            if (s[child].priority >= s[0].priority * (1 - NEAR)) list[count++] = child;
    }
    return found;
}

static bool has_share(const struct schedule_stage *stage)
{
    return stage->degree <= 1 && stage->share && stage->share < SHARE_WHOLE;
}

static size_t share_class(uint32_t share)
{
    size_t class = 0;
    while (class + 1 < SCHEDULE_SHARES && share <= SHARE_WHOLE >> (class + 1))
        class ++;
    return class;
}

static int add_ready(struct schedule *schedule, const struct schedule_stage *stage)
{
    if (has_share(stage)) return push(&schedule->shares[share_class(stage->share)], stage);
    size_t degree = stage->degree ? stage->degree : 1;
    if (degree > schedule->degrees) {
        struct schedule_heap *grown = realloc(schedule->heaps, degree * sizeof *grown);
        if (!grown) return -1;
        memset(grown + schedule->degrees, 0, (degree - schedule->degrees) * sizeof *grown);
        schedule->heaps = grown;
        schedule->degrees = degree;
    }
    return push(&schedule->heaps[degree - 1], stage);
}

int schedule_add(struct schedule *schedule, const struct schedule_stage *stage)
{
    if (add_ready(schedule, stage)) return -1;
    schedule->count++;
    return 0;
}

/* Of two heaps' tops, which goes first. Inside a heap both orders are the same. */
static bool goes_first(const struct schedule *schedule, const struct schedule_stage *a, const struct schedule_stage *b)
{
    if (schedule->order == SCHEDULE_CHAIN) return before(a, b);
    double x = a->priority * a->degree, y = b->priority * b->degree;
    return x > y || x < y ? x > y : before(a, b);
}

/* Time has come back (a prediction has changed): what was too long may fit. What finds no memory stays in the list. */
static void take_back(struct schedule *schedule, double seconds_left)
{
    if (seconds_left < schedule->late_least) return;
    size_t kept = 0;
    schedule->late_least = INFINITY;
    for (size_t i = 0; i < schedule->late.count; i++) {
        struct schedule_stage stage = schedule->late.stages[i];
        if (stage.seconds <= seconds_left && !add_ready(schedule, &stage)) continue;
        schedule->late.stages[kept++] = stage;
        schedule->late_least = fmin(schedule->late_least, stage.seconds);
    }
    schedule->late.count = kept;
}

/* Top of a heap that ends, or reaches a checkpoint, in time; NULL: none. What is too long goes to the list. */
static const struct schedule_stage *top_in_time(struct schedule *schedule, struct schedule_heap *heap,
                                                double seconds_left)
{
    while (heap->count > 0 && heap->stages[0].seconds > seconds_left) {
        if (append(&schedule->late, &heap->stages[0])) return NULL; /* a later call tries again */
        schedule->late_least = fmin(schedule->late_least, heap->stages[0].seconds);
        pop(heap);
    }
    return heap->count > 0 ? &heap->stages[0] : NULL;
}

/* What to start next, and from which heap. */
struct choice {
    const struct schedule_stage *stage;
    struct schedule_heap *heap;
};

static void consider(const struct schedule *schedule, struct choice *best, const struct schedule_stage *top,
                     struct schedule_heap *heap)
{
    if (top && (!best->stage || goes_first(schedule, top, best->stage))) *best = (struct choice){top, heap};
}

/* Of the stages that need whole devices: the best that fits; and the best that does not, in *waiting. */
static struct choice choose_whole(struct schedule *schedule, uint32_t gap, double seconds_left, struct choice *waiting)
{
    struct choice best = {NULL, NULL};
    for (size_t i = 0; i < schedule->degrees; i++) {
        struct schedule_heap *heap = &schedule->heaps[i];
        consider(schedule, i < gap ? &best : waiting, top_in_time(schedule, heap, seconds_left), heap);
    }
    return best;
}

/* The same with those that need a part of a device. */
static struct choice choose(struct schedule *schedule, const struct schedule_node *nodes, size_t node_count,
                            double seconds_left)
{
    uint32_t gap = 0, shared = 0;
    for (size_t i = 0; i < node_count; i++) {
        if (nodes[i].gap > gap) gap = nodes[i].gap;
        shared += nodes[i].shared;
    }
    struct choice waiting = {NULL, NULL}, best = choose_whole(schedule, gap, seconds_left, &waiting);
    for (size_t i = 0; (gap || shared) && i < SCHEDULE_SHARES; i++) {
        struct schedule_heap *heap = &schedule->shares[i];
        const struct schedule_stage *top = top_in_time(schedule, heap, seconds_left);
        bool fits = top && (gap || ((!waiting.stage || goes_first(schedule, top, waiting.stage)) &&
                                    schedule_room_beside(nodes, node_count, top->share)));
        if (fits) consider(schedule, &best, top, heap);
    }
    return best;
}

int schedule_next(struct schedule *schedule, struct schedule_node *nodes, size_t node_count, double seconds_left,
                  struct schedule_stage *stage, struct schedule_seat *seat)
{
    take_back(schedule, seconds_left);
    struct choice best = choose(schedule, nodes, node_count, seconds_left);
    if (!best.stage) return 0;
    uint32_t degree = best.stage->degree ? best.stage->degree : 1;
    uint32_t share = has_share(best.stage) ? best.stage->share : SHARE_WHOLE;
    size_t place = 0;
    if (schedule_seat_whole(nodes, node_count, degree, share, seat)) {
        uint32_t base = schedule_seat_base(nodes, seat);
        if (base && share == SHARE_WHOLE) place = find_base(best.heap, base, seconds_left);
    } else {
        schedule_seat_beside(nodes, node_count, share, seat); /* there is room: choose() has looked */
    }
    *stage = take_at(best.heap, place);
    schedule_seat_leave(nodes, seat, stage->base);
    schedule->count--;
    return 1;
}

double schedule_longest(const struct schedule *schedule)
{
    double longest = 0.0;
    for (size_t i = 0; i < schedule->degrees; i++)
        if (schedule->heaps[i].count > 0) longest = fmax(longest, schedule->heaps[i].stages[0].priority);
    for (size_t i = 0; i < SCHEDULE_SHARES; i++)
        if (schedule->shares[i].count > 0) longest = fmax(longest, schedule->shares[i].stages[0].priority);
    for (size_t i = 0; i < schedule->late.count; i++)
        longest = fmax(longest, schedule->late.stages[i].priority);
    return longest;
}
