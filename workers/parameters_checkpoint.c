/* Between a rank's tiles and the global tensors of a checkpoint. */
#include <stdio.h>
#include <stdlib.h>

#include "workers/parameters.h"

static const char *const kinds[] = {"value", "moment1", "moment2"};
enum { KINDS = 3 };

static float *tensor_of(const struct parameter *p, int kind)
{
    return kind == 0 ? p->value : kind == 1 ? p->moment1 : p->moment2;
}

struct tensor_name {
    char text[sizeof((struct parameter *)0)->name + 16];
};

static struct tensor_name name_of(const struct parameter *p, int kind)
{
    struct tensor_name name;
    snprintf(name.text, sizeof name.text, "%s/%s", kinds[kind], p->name);
    return name;
}

float *parameters_staging(const struct parameters *parameters, struct error *err)
{
    size_t largest = 1;
    for (size_t i = 0; i < parameters->count; i++) {
        size_t n = parameters->list[i].row_count * parameters->list[i].column_count;
        if (n > largest) largest = n;
    }
    float *staging = malloc(largest * sizeof *staging);
    if (!staging) error_set(err, "out of memory: %zu bytes of host memory for a tensor", largest * sizeof *staging);
    return staging;
}

static int load_tensor(const struct parameters *parameters, const struct parameter *p, int kind,
                       const struct checkpoint *checkpoint, float *staging, struct error *err)
{
    struct tensor_name name = name_of(p, kind);
    struct checkpoint_tile tile = {name.text,    p->rows,         p->columns,     p->row_first,
                                   p->row_count, p->column_first, p->column_count};
    if (checkpoint_get(checkpoint, &tile, staging, err)) return -1;
    parameters->kernels->to_device(parameters->device, tensor_of(p, kind), staging,
                                   p->row_count * p->column_count * sizeof *staging);
    return parameters->kernels->synchronise(parameters->device, err); /* staging is used again */
}

int parameters_load(struct parameters *parameters, const struct checkpoint *checkpoint, bool trainable_only,
                    bool moments, struct error *err)
{
    float *staging = parameters_staging(parameters, err);
    if (!staging) return -1;
    int rc = -1;
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        if (trainable_only ? !p->trainable : p->adapter) continue;
        if (load_tensor(parameters, p, 0, checkpoint, staging, err)) goto done;
        for (int kind = 1; moments && kind < KINDS; kind++) {
            if (!tensor_of(p, kind) || !checkpoint_has(checkpoint, name_of(p, kind).text)) continue;
            if (load_tensor(parameters, p, kind, checkpoint, staging, err)) goto done;
        }
    }
    rc = 0;
done:
    free(staging);
    return rc;
}

static int kinds_of(const struct parameter *p, bool moments)
{
    return moments && p->moment1 ? KINDS : 1;
}

int parameters_declare(const struct parameters *parameters, struct checkpoint_writer *writer, bool moments,
                       struct error *err)
{
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        if (!p->trainable) continue;
        for (int kind = 0; kind < kinds_of(p, moments); kind++)
            if (checkpoint_writer_declare(writer, name_of(p, kind).text, p->rows, p->columns, err)) return -1;
    }
    return 0;
}

/* The rows that are this rank's to write. */
static int put_tensor(const struct parameters *parameters, const struct parameter *p, int kind,
                      struct checkpoint_writer *writer, float *staging, struct error *err)
{
    struct tensor_name name = name_of(p, kind);
    struct checkpoint_tile tile = {name.text,      p->rows,         p->columns,     p->owned_first,
                                   p->owned_count, p->column_first, p->column_count};
    const float *owned = tensor_of(p, kind) + (p->owned_first - p->row_first) * p->column_count;
    parameters->kernels->to_host(parameters->device, staging, owned,
                                 p->owned_count * p->column_count * sizeof *staging);
    return checkpoint_writer_put(writer, &tile, staging, err);
}

int parameters_put(const struct parameters *parameters, struct checkpoint_writer *writer, bool moments,
                   struct error *err)
{
    float *staging = parameters_staging(parameters, err);
    if (!staging) return -1;
    int rc = -1;
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        if (!p->trainable || !p->owned_count) continue;
        for (int kind = 0; kind < kinds_of(p, moments); kind++)
            if (put_tensor(parameters, p, kind, writer, staging, err)) goto done;
    }
    rc = 0;
done:
    free(staging);
    return rc;
}
