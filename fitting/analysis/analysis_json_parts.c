/* Fitting, as a program reads it: what is made of the fits together, and what a reader must know. */
#include <jansson.h>
#include <math.h>
#include <stdint.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_json.h"

json_t *as_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *as_text(const char *bytes)
{
    json_t *value = json_string(bytes);
    return value ? value : json_string("(not UTF-8)");
}

json_t *as_span(const struct span *span)
{
    json_t *out = json_object();
    json_object_set_new(out, "low", as_number(span->low));
    json_object_set_new(out, "high", as_number(span->high));
    json_object_set_new(out, "low_open", json_boolean(span->low_open));
    json_object_set_new(out, "high_open", json_boolean(span->high_open));
    return out;
}

json_t *as_heldout(const struct heldout *heldout)
{
    static const char *const kinds[] = {"none", "cells", "levels"};
    json_t *out = json_object();
    json_object_set_new(out, "kind", json_string(kinds[heldout->kind]));
    if (heldout->kind == HELDOUT_NONE) return out;
    json_object_set_new(out, "points", json_integer((json_int_t)heldout->points));
    json_object_set_new(out, "folds", json_integer((json_int_t)heldout->folds));
    if (heldout->kind == HELDOUT_LEVELS)
        json_object_set_new(out, "exponents_identified", json_boolean(!heldout->guessed));
    bool beyond;
    heldout_told(heldout, &beyond);
    json_object_set_new(out, "extrapolates", json_boolean(!beyond));
    json_object_set_new(out, "mean_absolute_deviation", as_number(heldout->error));
    json_object_set_new(out, "constant_mean_absolute_deviation", as_number(heldout->constant_error));
    return out;
}

static json_t *value_between(double value, double low, double high)
{
    json_t *out = json_object();
    json_object_set_new(out, "value", as_number(value));
    json_object_set_new(out, "low", as_number(low));
    json_object_set_new(out, "high", as_number(high));
    return out;
}

static json_t *staged_number(const struct staged_parameter *parameter)
{
    json_t *out = value_between(parameter->value, parameter->low, parameter->high);
    if (isnan(parameter->value)) return out; /* an axis that is not there */
    json_object_set_new(out, "identified", json_boolean(parameter->identified));
    if (!parameter->identified) json_object_set_new(out, "reason", json_string(parameter->reason));
    return out;
}

json_t *analysis_json_staged(const struct analysis *analysis)
{
    json_t *out = json_array();
    for (size_t i = 0; i < analysis->staged_count; i++) {
        const struct analysis_staged *entry = &analysis->staged[i];
        json_t *row = json_object();
        json_object_set_new(row, "task", as_text(entry->task));
        json_object_set_new(row, "method", as_text(entry->method));
        json_object_set_new(row, "pet_size", as_number(entry->pet_size));
        json_object_set_new(row, "fitted", json_boolean(entry->fitted));
        if (!entry->fitted) json_object_set_new(row, "why", as_text(entry->why));
        for (size_t k = 0; entry->fitted && k < STAGED_AXES; k++) {
            json_t *axis = json_object();
            json_object_set_new(axis, "points", json_integer((json_int_t)entry->staged.points[k]));
            json_object_set_new(axis, "A", staged_number(&entry->staged.a[k]));
            json_object_set_new(axis, "alpha", staged_number(&entry->staged.alpha[k]));
            json_object_set_new(row, staged_axis_name((enum staged_axis)k), axis);
        }
        if (entry->fitted) json_object_set_new(row, "beta", staged_number(&entry->staged.beta));
        if (entry->fitted) json_object_set_new(row, "E", staged_number(&entry->staged.offset));
        json_array_append_new(out, row);
    }
    return out;
}

