/* Cross-entropy and the largest logits. Each operation gives its parameters their meaning. */
#include "tests/kernels/ops_case.h"

/* Those around the ends of this device's rows first. */
static void draw_targets(struct run *run)
{
    int64_t first = (int64_t)P(2), all = (int64_t)(P(1) * P(3));
    int64_t ends[] = {first - 1, first, first + (int64_t)P(1) - 1, first + (int64_t)P(1)};
    int32_t *targets = run_integers(run, P(0), 0, (int32_t)all - 1);
    for (size_t i = 0; i < 4 && i < P(0); i++)
        if (ends[i] >= 0 && ends[i] < all) targets[i] = (int32_t)ends[i];
}

/* rows, vocabulary on this device, first, devices, deviation; finish: gradient wanted, smoothing in percent */
SETUP(cross_entropy_partial_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), (double)P(4));
    draw_targets(run);
    run_buffer(run, FLOATS, OUT, 4 * P(0));
}
CALL(cross_entropy_partial_call)
{
    k->cross_entropy_partial(d, P(0), P(1), P(2), R(0), I(1), F(2));
}
CALL(cross_entropy_partials_call)
{
    for (size_t device = 0; device < P(3); device++) /* every device has the logits of the first */
        k->cross_entropy_partial(d, P(0), P(1), device * P(1), R(0), I(1), F(2) + device * 4 * P(0));
}
SETUP(cross_entropy_finish_setup)
{
    size_t rows = P(0);
    run_normal(run, REALS, INOUT, rows * P(1), (double)P(4));
    draw_targets(run);
    run_buffer(run, FLOATS, IN, P(3) * 4 * rows);
    run_buffer(run, FLOATS, OUT, rows);
    run_on_reference(run, cross_entropy_partials_call);
}
CALL(cross_entropy_finish_call)
{
    k->cross_entropy_finish(d, P(0), P(1), P(2), P(3), F(2), I(1), P(3) * P(1), 0.01f * (float)P(6), P(5) ? 0.01f : 0,
                            R(0), F(3));
}

/* rows, vocabulary, first, k, sums wanted, distinct values (0: normal) */
SETUP(top_k_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 3);
    for (size_t i = 0; P(5) && i < P(0) * P(1); i++) /* many are equal */
        run->b[0].initial[i] = (float)run_below(run, P(5));
    for (int i = 0; i < 2; i++) /* values are copies: the same bytes */
        run_buffer(run, WORDS, OUT, P(0) * P(3));
    if (P(4)) run_buffer(run, FLOATS, OUT, P(0));
}
CALL(top_k_call)
{
    k->top_k(d, P(0), P(1), P(2), P(3), R(0), F(1), (int32_t *)F(2), P(4) ? F(3) : NULL);
}

/* rows, vocabulary, the peak: a row's logits are normal, but for one so far up that in fp32 the others' exponentials
 * would vanish beside its own, one by one */
SETUP(cross_entropy_loss_setup)
{
    size_t rows = P(0), vocabulary = P(1);
    struct buffer *logits = run_buffer(run, REALS, IN, rows * vocabulary);
    for (size_t i = 0; i < rows * vocabulary; i++)
        logits->initial[i] = (float)run_draw(run);
    for (size_t r = 0; r < rows; r++)
        logits->initial[r * vocabulary + run_below(run, vocabulary)] = (float)P(2);
    run_integers(run, rows, 0, (int32_t)vocabulary - 1);
    run_buffer(run, FLOATS, OUT, 4 * rows);
    run_buffer(run, FLOATS, OUT, rows);
}
CALL(cross_entropy_loss_call)
{
    k->cross_entropy_partial(d, P(0), P(1), 0, R(0), I(1), F(2));
    k->cross_entropy_finish(d, P(0), P(1), 0, 1, F(2), I(1), P(1), 0, 0, R(0), F(3));
}

static const struct op ops[] = {
    {OP(cross_entropy_partial), ROUNDED(1e-12), cross_entropy_partial_setup, cross_entropy_partial_call, NULL, false},
    {OP(cross_entropy_finish), ROUNDED(1e-11), cross_entropy_finish_setup, cross_entropy_finish_call, NULL, false},
    {OP(top_k), ROUNDED(1e-12), top_k_setup, top_k_call, NULL, false},
    {"cross_entropy_loss", OF(cross_entropy_finish), ROUNDED(1e-14), cross_entropy_loss_setup, cross_entropy_loss_call,
     NULL, false},
};
const struct op_list ops_of_losses = OP_LIST(ops);
