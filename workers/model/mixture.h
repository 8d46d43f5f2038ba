/* A mixture of denoisers (Tay et al. 2022) as the recipe names it, and what fits into a sequence of a length: pure
 * functions of sizes, which the plan counts with. workers/train/ul2.h makes the sequences. */
#ifndef TUNELAW_WORKERS_MODEL_MIXTURE_H
#define TUNELAW_WORKERS_MODEL_MIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

enum denoiser_mode { DENOISER_R, DENOISER_S, DENOISER_X, DENOISER_MODES };
const char *denoiser_mode_name(enum denoiser_mode mode); /* "R" */
int denoiser_mode_find(const char *name);

struct denoiser {
    enum denoiser_mode mode; /* S: no spans, the end of the text; R and X differ in the mode's token alone */
    double span;             /* mean length of a span in tokens, at least 1; S: not used */
    double corruption;       /* share of the text that is targets */
    double share;            /* of the sequences, relative to the others */
};

#define DENOISERS 8
struct mixture {
    uint32_t count;
    bool mode_tokens; /* sequences begin with the token of their mode */
    struct denoiser denoisers[DENOISERS];
};

/* The seven denoisers of the paper, equal shares, with mode tokens. */
extern const struct mixture mixture_default;

/* At least one denoiser; spans of 1 and more, corruption within 0..1, shares above 0. */
int mixture_check(const struct mixture *mixture, struct error *err);

/* The mixture as one line, for identities; cut at `size`, returns the length. */
#define MIXTURE_TEXT 1024
int mixture_text(const struct mixture *mixture, char *out, size_t size);

/* How a denoiser fills a sequence. */
struct denoiser_shape {
    uint32_t text;  /* tokens of text, at most length + 1 */
    uint32_t noise; /* of these, targets */
    uint32_t spans; /* S: 0 */
};
/* Of a denoiser; 0 tokens of text: nothing fits. */
struct denoiser_shape mixture_shape(const struct mixture *mixture, uint32_t index, uint32_t length);

/* Target tokens of a sequence in the mean; 0 where the length is too short. */
double mixture_targets(const struct mixture *mixture, uint32_t length);

#endif
