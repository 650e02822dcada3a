/* Checks for C tests. One that fails is printed with its place and counted; the test continues, and
 * exits with 1 at its end. */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>

/* A named case. */
struct check_case {
    const char *name;
    void (*run)(void);
};

/* Run the cases (or those alone that argv names) and print each name; the exit status. After each
 * no child process and no descriptor may be left that was not there before. */
int check_main(int argc, char **argv, const struct check_case *cases, size_t count);

#define CHECK_MAIN(cases)                                                                          \
    int main(int argc, char **argv) {                                                              \
        return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases)[0]);                    \
    }

/* How many checks have failed in this process. */
int check_failures(void);

/* How many descriptors this process has. */
int check_descriptors(void);

/* Say that the case that runs cannot be run here. */
void check_skip(const char *why);

bool check_true(const char *file, int line, const char *text, bool value);
void check_int(const char *file, int line, long long expected, long long got);
void check_str(const char *file, int line, const char *expected, const char *got);

#define CHECK(cond)              check_true(__FILE__, __LINE__, #cond, (cond))
#define CHECK_INT(expected, got) check_int(__FILE__, __LINE__, (expected), (got))
#define CHECK_STR(expected, got) check_str(__FILE__, __LINE__, (expected), (got))

/* A check without which the test cannot continue. */
#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!check_true(__FILE__, __LINE__, #cond, (cond))) {                                      \
            _Exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#endif
