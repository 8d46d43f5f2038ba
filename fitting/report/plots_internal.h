/* What the files plots*.c share. Internal to fitting/. */
#ifndef TUNELAW_FITTING_REPORT_PLOTS_INTERNAL_H
#define TUNELAW_FITTING_REPORT_PLOTS_INTERNAL_H

#include "fitting/report/figure.h"
#include "fitting/report/plots.h"

/* Where plots are made. */
struct plot_place {
    const struct analysis *analysis;
    const struct run_record *run;
    const char *folder;
    struct plots *plots;
    struct error *err;
};

/* A figure that is being filled: values of one series at a time. */
struct canvas {
    struct plot_place *place;
    struct figure *figure;
    enum figure_style style;
    double *values;
    size_t count, room;  /* numbers, not points */
    size_t hidden, seen; /* points left out of crowded series, and all */
    bool failed;
};

/* Begin a plot; place->plots gets it, the caller fills title and caption of the struct plot that is returned, which is
 * valid until the next plot. NULL with *err. */
struct plot *canvas_open(struct canvas *canvas, struct plot_place *place, enum plot_kind kind,
                         const struct figure_axes *axes);
void canvas_begin(struct canvas *canvas, enum figure_style style);
void canvas_add(struct canvas *canvas, const double *value); /* as many numbers as the style has columns */
/* Draw what was added since canvas_begin. */
void canvas_draw(struct canvas *canvas, size_t colour, size_t shape, const char *title);
/* End the plot: one without series is dropped; says how many points are not shown. */
int canvas_close(struct canvas *canvas);

/* Ascending values without doubles. */
struct levels {
    double *at;
    size_t count;
};
int levels_sort(struct levels *levels); /* of `count` values in any order, those not above 0 dropped */
/* At most `most` of them, evenly chosen, first and last among them. */
void levels_thin(struct levels *levels, size_t most);

/* The methods and PET sizes of the sweep, in the order of the rows; a group's index is its colour and shape. */
struct plot_group {
    char method[OBSERVATION_NAME];
    double pet_size;
    char name[2 * OBSERVATION_NAME]; /* "lora rank 8" */
};
struct plot_groups {
    struct plot_group *items;
    size_t count;
};
int plot_groups_make(const struct analysis *analysis, struct plot_groups *out, struct error *err);
size_t plot_group_of(const struct plot_groups *groups, const char *method, double pet_size); /* SIZE_MAX: none */

/* "The best method", or of several tasks "en-de: the best method". */
void plot_name(const struct analysis *analysis, struct plot *plot, const char *task, const char *title);

/* Interval of a law's prediction over the resamples of its fit: false where there are none. */
bool plot_band(const struct analysis *analysis, const struct analysis_fit *fit, const double x[LAW_AXES],
               double range[2]);

/* Title of an axis of the fitted loss: "test loss (nats/token)". Returns `out`. */
const char *plot_loss_label(const struct analysis *analysis, char *out, size_t size);

int plot_views(struct plot_place *place);
int plot_comparisons(struct plot_place *place);
int plot_map(struct plot_place *place, const struct plot_groups *groups, const char *task);
int plot_run(struct plot_place *place);

#endif
