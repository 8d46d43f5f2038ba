/* Fitting: plots by gnuplot, as scripts and data in files beside the report. */
#include "fitting/report/figure.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fitting/report/html.h"

extern char **environ;

static const int filled[FIGURE_SHAPES] = {7, 5, 9, 11, 13, 15, 7};
static const int hollow[FIGURE_SHAPES] = {6, 4, 8, 10, 12, 14, 6};

/* after Okabe and Ito; then, from small to large, after matplotlib's plasma: the values of report.css for light pages
 */
static const struct figure_colour colours[] = {
    {"--c0", "#0072b2"}, {"--c1", "#d55e00"}, {"--c2", "#008a64"}, {"--c3", "#b6579a"}, {"--c4", "#8a6d00"},
    {"--c5", "#6360c9"}, {"--c6", "#6b6b6b"}, {"--r0", "#d9603f"}, {"--r1", "#cb4a6f"}, {"--r2", "#b5348a"},
    {"--r3", "#93219f"}, {"--r4", "#6e0fa6"}, {"--r5", "#46089c"}, {"--r6", "#190a80"},
};
enum { RAMP = sizeof colours / sizeof *colours - FIGURE_COLOURS };

struct figure {
    FILE *script, *data;
    char name[32];
    size_t blocks;
};

size_t figure_columns(enum figure_style style)
{
    static const size_t columns[FIGURE_STYLES] = {2, 2, 2, 2, 2, 3, 4, 4, 6, 6};
    return columns[style];
}

size_t figure_ramp(size_t i, size_t n)
{
    return FIGURE_RAMP + (n > 1 ? i * (RAMP - 1) / (n - 1) : RAMP / 2);
}

const struct figure_colour *figure_colour(size_t colour)
{
    static const struct figure_colour text = {"currentColor", "#000000"};
    if (colour == FIGURE_TEXT) return &text;
    return &colours[colour >= FIGURE_RAMP ? FIGURE_COLOURS + (colour - FIGURE_RAMP) % RAMP : colour % FIGURE_COLOURS];
}

size_t figure_marks(double low, double high, double marks[FIGURE_TICKS])
{
    static const double steps[] = {1, 2, 5, 10};
    const double power = pow(10, floor(log10((high - low) / FIGURE_TICKS)));
    double step = power;
    for (size_t i = 0; i < 4 && floor(high / step) - ceil(low / step) + 1 > FIGURE_TICKS; i++)
        step = steps[i] * power;
    size_t count = 0;
    for (double at = ceil(low / step); count < FIGURE_TICKS && at * step <= high; at++)
        marks[count++] = at * step + 0.0; /* not -0 */
    return count;
}

size_t figure_log_marks(double low, double high, double marks[FIGURE_TICKS])
{
    static const double steps[] = {1, 2, 5};
    double decades = log10(high / low);
    size_t count = 0, each = decades < 2 ? 3 : 1,
           stride = decades < FIGURE_TICKS ? 1 : (size_t)(decades / FIGURE_TICKS) + 1;
    for (double power = pow(10, floor(log10(low))); power <= high; power *= pow(10, (double)stride))
        for (size_t i = 0; i < each; i++)
            if (steps[i] * power >= low && steps[i] * power <= high && count < FIGURE_TICKS)
                marks[count++] = steps[i] * power;
    return count;
}

static FILE *open_part(const char *folder, const char *name, const char *suffix, struct error *err)
{
    char path[4096 + 64];
    snprintf(path, sizeof path, "%.4000s/%s%s", folder, name, suffix);
    FILE *file = fopen(path, "we");
    if (!file) error_set_errno(err, "%s", path);
    return file;
}

static void write_levels(FILE *script, char axis, const double *levels, size_t count)
{
    size_t stride = (count + FIGURE_TICKS - 1) / FIGURE_TICKS;
    fprintf(script, "set %ctics (", axis);
    for (size_t i = (count - 1) % stride; i < count; i += stride) { /* the largest is always there */
        char text[32];
        fprintf(script, "%s'%s' %.17g", i >= stride ? ", " : "", html_count_short(levels[i], text, sizeof text),
                levels[i]);
    }
    fprintf(script, ")\nunset m%ctics\n", axis);
}

/* Text between quotes that gnuplot cannot read as more. */
static void write_title(FILE *script, const char *title)
{
    fputc('\'', script);
    for (const unsigned char *c = (const unsigned char *)title; *c; c++)
        fputc(isalnum(*c) || strchr(" .,:=_()-+/", *c) ? *c : '_', script);
    fputc('\'', script);
}

