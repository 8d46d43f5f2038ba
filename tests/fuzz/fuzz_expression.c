/* Laws as text: refused with one line, or an expression whose values and slopes are numbers wherever an optimiser may
 * go. */
#include "tests/fuzz/fuzz.h"

#include <math.h>

#include "fitting/laws/law_user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const double places[] = {0, 1, -3, 30, -700, 800, 1e300};
    struct error err = {""};
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    struct user_law *law = user_law_create("fuzzed", text, &err);
    if (!law && (!err.text[0] || strchr(err.text, '\n'))) abort(); /* one line, always */
    for (size_t i = 0; law && i < sizeof places / sizeof *places; i++) {
        double theta[LAW_PARAMETERS], gradient[LAW_PARAMETERS], log_x[LAW_AXES] = {14, 20, 2, 9};
        for (size_t p = 0; p < LAW_PARAMETERS; p++)
            theta[p] = places[(i + p) % (sizeof places / sizeof *places)];
        if (isnan(law_log_value(&law->law, theta, log_x, gradient))) abort();
        for (size_t p = 0; p < law->law.parameter_count; p++)
            if (!isfinite(gradient[p])) abort();
    }
    user_law_destroy(law);
    free(text);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}
