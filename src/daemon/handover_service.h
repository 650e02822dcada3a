/* The service in a handover: its members, its options, and the descriptors that it holds. */
#ifndef LD_DAEMON_HANDOVER_SERVICE_H
#define LD_DAEMON_HANDOVER_SERVICE_H

#include "daemon/handover.h"
#include "daemon/service.h"

/* Write what SERVICE is and holds. */
void ld_handover_service_write(struct ld_handover *handover, const struct ld_service *service);

/* Fill in SERVICE, whose options are handover->options, with descriptors of its own; false with the reason in
 * handover->why. */
bool ld_handover_service_read(struct ld_handover *handover, struct ld_service *service);

#endif
