/* One plot as a gnuplot script and its data, kept on disk so that anyone can redraw it: NAME.gp, NAME.dat, NAME.svg.
 * Internal to fitting/. */
#ifndef TUNELAW_FITTING_FIGURE_H
#define TUNELAW_FITTING_FIGURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "io/error.h"

enum figure_style { FIGURE_POINTS = 0, FIGURE_HOLLOW, FIGURE_LINE, FIGURE_DASHED };

enum { FIGURE_TICKS = 8 };

struct figure_axes {
    const char *x, *y; /* labels */
    const char *key;   /* title of the legend, "" for none */
    bool log_x, zero_line;
    const double *levels; /* ascending values of x that the points have: marks of a logarithmic axis, thinned to
                             FIGURE_TICKS; NULL: gnuplot's */
    size_t level_count;
};

struct figure;
struct figure *figure_create(const char *folder, const char *name, const struct figure_axes *axes, struct error *err);

/* Add count points; nothing is added where count is 0. colour: 0..; one colour and one shape each, safe for
 * colour-blind readers and on light and dark pages. title: NULL for none; characters that gnuplot could read as more
 * than text become '_'. */
void figure_series(struct figure *figure, enum figure_style style, size_t colour, const char *title,
                   const double (*points)[2], size_t count);

/* Close the files; *series is how many were added. */
int figure_close(struct figure *figure, size_t *series, struct error *err);

/* Run gnuplot on NAME.gp of every name, in the folder. */
int figures_draw(const char *folder, const char (*names)[32], size_t count, struct error *err);

/* Write NAME.svg into a page: no prologue, no links to elsewhere, ids that are unique in the page, black as the page's
 * text colour. */
int figure_inline(const char *folder, const char *name, const char *label, FILE *out, struct error *err);

#endif
