#include "cli/prepare.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/excerpt.h"
#include "base/say.h"
#include "daemon/hold.h"
#include "posix/fds.h"
#include "posix/inherit.h"
#include "script/source.h"

/* Check whether the script compiles, before anything is changed; 0, or 1 after complaining. */
static int check_script(const struct ld_service *service) {
    struct ld_text why = {0};
    uid_t uid = service->has_user ? service->user.uid : geteuid();
    const struct ld_source source = {.path = service->script,
                                     .text = ld_text_string(&service->text),
                                     .size = service->text.size,
                                     .title = service->text_title,
                                     .as_root = uid == 0};
    int rc = ld_source_check(&source, &why);
    if (rc < 0) {
        ld_say_error("%s", ld_text_string(&why));
        ld_excerpt_print(ld_text_string(&why), service->script);
    }
    ld_text_fini(&why);
    return rc < 0 ? 1 : 0;
}

/* Check the descriptor of --notify-fd; what is wrong with it, or NULL. */
static const char *blame_notify_fd(int fd) {
    int flags = fd >= 0 ? fcntl(fd, F_GETFL) : O_WRONLY;
    if (flags < 0) {
        return "it is not an open descriptor";
    }
    if (fd >= 0 && fd < LD_PASSED_FIRST + ld_inherit_passed_fds()) {
        return "it is a socket that the service manager passes";
    }
    return (flags & O_ACCMODE) == O_RDONLY ? "it is not open for writing" : NULL;
}

/* Close what was inherited. */
int ld_prepare_descriptors(const struct ld_call *call, bool keep_open) {
    int fd = call->options->notify_fd;
    const char *wrong = blame_notify_fd(fd);
    if (wrong != NULL) {
        ld_say_error("%s: --notify-fd: \"%d\": %s", call->argv[0], fd, wrong);
        return 2;
    }
    ld_inherit_seal_fds(keep_open, fd);
    ld_fds_note(LD_FD_INHERITED);
    return 0;
}

/* Find out about everything that the command line names. */
int ld_prepare_service(struct ld_service *service, const struct ld_call *call) {
    struct ld_text why = {0};
    int status = ld_service_init(service, call->options, call->argv, call->operand, &why);
    if (status != 0) {
        ld_say_error("%s", ld_text_string(&why));
    }
    ld_text_fini(&why);
    return status == 0 ? check_script(service) : status;
}

/* Check that a service could be started. */
int ld_prepare_check(const struct ld_call *call, bool daemon) {
    struct ld_service service = {.daemon = daemon};
    struct ld_text why = {0};
    int status = ld_prepare_service(&service, call);
    if (status == 0) {
        status = ld_hold_check(&service, &why);
        if (status != 0) {
            ld_say_error("%s", ld_text_string(&why));
        } else {
            status = check_script(&service); /* as the user that the check has switched to */
        }
    }
    ld_text_fini(&why);
    ld_service_fini(&service);
    return status;
}

/* Check whether this process has children. */
bool ld_prepare_has_children(void) {
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}
