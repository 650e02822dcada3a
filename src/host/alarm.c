#include "host/internal.h"

/* Compute a deadline. */
uint64_t ld_alarm_deadline(struct ld_host *host, double seconds) {
    uv_update_time(&host->loop);
    return uv_now(&host->loop) + (uint64_t)(seconds * 1000);
}

/* Do nothing: it is enough that the loop turns. */
static void on_alarm(uv_timer_t *timer) {
    (void)timer;
}

/* Have the loop turn at DEADLINE at the latest. */
void ld_alarm_wake_at(struct ld_host *host, uint64_t deadline) {
    uint64_t now = uv_now(&host->loop);
    uint64_t left = deadline > now ? deadline - now : 0;
    if (!uv_is_active((uv_handle_t *)&host->alarm) || uv_timer_get_due_in(&host->alarm) > left) {
        uv_timer_start(&host->alarm, on_alarm, left, 0);
    }
}
