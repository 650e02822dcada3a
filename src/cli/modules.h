/* The modules that a script requires by constant names, for `lunad check`. */
#ifndef LD_CLI_MODULES_H
#define LD_CLI_MODULES_H

#include "base/text.h"

/* A script whose modules are checked. Strings are borrowed. */
struct ld_modules_script {
    const struct ld_text *text;
    const char *title; /* of it, for messages: "/srv/app.lua" */
    const char *path;  /* absolute, or NULL: it is no file, and has no folder */
    const char *lua;   /* --path and --cpath, or NULL */
    const char *c;
};

/* Compile every module that the script requires by a constant name, and those that these require. Faults, and what is
 * only noted, are said on stderr. How many faults there are. */
int ld_modules_check(const struct ld_modules_script *script);

#endif
