/* Norms. Each operation gives its parameters their meaning. */
#include "tests/kernels/ops_case.h"

/* rows, width, 1: with a residual; backward: 1 where dgain is wanted */
SETUP(rms_norm_forward_setup)
{
    run_normal(run, REALS, P(2) ? INOUT : IN, P(0) * P(1), 2);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_buffer(run, REALS, OUT, P(0) * P(1));
    run_buffer(run, FLOATS, OUT, P(0));
    run_normal(run, REALS, IN, P(2) ? P(0) * P(1) : 0, 1);
}
CALL(rms_norm_forward_call)
{
    k->rms_norm_forward(d, P(0), P(1), 1e-5f, P(2) ? R(4) : NULL, R(0), F(1), R(2), F(3));
}
SETUP(rms_norm_backward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 2);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_positive(run, FLOATS, IN, P(0), 1);
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, REALS, INOUT, P(0) * P(1), 1);
    run_normal(run, FLOATS, INOUT, P(1), 1);
}
CALL(rms_norm_backward_call)
{
    k->rms_norm_backward(d, P(0), P(1), R(0), F(1), F(2), R(3), R(4), P(2) ? F(5) : NULL);
}

/* rows, width, 1: with a residual; backward: 1 where dgain and dbias are wanted, 2 where dbias alone is */
SETUP(layer_norm_forward_setup)
{
    run_normal(run, REALS, P(2) ? INOUT : IN, P(0) * P(1), 2);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_buffer(run, REALS, OUT, P(0) * P(1));
    run_buffer(run, FLOATS, OUT, P(0));
    run_buffer(run, FLOATS, OUT, P(0));
    run_normal(run, REALS, IN, P(2) ? P(0) * P(1) : 0, 1);
}
CALL(layer_norm_forward_call)
{
    k->layer_norm_forward(d, P(0), P(1), 1e-5f, P(2) ? R(6) : NULL, R(0), F(1), F(2), R(3), F(4), F(5));
}
SETUP(layer_norm_backward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 2);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_normal(run, FLOATS, IN, P(0), 0.3);
    run_positive(run, FLOATS, IN, P(0), 1);
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, REALS, INOUT, P(0) * P(1), 1);
    run_normal(run, FLOATS, INOUT, P(1), 1);
    run_normal(run, FLOATS, INOUT, P(1), 1);
}
CALL(layer_norm_backward_call)
{
    k->layer_norm_backward(d, P(0), P(1), R(0), F(1), F(2), F(3), R(4), R(5), P(2) == 1 ? F(6) : NULL,
                           P(2) ? F(7) : NULL);
}

/* rows, width, columns shared with the device before, columns of the whole row; row_norm_backward: 1 where dgain is
 * wanted, 1 where dx is dy */
SETUP(row_squares_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_buffer(run, FLOATS, OUT, P(0));
}
CALL(row_squares_call)
{
    k->row_squares(d, P(0), P(1), P(2), R(0), F(1));
}
SETUP(row_norm_forward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_positive(run, FLOATS, IN, P(0), (double)P(3));
    run_buffer(run, REALS, OUT, P(0) * P(1));
    run_buffer(run, FLOATS, OUT, P(0));
}
CALL(row_norm_forward_call)
{
    k->row_norm_forward(d, P(0), P(1), P(3), 1e-5f, R(0), F(1), F(2), R(3), F(4));
}
SETUP(row_norm_dots_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_buffer(run, FLOATS, OUT, P(0));
}
CALL(row_norm_dots_call)
{
    k->row_norm_dots(d, P(0), P(1), R(0), F(1), R(2), F(3));
}
SETUP(row_norm_backward_setup)
{
    run_normal(run, REALS, IN, P(0) * P(1), 1);
    run_normal(run, FLOATS, IN, P(1), 1);
    run_positive(run, FLOATS, IN, P(0), 1);
    run_normal(run, FLOATS, IN, P(0), 3);
    run_normal(run, REALS, P(5) ? INOUT : IN, P(0) * P(1), 1);
    run_buffer(run, REALS, OUT, P(5) ? 0 : P(0) * P(1));
    run_normal(run, FLOATS, INOUT, P(1), 1);
}
CALL(row_norm_backward_call)
{
    k->row_norm_backward(d, P(0), P(1), P(2), P(3), R(0), F(1), F(2), F(3), R(4), P(5) ? R(4) : R(5),
                         P(4) ? F(6) : NULL);
}

static const struct op ops[] = {
    {OP(rms_norm_forward), {1e-13, 2e-5, 2e-5}, rms_norm_forward_setup, rms_norm_forward_call, NULL, false},
    {OP(rms_norm_backward), ROUNDED(1e-12), rms_norm_backward_setup, rms_norm_backward_call, NULL, false},
    {OP(layer_norm_forward), {1e-12, 2e-5, 2e-5}, layer_norm_forward_setup, layer_norm_forward_call, NULL, false},
    {OP(layer_norm_backward), ROUNDED(1e-12), layer_norm_backward_setup, layer_norm_backward_call, NULL, false},
    {OP(row_squares), ROUNDED(1e-13), row_squares_setup, row_squares_call, NULL, false},
    {OP(row_norm_forward), ROUNDED(1e-13), row_norm_forward_setup, row_norm_forward_call, NULL, false},
    {OP(row_norm_dots), ROUNDED(1e-11), row_norm_dots_setup, row_norm_dots_call, NULL, false},
    {OP(row_norm_backward), ROUNDED(1e-12), row_norm_backward_setup, row_norm_backward_call, NULL, false},
};
const struct op_list ops_of_norms = OP_LIST(ops);
