/* Over std::to_chars, which C has no equal of: exports of 10^5 rows print millions of numbers. */
#include "io/number.h"

#include <charconv>
#include <cmath>
#include <cstring>

size_t number_of_double(double value, char *out)
{
    if (std::isnan(value)) {
        std::memcpy(out, "nan", 4);
        return 3;
    }
    char *end = std::to_chars(out, out + NUMBER_TEXT - 1, value).ptr;
    *end = 0;
    return static_cast<size_t>(end - out);
}

size_t number_of_uint(uint64_t value, char *out)
{
    char *end = std::to_chars(out, out + NUMBER_TEXT - 1, value).ptr;
    *end = 0;
    return static_cast<size_t>(end - out);
}
