/* Fitting: which law holds. The laws of each view side by side, by the cells that the sweep holds out, by levels left
 * out in turn and by AICc; and means over the methods, as Zhang et al. 2024 have them in their tables 2 and 6. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_internal.h"

size_t analysis_choose(const struct analysis *analysis, size_t first, struct analysis_choice *out)
{
    double least = INFINITY;
    *out = (struct analysis_choice){.first = first, .best = analysis_best(analysis, first)};
    size_t end = first;
    for (; end < analysis->fit_count && analysis_same_view(&analysis->fits[first], &analysis->fits[end]); end++) {
        const struct analysis_fit *fit = &analysis->fits[end];
        if (fit->fitted && fit->fit.akaike < least) least = fit->fit.akaike;
    }
    out->count = end - first;
    for (size_t i = 0; i < out->count; i++) {
        const struct analysis_fit *fit = &analysis->fits[first + i];
        out->akaike[i] = fit->fitted && isfinite(least) ? fit->fit.akaike - least : NAN;
    }
    return end;
}

const struct heldout *analysis_error(const struct analysis_fit *fit, bool cells)
{
    if (!fit->fitted) return NULL;
    const struct heldout *error = cells ? &fit->heldout : &fit->levels;
    return error->kind == (cells ? HELDOUT_CELLS : HELDOUT_LEVELS) ? error : NULL;
}

/* The error of a fit for a mean: a law whose exponents its points, or those left in a fold, do not tell may predict
 * anything, and stays out as it stays out of the star. */
static const struct heldout *error_for_mean(const struct analysis_fit *fit, bool cells)
{
    const struct heldout *error = fit->intervals.vague ? NULL : analysis_error(fit, cells);
    return error && !error->guessed && isfinite(error->error) ? error : NULL;
}

/* The laws that have such an error in any view of a kind. */
struct judged {
    const char *laws[ANALYSIS_LAWS];
    size_t count;
};

static bool is_judged(const struct judged *judged, const char *law)
{
    for (size_t i = 0; i < judged->count; i++)
        if (!strcmp(judged->laws[i], law)) return true;
    return false;
}

static struct judged find_judged(const struct analysis *analysis, enum view_kind view, bool cells)
{
    struct judged out = {.count = 0};
    for (size_t i = 0; i < analysis->fit_count && out.count < ANALYSIS_LAWS; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        if (fit->view == view && error_for_mean(fit, cells) && !is_judged(&out, fit->law.name))
            out.laws[out.count++] = fit->law.name;
    }
    return out;
}

/* Whether each of these laws, two or more, has an error in a view, on as many points. */
static bool comparable(const struct analysis *analysis, const struct analysis_choice *choice, bool cells,
                       const struct judged *judged)
{
    const struct heldout *reference = NULL;
    size_t laws = 0;
    for (size_t i = 0; i < choice->count; i++) {
        const struct analysis_fit *fit = &analysis->fits[choice->first + i];
        if (!is_judged(judged, fit->law.name)) continue;
        const struct heldout *error = error_for_mean(fit, cells);
        if (!error || (reference && error->points != reference->points)) return false;
        reference = error;
        laws++;
    }
    return laws > 1;
}

size_t analysis_mean_error(const struct analysis *analysis, enum view_kind view, const char *law, bool cells,
                           double *mean, bool *beyond)
{
    const struct judged judged = find_judged(analysis, view, cells);
    struct analysis_choice choice;
    size_t views = 0;
    double sum = 0;
    if (beyond) *beyond = false;
    for (size_t first = 0; first < analysis->fit_count;) {
        size_t next = analysis_choose(analysis, first, &choice);
        bool counts = analysis->fits[first].view == view && comparable(analysis, &choice, cells, &judged);
        for (size_t i = first; counts && i < next; i++) {
            if (strcmp(analysis->fits[i].law.name, law) || !is_judged(&judged, law)) continue;
            const struct heldout *error = analysis_error(&analysis->fits[i], cells);
            bool more = false;
            sum += beyond ? heldout_told(error, &more) : error->error;
            if (more) *beyond = true;
            views++;
        }
        first = next;
    }
    *mean = views ? sum / (double)views : NAN;
    return views;
}

