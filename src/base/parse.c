#include "base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/base.h"

#define LONGEST_SECONDS (10.0 * 366 * 86400)

static const struct {
    const char *name;
    int resource;
} rlimits[] = {
    {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},
    {"cpu", RLIMIT_CPU},         {"data", RLIMIT_DATA},
    {"fsize", RLIMIT_FSIZE},     {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE},
    {"nice", RLIMIT_NICE},       {"nofile", RLIMIT_NOFILE},
    {"nproc", RLIMIT_NPROC},     {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},
    {"stack", RLIMIT_STACK},     {"sigpending", RLIMIT_SIGPENDING},
};

/* Parse seconds: digits with at most one point. */
bool ld_parse_seconds(const char *text, double *seconds) {
    size_t whole = strspn(text, "0123456789");
    size_t fraction = text[whole] == '.' ? 1 + strspn(text + whole + 1, "0123456789") : 0;
    if (text[whole + fraction] != '\0' || whole + fraction == 0 || whole + fraction > 32 ||
        (whole == 0 && fraction == 1)) {
        return false;
    }
    double value = strtod(text, NULL);
    if (value > LONGEST_SECONDS) {
        return false;
    }
    *seconds = value;
    return true;
}

/* Parse how long ago something was, in seconds. */
static bool parse_ago(const char *text, double *seconds) {
    static const struct {
        char letter;
        double seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    char number[40];
    size_t size = strlen(text);
    double unit = 1;
    for (size_t i = 0; i < LD_COUNT(units) && size > 0; i++) {
        if (text[size - 1] == units[i].letter) {
            unit = units[i].seconds;
            size--;
            break;
        }
    }
    if (size >= sizeof number) {
        return false;
    }
    memcpy(number, text, size);
    number[size] = '\0';
    if (!ld_parse_seconds(number, seconds)) {
        return false;
    }
    *seconds *= unit;
    return *seconds <= LONGEST_SECONDS;
}

/* Whether TEXT begins with a whole FORM, in which 0 stands for a digit and T also for a blank. */
static bool has_form(const char *text, const char *form) {
    for (; *form != '\0'; form++, text++) {
        bool fits = *form == '0'   ? isdigit((unsigned char)*text) != 0
                    : *form == 'T' ? *text == 'T' || *text == ' '
                                   : *text == *form;
        if (!fits) {
            return false;
        }
    }
    return true;
}

/* Parse a date, and a time of which less and less is given. */
static bool parse_date(const char *text, int64_t *moment) {
    static const char *const forms[] = {"0000-00-00T00:00:00.000", "0000-00-00T00:00:00",
                                        "0000-00-00T00:00", "0000-00-00"};
    size_t form = 0;
    while (form < LD_COUNT(forms) && !has_form(text, forms[form])) {
        form++;
    }
    size_t size = form < LD_COUNT(forms) ? strlen(forms[form]) : 0;
    if (size == 0 || strcmp(text + size + (text[size] == 'Z' && size > 10), "") != 0) {
        return false;
    }
    struct tm utc = {
        .tm_year = atoi(text) - 1900, .tm_mon = atoi(text + 5) - 1, .tm_mday = atoi(text + 8)};
    utc.tm_hour = size > 10 ? atoi(text + 11) : 0;
    utc.tm_min = size > 10 ? atoi(text + 14) : 0;
    utc.tm_sec = size > 16 ? atoi(text + 17) : 0;
    struct tm same = utc;
    time_t seconds = timegm(&same); /* changes what is not a date or a time */
    if (seconds <= 0 || seconds > INT64_MAX / 1000000000 || same.tm_mon != utc.tm_mon ||
        same.tm_mday != utc.tm_mday || same.tm_hour != utc.tm_hour || same.tm_min != utc.tm_min ||
        same.tm_sec != utc.tm_sec) {
        return false;
    }
    *moment = (int64_t)seconds * 1000000000 + (size > 19 ? atoi(text + 20) * 1000000 : 0);
    return true;
}

/* Parse a moment. */
bool ld_parse_moment(const char *text, int64_t now, int64_t *moment) {
    double ago;
    if (!parse_ago(text, &ago)) {
        return parse_date(text, moment);
    }
    int64_t then = now - (int64_t)(ago * 1e9);
    *moment = then > 0 ? then : 1;
    return true;
}

/* Parse a size. */
bool ld_parse_size(const char *text, uint64_t *size) {
    if (!isdigit((unsigned char)text[0])) {
        return false;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    int shift = 0;
    switch (*end) {
    case 'K':
    case 'k':
        shift = 10;
        break;
    case 'M':
    case 'm':
        shift = 20;
        break;
    case 'G':
    case 'g':
        shift = 30;
        break;
    default:
        break;
    }
    end += shift > 0;
    if (*end != '\0' || value > UINT64_MAX >> shift) {
        return false;
    }
    *size = (uint64_t)value << shift;
    return true;
}

/* Parse a whole number. */
bool ld_parse_whole(const char *text, long min, long max, long *number) {
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || isspace((unsigned char)text[0]) ||
        value < min || value > max) {
        return false;
    }
    *number = value;
    return true;
}

/* Parse an octal mask. */
bool ld_parse_mask(const char *text, mode_t *mask) {
    size_t digits = strspn(text, "01234567");
    if (digits == 0 || text[digits] != '\0' || digits > 5) {
        return false;
    }
    unsigned long value = strtoul(text, NULL, 8);
    if (value > 0777) {
        return false;
    }
    *mask = (mode_t)value;
    return true;
}

/* Check a daemon's name. */
bool ld_parse_is_name(const char *text) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = strlen(text);
    return length >= 1 && length <= LD_NAME_MAX && text[0] != '.' && text[0] != '-' &&
           strspn(text, allowed) == length;
}

