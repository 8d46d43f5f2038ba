/* Fitting, the user's word: the group `fit` of a sweep file becomes settings and laws. */
#include "fitting/settings.h"

#include <stdlib.h>
#include <string.h>

const char *const settings_x_names[SETTINGS_XS] = {"parameters", "non_embedding_parameters", "trainable_parameters"};
const char *const settings_seed_names[SETTINGS_SEEDS] = {"replicates", "mean"};

struct fit_settings fit_settings_default(void)
{
    return (struct fit_settings){.huber_delta = 1e-3};
}

/* The parameters named under `key` become positive, or free. */
static void mark(const struct config_group *group, const char *key, bool positive, struct user_law *law)
{
    struct error err = {""};
    size_t count;
    const char **names = config_take_strings(group, key, EXPRESSION_NAME, false, &count);
    for (size_t i = 0; i < count && !config_file_failed(group->file); i++)
        if (user_law_mark(law, names[i], positive, &err)) config_fail_element(group, key, i, "%s", err.text);
    free(names);
}

static void read_starts(const struct config_group *group, struct user_law *law)
{
    const char *keys[EXPRESSION_PARAMETERS + 1] = {NULL};
    struct error err = {""};
    for (size_t p = 0; p < law->law.parameter_count; p++)
        keys[p] = law->law.parameters[p].name;
    struct config_group starts = config_open_group(group, "start", keys, false);
    for (size_t p = 0; starts.present && p < law->law.parameter_count; p++) {
        size_t count;
        double *values = config_take_doubles(&starts, keys[p], -DBL_MAX, DBL_MAX, false, &count);
        if (count && user_law_start(law, keys[p], values, count, &err)) config_fail(&starts, keys[p], "%s", err.text);
        free(values);
    }
}

static void read_law(const struct config_group *root, size_t index, struct fit_settings *out)
{
    static const char *const keys[] = {"name", "expression", "positive", "free", "start", NULL};
    struct config_group group = config_open_element(root, "laws", index, keys);
    struct error err = {""};
    const char *name = config_take_name(&group, "name", USER_LAW_NAME);
    const char *expression = config_take_string(&group, "expression", EXPRESSION_TEXT);
    if (config_file_failed(group.file)) return;
    for (size_t i = 0; i < out->law_count; i++)
        if (!strcmp(out->laws[i]->name, name)) config_fail(&group, "name", "\"%s\" is there twice", name);
    struct user_law *law = user_law_create(name, expression, &err);
    if (!law) {
        config_fail(&group, law_find(name, NULL) ? "name" : "expression", "%s", err.text);
        return;
    }
    out->laws[out->law_count++] = law;
    mark(&group, "positive", true, law);
    mark(&group, "free", false, law);
    read_starts(&group, law);
}

void fit_settings_read(const struct config_group *root, struct fit_settings *out)
{
    static const char *const keys[] = {"x", "seeds", "huber_delta", "laws", NULL};
    *out = fit_settings_default();
    struct config_group group = config_open_group(root, "fit", keys, false);
    out->x = (enum settings_x)config_take_choice(&group, "x", settings_x_names, SETTINGS_XS, 0);
    out->seeds = (enum settings_seeds)config_take_choice(&group, "seeds", settings_seed_names, SETTINGS_SEEDS, 0);
    out->huber_delta = config_take_double_or(&group, "huber_delta", CONFIG_POSITIVE, 1e3, 1e-3);
    size_t count = config_open_list(&group, "laws", false);
    if (count > SETTINGS_LAWS) config_fail(&group, "laws", "%zu laws; allowed: up to %d", count, SETTINGS_LAWS);
    for (size_t i = 0; i < count && !config_file_failed(group.file); i++)
        read_law(&group, i, out);
}

int fit_settings_of_text(const char *text, struct fit_settings *out, struct error *err)
{
    *out = fit_settings_default();
    struct config_file *file = config_file_parse("the sweep file in the store", text, strlen(text), err);
    if (!file) return -1;
    struct config_group root = config_open_root(file, NULL);
    fit_settings_read(&root, out);
    int result = config_file_finish(file, err);
    config_file_close(file);
    if (result) {
        fit_settings_destroy(out);
        *out = fit_settings_default();
    }
    return result;
}

void fit_settings_destroy(struct fit_settings *settings)
{
    for (size_t i = 0; i < settings->law_count; i++)
        user_law_destroy(settings->laws[i]);
    settings->law_count = 0;
}
