/* What a client gets that asks for metrics: the status, the delays of the loop in their buckets, and what the
 * script counts by lunad.metrics. */
#include "engine/lag.h"
#include "host/internal.h"

/* Report the delays of the loop: each bucket that has any, as [its longest in ms, how many]. */
static json_t *report_lag(const struct ld_lag *lag) {
    json_t *buckets = json_array();
    for (unsigned i = 0; i < LD_LAG_BUCKETS; i++) {
        if (lag->counts[i] > 0) {
            json_array_append_new(buckets, json_pack("[f, I]", (double)ld_lag_top(i) / 1e6,
                                                     (json_int_t)lag->counts[i]));
        }
    }
    return json_pack("{s:I, s:f, s:o}", "count", (json_int_t)lag->total, "sum_ms",
                     (double)lag->sum_ns / 1e6, "buckets", buckets);
}

/* Make the answer. */
json_t *ld_metrics_answer(struct ld_host *host, json_t *verdict) {
    json_t *values = json_object_get(verdict, "values");
    json_t *error = json_object_get(verdict, "error");
    json_t *answer =
        json_pack("{s:b, s:o, s:o, s:O?, s:O?}", "ok", 1, "status", ld_snapshot_take(host), "lag",
                  report_lag(&host->lag), "families", values, "error", error);
    json_decref(verdict);
    return answer;
}
