/* Fitting: the analysis as a program reads it, and as it is kept in DIR/fit.json. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fitting/analysis.h"
#include "io/version.h"

enum { FIT_VERSION = 1 };

/* JSON has no infinity and no NAN: null. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Names in a store are bytes; jansson wants UTF-8. */
static json_t *text(const char *bytes)
{
    json_t *value = json_string(bytes);
    return value ? value : json_string("(not UTF-8)");
}

static json_t *observation_json(const struct observation *row)
{
    json_t *out = json_object();
    json_object_set_new(out, "identity", text(row->identity));
    json_object_set_new(out, "method", text(row->method));
    json_object_set_new(out, "model", text(row->model));
    json_object_set_new(out, "parameters", number(row->parameters));
    json_object_set_new(out, "pretrain_tokens", number(row->pretrain_tokens));
    json_object_set_new(out, "pet_size", number(row->pet_size));
    json_object_set_new(out, "examples", number(row->examples));
    json_object_set_new(out, "learning_rate", number(row->learning_rate));
    json_object_set_new(out, "seed", json_integer((json_int_t)row->seed));
    json_object_set_new(out, "trunk", json_integer((json_int_t)row->trunk));
    json_object_set_new(out, "held_out", json_boolean(row->held_out));
    return out;
}

static json_t *rows_json(const struct observation *rows, size_t count)
{
    json_t *out = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *row = observation_json(&rows[i]);
        json_object_set_new(row, "loss", number(rows[i].loss));
        json_array_append_new(out, row);
    }
    return out;
}

static json_t *omitted_json(const struct observations *observations)
{
    json_t *out = json_array();
    for (size_t i = 0; i < observations->omitted_count; i++) {
        const struct observation_omitted *entry = &observations->omitted[i];
        json_t *row = observation_json(&entry->point);
        json_object_set_new(row, "why", json_string(omission_name(entry->why)));
        json_object_set_new(row, "status", text(entry->status));
        json_object_set_new(row, "message", text(entry->message));
        json_array_append_new(out, row);
    }
    return out;
}

static json_t *span_json(const struct span *span)
{
    json_t *out = json_object();
    json_object_set_new(out, "low", number(span->low));
    json_object_set_new(out, "high", number(span->high));
    json_object_set_new(out, "low_open", json_boolean(span->low_open));
    json_object_set_new(out, "high_open", json_boolean(span->high_open));
    return out;
}

static json_t *interval_json(double value, double log_value, bool logged, const struct interval *interval)
{
    json_t *out = json_object();
    json_object_set_new(out, "value", number(value));
    if (logged) json_object_set_new(out, "log", number(log_value));
    json_object_set_new(out, "low", number(interval->low));
    json_object_set_new(out, "high", number(interval->high));
    json_object_set_new(out, "standard_error", number(interval->error));
    json_object_set_new(out, "identified", json_boolean(interval->identified));
    if (!isnan(interval->profile.low)) json_object_set_new(out, "profile", span_json(&interval->profile));
    if (!interval->identified) json_object_set_new(out, "reason", json_string(interval->reason));
    return out;
}

static json_t *parameters_json(const struct law *law, const double *theta, const struct interval *intervals)
{
    json_t *out = json_object();
    for (size_t i = 0; i < law->parameter_count; i++)
        json_object_set_new(out, law->parameters[i].name,
                            interval_json(law_parameter_value(law, theta, i), theta[i],
                                          law->parameters[i].role != LAW_EXPONENT, &intervals[i]));
    return out;
}

static json_t *correlation_json(const struct analysis_fit *fit)
{
    json_t *out = json_array();
    for (size_t a = 0; a < fit->law.parameter_count; a++) {
        json_t *row = json_array();
        for (size_t b = 0; b < fit->law.parameter_count; b++)
            json_array_append_new(row, number(fit->intervals.correlation[a][b]));
        json_array_append_new(out, row);
    }
    return out;
}

static json_t *heldout_json(const struct heldout *heldout)
{
    static const char *const kinds[] = {"none", "cells", "levels"};
    json_t *out = json_object();
    json_object_set_new(out, "kind", json_string(kinds[heldout->kind]));
    if (heldout->kind == HELDOUT_NONE) return out;
    json_object_set_new(out, "points", json_integer((json_int_t)heldout->points));
    json_object_set_new(out, "folds", json_integer((json_int_t)heldout->folds));
    json_object_set_new(out, "mean_absolute_deviation", number(heldout->error));
    json_object_set_new(out, "constant_mean_absolute_deviation", number(heldout->constant_error));
    return out;
}

