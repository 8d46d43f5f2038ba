/* Fitting: the report's comparisons: powers of the three axes, where methods meet, which is best where, what was
 * forgotten, what it cost. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/advise.h"
#include "fitting/analysis_internal.h"
#include "fitting/html.h"
#include "fitting/report_internal.h"

static void text_cell(FILE *out, const char *text)
{
    fputs("<td>", out);
    html_text(out, text);
    fputs("</td>", out);
}

static void count_cell(FILE *out, double value)
{
    char text[32];
    fprintf(out, "<td class=\"n\">%s</td>", html_count(value, text, sizeof text));
}

static void staged_cell(FILE *out, const struct staged_parameter *parameter)
{
    if (isnan(parameter->value)) {
        fputs("<td></td>", out);
        return;
    }
    fprintf(out, "<td class=\"n\">%.4g", near_zero(parameter->value));
    if (!isnan(parameter->low))
        fprintf(out, "<small>%.3g … %.3g</small>", near_zero(parameter->low), near_zero(parameter->high));
    fputs("</td>", out);
}

void report_staged(const struct analysis *analysis, FILE *out)
{
    size_t fitted = 0;
    for (size_t i = 0; i < analysis->staged_count; i++)
        fitted += analysis->staged[i].fitted;
    if (!fitted) return;
    fputs(
        "<h2>Which axis helps most</h2>\n<p>The two-stage procedure of Zhang et al. (2024): β and E are shared by the "
        "axes of model size and pretraining, then each axis is fitted with its own power. A larger α: a factor on that "
        "axis lowers the loss more.</p>\n<div class=\"box\"><table>\n<tr><th>method</th><th class=\"n\">α model "
        "size</th><th class=\"n\">α pretraining</th><th class=\"n\">α PET size</th><th class=\"n\">β "
        "examples</th><th class=\"n\">E</th></tr>\n",
        out);
    for (size_t i = 0; i < analysis->staged_count; i++) {
        const struct analysis_staged *entry = &analysis->staged[i];
        if (!entry->fitted) continue;
        fputs("<tr>", out);
        text_cell(out, entry->method);
        for (size_t k = 0; k < STAGED_AXES; k++)
            staged_cell(out, &entry->staged.alpha[k]);
        staged_cell(out, &entry->staged.beta);
        if (entry->staged.offset_known)
            staged_cell(out, &entry->staged.offset);
        else
            fputs("<td class=\"unknown\">not identified</td>", out);
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

void report_crossings(const struct analysis *analysis, FILE *out)
{
    char text[2][32];
    if (!analysis->crossing_count) return;
    fprintf(out,
            "<h2>Where two methods meet</h2>\n<p>Examples at which the laws of two methods give the same loss, looked "
            "for between %s and %s. Small print: intervals over resamples with as many meetings, and their share.</p>\n"
            "<div class=\"box\"><table>\n<tr><th>methods</th><th class=\"n\">model size</th><th>examples</th></tr>\n",
            html_count(analysis->crossings[0].range[0], text[0], sizeof text[0]),
            html_count(analysis->crossings[0].range[1], text[1], sizeof text[1]));
    for (size_t i = 0; i < analysis->crossing_count; i++) {
        const struct analysis_crossing *crossing = &analysis->crossings[i];
        fputs("<tr><td>", out);
        html_text(out, analysis->fits[crossing->first].group);
        fputs(" and ", out);
        html_text(out, analysis->fits[crossing->second].group);
        fputs("</td>", out);
        count_cell(out, crossing->parameters);
        fputs("<td>", out);
        for (size_t k = 0; k < crossing->count; k++) {
            fprintf(out, "%s%s", k ? ", " : "", html_count(crossing->roots[k], text[0], sizeof text[0]));
            if (!isnan(crossing->low[k]))
                fprintf(out, " <small>%s … %s</small>", html_count(crossing->low[k], text[0], sizeof text[0]),
                        html_count(crossing->high[k], text[1], sizeof text[1]));
        }
        if (!crossing->count) fputs("never", out);
        if (!isnan(crossing->agreement))
            fprintf(out, "<small>in %.0f %% of resamples</small>", 100 * crossing->agreement);
        fputs("</td></tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

/* Distinct positive values of a field, ascending, at most room. */
static size_t distinct(const struct observations *observations, size_t offset, double *values, size_t room)
{
    size_t count = 0;
    for (size_t i = 0; i < observations->count; i++) {
        double value;
        memcpy(&value, (const char *)&observations->rows[i] + offset, sizeof value);
        size_t place = 0;
        while (place < count && values[place] < value)
            place++;
        if (value <= 0 || (place < count && values[place] == value) || count == room) continue;
        memmove(&values[place + 1], &values[place], (count - place) * sizeof *values);
        values[place] = value;
        count++;
    }
    return count;
}

