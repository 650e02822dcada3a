#include <math.h>
#include <signal.h>
#include <string.h>

#include "base/parse.h"
#include "check.h"
#include "support.h"

#define TEN_YEARS (10.0 * 366 * 86400)

static void test_seconds(void) {
    static const struct {
        const char *text;
        double seconds;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"2.5", 2.5},
        {".5", 0.5},
        {"5.", 5},
        {"007", 7},
        {"0.000000001", 1e-9},
        {"316224000", TEN_YEARS},
        {"00000000000000000000000000000001", 1},
    };
    static const char *const bad[] = {"",    ".",   "-1",           "+1",          " 1",  "1 ",
                                      "1s",  "1,5", "1.2.",         "1.2.3",       "1e3", "0x10",
                                      "nan", "inf", "316224000.01", "99999999999", "one", "1\n",
                                      "--",  "-0",  "1..5",         "infinity"};
    for (size_t i = 0; i < LD_COUNT(good); i++) {
        double seconds = -1;
        CHECK(ld_parse_seconds(good[i].text, &seconds));
        CHECK(seconds == good[i].seconds);
    }
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        double seconds = -1;
        CHECK_STR("", ld_parse_seconds(bad[i], &seconds) ? bad[i] : "");
        CHECK(seconds == -1); /* left alone */
    }
}

static void test_size(void) {
    static const struct {
        const char *text;
        uint64_t size;
    } good[] = {
        {"0", 0},
        {"1", 1},
        {"64K", 65536},
        {"64k", 65536},
        {"64M", 67108864},
        {"3m", 3145728},
        {"2G", 2147483648},
        {"2g", 2147483648},
        {"18446744073709551615", UINT64_MAX},
        {"17179869183G", 17179869183ULL << 30},
    };
    static const char *const bad[] = {"",    "K",  "-1", "+1",           " 1",
                                      "1 ",  "1T", "1B", "1KB",          "1.5M",
                                      "1 K", "0x", "MM", "17179869184G", "18446744073709551616",
                                      "1e3", "k1", "1\n"};
    for (size_t i = 0; i < LD_COUNT(good); i++) {
        uint64_t size = 77;
        CHECK(ld_parse_size(good[i].text, &size));
        CHECK(size == good[i].size);
    }
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        uint64_t size = 77;
        CHECK_STR("", ld_parse_size(bad[i], &size) ? bad[i] : "");
        CHECK_INT(77, size);
    }
}

static void test_whole(void) {
    static const char *const bad[] = {
        "", " 1", "1 ", "1.0", "0x1", "a", "1a", "-", "6", "-6", "99999999999999999999"};
    long number = 77;
    CHECK(ld_parse_whole("5", -5, 5, &number));
    CHECK_INT(5, number);
    CHECK(ld_parse_whole("-5", -5, 5, &number));
    CHECK_INT(-5, number);
    CHECK(ld_parse_whole("0", -5, 5, &number));
    CHECK_INT(0, number);
    number = 77;
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        CHECK_STR("", ld_parse_whole(bad[i], -5, 5, &number) ? bad[i] : "");
        CHECK_INT(77, number);
    }
}

static void test_mask(void) {
    static const struct {
        const char *text;
        mode_t mask;
    } good[] = {{"0", 0}, {"022", 022}, {"27", 027}, {"0777", 0777}, {"777", 0777}, {"00022", 022}};
    static const char *const bad[] = {"",     "8",     "-1", "0x12", "1777",  "022 ",
                                      " 022", "u=rwx", "9",  "+22",  "01000", "000022"};
    for (size_t i = 0; i < LD_COUNT(good); i++) {
        mode_t mask = 07000;
        CHECK(ld_parse_mask(good[i].text, &mask));
        CHECK_INT(good[i].mask, mask);
    }
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        mode_t mask = 07000;
        CHECK_STR("", ld_parse_mask(bad[i], &mask) ? bad[i] : "");
        CHECK_INT(07000, mask);
    }
}

static void test_name(void) {
    static const char sixty_four[] =
        "0123456789abcdef0123456789ABCDEF0123456789._-_.-0123456789abcdef";
    static const char *const good[] = {"a", "Z9", "_x", "9", "a.b-c_d", "a..b", "x-", "x."};
    static const char *const bad[] = {"",    ".",   "-",   ".x",   "-x",  "a/b",
                                      "/",   "a b", "a\n", "a\tb", "a*",  "caf\xC3\xA9",
                                      "a:b", "a@b", "..",  "a\\b", "a,b", "a\"b"};
    char long_name[80] = "";
    CHECK_INT(64, strlen(sixty_four));
    CHECK(ld_parse_is_name(sixty_four));
    snprintf(long_name, sizeof long_name, "%sx", sixty_four);
    CHECK(!ld_parse_is_name(long_name));
    for (size_t i = 0; i < LD_COUNT(good); i++) {
        CHECK_STR(good[i], ld_parse_is_name(good[i]) ? good[i] : "");
    }
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        CHECK_STR("", ld_parse_is_name(bad[i]) ? bad[i] : "");
    }
    for (int byte = 1; byte < 256; byte++) {
        const char name[3] = {'a', (char)byte, '\0'};
        bool allowed = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                       (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
        CHECK_INT(allowed, ld_parse_is_name(name));
    }
}

