/* Fitting: the analysis as one table of at most 100 columns, one line a law: what most readers look for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_internal.h"

enum { METHOD_WIDTH = 12, LAW_WIDTH = 14, PARAMETER_WIDTH = 15, VALUE_WIDTH = 8, SHOWN = 8, WITH_INTERVALS = 4 };

static const char *const names[SHOWN] = {"A", "alpha", "gamma", "tau", "B", "S", "beta", "E"};
static const char *const symbols[SHOWN] = {"A", "α", "γ", "τ", "B", "S", "β", "E"};

static int characters(const char *text)
{
    int count = 0;
    for (const char *c = text; *c; c++)
        count += (*c & 0xc0) != 0x80;
    return count;
}

void print_padded(FILE *out, const char *text, int width)
{
    int count = characters(text);
    if (count <= width) {
        fprintf(out, "%s%*s", text, width - count, "");
        return;
    }
    for (int shown = 0; shown < width - 1; shown++) {
        do
            fputc(*text++, out);
        while ((*text & 0xc0) == 0x80);
    }
    fputs("…", out);
}

/* "0.0484" -> ".0484", "1.2e+05" -> "1.2e5" */
static void shorten(char *text)
{
    char *zero = text[0] == '-' ? text + 1 : text;
    if (zero[0] == '0' && zero[1] == '.') memmove(zero, zero + 1, strlen(zero));
    char *power = strchr(text, 'e');
    if (!power) return;
    char *digits = power + 1 + (power[1] == '+' || power[1] == '-');
    char *first = digits;
    while (*first == '0' && first[1])
        first++;
    char *to = power + 1 + (power[1] == '-');
    memmove(to, first, strlen(first) + 1);
}

void short_number(double value, int digits, char out[32])
{
    if (fabs(value) >= pow(10, digits) && fabs(value) < 1e4)
        snprintf(out, 32, "%.0f", value);
    else
        snprintf(out, 32, "%.*g", digits, near_zero(value));
    shorten(out);
}

void short_bound(double value, bool beyond, char out[33])
{
    if (beyond) *out++ = '>';
    short_number(value, 3, out);
}

void short_heldout(const struct heldout *heldout, char out[33])
{
    bool beyond;
    double told = heldout_told(heldout, &beyond);
    short_bound(told, beyond, out);
}

static bool inside(double value, const struct interval *interval)
{
    return value >= interval->low && value <= interval->high && interval->low < interval->high;
}

/* A value and its interval, with as many digits as the column has room for, and enough for the one to lie in the other
 * as it is printed. */
static void with_interval(double value, const struct interval *interval, char *out, size_t size)
{
    static const int digits[][2] = {{3, 2}, {3, 3}, {2, 2}, {2, 1}};
    char middle[32], low[32], high[32];
    short_number(value, 4, out);
    if (isnan(interval->low)) return;
    for (size_t i = 0; i < sizeof digits / sizeof *digits; i++) {
        short_number(value, digits[i][0], middle);
        short_number(interval->low, digits[i][1], low);
        short_number(interval->high, digits[i][1], high);
        snprintf(out, size, "%s %s–%s", middle, low, high);
        bool holds = atof(low) <= atof(middle) && atof(middle) <= atof(high) && strcmp(low, high) != 0;
        if (characters(out) <= PARAMETER_WIDTH && (holds || !inside(value, interval))) return;
    }
    short_number(value, 3, middle);
    short_number((interval->high - interval->low) / 2, 1, high);
    snprintf(out, size, "%s ±%s", middle, high);
}

static void print_parameter(const struct analysis_fit *fit, const char *name, bool intervals, FILE *out)
{
    char text[128] = "";
    for (size_t i = 0; i < fit->law.parameter_count; i++) {
        if (strcmp(fit->law.parameters[i].name, name)) continue;
        double value = law_parameter_value(&fit->law, fit->fit.theta, i);
        if (!fit->intervals.raw[i].identified)
            snprintf(text, sizeof text, "%s", intervals ? "not identified" : "?");
        else if (intervals)
            with_interval(value, &fit->intervals.raw[i], text, sizeof text);
        else
            short_number(value, 4, text);
    }
    fputc(' ', out);
    print_padded(out, text, intervals ? PARAMETER_WIDTH : VALUE_WIDTH);
}

