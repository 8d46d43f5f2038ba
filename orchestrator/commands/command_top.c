/* tunelaw top: a live view of a run. It reads status.json, and writes nothing but request files. */
#include <argp.h>
#include <locale.h>
#include <ncurses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "orchestrator/commands/command.h"
#include "orchestrator/commands/top_screen.h"
#include "orchestrator/run/request.h"
#include "orchestrator/run/run_directory.h"
#include "orchestrator/run/status_live.h"

struct options {
    const char *dir;
    double interval;
};

struct top {
    char dir[PATH_MAX];
    json_t *status;
    struct top_page page;
    char log[PATH_MAX + 64], message[256];
    enum { ASK_NOTHING, ASK_DRAIN } asked;
};

static const struct argp_option option_list[] = {{"interval", 'i', "SECONDS", 0, "time between looks (default: 1)", 0},
                                                 {0}};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case 'i':
        options->interval = command_number("interval", arg, 0.1, 3600, state);
        return 0;
    default:
        return command_parse_directory(key, arg, state, &options->dir);
    }
}

static void look(struct top *top)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/status.json", top->dir);
    json_t *status = json_load_file(path, 0, NULL);
    if (status) { /* between two writes the last one stays */
        json_decref(top->status);
        top->status = status;
    }
    size_t count = json_array_size(json_object_get(top->status, "running"));
    top->page.status = top->status;
    top->page.silent = clock_wall() - json_number_value(json_object_get(top->status, "updated")) > STATUS_SILENCE;
    if (top->page.selected >= count) top->page.selected = count ? count - 1 : 0;
}

static void say(struct top *top, const char *text)
{
    snprintf(top->message, sizeof top->message, "%s", text);
}

static void toggle_pause(struct top *top)
{
    struct error err = {""};
    bool paused = request_present(top->dir, REQUEST_PAUSE);
    int rc = paused ? request_withdraw(top->dir, REQUEST_PAUSE, &err) : request_make(top->dir, REQUEST_PAUSE, &err);
    say(top, rc ? err.text : paused ? "asked to go on" : "asked to pause: nothing new starts");
}

static void toggle_log(struct top *top)
{
    const json_t *stage = json_array_get(json_object_get(top->status, "running"), top->page.selected);
    const char *identity = json_string_value(json_object_get(stage, "stage"));
    if (top->page.log || !identity || strchr(identity, '/')) {
        top->page.log = NULL;
        return;
    }
    snprintf(top->log, sizeof top->log, "%s/logs/%s.log", top->dir, identity);
    top->page.log = top->log;
}

/* False: the person leaves. */
static bool handle_key(struct top *top, int key)
{
    struct error err = {""};
    top->message[0] = 0;
    if (top->asked == ASK_DRAIN) {
        top->asked = ASK_NOTHING;
        top->page.question = NULL;
        if (key == 'y')
            say(top, request_make(top->dir, REQUEST_DRAIN, &err) ? err.text : "asked to drain: stages checkpoint");
        return true;
    }
    if (key == 'q') return false;
    if (key == KEY_UP && top->page.selected > 0) top->page.selected--;
    if (key == KEY_DOWN) top->page.selected++; /* look() cuts it */
    if (key == 'p') toggle_pause(top);
    if (key == 'l' || key == '\n') toggle_log(top);
    if (key == 'd') {
        top->asked = ASK_DRAIN;
        top->page.question = "drain: running stages checkpoint, then the run ends?";
    }
    return true;
}

static void watch(struct top *top, double interval)
{
    setlocale(LC_ALL, "");
    initscr();
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
    timeout((int)(1000 * interval));
    for (int key = ERR;;) {
        if (key != ERR && !handle_key(top, key)) break;
        look(top);
        top_draw(&top->page);
        refresh();
        key = getch();
    }
    endwin();
}

int command_top(int argc, char **argv)
{
    static const struct argp argp = {option_list,
                                     parse_option,
                                     "DIR",
                                     "A live view of the run in DIR: progress, nodes, running stages, failures.\v"
                                     "Keys: q quit, up and down choose a stage, l its log, p pause or go on (nothing "
                                     "new starts while paused), d drain (running stages checkpoint, the run ends).",
                                     NULL,
                                     NULL,
                                     NULL};
    struct options options = {.interval = 1};
    struct error err = {""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    struct top *top = calloc(1, sizeof *top);
    int rc = top ? command_check_directory(options.dir, &err) : error_set(&err, "out of memory");
    if (!rc) rc = run_path(options.dir, top->dir, &err);
    if (!rc && access(top->dir, X_OK)) rc = error_set_errno(&err, "%s", options.dir);
    if (!rc && !(isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)))
        rc = error_set(&err, "top: needs a terminal; `tunelaw status %s` prints once", options.dir);
    if (!rc) {
        top->page = (struct top_page){.dir = top->dir, .message = top->message};
        watch(top, options.interval);
        json_decref(top->status);
    }
    free(top);
    return rc ? command_fail(&err) : 0;
}
