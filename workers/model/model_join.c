/* Which products of a pack's segments may be one: those in which a row has the bytes that it has alone. What is known
 * of a backend says kernels_row_join; where that is to be tried on the device, a product of random rows is computed as
 * one and segment by segment with the weights that it is about, once a form, and the bytes are compared. */
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "kernels/random.h"
#include "workers/model/model_parts.h"

static const size_t pieces[] = {JOIN_ROWS, 2 * JOIN_ROWS, 5 * JOIN_ROWS, 11 * JOIN_ROWS, 23 * JOIN_ROWS};
enum { PIECES = sizeof pieces / sizeof *pieces, LEAST_PIECES = 3 };
#define TRIAL_BYTES ((size_t)64 << 20) /* of device memory, unless LEAST_PIECES need more */
#define BLOCK ((size_t)1 << 18)        /* floats on the host at a time, unless a row has more */

/* One of several forms whose bytes may be computed in different ways. */
struct tried {
    struct layer_product form; /* its pointers are only NULL or not */
    bool joins;
};

struct joins {
    size_t count;
    struct tried list[64]; /* a model has at most some thirty */
};

struct joins *joins_create(void)
{
    return calloc(1, sizeof(struct joins));
}

void joins_destroy(struct joins *joins)
{
    free(joins);
}

void product_rows(const struct model *model, const struct layer_product *p, size_t rows, const real *x, real *before,
                  real *y)
{
    if (p->back)
        model->kernels->matmul(model->device, false, false, rows, p->n, p->k, 1, x, p->k, p->weight, p->n, p->beta, y,
                               p->n);
    else
        model->kernels->linear(model->device, rows, p->n, p->k, x, p->weight, p->bias, p->gelu, before, y);
}

static bool same(const struct layer_product *a, const struct layer_product *b)
{
    return a->n == b->n && a->k == b->k && a->back == b->back && a->beta == b->beta && a->gelu == b->gelu &&
           !a->bias == !b->bias;
}

static size_t rows_at_once(size_t width)
{
    return width < BLOCK ? BLOCK / width : 1;
}

/* Device and host memory of a trial: rows of x, what the product gives as one and piece by piece, and GELU's inputs. */
struct trial {
    size_t rows;
    real *x, *y[2], *before[2];
    float *host[2];
};

static void fill(const struct model *model, const struct trial *t, size_t k)
{
    const struct random_key key = {.seed = 1, .stream = random_stream("joined rows")};
    size_t most = rows_at_once(k);
    for (size_t row = 0; row < t->rows; row += most) {
        size_t count = (t->rows - row < most ? t->rows - row : most) * k;
        for (size_t i = 0; i < count; i++)
            t->host[0][i] = (float)random_uniform(key, row * k + i) - 0.5F;
        model->kernels->upload(model->device, count, t->host[0], at(model, t->x, row * k));
    }
}

static bool alike(const struct model *model, const struct trial *t, real *const both[2], size_t n)
{
    size_t most = rows_at_once(n);
    for (size_t row = 0; row < t->rows; row += most) {
        size_t count = (t->rows - row < most ? t->rows - row : most) * n;
        model->kernels->download(model->device, count, at(model, both[0], row * n), t->host[0]);
        model->kernels->download(model->device, count, at(model, both[1], row * n), t->host[1]);
        if (memcmp(t->host[0], t->host[1], count * sizeof(float))) return false;
    }
    return true;
}

/* false, too, where there is no memory to try it in. */
static bool try_product(const struct model *model, const struct layer_product *p)
{
    const struct kernels *k = model->kernels;
    struct trial t = {.rows = 0};
    struct error err;
    size_t results = p->gelu ? 4 : 2, count = 0, row = (p->k + results * p->n) * model->element;
    size_t host = p->n > p->k ? p->n : p->k;
    while (count < PIECES && (count < LEAST_PIECES || (t.rows + pieces[count]) * row <= TRIAL_BYTES))
        t.rows += pieces[count++];
    for (int i = 0; i < 2; i++)
        t.host[i] = malloc((host < BLOCK ? BLOCK : host) * sizeof(float));
    real **device[5] = {&t.x, &t.y[0], &t.y[1], &t.before[0], &t.before[1]};
    bool room = t.host[0] && t.host[1], good = false;
    for (size_t i = 0; i <= results && room; i++)
        room = (*device[i] = k->allocate(model->device, t.rows * (i ? p->n : p->k) * model->element, &err)) != NULL;
    if (room) {
        fill(model, &t, p->k);
        product_rows(model, p, t.rows, t.x, t.before[0], t.y[0]);
        for (size_t i = 0, first = 0; i < count; first += pieces[i++])
            product_rows(model, p, pieces[i], at(model, t.x, first * p->k), at(model, t.before[1], first * p->n),
                         at(model, t.y[1], first * p->n));
        good = alike(model, &t, t.y, p->n) && (!p->gelu || alike(model, &t, t.before, p->n));
    }
    for (int i = 5; i-- > 0;)
        if (*device[i]) k->release(model->device, *device[i]);
    free(t.host[0]);
    free(t.host[1]);
    if (!good)
        LOG("packs: products of %zu columns, %zu deep, are computed point by point%s", p->n, p->k,
            room ? "" : ": no memory to try them in");
    return good;
}

bool product_joins(const struct model *model, const struct layer_product *product, size_t rows)
{
    struct joins *joins = model->joins;
    if (model->row_join != JOIN_TRIED) return kernels_rows_join(model->row_join, rows, product->n, product->k);
    for (size_t i = 0; i < joins->count; i++)
        if (same(&joins->list[i].form, product)) return joins->list[i].joins;
    if (joins->count == sizeof joins->list / sizeof *joins->list) return false;
    struct tried *tried = &joins->list[joins->count++];
    *tried = (struct tried){*product, try_product(model, product)};
    return tried->joins;
}
