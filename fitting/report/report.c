/* Fitting, the end of the way of the data: an analysis in, one page out, plots drawn beside it and set into it. */
#include "fitting/report/report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fitting/report/figure.h"
#include "fitting/report/html.h"
#include "fitting/report/report_internal.h"
#include "io/file.h"

static int write_figure(struct report *report, const struct plot *plot, struct error *err)
{
    char label[sizeof plot->title + sizeof plot->caption + 4];
    FILE *out = report->out;
    snprintf(label, sizeof label, "%s. %s", plot->title, plot->caption);
    fputs("<figure>\n", out);
    if (figure_inline(report->folder, plot->name, label, !report->has_marks, out, err)) return -1;
    report->has_marks = true;
    fputs("<figcaption><b>", out);
    html_text(out, plot->title);
    fputs(".</b> ", out);
    html_text(out, plot->caption);
    fputs("</figcaption>\n</figure>\n", out);
    return 0;
}

static bool has_plot(const struct report *report, enum plot_kind kind)
{
    for (size_t i = 0; i < report->plots->count; i++)
        if (report->plots->items[i].kind == kind) return true;
    return false;
}

static int write_kind(struct report *report, enum plot_kind kind, struct error *err)
{
    if (!has_plot(report, kind)) return 0;
    fputs(kind == PLOT_CURVES ? "<div class=\"figures\">\n" : "<div class=\"figures large\">\n", report->out);
    for (size_t i = 0; i < report->plots->count; i++)
        if (report->plots->items[i].kind == kind && write_figure(report, &report->plots->items[i], err)) return -1;
    fputs("</div>\n", report->out);
    return 0;
}

/* Figures of the views, those of one method of a task under its name. */
static int write_views(struct report *report, struct error *err)
{
    const struct analysis_fit *last = NULL;
    char label[OBSERVATION_LABEL];
    for (size_t i = 0; i < report->plots->count; i++) {
        const struct plot *plot = &report->plots->items[i];
        if (plot->kind > PLOT_RESIDUALS) continue;
        const struct analysis_fit *fit = &report->analysis->fits[plot->fit];
        if (!last || strcmp(last->method, fit->method) || strcmp(last->task, fit->task)) {
            fprintf(report->out, "%s<h3>", last ? "</div>\n" : "");
            html_text(report->out, observations_label(&report->analysis->observations, fit->task, fit->method, label));
            fputs("</h3>\n<div class=\"figures\">\n", report->out);
        }
        last = fit;
        if (write_figure(report, plot, err)) return -1;
    }
    if (last) fputs("</div>\n", report->out);
    if (report->plots->views > report->plots->views_drawn)
        fprintf(report->out,
                "<p class=\"soft\">The %zu views with most points, of %zu; all are in the tables above.</p>\n",
                report->plots->views_drawn, report->plots->views);
    return 0;
}

/* A figure and the table that goes with it: side by side where there is room. */
static int write_pair(struct report *report, enum plot_kind kind, void table(const struct report *), struct error *err)
{
    fputs("<div class=\"pair\">\n", report->out);
    if (write_kind(report, kind, err)) return -1;
    fputs("<div>\n", report->out);
    table(report);
    fputs("</div>\n</div>\n", report->out);
    return 0;
}

static void heading(const struct report *report, const char *id, const char *title)
{
    fprintf(report->out, "<h2 id=\"%s\">%s</h2>\n", id, title);
}

static bool has_texts(const struct report *report)
{
    return report_first_score(&report->analysis->observations) < OBSERVATION_SCORES;
}