static void print_error(const struct heldout *error, bool best, FILE *out)
{
    char text[34] = "";
    if (error) short_heldout(error, text);
    strcat(text, best ? "*" : "");
    fprintf(out, " %-8s", text);
    if (error)
        fprintf(out, " %6zu", error->points);
    else
        fprintf(out, " %6s", "");
}

static void print_view(const struct analysis *analysis, const struct analysis_choice *choice, FILE *out)
{
    for (size_t i = 0; i < choice->count; i++) {
        const struct analysis_fit *fit = &analysis->fits[choice->first + i];
        const struct heldout *cells = analysis_error(fit, true), *levels = analysis_error(fit, false);
        char group[2 * OBSERVATION_NAME + 32], constant[32] = "", akaike[32] = "";
        bool best = choice->best == choice->first + i;
        short_group(fit, group, sizeof group);
        if (!fit->fitted) continue;
        print_padded(out, view_name(fit->view), 9);
        fputc(' ', out);
        print_padded(out, group, group_width(analysis));
        fputc(' ', out);
        print_padded(out, fit->law.name, 14);
        print_error(cells, best && cells, out);
        print_error(levels, best && !cells, out);
        if (cells || levels) short_number((cells ? cells : levels)->constant_error, 3, constant);
        if (!isnan(choice->akaike[i])) snprintf(akaike, sizeof akaike, "%.1f", choice->akaike[i]);
        fprintf(out, " %-8s %8s\n", constant, akaike);
    }
}

size_t analysis_means(const struct analysis *analysis, enum view_kind view, struct analysis_mean *out)
{
    size_t count = 0, kept = 0;
    for (size_t f = 0; f < analysis->fit_count && count < ANALYSIS_LAWS; f++) {
        bool known = analysis->fits[f].view != view;
        for (size_t i = 0; i < count && !known; i++)
            known = !strcmp(out[i].law, analysis->fits[f].law.name);
        if (!known) out[count++] = (struct analysis_mean){.law = analysis->fits[f].law.name};
    }
    for (size_t i = 0; i < count; i++) {
        struct analysis_mean mean = out[i];
        for (size_t by = 0; by < 2; by++) {
            mean.views[by] = analysis_mean_error(analysis, view, mean.law, by == 0, &mean.error[by], &mean.beyond[by]);
            if (mean.views[by] < 2) mean.error[by] = NAN;
        }
        if (mean.views[0] > 1 || mean.views[1] > 1) out[kept++] = mean;
    }
    return kept;
}

/* Means over the views of a kind, one line a law. */
static void print_means(const struct analysis *analysis, enum view_kind view, FILE *out)
{
    struct analysis_mean means[ANALYSIS_LAWS];
    size_t count = analysis_means(analysis, view, means);
    for (size_t i = 0; i < count; i++) {
        char text[3][33] = {"", "", ""};
        for (size_t by = 0; by < 2; by++)
            if (!isnan(means[i].error[by])) short_bound(means[i].error[by], means[i].beyond[by], text[by]);
        snprintf(text[2], sizeof text[2], "mean of %zu", means[i].views[means[i].views[0] < 2]);
        fprintf(out, "%-9s %-*s ", view_name(view), group_width(analysis), text[2]);
        print_padded(out, means[i].law, 14);
        fprintf(out, " %-8s %6s %s\n", text[0], "", text[1]);
    }
}

void print_choice(const struct analysis *analysis, FILE *out)
{
    static const enum view_kind order[] = {VIEW_JOINT, VIEW_MODEL, VIEW_PRETRAIN, VIEW_PET, VIEW_EXAMPLES, VIEW_TABLE};
    struct analysis_choice choice;
    bool any = false;
    for (size_t k = 0; k < sizeof order / sizeof *order; k++) {
        for (size_t first = 0, next; first < analysis->fit_count; first = next) {
            next = analysis_choose(analysis, first, &choice);
            if (analysis->fits[first].view != order[k] || choice.count < 2) continue;
            if (!any)
                fprintf(out,
                        "\nwhich law: mean absolute deviation of the loss on cells held out by the sweep file and "
                        "on levels\nleft out in turn, with the number of predictions; of the best constant; AICc "
                        "less the least\n%-9s %-*s %-14s %-8s %6s %-8s %6s %-8s %8s\n",
                        "view", group_width(analysis), "method", "law", "cells", "", "levels", "", "constant", "AICc");
            any = true;
            print_view(analysis, &choice, out);
        }
        print_means(analysis, order[k], out);
    }
}
