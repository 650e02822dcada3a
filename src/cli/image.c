#include "cli/image.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/parse.h"
#include "base/say.h"
#include "daemon/handover_service.h"
#include "daemon/launch.h"
#include "daemon/way_back.h"
#include "host/host.h"
#include "posix/inherit.h"
#include "script/source.h"

#define SLACK_SECONDS 1 /* beside --start-timeout: until then the script is interrupted */

/* Whether it is one of the words. */
bool ld_image_has(const char *word) {
    return strcmp(word, LD_HANDOVER_WORD) == 0 || strcmp(word, LD_HANDOVER_TRIAL_WORD) == 0;
}

/* Whether the script of a service compiles; false with the reason in WHY. */
static bool compiles(const struct ld_service *service, struct ld_text *why) {
    const struct ld_source source = {.path = service->script,
                                     .text = ld_text_string(&service->text),
                                     .size = service->text.size,
                                     .title = service->text_title,
                                     .as_root = geteuid() == 0};
    return ld_source_check(&source, why) == 0;
}

/* Say whether this program could take over. */
static int try(int paper) {
    struct ld_handover handover;
    struct ld_service service = {.run_fd = -1, .log_place = {.dir = -1}};
    bool ok = ld_handover_read(&handover, paper, NULL) &&
              ld_handover_service_read(&handover, &service) && compiles(&service, &handover.why);
    if (ok) {
        char *token = ld_handover_string(&handover, handover.root, "trial");
        ld_say("%s%s", LD_HANDOVER_TOKEN, token != NULL ? token : "");
        free(token);
    } else {
        ld_say("%s", ld_text_string(&handover.why));
    }
    ld_service_fini(&service);
    ld_handover_fini(&handover);
    return ok ? 0 : 1;
}

/* Take over. */
static int take_over(int paper, const char *back) {
    struct ld_handover handover;
    struct ld_service service = {.run_fd = -1, .log_place = {.dir = -1}};
    int status = 1;
    ld_inherit_reset_signals();
    ld_inherit_seal_fds(true, -1);
    bool ok = ld_handover_read(&handover, paper, back);
    if (back == NULL && ld_handover_old_program(&handover) >= 0) {
        int rc = ld_way_back_open(&handover, SLACK_SECONDS);
        if (rc < 0 && ok) {
            ld_text_format(&handover.why, "there is no way back: %s", strerror(-rc));
            ok = false;
        }
    }
    ok = ok && ld_handover_service_read(&handover, &service);
    if (!ok) {
        ld_way_back_go(ld_text_string(&handover.why));
        ld_say_error("%s", ld_text_string(&handover.why));
    } else {
        ld_way_back_wait(service.options->start_timeout + SLACK_SECONDS);
        status = ld_launch_take_over(&service, ld_host_run);
    }
    ld_service_fini(&service);
    ld_handover_fini(&handover);
    return status;
}

/* Take over, or try to. */
int ld_image_run(int argc, char **argv) {
    long paper;
    if (argc < 3 || !ld_parse_whole(argv[2], 3, INT_MAX, &paper)) {
        ld_say_error("%s is for lunad upgrade", argv[1]);
        return 2;
    }
    return strcmp(argv[1], LD_HANDOVER_TRIAL_WORD) == 0
               ? try((int)paper)
               : take_over((int)paper, argc > 3 ? argv[3] : NULL);
}
