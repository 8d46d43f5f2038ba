/* Fitting, first box: the table of laws, their values and gradients in logarithms. Observations come from a store or a
 * table, fit.c finds the parameters. */
#include "fitting/laws/laws.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fitting/laws/law_user.h"

static const struct law laws[] = {
    {.name = "single",
     .term_count = 2,
     .parameter_count = 3,
     .terms = {{0, 0, {0, 0, 0, 1}}, {2, 0, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT}, {"beta", "β", LAW_EXPONENT}, {"E", "E", LAW_OFFSET}}},
    {.name = "multiplicative",
     .term_count = 2,
     .parameter_count = 4,
     .terms = {{0, 0, {1, 0, 0, 2}}, {3, 0, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT},
                    {"alpha", "α", LAW_EXPONENT},
                    {"beta", "β", LAW_EXPONENT},
                    {"E", "E", LAW_OFFSET}}},
    {.name = "additive",
     .term_count = 3,
     .parameter_count = 5,
     .terms = {{0, 0, {1, 0, 0, 0}}, {2, 0, {0, 0, 0, 3}}, {4, 0, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT},
                    {"alpha", "α", LAW_EXPONENT},
                    {"B", "B", LAW_COEFFICIENT},
                    {"beta", "β", LAW_EXPONENT},
                    {"E", "E", LAW_OFFSET}}},
    {.name = "joint",
     .term_count = 2,
     .parameter_count = 6,
     .terms = {{0, 0, {1, 2, 3, 4}}, {5, 0, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT},
                    {"alpha", "α", LAW_EXPONENT},
                    {"gamma", "γ", LAW_EXPONENT},
                    {"tau", "τ", LAW_EXPONENT},
                    {"beta", "β", LAW_EXPONENT},
                    {"E", "E", LAW_OFFSET}}},
    {.name = "joint_additive",
     .term_count = 5,
     .parameter_count = 9,
     .terms = {{0, 0, {1, 0, 0, 0}}, {2, 0, {0, 3, 0, 0}}, {4, 0, {0, 0, 5, 0}}, {6, 0, {0, 0, 0, 7}}, {8, 0, {0}}},
     .parameters = {{"A", "A", LAW_COEFFICIENT},
                    {"alpha", "α", LAW_EXPONENT},
                    {"G", "G", LAW_COEFFICIENT},
                    {"gamma", "γ", LAW_EXPONENT},
                    {"F", "F", LAW_COEFFICIENT},
                    {"tau", "τ", LAW_EXPONENT},
                    {"B", "B", LAW_COEFFICIENT},
                    {"beta", "β", LAW_EXPONENT},
                    {"E", "E", LAW_OFFSET}}},
    {.name = "rectified",
     .term_count = 2,
     .parameter_count = 4,
     .terms = {{0, 1, {0, 0, 0, 2}}, {3, 0, {0}}},
     .parameters =
         {{"B", "B", LAW_COEFFICIENT}, {"S", "S", LAW_KNEE}, {"beta", "β", LAW_EXPONENT}, {"E", "E", LAW_OFFSET}}},
};

const char *law_axis_name(enum law_axis axis)
{
    static const char *const names[LAW_AXES] = {"X", "P", "T", "D"};
    return names[axis];
}

const struct law *law_find(const char *name, struct error *err)
{
    char known[256] = "";
    if (!strcmp(name, "chinchilla")) name = "additive";
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
    if (law->user) return *law;
    for (size_t t = 0; t < law->term_count; t++) {
        const struct law_term *term = &law->terms[t];
        bool offset = law->parameters[term->coefficient].role == LAW_OFFSET;
        if (!offset && !term_varies(term, varies)) continue;
        struct law_term *kept = &out.terms[out.term_count++];
        kept->coefficient = copy_parameter(&out, law, term->coefficient);
        if (term->knee) kept->knee = copy_parameter(&out, law, term->knee);
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (term->exponent[axis] && varies[axis])
                kept->exponent[axis] = copy_parameter(&out, law, term->exponent[axis]);
    }
    return out;
}

struct law law_without_offset(const struct law *law)
{
    struct law out = *law; /* E is the last term and the last parameter of every law */
    if (law->user || law->parameters[law->parameter_count - 1].role != LAW_OFFSET || law->term_count < 2) return out;
    out.parameter_count--;
    out.term_count--;
    return out;
}

bool law_allows_zero(const struct law *law, enum law_axis axis)
{
    if (law->user) return user_law_allows_zero(law->user, axis);
    for (size_t t = 0; t < law->term_count; t++)
        if (law->terms[t].exponent[axis] && !law->terms[t].knee) return false;
    return true;
}

