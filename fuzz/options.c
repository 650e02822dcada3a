/* Command lines: what is accepted is in its range, a complaint is one line that can be shown. */
#include "daemon/options.h"

#include <string.h>

#include "base/parse.h"
#include "fuzz.h"
#include "posix/address.h"

#define WORDS_MAX 24

/* Check what was accepted. */
static void check(const struct ld_options *options, unsigned groups) {
    FUZZ_CHECK(options->start_timeout > 0 && options->stop_timeout >= 0);
    FUZZ_CHECK(options->umask <= 0777 && options->lines >= -1);
    FUZZ_CHECK(options->name == NULL || ld_parse_is_name(options->name));
    FUZZ_CHECK(options->log_level >= 0 && options->log_level <= 3);
    FUZZ_CHECK(options->rlimit_count <= LD_RLIMITS_MAX);
    for (size_t i = 0; i < options->env_count; i++) {
        FUZZ_CHECK(strchr(options->env[i], '=') > options->env[i]);
    }
    for (size_t i = 0; i < options->listen_count; i++) {
        struct ld_address address;
        FUZZ_CHECK(ld_address_parse(options->listen[i], &address));
    }
    if ((groups & LD_OPTIONS_SERVICE) == 0) {
        FUZZ_CHECK(options->name == NULL && options->env_count == 0 && options->user == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    unsigned groups = fuzz_byte(&input);
    char *words[WORDS_MAX + 2] = {(char[]){"verb"}};
    char *all[WORDS_MAX + 2] = {0}; /* getopt changes the order of the words */
    int count = 1;
    while (input.left > 0 && count <= WORDS_MAX) {
        all[count] = words[count] = fuzz_string(&input, '\n');
        count++;
    }
    struct ld_options options;
    struct ld_text why = {0};
    int operand = ld_options_parse(&options, groups, words, &why);
    if (operand >= 0) {
        FUZZ_CHECK(operand >= 1 && operand <= count && ld_text_is_empty(&why));
        check(&options, groups);
    } else {
        FUZZ_CHECK(operand == -1 && !ld_text_is_empty(&why));
        fuzz_check_line(ld_text_string(&why), why.size);
    }
    ld_options_fini(&options);
    ld_text_fini(&why);
    for (int i = 1; i < count; i++) {
        free(all[i]);
    }
    return 0;
}
