/* Shapes that are drawn: what the sizes mean is said in the files of operations. */
#include "tests/kernels/ops.h"

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void tidy_shared(size_t p[PARAMETERS])
{
    p[2] = least(p[2], p[1]);
    if (p[3] < p[1]) p[3] = p[1];
}

static void tidy_rotary(size_t p[PARAMETERS])
{
    p[2] = p[2] / 2 * 2 + 2;
    p[5] = least(p[5] / 2 * 2, p[2]);
}

static void tidy_attention(size_t p[PARAMETERS])
{
    p[0] = least(p[0], p[1]);
    p[3] = least(p[3], p[2]);
}

static void tidy_decode(size_t p[PARAMETERS])
{
    p[3] = least(p[3], p[2]);
    if (p[5] < p[1]) p[5] = p[1];
}

/* A device's part of a vocabulary. */
static void tidy_embedding(size_t p[PARAMETERS])
{
    p[3] = least(p[3], p[2] - 1);
    p[4] = least(p[4], p[2] - p[3]);
    if (!p[4]) p[4] = 1;
}

static void tidy_gather(size_t p[PARAMETERS])
{
    p[2] += p[0];
}

/* Devices hold the same number of rows; this one any of them. */
static void tidy_vocabulary(size_t p[PARAMETERS])
{
    p[2] = p[2] % p[3] * p[1];
}

/* Columns of a device out of the whole row. */
static void tidy_dropout(size_t p[PARAMETERS])
{
    p[3] += p[1] + p[2];
}

const struct random_shape random_shapes[] = {
    {"matmul", {{1, 200}, {1, 200}, {0, 200}, {0, 7}, {0, 9}}, NULL},
    {"matmul_bf16", {{1, 200}, {1, 200}, {0, 200}, {0, 7}, {0, 9}}, NULL},
    {"matmul_bf16x3", {{1, 200}, {1, 200}, {0, 200}, {0, 7}, {0, 9}}, NULL},
    {"matmul_floats", {{1, 100}, {1, 100}, {0, 100}, {0, 7}, {0, 5}}, NULL},
    {"matmul_group", {{1, 60}, {1, 60}, {1, 60}, {0, 3}, {0, 2}}, NULL},
    {"linear", {{1, 100}, {1, 100}, {1, 100}, {0, 1}, {0, 2}}, NULL},
    {"zero", {{0, 60000}}, NULL},
    {"copy", {{0, 60000}}, NULL},
    {"add", {{0, 60000}}, NULL},
    {"scale", {{0, 60000}}, NULL},
    {"sums", {{0, 60000}}, NULL},
    {"sums_squares", {{0, 60000}}, NULL},
    {"adamw", {{1, 20000}, {1, 1000}}, NULL},
    {"sgd", {{1, 20000}, {0, 1}}, NULL},
    {"square_sums", {{1, 200}, {1, 300}, {1, 1}, {0, 1}}, NULL},
    {"moving_average", {{1, 60000}}, NULL},
    {"adafactor_squares", {{1, 200}, {1, 300}, {0, 1}}, NULL},
    {"adafactor", {{1, 200}, {1, 300}, {0, 1}}, NULL},
    {"rms_norm_forward", {{1, 200}, {1, 500}, {0, 1}}, NULL},
    {"rms_norm_backward", {{1, 200}, {1, 500}, {0, 1}}, NULL},
    {"layer_norm_forward", {{1, 200}, {1, 500}, {0, 1}}, NULL},
    {"layer_norm_backward", {{1, 200}, {2, 500}, {0, 1}}, NULL},
    {"row_squares", {{1, 200}, {1, 500}, {0, 500}}, tidy_shared},
    {"row_norm_forward", {{1, 200}, {1, 500}, {0, 0}, {1, 900}}, tidy_shared},
    {"row_norm_dots", {{1, 200}, {1, 500}}, NULL},
    {"row_norm_backward", {{1, 200}, {3, 500}, {0, 500}, {1, 900}, {0, 1}, {0, 1}}, tidy_shared},
    {"bias_forward", {{1, 200}, {1, 500}}, NULL},
    {"bias_backward", {{1, 200}, {1, 500}}, NULL},
    {"split_heads", {{1, 100}, {1, 9}, {1, 70}}, NULL},
    {"merge_heads", {{1, 100}, {1, 9}, {1, 70}}, NULL},
    {"gelu_forward", {{1, 20000}, {1, 30}, {0, 1}}, NULL},
    {"gelu_backward", {{1, 20000}, {1, 30}, {0, 1}, {0, 1}}, NULL},
    {"dropout", {{1, 60}, {1, 300}, {0, 100}, {0, 50}, {1, 99}, {0, 2}}, tidy_dropout},
    {"rotary", {{1, 150}, {1, 9}, {1, 70}, {0, 1}, {0, 100000}, {0, 70}}, tidy_rotary},
    {"attention_forward", {{1, 9}, {1, 200}, {1, 6}, {1, 6}, {1, 140}}, tidy_attention},
    {"attention_backward", {{1, 9}, {1, 200}, {1, 6}, {1, 6}, {1, 140}}, tidy_attention},
    {"attention_decode", {{1, 9}, {1, 100}, {1, 6}, {1, 6}, {1, 140}, {1, 200}}, tidy_decode},
    {"swiglu_forward", {{1, 20000}, {1, 30}}, NULL},
    {"swiglu_backward", {{1, 20000}, {1, 30}, {0, 1}}, NULL},
    {"embedding_forward", {{1, 200}, {1, 200}, {1, 100}, {0, 100}, {1, 100}, {0, 1}}, tidy_embedding},
    {"embedding_backward", {{1, 200}, {1, 200}, {1, 100}, {0, 100}, {1, 100}, {1, 3}}, tidy_embedding},
    {"gather_rows", {{1, 100}, {1, 300}, {0, 100}}, tidy_gather},
    {"scatter_rows", {{1, 100}, {1, 300}, {0, 100}}, tidy_gather},
    {"cross_entropy_partial", {{1, 60}, {1, 900}, {0, 3}, {1, 4}, {1, 30}}, tidy_vocabulary},
    {"cross_entropy_finish", {{1, 60}, {1, 900}, {0, 3}, {1, 4}, {1, 30}, {0, 1}, {0, 30}}, tidy_vocabulary},
    {"top_k", {{1, 30}, {1, 900}, {0, 100}, {1, 40}, {0, 1}, {0, 9}}, NULL},
};
const size_t random_shape_count = sizeof random_shapes / sizeof random_shapes[0];
