#include "cli/unit_line.h"

#include <string.h>

/* Whether the list LIST has NAME. */
static bool has_name(const char *const *list, const char *name) {
    while (*list != NULL && strcmp(*list, name) != 0) {
        list++;
    }
    return *list != NULL;
}

/* Add an option as a word, or as two. */
static void add_option(struct ld_text *text, const struct ld_unit_option *option,
                       ld_quote_word *quote) {
    ld_text_format(text, " --%s", option->name);
    if (option->value != NULL) {
        ld_text_putc(text, ' ');
        quote(text, option->value);
    }
}

/* Add the command line that starts the service. */
void ld_unit_line_start(struct ld_text *text, const struct ld_unit *unit,
                        const struct ld_unit_style *style) {
    ld_text_format(text, "%s --run-dir ", style->verb);
    style->quote(text, unit->run_dir);
    ld_text_puts(text, style->more);
    for (size_t i = 0; i < unit->given_count; i++) {
        if (!has_name(style->without, unit->given[i].name)) {
            add_option(text, &unit->given[i], style->quote);
        }
    }
    ld_text_putc(text, ' ');
    style->quote(text, unit->script);
    for (char **at = unit->args; *at != NULL; at++) {
        ld_text_putc(text, ' ');
        style->quote(text, *at);
    }
}

/* Add the command line of a verb that takes the name. */
void ld_unit_line_verb(struct ld_text *text, const struct ld_unit *unit, const char *verb,
                       ld_quote_word *quote) {
    ld_text_format(text, "%s --run-dir ", verb);
    quote(text, unit->run_dir);
    ld_text_format(text, " %s", unit->name);
}