/* Without its task. */
static void plain_group(const struct analysis_fit *fit, char *out, size_t size)
{
    if (fit->pet_size > 0)
        snprintf(out, size, "%s %g", fit->method, fit->pet_size);
    else
        snprintf(out, size, "%s", fit->method);
}

void short_group(const struct analysis_fit *fit, char *out, size_t size)
{
    char name[OBSERVATION_NAME + 32];
    plain_group(fit, name, sizeof name);
    snprintf(out, size, "%s%s%s", fit->several_tasks ? fit->task : "", fit->several_tasks ? ": " : "", name);
}

static int task_width(const struct analysis *analysis)
{
    int width = 0;
    for (size_t i = 0; i < analysis->fit_count; i++)
        if (analysis->fits[i].several_tasks && characters(analysis->fits[i].task) + 2 > width)
            width = characters(analysis->fits[i].task) + 2;
    return width;
}

int group_width(const struct analysis *analysis)
{
    return METHOD_WIDTH + task_width(analysis);
}

static void print_held_out(const struct analysis *analysis, size_t index, FILE *out)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    char text[33] = "";
    if (fit->heldout.kind != HELDOUT_NONE) short_heldout(&fit->heldout, text);
    fprintf(out, " %-6s%s", text, analysis_best(analysis, index) == index ? "*" : "");
}

/* Spaces at the end of a line are noise in a diff: the line is built, cut and written. */
static void print_line(const struct analysis *analysis, size_t index, const bool used[SHOWN], bool intervals, FILE *out)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    char group[2 * OBSERVATION_NAME + 32], line[1024] = "";
    FILE *memory = fmemopen(line, sizeof line, "w");
    if (!memory) return;
    short_group(fit, group, sizeof group);
    print_padded(memory, group, group_width(analysis));
    fputc(' ', memory);
    print_padded(memory, fit->law.name, LAW_WIDTH);
    if (!fit->fitted) {
        fprintf(memory, " not fitted: %.*s", (int)strcspn(fit->why, ";"), fit->why);
    } else {
        for (size_t n = 0; n < SHOWN; n++)
            if (used[n]) print_parameter(fit, names[n], intervals, memory);
        print_held_out(analysis, index, memory);
    }
    fclose(memory);
    for (size_t end = strlen(line); end && line[end - 1] == ' ';)
        line[--end] = 0;
    fprintf(out, "%s\n", line);
}

/* Laws that users write have parameters of any name: a section of their own. */
static bool in_columns(const struct analysis_fit *fit, enum view_kind view)
{
    return fit->view == view && !fit->law.user;
}

/* The parameters of a view's laws. B belongs to the sums alone: it gives way where there would be no room for
 * intervals.
 */
static size_t choose_columns(const struct analysis *analysis, enum view_kind view, bool used[SHOWN])
{
    size_t count = 0;
    for (size_t n = 0; n < SHOWN; n++) {
        used[n] = false;
        for (size_t f = 0; f < analysis->fit_count; f++)
            for (size_t i = 0; in_columns(&analysis->fits[f], view) && i < analysis->fits[f].law.parameter_count; i++)
                used[n] = used[n] || !strcmp(names[n], analysis->fits[f].law.parameters[i].name);
        count += used[n];
    }
    if (used[4] && count == WITH_INTERVALS + 1) {
        used[4] = false;
        count--;
    }
    return count;
}

