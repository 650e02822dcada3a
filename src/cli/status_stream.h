/* Reports whose lists are whole, for status --full: they are printed as they come, as lines for people or one valid JSON
 * document, whatever happens to the daemon meanwhile. */
#ifndef LD_CLI_STATUS_STREAM_H
#define LD_CLI_STATUS_STREAM_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/target.h"

struct ld_status_stream {
    bool is_json;
    int depth;              /* of what is printed now, in lists and objects */
    bool is_first;          /* nothing is printed before in this list */
    struct ld_text pending; /* the last line of JSON: what follows decides about its comma */
};

/* Begin, and end, a document: a list if IS_LIST. It ends on stdout. */
void ld_status_stream_begin(struct ld_status_stream *stream, bool is_json, bool is_list);
void ld_status_stream_end(struct ld_status_stream *stream, bool is_list);

/* Add a REPORT that has come as a whole. */
void ld_status_stream_add(struct ld_status_stream *stream, const json_t *report);

/* Ask a running daemon, and those of its workers, and add its report; 0, or 1 after complaining that it is torn. */
int ld_status_stream_ask(struct ld_status_stream *stream, struct ld_target *target);

#endif
