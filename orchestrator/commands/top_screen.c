/* The page of `tunelaw top`: head, nodes, running stages, failures, or the end of a log. */
#include "orchestrator/commands/top_screen.h"

#include <ncurses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/quantity.h"
#include "orchestrator/run/status_live.h"

static const char *state_text(const struct top_page *page)
{
    if (json_is_true(json_object_get(page->status, "finished"))) return "ended";
    if (page->silent) return "no word from the master";
    if (json_is_true(json_object_get(page->status, "draining"))) return "draining";
    return json_is_true(json_object_get(page->status, "paused")) ? "paused" : "running";
}

static void draw_bar(int row, double share, double running)
{
    int width = COLS - 2;
    int full = (int)(share * width), half = (int)((share + running) * width);
    mvaddch(row, 0, '[');
    for (int i = 0; i < width; i++)
        addch(i < full ? '#' : i < half ? '-' : ' ');
    addch(']');
}

static int draw_head(const struct top_page *page)
{
    const json_t *points = json_object_get(page->status, "points"), *nodes = json_object_get(page->status, "nodes");
    double total = status_number(points, "total"),
           done = status_number(points, "done") + status_number(points, "diverged");
    double failed = status_number(points, "failed") + status_number(points, "skipped"), devices = 0, unused = 0;
    size_t running = json_array_size(json_object_get(page->status, "running"));
    char gone[QUANTITY_TEXT], eta[QUANTITY_TEXT];
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        devices += status_number(json_array_get(nodes, i), "devices");
        unused += status_number(json_array_get(nodes, i), "free");
    }
    quantity_clock(status_number(page->status, "seconds"), gone);
    quantity_clock(status_number(page->status, "eta_seconds"), eta);
    attron(A_BOLD);
    mvprintw(0, 0, "%s", status_string(page->status, "name"));
    attroff(A_BOLD);
    printw("  %s  %s gone, ETA %s", state_text(page), gone, eta);
    mvprintw(1, 0, "%.0f of %.0f points done, %.0f failed or skipped, %zu stages running on %.0f of %.0f devices", done,
             total, failed, running, devices - unused, devices);
    draw_bar(2, total > 0 ? done / total : 0, total > 0 ? (double)running / total : 0);
    return 4;
}

static void draw_title(int row, const char *title)
{
    attron(A_REVERSE);
    mvhline(row, 0, ' ', COLS);
    mvaddnstr(row, 0, title, COLS);
    attroff(A_REVERSE);
}

static int draw_nodes(const struct top_page *page, int row, int rows)
{
    const json_t *nodes = json_object_get(page->status, "nodes");
    size_t count = json_array_size(nodes);
    draw_title(row++, "rank  host                     devices  busy");
    for (size_t i = 0; i < count && rows > 0; i++, rows--) {
        const json_t *node = json_array_get(nodes, i);
        if (rows == 1 && i + 1 < count) {
            mvprintw(row++, 0, "      and %zu more", count - i);
            break;
        }
        mvprintw(row++, 0, "%4.0f  %-24.24s %7.0f %5.0f", status_number(node, "rank"), status_string(node, "host"),
                 status_number(node, "devices"), status_number(node, "devices") - status_number(node, "free"));
    }
    return row + 1;
}

static void draw_stage(const json_t *stage, int row, bool selected)
{
    char what[64], loss[16] = "-";
    const char *method = status_string(stage, "method");
    if (status_number(stage, "pet_size") > 0)
        snprintf(what, sizeof what, "%s %.0f", method, status_number(stage, "pet_size"));
    else
        snprintf(what, sizeof what, "%s", *method ? method : status_string(stage, "kind"));
    if (status_number(stage, "loss") > 0) snprintf(loss, sizeof loss, "%.4f", status_number(stage, "loss"));
    if (selected) attron(A_BOLD);
    mvprintw(row, 0, "%s%-12.12s %-12.12s %-12.12s %9.0f %9.0f/%-9.0f %9s %10.0f %4.0f %3.0f", selected ? ">" : " ",
             status_string(stage, "stage"), status_string(stage, "model"), what,
             status_number(stage, "finetune_examples"), status_number(stage, "step"), status_number(stage, "steps"),
             loss, status_number(stage, "tokens_per_second"), status_number(stage, "rank"),
             status_number(stage, "attempt"));
    if (selected) attroff(A_BOLD);
}

