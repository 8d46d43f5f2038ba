/* The base that stays on a worker's devices between stages. */
#include "workers/stage/residence.h"

#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "workers/model/model.h"
#include "workers/stage/gang.h"

/* What the weights of a base in memory follow from. */
struct key {
    struct model_config model;
    struct digest base;
    enum precision precision;
    uint32_t degree, threads;
    const struct kernels *kernels;
};

struct residence {
    struct key key;
    bool stays;                /* the stage that has entered leaves its base as it is */
    bool whole;                /* every rank's part has been loaded */
    struct parameters **parts; /* [key.degree] of the ranks; of a rank that has none yet NULL */
};

struct residence *residence_create(void)
{
    return calloc(1, sizeof(struct residence));
}

static struct key key_of(const struct stage *stage, const struct kernels *kernels)
{
    struct key key;
    memset(&key, 0, sizeof key); /* it is compared as bytes */
    memcpy(&key.model, &stage->model, sizeof key.model);
    memcpy(key.base.hex, stage->base.hex, sizeof key.base.hex);
    key.precision = stage->recipe.precision;
    key.degree = stage->degree;
    key.threads = stage->threads;
    key.kernels = kernels;
    return key;
}

/* On a device of the rank's own: those of earlier stages are gone. */
static int release_part(void *context, const struct collective *collective, struct error *err)
{
    struct residence *residence = context;
    const struct key *key = &residence->key;
    struct parameters *part = residence->parts[collective->rank];
    if (!part) return 0;
    part->device = key->kernels->device_create(collective->rank, (int)key->threads, err);
    if (!part->device) return -1;
    struct device *device = part->device;
    parameters_destroy(part);
    residence->parts[collective->rank] = NULL;
    key->kernels->device_destroy(device);
    return 0;
}

/* -1: some of it is still there, of no use any more, to be released when a device can be had again. */
static int release(struct residence *residence)
{
    struct error err;
    residence->whole = false;
    if (residence->parts && gang_run((int)residence->key.degree, release_part, residence, &err)) {
        LOG("the base of an earlier stage is still on the devices: %s", err.text);
        return -1;
    }
    free(residence->parts);
    residence->parts = NULL;
    return 0;
}

void residence_destroy(struct residence *residence)
{
    if (!residence) return;
    bool left = release(residence) != 0;
    for (uint32_t i = 0; left && i < residence->key.degree; i++) {
        if (residence->parts[i]) residence->parts[i]->device = NULL;
        parameters_destroy(residence->parts[i]);
    }
    free(residence->parts);
    free(residence);
}

int residence_enter(struct residence *residence, const struct stage *stage, const struct kernels *kernels,
                    struct error *err)
{
    const struct key key = key_of(stage, kernels);
    residence->stays = stage->kind != STAGE_PRETRAIN && method_leaves_base(stage->method.kind);
    bool other = !residence->stays || !residence->whole || memcmp(&key, &residence->key, sizeof key) != 0;
    if (other && release(residence)) residence->stays = false; /* this stage has a base of its own */
    if (!residence->stays || residence->parts) return 0;
    residence->key = key;
    residence->parts = calloc(key.degree, sizeof *residence->parts);
    return residence->parts ? 0 : error_set(err, "out of memory");
}

void residence_leave(struct residence *residence, bool failed)
{
    if (failed) release(residence);
    residence->whole = residence->stays && !failed;
    residence->stays = false;
}

bool residence_holds(const struct residence *residence)
{
    return residence && residence->stays && residence->whole;
}

struct parameters *residence_base(struct residence *residence, const struct stage *stage,
                                  const struct collective *collective, const struct kernels *kernels,
                                  struct device *device, struct error *err)
{
    static const struct method_config none = {.kind = METHOD_NONE};
    if (!residence || !residence->stays) return NULL;
    struct parameters **part = &residence->parts[collective->rank];
    if (!*part) *part = parameters_create(&stage->model, &none, NULL, collective, kernels, device, err);
    if (!*part) return NULL;
    (*part)->device = device;
    (*part)->collective = *collective;
    return *part;
}
