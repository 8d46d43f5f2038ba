/* Fitting, first box: the table of laws, their values and gradients in logarithms. Observations come from a store or a
 * table, fit.c finds the parameters. */
#include "fitting/laws.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct law laws[] = {
    {.name = "single",
     .term_count = 2,
     .parameter_count = 3,
     .terms = {{0, {0, 0, 0, 1}}, {2, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT}, {"beta", "β", LAW_EXPONENT}, {"E", "E", LAW_OFFSET}}},
    {.name = "multiplicative",
     .term_count = 2,
     .parameter_count = 4,
     .terms = {{0, {1, 0, 0, 2}}, {3, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT},
                    {"alpha", "α", LAW_EXPONENT},
                    {"beta", "β", LAW_EXPONENT},
                    {"E", "E", LAW_OFFSET}}},
    {.name = "additive",
     .term_count = 3,
     .parameter_count = 5,
     .terms = {{0, {1, 0, 0, 0}}, {2, {0, 0, 0, 3}}, {4, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT},
                    {"alpha", "α", LAW_EXPONENT},
                    {"B", "B", LAW_COEFFICIENT},
                    {"beta", "β", LAW_EXPONENT},
                    {"E", "E", LAW_OFFSET}}},
    {.name = "joint",
     .term_count = 2,
     .parameter_count = 6,
     .terms = {{0, {1, 2, 3, 4}}, {5, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT},
                    {"alpha", "α", LAW_EXPONENT},
                    {"gamma", "γ", LAW_EXPONENT},
                    {"tau", "τ", LAW_EXPONENT},
                    {"beta", "β", LAW_EXPONENT},
                    {"E", "E", LAW_OFFSET}}},
    {.name = "joint_additive",
     .term_count = 5,
     .parameter_count = 9,
     .terms = {{0, {1, 0, 0, 0}}, {2, {0, 3, 0, 0}}, {4, {0, 0, 5, 0}}, {6, {0, 0, 0, 7}}, {8, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT},
                    {"alpha", "α", LAW_EXPONENT},
                    {"G", "G", LAW_COEFFICIENT},
                    {"gamma", "γ", LAW_EXPONENT},
                    {"F", "F", LAW_COEFFICIENT},
                    {"tau", "τ", LAW_EXPONENT},
                    {"B", "B", LAW_COEFFICIENT},
                    {"beta", "β", LAW_EXPONENT},
                    {"E", "E", LAW_OFFSET}}},
};

const char *law_axis_name(enum law_axis axis)
{
    static const char *const names[LAW_AXES] = {"X", "P", "T", "D"};
    return names[axis];
}

const struct law *law_find(const char *name, struct error *err)
{
    char known[256] = "";
    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++) {
        if (!strcmp(laws[i].name, name)) return &laws[i];
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", laws[i].name);
    }
    error_set(err, "no law is called \"%s\"; allowed: %s", name, known);
    return NULL;
}

static bool term_varies(const struct law_term *term, const bool varies[LAW_AXES])
{
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (term->exponent[axis] && varies[axis]) return true;
    return false;
}

static size_t copy_parameter(struct law *to, const struct law *from, size_t i)
{
    to->parameters[to->parameter_count] = from->parameters[i];
    return to->parameter_count++;
}

struct law law_restrict(const struct law *law, const bool varies[LAW_AXES])
{
    struct law out = {.name = law->name};
    for (size_t t = 0; t < law->term_count; t++) {
        const struct law_term *term = &law->terms[t];
        bool offset = law->parameters[term->coefficient].role == LAW_OFFSET;
        if (!offset && !term_varies(term, varies)) continue;
        struct law_term *kept = &out.terms[out.term_count++];
        kept->coefficient = copy_parameter(&out, law, term->coefficient);
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (term->exponent[axis] && varies[axis])
                kept->exponent[axis] = copy_parameter(&out, law, term->exponent[axis]);
    }
    return out;
}

bool law_uses(const struct law *law, enum law_axis axis)
{
    for (size_t t = 0; t < law->term_count; t++)
        if (law->terms[t].exponent[axis]) return true;
    return false;
}

static double term_log(const struct law_term *term, const double *theta, const double log_x[LAW_AXES])
{
    double value = theta[term->coefficient];
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (term->exponent[axis]) value -= theta[term->exponent[axis]] * log_x[axis];
    return value;
}

double law_log_value(const struct law *law, const double *theta, const double log_x[LAW_AXES], double *gradient)
{
    double logs[LAW_TERMS], largest = -INFINITY, sum = 0;
    for (size_t t = 0; t < law->term_count; t++) {
        logs[t] = term_log(&law->terms[t], theta, log_x);
        if (logs[t] > largest) largest = logs[t];
    }
    for (size_t t = 0; t < law->term_count; t++) {
        logs[t] = exp(logs[t] - largest);
        sum += logs[t];
    }
    if (gradient) {
        for (size_t t = 0; t < law->term_count; t++) {
            const struct law_term *term = &law->terms[t];
            double share = logs[t] / sum;
            gradient[term->coefficient] = share;
            for (size_t axis = 0; axis < LAW_AXES; axis++)
                if (term->exponent[axis]) gradient[term->exponent[axis]] = -share * log_x[axis];
        }
    }
    return largest + log(sum);
}

double law_value(const struct law *law, const double *theta, const double x[LAW_AXES])
{
    double log_x[LAW_AXES];
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        log_x[axis] = x[axis] > 0 ? log(x[axis]) : 0;
    return exp(law_log_value(law, theta, log_x, NULL));
}

double law_parameter_value(const struct law *law, const double *theta, size_t i)
{
    return law->parameters[i].role == LAW_EXPONENT ? theta[i] : exp(theta[i]);
}

void law_shift(const struct law *law, double *theta, const double shift[LAW_AXES])
{
    for (size_t t = 0; t < law->term_count; t++)
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (law->terms[t].exponent[axis])
                theta[law->terms[t].coefficient] -= theta[law->terms[t].exponent[axis]] * shift[axis];
}

void law_formula(const struct law *law, const char *x, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (size_t t = 0; t < law->term_count && used < size; t++) {
        const struct law_term *term = &law->terms[t];
        used += (size_t)snprintf(out + used, size - used, "%s%s", t ? " + " : "",
                                 law->parameters[term->coefficient].symbol);
        for (size_t axis = 0; axis < LAW_AXES && used < size; axis++)
            if (term->exponent[axis])
                used += (size_t)snprintf(out + used, size - used, "·%s^-%s",
                                         axis == LAW_X && x ? x : law_axis_name((enum law_axis)axis),
                                         law->parameters[term->exponent[axis]].symbol);
    }
}