static int draw_stages(const struct top_page *page, int row, int rows)
{
    const json_t *running = json_object_get(page->status, "running");
    size_t count = json_array_size(running), first = 0;
    draw_title(row++,
               " stage        model        method        examples      step/of           loss   tokens/s rank try");
    if (rows > 0 && page->selected >= (size_t)rows) first = page->selected - (size_t)rows + 1;
    for (size_t i = first; i < count && rows > 0; i++, rows--)
        draw_stage(json_array_get(running, i), row++, i == page->selected);
    return row + 1;
}

static void draw_failures(const struct top_page *page, int row, int rows)
{
    const json_t *failures = json_object_get(page->status, "failures");
    if (!json_array_size(failures)) return;
    draw_title(row++, "last failures");
    for (size_t i = 0; i < json_array_size(failures) && rows > 1; i++, rows--) {
        const json_t *failure = json_array_get(failures, i);
        time_t when = (time_t)status_number(failure, "when");
        struct tm local;
        char clock[16] = "";
        if (localtime_r(&when, &local)) strftime(clock, sizeof clock, "%H:%M:%S", &local);
        move(row++, 0);
        char line[512];
        snprintf(line, sizeof line, "%s %.12s %s attempt %.0f: %s: %s", clock, status_string(failure, "stage"),
                 status_string(failure, "model"), status_number(failure, "attempt"), status_string(failure, "status"),
                 status_string(failure, "message"));
        addnstr(line, COLS);
    }
}

/* The last lines of a log that fit; control characters are shown as dots. */
static void draw_log(const char *path, int row, int rows)
{
    enum { TAIL = 16384 };
    char text[TAIL + 1];
    FILE *file = fopen(path, "re");
    draw_title(row++, path);
    if (!file) {
        mvprintw(row, 0, "there is no such file yet");
        return;
    }
    if (fseek(file, -TAIL, SEEK_END)) rewind(file);
    size_t size = fread(text, 1, TAIL, file);
    fclose(file);
    for (size_t i = 0; i < size; i++)
        if (text[i] != '\n' && (unsigned char)text[i] < ' ') text[i] = '.';
    text[size] = 0;
    char *start = text + size;
    for (int lines = 0; start > text; start--)
        if (start[-1] == '\n' && start < text + size && ++lines >= rows) break;
    for (char *line = start; *line && rows > 0; rows--) {
        size_t length = strcspn(line, "\n");
        mvaddnstr(row++, 0, line, length < (size_t)COLS ? (int)length : COLS);
        line += length + (line[length] == '\n');
    }
}

static void draw_lists(const struct top_page *page, int row)
{
    size_t nodes = json_array_size(json_object_get(page->status, "nodes"));
    int left = LINES - row - 2; /* one line at the bottom */
    int for_nodes = (int)(nodes < 8 ? nodes : 8), for_failures = 6;
    if (for_nodes > left / 4) for_nodes = left / 4;
    row = draw_nodes(page, row, for_nodes);
    row = draw_stages(page, row, LINES - row - 2 - for_failures);
    draw_failures(page, row, LINES - row - 1);
}

void top_draw(const struct top_page *page)
{
    erase();
    if (!page->status) {
        mvprintw(0, 0, "%s: no run has written a status here yet", page->dir);
    } else {
        int row = draw_head(page);
        if (page->log)
            draw_log(page->log, row, LINES - row - 3);
        else
            draw_lists(page, row);
    }
    move(LINES - 1, 0);
    if (page->question)
        printw("%s (y/n)", page->question);
    else if (page->message[0])
        addnstr(page->message, COLS);
    else
        addnstr("q quit  up/down choose  l log  p pause or go on  d drain: checkpoint and end", COLS);
}
