/* What runs in the place of a command that a spec fakes (lua/lunad/test_fake.lua): it does what the spec
 * says over a Unix socket. */
#ifndef LD_CLI_STAND_IN_H
#define LD_CLI_STAND_IN_H

#define LD_STAND_IN_WORD "test-command"

/* Stand in for a command: WORDS are the socket's path, and then those of the command. The exit status; 127
 * after complaining that the spec cannot be reached. */
int ld_stand_in_run(char **words);

#endif
