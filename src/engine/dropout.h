/* The dropout mask as a pure function of (seed, site, element), so that every backend, thread and phase draws the same one. */
#ifndef OT_ENGINE_DROPOUT_H
#define OT_ENGINE_DROPOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

/* The seed of one site. Hashing the site first keeps the streams of two sites from being shifted copies of one another. */
static inline uint64_t ot_dropout_site_seed(uint64_t seed, uint32_t site) { return seed ^ ot_rng_hash(site, 0); }

/* Is element (row * cols + column) kept? Kept elements are multiplied by 1 / (1 - p). Four neighbours share a hash, 16 of its bits each, so that p
 * counts in steps of 2^-16, rounded up. */
enum { OT_DROPOUT_SHARE = 4, OT_DROPOUT_BITS = 16 };
static inline bool ot_dropout_keeps(uint64_t site_seed, int64_t element, float p) {
    uint64_t bits = ot_rng_hash(site_seed, (uint64_t)element / OT_DROPOUT_SHARE) >> element % OT_DROPOUT_SHARE * OT_DROPOUT_BITS;
    return (double)(uint16_t)bits * 0x1p-16 >= (double)p;
}

#endif
