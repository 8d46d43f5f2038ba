/* Random grids on a simulated cluster: the scheduler beside a plain queue (first ready, first placed; what does not fit
 * lets others pass), both against the lower bound.
 *   bench_schedule [GRIDS]           random grids, a line each (default: 50)
 *   bench_schedule FILE NODES DEVICES  one sweep file */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/random.h"
#include "orchestrator/plan/simulate.h"

#define DEVICE_FLOPS 4e14 /* of one device: an H100 at 40 % */
#define DEVICE_BYTES 80e9

static const struct {
    const char *name;
    unsigned layers, width, heads, head_width, ffn;
} models[] = {{"160M", 12, 768, 12, 64, 3072},  {"410M", 24, 1024, 16, 64, 4096}, {"1B", 16, 2048, 8, 256, 8192},
              {"2B", 20, 2560, 10, 256, 10240}, {"4B", 24, 3072, 12, 256, 12288}, {"8B", 32, 4096, 16, 256, 16384},
              {"16B", 40, 5120, 20, 256, 20480}};
enum { MODELS = sizeof models / sizeof *models };

static const struct sweep_task task = {.data = {.digest = {"bench"},
                                                .task = "bench",
                                                .vocabulary = 32000,
                                                .text_tokens = {1000000000, 1000000},
                                                .examples = {1000000000, 3000, 3000},
                                                .example_tokens = {60000000000, 180000, 180000},
                                                .example_targets = {30000000000, 90000, 90000},
                                                .longest = {256, 256, 256},
                                                .separator = 4}};

/* A sweep file of a random grid. */
struct draws {
    struct random_key key;
    uint64_t count;
};

static unsigned draw(struct draws *draws, unsigned least, unsigned most)
{
    return least + (unsigned)random_below(draws->key, draws->count++, most - least + 1);
}

static void write_models(FILE *out, struct draws *draws)
{
    unsigned first = draw(draws, 0, MODELS - 2), last = draw(draws, first + 1, MODELS - 1);
    fprintf(out, "models = (");
    for (unsigned i = first; i <= last; i++)
        fprintf(out,
                "%s { name = \"%s\"; layers = %u; width = %u; heads = %u; kv_heads = 1; head_width = %u; ffn = %u; }",
                i > first ? "," : "", models[i].name, models[i].layers, models[i].width, models[i].heads,
                models[i].head_width, models[i].ffn);
    fprintf(out, ");\n");
}

static void write_levels(FILE *out, const char *name, double first, double factor, unsigned count)
{
    fprintf(out, "%s = [", name);
    for (unsigned i = 0; i < count; i++)
        fprintf(out, "%s %.0fL", i ? "," : "", first * pow(factor, i));
    fprintf(out, " ];\n");
}

static void write_sweep(FILE *out, struct draws *draws)
{
    fprintf(out, "name = \"bench\"; data = { dataset = \"none.h5\"; };\n");
    write_models(out, draws);
    fprintf(out, "pretrain = { sequence_length = 1024; batch = 256; learning_rate = 1e-3;\n");
    write_levels(out, "tokens", 1e6 * (1u << draw(draws, 0, 10)), 1.5, draw(draws, 1, 6));
    fprintf(out, "};\nfinetune = { sequence_length = 256; batch = 32; epochs = 2.0; max_steps = 100000;\n");
    write_levels(out, "examples", 1000.0 * draw(draws, 1, 10), 1.2 + 0.1 * draw(draws, 0, 8), draw(draws, 4, 12));
    write_levels(out, "seeds", 1, 2, draw(draws, 1, 3));
    fprintf(out, "};\nmethods = ( { name = \"none\"; }, { name = \"full\"; learning_rates = [ 1e-3 ]; }");
    if (draw(draws, 0, 2) > 0)
        fprintf(out, ", { name = \"lora\"; ranks = [ 4, 16, 64 ]; learning_rates = [ 1e-2, 3e-2 ]; }");
    if (draw(draws, 0, 2) > 0)
        fprintf(out, ", { name = \"prompt\"; lengths = [ 50, 200 ]; learning_rates = [ 0.3 ]; }");
    fprintf(out, " );\nresources = { backend = \"reference\"; tensor_parallel = 0; device_bytes = %.0fL; };\n",
            DEVICE_BYTES);
}

