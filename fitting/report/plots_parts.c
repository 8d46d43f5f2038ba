/* What figures are filled with: levels of an axis, groups of methods, bands. */
#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/fit/sorted.h"
#include "fitting/report/plots_internal.h"

int levels_sort(struct levels *levels)
{
    size_t count = 0;
    if (!levels->at) return -1;
    sort_numbers(levels->at, levels->count);
    for (size_t i = 0; i < levels->count; i++)
        if (levels->at[i] > 0 && (!count || levels->at[i] != levels->at[count - 1]))
            levels->at[count++] = levels->at[i];
    levels->count = count;
    return 0;
}

void levels_thin(struct levels *levels, size_t most)
{
    if (levels->count <= most) return;
    for (size_t i = 0; i < most; i++)
        levels->at[i] = levels->at[i * (levels->count - 1) / (most - 1)];
    levels->count = most;
}

static void name_group(const struct analysis *analysis, struct plot_group *group)
{
    if (group->pet_size > 0)
        snprintf(group->name, sizeof group->name, "%s %g", group->method, group->pet_size);
    else
        snprintf(group->name, sizeof group->name, "%s", group->method);
    for (size_t i = 0; i < analysis->fit_count; i++)
        if (!strcmp(analysis->fits[i].method, group->method) && analysis->fits[i].pet_size == group->pet_size)
            snprintf(group->name, sizeof group->name, "%.*s", (int)sizeof group->name - 1,
                     analysis->fits[i].group +
                         (analysis->fits[i].several_tasks ? strlen(analysis->fits[i].task) + 2 : 0));
}

int plot_groups_make(const struct analysis *analysis, struct plot_groups *out, struct error *err)
{
    const struct observations *observations = &analysis->observations;
    *out = (struct plot_groups){0};
    for (size_t i = 0; i < observations->count; i++) {
        const struct observation *row = &observations->rows[i];
        if (plot_group_of(out, row->method, row->pet_size) != SIZE_MAX) continue;
        struct plot_group *items = realloc(out->items, (out->count + 1) * sizeof *items);
        if (!items) {
            free(out->items);
            return error_set(err, "out of memory for the plots");
        }
        out->items = items;
        items[out->count] = (struct plot_group){.pet_size = row->pet_size};
        memcpy(items[out->count].method, row->method, sizeof row->method);
        name_group(analysis, &items[out->count++]);
    }
    return 0;
}

size_t plot_group_of(const struct plot_groups *groups, const char *method, double pet_size)
{
    for (size_t i = groups->count; i-- > 0;)
        if (groups->items[i].pet_size == pet_size && !strcmp(groups->items[i].method, method)) return i;
    return SIZE_MAX;
}

void plot_name(const struct analysis *analysis, struct plot *plot, const char *task, const char *title)
{
    const bool several = analysis->observations.several_tasks, sentence = several && islower((unsigned char)title[1]);
    snprintf(plot->title, sizeof plot->title, "%s%s%c%s", several ? task : "", several ? ": " : "",
             sentence ? tolower((unsigned char)title[0]) : title[0], title + 1);
}

const char *plot_loss_label(const struct analysis *analysis, char *out, size_t size)
{
    enum metric metric = analysis->observations.metric;
    snprintf(out, size, metric_units[metric][0] ? "%s (nats/token)" : "%s", metric_titles[metric]);
    return out;
}

bool plot_band(const struct analysis *analysis, const struct analysis_fit *fit, const double x[LAW_AXES],
               double range[2])
{
    size_t count = fit->intervals.samples ? fit->intervals.resamples : 0;
    double *losses = count > 1 ? malloc(count * sizeof *losses) : NULL;
    if (!losses) return false;
    for (size_t r = 0; r < count; r++)
        losses[r] = law_value(&fit->law, fit->intervals.samples + r * fit->law.parameter_count, x);
    sort_numbers(losses, count);
    for (size_t i = 0; i < 2; i++) {
        double share = 0.5 + (i ? 0.5 : -0.5) * analysis->options.level;
        range[i] = sorted_at(losses, count, share);
    }
    free(losses);
    return true;
}
