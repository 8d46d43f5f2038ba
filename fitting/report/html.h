/* Small pieces of a page: text that cannot break out of it, numbers as people read them. Internal to fitting/. */
#ifndef TUNELAW_FITTING_REPORT_HTML_H
#define TUNELAW_FITTING_REPORT_HTML_H

#include <stdio.h>

/* Write bytes from anywhere as text of an HTML or XML element or attribute: markup escaped, control characters and
 * bytes that are not UTF-8 written as U+FFFD. */
void html_text(FILE *out, const char *text);

/* The formula of a law, powers raised: "A·D^-β + E". */
void html_formula(FILE *out, const char *formula);

/* 250000 -> "250 K", 1.5e9 -> "1.5 B": four digits, the short form three. Returns `out`. */
const char *html_count(double value, char *out, size_t size);
const char *html_count_short(double value, char *out, size_t size);

/* An end of an interval: two digits, without an exponent where that is short: "0.038", "257". Returns `out`. */
const char *html_rough(double value, char *out, size_t size);

#endif
