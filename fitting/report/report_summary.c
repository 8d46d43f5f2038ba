/* Fitting: the top of the report: what the sweep is, what it found in a few sentences, what to be careful with. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "fitting/report/html.h"
#include "fitting/report/report_internal.h"

static void fact(FILE *out, size_t value, const char *what)
{
    fprintf(out, "<li><b>%zu</b>%s</li>\n", value, what);
}

static void write_days(const struct run_record *run, FILE *out)
{
    char text[64];
    time_t day = (time_t)run->finished;
    struct tm date;
    if (!(run->finished > 0) || !gmtime_r(&day, &date) || !strftime(text, sizeof text, "%e %B %Y, %H:%M UTC", &date))
        return;
    fprintf(out, ", last point on %s", text + strspn(text, " "));
}

void report_overview(const struct report *report)
{
    const struct observations *observations = &report->analysis->observations;
    FILE *out = report->out;
    size_t held_out = 0;
    for (size_t i = 0; i < observations->count; i++)
        held_out += observations->rows[i].held_out;
    fputs("<h1>", out);
    html_text(out, observations->name);
    fputs("</h1>\n<p class=\"lead\">Finetuning scaling laws from a sweep of ", out);
    fprintf(out, "%zu point%s", observations->points, observations->points == 1 ? "" : "s");
    write_days(report->run, out);
    fputs("</p>\n<ul class=\"facts\">\n", out);
    fact(out, observations->count - held_out, "finetuned points fitted");
    fact(out, held_out, "held out");
    fact(out, observations->base_count, "untuned");
    if (observations->omitted_by[OMITTED_RATE])
        fact(out, observations->omitted_by[OMITTED_RATE], "other learning rates");
    fact(out, observations->omitted_by[OMITTED_UNFINISHED], "not finished");
    fact(out,
         observations->omitted_by[OMITTED_FAILED] + observations->omitted_by[OMITTED_DIVERGED] +
             observations->omitted_by[OMITTED_DAMAGED],
         "failed or diverged");
    fputs("</ul>\n", out);
}

static void write_group(const struct report *report, const struct observation *row)
{
    char label[OBSERVATION_LABEL];
    html_text(report->out, observations_label(&report->analysis->observations, row->task, row->method, label));
    if (row->pet_size > 0) fprintf(report->out, " %g", row->pet_size);
}

/* The row after those of the task of row `first`: rows are in order of tasks. */
static size_t end_of_task(const struct observations *observations, size_t first)
{
    size_t end = first + 1;
    while (end < observations->count && !strcmp(observations->rows[end].task, observations->rows[first].task))
        end++;
    return end;
}

/* Of one task, rows first .. end - 1: losses of two do not compare. */
static void say_best_of(const struct report *report, size_t first, size_t end)
{
    const struct observations *observations = &report->analysis->observations;
    const struct observation *best = &observations->rows[first];
    char text[3][32];
    for (size_t i = first + 1; i < end; i++)
        if (observations->rows[i].loss < best->loss) best = &observations->rows[i];
    fprintf(report->out, "<li>The lowest %s is <b>%#.4g</b>%s%s: ", metric_titles[observations->metric], best->loss,
            *metric_units[observations->metric] ? " " : "", metric_units[observations->metric]);
    write_group(report, best);
    fprintf(report->out, ", %s parameters, %s pretraining tokens, %s examples",
            html_count_short(best->parameters, text[0], sizeof text[0]),
            html_count_short(best->pretrain_tokens, text[1], sizeof text[1]),
            html_count_short(best->examples, text[2], sizeof text[2]));
    double untuned = report_untuned(observations, best).loss;
    if (!isnan(untuned)) fprintf(report->out, " (untuned: %#.4g)", untuned);
    fputs(".</li>\n", report->out);
}

static void say_best(const struct report *report)
{
    const struct observations *observations = &report->analysis->observations;
    for (size_t first = 0, end; first < observations->count; first = end) {
        end = end_of_task(observations, first);
        say_best_of(report, first, end);
    }
}

static const char *const axis_names[STAGED_AXES] = {"model size", "pretraining tokens", "PET size"};

