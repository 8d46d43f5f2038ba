/* Numbers, bytes and times as a person reads and writes them. */
#ifndef TUNELAW_IO_QUANTITY_H
#define TUNELAW_IO_QUANTITY_H

#define QUANTITY_TEXT 32

/* Each writes into out and returns it: 1234567 -> "1.23M"; 1536 -> "1.5 KiB"; 5400 seconds -> "90 min". */
const char *quantity_number(double value, char out[QUANTITY_TEXT]);
const char *quantity_bytes(double value, char out[QUANTITY_TEXT]);
const char *quantity_time(double seconds, char out[QUANTITY_TEXT]);

/* A time that goes on, whole seconds: "4m05s", "12h30m"; below 0: "unknown yet". */
const char *quantity_clock(double seconds, char out[QUANTITY_TEXT]);

/* "90", "90s", "30m", "4h", "2d", "1:30:00": seconds. 0, or -1: not a time above zero. */
int quantity_parse_time(const char *text, double *seconds);

/* "128x8": two numbers from 1 to 1,000,000. 0, or -1. */
int quantity_parse_product(const char *text, unsigned long *first, unsigned long *second);

#endif
