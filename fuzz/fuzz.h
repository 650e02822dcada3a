/* What the fuzzers share: reading the input, and what must be true of every text that is shown. */
#ifndef LD_FUZZ_H
#define LD_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Abort with the place unless CONDITION is true. */
#define FUZZ_CHECK(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))

_Noreturn void fuzz_fail(const char *file, int line, const char *what);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The part of an input that is not read yet. */
struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

/* Take a byte; 0 at the end. */
uint8_t fuzz_byte(struct fuzz_input *input);

/* Take a number of SIZE bytes, at most 8. */
uint64_t fuzz_number(struct fuzz_input *input, size_t size);

/* Take what comes before the next byte END, or everything: a C string (ends at a NUL), to be freed. */
char *fuzz_string(struct fuzz_input *input, char end);

/* Take up to MOST bytes, as many as the next byte says; the bytes stay those of the input. */
const char *fuzz_bytes(struct fuzz_input *input, size_t most, size_t *size);

/* Take everything as a C string, to be freed. */
char *fuzz_rest(struct fuzz_input *input);

/* Check that a text is one line of valid UTF-8 without control characters but TAB. */
void fuzz_check_line(const char *text, size_t size);

/* Check that a text is such lines, and that each but the first begins with four spaces. */
void fuzz_check_lines(const char *text, size_t size);

/* The lowest free descriptor: a test that leaves it as it was has closed all that it had opened. */
int fuzz_free_fd(void);

/* A new directory that is removed, with the files in it, when the process ends. A descriptor; PATH gets its
 * path unless it is NULL. */
int fuzz_directory(const char **path);

#endif
