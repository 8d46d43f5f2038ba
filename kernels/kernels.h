/* The operations that a model is made of, as one table of functions a backend.
 *
 * At full size: 16B-parameter models sharded over the devices of a node, bf16 on GPUs, one host thread per device. The
 * grain is that of fused operations, so that a backend may fuse them; buffers are explicit and belong to the caller, in
 * the device's memory; nothing here allocates, and every operation is deterministic: the same buffers give the same
 * bytes.
 *
 * Two kinds of numbers: `float` where precision is kept whatever a device computes in (trained weights and their
 * gradients, moments, biases, gains, statistics of norms, losses), and `real`, the device's storage type, for
 * activations, their gradients, and the matrices that multiply them: a float, or a bfloat16 on a device that computes
 * in bf16 and stores it (CUDA). Sums are taken in fp32 or better either way. Where a trained matrix is not stored as
 * floats, the optimiser keeps fp32 values and writes their rounding, which the model reads, in the same pass.
 *
 * Backends: "reference" (plain C, slow, obvious, the oracle of all others), "cpu" (OpenBLAS and vectorised row
 * kernels), "cuda" (a plugin, loaded at run time: kernels/cuda). All arrays are dense and row-major; x[tokens][width]
 * has `width` consecutive floats a token. A backend's function may assume that its arguments are as described: the
 * callers are ours. Operations return nothing: a device error is sticky and is reported by `synchronise`.
 *
 * Notation: T tokens (rows of a packed batch), W width, H query heads and G key/value heads on this device, D head
 * width, F feed-forward width on this device, V vocabulary rows on this device. "+=" means that the operation adds to
 * what is there. */
#ifndef TUNELAW_KERNELS_KERNELS_H
#define TUNELAW_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"
#include "kernels/collective.h"
#include "kernels/precision.h"
#include "kernels/rotary.h"

#define KERNELS_ABI 15 /* of struct kernels, checked when a plugin is loaded */

#define DEVICE_FAILED "device failed" /* in an error of a device that does not work any more */

struct device; /* one per host thread: stream, handles, scratch */
struct graph;  /* of a device: operations that repeat */

/* An element in the device's storage type. Backends of the host store floats always, and are compiled so. */
#ifdef KERNELS_HOST
typedef float real;
#else
typedef struct real real;
#endif

/* Where element `index` lies, for elements of `size` bytes (struct kernels, element_bytes). As strchr, it leaves it to
 * the caller whether the buffer may be written. NULL stays NULL. */
static inline real *real_at(const real *x, size_t size, size_t index)
{
    return x ? (real *)((uintptr_t)x + size * index) : (real *)0;
}

/* Sequences of a packed batch: sequence s is rows offsets[s] .. offsets[s+1]-1. */
struct sequences {
    size_t count;            /* number of sequences */
    const uint32_t *offsets; /* [count + 1], device memory, offsets[count] = T */
    size_t longest;          /* tokens of the longest sequence */
    size_t tokens;           /* T */
};

/* Keys and values before the tokens of a sequence, which all its queries see: those of key/value head g at place t lie
 * at [t * stride + g * head_width], in device memory. Sequences may share them. */
struct attention_prefix {
    size_t length, stride;
    const real *k, *v;
    float *dk, *dv; /* backward: +=, laid out as k and v; NULL: not wanted */
};

struct attention {
    struct sequences sequences;
    size_t heads, kv_heads, head_width;
    /* key/value head of each query head, [heads], device memory, ascending: with uneven shards the quotient rule does
     * not hold */
    const uint32_t *kv_head_of;
    const struct attention_prefix *prefixes; /* of each sequence, [sequences.count], device memory; NULL: none */
    size_t longest_prefix;
};

/* Single queries over cached keys and values: query i reads the rows table[i * stride + j], j < counts[i], at least
 * one.
 */
struct decode {
    size_t queries, stride, longest; /* longest: largest of counts, at most stride */
    const uint32_t *counts, *table;  /* [queries], [queries][stride], device memory */
    size_t heads, kv_heads, head_width;
    const uint32_t *kv_head_of; /* as in struct attention, device memory */
};

