/* A law's gradient against central differences. Include after cmocka.h. */
#ifndef TUNELAW_TESTS_FITTING_GRADIENT_H
#define TUNELAW_TESTS_FITTING_GRADIENT_H

#include <math.h>

#include "fitting/laws/laws.h"

/* At theta and log_x, every parameter within `tolerance`, none 0. theta is as before in the end. */
static inline void gradient_check(const struct law *law, const char *name, double *theta, const double log_x[LAW_AXES],
                                  double tolerance)
{
    double gradient[LAW_PARAMETERS];
    law_log_value(law, theta, log_x, gradient);
    for (size_t i = 0; i < law->parameter_count; i++) {
        double h = 1e-5, middle = theta[i];
        theta[i] = middle + h;
        double above = law_log_value(law, theta, log_x, NULL);
        theta[i] = middle - h;
        double below = law_log_value(law, theta, log_x, NULL);
        theta[i] = middle;
        if (!(fabs((above - below) / (2 * h) - gradient[i]) < tolerance) || gradient[i] == 0 || !isfinite(gradient[i]))
            fail_msg("%s: by %s %.12g, differences say %.12g", name, law->parameters[i].name, gradient[i],
                     (above - below) / (2 * h));
    }
}

#endif
