/* Between a rank's tiles and the global tensors of a checkpoint. */
#include <stdio.h>
#include <stdlib.h>

#include "workers/model/parameters.h"

enum { KINDS = 3 }; /* value, moment1, moment2 */

static float *moment_of(const struct parameter *p, int kind)
{
    return kind == 1 ? p->moment1 : p->moment2;
}

static bool has_tensor(const struct parameter *p, int kind)
{
    return kind == 0 || moment_of(p, kind);
}

void parameter_write(const struct parameters *parameters, const struct parameter *p, size_t first, size_t count,
                     const float *from)
{
    const struct kernels *k = parameters->kernels;
    if (p->value) k->to_device(parameters->device, p->value + first, from, count * sizeof *from);
    if (p->matrix && (void *)p->matrix != p->value)
        k->upload(parameters->device, count, from, real_at(p->matrix, parameters->element, first));
}

int parameter_read(const struct parameters *parameters, const struct parameter *p, size_t first, size_t count,
                   float *to, struct error *err)
{
    const struct kernels *k = parameters->kernels;
    if (p->value)
        k->to_host(parameters->device, to, p->value + first, count * sizeof *to);
    else
        k->download(parameters->device, count, real_at(p->matrix, parameters->element, first), to);
    return k->synchronise(parameters->device, err);
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
    size_t size = tile.row_count * tile.column_count;
    if (kind == 0)
        parameter_write(parameters, p, 0, size, staging);
    else
        parameters->kernels->to_device(parameters->device, moment_of(p, kind), staging, size * sizeof *staging);
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
            if (!has_tensor(p, kind) || !checkpoint_has(checkpoint, name_of(p, kind).text)) continue;
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
            if (!has_tensor(p, kind)) continue;
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
    size_t first = form == MOMENT_COLUMNS ? 0 : (p->owned_first - p->row_first) * tile.column_count;
    size_t size = tile.row_count * tile.column_count;
    if (kind == 0) {
        if (parameter_read(parameters, p, first, size, staging, err)) return -1;
    } else {
        const struct kernels *k = parameters->kernels;
        k->to_host(parameters->device, staging, moment_of(p, kind) + first, size * sizeof *staging);
        if (k->synchronise(parameters->device, err)) return -1; /* nothing of a failed device is kept */
    }
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
            if (has_tensor(p, kind) && put_tensor(parameters, p, kind, writer, staging, err)) goto done;
    }
    rc = 0;
done:
    free(staging);
    return rc;
}
