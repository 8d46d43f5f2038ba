/* Passes that come again in the same shape, recorded and launched as one where the device can (kernels.h).
 *
 * At full size: a pass of a 16B model is some thousand operations, of a small one a few hundred of a few microseconds,
 * which the host gives one by one. Texts come in batches of one shape, packed examples seldom: a shape is recorded when
 * it comes for the second time; what was not recorded, or not used for the longest time makes room. What an operation
 * takes by value must be the same in every such pass: rooms and rates are a model's for good, what changes is in the
 * shape. Where it is not (masks of dropout, packs, which name their rows, sums over ranks), nothing is recorded. */
#include <stdlib.h>
#include <string.h>

#include "workers/model/model_parts.h"

enum { ROOM = 16 };

/* What the operations of a pass depend on but for what buffers hold. */
struct pass_shape {
    size_t tokens, sequences, longest, targets;
    float scale, smoothing;
    bool training;
    uint64_t gradients; /* which are wanted, and which begin with this pass */
};

struct recorded {
    struct pass_shape shape;
    struct graph *graph;    /* NULL: none (yet) */
    unsigned char *settled; /* [parameters] gradients that have begun after it */
    bool refused;           /* it cannot be recorded */
    uint64_t used;          /* when; 0: never */
};

struct recordings {
    struct recorded list[ROOM];
    uint64_t time;
    unsigned char *before; /* [parameters] */
};

struct recordings *recordings_create(const struct parameters *parameters)
{
    struct recordings *recordings = calloc(1, sizeof *recordings);
    bool complete = recordings != NULL;
    if (complete) complete = (recordings->before = calloc(parameters->count, 1)) != NULL;
    for (size_t i = 0; complete && i < ROOM; i++)
        complete = (recordings->list[i].settled = calloc(parameters->count, 1)) != NULL;
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

static uint64_t gradients_of(const struct parameters *parameters)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        hash = (hash ^ (uint64_t)(2 * (p->gradient != NULL) + p->stale)) * 1099511628211u;
    }
    return hash;
}

static bool repeats(const struct model *model, bool training)
{
    const struct model_lane *lane = &model->lanes[0];
    bool drops =
        model->drops || (training && lane->method->drops_inputs && lane->method->drops_inputs(&lane->method_config));
    return model->recordings && model->lane_count == 1 && model->segments == &model->whole && !drops;
}

static bool same(const struct pass_shape *a, const struct pass_shape *b)
{
    return a->tokens == b->tokens && a->sequences == b->sequences && a->longest == b->longest &&
           a->targets == b->targets && !(a->scale < b->scale) && !(a->scale > b->scale) &&
           !(a->smoothing < b->smoothing) && !(a->smoothing > b->smoothing) && a->training == b->training &&
           a->gradients == b->gradients;
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

static void keep_stale(const struct parameters *parameters, unsigned char *to)
{
    for (size_t i = 0; i < parameters->count; i++)
        to[i] = parameters->list[i].stale;
}

static void put_stale(const struct parameters *parameters, const unsigned char *from)
{
    for (size_t i = 0; i < parameters->count; i++)
        parameters->list[i].stale = from[i];
}

/* Recorded, or nothing has happened. */
static bool record(const struct model *model, struct recorded *r, const struct pass *pass, const float *scales)
{
    struct error none = {""};
    if (model->kernels->graph_begin(model->device)) return false;
    keep_stale(model->parameters, model->recordings->before);
    int rc = model_work(model, pass, scales, &none);
    r->graph = model->kernels->graph_end(model->device);
    keep_stale(model->parameters, r->settled);
    if (r->graph && !rc) return true;
    if (r->graph) model->kernels->graph_destroy(model->device, r->graph);
    r->graph = NULL;
    put_stale(model->parameters, model->recordings->before);
    return false;
}

int model_repeat(const struct model *model, const struct pass *pass, const float *scales, size_t targets,
                 struct error *err)
{
    if (!repeats(model, scales != NULL)) return model_work(model, pass, scales, err);
    const struct sequences *sequences = &pass->attention.sequences;
    const struct pass_shape shape = {.tokens = pass->tokens,
                                     .sequences = sequences->count,
                                     .longest = sequences->longest,
                                     .targets = targets,
                                     .scale = scales ? scales[0] : 0,
                                     .smoothing = model->lanes[0].label_smoothing,
                                     .training = scales != NULL,
                                     .gradients = gradients_of(model->parameters)};
    struct recorded *r = find(model, &shape);
    bool seen = r->used > 0;
    r->used = model->recordings->time;
    for (int turn = 0; turn < 2 && seen && !r->refused; turn++) { /* again where the device has changed since */
        if (r->graph && !model->kernels->graph_launch(model->device, r->graph)) {
            put_stale(model->parameters, r->settled);
            return 0;
        }
        if (r->graph) model->kernels->graph_destroy(model->device, r->graph);
        r->graph = NULL;
        r->refused = !record(model, r, pass, scales);
    }
    return model_work(model, pass, scales, err);
}
