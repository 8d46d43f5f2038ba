/* Fitting: where the report's numbers come from: the store, the machines, the program, the sweep file. */
#include <stdlib.h>
#include <string.h>

#include "fitting/html.h"
#include "fitting/report_internal.h"
#include "io/store.h"
#include "io/version.h"

enum { KINDS = 32 };

/* Points that ran in the same way. */
struct kind {
    char device[STORE_NAME + 1], execution_class[STORE_NAME + 1], version[STORE_NAME + 1];
    size_t points;
    double seconds;
};

static void add_execution(struct kind *kinds, size_t *count, const struct store_execution *execution)
{
    struct kind kind = {.points = 1, .seconds = execution->seconds};
    store_text(kind.device, sizeof kind.device, execution->device, sizeof execution->device);
    store_text(kind.execution_class, sizeof kind.execution_class, execution->execution_class,
               sizeof execution->execution_class);
    store_text(kind.version, sizeof kind.version, execution->version, sizeof execution->version);
    for (size_t i = 0; i < *count; i++)
        if (!strcmp(kinds[i].device, kind.device) && !strcmp(kinds[i].execution_class, kind.execution_class) &&
            !strcmp(kinds[i].version, kind.version)) {
            kinds[i].points++;
            kinds[i].seconds += kind.seconds;
            return;
        }
    if (*count < KINDS) kinds[(*count)++] = kind;
}

static void write_executions(const char *dir, FILE *out)
{
    struct kind kinds[KINDS];
    size_t count = 0;
    struct store *store = store_open(dir, false, NULL);
    for (size_t i = 0; store && i < store_count(store); i++) {
        struct store_execution execution;
        struct store_result result;
        if (store_read(store, i, &result, &execution, NULL, NULL) == 1) add_execution(kinds, &count, &execution);
    }
    store_close(store);
    if (!count) return;
    fputs("<div class=\"box\"><table>\n<tr><th>device</th><th>execution class</th><th>program</th><th "
          "class=\"n\">points</th>"
          "<th class=\"n\">seconds</th></tr>\n",
          out);
    for (size_t i = 0; i < count; i++) {
        const char *const texts[] = {kinds[i].device, kinds[i].execution_class, kinds[i].version};
        fputs("<tr>", out);
        for (size_t t = 0; t < 3; t++) {
            fputs("<td>", out);
            html_text(out, texts[t]);
            fputs("</td>", out);
        }
        fprintf(out, "<td class=\"n\">%zu</td><td class=\"n\">%.0f</td></tr>\n", kinds[i].points, kinds[i].seconds);
    }
    fputs("</table></div>\n", out);
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
    fprintf(out, "<tr><th>%s</th><td class=\"w\">", name);
    html_text(out, value);
    fputs("</td></tr>\n", out);
}

void report_provenance(const struct analysis *analysis, const char *dir, FILE *out)
{
    const struct observations *observations = &analysis->observations;
    char generation[32];
    snprintf(generation, sizeof generation, "%llu", (unsigned long long)observations->epoch);
    fputs("<h2>Provenance</h2>\n<div class=\"box\"><table>\n", out);
    fact(out, "run directory", dir);
    fact(out, "generation of the store", generation);
    fact(out, "data set digest", observations->dataset_digest);
    fact(out, "sweep file digest", digest_of(observations->config, strlen(observations->config)).hex);
    fputs("</table></div>\n", out);
    write_executions(dir, out);
    fputs("<details><summary>This program</summary><pre>", out);
    write_versions(out);
    fputs("</pre></details>\n<details><summary>The sweep file</summary><pre>", out);
    html_text(out, observations->config);
    fputs("</pre></details>\n", out);
    fputs("<p class=\"soft\">Scripts and data of the plots: the folder report/ beside this page's run. Every number in "
          "full precision: fit.json.</p>\n",
          out);
}
