/* The build's own name: every result row and every log carries it, so that a number can be traced to the code that made
 * it. */
#include "io/version.h"

#include <hdf5.h>
#include <jansson.h>
#include <libconfig.h>
#include <xxhash.h>

#include "version_generated.h"

const char *version_string(void)
{
    return TUNELAW_VERSION;
}

void version_print(FILE *out)
{
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    unsigned hash = XXH_versionNumber();
    fprintf(out, "tunelaw %s\n", TUNELAW_VERSION);
    fprintf(out, "compiler %s (%s)\n", TUNELAW_COMPILER, TUNELAW_FLAGS);
    fprintf(out, "hdf5 %u.%u.%u\n", major, minor, release);
    fprintf(out, "libconfig %d.%d.%d\n", LIBCONFIG_VER_MAJOR, LIBCONFIG_VER_MINOR, LIBCONFIG_VER_REVISION);
    fprintf(out, "jansson %s\n", jansson_version_str());
    fprintf(out, "sentencepiece %s\n", TUNELAW_SENTENCEPIECE);
    fprintf(out, "openblas %s\n", TUNELAW_OPENBLAS);
    fprintf(out, "xxhash %u.%u.%u\n", hash / 10000, hash / 100 % 100, hash % 100);
}