/* Which elements dropout zeroes: a function of the key and an element's place in the whole matrix, so that it depends
 * neither on how rows come in batches nor on how columns lie on devices. Element (row, column) is word column % 4 of
 * block row * ceil(total / 4) + column / 4 of the key (kernels/random.h), and dropped where the word is below rate *
 * 2^32. What changes from pass to pass is read from a buffer, so that operations may be recorded (graph_begin). */
struct dropout_key {
    uint64_t seed, stream;
    uint64_t first_row; /* of the whole matrix: the first row that is given */
};
struct dropout {
    const struct dropout_key *key; /* device memory */
    size_t first_column, total;    /* the first column that is given; columns of the whole matrix */
    double rate;                   /* above 0, below 1 */
};

/* A tensor in an optimiser's step: n elements of each. */
struct update {
    size_t n;
    float *value;
    const float *gradient;
    float *moment1, *moment2; /* moment2: AdamW; of SGD moment1 is the momentum, NULL without */
    real *rounded;            /* becomes `value` in the storage type; NULL: not wanted */
    float weight_decay;
    uint64_t step; /* AdamW: from 1, of this tensor */
};

/* A tensor in Adafactor's: x[rows][columns]. row, column: moving averages of squares; row NULL: there are none, and
 * row_mean is not read. */
struct factored {
    size_t rows, columns;
    float *value; /* `adafactor` alone, as rounded, rate, decay */
    const float *gradient, *row, *column;
    real *rounded;  /* as in struct update */
    float row_mean; /* of `row`, over all devices */
    float rate, decay;
};

enum linear_gelu { GELU_NONE, GELU_ERF, GELU_TANH }; /* of what a linear layer gives */

/* One product of matmul_group. */
struct matmul_arguments {
    bool trans_a, trans_b;
    size_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const real *a, *b;
    real *c;
    float *c_floats; /* instead of c */
};

/* n floats of a reduction. */
struct span {
    size_t n;
    const float *x;
};

struct kernels {
    uint32_t abi;
    const char *name; /* "reference", "cpu", "cuda" */

    /* Devices and memory. threads: host threads of this device (CPU), for matmuls and everything else that is long
     * enough; for what is not a matmul every number of them gives the same bytes. Errors that mean that the device, or
     * this process's hold on it, is broken have DEVICE_FAILED in their line, those for want of memory "out of memory".
     */
    struct device *(*device_create)(int index, int threads, struct error *err);
    void (*device_destroy)(struct device *device);
    void *(*allocate)(struct device *device, size_t bytes,
                      struct error *err); /* 64-byte aligned, zeroed; NULL with *err */
    void (*release)(struct device *device, void *memory);
    /* The most bytes that this process has had on each device on which it has allocated or released since the last
     * reset, summed over them, as the driver counts them, its own overhead included; 0: not known. Both NULL where
     * devices' memory is the host's. */
    uint64_t (*peak_bytes)(void);
    void (*peak_reset)(void);
    void (*to_device)(struct device *device, void *to, const void *from,
                      size_t bytes); /* in the order of the operations; `from` may be changed on return */
    void (*to_host)(struct device *device, void *to, const void *from, size_t bytes); /* complete on return */
    int (*synchronise)(struct device *device, struct error *err);
    /* Wait until the numbers of all `sums` and adafactor_squares but the last `later` ones are where they go: the host
     * prepares what comes next while the device works. After synchronise all are there. 0, or -1: the device has
     * failed, and what was still on its way is NaN. */
    int (*collect)(struct device *device, size_t later, struct error *err);
    /* What the device's matmuls compute in from now on; fp32 at first. Every backend has every precision: where the
     * machine has no bf16 arithmetic the factors are rounded and multiplied in fp32, the same numbers, no faster.
     * Buffers of `real` hold what they are read as: they are written under the precision that reads them. */
    void (*set_precision)(struct device *device, enum precision precision);
    enum precision (*precision)(const struct device *device);
    /* Bytes of a `real` under the device's precision: kernels_storage() of it. */
    size_t (*element_bytes)(const struct device *device);
    /* Elements from floats of the host, and back; complete on return. */
    void (*upload)(struct device *device, size_t n, const float *from, real *to);
    void (*download)(struct device *device, size_t n, const real *from, float *to);