static void print_section(const struct analysis *analysis, enum view_kind view, FILE *out)
{
    static const char *const titles[VIEWS] = {[VIEW_MODEL] = "model size N and examples D, at one pretraining count",
                                              [VIEW_PRETRAIN] = "pretraining tokens P and examples D, at one model",
                                              [VIEW_PET] =
                                                  "PET size T and examples D, at one model and pretraining count",
                                              [VIEW_JOINT] = "all points of a method: N, P, T, D",
                                              [VIEW_EXAMPLES] = "examples D alone, at one model and pretraining count",
                                              [VIEW_TABLE] = "all rows of the table"};
    bool used[SHOWN], any = false;
    for (size_t f = 0; f < analysis->fit_count; f++)
        any = any || in_columns(&analysis->fits[f], view);
    if (!any) return;
    bool intervals = choose_columns(analysis, view, used) <= WITH_INTERVALS;
    fprintf(out, "\n%s\n%-*s %-*s", titles[view], group_width(analysis), "method", LAW_WIDTH, "law");
    for (size_t n = 0; n < SHOWN; n++) {
        if (!used[n]) continue;
        fputc(' ', out);
        print_padded(out, symbols[n], intervals ? PARAMETER_WIDTH : VALUE_WIDTH);
    }
    fprintf(out, " held out\n");
    for (size_t f = 0; f < analysis->fit_count; f++)
        if (in_columns(&analysis->fits[f], view)) print_line(analysis, f, used, intervals, out);
}

/* One parameter of a user's law, on a line of at most 100 columns. */
static void print_word(const struct analysis_fit *fit, size_t i, int *column, FILE *out)
{
    enum { INDENT = 23, WIDEST = 100 };
    char value[128], word[192];
    with_interval(law_parameter_value(&fit->law, fit->fit.theta, i), &fit->intervals.raw[i], value, sizeof value);
    snprintf(word, sizeof word, "%s %s", fit->law.parameters[i].symbol, fit->intervals.raw[i].identified ? value : "?");
    if (*column + 2 + characters(word) > WIDEST) *column = fprintf(out, "\n%*s", INDENT, "") - 1;
    *column += characters(word) + 2;
    fprintf(out, "  %s", word);
}

static void print_user_law(const struct analysis *analysis, size_t index, FILE *out)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    char group[2 * OBSERVATION_NAME + 32];
    short_group(fit, group, sizeof group);
    print_padded(out, group, group_width(analysis));
    fprintf(out, " %-9s", view_name(fit->view));
    if (!fit->fitted) {
        fprintf(out, " not fitted: %s\n", fit->why);
        return;
    }
    int column = group_width(analysis) + 1 + 9;
    for (size_t i = 0; i < fit->law.parameter_count; i++)
        print_word(fit, i, &column, out);
    if (fit->heldout.kind != HELDOUT_NONE) {
        char error[33];
        short_heldout(&fit->heldout, error);
        fprintf(out, "%sheld out %s%s", column > 80 ? "\n                         " : "  ", error,
                analysis_best(analysis, index) == index ? "*" : "");
    }
    fputc('\n', out);
}

static void print_user_laws(const struct analysis *analysis, FILE *out)
{
    for (size_t first = 0; first < analysis->fit_count; first++) {
        const struct user_law *user = analysis->fits[first].law.user;
        bool seen = !user;
        for (size_t f = 0; f < first && !seen; f++)
            seen = analysis->fits[f].law.user == user;
        if (seen) continue;
        fprintf(out, "\n%s: L = %s\n", user->name, user->expression.text);
        for (size_t f = first; f < analysis->fit_count; f++)
            if (analysis->fits[f].law.user == user) print_user_law(analysis, f, out);
    }
}

static void staged_number(const struct staged_parameter *parameter, FILE *out)
{
    char text[32] = "";
    if (!isnan(parameter->value)) strcpy(text, "?");
    if (parameter->identified) short_number(parameter->value, 4, text);
    fputc(' ', out);
    print_padded(out, text, VALUE_WIDTH);
}

