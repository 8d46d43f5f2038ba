/* Fitting, from the points of a store to the rows that are fitted: of the learning rates of each cell the best, of its
 * seeds the noise between them and, where it is wanted, their mean. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/observations/observations_internal.h"

/* Order that brings the learning rates of a cell, then its seeds, together. */
static int compare_rows(const void *a, const void *b)
{
    const struct observation *x = a, *y = b;
    int text = strcmp(x->task, y->task);
    if (!text) text = strcmp(x->method, y->method);
    if (text) return text;
    const double cell[][2] = {{x->pet_size, y->pet_size},
                              {x->parameters, y->parameters},
                              {x->pretrain_tokens, y->pretrain_tokens},
                              {x->examples, y->examples}};
    for (size_t i = 0; i < sizeof cell / sizeof *cell; i++)
        if (cell[i][0] != cell[i][1]) return cell[i][0] < cell[i][1] ? -1 : 1;
    text = strcmp(x->model, y->model); /* two models may have as many parameters of the chosen kind */
    if (text) return text;
    if (x->learning_rate != y->learning_rate) return x->learning_rate < y->learning_rate ? -1 : 1;
    if (x->seed != y->seed) return x->seed < y->seed ? -1 : 1;
    return strcmp(x->identity, y->identity);
}

bool observations_same_cell(const struct observation *a, const struct observation *b)
{
    return !strcmp(a->task, b->task) && !strcmp(a->method, b->method) && !strcmp(a->model, b->model) &&
           a->pet_size == b->pet_size && a->parameters == b->parameters && a->pretrain_tokens == b->pretrain_tokens &&
           a->examples == b->examples;
}

static size_t end_of_cell(const struct observations *out, size_t first)
{
    size_t end = first + 1;
    while (end < out->count && observations_same_cell(&out->rows[first], &out->rows[end]))
        end++;
    return end;
}

/* The learning rate to keep of rows [first, end) of one cell. */
static double best_rate(const struct observation *rows, size_t first, size_t end)
{
    double best = rows[first].learning_rate, best_mean = INFINITY;
    size_t most = 0;
    for (size_t i = first; i < end;) {
        size_t next = i;
        double sum = 0;
        for (; next < end && rows[next].learning_rate == rows[i].learning_rate; next++)
            sum += rows[next].valid_loss;
        size_t seeds = next - i;
        double mean = sum / (double)seeds;
        if (seeds > most || (seeds == most && mean < best_mean)) {
            best = rows[i].learning_rate;
            best_mean = mean;
            most = seeds;
        }
        i = next;
    }
    return best;
}

void observations_reduce_rates(struct observations *out)
{
    size_t kept = 0;
    if (out->count) qsort(out->rows, out->count, sizeof *out->rows, compare_rows);
    if (out->base_count) qsort(out->base, out->base_count, sizeof *out->base, compare_rows);
    for (size_t first = 0, end; first < out->count; first = end) {
        end = end_of_cell(out, first);
        double rate = best_rate(out->rows, first, end), low = out->rows[first].learning_rate,
               high = out->rows[end - 1].learning_rate;
        out->rate_cells += low != high;
        out->rate_edges += low != high && (rate == low || rate == high);
        for (size_t i = first; i < end; i++) {
            if (out->rows[i].learning_rate == rate)
                out->rows[kept++] = out->rows[i];
            else
                observations_omit(out, &out->rows[i], OMITTED_RATE, "done", "");
        }
    }
    out->count = kept;
}

/* The noise of the task and method of a row; NULL: out of memory. */
static struct observation_noise *find_noise(struct observations *out, const struct observation *row)
{
    struct observation_noise *last = out->noise_count ? &out->noise[out->noise_count - 1] : NULL;
    if (last && !strcmp(last->task, row->task) && !strcmp(last->method, row->method)) return last;
    struct observation_noise *noise = realloc(out->noise, (out->noise_count + 1) * sizeof *noise);
    if (!noise) return NULL;
    out->noise = noise;
    last = &noise[out->noise_count++];
    *last = (struct observation_noise){0};
    memcpy(last->task, row->task, sizeof last->task);
    memcpy(last->method, row->method, sizeof last->method);
    return last;
}

/* Adds the squares of one cell; the deviation is made of them at the end. */
static int add_noise(struct observations *out, size_t first, size_t end)
{
    double mean = 0, squares = 0;
    if (end - first < 2) return 0;
    struct observation_noise *noise = find_noise(out, &out->rows[first]);
    if (!noise) return -1;
    for (size_t i = first; i < end; i++)
        mean += log(out->rows[i].loss) / (double)(end - first);
    for (size_t i = first; i < end; i++)
        squares += (log(out->rows[i].loss) - mean) * (log(out->rows[i].loss) - mean);
    noise->cells++;
    noise->degrees += end - first - 1;
    noise->deviation += squares;
    return 0;
}

/* Rows [first, end) of a cell become one a kind, held out or not, at `kept`; returns where the next goes. */
static size_t average(struct observation *rows, size_t first, size_t end, size_t kept)
{
    struct observation mean[2];
    size_t seeds[2] = {0};
    for (size_t i = first; i < end; i++) {
        struct observation *into = &mean[rows[i].held_out];
        if (!seeds[rows[i].held_out]++) {
            *into = rows[i];
            continue;
        }
        into->loss += rows[i].loss;
        into->valid_loss += rows[i].valid_loss;
        into->pretrain_loss += rows[i].pretrain_loss;
        for (size_t score = 0; score < OBSERVATION_SCORES; score++)
            into->scores[score] += rows[i].scores[score];
        into->seconds += rows[i].seconds;
    }
    for (size_t kind = 0; kind < 2; kind++) {
        if (!seeds[kind]) continue;
        const double count = (double)seeds[kind];
        mean[kind].replicates = seeds[kind];
        mean[kind].loss /= count;
        mean[kind].valid_loss /= count;
        mean[kind].pretrain_loss /= count;
        for (size_t score = 0; score < OBSERVATION_SCORES; score++)
            mean[kind].scores[score] /= count;
        mean[kind].seconds /= count;
        rows[kept++] = mean[kind];
    }
    return kept;
}

/* A sweep has a cell's seed once. */
static bool has_seed_twice(const struct observation *rows, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++)
        for (size_t j = first; j < i; j++)
            if (rows[i].seed == rows[j].seed && rows[i].held_out == rows[j].held_out) return true;
    return false;
}

int observations_reduce_seeds(struct observations *out, struct error *err)
{
    size_t kept = 0;
    for (size_t first = 0, end; first < out->count; first = end) {
        end = end_of_cell(out, first);
        out->cells++;
        out->recipe_cells += *out->config && has_seed_twice(out->rows, first, end);
        if (add_noise(out, first, end)) return error_set(err, "out of memory for the noise of %zu rows", out->count);
        if (out->seeds == SETTINGS_MEAN) kept = average(out->rows, first, end, kept);
    }
    for (size_t i = 0; i < out->noise_count; i++)
        out->noise[i].deviation = sqrt(out->noise[i].deviation / (double)out->noise[i].degrees);
    if (out->seeds == SETTINGS_MEAN) out->count = kept;
    return 0;
}