    /* Operations that repeat: what is given between begin and end is not done but recorded, numbers as they are then,
     * what buffers hold as it is whenever it is launched. All NULL: the backend has no such thing. begin -1: not now.
     * end NULL: something cannot be recorded (what waits, as to_host does; more than one rank), and nothing of it was
     * done. launch -1: the device's own memory has changed; nothing was done, record again. NULL is destroyed, too. */
    int (*graph_begin)(struct device *device);
    struct graph *(*graph_end)(struct device *device);
    int (*graph_launch)(struct device *device, struct graph *graph);
    void (*graph_destroy)(struct device *device, struct graph *graph);

    /* Sums over the devices of a gang, in place: on every rank the same bytes. 0, or -1: a rank has failed. */
    int (*sum_ranks)(struct device *device, const struct collective *gang, size_t n, real *x);
    int (*sum_ranks_floats)(struct device *device, const struct collective *gang, size_t n, float *x);
    /* sum_ranks beside what is computed meanwhile: x is not touched from begin to end, one at a time. Operations after
     * end see the sum. */
    int (*sum_ranks_begin)(struct device *device, const struct collective *gang, size_t n, real *x);
    int (*sum_ranks_end)(struct device *device, const struct collective *gang);
    /* all[size][n] = x[n] of every rank, in rank order. */
    int (*gather_ranks)(struct device *device, const struct collective *gang, size_t n, const float *x, float *all);

    /* C[m][n] = alpha * op(A)[m][k] * op(B)[k][n] + beta * C, A and B in the device's precision, sums in fp32. op(A) =
     * A, or its transpose where trans_a (then A is [k][m]). ld*: row strides. beta = 0 never reads C. */
    void (*matmul)(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                   const real *a, size_t lda, const real *b, size_t ldb, float beta, real *c, size_t ldc);

    /* The same with C as floats: gradients of weights. */
    void (*matmul_floats)(struct device *device, bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                          const real *a, size_t lda, const real *b, size_t ldb, float beta, float *c, size_t ldc);
    /* y = act(x op(W) + bias), x [rows][k], y [rows][n]; op(W) = W^T of W [n][k]. bias [n], or NULL. gelu: y = GELU of
     * it, the approximate form or not, and `before` [rows][n] is what GELU read. */
    void (*linear)(struct device *device, size_t rows, size_t n, size_t k, const real *x, const real *w,
                   const float *bias, enum linear_gelu gelu, real *before, real *y);
    /* Several small products (adapters of a pack), each as matmul or, where c_floats is given, as matmul_floats. */
    void (*matmul_group)(struct device *device, size_t count, const struct matmul_arguments *products);

    void (*zero)(struct device *device, size_t bytes, void *x);
    void (*copy)(struct device *device, size_t bytes, const void *x, void *y);
    void (*add)(struct device *device, size_t n, const real *x, real *y);  /* y += x */
    void (*scale)(struct device *device, size_t n, float factor, real *x); /* x *= factor */

    /* RMSNorm (Zhang & Sennrich 2019): y = x * rstd * gain, rstd = 1 / sqrt(mean(x^2) + epsilon). x, y [rows][width],
     * gain [width], rstd [rows]. residual [rows][width], NULL: none: before that x += residual. */
    void (*rms_norm_forward)(struct device *device, size_t rows, size_t width, float epsilon, const real *residual,
                             real *x, const float *gain, real *y, float *rstd);
    /* dx += , dgain += (NULL: not wanted). */
    void (*rms_norm_backward)(struct device *device, size_t rows, size_t width, const real *x, const float *gain,
                              const float *rstd, const real *dy, real *dx, float *dgain);

    /* LayerNorm (Ba et al. 2016): y = (x - mean) * rstd * gain + bias, rstd = 1 / sqrt(variance + epsilon), of a row.
     * x, y [rows][width], gain, bias [width], mean, rstd [rows]. residual as above. */
    void (*layer_norm_forward)(struct device *device, size_t rows, size_t width, float epsilon, const real *residual,
                               real *x, const float *gain, const float *bias, real *y, float *mean, float *rstd);
    /* dx += , dgain +=, dbias += (dgain, or both, NULL: not wanted). */
    void (*layer_norm_backward)(struct device *device, size_t rows, size_t width, const real *x, const float *gain,
                                const float *mean, const float *rstd, const real *dy, real *dx, float *dgain,
                                float *dbias);