static void write_range(FILE *script, char axis, const double range[2])
{
    if (range[1] > range[0]) fprintf(script, "set %crange [%.17g:%.17g]\n", axis, range[0], range[1]);
}

static void write_y_names(FILE *script, const struct figure_axes *axes)
{
    fputs("set ytics (", script);
    for (size_t i = 0; i < axes->y_name_count; i++) {
        if (i) fputs(", ", script);
        write_title(script, axes->y_names[i]);
        fprintf(script, " %zu", i + 1);
    }
    fprintf(script, ") scale 0\nset yrange [0.4:%g]\n", (double)axes->y_name_count + 0.6);
}

static void write_decades(FILE *script, const double range[2])
{
    bool first = true;
    fputs("set xtics (", script);
    for (double at = pow(10, ceil(log10(range[0]))); at <= range[1]; at *= 10, first = false) {
        char text[32];
        fprintf(script, "%s'%s' %.17g", first ? "" : ", ", html_count_short(at, text, sizeof text), at);
    }
    fputs(")\nunset mxtics\n", script);
}

static void write_axes(FILE *script, const struct figure_axes *axes)
{
    if (axes->log_x) fprintf(script, "set logscale x\nset format x '%%.0s%%c'\n");
    if (axes->log_y) fprintf(script, "set logscale y\nset format y '%%.0s%%c'\n");
    if (axes->decades) write_decades(script, axes->range);
    if (axes->level_count) {
        const double around[2] = {axes->levels[0] / 1.3, axes->levels[axes->level_count - 1] * 1.3};
        write_range(script, 'x', around);
        write_levels(script, 'x', axes->levels, axes->level_count);
    }
    if (axes->y_level_count) write_levels(script, 'y', axes->y_levels, axes->y_level_count);
    if (axes->y_names) write_y_names(script, axes);
    write_range(script, 'x', axes->range);
    write_range(script, 'y', axes->y_range);
    if (axes->zero_line && !axes->y_names) fputs("set xzeroaxis linetype 1 linecolor rgb '#888888'\n", script);
    if (axes->zero_line && axes->y_names) fputs("set yzeroaxis linetype 1 linecolor rgb '#888888'\n", script);
}

static unsigned height_of(const struct figure_axes *axes)
{
    if (axes->y_names) return 90 + 26 * (unsigned)axes->y_name_count;
    return axes->large ? 380 : 320;
}

struct figure *figure_create(const char *folder, const char *name, const struct figure_axes *axes, struct error *err)
{
    struct figure *figure = calloc(1, sizeof *figure);
    if (!figure) {
        error_set(err, "out of memory for a plot");
        return NULL;
    }
    snprintf(figure->name, sizeof figure->name, "%s", name);
    figure->script = open_part(folder, name, ".gp", err);
    figure->data = figure->script ? open_part(folder, name, ".dat", err) : NULL;
    if (!figure->data) {
        if (figure->script) fclose(figure->script);
        free(figure);
        return NULL;
    }
    fprintf(figure->script,
            "# gnuplot %s.gp\nreset\n"
            "set terminal svg size %d,%u dynamic noenhanced font 'sans-serif,14' linewidth 1.3\n"
            "set output '%s.svg'\n"
            "set border 1 linecolor rgb '#888888'\nset tics nomirror out scale 0.4 textcolor rgb 'black'\nset ytics "
            "scale 0\n"
            "set grid back linetype 1 linecolor rgb '#bbbbbb' linewidth 0.4\n"
            "set xlabel '%s'\nset ylabel '%s'\nset offsets graph 0, graph 0, graph 0.05, graph 0.05\n",
            name, axes->large ? 500 : 420, height_of(axes), name, axes->x, axes->y);
    if (axes->no_key)
        fputs("unset key\n", figure->script);
    else
        fprintf(figure->script,
                "set key above left Left reverse title '%s' left maxrows 3 samplen 0.6 width -1 font ',13'\n",
                axes->key);
    write_axes(figure->script, axes);
    return figure;
}

