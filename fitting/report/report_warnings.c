/* Fitting: what a reader of the report must know before trusting a number: the warnings of the analysis, and what the
 * points and the run add to them. */
#include <stdarg.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/report_internal.h"

/* Begins the list with its first item. */
struct warnings {
    FILE *out;
    size_t count;
};

static void tell(void *to, const char *sentence)
{
    struct warnings *warnings = to;
    if (!warnings->count++) fputs("<div class=\"care\">\n<h3>To be read with care</h3>\n<ul>\n", warnings->out);
    fputs("<li>", warnings->out);
    html_text(warnings->out, sentence);
    fputs("</li>\n", warnings->out);
}

__attribute__((format(printf, 2, 3))) static void warn(struct warnings *warnings, const char *format, ...)
{
    va_list list;
    char text[400];
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    tell(warnings, text);
}

static void warn_points(const struct report *report, struct warnings *warnings)
{
    const struct observations *observations = &report->analysis->observations;
    size_t damaged = observations->omitted_by[OMITTED_DAMAGED] + observations->omitted_by[OMITTED_LOSS];
    if (observations->omitted_by[OMITTED_UNFINISHED])
        warn(warnings, "%zu of %zu points are not finished: everything here can still change",
             observations->omitted_by[OMITTED_UNFINISHED], observations->points);
    if (observations->omitted_by[OMITTED_DIVERGED])
        warn(warnings,
             "%zu points diverged and are left out; where these are the worst settings of a cell, its best is not "
             "changed",
             observations->omitted_by[OMITTED_DIVERGED]);
    if (observations->omitted_by[OMITTED_FAILED])
        warn(warnings, "%zu points failed and are missing from the fits; reasons are listed below",
             observations->omitted_by[OMITTED_FAILED]);
    if (observations->omitted_by[OMITTED_METRIC])
        warn(warnings, "%s was not measured for %zu points: they are in no fit", metric_names[observations->metric],
             observations->omitted_by[OMITTED_METRIC]);
    if (damaged) warn(warnings, "%zu rows of the store are damaged or have no valid loss", damaged);
}

void report_warnings(const struct report *report)
{
    struct warnings warnings = {.out = report->out};
    warn_points(report, &warnings);
    if (report->run->shard[0]) warn(&warnings, "this is shard %s of a sweep, not the whole", report->run->shard);
    if (!strcmp(report->run->made_by, "salvage"))
        warn(&warnings, "the store was salvaged from a damaged one: rows may be missing");
    analysis_tell_warnings(report->analysis, tell, &warnings);
    if (warnings.count) fputs("</ul>\n</div>\n", report->out);
}