static void map_cell(const struct analysis *analysis, double parameters, double examples, FILE *out)
{
    const struct advise_question question = {.parameters = parameters, .examples = examples, .budget = INFINITY};
    struct advice advice;
    if (advise(analysis, &question, &advice, NULL)) {
        fputs("<td></td>", out);
        return;
    }
    const struct advise_option *best = &advice.options[0];
    fputs("<td>", out);
    html_text(out, best->group);
    fprintf(out, "<small>%.4f%s", best->loss, best->beyond_size || best->beyond_examples ? ", beyond the points" : "");
    if (!isnan(best->best)) fprintf(out, ", %.0f %%", 100 * best->best);
    fputs("</small></td>", out);
    advice_destroy(&advice);
}

/* The best method over model sizes and examples, two steps beyond the largest number of examples. */
void report_map(const struct analysis *analysis, FILE *out)
{
    enum { ROOM = 12 };
    double sizes[ROOM], examples[ROOM + 2];
    const struct advise_question question = {.parameters = NAN, .examples = 1, .budget = INFINITY};
    struct advice advice;
    size_t size_count = distinct(&analysis->observations, offsetof(struct observation, parameters), sizes, ROOM);
    size_t example_count = distinct(&analysis->observations, offsetof(struct observation, examples), examples, ROOM);
    if (!size_count || !example_count || advise(analysis, &question, &advice, NULL)) return;
    advice_destroy(&advice);
    for (size_t i = 0; i < 2; i++, example_count++)
        examples[example_count] = 10 * examples[example_count - 1];
    fputs(
        "<h2>Which method where</h2>\n<p>The method with the lowest predicted loss; small print: that loss, and the "
        "share "
        "of resamples in which it is the lowest. <code>tunelaw advise</code> answers for any size and any budget.</p>\n"
        "<div class=\"box\"><table>\n<tr><th>examples</th>",
        out);
    for (size_t s = 0; s < size_count; s++) {
        char text[32];
        fprintf(out, "<th>%s</th>", html_count(sizes[s], text, sizeof text));
    }
    fputs("</tr>\n", out);
    for (size_t e = 0; e < example_count; e++) {
        fputs("<tr>", out);
        count_cell(out, examples[e]);
        for (size_t s = 0; s < size_count; s++)
            map_cell(analysis, sizes[s], examples[e], out);
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

static double base_pretrain_loss(const struct observations *observations, const struct observation *row)
{
    for (size_t i = 0; i < observations->base_count; i++)
        if (observations->base[i].parameters == row->parameters &&
            observations->base[i].pretrain_tokens == row->pretrain_tokens)
            return observations->base[i].pretrain_loss;
    return NAN;
}

/* Means over the rows of one method, PET size and model: rows are in that order. */
void report_forgetting(const struct analysis *analysis, FILE *out)
{
    const struct observations *observations = &analysis->observations;
    if (!observations->count) return;
    fputs(
        "<h2>Forgetting and cost</h2>\n<p>Loss on the pretraining text before and after finetuning (mean over the "
        "cells of a method and model; the last column is the worst of them), and seconds of training and evaluation of "
        "one point.</p>\n<div class=\"box\"><table>\n<tr><th>method</th><th class=\"n\">PET size</th><th "
        "class=\"n\">model size</th><th class=\"n\">points</th><th class=\"n\">seconds a point</th><th "
        "class=\"n\">before</th><th class=\"n\">after</th><th class=\"n\">most forgotten</th></tr>\n",
        out);
    for (size_t first = 0, end; first < observations->count; first = end) {
        const struct observation *row = &observations->rows[first];
        double seconds = 0, before = 0, after = 0, worst = -INFINITY;
        size_t known = 0;
        for (end = first;
             end < observations->count && !strcmp(observations->rows[end].method, row->method) &&
             observations->rows[end].pet_size == row->pet_size && observations->rows[end].parameters == row->parameters;
             end++) {
            const struct observation *at = &observations->rows[end];
            double base = base_pretrain_loss(observations, at);
            seconds += at->seconds;
            if (isnan(base) || isnan(at->pretrain_loss)) continue;
            before += base;
            after += at->pretrain_loss;
            worst = fmax(worst, at->pretrain_loss - base);
            known++;
        }
        fputs("<tr>", out);
        text_cell(out, row->method);
        if (row->pet_size > 0)
            fprintf(out, "<td class=\"n\">%g</td>", row->pet_size);
        else
            fputs("<td></td>", out);
        count_cell(out, row->parameters);
        fprintf(out, "<td class=\"n\">%zu</td><td class=\"n\">%.3g</td>", end - first, seconds / (double)(end - first));
        if (known)
            fprintf(out, "<td class=\"n\">%.4f</td><td class=\"n\">%.4f</td><td class=\"n\">%+.4f</td></tr>\n",
                    before / (double)known, after / (double)known, worst);
        else
            fputs("<td></td><td></td><td></td></tr>\n", out);
    }
    fputs("</table></div>\n", out);
}
