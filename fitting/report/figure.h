/* One plot as a gnuplot script and its data, kept on disk so that anyone can redraw it: NAME.gp, NAME.dat, NAME.svg.
 * Internal to fitting/. */
#ifndef TUNELAW_FITTING_REPORT_FIGURE_H
#define TUNELAW_FITTING_REPORT_FIGURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "io/error.h"

/* What a series is drawn as, and the columns of its values. */
enum figure_style {
    FIGURE_POINTS = 0, /* x y */
    FIGURE_HOLLOW,     /* x y */
    FIGURE_LINE,       /* x y */
    FIGURE_DASHED,     /* x y */
    FIGURE_THIN,       /* x y: a line among many */
    FIGURE_BAND,       /* x low high: an area, faint */
    FIGURE_RANGE,      /* x y low high: a point with its interval along x */
    FIGURE_SPAN,       /* the same without the point */
    FIGURE_AREA,       /* x y x-low x-high y-low y-high: a box */
    FIGURE_FAINT_AREA, /* the same, fainter */
    FIGURE_STYLES
};
size_t figure_columns(enum figure_style style);

enum { FIGURE_TICKS = 6, FIGURE_COLOURS = 7, FIGURE_SHAPES = 7, FIGURE_GREY = 6, FIGURE_RAMP = 64, FIGURE_TEXT = 128 };

/* Colour of level i of n on an ordered scale, for figure_series; 0 to FIGURE_COLOURS - 1 are colours of unordered
 * things, FIGURE_GREY one that stands back, FIGURE_TEXT
 * that of text. All are told apart by colour-blind readers, and differ in light and dark. */
size_t figure_ramp(size_t i, size_t n);

struct figure_axes {
    const char *x, *y; /* labels */
    const char *key;   /* title of the legend, "" for none */
    bool log_x, log_y, zero_line, large;
    bool no_key;
    bool decades;         /* marks of x at powers of ten as counts */
    const double *levels; /* ascending values of x that the points have: marks of a logarithmic axis, thinned to
                             FIGURE_TICKS; NULL: gnuplot's */
    size_t level_count;
    double range[2];        /* of x; 0, 0: from the levels or the data */
    const double *y_levels; /* as levels, for y */
    size_t y_level_count;
    double y_range[2];          /* 0, 0: from the data */
    const char (*y_names)[160]; /* names of y = 1, 2, … from below; NULL: numbers */
    size_t y_name_count;
};

struct figure;
struct figure *figure_create(const char *folder, const char *name, const struct figure_axes *axes, struct error *err);

/* Add count values of figure_columns(style) numbers each; nothing is added where count is 0. shape: 0.., used by
 * points. title: NULL for none; characters that gnuplot could read as more than text become '_'. */
void figure_series(struct figure *figure, enum figure_style style, size_t colour, size_t shape, const char *title,
                   const double *values, size_t count);

/* Marks of an axis from low to high, at most FIGURE_TICKS, 1, 2 or 5 times powers of ten: of a logarithmic axis, of a
 * linear one. */
size_t figure_log_marks(double low, double high, double marks[FIGURE_TICKS]);
size_t figure_marks(double low, double high, double marks[FIGURE_TICKS]);

/* Close the files; *series is how many were added. */
int figure_close(struct figure *figure, size_t *series, struct error *err);

/* Run gnuplot on NAME.gp of every name, in the folder. */
int figures_draw(const char *folder, const char (*names)[32], size_t count, struct error *err);

/* Write NAME.svg into a page: no prologue, nothing that is drawn empty, no links to elsewhere, black as the page's text
 * colour and colours as its variables --c0 .. and --r0 ... `marks`: with the shapes of points, which the first figure
 * of a page has for all. `label`: for those who do not see it. */
int figure_inline(const char *folder, const char *name, const char *label, bool marks, FILE *out, struct error *err);

/* Colour i as the variable of the page and in the files on disk. */
struct figure_colour {
    const char *variable, *hex;
};
const struct figure_colour *figure_colour(size_t colour);

#endif
