/* Fitting: the analysis as a program reads it, and as it is kept in DIR/fit.json. */
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_json.h"
#include "io/file.h"
#include "io/version.h"

enum { FIT_VERSION = 1 };

static json_t *observation_json(const struct observation *row)
{
    json_t *out = json_object();
    json_object_set_new(out, "identity", as_text(row->identity));
    json_object_set_new(out, "task", as_text(row->task));
    json_object_set_new(out, "method", as_text(row->method));
    json_object_set_new(out, "model", as_text(row->model));
    json_object_set_new(out, "parameters", as_number(row->parameters));
    json_object_set_new(out, "pretrain_tokens", as_number(row->pretrain_tokens));
    json_object_set_new(out, "pet_size", as_number(row->pet_size));
    json_object_set_new(out, "examples", as_number(row->examples));
    json_object_set_new(out, "learning_rate", as_number(observation_is_tuned(row) ? NAN : row->learning_rate));
    json_object_set_new(out, "seed", json_integer((json_int_t)row->seed));
    json_object_set_new(out, "replicates", json_integer((json_int_t)row->replicates));
    json_object_set_new(out, "trunk", json_integer((json_int_t)row->trunk));
    json_object_set_new(out, "held_out", json_boolean(row->held_out));
    return out;
}

static json_t *rows_json(const struct observations *observations, const struct observation *rows, size_t count)
{
    json_t *out = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *row = observation_json(&rows[i]);
        json_object_set_new(row, "loss", as_number(rows[i].loss));
        if (observations->class_count)
            json_object_set_new(row, "execution_class", as_text(observations->classes[rows[i].execution_class]));
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
        json_object_set_new(row, "status", as_text(entry->status));
        json_object_set_new(row, "message", as_text(entry->message));
        json_array_append_new(out, row);
    }
    return out;
}

static json_t *interval_json(double value, double log_value, bool logged, const struct interval *interval)
{
    json_t *out = json_object();
    json_object_set_new(out, "value", as_number(value));
    if (logged) json_object_set_new(out, "log", as_number(log_value));
    json_object_set_new(out, "low", as_number(interval->low));
    json_object_set_new(out, "high", as_number(interval->high));
    json_object_set_new(out, "standard_error", as_number(interval->error));
    json_object_set_new(out, "identified", json_boolean(interval->identified));
    if (!isnan(interval->profile.low)) json_object_set_new(out, "profile", as_span(&interval->profile));
    if (!interval->identified) json_object_set_new(out, "reason", json_string(interval->reason));
    return out;
}

static json_t *parameters_json(const struct law *law, const double *theta, const struct interval *intervals)
{
    json_t *out = json_object();
    for (size_t i = 0; i < law->parameter_count; i++)
        json_object_set_new(
            out, law->parameters[i].name,
            interval_json(law_parameter_value(law, theta, i), theta[i], law_is_log(law, i), &intervals[i]));
    return out;
}

static json_t *correlation_json(const struct analysis_fit *fit)
{
    json_t *out = json_array();
    for (size_t a = 0; a < fit->law.parameter_count; a++) {
        json_t *row = json_array();
        for (size_t b = 0; b < fit->law.parameter_count; b++)
            json_array_append_new(row, as_number(fit->intervals.correlation[a][b]));
        json_array_append_new(out, row);
    }
    return out;
}

static void add_centred(json_t *out, const struct analysis_fit *fit)
{
    if (!law_can_shift(&fit->law)) return;
    double centred[LAW_PARAMETERS];
    memcpy(centred, fit->fit.theta, sizeof centred);
    law_shift(&fit->law, centred, fit->fit.centre);
    json_t *centre = json_object();
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (law_uses(&fit->law, (enum law_axis)axis))
            json_object_set_new(centre, law_axis_name((enum law_axis)axis), as_number(exp(fit->fit.centre[axis])));
    json_object_set_new(out, "centre", centre);
    json_object_set_new(out, "centred_parameters", parameters_json(&fit->law, centred, fit->intervals.centred));
}

