/* Fitting, beside the table of laws: a law's text becomes a list of nodes, operands first; values run forward over it,
 * the gradient backward (reverse-mode differentiation). */
#include "fitting/laws/expression.h"

#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    const char *text, *at;
    size_t depth;
    struct expression *out;
    struct error *err;
};

#define FAILED SIZE_MAX
static const char what_begins[] = "allowed: a number, a parameter, N or X, P, T, D, exp, log, sqrt, \"(\"";

static size_t fail(struct parser *parser, const char *at, const char *what)
{
    error_set(parser->err, "character %zu: %s", (size_t)(at - parser->text) + 1, what);
    return FAILED;
}

static char peek(struct parser *parser)
{
    while (*parser->at == ' ' || *parser->at == '\t')
        parser->at++;
    return *parser->at;
}

static double node_value(const struct expression_node *node, double a, double b)
{
    switch (node->kind) {
    case EXPRESSION_ADD:
        return a + b;
    case EXPRESSION_SUBTRACT:
        return a - b;
    case EXPRESSION_MULTIPLY:
        return a * b;
    case EXPRESSION_DIVIDE:
        return a / b;
    case EXPRESSION_POWER:
        return pow(a, b);
    case EXPRESSION_NEGATE:
        return -a;
    case EXPRESSION_EXP:
        return exp(a);
    case EXPRESSION_LOG:
        return log(a);
    case EXPRESSION_SQRT:
        return sqrt(a);
    default:
        return node->number;
    }
}

static size_t add(struct parser *parser, const char *at, struct expression_node node)
{
    struct expression *out = parser->out;
    char text[96];
    if (out->node_count == EXPRESSION_NODES) {
        snprintf(text, sizeof text, "too long; allowed: %d numbers, names and operators", EXPRESSION_NODES);
        return fail(parser, at, text);
    }
    out->nodes[out->node_count] = node;
    return out->node_count++;
}

/* Operands of numbers alone become a number. */
static size_t combine(struct parser *parser, const char *at, enum expression_kind kind, size_t first, size_t second)
{
    struct expression_node *nodes = parser->out->nodes;
    if (first == FAILED || second == FAILED) return FAILED;
    struct expression_node node = {.kind = kind, .first = first, .second = second};
    node.varies = nodes[first].varies || nodes[second].varies;
    if (nodes[first].kind != EXPRESSION_NUMBER || nodes[second].kind != EXPRESSION_NUMBER) return add(parser, at, node);
    nodes[first].number = node_value(&node, nodes[first].number, nodes[second].number);
    if (!isfinite(nodes[first].number)) return fail(parser, at, "not a finite number");
    parser->out->node_count = first + 1;
    return first;
}

static size_t parse_sum(struct parser *parser);

static size_t parse_number(struct parser *parser)
{
    const char *from = parser->at, *c = from;
    char digits[64], *end;
    c += strspn(c, "0123456789");
    if (*c == '.') c += 1 + strspn(c + 1, "0123456789");
    if ((*c == 'e' || *c == 'E') && isdigit((unsigned char)c[1 + (c[1] == '-' || c[1] == '+')])) {
        c += 1 + (c[1] == '-' || c[1] == '+');
        c += strspn(c, "0123456789");
    }
    size_t length = (size_t)(c - from);
    if (length >= sizeof digits) return fail(parser, from, "a number of more than 63 characters");
    memcpy(digits, from, length);
    digits[length] = 0;
    double value = strtod(digits, &end);
    if (end == digits || *end || !isfinite(value)) return fail(parser, from, "not a finite number");
    parser->at = c;
    return add(parser, from, (struct expression_node){.kind = EXPRESSION_NUMBER, .number = value});
}

/* N and X, P, T, D: index of the axis, or LAW_AXES. */
static size_t axis_of(const char *name)
{
    static const char letters[LAW_AXES + 1] = "XPTD";
    if (!name[0] || name[1]) return LAW_AXES;
    const char *found = strchr(letters, name[0] == 'N' ? 'X' : name[0]);
    return found ? (size_t)(found - letters) : LAW_AXES;
}

static size_t parse_axis(struct parser *parser, const char *from, char letter, size_t axis)
{
    struct expression *out = parser->out;
    if (axis == LAW_X && out->uses[LAW_X] && out->says_n != (letter == 'N'))
        return fail(parser, from, "N and X are the same axis; allowed: one of the two");
    if (axis == LAW_X) out->says_n = letter == 'N';
    out->uses[axis] = true;
    return add(parser, from, (struct expression_node){.kind = EXPRESSION_AXIS, .first = axis});
}

