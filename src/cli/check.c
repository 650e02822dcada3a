/* lunad check */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/say.h"
#include "cli/verbs.h"
#include "posix/paths.h"
#include "script/source.h"

/* Check whether the text that a descriptor gives compiles. */
static int check_stream(int fd, struct ld_text *why) {
    char title[32] = "=stdin";
    struct ld_text text = {0};
    if (fd != STDIN_FILENO) {
        snprintf(title, sizeof title, "=/dev/fd/%d", fd);
    }
    int rc = ld_file_read(fd, &text);
    if (rc < 0) {
        ld_text_format(why, "%s: %s", title + 1, strerror(-rc));
    } else {
        const struct ld_source source = {
            .text = ld_text_string(&text), .size = text.size, .title = title};
        rc = ld_source_check(&source, why);
    }
    ld_text_fini(&text);
    return rc;
}

/* Say whether a script compiles. */
static int run(const struct ld_call *call) {
    struct ld_text why = {0};
    const char *operand = call->argv[call->operand];
    int fd = strcmp(operand, "-") == 0 ? STDIN_FILENO : ld_paths_descriptor(operand);
    char *path = fd < 0 ? ld_paths_absolute(operand) : NULL;
    int rc = path != NULL ? ld_source_check(&(struct ld_source){.path = path}, &why)
             : fd >= 0    ? check_stream(fd, &why)
                          : -ENOMEM;
    if (rc == 0) {
        ld_say("%s: ok", operand);
    } else {
        ld_say_error("%s", !ld_text_is_empty(&why) ? ld_text_string(&why) : strerror(-rc));
    }
    ld_text_fini(&why);
    free(path);
    return rc == 0 ? 0 : 1;
}

const struct ld_verb ld_verb_check = {
    .name = "check",
    .operands = "SCRIPT",
    .summary = "say whether a script compiles",
    .least = 1,
    .most = 1,
    .run = run,
};
