/* Between a rank's tiles and the global tensors of a checkpoint. */
#include <stdio.h>
#include <stdlib.h>

#include "workers/parameters.h"

enum { KINDS = 3 }; /* value, moment1, moment2 */

static float *tensor_of(const struct parameter *p, int kind)
{
    return kind == 0 ? p->value : kind == 1 ? p->moment1 : p->moment2;
}

static enum moment_form form_of(const struct parameter *p, int kind)
{
    return kind == 0 ? MOMENT_FULL : kind == 1 ? p->form1 : p->form2;
}

struct tensor_name {
    char text[sizeof((struct parameter *)0)->name + 16];
};

static struct tensor_name name_of(const struct parameter *p, int kind)
{
    static const char *const full[] = {"value", "moment1", "moment2"};
    enum moment_form form = form_of(p, kind);
    struct tensor_name name;
    snprintf(name.text, sizeof name.text, "%s/%s",
             form == MOMENT_ROWS      ? "row_moment"
             : form == MOMENT_COLUMNS ? "column_moment"
                                      : full[kind],
             p->name);
    return name;
}

/* A rank's part of a tensor that has one number a row or a column of p where `form` says so. owned: what it writes. */
static struct checkpoint_tile tile_of(const struct parameter *p, enum moment_form form, bool owned)
{
    struct checkpoint_tile tile = {NULL,         p->rows,         p->columns,     p->row_first,
                                   p->row_count, p->column_first, p->column_count};
    if (owned) {
        tile.row_first = p->owned_first;
        tile.row_count = p->owned_count;
    }
    if (form == MOMENT_ROWS) {
        if (owned && p->columns_cut && p->column_first > 0) tile.row_count = 0; /* every rank has all: the first's */
        tile.columns = tile.column_count = 1;
        tile.column_first = 0;
    }
    if (form == MOMENT_COLUMNS) {
        bool others = owned && (p->owned_count == 0 || p->owned_first > 0); /* the first row's owner writes */
        tile.rows = 1;
        tile.row_count = !others;
        tile.row_first = 0;
    }
    return tile;
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
    struct checkpoint_tile tile = tile_of(p, form_of(p, kind), false);
    tile.name = name.text;
    if (checkpoint_get(checkpoint, &tile, staging, err)) return -1;
    parameters->kernels->to_device(parameters->device, tensor_of(p, kind), staging,
                                   tile.row_count * tile.column_count * sizeof *staging);
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

int parameters_declare(const struct parameters *parameters, struct checkpoint_writer *writer, bool moments,
                       struct error *err)
{
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        if (!p->trainable) continue;
        for (int kind = 0; kind < (moments ? KINDS : 1); kind++) {
            struct checkpoint_tile tile = tile_of(p, form_of(p, kind), false);
            if (!tensor_of(p, kind)) continue;
            if (checkpoint_writer_declare(writer, name_of(p, kind).text, tile.rows, tile.columns, err)) return -1;
        }
    }
    return 0;
}

/* What is this rank's to write. */
static int put_tensor(const struct parameters *parameters, const struct parameter *p, int kind,
                      struct checkpoint_writer *writer, float *staging, struct error *err)
{
    struct tensor_name name = name_of(p, kind);
    enum moment_form form = form_of(p, kind);
    struct checkpoint_tile tile = tile_of(p, form, true);
    if (!tile.row_count) return 0;
    tile.name = name.text;
    const float *owned = tensor_of(p, kind);
    if (form != MOMENT_COLUMNS) owned += (p->owned_first - p->row_first) * tile.column_count;
    parameters->kernels->to_host(parameters->device, staging, owned,
                                 tile.row_count * tile.column_count * sizeof *staging);
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
        if (!p->trainable) continue;
        for (int kind = 0; kind < (moments ? KINDS : 1); kind++)
            if (tensor_of(p, kind) && put_tensor(parameters, p, kind, writer, staging, err)) goto done;
    }
    rc = 0;
done:
    free(staging);
    return rc;
}
