/* Scripts for service managers that start a service by a program of its own. */
#ifndef LD_CLI_UNIT_SCRIPT_H
#define LD_CLI_UNIT_SCRIPT_H

#include "cli/unit_line.h"

/* The file of /etc/init.d for OpenRC. */
void ld_unit_script_openrc(struct ld_text *text, const struct ld_unit *unit);

/* The file ./run of a service directory of runit, and of s6. */
void ld_unit_script_runit(struct ld_text *text, const struct ld_unit *unit);
void ld_unit_script_s6(struct ld_text *text, const struct ld_unit *unit);

#endif
