/* Words of the command line in, how a sweep is read and fitted out: the same for every command that fits. */
#include "orchestrator/commands/fit_words.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fitting/analysis/analysis.h"
#include "orchestrator/commands/command.h"

enum { FEWEST_RESAMPLES = 20 };
enum key { LAW = 0x100, X, SEEDS, METRIC, DELTA, LOSS, NO_OFFSET, LOG, RAW, BOOTSTRAP, INTERVALS, RESAMPLE, LEVEL };

static const struct argp_option words[] = {
    {"law", LAW, "LAW", 0,
     "fit this law alone: single, rectified, multiplicative, additive (or chinchilla), joint, joint_additive, or a law "
     "of the sweep file",
     0},
    {"x", X, "NAME", 0,
     "model size: parameters, non_embedding_parameters or trainable_parameters (as the sweep file says)", 0},
    {"seeds", SEEDS, "HOW", 0, "replicates: each seed is a point; mean: their mean is one (as the sweep file says)", 0},
    {"metric", METRIC, "NAME", 0,
     "what is fitted: test_loss (default), valid_loss, pretrain_loss; or of generated texts bleu, chrf (as 100 - it), "
     "rouge1, rouge2, rougeL (as 1 - it)",
     0},
    {"delta", DELTA, "NUMBER", 0, "Huber's threshold, inf for least squares (as the sweep file says, else 1e-3)", 0},
    {"loss", LOSS, "KIND", 0, "huber (default), l1 or l2", 0},
    {"no-offset", NO_OFFSET, NULL, 0, "laws without the irreducible term E", 0},
    {"log", LOG, NULL, 0, "residuals of log L", 0},
    {"raw", RAW, NULL, 0, "residuals of L (default)", 0},
    {"bootstrap", BOOTSTRAP, "N", 0, "resamples for the intervals (200; 0: none; else 20 and more)", 0},
    {"intervals", INTERVALS, "KIND", 0, "bootstrap (default), profile (likelihood), or both", 0},
    {"resample", RESAMPLE, "WHAT", 0, "what the bootstrap draws: trunks (default), seeds, points, runs", 0},
    {"level", LEVEL, "PERCENT", 0, "level of the intervals (90)", 0},
    {0},
};

static const char *loss_word = "huber";
static bool delta_given;

static void take_loss(const char *word, struct analysis_options *options, struct argp_state *state)
{
    if (strcmp(word, "huber") && strcmp(word, "l1") && strcmp(word, "l2"))
        argp_error(state, "--loss is \"%s\"; allowed: huber, l1, l2", word);
    loss_word = word;
    options->absolute = !strcmp(word, "l1");
    if (!strcmp(word, "l2")) options->delta = INFINITY;
}

static void take_intervals(const char *word, struct analysis_options *options, struct argp_state *state)
{
    options->intervals = interval_kind_find(word);
    if (options->intervals == INTERVAL_KINDS)
        argp_error(state, "--intervals is \"%s\"; allowed: bootstrap, profile, both", word);
}

static void take_resample(const char *word, struct analysis_options *options, struct argp_state *state)
{
    options->resample = cluster_find(word);
    if (options->resample == CLUSTERS)
        argp_error(state, "--resample is \"%s\"; allowed: trunks, seeds, points, runs", word);
}

static error_t parse(int key, char *word, struct argp_state *state)
{
    struct analysis_options *options = state->input;
    switch (key) {
    case LAW:
        options->law = word;
        return 0;
    case X:
        options->x = word;
        return 0;
    case SEEDS:
        options->seeds = word;
        return 0;
    case METRIC:
        options->metric = word;
        return 0;
    case DELTA:
        options->delta = command_number("delta", word, 1e-12, INFINITY, state);
        delta_given = true;
        return 0;
    case LOSS:
        take_loss(word, options, state);
        return 0;
    case NO_OFFSET:
        options->no_offset = true;
        return 0;
    case LOG:
    case RAW:
        options->log_residuals = key == LOG;
        return 0;
    case BOOTSTRAP:
        options->resamples = (size_t)command_number("bootstrap", word, 0, 1e6, state);
        if (options->resamples && options->resamples < FEWEST_RESAMPLES)
            argp_error(state, "--bootstrap %s: allowed: 0, or %d to 1e6: fewer say nothing of an interval", word,
                       FEWEST_RESAMPLES);
        return 0;
    case INTERVALS:
        take_intervals(word, options, state);
        return 0;
    case RESAMPLE:
        take_resample(word, options, state);
        return 0;
    case LEVEL:
        options->level = command_number("level", word, 1, 99.9, state) / 100;
        return 0;
    case ARGP_KEY_END:
        if (delta_given && strcmp(loss_word, "huber"))
            argp_error(state, "--delta is the threshold of --loss huber, not of %s", loss_word);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp fit_words = {.options = words, .parser = parse};

int fit_keep(const struct analysis *analysis, const char *path, bool *kept, struct error *err)
{
    struct stat status;
    *kept = false;
    if (stat(path, &status) || !S_ISDIR(status.st_mode)) return 0;
    if (access(path, W_OK) && (errno == EACCES || errno == EROFS)) {
        fprintf(stderr, "tunelaw: fit.json is not kept: %s may only be read\n", path);
        return 0;
    }
    if (analysis_write(analysis, path, err)) return -1;
    *kept = true;
    return 0;
}
