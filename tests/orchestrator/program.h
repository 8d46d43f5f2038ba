/* The program as a user runs it: its output, its errors and its exit code. */
#ifndef TUNELAW_TESTS_ORCHESTRATOR_PROGRAM_H
#define TUNELAW_TESTS_ORCHESTRATOR_PROGRAM_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

struct output {
    int code;
    char *out, *errors; /* malloc */
};

static inline char *program_slurp(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    if (!file || getdelim(&text, &size, 0, file) < 0) {
        free(text);
        text = strdup("");
    }
    if (file) fclose(file);
    return text;
}

/* Run `tunelaw WORDS`; its output passes through two files beside the folder `dir`. */
__attribute__((format(printf, 2, 3))) static inline struct output program_run(const char *dir, const char *format, ...)
{
    char words[1024], command[2048], out[256], errors[256];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    snprintf(out, sizeof out, "%s.out", dir);
    snprintf(errors, sizeof errors, "%s.err", dir);
    snprintf(command, sizeof command, "%s %s >'%s' 2>'%s'", TEST_PROGRAM, words, out, errors);
    int status = system(command);
    struct output output = {WIFEXITED(status) ? WEXITSTATUS(status) : -1, program_slurp(out), program_slurp(errors)};
    remove(out);
    remove(errors);
    return output;
}

static inline void program_free(struct output *output)
{
    free(output->out);
    free(output->errors);
}

#endif