/* "; α of PET size is not identified" */
static void say_unknown_axes(const struct report *report, const struct staged *staged)
{
    for (size_t k = 0, said = 0; k < STAGED_AXES; k++)
        if (staged->has[k] && !staged->alpha[k].identified)
            fprintf(report->out, "%s α of %s is not identified", said++ ? "," : ";", axis_names[k]);
}

/* The strongest axis of a method, where its interval lies above those of the others: of the identified powers alone. */
static void say_axes_of(const struct report *report, const struct analysis_staged *entry)
{
    const struct staged *staged = &entry->staged;
    size_t best = SIZE_MAX, second = SIZE_MAX, unknown = 0, axes = 0;
    for (size_t k = 0; k < STAGED_AXES; k++) {
        double value = staged->alpha[k].value;
        axes += staged->has[k];
        unknown += staged->has[k] && !staged->alpha[k].identified;
        if (!staged->has[k] || !staged->alpha[k].identified) continue;
        if (best == SIZE_MAX || value > staged->alpha[best].value) {
            second = best;
            best = k;
        } else if (second == SIZE_MAX || value > staged->alpha[second].value) {
            second = k;
        }
    }
    if (axes < 2) return;
    char label[OBSERVATION_LABEL];
    fputs("<li>", report->out);
    html_text(report->out, observations_label(&report->analysis->observations, entry->task, entry->method, label));
    if (second == SIZE_MAX) {
        fputs(": which axis helps most is not known", report->out);
    } else {
        const struct staged_parameter *first = &staged->alpha[best], *next = &staged->alpha[second];
        if (first->low > next->high)
            fprintf(report->out, ": %s help%s %s: α = %.3g, against %.3g for %s", axis_names[best],
                    best == STAGED_PRETRAIN ? "" : "s", unknown ? "more" : "most", first->value, next->value,
                    axis_names[second]);
        else
            fprintf(report->out, ": α of %s is %.3g and of %s %.3g; their intervals overlap or are not known",
                    axis_names[best], first->value, axis_names[second], next->value);
    }
    say_unknown_axes(report, staged);
    fputs(".</li>\n", report->out);
}

static void say_axes(const struct report *report)
{
    for (size_t i = 0; i < report->analysis->staged_count; i++)
        if (report->analysis->staged[i].fitted) say_axes_of(report, &report->analysis->staged[i]);
}

/* The better law by held-out error, counted over views. */
static void say_laws(const struct report *report)
{
    const struct analysis *analysis = report->analysis;
    size_t products = 0, sums = 0, others = 0;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        const struct law *law = &analysis->fits[i].law;
        if (analysis_best(analysis, i) != i) continue;
        *(law->user ? &others : law->term_count > 2 ? &sums : &products) += 1;
    }
    size_t all = products + sums + others;
    if (!all) return;
    fprintf(report->out,
            "<li>By held-out error the product of powers is the better law in %zu of %zu view%s, the sum of powers "
            "in %zu",
            products, all, all == 1 ? "" : "s", sums);
    if (others) fprintf(report->out, ", a law of the sweep file in %zu", others);
    fputs(".</li>\n", report->out);
}

/* Meetings within reach of the measured examples at the largest model that they are known for. */
static void say_crossings(const struct report *report)
{
    const struct analysis *analysis = report->analysis;
    double largest = 0, examples = 0, least = INFINITY;
    for (size_t i = 0; i < analysis->crossing_count; i++)
        largest = fmax(largest, analysis->crossings[i].parameters);
    for (size_t i = 0; i < analysis->observations.count; i++) {
        examples = fmax(examples, analysis->observations.rows[i].examples);
        least = fmin(least, analysis->observations.rows[i].examples);
    }
    for (size_t i = 0, said = 0; i < analysis->crossing_count && said < 3; i++) {
        const struct analysis_crossing *crossing = &analysis->crossings[i];
        if (crossing->parameters != largest || crossing->count != 1 || !analysis_crossing_identified(crossing, 0) ||
            crossing->roots[0] > 10 * examples || crossing->agreement < 0.9)
            continue;
        const struct analysis_fit *fits[2] = {&analysis->fits[crossing->first], &analysis->fits[crossing->second]};
        double loss[2];
        for (size_t k = 0; k < 2; k++) {
            const double x[LAW_AXES] = {largest, fits[k]->pretrain_tokens, fits[k]->pet_size, 2 * crossing->roots[0]};
            loss[k] = law_value(&fits[k]->law, fits[k]->fit.theta, x);
        }
        size_t winner = loss[1] < loss[0];
        char text[4][32];
        fprintf(report->out, "<li>At %s parameters ", html_count_short(largest, text[0], sizeof text[0]));
        html_text(report->out, fits[winner]->group);
        fputs(" is better than ", report->out);
        html_text(report->out, fits[!winner]->group);
        fprintf(report->out, " from %s examples on", html_count_short(crossing->roots[0], text[1], sizeof text[1]));
        if (!isnan(crossing->low[0]))
            fprintf(report->out, " (%s to %s)", html_count_short(crossing->low[0], text[2], sizeof text[2]),
                    html_count_short(crossing->high[0], text[3], sizeof text[3]));
        if (crossing->roots[0] < least || crossing->roots[0] > examples)
            fputs(", outside of what was measured", report->out);
        fputs(".</li>\n", report->out);
        said++;
    }
}

