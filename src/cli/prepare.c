#include "cli/prepare.h"

#include <sys/wait.h>
#include <unistd.h>

#include "base/say.h"
#include "daemon/hold.h"
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
    }
    ld_text_fini(&why);
    return rc < 0 ? 1 : 0;
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
