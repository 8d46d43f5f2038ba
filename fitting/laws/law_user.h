/* A law that a user writes as an expression (fitting/laws/expression.h): a struct law like those of the table. Pure.
 *
 * What a parameter is follows from where it stands: in an exponent (or inside exp) it is fitted as it is, everywhere
 * else it is positive and fitted as a logarithm; user_law_mark says otherwise. The starts of its fits follow, too, but
 * where user_law_start names them. Such a law has no origin of its axes that could be moved: fits do not centre it. */
#ifndef TUNELAW_FITTING_LAWS_LAW_USER_H
#define TUNELAW_FITTING_LAWS_LAW_USER_H

#include "fitting/laws/expression.h"

#define USER_LAW_NAME 47
#define USER_LAW_STARTS 32 /* values of one parameter */

/* Where a parameter stands. */
enum user_place {
    USER_EXPONENT = 0, /* in an exponent, inside exp */
    USER_OFFSET,       /* a term of its own */
    USER_COEFFICIENT,  /* the law is linear in it */
    USER_OTHER
};

struct user_law {
    struct law law; /* its names and .user point into this struct */
    char name[USER_LAW_NAME + 1];
    struct expression expression;
    enum user_place places[EXPRESSION_PARAMETERS];
    bool marked[EXPRESSION_PARAMETERS]; /* by user_law_mark */
    double starts[EXPRESSION_PARAMETERS][USER_LAW_STARTS];
    size_t start_count[EXPRESSION_PARAMETERS]; /* 0: chosen by the place */
};

/* NULL with *err: the name is one of the table's or too long, the expression cannot be read, out of memory. */
struct user_law *user_law_create(const char *name, const char *expression, struct error *err);
void user_law_destroy(struct user_law *law);

/* Make a parameter positive (fitted as a logarithm) or free, once. -1 with *err naming the parameters that there are.
 */
int user_law_mark(struct user_law *law, const char *parameter, bool positive, struct error *err);

/* Start a parameter at each of values[count] (1 .. USER_LAW_STARTS, finite, above 0 where it is positive), as they are
 * written. Mark first; once. */
int user_law_start(struct user_law *law, const char *parameter, const double *values, size_t count, struct error *err);

/* Whether the expression and its slopes are numbers where an axis is 0, whatever the signs of the exponents: the axis
 * stands in a knee, S + D^beta, or in something like it. */
bool user_law_allows_zero(const struct user_law *law, enum law_axis axis);

/* As law_log_value. Where the expression is not positive the logarithm goes on as a straight line, where it is not a
 * number the loss is absurdly high: an optimiser comes back from both. */
double user_law_log_value(const struct user_law *law, const double *theta, const double log_x[LAW_AXES],
                          double *gradient);

#endif
