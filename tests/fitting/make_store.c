/* A finished sweep whose losses follow given laws, for the tests of the commands that read one:
 *
 *   make_store DIR SEEDS NOISE [config=TEXT] METHOD:A,ALPHA,BETA,E ...
 *
 * Five models of 1e9 to 16e9 parameters, ten counts of examples from 8,000 to 1e7; noise: standard deviation in log L;
 * a point took 1e-12 seconds per parameter and example. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/fitting/synthetic_store.h"

enum { MODELS = 5, EXAMPLES = 10 };

struct made_law {
    char method[16];
    double a, alpha, beta, e;
};

static struct store_point make_point(const struct made_law *law, size_t m, size_t d, size_t seed)
{
    struct store_point point = {.parameters = (uint64_t)1000000000 << m, .pretrain_tokens = 100000000000};
    char text[512];
    point.non_embedding_parameters = point.trainable_parameters = point.parameters;
    point.finetune_examples = (uint64_t)round(8000 * pow(1250, (double)d / (EXAMPLES - 1)));
    point.seed = seed + 1;
    point.learning_rate = 1e-3;
    point.pet_size = strcmp(law->method, "full") ? 4 : 0;
    snprintf(text, sizeof text, "model-%zu", m);
    store_field(point.model, sizeof point.model, text);
    store_field(point.trunk, sizeof point.trunk, digest_of(text, strlen(text)).hex);
    store_field(point.base, sizeof point.base, digest_of(text, strlen(text)).hex);
    store_field(point.method, sizeof point.method, law->method);
    store_field(point.task, sizeof point.task, "made");
    snprintf(text, sizeof text, "%s %zu %zu %zu", law->method, m, d, seed);
    store_field(point.identity, sizeof point.identity, digest_of(text, strlen(text)).hex);
    return point;
}

static int fill(const char *dir, const char *config, const struct made_law *laws, size_t law_count, size_t seeds,
                double noise, struct error *err)
{
    static struct store_point points[SYNTHETIC_POINTS];
    static struct store_row rows[SYNTHETIC_POINTS];
    const struct store_header header = {.config_text = config,
                                        .config_path = "made.cfg",
                                        .version = "test",
                                        .dataset_digest = "00112233445566778899aabbccddeeff",
                                        .name = "made"};
    size_t count = 0;
    uint64_t state = 21;
    for (size_t k = 0; k < law_count; k++)
        for (size_t m = 0; m < MODELS; m++)
            for (size_t d = 0; d < EXAMPLES; d++)
                for (size_t s = 0; s < seeds && count < SYNTHETIC_POINTS; s++, count++) {
                    points[count] = make_point(&laws[k], m, d, s);
                    double x = (double)points[count].parameters, examples = (double)points[count].finetune_examples;
                    double loss = laws[k].a * pow(x, -laws[k].alpha) * pow(examples, -laws[k].beta) + laws[k].e;
                    rows[count] = synthetic_row(&points[count], count, loss * exp(noise * synthetic_normal(&state)));
                    rows[count].execution.seconds = 1e-12 * x * examples;
                }
    if (store_generation(dir, &header, points, count, NULL, err)) return -1;
    struct store *store = store_open(dir, true, err);
    if (!store) return -1;
    int result = store_commit(store, rows, count, err);
    store_close(store);
    return result;
}

int main(int argc, char **argv)
{
    struct made_law laws[8];
    size_t count = 0;
    struct error err = {""};
    bool named = argc > 4 && !strncmp(argv[4], "config=", 7);
    const char *config = named ? argv[4] + 7 : "name = \"made\";\n";
    for (int i = named ? 5 : 4; i < argc && count < 8; i++, count++)
        if (sscanf(argv[i], "%15[^:]:%lf,%lf,%lf,%lf", laws[count].method, &laws[count].a, &laws[count].alpha,
                   &laws[count].beta, &laws[count].e) != 5)
            return fprintf(stderr, "make_store: %s is no METHOD:A,ALPHA,BETA,E\n", argv[i]), 1;
    if (!count)
        return fprintf(stderr, "usage: make_store DIR SEEDS NOISE [config=TEXT] METHOD:A,ALPHA,BETA,E ...\n"), 1;
    if (fill(argv[1], config, laws, count, strtoul(argv[2], NULL, 10), strtod(argv[3], NULL), &err))
        return fprintf(stderr, "make_store: %s\n", err.text), 1;
    return 0;
}
