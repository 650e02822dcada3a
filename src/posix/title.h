/* What ps shows. */
#ifndef LD_POSIX_TITLE_H
#define LD_POSIX_TITLE_H

/* Remember where argv is and how much room it has. */
void ld_title_init(int argc, char **argv);

/* Show TEXT instead of the command line, up to 127 bytes of it, and its first 15 bytes as the name
 * of the process. This overwrites the strings of argv. */
void ld_title_set(const char *text);

#endif