static json_t *fit_json(const struct analysis *analysis, size_t index)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    json_t *out = json_object(), *used = json_array(), *unseen = json_array();
    json_object_set_new(out, "task", as_text(fit->task));
    json_object_set_new(out, "method", as_text(fit->method));
    json_object_set_new(out, "group", as_text(fit->group));
    json_object_set_new(out, "view", json_string(view_name(fit->view)));
    json_object_set_new(out, "pet_size", as_number(fit->pet_size));
    json_object_set_new(out, "fixed_parameters", as_number(fit->parameters));
    json_object_set_new(out, "fixed_pretrain_tokens", as_number(fit->pretrain_tokens));
    json_object_set_new(out, "law", json_string(fit->law.name));
    json_object_set_new(out, "formula", json_string(fit->formula));
    json_object_set_new(out, "ignored_axis", fit->ignored_axis ? json_string(fit->ignored_axis) : json_null());
    json_object_set_new(out, "fitted", json_boolean(fit->fitted));
    for (size_t i = 0; i < fit->fitted_count + fit->heldout_count; i++)
        json_array_append_new(i < fit->fitted_count ? used : unseen, json_integer((json_int_t)fit->rows[i]));
    json_object_set_new(out, "rows_used", used);
    json_object_set_new(out, "rows_held_out", unseen);
    if (!fit->fitted) {
        json_object_set_new(out, "why", as_text(fit->why));
        return out;
    }
    json_object_set_new(out, "parameters", parameters_json(&fit->law, fit->fit.theta, fit->intervals.raw));
    add_centred(out, fit);
    json_object_set_new(out, "objective", as_number(fit->fit.objective));
    json_object_set_new(out, "converged", json_boolean(fit->fit.converged));
    json_object_set_new(out, "gradient", as_number(fit->fit.gradient));
    json_object_set_new(out, "iterations", json_integer((json_int_t)fit->fit.iterations));
    json_object_set_new(out, "starts", json_integer((json_int_t)fit->fit.starts));
    json_object_set_new(out, "starts_polished", json_integer((json_int_t)fit->fit.polished));
    json_object_set_new(out, "starts_agreeing", json_integer((json_int_t)fit->fit.agreeing));
    json_object_set_new(out, "resamples", json_integer((json_int_t)fit->intervals.resamples));
    json_object_set_new(out, "clusters", json_integer((json_int_t)fit->intervals.clusters));
    if (fit->intervals.resamples) json_object_set_new(out, "correlation", correlation_json(fit));
    json_object_set_new(out, "akaike", as_number(fit->fit.akaike));
    json_object_set_new(out, "held_out", as_heldout(&fit->heldout));
    json_object_set_new(out, "levels_left_out", as_heldout(&fit->levels));
    json_object_set_new(out, "trunks", json_integer((json_int_t)fit->trunks));
    json_object_set_new(out, "execution_classes", json_integer((json_int_t)fit->classes));
    json_object_set_new(out, "better_law_of_view", json_boolean(analysis_best(analysis, index) == index));
    return out;
}

static json_t *source_json(const struct observations *observations)
{
    json_t *out = json_object();
    json_object_set_new(out, "path", as_text(observations->source));
    json_object_set_new(out, "name", as_text(observations->name));
    json_object_set_new(out, "generation", json_integer((json_int_t)observations->epoch));
    json_object_set_new(out, "dataset_digest", as_text(observations->dataset_digest));
    json_object_set_new(out, "config_digest",
                        as_text(digest_of(observations->config, strlen(observations->config)).hex));
    json_object_set_new(out, "points", json_integer((json_int_t)observations->points));
    json_object_set_new(out, "trunks", json_integer((json_int_t)observations->trunks));
    json_object_set_new(out, "x", as_text(observations->x_name));
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
    json_object_set_new(options, "huber_delta", as_number(analysis->options.delta));
    json_object_set_new(options, "loss",
                        json_string(analysis->options.absolute       ? "l1"
                                    : isinf(analysis->options.delta) ? "l2"
                                                                     : "huber"));
    json_object_set_new(options, "residuals", json_string(analysis->options.log_residuals ? "log" : "raw"));
    json_object_set_new(options, "resamples", json_integer((json_int_t)analysis->options.resamples));
    json_object_set_new(options, "intervals", json_string(interval_kind_name(analysis->options.intervals)));
    json_object_set_new(options, "resample", json_string(cluster_name(analysis->options.resample)));
    json_object_set_new(options, "interval_level", as_number(analysis->options.level));
    json_object_set_new(options, "metric", json_string(metric_names[observations->metric]));
    json_object_set_new(options, "seeds", json_string(settings_seed_names[observations->seeds]));
    json_object_set_new(out, "options", options);
    json_object_set_new(out, "warnings", analysis_json_warnings(analysis));
    json_object_set_new(out, "seed_noise", analysis_json_noise(analysis));
    json_object_set_new(out, "learning_rate_cells", json_integer((json_int_t)observations->rate_cells));
    json_object_set_new(out, "learning_rate_edges", json_integer((json_int_t)observations->rate_edges));
    json_object_set_new(out, "model_choice", analysis_json_choice(analysis));
    for (size_t i = 0; i < analysis->fit_count; i++)
        json_array_append_new(fits, fit_json(analysis, i));
    json_object_set_new(out, "fits", fits);
    json_object_set_new(out, "two_stages", analysis_json_staged(analysis));
    json_object_set_new(out, "crossings", analysis_json_crossings(analysis));
    json_object_set_new(out, "rows", rows_json(observations, observations->rows, observations->count));
    json_object_set_new(out, "untuned", rows_json(observations, observations->base, observations->base_count));
    json_object_set_new(out, "left_out", omitted_json(observations));
    return out;
}

int write_json(json_t *json, FILE *out, struct error *err)
{
    int failed = json_dumpf(json, out, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(json);
    if (failed || fputc('\n', out) == EOF || fflush(out)) return error_set_errno(err, "cannot write JSON");
    return 0;
}

int analysis_print_json(const struct analysis *analysis, FILE *out, struct error *err)
{
    return write_json(analysis_json(analysis), out, err);
}

int analysis_write(const struct analysis *analysis, const char *dir, struct error *err)
{
    char path[4096 + 16];
    struct file_draft draft;
    snprintf(path, sizeof path, "%.4096s/fit.json", dir);
    if (file_draft_open(&draft, path, 0666, err)) return -1;
    if (!analysis_print_json(analysis, draft.file, err)) return file_draft_publish(&draft, true, err);
    file_draft_discard(&draft);
    return -1;
}
