#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "check.h"
#include "posix/notify.h"
#include "support.h"

/* Listen as a manager at "n" in the box. */
static int open_manager(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", box_path("n"));
    unlink(address.sun_path);
    REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

/* The next message, or "" if there is none. */
static const char *hear(int fd) {
    static char text[2048];
    ssize_t size = recv(fd, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    return text;
}

static void test_messages(void) {
    int fd = open_manager();
    ld_notify_open(box_path("n"));
    ld_notify_send("READY=1\nMAINPID=%d", 42);
    ld_notify_watchdog();
    CHECK_STR("READY=1\nMAINPID=42", hear(fd));
    CHECK_STR("WATCHDOG=1", hear(fd));
    ld_notify_reloading();
    CHECK(strncmp(hear(fd), "RELOADING=1\nMONOTONIC_USEC=", 27) == 0);
    CHECK(!ld_notify_is_behind());
    ld_notify_close();
    ld_notify_send("READY=1");
    CHECK_STR("", hear(fd));
    close(fd);
}

static void test_no_manager(void) {
    static const char *const names[] = {"", "@", "x", "/nonexistent/socket"};
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        ld_notify_open(names[i]);
        ld_notify_send("READY=1");
        ld_notify_watchdog();
        CHECK(!ld_notify_is_behind());
        ld_notify_close();
    }
    ld_notify_open(NULL);
    ld_notify_send("READY=1");
    ld_notify_close();
}

static void test_manager_comes_back(void) {
    ld_notify_open(box_path("n")); /* no manager listens yet */
    ld_notify_send("STATUS=lost");
    for (int i = 0; i < 3; i++) {
        int fd = open_manager();
        ld_notify_send("STATUS=%d", i);
        char expected[] = {'S', 'T', 'A', 'T', 'U', 'S', '=', (char)('0' + i), '\0'};
        CHECK_STR(expected, hear(fd));
        close(fd);
        ld_notify_send("STATUS=lost");
    }
    ld_notify_close();
}

/* Fill the manager's queue; how many messages it took. */
static int fill_queue(void) {
    int count = 0;
    while (!ld_notify_is_behind() && count < 10000) {
        ld_notify_send("STATUS=%d", count++);
    }
    return count;
}

static void test_slow_manager(void) {
    int fd = open_manager();
    ld_notify_open(box_path("n"));
    int count = fill_queue();
    CHECK(count < 10000);
    ld_notify_send("READY=1"); /* kept */
    ld_notify_watchdog();      /* not kept */
    CHECK(ld_notify_is_behind());
    for (int i = 0; i < count; i++) {
        CHECK(strncmp(hear(fd), "STATUS=", 7) == 0);
        ld_notify_is_behind();
    }
    CHECK(!ld_notify_is_behind());
    CHECK_STR("READY=1", hear(fd));
    CHECK_STR("", hear(fd));
    fill_queue();
    for (int i = 0; i < 10000; i++) {
        ld_notify_send("STATUS=%d", i); /* has a limit */
    }
    ld_notify_close(); /* forgets what was kept */
    close(fd);
}

static const struct check_case cases[] = {
    {"a manager gets each message", test_messages},
    {"a manager that does not listen does no harm", test_no_manager},
    {"a manager that comes back gets what comes then", test_manager_comes_back},
    {"a slow manager gets later what does not fit now, in order", test_slow_manager},
};

CHECK_MAIN(cases)