static struct plan *random_plan(struct draws *draws, struct sweep **sweep, struct error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    write_sweep(out, draws);
    fclose(out);
    *sweep = sweep_parse_on("bench.cfg", text, size, &task, 1, err);
    free(text);
    return *sweep ? plan_create(*sweep, DEVICE_FLOPS, err) : NULL;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

struct comparison {
    struct simulate_result ours, fifo;
    double seconds; /* that our simulations took */
};

static int compare(const struct plan *plan, size_t nodes, uint32_t devices, struct comparison *got, struct error *err)
{
    struct simulate_options options = {.nodes = nodes, .devices = devices, .fifo = true};
    if (simulate(plan, &options, &got->fifo, err)) return -1;
    options.fifo = false;
    double start = now();
    if (simulate_best(plan, &options, &got->ours, err)) return -1;
    got->seconds = now() - start;
    return 0;
}

static void print(const struct plan *plan, size_t nodes, uint32_t devices, const struct comparison *c)
{
    struct plan_forecast forecast = plan_forecast(plan, nodes * devices);
    double share = forecast.device_seconds / (double)(nodes * devices);
    printf("%7zu stages, %4zu x %-2" PRIu32 " devices, widest %2" PRIu32
           ", work per device %5.1f chains: ours %.3f of the bound (%.3f of the tight bound), fifo %.3f, %.2f s\n",
           plan->stage_count, nodes, devices, forecast.widest, share / forecast.longest_seconds,
           c->ours.makespan_seconds / c->ours.lower_bound_seconds,
           c->ours.makespan_seconds / c->ours.tight_bound_seconds,
           c->fifo.makespan_seconds / c->ours.lower_bound_seconds, c->seconds);
}

/* Worst and mean ratios to the bound, where work per device is at least 4 times the longest chain, and elsewhere. */
struct class
{
    size_t count, fifo_better;
    double worst, sum, fifo_sum;
};

static void add(struct class *class, const struct comparison *c)
{
    double ratio = c->ours.makespan_seconds / c->ours.tight_bound_seconds;
    double fifo = c->fifo.makespan_seconds / c->ours.tight_bound_seconds;
    class->count++;
    class->fifo_better += fifo < ratio * (1 - 1e-9);
    class->worst = fmax(class->worst, ratio);
    class->sum += ratio;
    class->fifo_sum += fifo;
}

static void report(const char *name, const struct class *class)
{
    if (!class->count) return;
    double ours = class->sum / (double)class->count, fifo = class->fifo_sum / (double)class->count;
    printf("%s: %zu grids, worst %.3f of the tight bound, fifo shorter on %zu\n", name, class->count, class->worst,
           class->fifo_better);
    printf("bench schedule %s: ours %.4f of the tight bound, fifo %.4f of the tight bound, ratio %.3f\n", name, ours,
           fifo, fifo / ours);
}

static int random_grids(size_t count, struct error *err)
{
    struct class wide = {0}, narrow = {0};
    for (size_t i = 0; i < count; i++) {
        struct draws draws = {.key = {i + 1, random_stream("bench schedule")}};
        struct sweep *sweep = NULL;
        struct plan *plan = random_plan(&draws, &sweep, err);
        size_t nodes = (size_t)1 << draw(&draws, 0, 5);
        struct comparison got;
        int rc = plan ? compare(plan, nodes, 8, &got, err) : -1;
        if (!rc) {
            struct plan_forecast forecast = plan_forecast(plan, nodes * 8);
            bool enough = forecast.device_seconds / (double)(nodes * 8) >= 4 * forecast.longest_seconds;
            print(plan, nodes, 8, &got);
            add(enough ? &wide : &narrow, &got);
        }
        plan_destroy(plan);
        sweep_destroy(sweep);
        if (rc) return -1;
    }
    report("work-bound", &wide);
    report("chain-bound", &narrow);
    return 0;
}

static int one_file(const char *path, size_t nodes, uint32_t devices, struct error *err)
{
    struct sweep *sweep = sweep_load(path, err);
    struct plan *plan = sweep ? plan_create(sweep, DEVICE_FLOPS, err) : NULL;
    struct comparison got;
    int rc = plan ? compare(plan, nodes, devices, &got, err) : -1;
    if (!rc) {
        print(plan, nodes, devices, &got);
        printf("bench schedule %s: ours %.6g s, fifo %.6g s, ratio %.3f\n", sweep->name, got.ours.makespan_seconds,
               got.fifo.makespan_seconds, got.fifo.makespan_seconds / got.ours.makespan_seconds);
    }
    plan_destroy(plan);
    sweep_destroy(sweep);
    return rc;
}

int main(int argc, char **argv)
{
    struct error err = {""};
    int rc = argc == 4 ? one_file(argv[1], strtoul(argv[2], NULL, 10), (uint32_t)strtoul(argv[3], NULL, 10), &err)
                       : random_grids(argc > 1 ? strtoul(argv[1], NULL, 10) : 50, &err);
    if (rc) fprintf(stderr, "bench_schedule: %s\n", err.text);
    return rc ? 1 : 0;
}