void report_in_short(const struct report *report)
{
    if (!report->analysis->observations.count) return;
    fputs("<ul class=\"short\">\n", report->out);
    say_best(report);
    say_laws(report);
    say_axes(report);
    say_crossings(report);
    fputs("</ul>\n", report->out);
}

/* Distinct values of a field over every point of the store, as a list: sizes, which begin above 0, or names in full. */
static void axis_values(const struct analysis *analysis, const char *name, observation_field *field, bool names,
                        FILE *out)
{
    enum { SHOWN = 40 };
    const struct observations *observations = &analysis->observations;
    double values[SHOWN];
    size_t count = 0, all = observations->count + observations->omitted_count;
    for (size_t i = 0; i < all; i++) {
        const double value = field(i < observations->count ? &observations->rows[i]
                                                           : &observations->omitted[i - observations->count].point);
        size_t place = 0;
        while (place < count && values[place] < value)
            place++;
        if ((value <= 0 && !names) || (place < count && values[place] == value) || count == SHOWN) continue;
        memmove(&values[place + 1], &values[place], (count - place) * sizeof *values);
        values[place] = value;
        count++;
    }
    if (!count) return;
    fprintf(out, "<tr><th scope=\"row\">%s</th><td class=\"w\">", name);
    for (size_t i = 0; i < count; i++) {
        char text[32];
        fputs(i ? ", " : "", out);
        if (names)
            fprintf(out, "%.0f", values[i]);
        else
            fputs(html_count(values[i], text, sizeof text), out);
    }
    fputs(count == SHOWN ? ", …</td></tr>\n" : "</td></tr>\n", out);
}

static void methods_row(const struct observations *observations, FILE *out)
{
    fputs("<tr><th scope=\"row\">methods</th><td class=\"w\">", out);
    for (size_t i = 0; i < observations->count; i++) {
        const struct observation *row = &observations->rows[i], *last = i ? row - 1 : NULL;
        const bool same = last && !strcmp(last->task, row->task);
        char label[OBSERVATION_LABEL];
        if (same && !strcmp(last->method, row->method)) continue;
        fputs(same ? ", " : last ? "; " : "", out);
        html_text(out, same ? row->method : observations_label(observations, row->task, row->method, label));
    }
    if (observations->base_count) fputs("; untuned", out);
    fputs("</td></tr>\n", out);
}

void report_setup(const struct report *report)
{
    const struct analysis *analysis = report->analysis;
    FILE *out = report->out;
    fputs("<div class=\"box\"><table class=\"facts-table\"><tbody>\n", out);
    methods_row(&analysis->observations, out);
    axis_values(analysis, "model sizes (parameters)", observation_parameters, false, out);
    axis_values(analysis, "pretraining tokens", observation_pretrain_tokens, false, out);
    axis_values(analysis, "PET sizes", observation_pet_size, false, out);
    axis_values(analysis, "finetuning examples", observation_examples, false, out);
    axis_values(analysis, "learning rates", observation_learning_rate, false, out);
    /* a table has none, and a mean is of several */
    if (*analysis->observations.config && analysis->observations.seeds == SETTINGS_REPLICATES)
        axis_values(analysis, "seeds", observation_seed, true, out);
    fputs("</tbody></table></div>\n", out);
}
