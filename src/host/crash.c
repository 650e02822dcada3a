/* The report of a crash: what ended the host, the last lines of the log, the C stack and the Lua stack.
 * All of this runs in the handler of the signal: nothing here may allocate or lock. */
#include <limits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/log_ring.h"
#include "base/parse.h"
#include "base/time.h"
#include "base/version.h"
#include "base/writer.h"
#include "daemon/crash_file.h"
#include "daemon/record.h"
#include "engine/c_stack.h"
#include "engine/crash.h"
#include "host/internal.h"
#include "posix/pidfile.h"
#include "script/trace.h"

#define PART_SIZE   16384 /* of the buffer; the log gets a part at once, a file a piece */
#define FRAMES_MAX  64    /* of the C stack */
#define CALLS_MAX   40    /* of a coroutine */
#define SHORT_MAX   10    /* of either, on a terminal */
#define NEAR_BYTES  65536 /* to the stack pointer: how far a fault is when the stack overflows */
#define BELOW_BYTES 4096

/* Where a report goes. */
enum target { TO_KEEPER, TO_FILE, TO_LOG };

static struct {
    struct ld_host *host;
    char how[32];  /* "killed by SIGSEGV" */
    bool is_short; /* for a terminal */
    enum target target;
    int fd; /* of the file */
    size_t written;
    struct ld_writer writer;
    char buffer[PART_SIZE];
    bool has_stack;          /* of Lua */
    int coroutine;           /* of it, that is being written */
    char source[LUA_IDSIZE]; /* where Lua code was; "": none ran */
    int line;
} report;

/* The codes of faults. */
static const struct {
    int signo;
    int code;
    const char *words;
} codes[] = {
    {SIGSEGV, SEGV_MAPERR, "no memory is mapped"},
    {SIGSEGV, SEGV_ACCERR, "the memory may not be used so"},
    {SIGSEGV, SI_KERNEL, "no address that a process can use"},
    {SIGBUS, BUS_ADRALN, "a misaligned address"},
    {SIGBUS, BUS_ADRERR, "no memory behind the address, as in a file that was truncated"},
    {SIGBUS, BUS_OBJERR, "the hardware failed"},
    {SIGILL, ILL_ILLOPN, "an illegal operand"},
    {SIGILL, ILL_ILLOPC, "an illegal instruction"},
    {SIGFPE, FPE_INTDIV, "an integer was divided by 0"},
    {SIGFPE, FPE_INTOVF, "an integer overflow"},
    {SIGFPE, FPE_FLTDIV, "a float was divided by 0"},
    {SIGFPE, FPE_FLTINV, "an invalid operation with floats"},
};

/* Add a string. */
static void put(const char *string) {
    ld_writer_puts(&report.writer, string);
}

/* Add a string that may have bytes of any kind. */
static void put_foreign(const char *string) {
    ld_writer_escaped(&report.writer, string, strlen(string));
}

/* Add a number. */
static void put_number(long long number) {
    ld_writer_decimal(&report.writer, number, 1);
}

/* Write bytes to the file, or leave them to the keeper; what exceeds the size of a report is dropped. */
static void drain(void *arg, const char *bytes, size_t size) {
    size_t room = LD_CRASH_FILE_MAX - report.written;
    (void)arg;
    size = size < room ? size : room;
    report.written += size;
    if (report.target == TO_KEEPER) {
        ld_crash_file_leave(report.host->service, bytes, size);
    }
    while (report.target == TO_FILE && size > 0) {
        ssize_t written = write(report.fd, bytes, size);
        if (written <= 0) { /* the disk is full: the rest goes to the log */
            report.target = TO_LOG;
            report.writer.drain = NULL;
            ld_log_from_handler(LD_LOG_ERROR, bytes, size);
            break;
        }
        bytes += written;
        size -= (size_t)written;
    }
}

/* End a part: the log gets it as one message. */
static void end_part(void) {
    if (report.target == TO_LOG && report.writer.size > 0) {
        ld_log_from_handler(LD_LOG_ERROR, report.buffer, report.writer.size);
        report.writer.size = 0;
    }
    ld_writer_flush(&report.writer);
}

/* Choose where the report goes, and make the file. */
static void open_target(void) {
    const struct ld_service *service = report.host->service;
    report.target = TO_LOG;
    if (service->keeper >= 0 && service->crash_page != NULL) {
        report.target = TO_KEEPER;
    } else if (service->run_fd >= 0 && service->crash_path != NULL) {
        report.fd = ld_crash_file_make(AT_FDCWD, service->crash_path);
        if (report.fd == -EMFILE) {
            close(STDIN_FILENO); /* this process does not need it any longer */
            report.fd = ld_crash_file_make(AT_FDCWD, service->crash_path);
        }
        report.target = report.fd >= 0 ? TO_FILE : TO_LOG;
    }
    report.writer.drain = report.target == TO_LOG ? NULL : drain;
}