static void add_centred(json_t *out, const struct analysis_fit *fit)
{
    double centred[LAW_PARAMETERS];
    memcpy(centred, fit->fit.theta, sizeof centred);
    law_shift(&fit->law, centred, fit->fit.centre);
    json_t *centre = json_object();
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (law_uses(&fit->law, (enum law_axis)axis))
            json_object_set_new(centre, law_axis_name((enum law_axis)axis), number(exp(fit->fit.centre[axis])));
    json_object_set_new(out, "centre", centre);
    json_object_set_new(out, "centred_parameters", parameters_json(&fit->law, centred, fit->intervals.centred));
}

static json_t *fit_json(const struct analysis *analysis, size_t index)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    json_t *out = json_object(), *used = json_array(), *unseen = json_array();
    json_object_set_new(out, "method", text(fit->method));
    json_object_set_new(out, "group", text(fit->group));
    json_object_set_new(out, "view", json_string(view_name(fit->view)));
    json_object_set_new(out, "pet_size", number(fit->pet_size));
    json_object_set_new(out, "fixed_parameters", number(fit->parameters));
    json_object_set_new(out, "fixed_pretrain_tokens", number(fit->pretrain_tokens));
    json_object_set_new(out, "law", json_string(fit->law.name));
    json_object_set_new(out, "formula", json_string(fit->formula));
    json_object_set_new(out, "ignored_axis", fit->ignored_axis ? json_string(fit->ignored_axis) : json_null());
    json_object_set_new(out, "fitted", json_boolean(fit->fitted));
    for (size_t i = 0; i < fit->fitted_count + fit->heldout_count; i++)
        json_array_append_new(i < fit->fitted_count ? used : unseen, json_integer((json_int_t)fit->rows[i]));
    json_object_set_new(out, "rows_used", used);
    json_object_set_new(out, "rows_held_out", unseen);
    if (!fit->fitted) {
        json_object_set_new(out, "why", text(fit->why));
        return out;
    }
    json_object_set_new(out, "parameters", parameters_json(&fit->law, fit->fit.theta, fit->intervals.raw));
    add_centred(out, fit);
    json_object_set_new(out, "objective", number(fit->fit.objective));
    json_object_set_new(out, "converged", json_boolean(fit->fit.converged));
    json_object_set_new(out, "gradient", number(fit->fit.gradient));
    json_object_set_new(out, "iterations", json_integer((json_int_t)fit->fit.iterations));
    json_object_set_new(out, "starts", json_integer((json_int_t)fit->fit.starts));
    json_object_set_new(out, "starts_polished", json_integer((json_int_t)fit->fit.polished));
    json_object_set_new(out, "starts_agreeing", json_integer((json_int_t)fit->fit.agreeing));
    json_object_set_new(out, "resamples", json_integer((json_int_t)fit->intervals.resamples));
    json_object_set_new(out, "clusters", json_integer((json_int_t)fit->intervals.clusters));
    if (fit->intervals.resamples) json_object_set_new(out, "correlation", correlation_json(fit));
    json_object_set_new(out, "akaike", number(fit->fit.akaike));
    json_object_set_new(out, "held_out", heldout_json(&fit->heldout));
    json_object_set_new(out, "better_law_of_view", json_boolean(analysis_best(analysis, index) == index));
    return out;
}

static json_t *source_json(const struct observations *observations)
{
    json_t *out = json_object();
    json_object_set_new(out, "path", text(observations->source));
    json_object_set_new(out, "name", text(observations->name));
    json_object_set_new(out, "generation", json_integer((json_int_t)observations->epoch));
    json_object_set_new(out, "dataset_digest", text(observations->dataset_digest));
    json_object_set_new(out, "config_digest", text(digest_of(observations->config, strlen(observations->config)).hex));
    json_object_set_new(out, "points", json_integer((json_int_t)observations->points));
    json_object_set_new(out, "trunks", json_integer((json_int_t)observations->trunks));
    json_object_set_new(out, "x", text(observations->x_name));
    return out;
}

static json_t *staged_number(const struct staged_parameter *parameter)
{
    json_t *out = json_object();
    json_object_set_new(out, "value", number(parameter->value));
    json_object_set_new(out, "low", number(parameter->low));
    json_object_set_new(out, "high", number(parameter->high));
    return out;
}

static json_t *staged_json(const struct analysis *analysis)
{
    json_t *out = json_array();
    for (size_t i = 0; i < analysis->staged_count; i++) {
        const struct analysis_staged *entry = &analysis->staged[i];
        json_t *row = json_object();
        json_object_set_new(row, "method", text(entry->method));
        json_object_set_new(row, "pet_size", number(entry->pet_size));
        json_object_set_new(row, "fitted", json_boolean(entry->fitted));
        if (!entry->fitted) json_object_set_new(row, "why", text(entry->why));
        for (size_t k = 0; entry->fitted && k < STAGED_AXES; k++) {
            json_t *axis = json_object();
            json_object_set_new(axis, "points", json_integer((json_int_t)entry->staged.points[k]));
            json_object_set_new(axis, "A", staged_number(&entry->staged.a[k]));
            json_object_set_new(axis, "alpha", staged_number(&entry->staged.alpha[k]));
            json_object_set_new(row, staged_axis_name((enum staged_axis)k), axis);
        }
        if (entry->fitted) json_object_set_new(row, "beta", staged_number(&entry->staged.beta));
        if (entry->fitted) json_object_set_new(row, "E", staged_number(&entry->staged.offset));
        if (entry->fitted) json_object_set_new(row, "E_identified", json_boolean(entry->staged.offset_known));
        json_array_append_new(out, row);
    }
    return out;
}