bool law_uses(const struct law *law, enum law_axis axis)
{
    if (law->user) return law->user->expression.uses[axis];
    for (size_t t = 0; t < law->term_count; t++)
        if (law->terms[t].exponent[axis]) return true;
    return false;
}

bool law_is_log(const struct law *law, size_t i)
{
    return !law_is_shape(law, i);
}

bool law_is_shape(const struct law *law, size_t i)
{
    return law->parameters[i].role == LAW_EXPONENT || law->parameters[i].role == LAW_FREE;
}

bool law_can_shift(const struct law *law)
{
    return !law->user;
}

/* log of the powers of a term, positive exponents: -INFINITY at an axis of 0 */
static double log_powers(const struct law_term *term, const double *theta, const double log_x[LAW_AXES])
{
    double value = 0;
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (term->exponent[axis]) value += theta[term->exponent[axis]] * log_x[axis];
    return value;
}

/* Log of a term; *share: how much of its denominator are the powers. */
static double term_log(const struct law_term *term, const double *theta, const double log_x[LAW_AXES], double *share)
{
    double powers = log_powers(term, theta, log_x), value = theta[term->coefficient];
    *share = 1;
    if (!term->knee) return value - powers;
    double knee = theta[term->knee], larger = fmax(knee, powers);
    double sum = exp(knee - larger) + exp(powers - larger);
    *share = exp(powers - larger) / sum;
    return value - larger - log(sum);
}

double law_log_value(const struct law *law, const double *theta, const double log_x[LAW_AXES], double *gradient)
{
    double logs[LAW_TERMS], shares[LAW_TERMS], largest = -INFINITY, sum = 0;
    if (law->user) return user_law_log_value(law->user, theta, log_x, gradient);
    for (size_t t = 0; t < law->term_count; t++) {
        logs[t] = term_log(&law->terms[t], theta, log_x, &shares[t]);
        if (logs[t] > largest) largest = logs[t];
    }
    for (size_t t = 0; t < law->term_count; t++) {
        logs[t] = exp(logs[t] - largest);
        sum += logs[t];
    }
    for (size_t t = 0; gradient && t < law->term_count; t++) {
        const struct law_term *term = &law->terms[t];
        double weight = logs[t] / sum;
        gradient[term->coefficient] = weight;
        if (term->knee) gradient[term->knee] = -weight * (1 - shares[t]);
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (term->exponent[axis])
                gradient[term->exponent[axis]] = shares[t] > 0 ? -weight * shares[t] * log_x[axis] : 0;
    }
    return largest + log(sum);
}

double law_value(const struct law *law, const double *theta, const double x[LAW_AXES])
{
    double log_x[LAW_AXES];
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        log_x[axis] = x[axis] > 0 || law_allows_zero(law, (enum law_axis)axis) ? log(x[axis]) : 0;
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (!law_uses(law, (enum law_axis)axis)) log_x[axis] = 0;
    return exp(law_log_value(law, theta, log_x, NULL));
}

double law_parameter_value(const struct law *law, const double *theta, size_t i)
{
    return law_is_log(law, i) ? exp(theta[i]) : theta[i];
}

void law_shift(const struct law *law, double *theta, const double shift[LAW_AXES])
{
    for (size_t t = 0; t < law->term_count; t++)
        for (size_t axis = 0; axis < LAW_AXES; axis++) {
            const struct law_term *term = &law->terms[t];
            if (!term->exponent[axis]) continue;
            theta[term->coefficient] -= theta[term->exponent[axis]] * shift[axis];
            if (term->knee) theta[term->knee] -= theta[term->exponent[axis]] * shift[axis];
        }
}

void law_formula(const struct law *law, const char *x, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    if (law->user) snprintf(out, size, "%s", law->user->expression.text);
    for (size_t t = 0; t < law->term_count && used < size; t++) {
        const struct law_term *term = &law->terms[t];
        const char *knee = term->knee ? law->parameters[term->knee].symbol : "";
        used +=
            (size_t)snprintf(out + used, size - used, "%s%s%s%s%s", t ? " + " : "",
                             law->parameters[term->coefficient].symbol, *knee ? "/(" : "", knee, *knee ? " + " : "");
        const char *between = *knee ? "" : "·";
        for (size_t axis = 0; axis < LAW_AXES && used < size; axis++) {
            if (!term->exponent[axis]) continue;
            used += (size_t)snprintf(out + used, size - used, "%s%s^%s%s", between,
                                     axis == LAW_X && x ? x : law_axis_name((enum law_axis)axis), *knee ? "" : "-",
                                     law->parameters[term->exponent[axis]].symbol);
            between = "·";
        }
        if (*knee && used < size) used += (size_t)snprintf(out + used, size - used, ")");
    }
}
