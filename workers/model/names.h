/* Kinds by their names in sweep files: each kind is the place of its name in a table. */
#ifndef TUNELAW_WORKERS_MODEL_NAMES_H
#define TUNELAW_WORKERS_MODEL_NAMES_H

/* Place of `name` in names[count]; -1: not there. */
int name_find(const char *const *names, int count, const char *name);

#endif