/* Add what the signal says of a fault. */
static void put_fault(const struct ld_crash *crash) {
    const siginfo_t *info = crash->info;
    uintptr_t address = (uintptr_t)info->si_addr;
    uintptr_t stack = ld_c_stack_pointer(crash->context);
    for (size_t i = 0; i < LD_COUNT(codes); i++) {
        if (codes[i].signo == crash->signo && codes[i].code == info->si_code) {
            put(": ");
            put(codes[i].words);
        }
    }
    put(" (code ");
    put_number(info->si_code);
    put("), at ");
    ld_writer_hex(&report.writer, address);
    if (crash->signo == SIGSEGV && info->si_code != SI_KERNEL && address + NEAR_BYTES > stack &&
        address < stack + BELOW_BYTES) {
        put("\n           that is beside the stack pointer: the C stack has probably overflowed");
    }
}

/* Add the signal, and where it came from. */
static void put_signal(const struct ld_crash *crash) {
    const siginfo_t *info = crash->info;
    put("signal:    SIG");
    put(ld_parse_signal_name(crash->signo));
    put(" (");
    put_number(crash->signo);
    put(")");
    if (info->si_code > 0) {
        put_fault(crash);
    } else if (info->si_pid == getpid()) {
        put(", raised by the process itself");
    } else {
        put(", sent by pid ");
        put_number(info->si_pid);
        put(" of user ");
        put_number(info->si_uid);
    }
    put("\n");
    const struct ld_bug *bug = ld_base_bug();
    if (bug != NULL) {
        put("bug:       ");
        put(bug->file);
        put(":");
        put_number(bug->line);
        put(": ");
        put(bug->condition);
        put("\n");
    }
    if (!crash->is_main) {
        put("thread:    ");
        put_number(crash->thread);
        put(", not the main one, which runs the script\n");
    }
}

/* Add which code ran, and since when. */
static void put_service(const struct ld_crash *crash) {
    const struct ld_host *host = report.host;
    const struct ld_service *service = host->service;
    uint64_t uptime = ld_time_monotonic() - host->started;
    put("daemon:    ");
    put(service->name);
    put(", pid ");
    put_number(getpid());
    put("\ntime:      ");
    ld_writer_time(&report.writer, ld_time_real());
    put("\nuptime:    ");
    put_number((long long)(uptime / LD_TIME_SECOND));
    put(".");
    ld_writer_decimal(&report.writer, (long long)(uptime % LD_TIME_SECOND / 1000000), 3);
    put(" s\ncode:      generation ");
    put_number(host->script != NULL ? host->script->generation : 0);
    put(host->reload.next != NULL ? ", and the next one was being loaded\nscript:    "
                                  : "\nscript:    ");
    put_foreign(service->script != NULL ? service->script : service->text_title + 1);
    put("\nversion:   lunad ");
    put(ld_version_text);
    put(", " LUA_RELEASE ", libuv ");
    put(uv_version_string());
    put("\nat:        ");
    ld_c_stack_write_address(&report.writer, ld_c_stack_instruction(crash->context));
    put("\n");
}

/* Add whether there will be a core. */
static void put_core(void) {
    struct rlimit limit;
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0) {
        put("core:      none, because the process has given up rights (--user)\n");
    } else if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        put("core:      ");
        put(limit.rlim_cur == 0
                ? "none, because the limit of its size is 0 (ulimit -c, --rlimit core=)\n"
                : "as /proc/sys/kernel/core_pattern says\n");
    }
}

/* Write what happened, and to what. */
static void write_head(const struct ld_crash *crash, void *arg) {
    (void)arg;
    memcpy(report.how, "killed by SIG", sizeof "killed by SIG");
    strncat(report.how, ld_parse_signal_name(crash->signo),
            sizeof report.how - strlen(report.how) - 1);
    open_target();
    put(report.target == TO_LOG ? "crash of " : "Crash of ");
    put(report.host->service->name);
    put("\n\n");
    put_signal(crash);
    if (!report.is_short) {
        put_service(crash);
        put_core();
    }
    end_part();
}

/* Whether the report has its own file. */
static bool has_file(void) {
    return report.target == TO_FILE;
}

/* Note the death in the record, unless a keeper does that. */
static void note_death(const struct ld_crash *crash, void *arg) {
    const struct ld_service *service = report.host->service;
    (void)crash;
    (void)arg;
    if (service->run_fd >= 0 && service->record != NULL &&
        ld_pidfile_is_current(&service->pidfile)) {
        ld_record_note_own_death(service->run_fd, service->name, report.how,
                                 has_file() ? service->crash_path : NULL);
    }
}

/* Write the last lines of the log, if the report is not written there. */
static void write_log(const struct ld_crash *crash, void *arg) {
    (void)crash;
    (void)arg;
    if (report.target != TO_LOG) {
        put("\nThe last lines of the log:\n\n");
        ld_log_ring_write(&report.writer);
    }
    end_part();
}

