/* Fitting: which sets of points of a method are looked at, and which laws are fitted to each. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_internal.h"
#include "fitting/fit/sorted.h"

/* Where a user's law belongs follows from its axes. */
static bool user_suits(enum view_kind view, const struct expression *expression)
{
    const bool *uses = expression->uses;
    if (uses[LAW_T] || (uses[LAW_X] && uses[LAW_P])) return view == VIEW_JOINT;
    if (uses[LAW_X]) return view == VIEW_MODEL || (!expression->says_n && (view == VIEW_PRETRAIN || view == VIEW_PET));
    return uses[LAW_P] ? view == VIEW_PRETRAIN : view == VIEW_EXAMPLES;
}

static bool suits(enum view_kind view, const struct law *law)
{
    if (view == VIEW_TABLE) return true;
    if (law->user) return user_suits(view, &law->user->expression);
    if (law_uses(law, LAW_P)) return view == VIEW_JOINT;
    if (!law_uses(law, LAW_X)) return view == VIEW_EXAMPLES;
    return view == VIEW_MODEL || view == VIEW_PRETRAIN || view == VIEW_PET;
}

/* Whether a law that is to be fitted wants a view. */
static bool wanted(const struct analysis *analysis, enum view_kind view, const struct law *asked)
{
    if (asked) return suits(view, asked);
    for (size_t i = 0; i < analysis->observations.settings.law_count; i++)
        if (suits(view, &analysis->observations.settings.laws[i]->law)) return true;
    return false;
}

/* Ascending levels of a field over the rows of a view; *levels is malloc'ed. Returns the count, 0 also out of memory.
 */
static size_t levels_of(const struct observations *observations, const struct analysis_fit *view,
                        observation_field *field, double **levels)
{
    size_t count = 0;
    *levels = calloc(observations->count + 1, sizeof **levels);
    if (!*levels) return 0;
    for (size_t i = 0; i < observations->count; i++)
        if (analysis_in_view(view, &observations->rows[i])) (*levels)[count++] = field(&observations->rows[i]);
    return sort_levels(*levels, count);
}

static size_t count_levels(const struct observations *observations, const struct analysis_fit *view,
                           observation_field *field)
{
    double *levels;
    size_t count = levels_of(observations, view, field, &levels);
    free(levels);
    return count;
}

/* The laws of a table by what varies in it: where several pretraining counts or PET sizes were given, laws in N and D
 * alone would mix them; where D alone varies, none has a power of N; where N alone does, the joint law is A·N^-α + E.
 */
static const char *const *laws_of_table(const struct observations *observations, const struct analysis_fit *view)
{
    static const char *const joint[2] = {"joint", "joint_additive"}, *const single[2] = {"single"},
                             *const size[2] = {"joint"}, *const both[2] = {"multiplicative", "additive"};
    const bool models = count_levels(observations, view, observation_parameters) > 1,
               examples = count_levels(observations, view, observation_examples) > 1;
    if (count_levels(observations, view, observation_pretrain_tokens) > 1 ||
        count_levels(observations, view, observation_pet_size) > 1)
        return joint;
    const bool one_axis = models != examples || !*observations->x_name; /* no column is N */
    return !one_axis ? both : models ? size : single;
}

/* The laws of a view: those of the table and of the sweep file that suit it, or the one that was asked for. */
int analysis_add_view(struct analysis *analysis, const struct analysis_fit *view, const struct law *asked,
                      struct error *err)
{
    static const char *const of_view[VIEWS][2] = {[VIEW_MODEL] = {"multiplicative", "additive"},
                                                  [VIEW_PRETRAIN] = {"multiplicative", "additive"},
                                                  [VIEW_PET] = {"multiplicative", "additive"},
                                                  [VIEW_JOINT] = {"joint", "joint_additive"},
                                                  [VIEW_EXAMPLES] = {"single", NULL}};
    const struct fit_settings *settings = &analysis->observations.settings;
    const char *const *laws =
        view->view == VIEW_TABLE ? laws_of_table(&analysis->observations, view) : of_view[view->view];
    if (asked) return suits(view->view, asked) ? analysis_add_fit(analysis, view, asked, err) : 0;
    for (size_t i = 0; i < 2; i++)
        if (laws[i] && analysis_add_fit(analysis, view, law_find(laws[i], NULL), err)) return -1;
    for (size_t i = 0; i < settings->law_count; i++)
        if (suits(view->view, &settings->laws[i]->law) &&
            analysis_add_fit(analysis, view, &settings->laws[i]->law, err))
            return -1;
    return 0;
}

/* The level at which most points can be fitted, the largest of several. */
static double fullest_level(const struct observations *observations, const struct analysis_fit *view,
                            observation_field *field)
{
    double *levels, best = NAN;
    size_t count = levels_of(observations, view, field, &levels), most = 0;
    for (size_t i = 0; i < count; i++) {
        size_t points = 0;
        for (size_t r = 0; r < observations->count; r++)
            points += !observations->rows[r].held_out && analysis_in_view(view, &observations->rows[r]) &&
                      field(&observations->rows[r]) == levels[i];
        if (points >= most) {
            most = points;
            best = levels[i];
        }
    }
    free(levels);
    return best;
}