static json_t *crossings_json(const struct analysis *analysis)
{
    json_t *out = json_array();
    for (size_t i = 0; i < analysis->crossing_count; i++) {
        const struct analysis_crossing *crossing = &analysis->crossings[i];
        json_t *row = json_object(), *roots = json_array();
        json_object_set_new(row, "first", text(analysis->fits[crossing->first].group));
        json_object_set_new(row, "second", text(analysis->fits[crossing->second].group));
        json_object_set_new(row, "parameters", number(crossing->parameters));
        json_object_set_new(row, "searched_from", number(crossing->range[0]));
        json_object_set_new(row, "searched_to", number(crossing->range[1]));
        for (size_t k = 0; k < crossing->count; k++) {
            const struct staged_parameter root = {crossing->roots[k], crossing->low[k], crossing->high[k]};
            json_t *entry = staged_number(&root);
            if (!isnan(crossing->profile[k].low))
                json_object_set_new(entry, "profile", span_json(&crossing->profile[k]));
            json_array_append_new(roots, entry);
        }
        json_object_set_new(row, "examples", roots);
        json_object_set_new(row, "agreement", number(crossing->agreement));
        json_array_append_new(out, row);
    }
    return out;
}

static json_t *analysis_json(const struct analysis *analysis)
{
    const struct observations *observations = &analysis->observations;
    json_t *out = json_object(), *options = json_object(), *fits = json_array();
    json_object_set_new(out, "format", json_string("tunelaw-fit"));
    json_object_set_new(out, "version", json_integer(FIT_VERSION));
    json_object_set_new(out, "program", json_string(version_string()));
    json_object_set_new(out, "source", source_json(observations));
    json_object_set_new(options, "huber_delta", number(analysis->options.delta));
    json_object_set_new(options, "loss",
                        json_string(analysis->options.absolute       ? "l1"
                                    : isinf(analysis->options.delta) ? "l2"
                                                                     : "huber"));
    json_object_set_new(options, "residuals", json_string(analysis->options.log_residuals ? "log" : "raw"));
    json_object_set_new(options, "resamples", json_integer((json_int_t)analysis->options.resamples));
    json_object_set_new(options, "intervals", json_string(interval_kind_name(analysis->options.intervals)));
    json_object_set_new(options, "resample", json_string(cluster_name(analysis->options.resample)));
    json_object_set_new(options, "interval_level", number(analysis->options.level));
    json_object_set_new(out, "options", options);
    for (size_t i = 0; i < analysis->fit_count; i++)
        json_array_append_new(fits, fit_json(analysis, i));
    json_object_set_new(out, "fits", fits);
    json_object_set_new(out, "two_stages", staged_json(analysis));
    json_object_set_new(out, "crossings", crossings_json(analysis));
    json_object_set_new(out, "rows", rows_json(observations->rows, observations->count));
    json_object_set_new(out, "untuned", rows_json(observations->base, observations->base_count));
    json_object_set_new(out, "left_out", omitted_json(observations));
    return out;
}

int analysis_print_json(const struct analysis *analysis, FILE *out, struct error *err)
{
    json_t *json = analysis_json(analysis);
    int failed = json_dumpf(json, out, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(json);
    if (failed || fputc('\n', out) == EOF || fflush(out)) return error_set_errno(err, "cannot write the fits as JSON");
    return 0;
}

int analysis_write(const struct analysis *analysis, const char *dir, struct error *err)
{
    char path[4096 + 16], beside[4096 + 32];
    snprintf(path, sizeof path, "%.4096s/fit.json", dir);
    snprintf(beside, sizeof beside, "%s.tmp", path);
    FILE *file = fopen(beside, "w");
    if (!file) return error_set_errno(err, "%s", beside);
    int failed = analysis_print_json(analysis, file, err);
    if (!failed && fsync(fileno(file))) failed = error_set_errno(err, "%s", beside);
    if (fclose(file) && !failed) failed = error_set_errno(err, "%s", beside);
    if (!failed && rename(beside, path)) failed = error_set_errno(err, "%s", path);
    if (failed) unlink(beside);
    return failed ? -1 : 0;
}
