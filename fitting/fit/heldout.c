/* Fitting, fourth box: held-out error, of cells that the sweep sets aside or of levels left out in turn. */
#include "fitting/fit/heldout.h"
#include "fitting/fit/interval.h"
#include "fitting/fit/sorted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double median(const double *values, size_t count)
{
    double *sorted = malloc(count * sizeof *sorted);
    if (!sorted) return NAN;
    memcpy(sorted, values, count * sizeof *sorted);
    sort_numbers(sorted, count);
    double middle = count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
    free(sorted);
    return middle;
}

/* Adds the deviations of one fold to the sums in *out. */
static void add_fold(const struct fit *fit, const struct fit_data *fitted, const struct fit_data *unseen,
                     struct heldout *out)
{
    double constant = median(fitted->loss, fitted->count);
    for (size_t i = 0; i < unseen->count; i++) {
        out->error += fabs(fit_predict(fit, unseen, i) - unseen->loss[i]);
        out->constant_error += fabs(constant - unseen->loss[i]);
    }
    out->points += unseen->count;
    out->folds++;
}

static void finish(struct heldout *out, enum heldout_kind kind)
{
    if (!out->points) {
        *out = (struct heldout){.error = NAN, .constant_error = NAN};
        return;
    }
    out->kind = kind;
    out->error /= (double)out->points;
    out->constant_error /= (double)out->points;
}

double heldout_told(const struct heldout *heldout, bool *beyond)
{
    double most = HELDOUT_BEYOND * heldout->constant_error;
    *beyond = most > 0 && heldout->error > most;
    return *beyond ? most : heldout->error;
}

void heldout_cells(const struct fit *fit, const struct fit_data *fitted, const struct fit_data *unseen,
                   struct heldout *out)
{
    *out = (struct heldout){0};
    add_fold(fit, fitted, unseen, out);
    finish(out, HELDOUT_CELLS);
}

/* Room for a division of the points in two, and for the levels of an axis. */
struct split {
    struct fit_data kept, left;
    double *levels;
};

static void split_free(struct split *split)
{
    free(split->kept.log_x);
    free(split->kept.loss);
    free(split->left.log_x);
    free(split->left.loss);
    free(split->levels);
}

static int split_create(size_t count, struct split *split)
{
    *split = (struct split){0};
    split->kept.log_x = calloc(count, sizeof *split->kept.log_x);
    split->left.log_x = calloc(count, sizeof *split->left.log_x);
    split->kept.loss = calloc(count, sizeof(double));
    split->left.loss = calloc(count, sizeof(double));
    split->levels = calloc(count, sizeof(double));
    return split->kept.log_x && split->left.log_x && split->kept.loss && split->left.loss && split->levels ? 0 : -1;
}

/* Ascending levels of an axis; returns their number. */
static size_t list_levels(const struct fit_data *data, size_t axis, double *levels)
{
    for (size_t i = 0; i < data->count; i++)
        levels[i] = data->log_x[i][axis];
    return sort_levels(levels, data->count);
}

static void split_at(const struct fit_data *data, size_t axis, double low, double high, struct split *split)
{
    split->kept.count = split->left.count = 0;
    for (size_t i = 0; i < data->count; i++) {
        bool leave = data->log_x[i][axis] >= low && data->log_x[i][axis] <= high;
        struct fit_data *side = leave ? &split->left : &split->kept;
        memcpy(side->log_x[side->count], data->log_x[i], sizeof *side->log_x);
        side->loss[side->count++] = data->loss[i];
    }
}

int heldout_levels(const struct law *law, const struct fit_data *data, const struct fit_options *options, size_t levels,
                   struct heldout *out, struct error *err)
{
    *out = (struct heldout){0};
    struct split split;
    if (split_create(data->count, &split)) {
        split_free(&split);
        return error_set(err, "out of memory for the held-out error of %zu points", data->count);
    }
    for (size_t axis = 0; axis < LAW_AXES; axis++) {
        if (!law_uses(law, (enum law_axis)axis)) continue;
        size_t count = list_levels(data, axis, split.levels), folds = count < HELDOUT_FOLDS ? count : HELDOUT_FOLDS;
        for (size_t k = 0; k < folds; k++) {
            size_t first = k * count / folds, end = (k + 1) * count / folds;
            struct fit fit;
            if (count - (end - first) < levels) continue;
            split_at(data, axis, split.levels[first], split.levels[end - 1], &split);
            if (fit_law(law, &split.kept, options, &fit, NULL)) continue;
            add_fold(&fit, &split.kept, &split.left, out);
            out->guessed = out->guessed || interval_shape_is_unknown(&fit, &split.kept);
        }
    }
    finish(out, HELDOUT_LEVELS);
    split_free(&split);
    return 0;
}
