/* The packets in which messages go from worker to worker, over SOCK_SEQPACKET: a head of fixed size, and
 * part of a message's bytes, the topic first. A message may need many packets, and those of other
 * senders come between them. The reader trusts nothing: what is not of this form is -EPROTO. */
#ifndef LD_ENGINE_MAIL_PACKET_H
#define LD_ENGINE_MAIL_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LD_MAIL_WORKERS_MAX 1024                /* the numbers of workers are from 1 to this */
#define LD_MAIL_TOPIC_MAX   255                 /* bytes */
#define LD_MAIL_DATA_MAX    ((size_t)8 << 20)   /* bytes of what is sent, packed */
#define LD_MAIL_PART_MAX    ((size_t)32 * 1024) /* bytes of a message in one packet */

enum ld_mail_kind {
    LD_MAIL_PART = 1, /* of a message */
    LD_MAIL_PEER, /* from the master: the writing end of the box of worker `from`, a descriptor */
    LD_MAIL_GONE, /* from the master: there is no worker `from` any more */
};

struct ld_mail_packet {
    enum ld_mail_kind kind;
    uint32_t from;   /* a worker */
    uint32_t pid;    /* of the process that sends: another one does not continue its message */
    bool to_all;     /* a broadcast */
    uint32_t topic;  /* bytes of the topic, with which the message begins */
    uint32_t total;  /* bytes of the message */
    uint32_t offset; /* of this part in it */
    const char *bytes;
    size_t size;
    int fd; /* that comes with it; -1: none. A received one is the caller's. */
};

/* Make a box, whose ends[0] is to be read and ends[1] to be written; 0 or a negative errno. */
int ld_mail_packet_open(int ends[2]);

/* Send a packet without waiting: 0 or a negative errno, -EAGAIN if the box is full. */
int ld_mail_packet_send(int box, const struct ld_mail_packet *packet);

/* Receive a packet without waiting: 1, 0 if no writing end is left, -EAGAIN if there is none, -EPROTO for
 * what is not a packet, -EMFILE if its descriptor was lost; then its other members say what it was. Its bytes are
 * valid until the next call. */
int ld_mail_packet_receive(int box, struct ld_mail_packet *packet);

#endif
