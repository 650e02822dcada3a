#include "daemon/launch.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/excerpt.h"
#include "base/log.h"
#include "base/say.h"
#include "daemon/crash_file.h"
#include "daemon/handover.h"
#include "daemon/hold.h"
#include "daemon/hold_log.h"
#include "daemon/keeper.h"
#include "daemon/keeper_channel.h"
#include "daemon/start_report.h"
#include "daemon/way_back.h"
#include "posix/inherit.h"
#include "posix/notify.h"
#include "posix/title.h"

/* Report to the starting process, or print in the foreground, why the service failed before its
 * host ran. */
static int fail(struct ld_service *service, int status, const char *text) {
    if (service->keeper >= 0) {
        ld_keeper_channel_report_start(service, LD_START_REPORT_FAILED, text);
    } else if (service->channel >= 0) {
        ld_start_report_send(service->channel, LD_START_REPORT_FAILED, status, text);
    }
    if (!service->daemon && service->worker == 0) { /* else the master says it */
        ld_say_error("%s", text);
    }
    return status;
}

/* Set the title of the process to the service's name. */
static void set_title(const struct ld_service *service, const char *suffix) {
    struct ld_text title = {0};
    ld_text_format(&title, "lunad: %s%s", service->name, suffix);
    ld_title_set(ld_text_string(&title));
    ld_text_fini(&title);
}

/* Give up rights and run the host; the exit status to take. */
static int run_host(struct ld_service *service, ld_launch_host *run, struct ld_text *why) {
    set_title(service, "");
    ld_notify_open(service->notify_socket);
    int status = ld_hold_drop(service, why);
    if (status != 0) {
        return fail(service, status, ld_text_string(why));
    }
    status = run(service, why);
    if (!ld_text_is_empty(why) && !service->daemon && service->worker == 0) {
        ld_say_error("%s", ld_text_string(why));
        ld_excerpt_print(ld_text_string(why), service->script);
    }
    ld_notify_close();
    return status;
}

/* Run the host, in a process below a keeper if there is one. */
static int run_held(struct ld_service *service, ld_launch_host *run, struct ld_text *why) {
    if (ld_service_has_keeper(service)) {
        set_title(service, " (keeper)");
        int status = ld_keeper_fork(service, why);
        if (status >= 0 && !ld_text_is_empty(why)) {
            fail(service, status, ld_text_string(why));
            ld_hold_release(service, false);
        }
        if (status >= 0) {
            return status; /* we are the keeper, and the host has ended */
        }
        return run_host(service, run, why);
    }
    int status = run_host(service, run, why);
    ld_hold_release(service, false);
    return status;
}

/* Run the service in this process. */
int ld_launch_run(struct ld_service *service, ld_launch_host *run) {
    struct ld_text why = {0};
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* what a script writes appears line by line */
    ld_start_report_send(service->channel, LD_START_REPORT_BORN, 0, "");
    int status = ld_hold_take(service, &why);
    if (status != 0) {
        fail(service, status, ld_text_string(&why));
        ld_hold_release(service, false);
    } else {
        status = run_held(service, run, &why);
    }
    ld_text_fini(&why);
    ld_log_close();
    return status;
}

/* Open the log that was left; its opener, for once. */
static int take_log(void *arg) {
    struct ld_handover *handover = arg;
    int fd = ld_handover_fd(handover, handover->root, "log_fd");
    return fd >= 0 ? fd : -EBADF;
}

/* Open what was open: the log, the connection to the service manager, the memory shared with the keeper. 0 or 1 with the
 * reason in WHY. */
static int reopen(struct ld_service *service, struct ld_text *why) {
    struct ld_handover *handover = service->handover;
    int rc = ld_hold_log_resume(service, take_log, handover);
    int notify = ld_handover_fd(handover, handover->root, "notify_fd");
    ld_notify_adopt(service->notify_socket, notify);
    ld_crash_file_adopt(service);
    if (rc < 0) {
        ld_text_format(why, "the log: %s", strerror(-rc));
    }
    ld_text_append(why, &handover->why);
    return rc < 0 || !ld_text_is_empty(why) ? 1 : 0;
}

/* Go on with a service. */
int ld_launch_take_over(struct ld_service *service, ld_launch_host *run) {
    struct ld_handover *handover = service->handover;
    struct ld_text why = {0};
    if (!ld_handover_bool(handover, handover->root, "dumpable")) {
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* an exec has undone it */
    }
    set_title(service, "");
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    int status = reopen(service, &why);
    if (status != 0) {
        ld_way_back_go(ld_text_string(&why));
        fail(service, status, ld_text_string(&why));
    } else {
        status = run(service, &why);
    }
    ld_notify_close();
    if (service->keeper < 0) { /* else the keeper does it */
        ld_hold_release(service, false);
    }
    ld_text_fini(&why);
    ld_log_close();
    return status;
}
