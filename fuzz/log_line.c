/* The log: whatever a message, a source or a field holds, it cannot forge a line or act on a terminal. */
#include "base/log_line.h"

#include <ctype.h>
#include <jansson.h>
#include <string.h>

#include "fuzz.h"

#define FIELDS_MAX 4

/* An event, and what it is made of. */
struct sample {
    struct ld_log_event event;
    struct ld_log_field fields[FIELDS_MAX];
    char *strings[FIELDS_MAX + 1];
};

/* Read a field. */
static void read_field(struct fuzz_input *input, struct ld_log_field *field) {
    field->type = fuzz_byte(input) % 4;
    union {
        uint64_t bits;
        double number;
    } number;
    switch (field->type) {
    case LD_FIELD_TEXT:
        field->value.text.data = fuzz_bytes(input, 255, &field->value.text.size);
        break;
    case LD_FIELD_INTEGER:
        field->value.integer = (long long)fuzz_number(input, 8);
        break;
    case LD_FIELD_NUMBER:
        number.bits = fuzz_number(input, 8);
        field->value.number = number.number;
        break;
    case LD_FIELD_BOOLEAN:
        field->value.boolean = fuzz_byte(input) % 2 != 0;
        break;
    }
}

/* Read an event. */
static void read_sample(struct fuzz_input *input, struct sample *sample) {
    struct ld_log_event *event = &sample->event;
    event->level = fuzz_byte(input) % 4;
    event->field_count = fuzz_byte(input) % (FIELDS_MAX + 1);
    event->fields = sample->fields;
    event->source = sample->strings[FIELDS_MAX] = fuzz_string(input, '\0');
    for (size_t i = 0; i < event->field_count; i++) {
        sample->fields[i].key = sample->strings[i] = fuzz_string(input, '\0');
        read_field(input, &sample->fields[i]);
    }
    event->message = (const char *)input->at;
    event->size = input->left;
}

/* Check the fields in text form: as many as there are, each " key=value", where a value is a word, or quoted
 * and without a bare quote inside. */
static void check_fields(const struct ld_log_event *event) {
    struct ld_text text = {0};
    ld_log_line_fields(&text, event);
    const char *at = ld_text_string(&text);
    fuzz_check_line(at, text.size);
    size_t count = 0;
    for (; *at != '\0'; count++) {
        FUZZ_CHECK(*at++ == ' ');
        const char *key = at;
        while (isalnum((unsigned char)*at) || (*at != '\0' && strchr("_.-", *at) != NULL)) {
            at++;
        }
        FUZZ_CHECK(at > key && *at == '=');
        at++;
        if (*at != '"') {
            FUZZ_CHECK(*at != '\0' && *at != ' ');
            at += strcspn(at, " \t\"");
            FUZZ_CHECK(*at == '\0' || *at == ' ');
            continue;
        }
        for (at++; *at != '"'; at++) {
            FUZZ_CHECK(*at != '\0');
            at += *at == '\\';
        }
        at++;
    }
    FUZZ_CHECK(count == event->field_count);
    ld_text_fini(&text);
}

/* Check an event as text. */
static void check_text(const struct ld_log_event *event) {
    struct ld_text text = {0};
    ld_log_line_text(&text, event);
    FUZZ_CHECK(!text.failed && text.size > 33 && text.data[text.size - 1] == '\n');
    FUZZ_CHECK(text.data[4] == '-' && text.data[10] == 'T' && text.data[23] == 'Z');
    fuzz_check_lines(text.data, text.size - 1);
    ld_text_fini(&text);
}

/* Check that a member is the text that was given, made valid. */
static void check_member(const json_t *line, const char *key, const char *bytes, size_t size) {
    struct ld_text text = {0};
    const json_t *member = json_object_get(line, key);
    ld_text_add_utf8(&text, bytes, size);
    FUZZ_CHECK(json_string_length(member) == text.size);
    FUZZ_CHECK(memcmp(json_string_value(member), ld_text_string(&text), text.size) == 0);
    ld_text_fini(&text);
}

/* Check an event as JSON: one line, with everything that the event has. */
static void check_json(const struct ld_log_event *event) {
    struct ld_text text = {0};
    ld_log_line_json(&text, event);
    FUZZ_CHECK(!text.failed && text.size > 0);
    FUZZ_CHECK(memchr(text.data, '\n', text.size) == text.data + text.size - 1);
    json_t *line = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    FUZZ_CHECK(json_object_size(line) == 5 + event->field_count);
    check_member(line, "message", event->message, event->size);
    check_member(line, "source", event->source, strlen(event->source));
    json_decref(line);
    ld_text_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct sample sample = {0};
    read_sample(&input, &sample);
    check_fields(&sample.event);
    check_text(&sample.event);
    check_json(&sample.event);
    for (size_t i = 0; i < LD_COUNT(sample.strings); i++) {
        free(sample.strings[i]);
    }
    return 0;
}
