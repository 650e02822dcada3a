/* Messages between host and keeper: text packets over a SOCK_SEQPACKET pair,
 *
 *     lunad/1 NUMBER WORD[ TEXT]
 *
 * perhaps with one descriptor. NUMBER is the number of a request, and the same in its answer; 0 for
 * what is not a request. WORD is lower-case letters and dashes. The reader trusts nothing: what is not of
 * this form is -EPROTO, and the channel goes on. */
#ifndef LD_POSIX_PACKET_H
#define LD_POSIX_PACKET_H

#include <stdbool.h>
#include <stddef.h>

#define LD_PACKET_MAX 65000 /* bytes of a packet */

struct ld_packet {
    unsigned long number;
    char word[16];
    const char *text; /* "" for none; valid until the next packet is received */
    size_t size;
    int fd; /* that came with it, to be closed by the receiver; -1: none */
};

/* Make the pair; 0 or a negative errno. */
int ld_packet_open(int ends[2]);

/* Send a packet with SIZE bytes of TEXT, of which too many are cut, and with a descriptor unless FD is
 * -1. Never waits: -EAGAIN if the other end does not read. 0 or a negative errno. */
int ld_packet_send(int channel, unsigned long number, const char *word, const char *text,
                   size_t size, int fd);

/* Receive a packet without waiting: 1, 0 at the end of the channel, -EAGAIN if there is none, -EPROTO
 * for what is not a packet (its descriptors are closed), -EMFILE if its descriptor was lost. */
int ld_packet_receive(int channel, struct ld_packet *packet);

/* Whether a packet with WORD, no number and no text is among those that wait. From one thread at a time,
 * also while another receives. */
bool ld_packet_is_queued(int channel, const char *word);

#endif