static void print_staged(const struct analysis *analysis, FILE *out)
{
    static const char *const heads[] = {"A model", "α model", "A pretr", "α pretr", "A pet", "α pet", "β", "E"};
    size_t fitted = 0;
    for (size_t i = 0; i < analysis->staged_count; i++)
        fitted += analysis->staged[i].fitted;
    if (!fitted) return;
    fprintf(out, "\nin two stages: β and E shared by the axes of model size and pretraining, then each axis\n%-*s",
            group_width(analysis), "method");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        fputc(' ', out);
        print_padded(out, heads[i], VALUE_WIDTH);
    }
    fputc('\n', out);
    for (size_t i = 0; i < analysis->staged_count; i++) {
        const struct analysis_staged *entry = &analysis->staged[i];
        if (!entry->fitted) continue;
        char label[OBSERVATION_LABEL];
        observations_label(&analysis->observations, entry->task, entry->method, label);
        print_padded(out, label, group_width(analysis));
        for (size_t k = 0; k < STAGED_AXES; k++) {
            staged_number(&entry->staged.a[k], out);
            staged_number(&entry->staged.alpha[k], out);
        }
        staged_number(&entry->staged.beta, out);
        staged_number(&entry->staged.offset, out);
        fputc('\n', out);
    }
}

static void print_crossing(const struct analysis *analysis, const struct analysis_crossing *crossing, FILE *out)
{
    char first[2 * OBSERVATION_NAME + 32], second[OBSERVATION_NAME + 32], pair[3 * OBSERVATION_NAME + 72], text[3][32];
    short_group(&analysis->fits[crossing->first], first, sizeof first);
    plain_group(&analysis->fits[crossing->second], second, sizeof second);
    snprintf(pair, sizeof pair, "%s, %s", first, second);
    print_padded(out, pair, 26 + task_width(analysis));
    fprintf(out, " %-12.0f", crossing->parameters);
    for (size_t k = 0; k < crossing->count; k++) {
        short_number(crossing->roots[k], 3, text[0]);
        fprintf(out, "%s %s%s", k ? "," : "", crossing->roots[k] < 1 ? "below 1" : text[0],
                analysis_crossing_identified(crossing, k) ? "" : "?");
        if (isnan(crossing->low[k]) || crossing->roots[k] < 1) continue;
        short_number(crossing->low[k], 2, text[1]);
        short_number(crossing->high[k], 2, text[2]);
        const bool low = crossing->low[k] > 0, high = isfinite(crossing->high[k]);
        fprintf(out, " %s%s%s", low ? text[1] : high ? "below " : "anywhere", low ? "–" : "", high ? text[2] : "");
    }
    if (!crossing->count) fprintf(out, " none");
    if (!isnan(crossing->agreement)) fprintf(out, " (in %.0f %% of resamples)", 100 * crossing->agreement);
    fputc('\n', out);
}

static void print_crossings(const struct analysis *analysis, FILE *out)
{
    char text[2][32];
    if (!analysis->crossing_count) return;
    short_number(analysis->crossings[0].range[0], 3, text[0]);
    short_number(analysis->crossings[0].range[1], 3, text[1]);
    fprintf(out, "\nexamples at which two methods meet, between %s and %s\n%-*s %-12s examples\n", text[0], text[1],
            26 + task_width(analysis), "methods", "model size");
    for (size_t i = 0; i < analysis->crossing_count; i++)
        print_crossing(analysis, &analysis->crossings[i], out);
}

static bool any_is_beyond(const struct analysis *analysis)
{
    for (size_t i = 0; i < analysis->fit_count; i++)
        for (int cells = 0; cells < 2; cells++) {
            bool beyond = false;
            const struct heldout *error = analysis_error(&analysis->fits[i], cells);
            if (error) heldout_told(error, &beyond);
            if (beyond) return true;
        }
    return false;
}

void print_table(const struct analysis *analysis, FILE *out)
{
    static const enum view_kind order[VIEWS] = {VIEW_JOINT, VIEW_MODEL,    VIEW_PRETRAIN,
                                                VIEW_PET,   VIEW_EXAMPLES, VIEW_TABLE};
    for (size_t i = 0; i < VIEWS; i++)
        print_section(analysis, order[i], out);
    print_user_laws(analysis, out);
    print_staged(analysis, out);
    print_crossings(analysis, out);
    print_choice(analysis, out);
    fprintf(out, "\nheld out: mean absolute deviation of the loss; ?: not identified by these points\n"
                 "*: the best of the laws with identified exponents, held out on the same points\n");
    if (any_is_beyond(analysis))
        fprintf(out, ">: over %g times the deviation of the best constant: the law does not extrapolate there\n",
                HELDOUT_BEYOND);
}
