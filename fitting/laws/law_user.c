/* Fitting, beside the table of laws: a user's expression becomes a law; what its parameters are is read from where they
 * stand in it. */
#include "fitting/laws/law_user.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLOOR 1e-9   /* losses below it: the logarithm goes on as a straight line */
#define ABSURD 100.0 /* log of a loss that is not a number */

enum { IN_EXPONENT = 1, LINEAR = 2, IN_SUM = 4 };

static unsigned context_of(const struct expression_node *node, bool second, unsigned above)
{
    unsigned context = above & IN_EXPONENT;
    switch (node->kind) {
    case EXPRESSION_ADD:
        return above;
    case EXPRESSION_SUBTRACT:
        return second ? above & ~(unsigned)IN_SUM : above;
    case EXPRESSION_MULTIPLY:
    case EXPRESSION_NEGATE:
        return above & ~(unsigned)IN_SUM;
    case EXPRESSION_DIVIDE:
        return second ? context : above & ~(unsigned)IN_SUM;
    case EXPRESSION_POWER:
        return second ? IN_EXPONENT : context;
    case EXPRESSION_EXP:
        return IN_EXPONENT;
    default:
        return context;
    }
}

/* From the whole down to each parameter: operators come after their operands. */
static void find_places(struct user_law *user)
{
    const struct expression *expression = &user->expression;
    unsigned context[EXPRESSION_NODES] = {0}, of_parameter[EXPRESSION_PARAMETERS] = {0};
    size_t seen[EXPRESSION_PARAMETERS] = {0};
    context[expression->node_count - 1] = LINEAR | IN_SUM;
    for (size_t i = expression->node_count; i-- > 0;) {
        const struct expression_node *node = &expression->nodes[i];
        if (node->kind == EXPRESSION_PARAMETER) {
            unsigned *known = &of_parameter[node->first];
            *known = seen[node->first]++ ? (*known | context[i]) & IN_EXPONENT : context[i];
        } else if (node->kind != EXPRESSION_NUMBER && node->kind != EXPRESSION_AXIS) {
            context[node->first] = context_of(node, false, context[i]);
            if (node->second != node->first) context[node->second] = context_of(node, true, context[i]);
        }
    }
    for (size_t p = 0; p < expression->parameter_count; p++)
        user->places[p] = of_parameter[p] & IN_EXPONENT ? USER_EXPONENT
                          : of_parameter[p] & IN_SUM    ? USER_OFFSET
                          : of_parameter[p] & LINEAR    ? USER_COEFFICIENT
                                                        : USER_OTHER;
}

static enum law_role role_of(enum user_place place, bool positive)
{
    if (!positive) return place == USER_EXPONENT ? LAW_EXPONENT : LAW_FREE;
    return place == USER_OFFSET ? LAW_OFFSET : place == USER_COEFFICIENT ? LAW_COEFFICIENT : LAW_KNEE;
}

static int check_name(const char *name, struct error *err)
{
    if (!*name || strlen(name) > USER_LAW_NAME)
        return error_set(err, "a name of %zu bytes; allowed: 1..%d", strlen(name), USER_LAW_NAME);
    if (law_find(name, NULL)) return error_set(err, "\"%s\" is a law of the table; allowed: another name", name);
    return 0;
}

struct user_law *user_law_create(const char *name, const char *expression, struct error *err)
{
    if (check_name(name, err)) return NULL;
    struct user_law *user = calloc(1, sizeof *user);
    if (!user) {
        error_set(err, "out of memory for the law %s", name);
        return NULL;
    }
    if (expression_parse(expression, &user->expression, err)) {
        free(user);
        return NULL;
    }
    snprintf(user->name, sizeof user->name, "%s", name);
    find_places(user);
    user->law = (struct law){.name = user->name, .user = user, .parameter_count = user->expression.parameter_count};
    for (size_t p = 0; p < user->law.parameter_count; p++) {
        const char *parameter = user->expression.parameters[p];
        user->law.parameters[p] =
            (struct law_parameter){parameter, parameter, role_of(user->places[p], user->places[p] != USER_EXPONENT)};
    }
    return user;
}

void user_law_destroy(struct user_law *law)
{
    free(law);
}

