/* Passes that come again in the same shape, recorded and launched as one where the device can (kernels.h).
 *
 * At full size: a pass of a 16B model is some thousand operations, of a small one a few hundred of a few microseconds,
 * which the host gives one by one. Texts come in batches of one shape, packed examples seldom: a shape is recorded when
 * it comes for the second time; what was not recorded, or not used for the longest time makes room. What an operation
 * takes by value must be the same in every such pass: rooms and scales are a model's for good, what changes is in the
 * shape, of a pack the rows of each lane; keys of dropout lie in a buffer. Of a gang, whose ranks sum, nothing is
 * recorded. */
#include <stdlib.h>
#include <string.h>

#include "workers/model/model_parts.h"

enum { ROOM = 16 };

/* Of a segment; where it begins follows from those before. */
struct segment_shape {
    uint32_t lane;
    size_t rows, padded, targets;
    float scale, smoothing;
    double dropout;
};

/* What the operations of a pass depend on but for what buffers hold. */
struct pass_shape {
    size_t tokens, sequences, longest, targets, segments;
    bool training, whole; /* whole: the batch names no segment, nothing is padded */
    uint64_t gradients;   /* which are wanted, and which begin with this pass */
    struct segment_shape list[PACK_LIMIT];
};

struct recorded {
    struct pass_shape shape;
    struct graph *graph;    /* NULL: none (yet) */
    unsigned char *settled; /* [parameters of all lanes] gradients that have begun after it */
    bool refused;           /* it cannot be recorded */
    uint64_t used;          /* when; 0: never */
};

struct recordings {
    struct recorded list[ROOM];
    uint64_t time;
    unsigned char *before; /* [parameters of all lanes] */
};

struct recordings *recordings_create(const struct model *model)
{
    struct recordings *recordings = calloc(1, sizeof *recordings);
    bool complete = recordings != NULL;
    size_t count = 0;
    for (size_t lane = 0; lane < model->lane_count; lane++)
        count += model->lanes[lane].parameters->count;
    if (complete) complete = (recordings->before = calloc(count, 1)) != NULL;
    for (size_t i = 0; complete && i < ROOM; i++)
        complete = (recordings->list[i].settled = calloc(count, 1)) != NULL;
    if (complete) return recordings;
    recordings_destroy(NULL, recordings);
    return NULL;
}

void recordings_destroy(const struct model *model, struct recordings *recordings)
{
    for (size_t i = 0; recordings && i < ROOM; i++) {
        struct recorded *r = &recordings->list[i];
        if (r->graph) model->kernels->graph_destroy(model->device, r->graph);
        free(r->settled);
    }
    if (recordings) free(recordings->before);
    free(recordings);
}

static uint64_t gradients_of(const struct model *model)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t lane = 0; lane < model->lane_count; lane++) {
        const struct parameters *parameters = model->lanes[lane].parameters;
        for (size_t i = 0; i < parameters->count; i++) {
            const struct parameter *p = &parameters->list[i];
            hash = (hash ^ (uint64_t)(2 * (p->gradient != NULL) + p->stale)) * 1099511628211u;
        }
    }
    return hash;
}

static struct pass_shape shape_of(const struct model *model, const struct pass *pass, const float *scales,
                                  size_t targets)
{
    const struct sequences *sequences = &pass->attention.sequences;
    struct pass_shape shape = {.tokens = pass->tokens,
                               .sequences = sequences->count,
                               .longest = sequences->longest,
                               .targets = targets,
                               .segments = model->segment_count,
                               .training = scales != NULL,
                               .whole = model->segments == &model->whole,
                               .gradients = gradients_of(model)};
    for (size_t i = 0; i < model->segment_count; i++) {
        const struct segment *s = &model->segments[i];
        const struct model_lane *lane = &model->lanes[s->lane];
        shape.list[i] = (struct segment_shape){.lane = s->lane,
                                               .rows = s->rows,
                                               .padded = s->padded,
                                               .targets = s->targets,
                                               .scale = scales ? scales[s->lane] : 0,
                                               .smoothing = lane->label_smoothing,
                                               .dropout = lane->dropout};
    }
    return shape;
}

