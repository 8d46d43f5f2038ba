/* Numbers as text: the shortest decimal digits that read back as the same number. */
#ifndef TUNELAW_IO_NUMBER_H
#define TUNELAW_IO_NUMBER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NUMBER_TEXT 32 /* bytes that every number fits, with the terminating zero */

/* Length of the text, which is zero-terminated in out[NUMBER_TEXT]; "nan", "inf" and "-inf" where it is not finite. */
size_t number_of_double(double value, char *out);
size_t number_of_uint(uint64_t value, char *out);

#ifdef __cplusplus
}
#endif

#endif