    /* RMSNorm of rows that are spread over several devices (norms of queries and keys). A device holds `width` columns
     * of a row, of which the first `shared` belong to the device before it, too, and are counted there. Step 1:
     * squares[row] = sum of x^2 over the columns from `shared` on; to be summed over devices. */
    void (*row_squares)(struct device *device, size_t rows, size_t width, size_t shared, const real *x, float *squares);
    /* Step 2: y = x * rstd * gain, rstd = 1 / sqrt(squares / total + epsilon), total: columns of the whole row. */
    void (*row_norm_forward)(struct device *device, size_t rows, size_t width, size_t total, float epsilon,
                             const real *x, const float *gain, const float *squares, real *y, float *rstd);
    /* Backward, step 1: dots[row] = sum of dy * gain * x over all columns held; to be summed over devices, each of
     * which has its own part of dy where columns are shared. */
    void (*row_norm_dots)(struct device *device, size_t rows, size_t width, const real *x, const float *gain,
                          const real *dy, float *dots);
    /* Step 2: dx = this device's part of the gradient, may be dy. dgain += (NULL: not wanted). */
    void (*row_norm_backward)(struct device *device, size_t rows, size_t width, size_t shared, size_t total,
                              const real *x, const float *gain, const float *rstd, const float *dots, const real *dy,
                              real *dx, float *dgain);

    /* x[rows][width] += bias[width], and back: dbias[width] += sum over rows of dy. */
    void (*bias_forward)(struct device *device, size_t rows, size_t width, const float *bias, real *x);
    void (*bias_backward)(struct device *device, size_t rows, size_t width, const real *dy, float *dbias);

    /* y = x * factors, column by column: x, y [rows][width], factors [width]; y may be x. And back: dx = dy * factors,
     * += where `add`, may be dy; dfactors += sum over rows of dy * x. */
    void (*scale_columns)(struct device *device, size_t rows, size_t width, const real *x, const float *factors,
                          real *y);
    void (*scale_columns_backward)(struct device *device, size_t rows, size_t width, const real *x,
                                   const float *factors, const real *dy, bool add, real *dx, float *dfactors);

    /* One matrix's output qkv[T][heads][3][head_width] as q, k, v [T][heads][head_width], and back. */
    void (*split_heads)(struct device *device, size_t tokens, size_t heads, size_t head_width, const real *qkv, real *q,
                        real *k, real *v);
    void (*merge_heads)(struct device *device, size_t tokens, size_t heads, size_t head_width, const real *q,
                        const real *k, const real *v, real *qkv);

    /* Rotary positions (Su et al. 2021), in place, on the first rotary->turned elements of a head, the others stay: the
     * Llama pairing, element i of their first half with element i of their second. x[T][heads][head_width]; angle =
     * position * rotary_frequency(rotary, i). inverse: rotate back (the backward pass). */
    void (*rotary)(struct device *device, size_t tokens, size_t heads, size_t head_width, const struct rotary *rotary,
                   const int32_t *positions, bool inverse, real *x);

    /* Causal attention inside each sequence and to its prefix, scale 1/sqrt(D). q, out [T][H][D]; k, v [T][G][D]; lse
     * [T][H]: log of the softmax's denominator. */
    void (*attention_forward)(struct device *device, const struct attention *shape, const real *q, const real *k,
                              const real *v, real *out, float *lse);
    /* dq [T][H][D], dk, dv [T][G][D] are overwritten, gradients of prefixes are added to, sequence by sequence. */
    void (*attention_backward)(struct device *device, const struct attention *shape, const real *q, const real *k,
                               const real *v, const real *out, const float *lse, const real *dout, real *dq, real *dk,
                               real *dv);

    /* Attention of one new token a sequence over the cached ones, its own among them, scale 1/sqrt(D). q, out
     * [queries][H][D]; keys, values [rows of the cache][G][D]. */
    void (*attention_decode)(struct device *device, const struct decode *shape, const real *q, const real *keys,
                             const real *values, real *out);

    /* Gated MLP (Shazeer 2020): out = silu(gate) * up; all [n]. Backward overwrites dgate and dup, which may alias gate
     * and up. */
    void (*swiglu_forward)(struct device *device, size_t n, const real *gate, const real *up, real *out);
    void (*swiglu_backward)(struct device *device, size_t n, const real *gate, const real *up, const real *dout,
                            real *dgate, real *dup);

