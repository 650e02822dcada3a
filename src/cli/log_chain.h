/* The files of a log in the order in which they were written: NAME.2, NAME.1, NAME, also while they are rotated. */
#ifndef LD_CLI_LOG_CHAIN_H
#define LD_CLI_LOG_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The files that are still to be read, the oldest first; each is read from its file position on. */
struct ld_log_chain {
    const char *path; /* borrowed */
    struct ld_log_file {
        int fd; /* -1: none */
        dev_t dev;
        ino_t ino;
    } * files;
    size_t count;
    size_t capacity;
    struct ld_log_file older; /* the one before the first, to tell what is new */
    bool lost;                /* files may have come and gone unseen */
    const char *kind;         /* what NAME is, if it is not a regular file; else NULL */
};

/* Open all files of the log at PATH, which must outlive the chain; 0 or a negative errno: -EINVAL with KIND
 * set if NAME is not a regular file. Opening or reading anything else could block, take data that is meant for
 * another process, or never end; no link is followed. To be closed in either case. */
int ld_log_chain_open(struct ld_log_chain *chain, const char *path);
void ld_log_chain_close(struct ld_log_chain *chain);

/* Open what has become part of the log since; cheap if nothing has. */
void ld_log_chain_grow(struct ld_log_chain *chain);

/* Close the first file, which is not the only one: it has been read. */
void ld_log_chain_drop(struct ld_log_chain *chain);

/* Whether the first file was followed by one that has something, so that the log goes on there. */
bool ld_log_chain_is_past_first(const struct ld_log_chain *chain);

#endif
