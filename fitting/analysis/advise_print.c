/* Fitting: advice as people read it and as programs do. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "fitting/analysis/advise.h"
#include "fitting/analysis/analysis_internal.h"
#include "fitting/analysis/analysis_json.h"

static void print_option(const struct advise_option *option, int width, FILE *out)
{
    print_padded(out, option->group, width);
    fprintf(out, " %12.0f %9.4f", option->parameters, option->loss);
    if (isnan(option->low))
        fprintf(out, " %-17s", "");
    else
        fprintf(out, " [%.4f, %.4f]%*s", option->low, option->high, option->low < 10 && option->high < 10 ? 1 : 0, "");
    if (isnan(option->best))
        fprintf(out, " %6s", "");
    else
        fprintf(out, " %4.0f %%", 100 * option->best);
    if (isnan(option->seconds))
        fprintf(out, " %9s", "?");
    else
        fprintf(out, " %9.3g", option->seconds);
    fprintf(out, "%s%s%s\n", option->within_budget ? "" : "  over the budget",
            option->beyond_size ? "  extrapolates in size" : "",
            option->beyond_examples ? "  extrapolates in examples" : "");
}

static bool is_option(const struct analysis *analysis, const struct advice *advice, const struct observation *row)
{
    for (size_t i = 0; i < advice->count; i++) {
        const struct analysis_fit *fit = &analysis->fits[advice->options[i].fit];
        if (!strcmp(fit->method, row->method) && fit->pet_size == row->pet_size) return true;
    }
    return false;
}

/* What was measured and has no law to compare with. */
static void print_left_out(const struct analysis *analysis, const struct advise_question *question,
                           const struct advice *advice, FILE *out)
{
    enum { MOST = 64 };
    const struct observation *told[MOST];
    size_t count = 0;
    for (size_t i = 0; i < analysis->observations.count && count < MOST; i++) {
        const struct observation *row = &analysis->observations.rows[i];
        bool known = (question->task && strcmp(row->task, question->task) != 0) || is_option(analysis, advice, row);
        for (size_t j = 0; j < count && !known; j++)
            known = !strcmp(told[j]->method, row->method) && told[j]->pet_size == row->pet_size;
        if (!known) told[count++] = row;
    }
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%s%s", i ? ", " : "not compared, having no identified law over model size: ", told[i]->method);
        if (told[i]->pet_size > 0) fprintf(out, " %g", told[i]->pet_size);
    }
    if (count) fputc('\n', out);
}

void advice_print(const struct analysis *analysis, const struct advise_question *question, const struct advice *advice,
                  FILE *out)
{
    const struct advise_option *best = &advice->options[0];
    const int width = group_width(analysis) + 2;
    if (best->within_budget) {
        fprintf(out, "take %s with %.0f parameters: expected loss %.4f", best->group, best->parameters, best->loss);
        if (!isnan(best->low))
            fprintf(out, " (%g %%: %.4f to %.4f)", 100 * analysis->options.level, best->low, best->high);
        fprintf(out, " at %.0f examples%s\n", question->examples,
                best->beyond_size || best->beyond_examples ? "; this is beyond the points that were fitted" : "");
    } else {
        fprintf(out, "nothing is within %g seconds\n", question->budget);
    }
    fprintf(out, "\n%-*s %12s %9s %-17s %6s %9s\n", width, "method", "model size", "loss", "interval", "best",
            "seconds");
    for (size_t i = 0; i < advice->count; i++)
        print_option(&advice->options[i], width, out);
    fprintf(out, "best: share of the resamples in which it has the lowest loss within the budget; seconds: training "
                 "and evaluation\nof one point, pretraining not counted, on the devices of the sweep, by a power law "
                 "through the fitted points' times\n");
    print_left_out(analysis, question, advice, out);
}

static json_t *option_json(const struct analysis *analysis, const struct advise_option *option)
{
    const struct analysis_fit *fit = &analysis->fits[option->fit];
    json_t *out = json_object();
    json_object_set_new(out, "task", as_text(fit->task));
    json_object_set_new(out, "method", as_text(fit->method));
    json_object_set_new(out, "pet_size", as_number(fit->pet_size));
    json_object_set_new(out, "parameters", as_number(option->parameters));
    json_object_set_new(out, "pretrain_tokens", as_number(option->pretrain_tokens));
    json_object_set_new(out, "law", json_string(fit->law.name));
    json_object_set_new(out, "loss", as_number(option->loss));
    json_object_set_new(out, "low", as_number(option->low));
    json_object_set_new(out, "high", as_number(option->high));
    json_object_set_new(out, "best_share", as_number(option->best));
    json_object_set_new(out, "seconds", as_number(option->seconds));
    json_object_set_new(out, "within_budget", json_boolean(option->within_budget));
    json_object_set_new(out, "beyond_size", json_boolean(option->beyond_size));
    json_object_set_new(out, "beyond_examples", json_boolean(option->beyond_examples));
    return out;
}

int advice_print_json(const struct analysis *analysis, const struct advise_question *question,
                      const struct advice *advice, FILE *out, struct error *err)
{
    json_t *json = json_object(), *options = json_array();
    json_object_set_new(json, "format", json_string("tunelaw-advice"));
    json_object_set_new(json, "version", json_integer(1));
    json_object_set_new(json, "examples", as_number(question->examples));
    json_object_set_new(json, "model", as_number(question->parameters));
    json_object_set_new(json, "budget_seconds", as_number(question->budget));
    json_object_set_new(json, "metric", json_string(metric_names[analysis->observations.metric]));
    json_object_set_new(json, "x", as_text(analysis->observations.x_name));
    json_object_set_new(json, "intervals", json_string(interval_kind_name(analysis->options.intervals)));
    json_object_set_new(json, "interval_level", as_number(analysis->options.level));
    for (size_t i = 0; i < advice->count; i++)
        json_array_append_new(options, option_json(analysis, &advice->options[i]));
    json_object_set_new(json, "options", options);
    return write_json(json, out, err);
}