static size_t find_parameter(const struct user_law *law, const char *parameter, struct error *err)
{
    char known[EXPRESSION_TEXT] = "";
    for (size_t p = 0; p < law->law.parameter_count; p++) {
        size_t used = strlen(known);
        if (!strcmp(law->law.parameters[p].name, parameter)) return p;
        snprintf(known + used, sizeof known - used, "%s%s", p ? ", " : "", law->law.parameters[p].name);
    }
    error_set(err, "the expression has no parameter \"%.40s\"; allowed: %s", parameter, known);
    return SIZE_MAX;
}

int user_law_mark(struct user_law *law, const char *parameter, bool positive, struct error *err)
{
    size_t p = find_parameter(law, parameter, err);
    if (p == SIZE_MAX) return -1;
    if (law->marked[p]) return error_set(err, "%s is named twice; allowed: either positive or free", parameter);
    law->marked[p] = true;
    law->law.parameters[p].role = role_of(law->places[p], positive);
    return 0;
}

int user_law_start(struct user_law *law, const char *parameter, const double *values, size_t count, struct error *err)
{
    size_t p = find_parameter(law, parameter, err);
    if (p == SIZE_MAX) return -1;
    if (!count || count > USER_LAW_STARTS)
        return error_set(err, "%zu starts of %s; allowed: 1..%d", count, parameter, USER_LAW_STARTS);
    if (law->start_count[p]) return error_set(err, "%s is named twice; allowed: once, with all its values", parameter);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]) || (law_is_log(&law->law, p) && values[i] <= 0))
            return error_set(err, "a start of %s at %g; allowed: %s", parameter, values[i],
                             law_is_log(&law->law, p) ? "above 0, as it is positive" : "finite numbers");
    memcpy(law->starts[p], values, count * sizeof *values);
    law->start_count[p] = count;
    return 0;
}

/* At parameters of which no sum or difference is 0; exponents of one sign, but for the one at `other`. */
static bool is_number_at(const struct user_law *law, const double log_x[LAW_AXES], double sign, size_t other)
{
    double parameters[LAW_PARAMETERS], gradient[LAW_PARAMETERS];
    bool number = true;
    for (size_t p = 0; p < law->law.parameter_count; p++) {
        parameters[p] = 0.3 + 0.1 * (double)p + 0.01 * (double)(p * p);
        if (law->law.parameters[p].role == LAW_EXPONENT) parameters[p] *= p == other ? -sign : sign;
    }
    number = isfinite(expression_value(&law->expression, parameters, log_x, gradient, NULL));
    for (size_t p = 0; p < law->law.parameter_count; p++)
        number = number && isfinite(gradient[p]);
    return number;
}

bool user_law_allows_zero(const struct user_law *law, enum law_axis axis)
{
    double log_x[LAW_AXES] = {log(1e5), log(1e6), log(8), log(1e3)};
    bool allows = true;
    log_x[axis] = -INFINITY;
    for (size_t other = 0; other <= law->law.parameter_count; other++) /* the last: none */
        allows = allows && is_number_at(law, log_x, 1, other) && is_number_at(law, log_x, -1, other);
    return allows;
}

double user_law_log_value(const struct user_law *law, const double *theta, const double log_x[LAW_AXES],
                          double *gradient)
{
    size_t n = law->law.parameter_count;
    double parameters[LAW_PARAMETERS] = {0};
    for (size_t p = 0; p < n; p++)
        parameters[p] = law_is_log(&law->law, p) ? exp(theta[p]) : theta[p];
    double value = expression_value(&law->expression, parameters, log_x, gradient, NULL);
    bool number = isfinite(value);
    double slope = number ? 1 / fmax(value, FLOOR) : 0; /* of the logarithm */
    for (size_t p = 0; gradient && p < n; p++) {
        double by_theta = gradient[p] * slope * (law_is_log(&law->law, p) ? parameters[p] : 1);
        gradient[p] = number && isfinite(by_theta) ? by_theta : 0;
    }
    if (!number) return ABSURD;
    return value > FLOOR ? log(value) : log(FLOOR) + (value - FLOOR) / FLOOR;
}
