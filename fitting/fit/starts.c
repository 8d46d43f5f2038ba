/* Fitting: where the optimiser starts. A coefficient of centred axes is the term's size in the middle of the points, so
 * the grid needs no guess of its scale. */
#include "fitting/fit/starts.h"
#include "fitting/fit/sorted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double exponents_few[] = {0.03, 0.1, 0.25, 0.5, 1.0};
static const double exponents_many[] = {0.05, 0.2, 0.6};
static const double offsets[] = {0.02, 0.3, 0.6, 0.8, 0.95};
static const double shares[] = {0.2, 0.5, 0.8};
static const double knees[] = {0.03, 1, 30}; /* over the powers in the middle of the points */
enum { FEW = 5, MANY = 3, OFFSETS = 5, SHARES = 3, KNEES = 3 };

static size_t role_count(const struct law *law, enum law_role role)
{
    size_t count = 0;
    for (size_t i = 0; i < law->parameter_count; i++)
        count += law->parameters[i].role == role;
    return count;
}

static size_t grid_size(const struct law *law)
{
    return role_count(law, LAW_EXPONENT) <= 3 ? FEW : MANY;
}

size_t starts_count(const struct law *law)
{
    if (law->user) return starts_user_count(law);
    size_t count = role_count(law, LAW_OFFSET) ? OFFSETS : 1;
    for (size_t i = 0, n = role_count(law, LAW_EXPONENT); i < n; i++)
        count *= grid_size(law);
    if (role_count(law, LAW_KNEE)) count *= KNEES;
    return role_count(law, LAW_COEFFICIENT) > 1 ? count * SHARES : count;
}

struct starts_scale starts_scale(const struct fit_data *data)
{
    struct starts_scale scale = {data->loss[0], data->loss[0]};
    double *sorted = malloc(data->count * sizeof *sorted);
    if (!sorted) return scale; /* poorer starts, not a failure */
    memcpy(sorted, data->loss, data->count * sizeof *sorted);
    sort_numbers(sorted, data->count);
    scale = (struct starts_scale){.smallest = sorted[0], .median = sorted[data->count / 2]};
    free(sorted);
    return scale;
}

void starts_get(const struct law *law, const struct fit_data *data, const struct starts_scale *scale, size_t i,
                double *theta)
{
    double smallest = scale->smallest, median = scale->median;
    if (law->user) {
        starts_user_get(law, data, smallest, median, i, theta);
        return;
    }
    double offset = 0, share = 1, knee = 0;
    if (role_count(law, LAW_OFFSET)) {
        offset = smallest * offsets[i % OFFSETS];
        i /= OFFSETS;
    }
    size_t terms = role_count(law, LAW_COEFFICIENT);
    if (terms > 1) {
        share = shares[i % SHARES];
        i /= SHARES;
    }
    if (role_count(law, LAW_KNEE)) {
        knee = knees[i % KNEES];
        i /= KNEES;
    }
    size_t grid = grid_size(law), term = 0;
    for (size_t p = 0; p < law->parameter_count; p++) {
        switch (law->parameters[p].role) {
        case LAW_EXPONENT:
            theta[p] = grid == FEW ? exponents_few[i % grid] : exponents_many[i % grid];
            i /= grid;
            break;
        case LAW_OFFSET:
            theta[p] = log(offset);
            break;
        case LAW_KNEE:
            theta[p] = log(knee);
            break;
        case LAW_COEFFICIENT: /* the first term gets `share`, the others the rest in equal parts */
            theta[p] = log((1 + knee) * (median - offset) *
                           (terms == 1  ? 1
                            : term == 0 ? share
                                        : (1 - share) / (double)(terms - 1)));
            term++;
            break;
        case LAW_FREE: /* of users' laws alone */
            break;
        }
    }
}
