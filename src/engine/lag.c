#include "engine/lag.h"

/* The bucket of a delay: the power of two and the two bits after its first. */
static unsigned bucket_of(uint64_t ns) {
    if (ns < 4) {
        return (unsigned)ns;
    }
    unsigned power = 63U - (unsigned)__builtin_clzll(ns);
    return power * 4 + (unsigned)((ns >> (power - 2)) & 3);
}

/* The largest delay of a bucket. */
uint64_t ld_lag_top(unsigned bucket) {
    if (bucket < 8) {
        return bucket < 4 ? bucket : 4;
    }
    unsigned power = bucket / 4;
    uint64_t step = (uint64_t)1 << (power - 2);
    return (4 + bucket % 4) * step + (step - 1);
}

/* Count one delay. */
void ld_lag_add(struct ld_lag *lag, uint64_t ns) {
    lag->counts[bucket_of(ns)]++;
    lag->total++;
    lag->sum_ns += ns;
    if (ns > lag->max_ns) {
        lag->max_ns = ns;
    }
}

/* The delay that a fraction of those counted did not exceed. */
uint64_t ld_lag_quantile(const struct ld_lag *lag, double fraction) {
    uint64_t wanted = (uint64_t)(fraction * (double)lag->total);
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < LD_LAG_BUCKETS; bucket++) {
        seen += lag->counts[bucket];
        if (seen > wanted || (seen == lag->total && seen > 0)) {
            uint64_t top = ld_lag_top(bucket);
            return top < lag->max_ns ? top : lag->max_ns;
        }
    }
    return 0;
}
