/* What devices this machine has, and how fast one trains, measured in a moment: what predicted seconds are made of
 * until stages have finished.
 *
 * It loads drivers and libraries: the agent, which must outlive them, has it done by a worker
 * (orchestrator/run/host.h). */
#ifndef TUNELAW_WORKERS_STAGE_PROBE_H
#define TUNELAW_WORKERS_STAGE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"
#include "io/store/store.h"
#include "kernels/precision.h"

#define PROBE_DEVICES 64

/* A worker's answer. */
struct probe {
    char message[STORE_MESSAGE]; /* "": all of it is there; else why not */
    char backend[16];            /* cpu, cuda or reference, where "auto" was asked for */
    char library[STORE_NAME];    /* kernels_library */
    bool joins;                  /* rows of several points may go through one product: packs are worth something */
    double rate;                 /* FLOP/s of training, as probe_rate gives; 0: not asked for */
    uint32_t gpus;               /* that the process sees, up to PROBE_DEVICES */
    char driver[32];
    struct probe_gpu {
        char name[64], uuid[48];
        uint64_t memory; /* bytes */
    } gpu[PROBE_DEVICES];
};

/* measure: the rate too. */
int probe_machine(const char *backend, enum precision precision, uint32_t threads, bool measure, struct probe *probe,
                  struct error *err);

/* *rate: FLOP/s that a training step of a backend in a precision may reach on one device of `threads` host threads: a
 * matmul timed for 0.3 s, times the share of it that training reaches. */
int probe_rate(const char *backend, enum precision precision, uint32_t threads, double *rate, struct error *err);

/* FLOP/s of C[m][n] = A[m][k] B[k][n], size = {m, n, k}, on one device, timed for at least so many seconds. */
int probe_matmul(const char *backend, enum precision precision, int threads, const size_t size[3], double least,
                 double *rate, struct error *err);

/* FLOP/s of products with a square matrix of a layer of `width`, `rows` at a time (forward and back), timed for a
 * moment: what is gained where several points' rows go through it together. */
int probe_products(const char *backend, enum precision precision, size_t width, size_t rows, double *rate,
                   struct error *err);

#endif