/* Parse the name of a resource limit. */
bool ld_parse_rlimit_name(const char *text, size_t size, int *resource) {
    for (size_t i = 0; i < LD_COUNT(rlimits); i++) {
        if (strlen(rlimits[i].name) == size && strncasecmp(text, rlimits[i].name, size) == 0) {
            *resource = rlimits[i].resource;
            return true;
        }
    }
    return false;
}

/* Parse one side of a limit. */
static bool parse_limit(const char *text, rlim_t *limit) {
    uint64_t value;
    if (strcmp(text, "unlimited") == 0 || strcmp(text, "infinity") == 0) {
        *limit = RLIM_INFINITY;
        return true;
    }
    if (!ld_parse_size(text, &value)) {
        return false;
    }
    *limit = (rlim_t)value;
    return true;
}

/* Parse "SOFT[:HARD]". */
bool ld_parse_rlimit_value(const char *text, struct rlimit *limit) {
    char soft[32];
    struct rlimit parsed;
    size_t length = strcspn(text, ":");
    if (length >= sizeof soft) {
        return false;
    }
    memcpy(soft, text, length);
    soft[length] = '\0';
    if (!parse_limit(soft, &parsed.rlim_cur) ||
        !parse_limit(text[length] == ':' ? text + length + 1 : soft, &parsed.rlim_max) ||
        parsed.rlim_cur > parsed.rlim_max) {
        return false;
    }
    *limit = parsed;
    return true;
}

/* Parse "RTMIN+N" or "RTMAX-N". */
static bool parse_realtime(const char *name, int *signo) {
    bool from_top = strncasecmp(name, "RTMAX", 5) == 0;
    long offset = 0;
    if (!from_top && strncasecmp(name, "RTMIN", 5) != 0) {
        return false;
    }
    bool has_offset = name[5] == (from_top ? '-' : '+') && isdigit((unsigned char)name[6]);
    if (name[5] != '\0' &&
        !(has_offset && ld_parse_whole(name + 6, 0, SIGRTMAX - SIGRTMIN, &offset))) {
        return false;
    }
    *signo = from_top ? SIGRTMAX - (int)offset : SIGRTMIN + (int)offset;
    return true;
}

/* Parse the second name that some signals have. */
static bool parse_alias(const char *name, int *signo) {
    static const struct {
        const char *name;
        int signo;
    } aliases[] = {{"IO", SIGIO}, {"CLD", SIGCHLD}, {"IOT", SIGABRT}};
    for (size_t i = 0; i < LD_COUNT(aliases); i++) {
        if (strcasecmp(name, aliases[i].name) == 0) {
            *signo = aliases[i].signo;
            return true;
        }
    }
    return false;
}

/* Whether NAME is that of a signal, in any case. */
static bool is_name_of(const char *name, int signo) {
    const char *known = sigabbrev_np(signo);
    return known != NULL && (*name | ' ') == (*known | ' ') && strcasecmp(name, known) == 0;
}

/* Parse a signal's name or number, by comparing it with all. */
static bool find_signal(const char *text, int *signo) {
    long number;
    if (ld_parse_whole(text, 1, SIGRTMAX, &number)) {
        *signo = (int)number;
        return true;
    }
    const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
    if (parse_alias(name, signo) || parse_realtime(name, signo)) {
        return true;
    }
    for (int candidate = 1; candidate < NSIG; candidate++) {
        if (is_name_of(name, candidate)) {
            *signo = candidate;
            return true;
        }
    }
    return false;
}

/* Parse a signal's name or number. Who sends signals often sends the same one. */
bool ld_parse_signal(const char *text, int *signo) {
    static char last_text[16];
    static int last_signo;
    size_t size = strnlen(text, sizeof last_text) + 1;
    if (last_signo > 0 && size <= sizeof last_text && memcmp(text, last_text, size) == 0) {
        *signo = last_signo;
        return true;
    }
    if (!find_signal(text, signo)) {
        return false;
    }
    if (size <= sizeof last_text) {
        memcpy(last_text, text, size);
        last_signo = *signo;
    }
    return true;
}

/* The name of a signal. The C library calls SIGIO by its other name, which Linux's manual and shells do
 * not use first. */
const char *ld_parse_signal_name(int signo) {
    static char realtime[16];
    const char *known = signo == SIGIO ? "IO" : sigabbrev_np(signo);
    if (known == NULL && signo >= SIGRTMIN && signo <= SIGRTMAX) {
        snprintf(realtime, sizeof realtime, "RTMIN+%d", signo - SIGRTMIN);
        return realtime;
    }
    return known;
}