    /* GELU (Hendrycks & Gimpel 2016): out = x * Phi(x), exact; approximate: 0.5 x (1 + tanh(sqrt(2/pi) (x
     * + 0.044715 x^3))). All [n]; dx may be x or dout. */
    void (*gelu_forward)(struct device *device, size_t n, bool approximate, const real *x, real *out);
    void (*gelu_backward)(struct device *device, size_t n, bool approximate, const real *x, const real *dout, real *dx);

    /* Dropout (Srivastava et al. 2014): y = 0 where an element is dropped, else x / (1 - rate), or y += where `add`. x,
     * y [rows][width]; y may be x. The mask is not stored: the backward pass calls it again. */
    void (*dropout)(struct device *device, const struct dropout *how, size_t rows, size_t width, const real *x,
                    bool add, real *y);

    /* Rows of a table: out[T][W] = table[ids[t] - first] where first <= ids[t] < first + count, else zeros (another
     * device has them). ids outside the vocabulary: id < 0 means row -id-1 of `prompt` (prompt tuning), which may be
     * NULL where there are none. */
    void (*embedding_forward)(struct device *device, size_t tokens, size_t width, const int32_t *ids, size_t first,
                              size_t count, const real *table, const real *prompt, real *out);
    /* dtable += , dprompt += (each NULL: not wanted), in the order of the tokens. order[tokens]: tokens by ascending
     * id, those of one id in their order. */
    void (*embedding_backward)(struct device *device, size_t tokens, size_t width, const int32_t *ids,
                               const uint32_t *order, size_t first, size_t count, const real *dout, float *dtable,
                               float *dprompt);

    /* out[i][W] = x[rows[i]][W]: the rows with a loss, before the vocabulary matmul; and back: dx[rows[i]] += dout[i].
     * rows ascending, distinct. */
    void (*gather_rows)(struct device *device, size_t count, size_t width, const uint32_t *rows, const real *x,
                        real *out);
    void (*scatter_rows)(struct device *device, size_t count, size_t width, const uint32_t *rows, const real *dout,
                         real *dx);

    /* Vocabulary-parallel cross-entropy, step 1: per row of logits[rows][V] (ids first .. first+V-1): partial[0][row] =
     * maximum, partial[1][row] = sum of exp(logit - maximum), partial[2][row] = logit of targets[row], or 0 where
     * another device has it, partial[3][row] = sum of the logits. */
    void (*cross_entropy_partial)(struct device *device, size_t rows, size_t vocabulary, size_t first,
                                  const real *logits, const int32_t *targets, float *partial);
    /* Step 2: partials[devices][4][rows] of all devices, in rank order; `total`: vocabulary rows of all devices.
     * loss[row] = -sum over the whole vocabulary of wanted * log softmax, with wanted = (1 - smoothing) * onehot +
     * smoothing / total (Szegedy et al. 2016, section 7). Where scale != 0 logits become gradients in place:
     * (softmax - wanted) * scale; where it is 0 they are left alone. */
    void (*cross_entropy_finish)(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t devices,
                                 const float *partials, const int32_t *targets, size_t total, float smoothing,
                                 float scale, real *logits, float *loss);

    /* The k largest of each row of logits[rows][V] (ids first .. first+V-1), largest first, of equal ones the smaller
     * id first: values, ids [rows][k]. NaN and -infinity are never among them: what is missing is -infinity with id -1.
     * sums[row] = sum of exp(logit - largest) (NULL: not wanted). */
    void (*top_k)(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t k, const real *logits,
                  float *values, int32_t *ids, float *sums);

    /* out[i] = the sum of span i, or of its squares: to the host, in a fixed order, accumulated in double; there, and
     * not to be touched before, once it is collected. Nothing else of a training step waits for the device. */
    void (*sums)(struct device *device, size_t count, const struct span *spans, bool squares, double *out);

    /* AdamW (Loshchilov & Hutter 2019) of `count` tensors, gradients multiplied by gradient_scale (clipping):
     * m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; value -= rate * (mhat / (sqrt(vhat) + epsilon) + weight_decay *
     * value). */
    void (*adamw)(struct device *device, size_t count, const struct update *tensors, float rate, float beta1,
                  float beta2, float epsilon, float gradient_scale);

