/* The unwinder is the compiler's own (libgcc), linked into the program: backtrace() of the C library
 * would load it from a file, which takes a fifth of the time of a start. */
#include "engine/c_stack.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#define FRAMES_MAX 200 /* of the handler, and after it */

/* A walk up the stack. */
struct walk {
    struct ld_writer *writer;
    const char *indent;
    uintptr_t start; /* the instruction that was interrupted */
    int most;
    int shown;
    int seen;
    bool has_begun;
    uintptr_t last; /* shown */
    int repeats;    /* of it, not shown */
};

/* The instruction that was interrupted. */
uintptr_t ld_c_stack_instruction(const void *context) {
#if defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

/* The stack pointer there. */
uintptr_t ld_c_stack_pointer(const void *context) {
#if defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.sp;
#else
    (void)context;
    return 0;
#endif
}

/* The address to return to, of a function that has just been called; 0: not known. */
static uintptr_t caller_of(const void *context) {
#if defined(__x86_64__)
    return *(const uintptr_t *)ld_c_stack_pointer(context);
#elif defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.regs[30];
#else
    (void)context;
    return 0;
#endif
}

/* Whether an address is in the program or a library. */
static bool is_code(uintptr_t address) {
    Dl_info info;
    return dladdr((const void *)address, &info) != 0; // NOLINT(performance-no-int-to-ptr)
}

/* Add the path of the file that an address is in. The dynamic linker calls the program what it was called
 * by, and its title has taken the place of that. */
static void add_file(struct ld_writer *writer, const Dl_info *info) {
    char path[PATH_MAX];
    Dl_info own;
    const char *name = info->dli_fname;
    size_t size = strlen(name);
    if (dladdr((const void *)(uintptr_t)add_file, &own) != 0 && own.dli_fbase == info->dli_fbase) {
        ssize_t length = readlink("/proc/self/exe", path, sizeof path);
        name = length > 0 ? path : name;
        size = length > 0 ? (size_t)length : size;
    }
    ld_writer_escaped(writer, name, size);
}

/* Add an address. */
void ld_c_stack_write_address(struct ld_writer *writer, uintptr_t address) {
    Dl_info info;
    ld_writer_hex(writer, address);
    if (dladdr((const void *)address, &info) == 0) { // NOLINT(performance-no-int-to-ptr)
        return;
    }
    if (info.dli_sname != NULL) {
        ld_writer_puts(writer, " ");
        ld_writer_escaped(writer, info.dli_sname, strlen(info.dli_sname));
        ld_writer_puts(writer, "+");
        ld_writer_hex(writer, address - (uintptr_t)info.dli_saddr);
    }
    if (info.dli_fname != NULL) {
        ld_writer_puts(writer, " (");
        add_file(writer, &info);
        ld_writer_puts(writer, "+");
        ld_writer_hex(writer, address - (uintptr_t)info.dli_fbase);
        ld_writer_puts(writer, ")");
    }
}

/* Add the line of one call. */
static void show(struct walk *walk, uintptr_t address) {
    ld_writer_puts(walk->writer, walk->indent);
    ld_writer_puts(walk->writer, "#");
    ld_writer_decimal(walk->writer, walk->shown++, 1);
    ld_writer_puts(walk->writer, " ");
    ld_c_stack_write_address(walk->writer, address);
    ld_writer_puts(walk->writer, "\n");
    ld_writer_flush(walk->writer); /* the next step may fault */
}

/* Say how often the last call was made by itself. */
static void show_repeats(struct walk *walk) {
    if (walk->repeats > 0) {
        ld_writer_puts(walk->writer, walk->indent);
        ld_writer_puts(walk->writer, "... the same ");
        ld_writer_decimal(walk->writer, walk->repeats, 1);
        ld_writer_puts(walk->writer, " times more\n");
        walk->repeats = 0;
    }
}

/* Show a frame, if it is not one of the handler. */
static _Unwind_Reason_Code on_frame(struct _Unwind_Context *frame, void *arg) {
    struct walk *walk = arg;
    uintptr_t address = _Unwind_GetIP(frame);
    walk->has_begun = walk->has_begun || address == walk->start;
    if (walk->has_begun && address == walk->last) {
        walk->repeats++;
    } else if (walk->has_begun && address != 0) {
        show_repeats(walk);
        show(walk, address);
        walk->last = address;
    }
    return walk->shown < walk->most && ++walk->seen < FRAMES_MAX ? _URC_NO_REASON
                                                                 : _URC_NORMAL_STOP;
}

/* Add the calls. From a jump to nowhere the unwinder knows no way back, so show who has called. */
void ld_c_stack_write(struct ld_writer *writer, const void *context, int most, const char *indent) {
    struct walk walk = {
        .writer = writer, .indent = indent, .start = ld_c_stack_instruction(context), .most = most};
    if (walk.start != 0 && !is_code(walk.start)) {
        show(&walk, walk.start);
    }
    if (!is_code(walk.start) && caller_of(context) != 0) {
        show(&walk, caller_of(context));
        return;
    }
    _Unwind_Backtrace(on_frame, &walk);
    show_repeats(&walk);
    if (walk.shown == 0 && walk.start != 0) {
        show(&walk, walk.start);
    } else if (walk.shown == most || walk.seen == FRAMES_MAX) {
        ld_writer_puts(writer, indent);
        ld_writer_puts(writer, "...\n");
    }
}