static bool equal(double a, double b)
{
    return !(a < b) && !(a > b);
}

static bool same_segment(const struct segment_shape *a, const struct segment_shape *b)
{
    return a->lane == b->lane && a->rows == b->rows && a->padded == b->padded && a->targets == b->targets &&
           equal((double)a->scale, (double)b->scale) && equal((double)a->smoothing, (double)b->smoothing) &&
           equal(a->dropout, b->dropout);
}

static bool same(const struct pass_shape *a, const struct pass_shape *b)
{
    bool same = a->tokens == b->tokens && a->sequences == b->sequences && a->longest == b->longest &&
                a->targets == b->targets && a->segments == b->segments && a->training == b->training &&
                a->whole == b->whole && a->gradients == b->gradients;
    for (size_t i = 0; same && i < a->segments; i++)
        same = same_segment(&a->list[i], &b->list[i]);
    return same;
}

/* That of a shape, new where it was not there. */
static struct recorded *find(const struct model *model, const struct pass_shape *shape)
{
    struct recordings *all = model->recordings;
    struct recorded *oldest = &all->list[0];
    all->time++;
    for (size_t i = 0; i < ROOM; i++) {
        struct recorded *r = &all->list[i];
        if (r->used && same(&r->shape, shape)) return r;
        bool kept = r->graph, other = oldest->graph; /* shapes of a validation may be many, and come once each */
        if (kept != other ? other : r->used < oldest->used) oldest = r;
    }
    if (oldest->graph) model->kernels->graph_destroy(model->device, oldest->graph);
    *oldest = (struct recorded){.shape = *shape, .settled = oldest->settled};
    return oldest;
}

static void keep_stale(const struct model *model, unsigned char *to)
{
    for (size_t lane = 0; lane < model->lane_count; lane++)
        for (size_t i = 0; i < model->lanes[lane].parameters->count; i++)
            *to++ = model->lanes[lane].parameters->list[i].stale;
}

static void put_stale(const struct model *model, const unsigned char *from)
{
    for (size_t lane = 0; lane < model->lane_count; lane++)
        for (size_t i = 0; i < model->lanes[lane].parameters->count; i++)
            model->lanes[lane].parameters->list[i].stale = *from++;
}

/* Recorded, or nothing has happened. */
static bool record(const struct model *model, struct recorded *r, const struct pass *pass, const float *scales)
{
    struct error none = {""};
    if (model->kernels->graph_begin(model->device)) return false;
    keep_stale(model, model->recordings->before);
    int rc = model_work(model, pass, scales, &none);
    r->graph = model->kernels->graph_end(model->device);
    keep_stale(model, r->settled);
    if (r->graph && !rc) return true;
    if (r->graph) model->kernels->graph_destroy(model->device, r->graph);
    r->graph = NULL;
    put_stale(model, model->recordings->before);
    return false;
}

int model_repeat(const struct model *model, const struct pass *pass, const float *scales, size_t targets,
                 struct error *err)
{
    if (!model->recordings) return model_work(model, pass, scales, err);
    const struct pass_shape shape = shape_of(model, pass, scales, targets);
    struct recorded *r = find(model, &shape);
    bool seen = r->used > 0;
    r->used = model->recordings->time;
    for (int turn = 0; turn < 2 && seen && !r->refused; turn++) { /* again where the device has changed since */
        if (r->graph && !model->kernels->graph_launch(model->device, r->graph)) {
            put_stale(model, r->settled);
            return 0;
        }
        if (r->graph) model->kernels->graph_destroy(model->device, r->graph);
        r->graph = NULL;
        r->refused = !record(model, r, pass, scales);
    }
    return model_work(model, pass, scales, err);
}
