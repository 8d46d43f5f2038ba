/* Matrix products. Each operation gives its parameters their meaning. */
#include <math.h>

#include "tests/kernels/ops_case.h"

/* m, n, k, transposes (1: a, 2: b, 4: beta), padding of the rows */
SETUP(matmul_setup)
{
    size_t m = P(0), n = P(1), k = P(2), pad = P(4);
    run_normal(run, REALS, IN, (P(3) & 1 ? k * (m + pad) : m * (k + pad)), 1);
    run_normal(run, REALS, IN, (P(3) & 2 ? n * (k + pad) : k * (n + pad)), 1);
    run_normal(run, REALS, P(3) & 4 ? INOUT : OUT, m * n, 1);
}
CALL(matmul_call)
{
    bool ta = P(3) & 1, tb = P(3) & 2;
    k->matmul(d, ta, tb, P(0), P(1), P(2), 0.7f, R(0), (ta ? P(0) : P(2)) + P(4), R(1), (tb ? P(2) : P(1)) + P(4),
              P(3) & 4 ? 0.3f : 0, R(2), P(1));
}

/* Of factors rounded to bf16: the same numbers on every backend, however it multiplies them. */
CALL(matmul_bf16_call)
{
    k->set_precision(d, PRECISION_BF16);
    matmul_call(k, d, run);
    k->set_precision(d, PRECISION_FP32);
}
/* Of factors that are sums of two bf16 numbers: on the host. */
CALL(matmul_bf16x3_call)
{
    k->set_precision(d, PRECISION_BF16X3);
    matmul_call(k, d, run);
    k->set_precision(d, PRECISION_FP32);
}
WORK(matmul_work)
{
    return 2.0 * (double)(P(0) * P(1) * P(2));
}
SETUP(matmul_floats_setup)
{
    matmul_setup(run);
    run->b[2].kind = FLOATS;
}
CALL(matmul_floats_call)
{
    bool ta = P(3) & 1, tb = P(3) & 2;
    k->matmul_floats(d, ta, tb, P(0), P(1), P(2), 0.7f, R(0), (ta ? P(0) : P(2)) + P(4), R(1),
                     (tb ? P(2) : P(1)) + P(4), P(3) & 4 ? 0.3f : 0, F(2), P(1));
}

/* m, n, k of the first product, transposes, of which of them C is floats: every third, none, all; each has a row more
 * than the one before */
enum { GROUP = 7 };
SETUP(matmul_group_setup)
{
    size_t all = GROUP * (P(0) + GROUP);
    run_normal(run, REALS, IN, all * P(2), 1);
    run_normal(run, REALS, IN, GROUP * P(1) * P(2), 1);
    run_normal(run, REALS, INOUT, all * P(1), 1);
    run_normal(run, FLOATS, INOUT, all * P(1), 1);
}
CALL(matmul_group_call)
{
    struct matmul_arguments products[GROUP];
    bool ta = P(3) & 1, tb = P(3) & 2;
    size_t most = P(0) + GROUP;
    for (size_t i = 0; i < GROUP; i++) {
        size_t m = P(0) + i;
        products[i] = (struct matmul_arguments){.trans_a = ta,
                                                .trans_b = tb,
                                                .m = m,
                                                .n = P(1),
                                                .k = P(2),
                                                .lda = ta ? m : P(2),
                                                .ldb = tb ? P(2) : P(1),
                                                .ldc = P(1),
                                                .alpha = 0.5f + (float)i,
                                                .beta = (float)(i % 2),
                                                .a = AT(0, i * most * P(2)),
                                                .b = AT(1, i * P(1) * P(2))};
        if (P(4) == 0 ? i % 3 : P(4) == 1)
            products[i].c = AT(2, i * most * P(1));
        else
            products[i].c_floats = F(3) + i * most * P(1);
    }
    k->matmul_group(d, GROUP, products);
}
WORK(matmul_group_work)
{
    return GROUP * matmul_work(run);
}

/* rows, n, k, with a bias, enum linear_gelu */
SETUP(linear_setup)
{
    run_normal(run, REALS, IN, P(0) * P(2), 1);
    run_normal(run, REALS, IN, P(1) * P(2), 1 / sqrt((double)P(2)));
    run_normal(run, FLOATS, IN, P(1), 1);
    run_buffer(run, REALS, OUT, P(4) ? P(0) * P(1) : 0);
    run_buffer(run, REALS, OUT, P(0) * P(1));
}
CALL(linear_call)
{
    k->linear(d, P(0), P(1), P(2), R(0), R(1), P(3) ? F(2) : NULL, (enum linear_gelu)P(4), P(4) ? R(3) : NULL, R(4));
}

static const struct op ops[] = {
    {OP(matmul), ROUNDED(1e-12), matmul_setup, matmul_call, matmul_work, true},
    {"matmul_bf16", OF(matmul), ROUNDED(1e-10), matmul_setup, matmul_bf16_call, matmul_work, true},
    {"matmul_bf16x3", OF(matmul), ROUNDED(1e-11), matmul_setup, matmul_bf16x3_call, matmul_work, true},
    {OP(matmul_floats), ROUNDED(1e-12), matmul_floats_setup, matmul_floats_call, matmul_work, true},
    {OP(matmul_group), ROUNDED(1e-12), matmul_group_setup, matmul_group_call, matmul_group_work, true},
    {OP(linear), {1e-12, 2e-5, 1e-12}, linear_setup, linear_call, matmul_work, true},
};
const struct op_list ops_of_products = OP_LIST(ops);