static int write_comparisons(struct report *report, struct error *err)
{
    heading(report, "methods", "Methods side by side");
    if (write_pair(report, PLOT_METHODS, report_best_cells, err)) return -1;
    if (report_has_powers(report)) {
        heading(report, "axes", "Which axis helps most");
        fputs("<p>The procedure of Zhang et al. (2024) in two stages: β and E are shared by the axes of model size and "
              "pretraining, then each axis is fitted with its own power. The larger α is, the more a factor on that "
              "axis lowers the loss. ?: the points do not identify it.</p>\n",
              report->out);
        if (write_pair(report, PLOT_POWERS, report_powers, err)) return -1;
    }
    if (has_plot(report, PLOT_MAP) || report->analysis->crossing_count) {
        heading(report, "map", "Which method where");
        if (write_pair(report, PLOT_MAP, report_crossings, err)) return -1;
    }
    if (report_has_forgetting(report)) {
        heading(report, "forgetting", "Forgetting");
        if (write_pair(report, PLOT_FORGETTING, report_forgetting, err)) return -1;
    }
    if (!has_texts(report)) return 0;
    heading(report, "texts", "Generated texts");
    if (write_kind(report, PLOT_TEXTS, err)) return -1;
    report_texts(report); /* as wide as there are metrics */
    return 0;
}

static int write_run(struct report *report, struct error *err)
{
    heading(report, "held-out", "Held-out points");
    report_heldout(report);
    if (has_plot(report, PLOT_CURVES)) {
        heading(report, "training", "Training");
        if (write_kind(report, PLOT_CURVES, err)) return -1;
    }
    if (report->run->point_count) {
        heading(report, "cost", "Time and FLOPs");
        if (write_pair(report, PLOT_COST, report_shares, err)) return -1;
        report_cost(report);
    }
    heading(report, "left-out", "Left out of the fits");
    report_left_out(report);
    heading(report, "points", "Points");
    report_points(report);
    heading(report, "provenance", "Provenance");
    report_provenance(report);
    return 0;
}

static void write_contents(const struct report *report)
{
    const struct {
        const char *id, *name;
        bool there;
    } sections[] = {
        {"sweep", "The sweep", true},
        {"laws", "Laws", true},
        {"curves", "Loss curves", report->analysis->observations.count > 0},
        {"methods", "Methods", report->analysis->observations.count > 0},
        {"axes", "Axes", report_has_powers(report)},
        {"map", "Which method where", has_plot(report, PLOT_MAP) || report->analysis->crossing_count},
        {"forgetting", "Forgetting", report_has_forgetting(report)},
        {"texts", "Generated texts", has_texts(report)},
        {"held-out", "Held-out points", true},
        {"training", "Training", has_plot(report, PLOT_CURVES)},
        {"cost", "Time and FLOPs", report->run->point_count > 0},
        {"left-out", "Left out", true},
        {"points", "Points", true},
        {"provenance", "Provenance", true},
    };
    fputs("<nav aria-label=\"Sections\"><ul>\n", report->out);
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (sections[i].there)
            fprintf(report->out, "<li><a href=\"#%s\">%s</a></li>\n", sections[i].id, sections[i].name);
    fputs("</ul></nav>\n", report->out);
}

static void write_head(const struct report *report)
{
    FILE *out = report->out;
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
          "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>",
          out);
    html_text(out, report->analysis->observations.name);
    fprintf(out, " - finetuning scaling laws</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n", report_style);
    report_overview(report);
    write_contents(report);
    fputs("</header>\n<main>\n", out);
}

static int write_page(struct report *report, struct error *err)
{
    write_head(report);
    report_in_short(report);
    report_warnings(report);
    heading(report, "sweep", "The sweep");
    report_setup(report);
    report_rates(report);
    heading(report, "laws", "Laws");
    report_laws(report);
    report_choice(report);
    if (report->analysis->observations.count) {
        heading(report, "curves", "Loss curves");
        fputs("<p class=\"soft\">Points are measured losses; lines are the law of the view with the lower held-out "
              "error. Hollow points were held out: no law has seen them. A law that fits leaves no pattern: points lie "
              "on both sides of 0 at every loss and size.</p>\n",
              report->out);
        if (write_views(report, err) || write_comparisons(report, err)) return -1;
    }
    if (write_run(report, err)) return -1;
    fputs("</main>\n</body>\n</html>\n", report->out);
    return 0;
}

static int write_beside(struct report *report, const char *path, struct error *err)
{
    struct file_draft draft;
    if (file_draft_open(&draft, path, 0666, err)) return -1;
    report->out = draft.file;
    if (!write_page(report, err)) return file_draft_publish(&draft, true, err);
    file_draft_discard(&draft);
    return -1;
}

