/* How fast a device of this machine trains, measured in a moment: what predicted seconds are made of until stages have
 * finished. */
#ifndef TUNELAW_WORKERS_PROBE_H
#define TUNELAW_WORKERS_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "io/error.h"
#include "kernels/precision.h"

/* *rate: FLOP/s that a training step of a backend in a precision may reach on one device of `threads` host threads: a
 * matmul timed for 0.3 s, times the share of it that training reaches. */
int probe_rate(const char *backend, enum precision precision, uint32_t threads, double *rate, struct error *err);

/* FLOP/s of C[m][n] = A[m][k] B[k][n], size = {m, n, k}, on one device, timed for at least so many seconds. */
int probe_matmul(const char *backend, enum precision precision, int threads, const size_t size[3], double least,
                 double *rate, struct error *err);

/* FLOP/s of products with a square matrix of a layer of `width`, `rows` at a time (forward and back), timed for a
 * moment: what is gained where several points' rows go through it together. */
int probe_products(const char *backend, size_t width, size_t rows, double *rate, struct error *err);

#endif
