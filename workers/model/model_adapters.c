/* What the methods of a batch's lanes have beside a linear layer, where their hooks are called for all lanes of one
 * method at once, with the rows of each, and behind a half of a block. */
#include "workers/model/model_parts.h"

static const struct method *method_at(const struct linear_rows *rows)
{
    return method_of(rows->context.config->kind);
}

/* The rows of lanes that have something there; *same: how many from `rows` on have one method. */
static size_t collect(const struct model *model, const struct linear *linear, const struct segment *segments,
                      size_t count, struct linear_rows arrays, struct linear_rows rows[PACK_LIMIT])
{
    size_t found = 0, in = linear->in, out = linear->out;
    for (size_t i = 0; i < count; i++) {
        const struct segment *s = &segments[i];
        const struct linear *own = lane_linear(model, s->lane, linear);
        if (!own->adapter[0]) continue;
        rows[found++] = (struct linear_rows){.context = lane_context(model, s->lane),
                                             .linear = own,
                                             .tokens = s->rows,
                                             .x = at(model, arrays.x, s->first * in),
                                             .dy = at(model, arrays.dy, s->first * out),
                                             .y = at(model, arrays.y, s->first * out),
                                             .dx = at(model, arrays.dx, s->first * in)};
    }
    return found;
}

static size_t same_method(const struct linear_rows *rows, size_t count)
{
    size_t same = 1;
    while (same < count && method_at(&rows[same]) == method_at(rows))
        same++;
    return same;
}

void adapters_forward(const struct model *model, const struct linear *linear, const struct segment *segments,
                      size_t count, const real *x, real *y)
{
    struct linear_rows rows[PACK_LIMIT];
    size_t found = collect(model, linear, segments, count, (struct linear_rows){.x = x, .y = y}, rows);
    for (size_t i = 0, same; i < found; i += same) {
        same = same_method(&rows[i], found - i);
        if (method_at(&rows[i])->linear_forward) method_at(&rows[i])->linear_forward(&rows[i], same);
    }
}

void adapters_backward(const struct model *model, const struct linear *linear, const struct segment *segments,
                       size_t count, const real *x, const real *dy, real *dx)
{
    struct linear_rows rows[PACK_LIMIT];
    size_t found = collect(model, linear, segments, count, (struct linear_rows){.x = x, .dy = dy, .dx = dx}, rows);
    for (size_t i = 0, same; i < found; i += same) {
        same = same_method(&rows[i], found - i);
        if (method_at(&rows[i])->linear_backward) method_at(&rows[i])->linear_backward(&rows[i], same);
    }
}

/* The lanes' hooks behind a half, forward or back, in place. */
static void each_half(const struct model *model, const struct layer *layer, enum half_place place, size_t tokens,
                      bool back, real *x)
{
    struct segment all;
    const struct segment *segments;
    size_t count = segments_of(model, tokens, &all, &segments), width = model->config.width;
    for (const struct segment *s = segments; s < segments + count; s++) {
        const struct half *half = lane_half(model, s->lane, layer, place);
        const struct method *method = model->lanes[s->lane].method;
        const struct method_context context = lane_context(model, s->lane);
        real *rows = at(model, x, s->first * width);
        if (half->adapter[0])
            (back ? method->half_backward : method->half_forward)(&context, half, s->rows, width, rows);
    }
}

void halves_forward(const struct model *model, const struct layer *layer, enum half_place place, size_t tokens,
                    real *out)
{
    each_half(model, layer, place, tokens, false, out);
}

static bool changed(const struct model *model, const struct layer *layer, enum half_place place)
{
    for (size_t lane = 0; lane < model->lane_count; lane++)
        if (lane_half(model, lane, layer, place)->adapter[0]) return true;
    return false;
}

const real *halves_backward(const struct model *model, const struct layer *layer, enum half_place place, size_t tokens,
                            const real *dout)
{
    if (!changed(model, layer, place)) return dout;
    model->kernels->copy(model->device, tokens * model->config.width * model->element, dout, model->half_gradient);
    each_half(model, layer, place, tokens, true, model->half_gradient);
    return model->half_gradient;
}
