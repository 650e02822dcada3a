#include "cli/unit_systemd.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "posix/address.h"

#define PRIVILEGED_PORTS 1024 /* those below are root's */

/* Round seconds up. */
static long long up(double seconds) {
    return (long long)ceil(seconds);
}

/* Return the greater of two times. */
static double later(double a, double b) {
    return a > b ? a : b;
}

/* Return the port of an address, or -1. */
static int port_of(const struct ld_address *address) {
    const struct sockaddr *any = (const struct sockaddr *)&address->storage;
    if (any->sa_family == AF_INET) {
        return ntohs(((const struct sockaddr_in *)any)->sin_port);
    }
    return any->sa_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)any)->sin6_port) : -1;
}

/* Whether another user than root cannot be expected to listen on its addresses: then systemd does. */
static bool needs_socket(const struct ld_options *options) {
    bool needs = false;
    for (size_t i = 0; options->user != NULL && i < options->listen_count; i++) {
        struct ld_address address;
        needs = needs || (ld_address_parse(options->listen[i], &address) &&
                          port_of(&address) < PRIVILEGED_PORTS);
    }
    return needs;
}

/* Add a setting whose value must fit there; whether it does. */
static bool add_setting(struct ld_text *text, const char *setting, const char *value,
                        struct ld_text *why) {
    if (!ld_quote_fits_setting(value)) {
        ld_text_puts(why, "\"");
        ld_text_add_escaped(why, value, strlen(value), false);
        ld_text_format(why, "\" cannot be written into a unit of systemd as %s=", setting);
        return false;
    }
    ld_text_format(text, "%s=", setting);
    ld_quote_setting(text, value);
    ld_text_putc(text, '\n');
    return true;
}

/* Add user and group, as settings whose names begin with PREFIX. */
static bool add_user(struct ld_text *text, const struct ld_unit *unit, const char *prefix,
                     struct ld_text *why) {
    const char *user = unit->options->user;
    char name[32];
    if (user == NULL) {
        return true;
    }
    size_t size = strcspn(user, ":");
    struct ld_text alone = {0};
    ld_text_add(&alone, user, size);
    snprintf(name, sizeof name, "%sUser", prefix);
    bool ok = add_setting(text, name, ld_text_string(&alone), why);
    ld_text_fini(&alone);
    snprintf(name, sizeof name, "%sGroup", prefix);
    return ok && (user[size] == '\0' || add_setting(text, name, user + size + 1, why));
}

/* Add the run directory, if it is in /run, which is empty after a boot. */
static void add_run_dir(struct ld_text *text, const struct ld_unit *unit) {
    static const char run[] = "/run/";
    const char *rest = unit->run_dir + sizeof run - 1;
    bool is_in_run = strncmp(unit->run_dir, run, sizeof run - 1) == 0;
    bool is_simple = is_in_run && rest[0] != '\0' && strstr(unit->run_dir, "..") == NULL;
    for (const char *at = rest; is_simple && *at != '\0'; at++) {
        is_simple = isalnum((unsigned char)*at) || strchr("._-/", *at) != NULL;
    }
    if (is_simple) {
        ld_text_format(text, "RuntimeDirectory=%s\n", rest);
    }
    ld_text_puts(text, "RuntimeDirectoryPreserve=yes\n");
}

/* Add a limit, in the form of systemd. */
static void add_limit(struct ld_text *text, rlim_t limit) {
    if (limit == RLIM_INFINITY) {
        ld_text_puts(text, "infinity");
    } else {
        ld_text_format(text, "%llu", (unsigned long long)limit);
    }
}

/* Add letters as capital ones. */
static void add_upper(struct ld_text *text, const char *letters, size_t size) {
    for (size_t i = 0; i < size; i++) {
        bool is_small = letters[i] >= 'a' && letters[i] <= 'z';
        char letter = letters[i];
        if (is_small) {
            letter = (char)(letter - 'a' + 'A');
        }
        ld_text_putc(text, letter);
    }
}

/* Add the limits, which only root could raise later. */
static void add_limits(struct ld_text *text, const struct ld_options *options) {
    for (size_t i = 0; i < options->rlimit_count; i++) {
        ld_text_puts(text, "Limit");
        add_upper(text, options->rlimits[i].text, strcspn(options->rlimits[i].text, "="));
        ld_text_putc(text, '=');
        add_limit(text, options->rlimits[i].limit.rlim_cur);
        ld_text_putc(text, ':');
        add_limit(text, options->rlimits[i].limit.rlim_max);
        ld_text_putc(text, '\n');
    }
}

/* Add a command of the service. systemd takes the program itself as it is, but for "%" and what it splits. */
static void add_exec(struct ld_text *text, const struct ld_unit *unit, const char *setting) {
    const char *quote = strpbrk(unit->program, " ;") != NULL ? "\"" : "";
    ld_text_format(text, "%s=%s", setting, quote);
    ld_quote_setting(text, unit->program);
    ld_text_format(text, "%s ", quote);
}

