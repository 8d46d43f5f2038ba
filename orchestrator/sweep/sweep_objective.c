/* The sweep file's objective of pretraining: the keys of the UL2 mixture, and that the data set can have it. */
#include <stdlib.h>

#include "orchestrator/sweep/sweep_parts.h"
#include "workers/train/ul2.h"

static void read_denoiser(const struct config_group *group, size_t index, struct denoiser *denoiser)
{
    static const char *const keys[] = {"mode", "span", "corruption", "share", NULL};
    struct config_group at = config_open_element(group, "denoisers", index, keys);
    const char *names[DENOISER_MODES];
    for (int i = 0; i < DENOISER_MODES; i++)
        names[i] = denoiser_mode_name((enum denoiser_mode)i);
    denoiser->mode = (enum denoiser_mode)config_take_choice(&at, "mode", names, DENOISER_MODES, -1);
    if (denoiser->mode != DENOISER_S)
        denoiser->span = config_take_double(&at, "span", 1.0, 1e6);
    else if (config_has(&at, "span"))
        config_fail(&at, "span", "the mode S has one span, the end of the text; allowed with R and X");
    denoiser->corruption = config_take_double(&at, "corruption", CONFIG_POSITIVE, 0.999999);
    denoiser->share = config_take_double_or(&at, "share", CONFIG_POSITIVE, 1e6, 1.0);
}

void sweep_read_objective(const struct config_group *group, struct recipe *recipe)
{
    static const char *const own[] = {"denoisers", "mode_tokens"};
    const char *names[OBJECTIVES];
    for (int i = 0; i < OBJECTIVES; i++)
        names[i] = objective_name((enum objective)i);
    recipe->objective = (enum objective)config_take_choice(group, "objective", names, OBJECTIVES, OBJECTIVE_CAUSAL);
    if (recipe->objective != OBJECTIVE_UL2) {
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            if (config_has(group, own[i])) config_fail(group, own[i], "the objective is \"causal\"; allowed with ul2");
        return;
    }
    recipe->mixture = mixture_default;
    size_t count = config_open_list(group, "denoisers", false);
    if (count > DENOISERS) config_fail(group, "denoisers", "%zu denoisers; allowed: up to %d", count, DENOISERS);
    if (count && count <= DENOISERS) {
        recipe->mixture = (struct mixture){.count = (uint32_t)count};
        for (size_t i = 0; i < count && !config_file_failed(group->file); i++)
            read_denoiser(group, i, &recipe->mixture.denoisers[i]);
    }
    recipe->mixture.mode_tokens = config_take_bool_or(group, "mode_tokens", true);
}

void sweep_check_objective(const struct config_group *group, const struct recipe *recipe,
                           const struct dataset_info *text)
{
    struct ul2 ul2;
    struct error err = {""};
    if (recipe->objective != OBJECTIVE_UL2) return;
    if (ul2_create(&ul2, &recipe->mixture, recipe->sequence_length, text, 1, &err))
        config_fail(group, "objective", "%s", err.text);
    ul2_destroy(&ul2);
}
