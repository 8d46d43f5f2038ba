/* `tunelaw plan --identify`: what a grid will tell of a law, as people read it and as programs do. */
#include <math.h>

#include "orchestrator/plan/plan_identify_parts.h"

static const char *const axis_keys[LAW_AXES] = {"parameters", "pretrain_tokens", "pet_size", "examples"};

void identified_print(const struct identified *identified, bool several_tasks, FILE *out)
{
    const struct law *law = &identified->law;
    char formula[LAW_FORMULA];
    law_formula(law, "N", formula, sizeof formula);
    fprintf(out, "\n%s%s%s", several_tasks ? identified->task : "", several_tasks ? ", " : "", identified->method);
    if (law->user) fprintf(out, ", %s", law->name);
    fprintf(out, ": L = %s, %zu points, parameters %s\n", formula, identified->points,
            identified->fitted ? "of the earlier fit" : "guessed");
    if (identified->cells <= law->parameter_count)
        fprintf(out, "  `fit` will refuse it: %zu different cells; needed: at least %zu\n", identified->cells,
                law->parameter_count + 1);
    for (size_t i = 0; i < law->parameter_count; i++) {
        double value = law_parameter_value(law, identified->theta, i), error = identified->errors.error[i];
        fprintf(out, "  %s ", law->parameters[i].symbol);
        if (!identified->errors.identified[i])
            fprintf(out, "not identified by this grid\n");
        else if (law_is_log(law, i))
            fprintf(out, "%.4g, expected standard error a factor of %.3g\n", value, exp(error));
        else
            fprintf(out, "%.4g, expected standard error %.2g\n", value, error);
    }
    if (identified->more_count) fprintf(out, "  points that would add most per second of training:\n");
    for (size_t i = 0; i < identified->more_count; i++) {
        const struct preflight_point *point = &identified->more[i];
        fprintf(out, "    N %.0f, P %.0f, T %.0f, D %.0f: %.3g s, gain %.3g a second\n", point->x[LAW_X],
                point->x[LAW_P], point->x[LAW_T], point->x[LAW_D], point->seconds, point->gain);
    }
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *parameters_json(const struct identified *identified)
{
    const struct law *law = &identified->law;
    json_t *out = json_object();
    for (size_t i = 0; i < law->parameter_count; i++) {
        bool known = identified->errors.identified[i];
        json_object_set_new(out, law->parameters[i].name,
                            json_pack("{s:o, s:b, s:b, s:o}", "value",
                                      number(law_parameter_value(law, identified->theta, i)), "identified", (int)known,
                                      "log_scale", (int)law_is_log(law, i), "standard_error",
                                      known ? number(identified->errors.error[i]) : json_null()));
    }
    return out;
}

json_t *identified_json(const struct identified *identified)
{
    char formula[LAW_FORMULA];
    json_t *more = json_array();
    law_formula(&identified->law, "N", formula, sizeof formula);
    for (size_t i = 0; i < identified->more_count; i++) {
        const struct preflight_point *point = &identified->more[i];
        json_t *entry =
            json_pack("{s:o, s:o}", "seconds", number(point->seconds), "gain_per_second", number(point->gain));
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            json_object_set_new(entry, axis_keys[axis], number(point->x[axis]));
        json_array_append_new(more, entry);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:o, s:o}", "task", identified->task, "method",
                     identified->method, "law", identified->law.name, "formula", formula, "points",
                     (json_int_t)identified->points, "cells", (json_int_t)identified->cells, "parameters_are",
                     identified->fitted ? "fitted" : "guessed", "parameters", parameters_json(identified),
                     "points_that_help_most", more);
}
