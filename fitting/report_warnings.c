/* Fitting: what a reader of the report must know before trusting a number: each sentence follows from the data. */
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "fitting/html.h"
#include "fitting/report_internal.h"

/* Begins the list with its first item. */
struct warnings {
    FILE *out;
    size_t count;
};

__attribute__((format(printf, 2, 3))) static void warn(struct warnings *warnings, const char *format, ...)
{
    va_list list;
    char text[1024];
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (!warnings->count++) fputs("<div class=\"care\">\n<h3>To be read with care</h3>\n<ul>\n", warnings->out);
    fputs("<li>", warnings->out);
    html_text(warnings->out, text);
    fputs("</li>\n", warnings->out);
}

static void warn_points(const struct report *report, struct warnings *warnings)
{
    const struct observations *observations = &report->analysis->observations;
    size_t damaged = observations->omitted_by[OMITTED_DAMAGED] + observations->omitted_by[OMITTED_LOSS];
    if (observations->omitted_by[OMITTED_UNFINISHED])
        warn(warnings, "%zu of %zu points are not finished: everything here can still change.",
             observations->omitted_by[OMITTED_UNFINISHED], observations->points);
    if (observations->omitted_by[OMITTED_DIVERGED])
        warn(warnings,
             "%zu points diverged and are left out; where these are the worst settings of a cell, its best is not "
             "changed.",
             observations->omitted_by[OMITTED_DIVERGED]);
    if (observations->omitted_by[OMITTED_FAILED])
        warn(warnings, "%zu points failed and are missing from the fits; reasons are listed below.",
             observations->omitted_by[OMITTED_FAILED]);
    if (damaged) warn(warnings, "%zu rows of the store are damaged or have no valid loss.", damaged);
}

static void warn_noise(const struct report *report, struct warnings *warnings)
{
    const struct observations *observations = &report->analysis->observations;
    bool replicated = false;
    for (size_t i = 1; i < observations->count && !replicated; i++) {
        const struct observation *a = &observations->rows[i - 1], *b = &observations->rows[i];
        replicated = !strcmp(a->method, b->method) && a->pet_size == b->pet_size && a->parameters == b->parameters &&
                     a->pretrain_tokens == b->pretrain_tokens && a->examples == b->examples && a->seed != b->seed;
    }
    if (observations->count && !replicated)
        warn(warnings, "One seed a cell: the spread between seeds is not measured, intervals know only the scatter "
                       "around the law.");
    if (observations->trunks && observations->trunks < observations->count)
        warn(warnings,
             "The %zu finetuned points start from %zu pretraining run%s: points of one run share its luck, and "
             "intervals "
             "resample whole runs%s.",
             observations->count, observations->trunks, observations->trunks == 1 ? "" : "s",
             observations->trunks < 8 ? ", and with so few of them points as well" : "");
}

static void warn_classes(const struct report *report, struct warnings *warnings)
{
    const struct run_record *run = report->run;
    size_t classes = 0;
    for (size_t i = 0; i < run->kind_count; i++) {
        bool seen = false;
        for (size_t k = 0; k < i; k++)
            seen = seen || !strcmp(run->kinds[k].execution_class, run->kinds[i].execution_class);
        classes += !seen;
    }
    if (classes > 1)
        warn(warnings,
             "Points were computed in %zu execution classes (backend, degree, threads, libraries): equal points of "
             "different classes agree within a tolerance, not in every bit.",
             classes);
    if (run->shard[0]) warn(warnings, "This is shard %s of a sweep, not the whole.", run->shard);
    if (!strcmp(run->made_by, "salvage"))
        warn(warnings, "The store was salvaged from a damaged one: rows may be missing.");
}

static void warn_laws(const struct report *report, struct warnings *warnings)
{
    const struct analysis *analysis = report->analysis;
    size_t fits = 0, vague = 0, offsets = 0, unsettled = 0, useless = 0, held_out = 0;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        held_out += fit->heldout_count;
        if (!fit->fitted) continue;
        fits++;
        vague += fit->intervals.vague;
        unsettled += !fit->fit.converged;
        useless += fit->heldout.kind != HELDOUT_NONE && fit->heldout.error >= fit->heldout.constant_error;
        for (size_t p = 0; p < fit->law.parameter_count; p++)
            offsets += fit->law.parameters[p].role == LAW_OFFSET && !fit->intervals.raw[p].identified;
    }
    if (offsets)
        warn(warnings,
             "%zu of %zu fits do not identify the irreducible loss E: where the curves flatten out is not known, and "
             "extrapolation far beyond the points is a guess.",
             offsets, fits);
    if (vague)
        warn(warnings, "%zu of %zu fits have an exponent that the points do not identify; these laws are not drawn.",
             vague, fits);
    if (unsettled) warn(warnings, "%zu of %zu fits did not converge.", unsettled, fits);
    if (useless)
        warn(warnings, "%zu of %zu fits predict points that they have not seen no better than a constant.", useless,
             fits);
    if (fits && !held_out)
        warn(warnings, "No cells were held out in the sweep file: held-out errors are of levels left out in turn.");
}

void report_warnings(const struct report *report)
{
    struct warnings warnings = {.out = report->out};
    warn_points(report, &warnings);
    warn_noise(report, &warnings);
    warn_classes(report, &warnings);
    warn_laws(report, &warnings);
    if (warnings.count) fputs("</ul>\n</div>\n", report->out);
}
