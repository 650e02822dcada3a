/* Strings in JSON: any bytes become valid UTF-8, and those that must come back come back. */
#include "base/json.h"

#include <string.h>

#include "base/text.h"
#include "fuzz.h"

/* Check that a JSON string is the same after it was written and read. */
static void check_written(json_t *string) {
    char *dump = json_dumps(string, JSON_COMPACT | JSON_ENCODE_ANY);
    FUZZ_CHECK(dump != NULL && strchr(dump, '\n') == NULL);
    json_t *again = json_loads(dump, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    FUZZ_CHECK(json_equal(string, again));
    json_decref(again);
    free(dump);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    json_t *text = ld_json_text((const char *)data, size);
    FUZZ_CHECK(json_is_string(text));
    check_written(text);
    struct ld_text clean = {0};
    ld_text_add_utf8(&clean, (const char *)data, size);
    FUZZ_CHECK(clean.size == json_string_length(text));
    struct ld_text twice = {0};
    ld_text_add_utf8(&twice, ld_text_string(&clean), clean.size);
    FUZZ_CHECK(twice.size == clean.size &&
               memcmp(ld_text_string(&twice), ld_text_string(&clean), clean.size) == 0);
    ld_text_fini(&twice);
    ld_text_fini(&clean);
    json_decref(text);

    char *string = fuzz_rest(&input);
    json_t *bytes = ld_json_bytes(string);
    check_written(bytes);
    char *back = ld_json_take_bytes(bytes);
    FUZZ_CHECK(strcmp(back, string) == 0);
    free(back);
    json_decref(bytes);
    free(string);
    return 0;
}
