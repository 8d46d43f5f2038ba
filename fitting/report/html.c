/* Fitting: what every part of the report writes with. */
#include "fitting/report/html.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Length of the UTF-8 character at c, 0 where there is none. */
static size_t utf8_length(const unsigned char *c)
{
    size_t length = c[0] < 0x80                   ? 1
                    : c[0] >= 0xc2 && c[0] < 0xe0 ? 2
                    : (c[0] & 0xf0) == 0xe0       ? 3
                    : c[0] >= 0xf0 && c[0] < 0xf5 ? 4
                                                  : 0;
    uint32_t value = length == 3 ? c[0] & 0xf : c[0] & 7;
    for (size_t i = 1; i < length; i++) {
        if ((c[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (c[i] & 0x3f);
    }
    if (length == 3 && (value < 0x800 || (value >= 0xd800 && value < 0xe000) || value >= 0xfffe)) return 0;
    if (length == 4 && (value < 0x10000 || value >= 0x110000)) return 0;
    return length;
}

void html_text(FILE *out, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        size_t length = utf8_length(c);
        if (*c == '&')
            fputs("&amp;", out);
        else if (*c == '<')
            fputs("&lt;", out);
        else if (*c == '>')
            fputs("&gt;", out);
        else if (*c == '"')
            fputs("&quot;", out);
        else if (*c == '\'')
            fputs("&#39;", out);
        else if (length == 0 || *c == 0x7f || (*c < 0x20 && *c != '\n' && *c != '\t' && *c != '\r'))
            fputs("\xef\xbf\xbd", out);
        else
            fwrite(c, 1, length, out);
        c += length ? length : 1;
    }
}

void html_formula(FILE *out, const char *formula)
{
    bool raised = false;
    for (const char *c = formula; *c; c++) {
        bool ends = *c == ' ' || !strncmp(c, "·", strlen("·"));
        if (raised && ends) fputs("</sup>", out);
        raised = raised && !ends;
        if (*c == '^') {
            fputs("<sup>", out);
            raised = true;
        } else {
            fputc(*c, out);
        }
    }
    if (raised) fputs("</sup>", out);
}

static const char *count_text(double value, int digits, char *out, size_t size)
{
    static const struct {
        double unit;
        const char *letter;
    } units[] = {{1e18, " E"}, {1e15, " P"}, {1e12, " T"}, {1e9, " B"}, {1e6, " M"}, {1e3, " K"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (fabs(value) >= units[i].unit * (1 - 0.5 * pow(10, -digits))) { /* 999.96 K is 1 M */
            snprintf(out, size, "%.*g%s", digits, value / units[i].unit, units[i].letter);
            return out;
        }
    snprintf(out, size, "%.*g", digits, value);
    return out;
}

const char *html_count(double value, char *out, size_t size)
{
    return count_text(value, 4, out, size);
}

const char *html_count_short(double value, char *out, size_t size)
{
    return count_text(value, 3, out, size);
}

const char *html_rough(double value, char *out, size_t size)
{
    bool whole = fabs(value) >= 99.5 && fabs(value) < 1e5;
    snprintf(out, size, whole ? "%.0f" : "%.2g", value);
    return out;
}