static void write_style(FILE *script, enum figure_style style, size_t shape)
{
    const int full = filled[shape % FIGURE_SHAPES], open = hollow[shape % FIGURE_SHAPES];
    switch (style) {
    case FIGURE_POINTS:
        fprintf(script, "1:2 with points pointtype %d pointsize 0.6", full);
        break;
    case FIGURE_HOLLOW:
        fprintf(script, "1:2 with points pointtype %d pointsize 0.8", open);
        break;
    case FIGURE_DASHED:
        fputs("1:2 with lines dashtype 2", script);
        break;
    case FIGURE_THIN:
        fputs("1:2 with lines linewidth 0.7", script);
        break;
    case FIGURE_BAND:
        fputs("1:2:3 with filledcurves fill transparent solid 0.15 noborder", script);
        break;
    case FIGURE_RANGE:
        fprintf(script, "1:2:3:4 with xerrorbars pointtype %d pointsize 0.6", full);
        break;
    case FIGURE_SPAN:
        fputs("1:2:3:4 with xerrorbars pointtype 0 linewidth 0.8", script);
        break;
    case FIGURE_AREA:
        fputs("1:2:3:4:5:6 with boxxyerror fill transparent solid 0.42 noborder", script);
        break;
    case FIGURE_FAINT_AREA:
        fputs("1:2:3:4:5:6 with boxxyerror fill transparent solid 0.16 noborder", script);
        break;
    default:
        fputs("1:2 with lines", script);
    }
}

void figure_series(struct figure *figure, enum figure_style style, size_t colour, size_t shape, const char *title,
                   const double *values, size_t count)
{
    size_t columns = figure_columns(style);
    if (!count) return;
    fprintf(figure->data, "%s# %s\n", figure->blocks ? "\n\n" : "", title ? title : "");
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < columns; c++)
            fprintf(figure->data, "%.10g%c", values[i * columns + c], c + 1 < columns ? ' ' : '\n');
    fprintf(figure->script, "%s'%s.dat' index %zu using ", figure->blocks ? ", \\\n     " : "plot ", figure->name,
            figure->blocks);
    write_style(figure->script, style, shape);
    fprintf(figure->script, " linecolor rgb '%s' ", figure_colour(colour)->hex);
    if (title) {
        fprintf(figure->script, "title ");
        write_title(figure->script, title);
    } else {
        fprintf(figure->script, "notitle");
    }
    figure->blocks++;
}

int figure_close(struct figure *figure, size_t *series, struct error *err)
{
    *series = figure->blocks;
    fputc('\n', figure->script);
    int failed = ferror(figure->script) || ferror(figure->data);
    failed |= fclose(figure->script) | fclose(figure->data);
    if (failed) error_set_errno(err, "cannot write the plot %s", figure->name);
    free(figure);
    return failed ? -1 : 0;
}

/* With the first line that gnuplot has said, which its log in the folder holds: the folder goes. */
static int gnuplot_failed(const char *folder, struct error *err)
{
    char path[4096 + 64], line[200] = "";
    snprintf(path, sizeof path, "%.4000s/gnuplot.log", folder);
    FILE *log = fopen(path, "re");
    while (log && fgets(line, sizeof line, log) && !line[strspn(line, " \t\n^")])
        line[0] = 0;
    if (log) fclose(log);
    line[strcspn(line, "\n")] = 0;
    return error_set(err, "gnuplot failed%s%s", line[0] ? ": " : "", line);
}

static int wait_for(pid_t child, const char *folder, struct error *err)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return error_set_errno(err, "gnuplot");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return error_set(
            err, "gnuplot is not installed, and the report's plots need it; on Debian: apt-get install gnuplot-nox");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : gnuplot_failed(folder, err);
}

int figures_draw(const char *folder, const char (*names)[32], size_t count, struct error *err)
{
    if (!count) return 0;
    int result = -1;
    char(*scripts)[40] = calloc(count, sizeof *scripts);
    char **words = calloc(count + 3, sizeof *words);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (!scripts || !words) {
        error_set(err, "out of memory for %zu plots", count);
        goto done;
    }
    words[0] = "gnuplot";
    words[1] = "--default-settings"; /* nobody's .gnuplot has a say */
    for (size_t i = 0; i < count; i++) {
        snprintf(scripts[i], sizeof scripts[i], "%s.gp", names[i]);
        words[i + 2] = scripts[i];
    }
    posix_spawn_file_actions_addchdir_np(&actions, folder);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "gnuplot.log", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child;
    int code = posix_spawnp(&child, "gnuplot", &actions, NULL, words, environ);
    if (code == ENOENT) {
        error_set(err,
                  "gnuplot is not installed, and the report's plots need it; on Debian: apt-get install gnuplot-nox");
        goto done;
    }
    if (code) {
        errno = code;
        error_set_errno(err, "gnuplot cannot be started");
        goto done;
    }
    result = wait_for(child, folder, err);
done:
    posix_spawn_file_actions_destroy(&actions);
    free(words);
    free(scripts);
    return result;
}
