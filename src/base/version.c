#include "base/version.h"

#ifndef LUNAD_VERSION
#define LUNAD_VERSION "0.1.0"
#endif

const char ld_version_text[] = LUNAD_VERSION;
