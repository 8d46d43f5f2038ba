/* Fitting: from a plot's SVG file to the page: colours become the page's, what says or draws nothing goes. */
#include <stdlib.h>
#include <string.h>

#include "fitting/report/figure.h"
#include "fitting/report/html.h"

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

static const struct {
    const char *from, *to;
} replacements[] = {
    /* the groups' usual attributes are those of the root, below */
    {" fill=\"none\" color=\"black\" stroke=\"currentColor\" stroke-width=\"1.30\" stroke-linecap=\"butt\" "
     "stroke-linejoin=\"miter\"",
     ""},
    {" stroke-linecap=\"butt\" stroke-linejoin=\"miter\"", ""},
    {" xmlns=\"http://www.w3.org/2000/svg\"", ""},
    {" xmlns:xlink=\"http://www.w3.org/1999/xlink\"", ""},
    {" font-family=\"sans-serif\"", ""},
    {" class=\"gridline\"", ""},
    {" color=\"black\"", ""},
    {"xlink:href=", "href="},
    {"fill=\"black\"", "fill=\"currentColor\""},
    {"stroke='black'", "stroke='currentColor'"},
    {"stroke=\"black\"", "stroke=\"currentColor\""},
    {"rgb(  0,   0,   0)", "currentColor"},
    {"rgb(0,0,0)", "currentColor"},
    {"rgb(187, 187, 187)", "var(--grid)"},
    {"rgb(136, 136, 136)", "var(--soft)"},
    {"'black'", "'currentColor'"},
    {"\n\t", "\n"},
    {"\t", ""},
};

/* Elements that go with all that they hold. */
static const char *const dropped[][2] = {{"<title>", "</title>"},          {"<desc>", "</desc>"},
                                         {"<filter ", "</filter>"},        {" id=\"gnuplot_", "\""},
                                         {"<rect x=\"0\" y=\"0\" ", "/>"}, {" fill-opacity = '", "'"}};

/* Length of a group without contents at `svg`, 0 where there is none. */
static size_t empty_group(const char *svg)
{
    if (strncmp(svg, "<g ", 3)) return 0;
    const char *end = strchr(svg, '>');
    if (!end) return 0;
    end += 1 + strspn(end + 1, " \n\t");
    return strncmp(end, "</g>", 4) ? 0 : (size_t)(end + 4 - svg);
}

static size_t dropped_length(const char *svg, bool marks)
{
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++) {
        size_t size = strlen(dropped[i][0]);
        if (strncmp(svg, dropped[i][0], size)) continue;
        const char *end = strstr(svg + size, dropped[i][1]);
        return end ? (size_t)(end - svg) + strlen(dropped[i][1]) : 0;
    }
    if (!marks && !strncmp(svg, "<defs>", 6)) {
        const char *end = strstr(svg, "</defs>");
        return end ? (size_t)(end - svg) + strlen("</defs>") : 0;
    }
    return empty_group(svg);
}

/* A colour of the palette at `svg` as the page's variable; its length, 0 where there is none. */
static size_t write_colour(FILE *out, const char *svg)
{
    unsigned rgb[3];
    int length = 0;
    if (strncmp(svg, "rgb(", 4) || sscanf(svg, "rgb(%u,%u,%u)%n", &rgb[0], &rgb[1], &rgb[2], &length) != 3) return 0;
    char hex[32];
    snprintf(hex, sizeof hex, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
    for (size_t i = 0; i < 2 * FIGURE_COLOURS; i++) {
        const struct figure_colour *colour = figure_colour(i < FIGURE_COLOURS ? i : FIGURE_RAMP + i - FIGURE_COLOURS);
        if (strcmp(colour->hex, hex)) continue;
        fprintf(out, "var(%s)", colour->variable);
        return (size_t)length;
    }
    return 0;
}

/* Areas are as faint as a group, not each for itself: where two of one colour touch or overlap nothing shows. */
static size_t write_areas(FILE *out, const char *svg)
{
    static const char begin[] = "<g stroke='none' shape-rendering='crispEdges'>", opacity[] = "fill-opacity = '";
    if (strncmp(svg, begin, strlen(begin))) return 0;
    const char *end = strstr(svg, "</g>"), *value = strstr(svg, opacity);
    if (end && value && value < end)
        fprintf(out, "<g stroke='none' opacity='%.4g'>", strtod(value + strlen(opacity), NULL));
    else
        fputs("<g stroke='none'>", out);
    return strlen(begin);
}

static size_t write_replacement(FILE *out, const char *svg)
{
    for (size_t i = 0; i < sizeof replacements / sizeof *replacements; i++) {
        size_t size = strlen(replacements[i].from);
        if (strncmp(svg, replacements[i].from, size)) continue;
        fputs(replacements[i].to, out);
        return size;
    }
    return 0;
}

static void write_inline(FILE *out, const char *svg, bool marks)
{
    char last = 0;
    while (*svg) {
        size_t length = dropped_length(svg, marks);
        if (!length) length = write_areas(out, svg);
        if (!length) length = write_replacement(out, svg);
        if (!length) length = write_colour(out, svg);
        if (!length && !(*svg == '\n' && last == '\n')) fputc(*svg, out);
        last = length ? last : *svg;
        svg += length ? length : 1;
    }
}

int figure_inline(const char *folder, const char *name, const char *label, bool marks, FILE *out, struct error *err)
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
        fputs("\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.3\"", out);
        write_inline(out, start + 4, marks);
    }
    free(text);
    return result;
}
