/* Fitting, the end of the way of the data: an analysis in, one page out, plots drawn beside it and set into it. */
#include "fitting/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fitting/figure.h"
#include "fitting/html.h"
#include "fitting/report_internal.h"

static int write_figures(const struct plots *plots, const char *folder, enum plot_kind from, enum plot_kind to,
                         FILE *out, struct error *err)
{
    fputs("<div class=\"figures\">\n", out);
    for (size_t i = 0; i < plots->count; i++) {
        const struct plot *plot = &plots->items[i];
        if (plot->kind < from || plot->kind > to) continue;
        fputs("<figure>\n", out);
        if (figure_inline(folder, plot->name, plot->caption, out, err)) return -1;
        fputs("<figcaption>", out);
        html_text(out, plot->caption);
        fputs("</figcaption>\n</figure>\n", out);
    }
    fputs("</div>\n", out);
    return 0;
}

static int write_page(const struct analysis *analysis, const char *dir, const char *folder, const struct plots *plots,
                      FILE *out, struct error *err)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>",
          out);
    html_text(out, analysis->observations.name);
    fprintf(out, " - scaling laws</title>\n<style>\n%s</style>\n</head>\n<body>\n", report_style);
    report_overview(analysis, out);
    report_laws(analysis, out);
    fputs("<h2>Loss against finetuning examples and size</h2>\n<p class=\"soft\">Points are measured losses, curves "
          "the law named below each plot. "
          "Hollow points were held out: no law has seen them.</p>\n",
          out);
    if (write_figures(plots, folder, PLOT_EXAMPLES, PLOT_SIZE, out, err)) return -1;
    fputs("<h2>Methods compared</h2>\n", out);
    if (write_figures(plots, folder, PLOT_METHODS, PLOT_METHODS, out, err)) return -1;
    report_methods(analysis, out);
    report_staged(analysis, out);
    report_crossings(analysis, out);
    report_map(analysis, out);
    report_forgetting(analysis, out);
    report_heldout(analysis, out);
    fputs("<h2>Residuals</h2>\n<p class=\"soft\">A law that fits leaves no pattern: points lie on both sides of 0 at "
          "every loss and size.</p>\n",
          out);
    if (write_figures(plots, folder, PLOT_RESIDUALS, PLOT_RESIDUALS, out, err)) return -1;
    report_left_out(analysis, out);
    report_points(analysis, out);
    report_provenance(analysis, dir, out);
    fputs("</body>\n</html>\n", out);
    return 0;
}

static int write_beside(const struct analysis *analysis, const char *dir, const char *folder, const char *path,
                        const struct plots *plots, struct error *err)
{
    char beside[4096 + 64];
    snprintf(beside, sizeof beside, "%.4090s.tmp", path);
    FILE *out = fopen(beside, "w");
    if (!out) return error_set_errno(err, "%s", beside);
    int failed = write_page(analysis, dir, folder, plots, out, err);
    if (!failed && (fflush(out) || ferror(out) || fsync(fileno(out)))) failed = error_set_errno(err, "%s", beside);
    if (fclose(out) && !failed) failed = error_set_errno(err, "%s", beside);
    if (!failed && rename(beside, path)) failed = error_set_errno(err, "%s", path);
    if (failed) unlink(beside);
    return failed;
}

int report_write(const char *dir, const char *path, const struct analysis *analysis, struct error *err)
{
    char folder[4096 + 32], page[4096 + 32];
    struct plots plots;
    snprintf(folder, sizeof folder, "%.4090s/report", dir);
    snprintf(page, sizeof page, "%.4090s/report.html", dir);
    if (mkdir(folder, 0777) && errno != EEXIST) return error_set_errno(err, "%s", folder);
    if (plots_make(analysis, folder, &plots, err)) return -1;
    int result = write_beside(analysis, dir, folder, path ? path : page, &plots, err);
    plots_destroy(&plots);
    return result;
}