static size_t parse_parameter(struct parser *parser, const char *from, const char *name)
{
    static const char *const refused[] = {"L", "nan", "inf", "infinity"};
    struct expression *out = parser->out;
    char text[96];
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (strcmp(name, refused[i])) continue;
        snprintf(text, sizeof text, "%s cannot be a parameter%s", name, i ? "" : ": it is the loss that is fitted");
        return fail(parser, from, text);
    }
    size_t i = 0;
    while (i < out->parameter_count && strcmp(out->parameters[i], name))
        i++;
    if (i == EXPRESSION_PARAMETERS) {
        snprintf(text, sizeof text, "too many parameters; allowed: %d", EXPRESSION_PARAMETERS);
        return fail(parser, from, text);
    }
    if (i == out->parameter_count) snprintf(out->parameters[out->parameter_count++], EXPRESSION_NAME + 1, "%s", name);
    return add(parser, from, (struct expression_node){.kind = EXPRESSION_PARAMETER, .first = i, .varies = true});
}

static size_t close_parenthesis(struct parser *parser, size_t inside)
{
    if (inside == FAILED) return FAILED;
    if (peek(parser) != ')')
        return fail(parser, parser->at, "\")\" is missing; allowed: an operator + - * / ^, or \")\"");
    parser->at++;
    return inside;
}

static size_t parse_call(struct parser *parser, const char *from, const char *name)
{
    static const struct {
        const char *name;
        enum expression_kind kind;
    } functions[] = {{"exp", EXPRESSION_EXP}, {"log", EXPRESSION_LOG}, {"sqrt", EXPRESSION_SQRT}};
    char text[96];
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (strcmp(name, functions[i].name)) continue;
        parser->at++;
        size_t inside = close_parenthesis(parser, parse_sum(parser));
        return combine(parser, from, functions[i].kind, inside, inside);
    }
    snprintf(text, sizeof text, "no function is called %s; allowed: exp, log, sqrt", name);
    return fail(parser, from, text);
}

static size_t parse_name(struct parser *parser)
{
    const char *from = parser->at;
    char name[EXPRESSION_NAME + 1], text[96];
    size_t length = 0;
    while (isalnum((unsigned char)from[length]) || from[length] == '_')
        length++;
    if (length > EXPRESSION_NAME) {
        snprintf(text, sizeof text, "a name of %zu characters; allowed: up to %d", length, EXPRESSION_NAME);
        return fail(parser, from, text);
    }
    memcpy(name, from, length);
    name[length] = 0;
    parser->at += length;
    if (peek(parser) == '(') return parse_call(parser, from, name);
    if (!strcmp(name, "exp") || !strcmp(name, "log") || !strcmp(name, "sqrt"))
        return fail(parser, parser->at, "a function without \"(\"");
    size_t axis = axis_of(name);
    return axis < LAW_AXES ? parse_axis(parser, from, name[0], axis) : parse_parameter(parser, from, name);
}

static size_t parse_atom(struct parser *parser)
{
    char c = peek(parser), text[160];
    if (c == '(') {
        parser->at++;
        return close_parenthesis(parser, parse_sum(parser));
    }
    if (isdigit((unsigned char)c) || c == '.') return parse_number(parser);
    if (isalpha((unsigned char)c)) return parse_name(parser);
    if (!c)
        snprintf(text, sizeof text, "something is missing at the end; %s", what_begins);
    else if (isprint((unsigned char)c))
        snprintf(text, sizeof text, "'%c' cannot stand here; %s", c, what_begins);
    else
        snprintf(text, sizeof text, "byte %u cannot stand here; %s", (unsigned)(unsigned char)c, what_begins);
    return fail(parser, parser->at, text);
}

/* Every way into the grammar's depth leads through here. */
static size_t parse_sign(struct parser *parser)
{
    char c = peek(parser), text[96];
    const char *from = parser->at;
    if (parser->depth == EXPRESSION_DEPTH) {
        snprintf(text, sizeof text, "too deep; allowed: %d levels", EXPRESSION_DEPTH);
        return fail(parser, from, text);
    }
    parser->depth++;
    size_t node;
    if (c == '-') { /* no '+': "A * + E" has something missing */
        parser->at++;
        node = parse_sign(parser);
        node = combine(parser, from, EXPRESSION_NEGATE, node, node);
    } else {
        node = parse_atom(parser);
        if (node != FAILED && peek(parser) == '^') {
            from = parser->at++;
            node = combine(parser, from, EXPRESSION_POWER, node, parse_sign(parser));
        }
    }
    parser->depth--;
    return node;
}

static size_t parse_product(struct parser *parser)
{
    size_t node = parse_sign(parser);
    for (char c; node != FAILED && ((c = peek(parser)) == '*' || c == '/');) {
        const char *from = parser->at++;
        node = combine(parser, from, c == '*' ? EXPRESSION_MULTIPLY : EXPRESSION_DIVIDE, node, parse_sign(parser));
    }
    return node;
}

static size_t parse_sum(struct parser *parser)
{
    size_t node = parse_product(parser);
    for (char c; node != FAILED && ((c = peek(parser)) == '+' || c == '-');) {
        const char *from = parser->at++;
        node = combine(parser, from, c == '+' ? EXPRESSION_ADD : EXPRESSION_SUBTRACT, node, parse_product(parser));
    }
    return node;
}

