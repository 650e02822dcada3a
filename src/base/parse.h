/* The grammar of values that people write: times, sizes, names, signals, limits. Pure text; each
 * returns false for invalid text and then leaves its result alone. */
#ifndef LD_BASE_PARSE_H
#define LD_BASE_PARSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define LD_NAME_MAX 64

/* Seconds with an optional fraction, 0 to ten years: "2.5". */
bool ld_parse_seconds(const char *text, double *seconds);

/* How long before NOW, in seconds or with one of s, m, h, d: "90", "1.5h"; or a date, perhaps with a time, in UTC:
 * "2026-11-22", "2026-11-22T10:11", "2026-11-22 10:11:12.123Z". NOW and *MOMENT are Unix times in nanoseconds;
 * *MOMENT is above 0. */
bool ld_parse_moment(const char *text, int64_t now, int64_t *moment);

/* A whole number with an optional K, M or G: "64M". */
bool ld_parse_size(const char *text, uint64_t *size);

/* A whole number from MIN to MAX. */
bool ld_parse_whole(const char *text, long min, long max, long *number);

/* An octal file mode mask: "027". */
bool ld_parse_mask(const char *text, mode_t *mask);

/* Whether TEXT may be a daemon's name: 1 to 64 of A-Z a-z 0-9 . _ -, no leading dot or dash. */
bool ld_parse_is_name(const char *text);

/* "nofile", "core", … to RLIMIT_…. */
bool ld_parse_rlimit_name(const char *text, size_t size, int *resource);

/* "SOFT[:HARD]" with sizes or "unlimited"; without HARD both are SOFT. */
bool ld_parse_rlimit_value(const char *text, struct rlimit *limit);

/* A signal's name with or without SIG, in any case, or its number; 1 to SIGRTMAX. */
bool ld_parse_signal(const char *text, int *signo);

/* The name without SIG, "RTMIN+3", or NULL for no signal. Static, valid until the next call. */
const char *ld_parse_signal_name(int signo);

#endif