static int add_examples_views(struct analysis *analysis, const struct analysis_fit *group, const struct law *asked,
                              struct error *err)
{
    int result = 0;
    double *models, *pretrains;
    struct analysis_fit view = *group;
    view.view = VIEW_EXAMPLES;
    size_t model_count = levels_of(&analysis->observations, group, observation_parameters, &models);
    for (size_t m = 0; m < model_count && !result; m++) {
        view.parameters = models[m];
        view.pretrain_tokens = NAN;
        size_t pretrain_count = levels_of(&analysis->observations, &view, observation_pretrain_tokens, &pretrains);
        for (size_t p = 0; p < pretrain_count && !result; p++) {
            view.pretrain_tokens = pretrains[p];
            result = analysis_add_view(analysis, &view, asked, err);
        }
        free(pretrains);
    }
    free(models);
    return result;
}

/* The views of one method at one PET size. */
static int add_group(struct analysis *analysis, const struct analysis_fit *group, const struct law *asked,
                     struct error *err)
{
    const struct observations *observations = &analysis->observations;
    struct analysis_fit view = *group;
    size_t models = count_levels(observations, group, observation_parameters);
    size_t pretrains = count_levels(observations, group, observation_pretrain_tokens);
    if (models > 1 || (asked && pretrains < 2)) {
        view.view = VIEW_MODEL;
        view.pretrain_tokens = fullest_level(observations, group, observation_pretrain_tokens);
        if (analysis_add_view(analysis, &view, asked, err)) return -1;
    }
    if (pretrains > 1) {
        view = *group;
        view.view = VIEW_PRETRAIN;
        view.x_symbol = "P";
        view.parameters = fullest_level(observations, group, observation_parameters);
        if (analysis_add_view(analysis, &view, asked, err)) return -1;
    }
    if (wanted(analysis, VIEW_EXAMPLES, asked) || (!asked && models < 2 && pretrains < 2))
        return add_examples_views(analysis, group, asked, err);
    return 0;
}

/* What a method's PET size is. */
static const char *size_unit(const char *method)
{
    if (!strcmp(method, "lora")) return "rank";
    if (!strcmp(method, "adapter")) return "width";
    return !strcmp(method, "prompt") || !strcmp(method, "prefix") ? "length" : "size";
}

static void name_group(struct analysis_fit *group, double size)
{
    const char *unit = size_unit(group->method);
    char name[2 * OBSERVATION_NAME];
    group->pet_size = size;
    if (isnan(size))
        snprintf(name, sizeof name, "%s, all sizes", group->method);
    else if (size > 0)
        snprintf(name, sizeof name, "%s %s %g", group->method, unit, size);
    else
        snprintf(name, sizeof name, "%s", group->method);
    snprintf(group->group, sizeof group->group, "%s%s%s", group->several_tasks ? group->task : "",
             group->several_tasks ? ": " : "", name);
}

static int add_pet_view(struct analysis *analysis, const struct analysis_fit *group, const struct law *asked,
                        struct error *err)
{
    const struct observations *observations = &analysis->observations;
    struct analysis_fit view = *group, best = *group;
    double *models, *pretrains;
    size_t most = 1, model_count = levels_of(observations, group, observation_parameters, &models);
    for (size_t m = 0; m < model_count; m++) {
        view.parameters = models[m];
        view.pretrain_tokens = NAN;
        size_t pretrain_count = levels_of(observations, &view, observation_pretrain_tokens, &pretrains);
        for (size_t p = 0; p < pretrain_count; p++) {
            view.pretrain_tokens = pretrains[p];
            size_t sizes = count_levels(observations, &view, observation_pet_size);
            if (sizes < 2 || sizes < most) continue;
            most = sizes;
            best = view;
        }
        free(pretrains);
    }
    free(models);
    if (most < 2) return 0;
    best.view = VIEW_PET;
    best.x_symbol = "T";
    return analysis_add_view(analysis, &best, asked, err);
}

int analysis_add_method(struct analysis *analysis, const struct observation *row, const struct law *asked,
                        struct error *err)
{
    struct analysis_fit group = {.pet_size = NAN, .parameters = NAN, .pretrain_tokens = NAN, .x_symbol = "N"};
    memcpy(group.task, row->task, sizeof group.task);
    memcpy(group.method, row->method, sizeof group.method);
    group.several_tasks = analysis->observations.several_tasks;
    int result = 0;
    double *sizes;
    size_t size_count = levels_of(&analysis->observations, &group, observation_pet_size, &sizes);
    size_t varying = (count_levels(&analysis->observations, &group, observation_parameters) > 1) +
                     (count_levels(&analysis->observations, &group, observation_pretrain_tokens) > 1) +
                     (size_count > 1);
    for (size_t i = 0; i < size_count && !result; i++) {
        name_group(&group, sizes[i]);
        result = add_group(analysis, &group, asked, err);
    }
    name_group(&group, size_count == 1 ? sizes[0] : NAN);
    group.pet_size = NAN;
    if (!result && size_count > 1) result = add_pet_view(analysis, &group, asked, err);
    if (!result && ((!asked && varying > 1) || wanted(analysis, VIEW_JOINT, asked))) {
        group.view = VIEW_JOINT;
        result = analysis_add_view(analysis, &group, asked, err);
    }
    free(sizes);
    return result;
}
