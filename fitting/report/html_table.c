/* Fitting: tables of the report, for wide screens, paper and phones. */
#include "fitting/report/html_table.h"

#include <math.h>

#include "fitting/report/html.h"

void html_table_begin(struct html_table *table, FILE *out, const char *caption, const struct html_column *columns,
                      size_t count)
{
    *table = (struct html_table){.out = out, .columns = columns, .count = count};
    fputs("<div class=\"box\"><table class=\"cards\">\n", out);
    if (caption) {
        fputs("<caption>", out);
        html_text(out, caption);
        fputs("</caption>\n", out);
    }
    fputs("<thead><tr>", out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "<th scope=\"col\"%s>%s</th>", columns[i].number ? " class=\"n\"" : "", columns[i].name);
    fputs("</tr></thead>\n<tbody>\n", out);
}

void html_table_end(struct html_table *table)
{
    fputs("</tbody></table></div>\n", table->out);
}

void html_row(struct html_table *table, const char *class)
{
    table->next = 0;
    if (class)
        fprintf(table->out, "<tr class=\"%s\">", class);
    else
        fputs("<tr>", table->out);
}

void html_row_end(struct html_table *table)
{
    fputs("</tr>\n", table->out);
}

/* The first cell of a row names it. */
static const char *element(size_t column)
{
    return column == 0 ? "th" : "td";
}

void html_cell_begin(struct html_table *table, const char *class, size_t span)
{
    size_t column = table->next;
    const struct html_column *head = &table->columns[column];
    bool named = column > 0 && head->name[0];
    fprintf(table->out, "<%s%s", element(column), column == 0 ? " scope=\"row\"" : "");
    if (class || head->number) fprintf(table->out, " class=\"%s\"", class ? class : "n");
    if (span > 1) fprintf(table->out, " colspan=\"%zu\"", span);
    if (named) fprintf(table->out, " data-name=\"%s\"", head->name);
    fputs("><span>", table->out);
    table->next += span;
}

void html_cell_end(struct html_table *table)
{
    fprintf(table->out, "</span></%s>", table->next == 1 ? "th" : "td");
}

static void empty_cell(struct html_table *table)
{
    fprintf(table->out, table->next == 0 ? "<th scope=\"row\"></th>" : "<td></td>");
    table->next++;
}

void html_cell(struct html_table *table, const char *text)
{
    if (!text[0]) {
        empty_cell(table);
        return;
    }
    html_cell_begin(table, NULL, 1);
    html_text(table->out, text);
    html_cell_end(table);
}

void html_number(struct html_table *table, const char *format, double value)
{
    char text[64] = "";
    if (!isnan(value)) snprintf(text, sizeof text, format, value);
    html_cell(table, text);
}

void html_count_cell(struct html_table *table, double value)
{
    char text[32] = "";
    html_cell(table, value > 0 ? html_count(value, text, sizeof text) : "");
}
