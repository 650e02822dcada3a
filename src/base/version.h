/* The version, for people and scripts. */
#ifndef LD_BASE_VERSION_H
#define LD_BASE_VERSION_H

/* As text; only version.c changes with it. */
extern const char ld_version_text[];

#endif
