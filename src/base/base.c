#include "base/base.h"

static const struct ld_bug
    *volatile found; /* on the stack of who aborts, which no longer returns */

/* Print a bug, and abort. */
void ld_base_abort(const struct ld_bug *bug) {
    found = bug;
    fprintf(stderr, "lunad: bug: %s:%d: %s\n", bug->file, bug->line, bug->condition);
    abort();
}

/* The bug that this process aborts for. */
const struct ld_bug *ld_base_bug(void) {
    return found;
}
