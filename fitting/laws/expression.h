/* Expressions over parameters and the axes of a law: text in, value and gradient out. Pure; nothing outside the grammar
 * can be said, and every text gives an expression or one line of error.
 *
 *   sum     = product { ("+" | "-") product }
 *   product = sign { ("*" | "/") sign }
 *   sign    = [ "-" | "+" ] sign | power
 *   power   = atom [ "^" sign ]                    right to left: -a^b is -(a^b), a^-b^c is a^(-(b^c))
 *   atom    = number | name | function "(" sum ")" | "(" sum ")"
 *
 * Numbers are decimal ("2", "0.5", "1e-3"), functions are exp, log (natural) and sqrt. N or X, P, T and D are the axes;
 * every other name is a parameter: a letter, then letters, digits and '_'. */
#ifndef TUNELAW_FITTING_LAWS_EXPRESSION_H
#define TUNELAW_FITTING_LAWS_EXPRESSION_H

#include "fitting/laws/laws.h"

#define EXPRESSION_TEXT 400  /* longest text, in bytes */
#define EXPRESSION_NODES 192 /* numbers, names and operators */
#define EXPRESSION_DEPTH 48  /* of parentheses, signs and powers inside each other */
#define EXPRESSION_NAME 24   /* longest name of a parameter */
#define EXPRESSION_PARAMETERS LAW_PARAMETERS

enum expression_kind {
    EXPRESSION_NUMBER = 0,
    EXPRESSION_PARAMETER,
    EXPRESSION_AXIS,
    EXPRESSION_ADD,
    EXPRESSION_SUBTRACT,
    EXPRESSION_MULTIPLY,
    EXPRESSION_DIVIDE,
    EXPRESSION_POWER,
    EXPRESSION_NEGATE,
    EXPRESSION_EXP,
    EXPRESSION_LOG,
    EXPRESSION_SQRT
};

/* Operands come before their operator; the last node is the whole. */
struct expression_node {
    enum expression_kind kind;
    size_t first, second; /* operands; of a parameter and an axis `first` is which */
    double number;
    bool varies; /* depends on a parameter */
};

struct expression {
    char text[EXPRESSION_TEXT + 1];
    struct expression_node nodes[EXPRESSION_NODES];
    size_t node_count;
    char parameters[EXPRESSION_PARAMETERS][EXPRESSION_NAME + 1]; /* in order of appearance */
    size_t parameter_count;
    bool uses[LAW_AXES];
    bool says_n; /* the size axis is called N, not X */
};

/* 0, or -1 with *err: "character 12: ...; allowed: ...". */
int expression_parse(const char *text, struct expression *out, struct error *err);

/* Value at parameters[parameter_count] (as written, not as logarithms) and axes with these logs; gradient by each
 * parameter where it is not NULL; value of every node where `nodes` is not NULL. NaN and infinities where the
 * arithmetic gives them. */
double expression_value(const struct expression *expression, const double *parameters, const double log_x[LAW_AXES],
                        double *gradient, double *nodes);

#endif
