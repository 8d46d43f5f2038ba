/* What a sweep file says about fitting: its group `fit`. Read with the sweep, and again from the text in a store. */
#ifndef TUNELAW_FITTING_SETTINGS_H
#define TUNELAW_FITTING_SETTINGS_H

#include "fitting/laws/law_user.h"
#include "io/config/config.h"

#define SETTINGS_LAWS 16

/* X of the model axis. */
enum settings_x { SETTINGS_PARAMETERS = 0, SETTINGS_NON_EMBEDDING, SETTINGS_TRAINABLE, SETTINGS_XS };
extern const char *const settings_x_names[SETTINGS_XS]; /* "parameters", ... */

enum settings_seeds { SETTINGS_REPLICATES = 0, SETTINGS_MEAN, SETTINGS_SEEDS };
extern const char *const settings_seed_names[SETTINGS_SEEDS]; /* "replicates", "mean" */

struct fit_settings {
    enum settings_x x;
    enum settings_seeds seeds;
    double huber_delta;
    struct user_law *laws[SETTINGS_LAWS];
    size_t law_count;
};

struct fit_settings fit_settings_default(void);

/* Read the group of a sweep file; errors stay in the file of the root. */
void fit_settings_read(const struct config_group *root, struct fit_settings *out);

/* Read it from the text of a whole sweep file, of which nothing else is looked at. -1 with *err and the defaults in
 * *out. */
int fit_settings_of_text(const char *text, struct fit_settings *out, struct error *err);

void fit_settings_destroy(struct fit_settings *settings); /* frees what it holds */

#endif
