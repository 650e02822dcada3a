/* The version, for people and scripts. */
#ifndef LD_BASE_VERSION_H
#define LD_BASE_VERSION_H

#define LD_VERSION "0.1.0"

#endif
