/* Numbers, bytes and times as a person reads and writes them: for the tables of the plan and for options. */
#include "io/quantity.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *quantity_number(double value, char out[QUANTITY_TEXT])
{
    static const char *const units[] = {"", "K", "M", "G", "T", "P", "E", "Z", "Y"};
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1000.0;
        unit++;
    }
    snprintf(out, QUANTITY_TEXT, unit || value < 10.0 ? "%.3g%s" : "%.0f%s", value, units[unit]);
    return out;
}

const char *quantity_bytes(double value, char out[QUANTITY_TEXT])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    while (value >= 1023.5 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024.0;
        unit++;
    }
    snprintf(out, QUANTITY_TEXT, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

const char *quantity_time(double seconds, char out[QUANTITY_TEXT])
{
    if (seconds < 99.5)
        snprintf(out, QUANTITY_TEXT, "%.1f s", seconds);
    else if (seconds < 5970.0)
        snprintf(out, QUANTITY_TEXT, "%.0f min", seconds / 60.0);
    else if (seconds < 172800.0)
        snprintf(out, QUANTITY_TEXT, "%.1f h", seconds / 3600.0);
    else if (seconds < 1000 * 86400.0)
        snprintf(out, QUANTITY_TEXT, "%.1f days", seconds / 86400.0);
    else
        snprintf(out, QUANTITY_TEXT, "%.0f years", seconds / (365.25 * 86400.0));
    return out;
}

const char *quantity_clock(double seconds, char out[QUANTITY_TEXT])
{
    if (seconds < 0)
        snprintf(out, QUANTITY_TEXT, "unknown yet");
    else if (seconds < 3600)
        snprintf(out, QUANTITY_TEXT, "%dm%02ds", (int)seconds / 60, (int)seconds % 60);
    else
        snprintf(out, QUANTITY_TEXT, "%.0fh%02dm", floor(seconds / 3600), (int)(fmod(seconds, 3600) / 60));
    return out;
}

/* H:M:S or M:S. */
static int parse_clock(const char *text, double *seconds)
{
    double sum = 0.0;
    int parts = 0;
    for (;; text++) {
        char *end = NULL;
        if (!isdigit((unsigned char)*text)) return -1;
        unsigned long value = strtoul(text, &end, 10);
        if (value > 1000000 || (parts > 0 && value > 59) || ++parts > 3) return -1;
        sum = 60.0 * sum + (double)value;
        text = end;
        if (*text == '\0') break;
        if (*text != ':') return -1;
    }
    *seconds = sum;
    return sum > 0.0 ? 0 : -1;
}

int quantity_parse_time(const char *text, double *seconds)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"", 1.0}, {"s", 1.0}, {"m", 60.0}, {"min", 60.0}, {"h", 3600.0}, {"d", 86400.0}};
    if (strchr(text, ':')) return parse_clock(text, seconds);
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || !isfinite(value) || value <= 0.0) return -1;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(end, units[i].name)) {
            *seconds = value * units[i].seconds;
            return 0;
        }
    return -1;
}

static int parse_count(const char *text, char **end, unsigned long *value)
{
    if (!isdigit((unsigned char)*text)) return -1;
    *value = strtoul(text, end, 10);
    return *value < 1 || *value > 1000000 ? -1 : 0;
}

int quantity_parse_product(const char *text, unsigned long *first, unsigned long *second)
{
    char *end = NULL;
    if (parse_count(text, &end, first) || *end != 'x') return -1;
    return parse_count(end + 1, &end, second) || *end ? -1 : 0;
}
