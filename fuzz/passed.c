/* What a service manager says of the sockets that it passes: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. */
#include <ctype.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "posix/inherit.h"

/* Set a variable, or unset it for a text that begins with "-". */
static void set(const char *name, const char *value) {
    if (value[0] == '-') {
        unsetenv(name);
    } else {
        setenv(name, value, 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    bool is_ours = fuzz_byte(&input) % 2 != 0;
    char *other = fuzz_string(&input, '\n');
    char *fds = fuzz_string(&input, '\n');
    char *names = fuzz_rest(&input);
    set("LISTEN_PID", is_ours ? pid : other);
    set("LISTEN_FDS", fds);
    set("LISTEN_FDNAMES", names);
    int count = ld_inherit_passed_fds();
    FUZZ_CHECK(count >= 0 && count <= 1000);
    FUZZ_CHECK(is_ours || count == 0 || atoi(other) == getpid());
    FUZZ_CHECK(count == 0 || isdigit((unsigned char)fds[0]) || fds[0] == '+');
    for (int i = 0; i < count && i < 5; i++) {
        char *name = ld_inherit_passed_name(i);
        FUZZ_CHECK(name != NULL && name[0] != '\0' && strchr(name, ':') == NULL);
        free(name);
    }
    free(other);
    free(fds);
    free(names);
    return 0;
}
