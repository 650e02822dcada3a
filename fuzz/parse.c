/* Values that people write: what is accepted is in its range, and what is refused changes nothing. */
#include "base/parse.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>

#include "fuzz.h"

/* Check numbers. */
static void check_numbers(const char *text) {
    double seconds = -7;
    uint64_t size = 7;
    long number = -7;
    mode_t mask = 07777;
    bool ok = ld_parse_seconds(text, &seconds);
    FUZZ_CHECK(ok ? seconds >= 0 && seconds <= 10 * 366 * 86400.0 : seconds == -7);
    ok = ld_parse_size(text, &size);
    FUZZ_CHECK(ok ? isdigit((unsigned char)text[0]) != 0 : size == 7);
    ok = ld_parse_whole(text, -5, 1000, &number);
    FUZZ_CHECK(ok ? number >= -5 && number <= 1000 : number == -7);
    ok = ld_parse_mask(text, &mask);
    FUZZ_CHECK(ok ? mask <= 0777 : mask == 07777);
}

/* Check names. */
static void check_names(const char *text) {
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t size = strlen(text);
    bool is_name = size >= 1 && size <= 64 && strspn(text, alphabet) == size && text[0] != '.' &&
                   text[0] != '-';
    FUZZ_CHECK(ld_parse_is_name(text) == is_name);
    int signo = -7;
    if (!ld_parse_signal(text, &signo)) {
        FUZZ_CHECK(signo == -7);
        return;
    }
    FUZZ_CHECK(signo >= 1 && signo <= SIGRTMAX);
    const char *name = ld_parse_signal_name(signo);
    if (name != NULL) {
        char again[32];
        int same = -1;
        snprintf(again, sizeof again, "SIG%s", name);
        FUZZ_CHECK(ld_parse_signal(again, &same) && same == signo);
    }
}

/* Check a resource limit, NAME=VALUE. */
static void check_limit(const char *text) {
    int resource = -7;
    struct rlimit limit = {.rlim_cur = 7, .rlim_max = 8};
    size_t size = strcspn(text, "=");
    bool ok = ld_parse_rlimit_name(text, size, &resource);
    FUZZ_CHECK(ok ? resource >= 0 && resource < RLIM_NLIMITS : resource == -7);
    const char *value = text[size] == '=' ? text + size + 1 : text;
    ok = ld_parse_rlimit_value(value, &limit);
    FUZZ_CHECK(ok ? limit.rlim_cur <= limit.rlim_max : limit.rlim_cur == 7 && limit.rlim_max == 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    char *text = fuzz_rest(&input);
    check_numbers(text);
    check_names(text);
    check_limit(text);
    free(text);
    return 0;
}