    /* Gradient descent with momentum (Polyak 1964), as torch.optim.SGD without dampening: g = gradient_scale * gradient
     * + weight_decay * value; momentum = beta momentum + g; value -= rate * momentum. momentum NULL: beta is 0. */
    void (*sgd)(struct device *device, size_t count, const struct update *tensors, float rate, float beta,
                float gradient_scale);

    /* Adafactor (Shazeer & Stern 2018) in steps, between which sums are taken over devices.
     * Sums of (scale * x)^2, x[rows][columns]: row_sums[rows], column_sums[columns] (each NULL: not wanted). */
    void (*square_sums)(struct device *device, size_t rows, size_t columns, float scale, const float *x,
                        float *row_sums, float *column_sums);
    /* average += rest * (factor * x + offset - average), [n]. */
    void (*moving_average)(struct device *device, size_t n, float rest, float factor, float offset, const float *x,
                           float *average);
    /* Of `count` tensors: out[i] = the sum of u^2, u = gradient_scale * gradient / sqrt(row / row_mean * column); to
     * the host, as sums. */
    void (*adafactor_squares)(struct device *device, size_t count, const struct factored *tensors, float gradient_scale,
                              double *out);
    /* value = (1 - decay) * value - rate * u. */
    void (*adafactor)(struct device *device, size_t count, const struct factored *tensors, float gradient_scale);
};

/* A backend by name, or NULL with *err saying why not and how to get it ("cuda: plugin not built: no CUDA toolkit
 * ..."). "auto": cuda where there is a device and the plugin has every operation, else cpu. */
const struct kernels *kernels_find(const char *name, struct error *err);

/* A GPU. */
struct kernels_device {
    char name[256];
    char uuid[48];    /* "GPU-..." as in CUDA_VISIBLE_DEVICES */
    char driver[32];  /* version of the driver, by NVML; "" where that cannot be asked */
    uint64_t memory;  /* bytes */
    int major, minor; /* compute capability */
    int multiprocessors;
};

/* The GPUs that this process sees, at most `capacity` of them described: how many there are, or -1 with *err. This
 * loads the driver, and no device; whoever must outlive a broken driver has it asked by another process. */
int kernels_devices(struct kernels_device *devices, int capacity, struct error *err);

/* What the memory of a model depends on in a backend, by name: for plans, which load none. What is enough on any
 * backend for "auto". */
struct kernels_storage {
    size_t element;   /* bytes of a `real`: 2 for cuda in bf16, else 4 */
    size_t loss_rows; /* target rows whose logits exist at a time. On the host 256: more gain nothing there. On a GPU
                         1,024, since each piece reads and writes the whole gradient of the output matrix */
};
struct kernels_storage kernels_storage(const char *name, enum precision precision);

/* The library behind a backend's matmul, with its version and the variant it chose for this machine, since
 * those can change the last bits: "onednn-2.6.3-avx512", "openblas-0.3.21-SkylakeX"; "plain" for the reference. Cut at
 * `size`. */
void kernels_library(const struct kernels *kernels, char *out, size_t size);
/* When a backend's products, on one thread, give each row the bytes that they give it among more rows, where rows are
 * cut at multiples of JOIN_ROWS (docs/engine.md, Packs; tests/workers/test_pack.c). JOIN_TRIED: where it is so for a
 * product of the same shape on the device itself. */
#define JOIN_ROWS 24
enum row_join { JOIN_NEVER, JOIN_ALWAYS, JOIN_NARROW, JOIN_LARGE, JOIN_TRIED };
enum row_join kernels_row_join(const struct kernels *kernels, enum precision precision);
/* Of a product of so many rows; not of JOIN_TRIED. */
bool kernels_rows_join(enum row_join join, size_t rows, size_t n, size_t k);
/* Whether this machine multiplies bf16 numbers faster than fp32 ones with a backend. */
bool kernels_fast_bf16(const struct kernels *kernels);

/* The backends that this build and machine have, in the order reference, cpu, cuda; returns how many. */
size_t kernels_available(const struct kernels *backends[], size_t capacity);

#endif
