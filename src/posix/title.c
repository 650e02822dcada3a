#include "posix/title.h"

#include <linux/prctl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/file.h"

#define MOVED_SIZE 128

static struct {
    char *start;
    size_t size;
    char *moved; /* where the title is if argv has no room for it */
} title;

/* Find out how much memory argv has. The environment after it is left alone: /proc/PID/environ is
 * how a process that was spawned with `detach` is known. */
void ld_title_init(int argc, char **argv) {
    char *end = argc > 0 ? argv[0] : NULL;
    for (int i = 0; i < argc && argv[i] == end; i++) {
        end = argv[i] + strlen(argv[i]) + 1;
    }
    if (argc > 0) {
        title.start = argv[0];
        title.size = (size_t)(end - argv[0]);
    }
}

/* Read the memory map that the kernel keeps of this process; false if it cannot be read. */
static bool read_map(struct prctl_mm_map *map) {
    struct ld_text stat = {0};
    unsigned long long at[52] = {0}; /* by the numbers of proc(5) */
    if (ld_file_load("/proc/self/stat", &stat) < 0) {
        ld_text_fini(&stat);
        return false;
    }
    const char *rest = strrchr(ld_text_string(&stat), ')');
    int field = 3; /* the state; it has no digits */
    for (rest = rest != NULL ? strchr(rest + 2, ' ') : NULL; rest != NULL && ++field < 52;
         rest = strchr(rest + 1, ' ')) {
        at[field] = strtoull(rest, NULL, 10);
    }
    ld_text_fini(&stat);
    *map = (struct prctl_mm_map){.start_code = at[26],
                                 .end_code = at[27],
                                 .start_stack = at[28],
                                 .start_data = at[45],
                                 .end_data = at[46],
                                 .start_brk = at[47],
                                 .brk = (uintptr_t)sbrk(0),
                                 .env_start = at[50],
                                 .env_end = at[51],
                                 .exe_fd = (__u32)-1};
    return field == 52;
}

/* Get memory for the title. It must be anonymous: the kernel shows nothing that a file backs, and the
 * variables of a program can be in such memory; the linker decides that. */
static bool get_memory(void) {
    if (title.moved == NULL) {
        void *memory =
            mmap(NULL, MOVED_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        title.moved = memory != MAP_FAILED ? memory : NULL;
    }
    return title.moved != NULL;
}

/* Have the kernel read the title from memory of ours; false if it refuses. */
static bool move(void) {
    struct prctl_mm_map map;
    if (title.start == title.moved && title.moved != NULL) {
        return true;
    }
    if (!get_memory() || !read_map(&map)) {
        return false;
    }
    map.arg_start = (uintptr_t)title.moved;
    map.arg_end = map.arg_start + MOVED_SIZE;
    if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) < 0) {
        return false;
    }
    title.start = title.moved;
    title.size = MOVED_SIZE;
    return true;
}

/* Show a title. */
void ld_title_set(const char *text) {
    prctl(PR_SET_NAME, text, 0, 0, 0);
    if (strlen(text) >= title.size) {
        move(); /* or else it is cut */
    }
    if (title.size > 0) {
        memset(title.start, 0, title.size);
        snprintf(title.start, title.size, "%s", text);
    }
}