static void test_rlimit_name(void) {
    static const struct {
        const char *name;
        int resource;
    } rows[] = {
        {"nofile", RLIMIT_NOFILE},
        {"core", RLIMIT_CORE},
        {"as", RLIMIT_AS},
        {"nproc", RLIMIT_NPROC},
        {"cpu", RLIMIT_CPU},
        {"data", RLIMIT_DATA},
        {"fsize", RLIMIT_FSIZE},
        {"stack", RLIMIT_STACK},
        {"memlock", RLIMIT_MEMLOCK},
        {"rss", RLIMIT_RSS},
        {"nice", RLIMIT_NICE},
        {"rtprio", RLIMIT_RTPRIO},
        {"NOFILE", RLIMIT_NOFILE},
        {"locks", RLIMIT_LOCKS},
        {"msgqueue", RLIMIT_MSGQUEUE},
        {"sigpending", RLIMIT_SIGPENDING},
    };
    int resource = -1;
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        resource = -1;
        CHECK(ld_parse_rlimit_name(rows[i].name, strlen(rows[i].name), &resource));
        CHECK_INT(rows[i].resource, resource);
    }
    resource = -1;
    CHECK(!ld_parse_rlimit_name("nofiles", 7, &resource));
    CHECK(!ld_parse_rlimit_name("nofil", 5, &resource));
    CHECK(!ld_parse_rlimit_name("", 0, &resource));
    CHECK(!ld_parse_rlimit_name("files", 5, &resource));
    CHECK_INT(-1, resource);
    CHECK(ld_parse_rlimit_name("core=0", 4, &resource));
    CHECK_INT(RLIMIT_CORE, resource);
}

static void test_rlimit_value(void) {
    static const struct {
        const char *text;
        rlim_t soft;
        rlim_t hard;
    } good[] = {
        {"0", 0, 0},
        {"256", 256, 256},
        {"256:512", 256, 512},
        {"512:512", 512, 512},
        {"1K:1M", 1024, 1048576},
        {"unlimited", RLIM_INFINITY, RLIM_INFINITY},
        {"64:unlimited", 64, RLIM_INFINITY},
        {"64:infinity", 64, RLIM_INFINITY},
    };
    static const char *const bad[] = {
        "",     ":",   "256:",  ":256",        "512:256",
        "-1",   "x",   "1:2:3", "unlimited:5", "1 :2",
        "soft", "1;2", "1:x",   "Unlimited",   "00000000000000000000000000000000000000001"};
    for (size_t i = 0; i < LD_COUNT(good); i++) {
        struct rlimit limit = {7, 7};
        CHECK(ld_parse_rlimit_value(good[i].text, &limit));
        CHECK(limit.rlim_cur == good[i].soft && limit.rlim_max == good[i].hard);
    }
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        struct rlimit limit = {7, 7};
        CHECK_STR("", ld_parse_rlimit_value(bad[i], &limit) ? bad[i] : "");
        CHECK(limit.rlim_cur == 7 && limit.rlim_max == 7);
    }
}

static void test_signal(void) {
    static const struct {
        const char *text;
        int signo;
    } good[] = {
        {"TERM", SIGTERM}, {"SIGTERM", SIGTERM}, {"term", SIGTERM},   {"sigterm", SIGTERM},
        {"15", 15},        {"1", SIGHUP},        {"HUP", SIGHUP},     {"USR1", SIGUSR1},
        {"KILL", SIGKILL}, {"9", SIGKILL},       {"WINCH", SIGWINCH}, {"64", 64},
    };
    static const char *const bad[] = {"",    "SIG",  "SIGSIGTERM", "TERMX", "0",   "-1",
                                      "65",  "9x",   " 9",         "9 ",    "TER", "SIG9",
                                      "1.0", "NULL", "*",          "ERM"};
    for (size_t i = 0; i < LD_COUNT(good); i++) {
        for (int round = 0; round < 2; round++) { /* the second time it is remembered */
            int signo = -1;
            CHECK(ld_parse_signal(good[i].text, &signo));
            CHECK_INT(good[i].signo, signo);
        }
    }
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        int signo = -1;
        CHECK_STR("", ld_parse_signal(bad[i], &signo) ? bad[i] : "");
        CHECK_INT(-1, signo);
        CHECK(ld_parse_signal("WINCH", &signo) && signo == SIGWINCH);
    }
}

static void test_signal_names_there_and_back(void) {
    for (int signo = 1; signo < 32; signo++) {
        int found = -1;
        const char *name = ld_parse_signal_name(signo);
        REQUIRE(name != NULL);
        CHECK(strncmp(name, "SIG", 3) != 0);
        CHECK(ld_parse_signal(name, &found));
        CHECK_INT(signo, found);
    }
    CHECK_STR("TERM", ld_parse_signal_name(SIGTERM));
    CHECK_STR("RTMIN+0", ld_parse_signal_name(SIGRTMIN));
    CHECK_STR("RTMIN+3", ld_parse_signal_name(SIGRTMIN + 3));
    CHECK(ld_parse_signal_name(0) == NULL);
    CHECK(ld_parse_signal_name(-1) == NULL);
    CHECK(ld_parse_signal_name(SIGRTMAX + 1) == NULL);
    CHECK(ld_parse_signal_name(1000) == NULL);
}

static const struct check_case cases[] = {
    {"seconds", test_seconds},
    {"sizes", test_size},
    {"whole numbers", test_whole},
    {"file mode masks", test_mask},
    {"names of daemons", test_name},
    {"names of resource limits", test_rlimit_name},
    {"values of resource limits", test_rlimit_value},
    {"signals", test_signal},
    {"names of signals there and back", test_signal_names_there_and_back},
};

CHECK_MAIN(cases)
