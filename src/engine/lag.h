/* How late the loop is: a histogram of delays with a constant size. */
#ifndef LD_ENGINE_LAG_H
#define LD_ENGINE_LAG_H

#include <stdint.h>

#define LD_LAG_BUCKETS 256 /* 4 for each power of two of nanoseconds */

/* Zeroed means empty. */
struct ld_lag {
    uint64_t counts[LD_LAG_BUCKETS];
    uint64_t total;
    uint64_t max_ns;
    uint64_t sum_ns;
};

/* Count one delay. */
void ld_lag_add(struct ld_lag *lag, uint64_t ns);

/* The delay in nanoseconds that FRACTION (0 to 1) of those counted did not exceed, to within a
 * quarter of a power of two; 0 when none was counted. */
uint64_t ld_lag_quantile(const struct ld_lag *lag, double fraction);

/* The largest delay in nanoseconds that BUCKET (an index of counts) has. */
uint64_t ld_lag_top(unsigned bucket);

#endif
