/* DIR/logs/rates: the learning rates that candidates at a reference cell have decided on. */
#include "orchestrator/run/rates.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

static void path_of(const char *dir, char path[PATH_MAX + 32])
{
    snprintf(path, PATH_MAX + 32, "%s/logs/rates", dir);
}

double rates_allowed(const struct plan *plan, size_t reference, double rate)
{
    const struct sweep_method *method = &plan->sweep->methods[plan->references[reference].method];
    for (size_t i = 0; i < method->learning_rate_count; i++)
        if (method->learning_rates[i] == rate) return rate;
    return 0;
}

/* What a crash has cut short says nothing, and the next line stands behind it. */
static void read_line(const char *line, const struct plan *plan, double *rates)
{
    double rate, loss;
    char end;
    for (size_t i = 0; i < plan->reference_count; i++)
        for (const char *at = line; (at = strstr(at, plan->references[i].identity.hex)); at += DIGEST_HEX)
            if (sscanf(at + DIGEST_HEX, " %lf valid_loss %lf%c", &rate, &loss, &end) == 3 && end == '\n') {
                if (rates_allowed(plan, i, rate) > 0)
                    rates[i] = rate;
                else if (!(rate > 0) && !(rates[i] > 0))
                    rates[i] = RATES_NONE;
            }
}

int rates_read(const char *dir, const struct plan *plan, double *rates, struct error *err)
{
    char path[PATH_MAX + 32], line[512];
    path_of(dir, path);
    FILE *file = fopen(path, "re");
    if (!file) return errno == ENOENT ? 0 : error_set_errno(err, "%s", path);
    while (fgets(line, sizeof line, file))
        read_line(line, plan, rates);
    int failed = ferror(file);
    fclose(file);
    return failed ? error_set(err, "%s: cannot be read", path) : 0;
}

int rates_write(const char *dir, const struct plan_reference *reference, double rate, double loss, struct error *err)
{
    char path[PATH_MAX + 32];
    path_of(dir, path);
    int fd = file_open_write(path, O_APPEND);
    if (fd < 0) return error_set_errno(err, "%s", path);
    int failed =
        dprintf(fd, "%s %.17g valid_loss %.17g\n", reference->identity.hex, rate, loss) < 0 || fdatasync(fd) != 0;
    if (failed) error_set_errno(err, "%s", path);
    close(fd);
    return failed ? -1 : 0;
}
