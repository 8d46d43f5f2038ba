/* Tables of the report: on a wide screen and on paper rows and columns, on a phone every row a card whose cells name
 * their column. Internal to fitting/. */
#ifndef TUNELAW_FITTING_REPORT_HTML_TABLE_H
#define TUNELAW_FITTING_REPORT_HTML_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct html_column {
    const char *name; /* markup */
    bool number;      /* to the right */
};

struct html_table {
    FILE *out;
    const struct html_column *columns; /* owned by the caller, outlives the table */
    size_t count, next;                /* next: the column of the next cell */
};

/* `caption`: text, or NULL. */
void html_table_begin(struct html_table *table, FILE *out, const char *caption, const struct html_column *columns,
                      size_t count);
void html_table_end(struct html_table *table);

/* Rows; `class`: NULL, or of the stylesheet. A row must have as many cells as the table has columns. */
void html_row(struct html_table *table, const char *class);
void html_row_end(struct html_table *table);

/* The next cell of the row. An empty cell is not shown on a phone. */
void html_cell(struct html_table *table, const char *text);                   /* any text */
void html_number(struct html_table *table, const char *format, double value); /* NAN: empty */
void html_count_cell(struct html_table *table, double value);                 /* NAN or not positive: empty */

/* A cell that the caller writes. `span`: columns that it takes. */
void html_cell_begin(struct html_table *table, const char *class, size_t span);
void html_cell_end(struct html_table *table);

#endif
