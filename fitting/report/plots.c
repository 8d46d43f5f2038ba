/* Fitting: from the analysis to the report's figures: the list of them. */
#include "fitting/report/plots.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/plots_internal.h"

size_t *plots_predicting_fits(const struct analysis *analysis, struct error *err)
{
    static const enum view_kind order[] = {VIEW_JOINT, VIEW_MODEL, VIEW_PRETRAIN, VIEW_EXAMPLES, VIEW_TABLE};
    size_t *fits = malloc((analysis->observations.count + 1) * sizeof *fits);
    if (!fits) {
        error_set(err, "out of memory for %zu points", analysis->observations.count);
        return NULL;
    }
    for (size_t i = 0; i < analysis->observations.count; i++)
        fits[i] = SIZE_MAX;
    for (size_t k = 0; k < sizeof order / sizeof *order; k++)
        for (size_t f = 0; f < analysis->fit_count; f++) {
            const struct analysis_fit *fit = &analysis->fits[f];
            if (fit->view != order[k] || !fit->fitted) continue;
            size_t shown = analysis_shown(analysis, f);
            for (size_t i = 0; shown != SIZE_MAX && i < fit->fitted_count + fit->heldout_count; i++)
                if (fits[fit->rows[i]] == SIZE_MAX) fits[fit->rows[i]] = shown;
        }
    return fits;
}

void plots_destroy(struct plots *plots)
{
    free(plots->items);
    *plots = (struct plots){0};
}

int plots_make(const struct analysis *analysis, const struct run_record *run, const char *folder, struct plots *out,
               struct error *err)
{
    *out = (struct plots){0};
    struct plot_place place = {.analysis = analysis, .run = run, .folder = folder, .plots = out, .err = err};
    int result = plot_views(&place) || plot_comparisons(&place) || plot_run(&place) ? -1 : 0;
    char(*names)[32] = calloc(out->count + 1, sizeof *names);
    if (!result && !names) result = error_set(err, "out of memory for %zu plots", out->count);
    for (size_t i = 0; !result && i < out->count; i++)
        memcpy(names[i], out->items[i].name, sizeof names[i]);
    if (!result) result = figures_draw(folder, (const char(*)[32])names, out->count, err);
    free(names);
    if (result) plots_destroy(out);
    return result;
}