/* Add the commands. */
static void add_commands(struct ld_text *text, const struct ld_unit *unit) {
    static const char *const handled[] = {"user", "rlimit", "restart", NULL};
    const struct ld_unit_style style = {.verb = "run",
                                        .quote = ld_quote_systemd,
                                        .without = handled,
                                        .more = unit->options->log == NULL ? " --log stderr" : ""};
    add_exec(text, unit, "ExecStart");
    ld_unit_line_start(text, unit, &style);
    ld_text_putc(text, '\n');
    add_exec(text, unit, "ExecReload");
    ld_unit_line_verb(text, unit, "reload", ld_quote_systemd);
    ld_text_putc(text, '\n');
}

/* Add the section about other units. */
static void add_order(struct ld_text *text, const struct ld_unit *unit) {
    const struct ld_options *options = unit->options;
    ld_text_format(text, "[Unit]\nDescription=lunad: %s\nAfter=network.target", unit->name);
    for (size_t i = 0; i < options->after_count; i++) {
        ld_text_format(text, " %s.service", options->after[i]);
    }
    if (needs_socket(options)) {
        ld_text_format(text, " %s.socket\nRequires=%s.socket", unit->name, unit->name);
    }
    ld_text_putc(text, '\n');
}

/* Print the unit of the service. lunad ends by itself in the times of --start-timeout and --stop-timeout, and
 * says why, so systemd waits a little longer. A reload may follow another one. The loop, which feeds the
 * watchdog, may be held by new code, and by functions of a stop, for as long. */
static int print_service(struct ld_text *text, const struct ld_unit *unit, struct ld_text *why) {
    static const char *const restarts[] = {"no", "on-failure", "always"};
    const struct ld_options *options = unit->options;
    int restart = unit->has_restart ? options->restart : LD_RESTART_ON_FAILURE;
    double longest =
        later(later(options->start_timeout, options->stop_timeout), 2 * options->stuck_after);
    ld_text_format(text, "# /etc/systemd/system/%s.service (lunad unit)\n", unit->name);
    add_order(text, unit);
    ld_text_puts(text, "\n[Service]\nType=notify\nNotifyAccess=main\n");
    if (!add_user(text, unit, "", why)) {
        return 1;
    }
    add_run_dir(text, unit);
    add_commands(text, unit);
    ld_text_format(text,
                   "KillMode=mixed\nTimeoutStartSec=%lld\nTimeoutStopSec=%lld\n"
                   "WatchdogSec=%lld\nRestart=%s\n",
                   up(2 * options->start_timeout) + 10, up(options->stop_timeout) + 5,
                   up(longest) + 10, restarts[restart]);
    add_limits(text, options);
    ld_text_format(text, "SyslogIdentifier=%s\n\n[Install]\nWantedBy=multi-user.target\n",
                   unit->name);
    return 0;
}

/* Add one address. */
static bool add_address(struct ld_text *text, const char *given, struct ld_text *why) {
    struct ld_address address;
    char host[INET6_ADDRSTRLEN] = "";
    if (!ld_address_parse(given, &address)) {
        ld_text_format(why, "--listen: %s", given);
        return false;
    }
    const char *path = ld_address_path(&address);
    if (path != NULL) {
        return add_setting(text, "ListenStream", path, why);
    }
    if (port_of(&address) == 0) {
        ld_text_format(why, "--listen: %s: a socket of systemd needs a port that is not 0", given);
        return false;
    }
    const struct sockaddr *any = (const struct sockaddr *)&address.storage;
    bool is_v6 = any->sa_family == AF_INET6;
    const void *number = is_v6 ? (const void *)&((const struct sockaddr_in6 *)any)->sin6_addr
                               : &((const struct sockaddr_in *)any)->sin_addr;
    inet_ntop(any->sa_family, number, host, sizeof host);
    ld_text_format(text, "ListenStream=%s%s%s:%d\n", is_v6 ? "[" : "", host, is_v6 ? "]" : "",
                   port_of(&address));
    return true;
}

/* Print the unit of its sockets: what lunad would make of --listen. */
static int print_socket(struct ld_text *text, const struct ld_unit *unit, struct ld_text *why) {
    const struct ld_options *options = unit->options;
    ld_text_format(text,
                   "# /etc/systemd/system/%s.socket (lunad unit --socket)\n"
                   "[Unit]\nDescription=lunad: sockets of %s\n\n[Socket]\n",
                   unit->name, unit->name);
    for (size_t i = 0; i < options->listen_count; i++) {
        if (!add_address(text, options->listen[i], why)) {
            return 1;
        }
    }
    ld_text_format(text, "FileDescriptorName=%s\nBindIPv6Only=ipv6-only\nSocketMode=0%03o\n",
                   unit->name, 0777U & ~(unsigned)options->umask);
    if (!add_user(text, unit, "Socket", why)) {
        return 1;
    }
    ld_text_puts(text, "\n[Install]\nWantedBy=sockets.target\n");
    return 0;
}

/* Print a unit. */
int ld_unit_systemd_print(struct ld_text *text, const struct ld_unit *unit, struct ld_text *why) {
    if (strpbrk(unit->program, "\"'\\") != NULL || !ld_quote_fits_setting(unit->program)) {
        ld_text_format(why, "%s: systemd starts no program whose path has quotes or backslashes",
                       unit->program);
        return 1;
    }
    return unit->options->socket ? print_socket(text, unit, why) : print_service(text, unit, why);
}
