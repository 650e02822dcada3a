/* Units of systemd. */
#ifndef LD_CLI_UNIT_SYSTEMD_H
#define LD_CLI_UNIT_SYSTEMD_H

#include "cli/unit_line.h"

/* Print the .service unit, or with --socket the .socket unit, into TEXT. 0, or 1 with the reason in WHY if
 * something cannot be said there. */
int ld_unit_systemd_print(struct ld_text *text, const struct ld_unit *unit, struct ld_text *why);

#endif