/* Move every file of the folder `from` into `to`, and remove `from`. */
static int keep_drawings(const char *from, const char *to, struct error *err)
{
    int result = 0;
    DIR *drawn = opendir(from);
    int kept = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!drawn || kept < 0) result = error_set_errno(err, "%s", drawn ? to : from);
    for (struct dirent *entry; !result && (entry = readdir(drawn));)
        if (entry->d_name[0] != '.' && renameat(dirfd(drawn), entry->d_name, kept, entry->d_name))
            result = error_set_errno(err, "%s/%s", to, entry->d_name);
    if (kept >= 0) close(kept);
    if (drawn) closedir(drawn);
    if (!result && rmdir(from)) result = error_set_errno(err, "%s", from);
    return result;
}

/* A drawing folder whose page could not be made, and `made`, the folder of the drawings, where it is new. */
static void remove_drawings(const char *folder, const char *made)
{
    DIR *drawn = opendir(folder);
    for (struct dirent *entry; drawn && (entry = readdir(drawn));)
        if (entry->d_name[0] != '.') unlinkat(dirfd(drawn), entry->d_name, 0);
    if (drawn) closedir(drawn);
    rmdir(folder);
    if (made) rmdir(made);
}

/* Of a folder DIR/report; of a store file or a page, beside it: NAME-report. And what is made for it. */
static void name(const char *path, const char *suffix, char out[REPORT_PATH])
{
    static const char *const endings[] = {".h5", ".html"};
    struct stat status;
    size_t length = strlen(path);
    bool folder = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
    for (size_t i = 0; !folder && i < sizeof endings / sizeof *endings; i++) {
        size_t size = strlen(endings[i]);
        if (length <= size || strcmp(path + length - size, endings[i])) continue;
        length -= size;
        break;
    }
    if (length > 4080) length = 4080; /* PATH_MAX ends before: it is refused where it is opened */
    snprintf(out, REPORT_PATH, "%.*s%s%s", (int)length, path, folder ? "/report" : "-report", suffix);
}

void report_default_page(const char *dir, char page[REPORT_PATH])
{
    name(dir, ".html", page);
}

const char *report_rest(const struct report *report)
{
    return report->kept ? "all are in fit.json" : "<code>tunelaw fit --json</code> prints all";
}

int report_write(const char *dir, const char *path, const struct analysis *analysis, bool kept, struct error *err)
{
    char folder[REPORT_PATH], drawing[REPORT_PATH], page[REPORT_PATH];
    struct plots plots = {0};
    struct run_record run = {0};
    name(path ? path : dir, "", folder);
    name(path ? path : dir, ".XXXXXX", drawing);
    report_default_page(dir, page);
    bool made = mkdir(folder, 0777) == 0;
    if (!made && errno != EEXIST) return error_set_errno(err, "%s", folder);
    int result = run_record_read(dir, &run, err);
    /* gnuplot would follow a link that somebody has put where it draws: it gets a folder that is new and ours alone */
    if (!result && !mkdtemp(drawing)) result = error_set_errno(err, "%s", drawing);
    if (result) {
        run_record_destroy(&run);
        if (made) rmdir(folder);
        return -1;
    }
    size_t *predicting = plots_predicting_fits(analysis, err);
    struct report report = {.analysis = analysis,
                            .run = &run,
                            .plots = &plots,
                            .predicting = predicting,
                            .dir = dir,
                            .folder = drawing,
                            .drawings = strrchr(folder, '/') ? strrchr(folder, '/') + 1 : folder,
                            .kept = kept};
    result = predicting ? plots_make(analysis, &run, drawing, &plots, err) : -1;
    if (!result) result = write_beside(&report, path ? path : page, err);
    if (!result) result = keep_drawings(drawing, folder, err);
    if (result) remove_drawings(drawing, made ? folder : NULL);
    plots_destroy(&plots);
    free(predicting);
    run_record_destroy(&run);
    return result;
}
