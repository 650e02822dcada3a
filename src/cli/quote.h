/* Words, written so that another program reads exactly them. */
#ifndef LD_CLI_QUOTE_H
#define LD_CLI_QUOTE_H

#include <stdbool.h>

#include "base/text.h"

/* Add WORD for a place that reads it as one word, whatever is in it. */
typedef void ld_quote_word(struct ld_text *text, const char *word);

/* For sh(1). */
ld_quote_word ld_quote_sh;

/* For ExecStart= of systemd.service(5), but not as its first word: also "%" and "$" are not special there. */
ld_quote_word ld_quote_systemd;

/* For the other settings of systemd, which take what they are given, but for "%". */
ld_quote_word ld_quote_setting;

/* Whether such a setting can hold VALUE: it is one line of UTF-8, and systemd would remove nothing of it. */
bool ld_quote_fits_setting(const char *value);

#endif
