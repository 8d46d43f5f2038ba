/* Fitting: where the report's numbers come from: the store, the machines, the program, the sweep file. */
#include <stdlib.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/html_table.h"
#include "fitting/report/report_internal.h"
#include "io/version.h"

enum { LISTED_HOSTS = 12 };
#define COLUMNS(columns) columns, sizeof columns / sizeof *columns

static void write_executions(const struct report *report)
{
    static const struct html_column columns[] = {
        {"device", false}, {"execution class", false}, {"program", false}, {"points", true}, {"device time", true}};
    const struct run_record *run = report->run;
    struct html_table table;
    if (!run->kind_count) return;
    html_table_begin(&table, report->out, "What computed the points", COLUMNS(columns));
    for (size_t i = 0; i < run->kind_count; i++) {
        char text[32];
        html_row(&table, NULL);
        html_cell(&table, run->kinds[i].device);
        html_cell(&table, run->kinds[i].execution_class);
        html_cell(&table, run->kinds[i].version);
        html_number(&table, "%.0f", (double)run->kinds[i].points);
        html_cell(&table, report_duration(run->kinds[i].seconds, text, sizeof text));
        html_row_end(&table);
    }
    html_table_end(&table);
}

static void write_versions(FILE *out)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (!memory) return;
    version_print(memory);
    if (!fclose(memory)) html_text(out, text);
    free(text);
}

static void fact(FILE *out, const char *name, const char *value)
{
    if (!value[0]) return;
    fprintf(out, "<tr><th scope=\"row\">%s</th><td class=\"w\">", name);
    html_text(out, value);
    fputs("</td></tr>\n", out);
}

static void write_hosts(const struct run_record *run, FILE *out)
{
    if (!run->host_count) return;
    fprintf(out, "<tr><th scope=\"row\">hosts</th><td class=\"w\">%zu: ", run->host_count);
    for (size_t i = 0; i < run->host_count && i < LISTED_HOSTS; i++) {
        if (i) fputs(", ", out);
        html_text(out, run->hosts[i]);
    }
    fputs(run->host_count > LISTED_HOSTS ? ", …</td></tr>\n" : "</td></tr>\n", out);
}

static void folded(FILE *out, const char *summary, const char *text)
{
    if (!text || !text[0]) return;
    fprintf(out, "<details><summary>%s</summary><pre>", summary);
    html_text(out, text);
    fputs("</pre></details>\n", out);
}

/* Keys that the sweep file sets, and those that the run took at their default. */
static void write_parameters(const struct run_record *run, FILE *out)
{
    size_t set = 0, taken = 0;
    for (const char *line = run->parameters; line && *line;) {
        const char *end = strchr(line, '\n');
        size_t length = end ? (size_t)(end - line) : strlen(line);
        if (length && line[0] != '#') {
            bool by_default = length >= 9 && !strncmp(line + length - 9, "# default", 9);
            taken += by_default;
            set += !by_default;
        }
        line += length + (end != NULL);
    }
    if (!set) return;
    char summary[128];
    snprintf(summary, sizeof summary,
             "Every parameter of the last run: %zu set by the sweep file, %zu at their default", set, taken);
    folded(out, summary, run->parameters);
}

void report_provenance(const struct report *report)
{
    const struct observations *observations = &report->analysis->observations;
    const struct run_record *run = report->run;
    FILE *out = report->out;
    char generation[32];
    snprintf(generation, sizeof generation, "%llu", (unsigned long long)observations->epoch);
    fputs("<div class=\"box\"><table class=\"facts-table\"><tbody>\n", out);
    fact(out, "run directory", report->dir);
    fact(out, "sweep file", run->config_path);
    fact(out, "its digest", digest_of(observations->config, strlen(observations->config)).hex);
    fact(out, "data set digest", observations->dataset_digest);
    fact(out, "generation of the store", generation);
    fact(out, "made by", run->made_by);
    fact(out, "shard", run->shard);
    fact(out, "report by", version_string());
    write_hosts(run, out);
    fputs("</tbody></table></div>\n", out);
    write_executions(report);
    folded(out, "The sweep file", observations->config);
    write_parameters(run, out);
    folded(out, "Stores that rows were merged from", run->provenance);
    fputs("<details><summary>The program of this report</summary><pre>", out);
    write_versions(out);
    fputs("</pre></details>\n<p class=\"soft\">Beside this page: ", out);
    html_text(out, report->drawings);
    fputs(report->kept
              ? "/ with the script and data of every plot; in the run directory: fit.json with every number in "
                "full precision, results.h5 with every result.</p>\n"
              : "/ with the script and data of every plot. <code>tunelaw fit --json</code> prints every "
                "number in full precision.</p>\n",
          out);
}