/* Write the C stack. */
static void write_c_stack(const struct ld_crash *crash, void *arg) {
    (void)arg;
    put(report.target == TO_LOG ? "" : "\n");
    put("The C stack, the last call first:\n\n");
    ld_c_stack_write(&report.writer, crash->context, report.is_short ? SHORT_MAX : FRAMES_MAX,
                     "  ");
    end_part();
}

/* Write one call of the Lua stack. */
static void put_call(void *arg, const struct ld_trace_call *call) {
    (void)arg;
    if (call->coroutine != report.coroutine) {
        report.coroutine = call->coroutine;
        put("  in a coroutine that was resumed by\n");
    }
    if (call->skipped != 0) {
        put("  ... ");
        put(call->skipped < 0 ? "more than " : "");
        put_number(call->skipped < 0 ? -call->skipped : call->skipped);
        put(" more\n");
    }
    if (report.line == 0 && call->line > 0) {
        strncpy(report.source, call->source, sizeof report.source - 1);
        report.line = call->line;
    }
    put("  ");
    put_foreign(call->source);
    if (call->line > 0) {
        put(":");
        put_number(call->line);
    }
    if (call->name != NULL) {
        put(": in function '");
        put_foreign(call->name);
        put("'");
    } else if (call->is_main) {
        put(": in the main chunk");
    }
    put("\n");
    ld_writer_flush(&report.writer); /* the next step may fault */
}

/* Write the Lua stack of one generation, if any of its code runs. */
static void put_script(const struct ld_script *script) {
    if (script == NULL || !ld_trace_runs(script)) {
        return;
    }
    report.has_stack = true;
    report.coroutine = 0;
    put("The Lua stack of generation ");
    put_number(script->generation);
    put(", the last call first:\n\n");
    ld_trace_walk(script, report.is_short ? SHORT_MAX : CALLS_MAX, put_call, NULL);
}

/* Write the Lua stack of every generation that runs code. */
static void write_lua_stack(const struct ld_crash *crash, void *arg) {
    const struct ld_host *host = report.host;
    (void)arg;
    put(report.target == TO_LOG ? "" : "\n");
    if (!ld_crash_stop_main(crash)) {
        put("The Lua stack is not known: the main thread runs.\n");
        end_part();
        return;
    }
    if (!crash->is_main) {
        put("This is the Lua stack of the main thread, where the crash was not.\n");
    }
    put_script(host->script);
    put_script(host->reload.next);
    for (const struct ld_retired *at = host->retired; at != NULL; at = at->next) {
        put_script(at->script);
    }
    if (!report.has_stack) {
        put("No Lua code was running.\n");
    }
    end_part();
}

/* Say why a part was left. */
static void leave_part(const struct ld_crash *crash, void *arg) {
    (void)arg;
    put(crash->is_late ? "  (the rest took too long)\n" : "  (the rest cannot be read)\n");
    end_part();
}

/* Say where the report is: in the log, unless the keeper does that, and to a person who waits. */
static void finish(const struct ld_crash *crash, void *arg) {
    const struct ld_service *service = report.host->service;
    (void)arg;
    report.writer = (struct ld_writer){.buffer = report.buffer, .capacity = sizeof report.buffer};
    put(service->name);
    put(" (pid ");
    put_number(getpid());
    put(") was ");
    put(report.how);
    if (report.line > 0 && crash->is_main) {
        put(" in ");
        put_foreign(report.source);
        put(":");
        put_number(report.line);
    }
    if (has_file()) {
        put(", report in ");
        put_foreign(service->crash_path);
    }
    if (report.target != TO_KEEPER) {
        ld_log_from_handler(LD_LOG_ERROR, report.buffer, report.writer.size);
    }
    if (!service->daemon && service->sink != LD_LOG_STDERR && report.target != TO_KEEPER) {
        put("\n");
        if (write(STDERR_FILENO, "lunad: ", 7) < 0 ||
            write(STDERR_FILENO, report.buffer, report.writer.size) < 0) {
            /* Nobody reads it. */
        }
    }
}

/* Report crashes of the host. */
void ld_host_crash_open(struct ld_host *host) {
    static ld_crash_part *const parts[] = {write_head,    note_death,      write_log,
                                           write_c_stack, write_lua_stack, NULL};
    static const struct ld_crash_config config = {
        .parts = parts, .left = leave_part, .finish = finish};
    report.host = host;
    report.is_short = !host->service->daemon && host->service->sink == LD_LOG_STDERR &&
                      isatty(STDERR_FILENO) != 0;
    report.writer = (struct ld_writer){.buffer = report.buffer, .capacity = sizeof report.buffer};
    int rc = ld_crash_open(&config);
    if (rc < 0) {
        ld_log(LD_LOG_WARN, "crashes cannot be reported: %s", strerror(-rc));
    }
}

/* Stop reporting them. */
void ld_host_crash_close(void) {
    ld_crash_close();
}
