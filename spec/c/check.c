#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

static int failures;
static bool skipped;

/* How many checks have failed. */
int check_failures(void) {
    return failures;
}

/* Say that a case cannot be run. */
void check_skip(const char *why) {
    printf("    skipped: %s\n", why);
    skipped = true;
}

/* Print where a check failed and count it; the caller prints the reason. */
static void fail(const char *file, int line) {
    const char *slash = strrchr(file, '/');
    printf("    FAILED %s:%d: ", slash != NULL ? slash + 1 : file, line);
    failures++;
}

/* Check a condition. */
bool check_true(const char *file, int line, const char *text, bool value) {
    if (!value) {
        fail(file, line);
        printf("expected %s (errno %d)\n", text, errno);
        fflush(stdout);
    }
    return value;
}

/* Check a number. */
void check_int(const char *file, int line, long long expected, long long got) {
    if (expected != got) {
        fail(file, line);
        printf("expected %lld, got %lld\n", expected, got);
        fflush(stdout);
    }
}

/* Check a string. */
void check_str(const char *file, int line, const char *expected, const char *got) {
    if (got == NULL || strcmp(expected, got) != 0) {
        fail(file, line);
        printf("expected \"%s\", got %s%s%s\n", expected, got != NULL ? "\"" : "",
               got != NULL ? got : "NULL", got != NULL ? "\"" : "");
        fflush(stdout);
    }
}

/* How many descriptors this process has. */
int check_descriptors(void) {
    DIR *fds = opendir("/proc/self/fd");
    int count = 0;
    while (fds != NULL && readdir(fds) != NULL) {
        count++;
    }
    closedir(fds);
    return count;
}

/* Run one case, and check what it has left. */
static void run_case(const struct check_case *item) {
    int before = failures;
    int descriptors = check_descriptors();
    skipped = false;
    printf("  %s\n", item->name);
    fflush(stdout);
    item->run();
    box_close();
    if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD) {
        fail(item->name, 0);
        printf("it left a child process\n");
    }
    if (check_descriptors() != descriptors) {
        fail(item->name, 0);
        printf("it left descriptors: %d before, %d after\n", descriptors, check_descriptors());
    }
    if (failures > before && skipped) {
        printf("    (skipped in part)\n");
    }
}

/* Whether a case is to be run: all are if none is named. */
static bool is_wanted(int argc, char **argv, const char *name) {
    for (int i = 1; i < argc; i++) {
        if (strstr(name, argv[i]) != NULL) {
            return true;
        }
    }
    return argc < 2;
}

/* Run the cases. */
int check_main(int argc, char **argv, const struct check_case *cases, size_t count) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    warm_up();
    for (size_t i = 0; i < count; i++) {
        if (is_wanted(argc, argv, cases[i].name)) {
            run_case(&cases[i]);
        }
    }
    if (failures > 0) {
        printf("%d checks failed\n", failures);
    }
    return failures > 0;
}
