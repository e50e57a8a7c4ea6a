/* The dropout mask as a pure function of (seed, site, element), so that every backend, thread and phase draws the same one. */
#ifndef OT_ENGINE_DROPOUT_H
#define OT_ENGINE_DROPOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

/* The seed of one site. Hashing the site first keeps the streams of two sites from being shifted copies of one another. */
static inline uint64_t ot_dropout_site_seed(uint64_t seed, uint32_t site) { return seed ^ ot_rng_hash(site, 0); }

/* Is element (row * cols + column) kept? Kept elements are multiplied by 1 / (1 - p). Two neighbours share a hash, half of its bits each. */
static inline bool ot_dropout_keeps(uint64_t site_seed, int64_t element, float p) {
    uint64_t bits = ot_rng_hash(site_seed, (uint64_t)element / 2);
    return (double)(uint32_t)(element % 2 == 0 ? bits : bits >> 32) * 0x1p-32 >= (double)p;
}

#endif
