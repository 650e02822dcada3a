#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* Make a string of any bytes. */
json_t *ld_json_text(const char *bytes, size_t size) {
    struct ld_text clean = {0};
    ld_text_add_utf8(&clean, bytes, size);
    json_t *string = clean.failed ? NULL : json_stringn(ld_text_string(&clean), clean.size);
    ld_text_fini(&clean);
    return string;
}

/* Make a string of the beginning, up to a whole character. */
json_t *ld_json_cut(const char *bytes, size_t size, size_t most) {
    struct ld_text text = {0};
    if (size <= most) {
        return ld_json_text(bytes, size);
    }
    size_t end = most;
    while (end > 0 && most - end < 3 && ((unsigned char)bytes[end] & 0xC0) == 0x80) {
        end--;
    }
    ld_text_add(&text, bytes, end);
    ld_text_puts(&text, "…");
    json_t *string = text.failed ? NULL : ld_json_text(ld_text_string(&text), text.size);
    ld_text_fini(&text);
    return string;
}

/* Make a string of a C string. */
json_t *ld_json_string(const char *string) {
    return string != NULL ? ld_json_text(string, strlen(string)) : json_null();
}

/* Make a string of code points 1 to 255. */
json_t *ld_json_bytes(const char *string) {
    struct ld_text text = {0};
    if (string == NULL) {
        return json_null();
    }
    const unsigned char *at = (const unsigned char *)string;
    while (*at != '\0' && *at < 0x80) {
        at++;
    }
    ld_text_add(&text, string, (size_t)((const char *)at - string)); /* most have nothing else */
    for (; *at != '\0'; at++) {
        if (*at >= 0x80) {
            ld_text_putc(&text, (char)(0xC0 | *at >> 6));
        }
        ld_text_putc(&text, (char)(*at >= 0x80 ? 0x80 | (*at & 0x3F) : *at));
    }
    json_t *value = text.failed ? NULL : json_stringn(ld_text_string(&text), text.size);
    ld_text_fini(&text);
    return value;
}

/* Make bytes of code points. */
char *ld_json_take_bytes(const json_t *value) {
    const char *from = json_string_value(value);
    char *bytes = from != NULL ? malloc(strlen(from) + 1) : NULL;
    char *to = bytes;
    if (bytes == NULL) {
        return NULL;
    }
    while (*from != '\0') {
        unsigned char byte = (unsigned char)*from++;
        if (byte >= 0xC2 && byte <= 0xC3 && *from != '\0') {
            byte = (unsigned char)(byte << 6 | (*from++ & 0x3F));
        }
        *to++ = (char)byte;
    }
    *to = '\0';
    return bytes;
}