json_t *analysis_json_crossings(const struct analysis *analysis)
{
    json_t *out = json_array();
    for (size_t i = 0; i < analysis->crossing_count; i++) {
        const struct analysis_crossing *crossing = &analysis->crossings[i];
        json_t *row = json_object(), *roots = json_array();
        json_object_set_new(row, "first", as_text(analysis->fits[crossing->first].group));
        json_object_set_new(row, "second", as_text(analysis->fits[crossing->second].group));
        json_object_set_new(row, "parameters", as_number(crossing->parameters));
        json_object_set_new(row, "searched_from", as_number(crossing->range[0]));
        json_object_set_new(row, "searched_to", as_number(crossing->range[1]));
        for (size_t k = 0; k < crossing->count; k++) {
            json_t *entry = value_between(crossing->roots[k], crossing->low[k], crossing->high[k]);
            if (!isnan(crossing->profile[k].low)) json_object_set_new(entry, "profile", as_span(&crossing->profile[k]));
            json_object_set_new(entry, "identified", json_boolean(analysis_crossing_identified(crossing, k)));
            json_array_append_new(roots, entry);
        }
        json_object_set_new(row, "examples", roots);
        json_object_set_new(row, "agreement", as_number(crossing->agreement));
        json_array_append_new(out, row);
    }
    return out;
}

/* The laws of every view of several, and their mean errors over the views of a kind. */
json_t *analysis_json_choice(const struct analysis *analysis)
{
    json_t *out = json_array();
    struct analysis_choice choice;
    for (size_t first = 0, next; first < analysis->fit_count; first = next) {
        const struct analysis_fit *fit = &analysis->fits[first];
        json_t *view = json_object(), *laws = json_array();
        next = analysis_choose(analysis, first, &choice);
        for (size_t i = 0; i < choice.count; i++) {
            const struct analysis_fit *one = &analysis->fits[first + i];
            json_t *law = json_object();
            double mean;
            json_object_set_new(law, "law", as_text(one->law.name));
            json_object_set_new(law, "fit", json_integer((json_int_t)(first + i)));
            json_object_set_new(law, "held_out", as_heldout(&one->heldout));
            json_object_set_new(law, "levels_left_out", as_heldout(&one->levels));
            json_object_set_new(law, "akaike_difference", as_number(choice.akaike[i]));
            analysis_mean_error(analysis, one->view, one->law.name, true, &mean, NULL);
            json_object_set_new(law, "mean_held_out_of_views", as_number(mean));
            analysis_mean_error(analysis, one->view, one->law.name, false, &mean, NULL);
            json_object_set_new(law, "mean_levels_left_out_of_views", as_number(mean));
            json_array_append_new(laws, law);
        }
        json_object_set_new(view, "task", as_text(fit->task));
        json_object_set_new(view, "method", as_text(fit->method));
        json_object_set_new(view, "group", as_text(fit->group));
        json_object_set_new(view, "view", json_string(view_name(fit->view)));
        json_object_set_new(view, "laws", laws);
        json_object_set_new(view, "better",
                            choice.best == SIZE_MAX ? json_null() : as_text(analysis->fits[choice.best].law.name));
        json_array_append_new(out, view);
    }
    return out;
}

json_t *analysis_json_noise(const struct analysis *analysis)
{
    const struct observations *observations = &analysis->observations;
    json_t *out = json_array();
    for (size_t i = 0; i < observations->noise_count; i++) {
        const struct observation_noise *noise = &observations->noise[i];
        json_t *row = json_object();
        json_object_set_new(row, "task", as_text(noise->task));
        json_object_set_new(row, "method", as_text(noise->method));
        json_object_set_new(row, "cells", json_integer((json_int_t)noise->cells));
        json_object_set_new(row, "degrees_of_freedom", json_integer((json_int_t)noise->degrees));
        json_object_set_new(row, "log_loss_standard_deviation", as_number(noise->deviation));
        json_array_append_new(out, row);
    }
    return out;
}

json_t *analysis_json_warnings(const struct analysis *analysis)
{
    json_t *out = json_array();
    for (size_t i = 0; i < analysis->warning_count; i++) {
        const struct analysis_warning *warning = &analysis->warnings[i];
        json_t *row = json_object();
        json_object_set_new(row, "kind", json_string(warning_name(warning->kind)));
        json_object_set_new(row, "fit",
                            warning->fit == SIZE_MAX ? json_null() : json_integer((json_int_t)warning->fit));
        json_object_set_new(row, "text", as_text(warning->text));
        json_array_append_new(out, row);
    }
    return out;
}
