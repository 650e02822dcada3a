#include "script/slices.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#include "base/time.h"
#include "posix/forked.h"

#define STACK_SIZE  ((size_t)8 << 20)  /* what a process usually has: finalizers run on it */
#define BLOCKS_MOST 32                 /* that are freed between looks at the clock */
#define PIECE       ((size_t)1 << 20)  /* of a large block */
#define LARGE       ((size_t)32 << 10) /* a block from here on: what allocates may keep its memory */

struct ld_slices {
    void (*function)(void *arg);
    void *arg;
    ucontext_t inside;
    ucontext_t outside;
    char *stack;
    uint64_t until;
    unsigned blocks; /* freed since the last look */
    void *fakes[2];  /* for the sanitizer: of the inside and the outside */
    const void *outer_stack;
    size_t outer_size;
    bool is_over;
};

static struct ld_slices *entered; /* makecontext passes numbers only */

/* Tell the sanitizer that the other stack is about to be left, for good if IS_END, or entered; and that it has
 * been. */
#if defined(__SANITIZE_ADDRESS__)
static void announce_outside(struct ld_slices *slices, bool is_end) {
    __sanitizer_start_switch_fiber(is_end ? NULL : &slices->fakes[0], slices->outer_stack,
                                   slices->outer_size);
}

static void announce_inside(struct ld_slices *slices) {
    __sanitizer_start_switch_fiber(&slices->fakes[1], slices->stack, STACK_SIZE);
}

static void note_inside(struct ld_slices *slices) {
    __sanitizer_finish_switch_fiber(slices->fakes[0], &slices->outer_stack, &slices->outer_size);
}

static void note_outside(struct ld_slices *slices) {
    __sanitizer_finish_switch_fiber(slices->fakes[1], NULL, NULL);
}
#else
#define announce_outside(slices, is_end) ((void)(slices))
#define announce_inside(slices)          ((void)(slices))
#define note_inside(slices)              ((void)(slices))
#define note_outside(slices)             ((void)(slices))
#endif

/* Leave a stack for the other, until that one is left. (The sanitizer would warn of swapcontext, whatever it is told.) */
static void change(ucontext_t *left, const ucontext_t *to) {
    volatile bool is_back = false;
    getcontext(left); /* which cannot fail, but for a bad address */
    if (!is_back) {
        is_back = true;
        setcontext(to);
    }
}

/* Call the function. Runs on the other stack. */
static void call(void) {
    struct ld_slices *slices = entered;
    note_inside(slices);
    slices->function(slices->arg);
    slices->is_over = true;
    announce_outside(slices, true);
}

/* Make the other stack, below which nothing can be written. */
static bool make_stack(struct ld_slices *slices) {
    char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        return false;
    }
    if (mprotect(stack, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE) < 0) {
        munmap(stack, STACK_SIZE);
        return false;
    }
    slices->stack = stack;
    return true;
}

/* Have the other stack begin with the call. */
static void prepare(struct ld_slices *slices) {
    ucontext_t *inside = &slices->inside;
    getcontext(inside);
    inside->uc_stack.ss_sp = slices->stack;
    inside->uc_stack.ss_size = STACK_SIZE;
    inside->uc_link = &slices->outside;
    makecontext(inside, call, 0);
}

/* Make slices. */
struct ld_slices *ld_slices_new(void (*function)(void *arg), void *arg) {
    struct ld_slices *slices = calloc(1, sizeof *slices);
    if (slices == NULL || !make_stack(slices)) {
        free(slices);
        return NULL;
    }
    slices->function = function;
    slices->arg = arg;
    prepare(slices);
    return slices;
}

/* Run a slice. */
bool ld_slices_run(struct ld_slices *slices, uint64_t until) {
    slices->until = until;
    slices->blocks = 0;
    entered = slices;
    announce_inside(slices);
    change(&slices->outside, &slices->inside);
    note_outside(slices);
    if (!slices->is_over) {
        return false;
    }
    munmap(slices->stack, STACK_SIZE);
    free(slices);
    return true;
}

/* End the slice if its time is over. A copy of the process that a finalizer has made never does. */
void ld_slices_look(struct ld_slices *slices) {
    slices->blocks = 0;
    if (ld_time_monotonic() >= slices->until && !ld_forked_is_copy()) {
        announce_outside(slices, false);
        change(&slices->inside, &slices->outside);
        note_inside(slices);
    }
}

/* Give the memory of a large block back to the kernel piece by piece: that of an array of a gigabyte takes 100 ms
 * at once. Its first page and its last stay, which what allocates may use for notes of its own. */
static void give_back(struct ld_slices *slices, char *block, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *at = block + page - (uintptr_t)block % page;
    for (size_t left = size - 2 * page; left > 0;) {
        size_t piece = left < PIECE ? left : PIECE;
        madvise(at, piece, MADV_DONTNEED);
        at += piece;
        left -= piece;
        ld_slices_look(slices);
    }
}

/* Pause, now and then. */
void ld_slices_pause(struct ld_slices *slices, void *block, size_t size) {
    if (size > LARGE) {
        give_back(slices, block, size - size % (size_t)sysconf(_SC_PAGESIZE));
    } else if (++slices->blocks >= BLOCKS_MOST) {
        ld_slices_look(slices);
    }
}
