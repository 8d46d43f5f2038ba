/* Fitting: plots by gnuplot, drawn into files beside the report and then into the page itself. */
#include "fitting/figure.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fitting/html.h"

extern char **environ;

/* after Okabe and Ito, in tones that keep a contrast of 3 on white and on the dark page */
static const char *const colours[] = {"#2e7ebb", "#d55e00", "#009e73", "#b6579a", "#8c7000", "#6f6fd0", "#7a7a7a"};
static const int filled[] = {7, 5, 9, 11, 13, 15, 7};
static const int hollow[] = {6, 4, 8, 10, 12, 14, 6};
enum { COLOURS = sizeof colours / sizeof *colours };

struct figure {
    FILE *script, *data;
    char name[32];
    size_t blocks;
};

static FILE *open_part(const char *folder, const char *name, const char *suffix, struct error *err)
{
    char path[4096 + 64];
    snprintf(path, sizeof path, "%.4000s/%s%s", folder, name, suffix);
    FILE *file = fopen(path, "w");
    if (!file) error_set_errno(err, "%s", path);
    return file;
}

static void write_levels(FILE *script, const struct figure_axes *axes)
{
    size_t stride = (axes->level_count + FIGURE_TICKS - 1) / FIGURE_TICKS;
    fprintf(script, "set xrange [%.17g:%.17g]\nset xtics (", axes->levels[0] / 1.3,
            axes->levels[axes->level_count - 1] * 1.3);
    for (size_t i = 0; i < axes->level_count; i += stride) {
        char text[32];
        fprintf(script, "%s'%s' %.17g", i ? ", " : "", html_count(axes->levels[i], text, sizeof text), axes->levels[i]);
    }
    fprintf(script, ")\nunset mxtics\n");
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
            "set terminal svg size 480,360 dynamic noenhanced font 'sans-serif,14' linewidth 1.3\n"
            "set output '%s.svg'\n"
            "set border 3\nset tics nomirror out\nset grid back linetype 1 linecolor rgb '#888888' linewidth 0.25\n"
            "set xlabel '%s'\nset ylabel '%s'\nset key above title '%s' maxrows 3 samplen 1\n"
            "set offsets graph 0, graph 0, graph 0.06, graph 0.06\n",
            name, name, axes->x, axes->y, axes->key);
    if (axes->log_x) fprintf(figure->script, "set logscale x\nset format x '%%.0s%%c'\n");
    if (axes->level_count) write_levels(figure->script, axes);
    if (axes->zero_line) fprintf(figure->script, "set xzeroaxis linetype 1 linecolor rgb '#888888' linewidth 1\n");
    return figure;
}

static void write_title(FILE *script, const char *title)
{
    fputc('\'', script);
    for (const char *c = title; *c; c++)
        fputc(isalnum((unsigned char)*c) || strchr(" .,:=_()-", *c) ? *c : '_', script);
    fputc('\'', script);
}

void figure_series(struct figure *figure, enum figure_style style, size_t colour, const char *title,
                   const double (*points)[2], size_t count)
{
    size_t shade = colour % COLOURS;
    if (!count) return;
    fprintf(figure->data, "%s# %s\n", figure->blocks ? "\n\n" : "", title ? title : "");
    for (size_t i = 0; i < count; i++)
        fprintf(figure->data, "%.17g %.17g\n", points[i][0], points[i][1]);
    fprintf(figure->script, "%s'%s.dat' index %zu using 1:2 with ", figure->blocks ? ", \\\n     " : "plot ",
            figure->name, figure->blocks);
    if (style == FIGURE_POINTS)
        fprintf(figure->script, "points pointtype %d pointsize 0.6", filled[shade]);
    else if (style == FIGURE_HOLLOW)
        fprintf(figure->script, "points pointtype %d pointsize 0.8", hollow[shade]);
    else
        fprintf(figure->script, "lines dashtype %d", style == FIGURE_DASHED ? 2 : 1);
    fprintf(figure->script, " linecolor rgb '%s' ", colours[shade]);
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

static int wait_for(pid_t child, const char *folder, struct error *err)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return error_set_errno(err, "gnuplot");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return error_set(
            err, "gnuplot is not installed, and the report's plots need it; on Debian: apt-get install gnuplot-nox");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return error_set(err, "gnuplot failed; see %s/gnuplot.log", folder);
    return 0;
}

int figures_draw(const char *folder, const char (*names)[32], size_t count, struct error *err)
{
    if (!count) return 0;
    int result = -1;
    char(*scripts)[40] = calloc(count, sizeof *scripts);
    char **words = calloc(count + 2, sizeof *words);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (!scripts || !words) {
        error_set(err, "out of memory for %zu plots", count);
        goto done;
    }
    words[0] = "gnuplot";
    for (size_t i = 0; i < count; i++) {
        snprintf(scripts[i], sizeof scripts[i], "%s.gp", names[i]);
        words[i + 1] = scripts[i];
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

/* *text is malloc'ed, also on failure. */
static int read_whole(const char *path, char **text, struct error *err)
{
    size_t size = 0;
    FILE *file = fopen(path, "r");
    *text = NULL;
    int failed = !file || getdelim(text, &size, '\0', file) < 0;
    if (failed) error_set_errno(err, "%s", path);
    if (file) fclose(file);
    return failed ? -1 : 0;
}

/* What is replaced on the way into the page, longest match first; `%` stands for the figure's name. */
static const char *const replacements[][2] = {
    {" xmlns=\"http://www.w3.org/2000/svg\"", ""},
    {" xmlns:xlink=\"http://www.w3.org/1999/xlink\"", ""},
    {"<title>Gnuplot</title>", ""},
    {"xlink:href='#", "href='#%-"},
    {"url(#", "url(#%-"},
    {"id=\"", "id=\"%-"},
    {"id='", "id='%-"},
    {"fill=\"black\"", "fill=\"currentColor\""},
    {"fill = \"black\"", "fill=\"currentColor\""},
    {"stroke='black'", "stroke='currentColor'"},
    {"color=\"black\"", "color=\"currentColor\""},
    {"stroke=\"black\"", "stroke=\"currentColor\""},
    {"rgb(  0,   0,   0)", "currentColor"},
    {"'black'", "'currentColor'"},
};

static void write_replacement(FILE *out, const char *text, const char *name)
{
    for (; *text; text++)
        if (*text == '%')
            fputs(name, out);
        else
            fputc(*text, out);
}

static void write_inline(FILE *out, const char *svg, const char *name)
{
    while (*svg) {
        size_t length = 0;
        for (size_t i = 0; i < sizeof replacements / sizeof *replacements && !length; i++) {
            size_t size = strlen(replacements[i][0]);
            if (strncmp(svg, replacements[i][0], size)) continue;
            write_replacement(out, replacements[i][1], name);
            length = size;
        }
        if (!length) fputc(*svg, out);
        svg += length ? length : 1;
    }
}

int figure_inline(const char *folder, const char *name, const char *label, FILE *out, struct error *err)
{
    char path[4096 + 64];
    snprintf(path, sizeof path, "%.4000s/%s.svg", folder, name);
    char *text = NULL, *start = NULL;
    int result = read_whole(path, &text, err);
    if (!result) start = strstr(text, "<svg");
    if (!result && !start) result = error_set(err, "%s: not an SVG", path);
    if (!result) {
        fputs("<svg role=\"img\" aria-label=\"", out);
        html_text(out, label);
        fputc('"', out);
        write_inline(out, start + 4, name);
    }
    free(text);
    return result;
}
