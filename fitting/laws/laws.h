/* The scaling laws that can be fitted: a table of names, parameters, values and analytic gradients. Pure functions.
 *
 * Every law here is a sum of terms, a term is a coefficient times powers of axes (or over a constant plus such powers),
 * and the offset E is a term without axes:
 *   single          A·D^-β + E
 *   multiplicative  A·X^-α·D^-β + E                          Zhang et al. 2024, eq. 1
 *   additive        A·X^-α + B·D^-β + E                      Hoffmann et al. 2022, approach 3; also called chinchilla
 *   rectified       B/(S + D^β) + E                          Lin et al. 2024 (arXiv 2402.02314), S there D_l
 *   joint           A·X^-α·P^-γ·T^-τ·D^-β + E                multiplicative over every axis that varies
 *   joint_additive  A·X^-α + G·P^-γ + F·T^-τ + B·D^-β + E
 * Axes are raw counts: X parameters (or, where a fit says so, pretraining tokens), P pretraining tokens, T size of the
 * parameter-efficient method (rank, length), D finetuning examples. Laws are evaluated in logarithms, so nothing
 * overflows. Beside the table stand laws that a user writes (fitting/laws/law_user.h): every function here takes them.
 */
#ifndef TUNELAW_FITTING_LAWS_LAWS_H
#define TUNELAW_FITTING_LAWS_LAWS_H

#include <stdbool.h>
#include <stddef.h>

#include "io/error.h"

enum law_axis { LAW_X = 0, LAW_P, LAW_T, LAW_D, LAW_AXES };
const char *law_axis_name(enum law_axis axis); /* "X", "P", "T", "D" */

#define LAW_PARAMETERS 16 /* room for parameters: a multiple of 8 for the optimiser */
#define LAW_TERMS 5
#define LAW_FORMULA 512 /* bytes that every formula fits */

enum law_role { LAW_COEFFICIENT = 0, LAW_EXPONENT, LAW_OFFSET, LAW_KNEE, LAW_FREE };

struct law_parameter {
    const char *name;   /* in files: "alpha" */
    const char *symbol; /* for people: "α" */
    enum law_role role; /* all but exponents and free ones are positive and fitted as logarithms */
};

struct law_term {
    size_t coefficient;        /* index of a parameter */
    size_t knee;               /* index of the parameter S of C/(S + powers); 0: C over the powers */
    size_t exponent[LAW_AXES]; /* index of a parameter; 0: the axis is not in the term (parameter 0 is a coefficient) */
};

struct user_law;
struct law {
    const char *name;
    const struct user_law *user; /* NULL, or the expression that it is, without terms; must outlive the law */
    size_t term_count, parameter_count;
    struct law_term terms[LAW_TERMS];
    struct law_parameter parameters[LAW_PARAMETERS];
};

/* The law of a name, or NULL with *err naming those that exist. */
const struct law *law_find(const char *name, struct error *err);

/* The law without the axes that are not in varies[]: an axis with one level cannot be told from the coefficient, so its
 * power goes into the coefficient, and a term that has no axis left goes into E. A user's law stays as it is. */
struct law law_restrict(const struct law *law, const bool varies[LAW_AXES]);

/* The law without its irreducible term E; a user's law stays as it is. */
struct law law_without_offset(const struct law *law);

/* Whether an axis may be 0: every term that has it has a knee; of a user's law, it is a number there. Its log is
 * -INFINITY. */
bool law_allows_zero(const struct law *law, enum law_axis axis);

bool law_uses(const struct law *law, enum law_axis axis);

/* Whether theta[i] is the logarithm of parameter i. */
bool law_is_log(const struct law *law, size_t i);

/* Whether parameter i has a say in the law's shape: an exponent, a free one. */
bool law_is_shape(const struct law *law, size_t i);

/* log L and, where gradient is not NULL, d(log L)/d(theta)[parameter_count]. theta: coefficients and offset in logs.
 * log_x: logs of the axes. */
double law_log_value(const struct law *law, const double *theta, const double log_x[LAW_AXES], double *gradient);

/* L at raw axis values. */
double law_value(const struct law *law, const double *theta, const double x[LAW_AXES]);

/* Parameter i as a person writes it: exp(theta) for coefficients and offset. */
double law_parameter_value(const struct law *law, const double *theta, size_t i);

/* Whether the origin of the axes can be moved: not of a user's law. */
bool law_can_shift(const struct law *law);

/* Move the origin of the axes: theta for log_x becomes theta for (log_x - shift). The law's values do not change. A
 * law that cannot shift stays as it is: its axes must not be centred. */
void law_shift(const struct law *law, double *theta, const double shift[LAW_AXES]);

/* "A·X^-α·D^-β + E", with `x` in the place of X where it is not NULL; of a user's law the text as it was written. */
void law_formula(const struct law *law, const char *x, char *out, size_t size);

#endif
