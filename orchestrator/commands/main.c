/* The command line: finds the command and hands it its words. */
#include <argp.h>
#include <mpi.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/version.h"
#include "orchestrator/commands/command.h"
#include "workers/stage/worker.h"

/* `tunelaw run`: a drain that is asked for while libraries initialise themselves (15 of the first 20 ms) waits for
 * catch_signals. Called by the loader before any of them, so that nothing but the system is called here. */
static void hold_signals(int argc, char **argv, char **environment)
{
    uint64_t held = 1ull << (SIGTERM - 1) | 1ull << (SIGINT - 1) | 1ull << (SIGUSR1 - 1);
    (void)environment;
    if (argc > 1 && argv[1][0] == 'r' && argv[1][1] == 'u' && argv[1][2] == 'n' && !argv[1][3])
        syscall(SYS_rt_sigprocmask, SIG_BLOCK, &held, NULL, sizeof held);
}
__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(int, char **,
                                                                                       char **) = hold_signals;

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; /* NULL: not for people */
};

/* `tunelaw worker FD`, `tunelaw measure FD`: started by the launcher, with one end of a socket pair */
static int command_worker(int argc, char **argv)
{
    char *end = NULL;
    long fd = argc == 2 ? strtol(argv[1], &end, 10) : -1;
    if (fd < 0 || fd > 1 << 20 || *end) {
        struct error err;
        error_set(&err, "this command is started by others alone");
        return command_fail(&err);
    }
    return worker_main((int)fd);
}

static const struct command commands[] = {
    {"data", command_data, "turn text into a tokenised data set"},
    {"plan", command_plan, "print the points of a sweep, the stages they share, and their cost"},
    {"bench", command_bench, "what this machine can do, and what a sweep would cost on it"},
    {"run", command_run, "run a sweep, or go on with one"},
    {"submit", command_submit, "hand a sweep to Slurm"},
    {"cancel", command_cancel, "end the Slurm job of a sweep, after a checkpoint"},
    {"status", command_status, "how far a sweep is"},
    {"top", command_top, "a live view of a run"},
    {"show", command_show, "everything about one point"},
    {"import", command_import, "look at a model in a Hugging Face folder"},
    {"export", command_export, "all points as CSV or JSON"},
    {"generate", command_generate, "texts that a finished point writes, and their BLEU, chrF and ROUGE"},
    {"evaluate", command_evaluate, "measure texts of finished points as a changed sweep file says"},
    {"merge", command_merge, "join the stores of several jobs or shards"},
    {"verify", command_verify, "check the store and its checkpoints"},
    {"fit", command_fit, "fit scaling laws to the results"},
    {"advise", command_advise, "which method and model for so many examples"},
    {"report", command_report, "write the results and the laws as one HTML page"},
    {"worker", command_worker, NULL},
    {"measure", command_worker, NULL},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(void)
{
    printf("Usage: tunelaw COMMAND [ARGUMENT...]\n"
           "Finetuning scaling-law sweeps: train the grid, keep every result, fit the laws.\n\n");
    for (int i = 0; i < COMMANDS; i++)
        if (commands[i].summary) printf("  %-8s %s\n", commands[i].name, commands[i].summary);
    printf("\n`tunelaw COMMAND --help` says more about one command; `tunelaw --version` names the build.\n");
}

static void print_version(void)
{
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(mpi, &length); /* allowed before MPI_Init */
    mpi[strcspn(mpi, ",\n")] = 0;
    version_print(stdout);
    printf("mpi %s\n", mpi);
}

/* Levenshtein distance; both words are short */
static int distance(const char *a, const char *b)
{
    enum { LONGEST = 32 };
    size_t m = strlen(a), n = strlen(b);
    if (m > LONGEST || n > LONGEST) return LONGEST;
    int row[LONGEST + 1];
    for (size_t j = 0; j <= n; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= m; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

static int unknown(const char *word)
{
    const char *closest = NULL;
    int least = 3; /* more than two slips of the finger are another word */
    for (int i = 0; i < COMMANDS; i++) {
        int steps = distance(word, commands[i].name);
        if (commands[i].summary && steps < least) {
            least = steps;
            closest = commands[i].name;
        }
    }
    struct error err;
    if (closest)
        error_set(&err, "no command \"%s\"; did you mean \"%s\"?", word, closest);
    else
        error_set(&err, "no command \"%s\"; `tunelaw --help` lists them", word);
    return command_fail(&err);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "--help";
    argp_err_exit_status = 1;
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow any more is an error, to be told */
    if (strcmp(word, "worker") && strcmp(word, "measure")) atexit(command_close_output);
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
        print_help();
        return argc > 1 ? 0 : 1;
    }
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        print_version();
        return 0;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(word, commands[i].name)) {
            char name[64]; /* argp's messages begin with it */
            snprintf(name, sizeof name, "tunelaw %s", word);
            argv[1] = name;
            return commands[i].run(argc - 1, argv + 1);
        }
    return unknown(word);
}
