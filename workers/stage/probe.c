/* The speed of a device, from a timed matmul; between the sweep and the plan. */
#include "workers/stage/probe.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "io/log.h"
#include "kernels/kernels.h"

/* Training reaches this share of the matmul rate of the probe: small matmuls, attention and the row operations are
 * slower (docs/configuration.md). */
#define EFFICIENCY 0.3
#define PROBE_SECONDS 0.3
#define PRODUCTS_SECONDS 0.02

/* Not zeros: some chips multiply those faster. */
static void upload_numbers(const struct kernels *kernels, struct device *device, size_t n, real *x)
{
    float block[1024];
    for (size_t i = 0; i < sizeof block / sizeof *block; i++)
        block[i] = 0.5f + (float)(i % 61) / 64;
    for (size_t first = 0; first < n; first += 1024)
        kernels->upload(device, n - first < 1024 ? n - first : 1024, block,
                        real_at(x, kernels->element_bytes(device), first));
}

/* FLOP/s of a matmul on one device of a backend, timed for so long. */
static int measure(const struct kernels *kernels, enum precision precision, int threads, const size_t size[3],
                   double least, double *rate, struct error *err)
{
    const size_t M = size[0], N = size[1], K = size[2];
    struct device *device = kernels->device_create(0, threads, err);
    if (!device) return -1;
    kernels->set_precision(device, precision);
    size_t element = kernels->element_bytes(device);
    real *a = kernels->allocate(device, M * K * element, err);
    real *b = a ? kernels->allocate(device, K * N * element, err) : NULL;
    real *c = b ? kernels->allocate(device, M * N * element, err) : NULL;
    int rc = c ? 0 : -1;
    double seconds = 0.0, flops = 0.0, start = 0.0;
    if (!rc) {
        upload_numbers(kernels, device, M * K, a);
        upload_numbers(kernels, device, K * N, b);
        kernels->matmul(device, false, false, M, N, K, 1.0f, a, K, b, N, 0.0f, c, N); /* warm */
        rc = kernels->synchronise(device, err);
        start = clock_elapsed();
    }
    while (!rc && seconds < least) {
        kernels->matmul(device, false, false, M, N, K, 1.0f, a, K, b, N, 0.0f, c, N);
        rc = kernels->synchronise(device, err);
        flops += 2.0 * (double)M * (double)N * (double)K;
        seconds = clock_elapsed() - start;
    }
    *rate = seconds > 0.0 ? flops / seconds : 0.0;
    kernels->release(device, c);
    kernels->release(device, b);
    kernels->release(device, a);
    kernels->device_destroy(device);
    return rc;
}

/* No handler of a signal runs meanwhile: one that runs during oneDNN's sgemm (2.6.3, AVX-512) leaves a damaged heap; of
 * runs that were told to drain in their first second 4 in 10 died of it. Threads that begin here never take a signal.
 */
int probe_matmul(const char *backend, enum precision precision, int threads, const size_t size[3], double least,
                 double *rate, struct error *err)
{
    const struct kernels *kernels = kernels_find(backend, err);
    sigset_t all, before;
    if (!kernels) return error_prefix(err, "cannot measure the speed of a device");
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = measure(kernels, precision, threads, size, least, rate, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? error_prefix(err, "cannot measure the speed of a device") : 0;
}

int probe_rate(const char *backend, enum precision precision, uint32_t threads, double *rate, struct error *err)
{
    static const size_t middling[3] = {512, 256, 256};
    if (probe_matmul(backend, precision, (int)threads, middling, PROBE_SECONDS, rate, err)) return -1;
    *rate *= EFFICIENCY;
    return 0;
}

static int list_gpus(struct probe *probe, struct error *err)
{
    struct kernels_device devices[PROBE_DEVICES] = {{.name = ""}};
    int count = kernels_devices(devices, PROBE_DEVICES, err);
    if (count < 0) return -1;
    probe->gpus = count < PROBE_DEVICES ? (uint32_t)count : PROBE_DEVICES;
    memcpy(probe->driver, devices[0].driver, sizeof probe->driver);
    for (uint32_t i = 0; i < probe->gpus; i++) {
        struct probe_gpu *gpu = &probe->gpu[i];
        snprintf(gpu->name, sizeof gpu->name, "%.*s", (int)sizeof gpu->name - 1, devices[i].name);
        memcpy(gpu->uuid, devices[i].uuid, sizeof gpu->uuid);
        gpu->memory = devices[i].memory;
    }
    return 0;
}

int probe_machine(const char *backend, enum precision precision, uint32_t threads, bool measure, struct probe *probe,
                  struct error *err)
{
    memset(probe, 0, sizeof *probe);
    const struct kernels *kernels = kernels_find(backend, err);
    if (!kernels) return -1;
    snprintf(probe->backend, sizeof probe->backend, "%s", kernels->name);
    kernels_library(kernels, probe->library, sizeof probe->library);
    probe->joins = kernels_row_join(kernels, precision) != JOIN_NEVER;
    if (strcmp(kernels->name, "cuda") == 0 && list_gpus(probe, err)) return -1;
    return measure ? probe_rate(backend, precision, threads, &probe->rate, err) : 0;
}

int probe_products(const char *backend, enum precision precision, size_t width, size_t rows, double *rate,
                   struct error *err)
{
    const size_t size[3] = {rows, width, width};
    return probe_matmul(backend, precision, 1, size, PRODUCTS_SECONDS, rate, err);
}