int expression_parse(const char *text, struct expression *out, struct error *err)
{
    struct parser parser = {.text = text, .at = text, .out = out, .err = err};
    memset(out, 0, sizeof *out);
    if (strlen(text) > EXPRESSION_TEXT)
        return error_set(err, "an expression of %zu bytes; allowed: up to %d", strlen(text), EXPRESSION_TEXT);
    snprintf(out->text, sizeof out->text, "%s", text);
    if (parse_sum(&parser) == FAILED) return -1;
    if (peek(&parser)) {
        bool name = isalnum((unsigned char)*parser.at) || *parser.at == '(';
        fail(&parser, parser.at,
             name ? "an operator is missing; allowed: + - * / ^"
                  : "an operator is expected; allowed: + - * / ^, or the end");
        return -1;
    }
    if (!out->parameter_count) return error_set(err, "the expression has no parameter; allowed: one or more");
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (out->uses[axis]) return 0;
    return error_set(err, "the expression uses no axis; allowed: N or X, P, T, D");
}

static double power(const struct expression_node *nodes, const struct expression_node *node, const double *values,
                    const double log_x[LAW_AXES])
{
    const struct expression_node *base = &nodes[node->first];
    if (base->kind == EXPRESSION_AXIS) return exp(values[node->second] * log_x[base->first]);
    return pow(values[node->first], values[node->second]);
}

static double base_log(const struct expression_node *nodes, const struct expression_node *node, double base,
                       const double log_x[LAW_AXES])
{
    return nodes[node->first].kind == EXPRESSION_AXIS ? log_x[nodes[node->first].first] : log(base);
}

/* b^y by y. Where b is 0 and the power is 0, too, or beyond every number in what does not feel it, it is the limit: 0.
 */
static double slope_of_exponent(double slope, double power, double log_base)
{
    if (log_base == -INFINITY && (power == 0 || slope == 0)) return 0;
    return slope * power * log_base;
}

/* Send the slope of a node to its operands; what depends on no parameter gets none, so that no 0 · inf arises there. */
static void backward(const struct expression_node *nodes, size_t i, const double *values, const double log_x[LAW_AXES],
                     double *slopes)
{
    const struct expression_node *node = &nodes[i];
    double slope = slopes[i], a = values[node->first], b = values[node->second], to_a = 0, to_b = 0;
    switch (node->kind) {
    case EXPRESSION_ADD:
        to_a = to_b = slope;
        break;
    case EXPRESSION_SUBTRACT:
        to_a = slope;
        to_b = -slope;
        break;
    case EXPRESSION_MULTIPLY:
        to_a = slope * b;
        to_b = slope * a;
        break;
    case EXPRESSION_DIVIDE:
        to_a = slope / b;
        to_b = -slope * values[i] / b;
        break;
    case EXPRESSION_POWER:
        to_a = nodes[node->first].varies ? slope * b * pow(a, b - 1) : 0;
        if (nodes[node->second].varies) to_b = slope_of_exponent(slope, values[i], base_log(nodes, node, a, log_x));
        break;
    case EXPRESSION_NEGATE:
        to_a = -slope;
        break;
    case EXPRESSION_EXP:
        to_a = slope * values[i];
        break;
    case EXPRESSION_LOG:
        to_a = slope / a;
        break;
    case EXPRESSION_SQRT:
        to_a = slope / (2 * values[i]);
        break;
    default:
        return;
    }
    if (nodes[node->first].varies) slopes[node->first] += to_a;
    if (nodes[node->second].varies) slopes[node->second] += to_b; /* a function has its operand twice, to_b is 0 */
}

double expression_value(const struct expression *expression, const double *parameters, const double log_x[LAW_AXES],
                        double *gradient, double *nodes_out)
{
    const struct expression_node *nodes = expression->nodes;
    size_t count = expression->node_count;
    double values[EXPRESSION_NODES], slopes[EXPRESSION_NODES];
    for (size_t i = 0; i < count; i++) {
        const struct expression_node *node = &nodes[i];
        if (node->kind == EXPRESSION_PARAMETER)
            values[i] = parameters[node->first];
        else if (node->kind == EXPRESSION_AXIS)
            values[i] = exp(log_x[node->first]);
        else if (node->kind == EXPRESSION_POWER)
            values[i] = power(nodes, node, values, log_x);
        else if (node->kind == EXPRESSION_NUMBER)
            values[i] = node->number;
        else
            values[i] = node_value(node, values[node->first], values[node->second]);
    }
    if (nodes_out) memcpy(nodes_out, values, count * sizeof *values);
    if (!gradient) return values[count - 1];
    memset(slopes, 0, count * sizeof *slopes);
    memset(gradient, 0, expression->parameter_count * sizeof *gradient);
    slopes[count - 1] = 1;
    for (size_t i = count; i-- > 0;) {
        if (nodes[i].kind == EXPRESSION_PARAMETER)
            gradient[nodes[i].first] += slopes[i];
        else if (nodes[i].varies)
            backward(nodes, i, values, log_x, slopes);
    }
    return values[count - 1];
}
