/* Connections that a generation hands on to the next one, in the host's reload. */
#ifndef LD_API_PARCEL_H
#define LD_API_PARCEL_H

#include "script/script.h"

/* A reload of SCRIPT begins, or has been refused: connections that it hands on are not read in between.
 * Giving back does nothing if none was under way, or there is no script. */
void ld_api_parcel_begin(struct ld_script *script);
void ld_api_parcel_give_back(struct ld_script *script);

/* OLD is about to be replaced: it may hand on more connections. */
void ld_api_parcel_offer_last(struct ld_script *old);

/* Give SCRIPT, which is the service, the connections that it has claimed of those that are held. */
void ld_api_parcel_deliver(struct ld_script *script);

/* NEXT has taken the place of OLD: move the connections. What NEXT has not claimed is held for a while. */
void ld_api_parcel_commit(struct ld_script *old, struct ld_script *next);

#endif
