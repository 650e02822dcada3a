#include "cli/quote.h"

#include <ctype.h>
#include <string.h>

/* Whether a word needs no quotes anywhere: it has but letters, digits, and what is in OTHERS. */
static bool is_plain(const char *word, const char *others) {
    for (const char *at = word; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte >= 0x80 || (!isalnum(byte) && strchr(others, byte) == NULL)) {
            return false;
        }
    }
    return word[0] != '\0';
}

/* Add a word for sh. */
void ld_quote_sh(struct ld_text *text, const char *word) {
    if (is_plain(word, "_./:=@%+,-")) {
        ld_text_puts(text, word);
        return;
    }
    ld_text_putc(text, '\'');
    for (const char *at = word; *at != '\0'; at++) {
        if (*at == '\'') {
            ld_text_puts(text, "'\\''");
        } else {
            ld_text_putc(text, *at);
        }
    }
    ld_text_putc(text, '\'');
}

/* Add one byte inside the double quotes of systemd. */
static void add_byte(struct ld_text *text, unsigned char byte) {
    switch (byte) {
    case '"':
    case '\\':
        ld_text_format(text, "\\%c", byte);
        break;
    case '%':
    case '$':
        ld_text_format(text, "%c%c", byte, byte);
        break;
    case '\n':
        ld_text_puts(text, "\\n");
        break;
    case '\t':
        ld_text_puts(text, "\\t");
        break;
    default:
        if (byte < 0x20 || byte >= 0x7f) {
            ld_text_format(text, "\\x%02x", byte);
        } else {
            ld_text_putc(text, (char)byte);
        }
    }
}

/* Add a word for ExecStart. */
void ld_quote_systemd(struct ld_text *text, const char *word) {
    if (is_plain(word, "_./:=@+,-")) {
        ld_text_puts(text, word);
        return;
    }
    ld_text_putc(text, '"');
    for (size_t left = strlen(word); left > 0;) {
        size_t size = ld_text_utf8_length(word, left);
        if (size > 1) {
            ld_text_add(text, word, size);
        } else {
            size = 1;
            add_byte(text, (unsigned char)word[0]);
        }
        word += size;
        left -= size;
    }
    ld_text_putc(text, '"');
}

/* Add a value. */
void ld_quote_setting(struct ld_text *text, const char *word) {
    for (; *word != '\0'; word++) {
        ld_text_puts(text, *word == '%' ? "%" : "");
        ld_text_putc(text, *word);
    }
}

/* Check whether a setting can hold a value: a backslash at its end would join the next line. */
bool ld_quote_fits_setting(const char *value) {
    size_t left = strlen(value);
    if (left == 0 || value[0] == ' ' || value[left - 1] == ' ' || value[left - 1] == '\\') {
        return false;
    }
    while (left > 0) {
        size_t size = ld_text_utf8_length(value, left);
        if (size == 0 || (size == 1 && iscntrl((unsigned char)value[0]))) {
            return false;
        }
        value += size;
        left -= size;
    }
    return true;
}
