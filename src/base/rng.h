/* Random numbers with the state in the caller's hands: xoshiro256** seeded by splitmix64. The same seed gives the same
 * stream on every machine and for every thread count. */
#ifndef OT_BASE_RNG_H
#define OT_BASE_RNG_H

#include <stdint.h>

typedef struct ot_rng {
    uint64_t s[4];
} ot_rng;

void ot_rng_seed(ot_rng *rng, uint64_t seed);
uint64_t ot_rng_u64(ot_rng *rng);
/* Uniform in [0, n), without bias; n > 0. */
uint64_t ot_rng_below(ot_rng *rng, uint64_t n);
/* Uniform in [0, 1) with 53 random bits. */
double ot_rng_uniform(ot_rng *rng);
/* Standard normal (polar method, no state besides the rng). */
double ot_rng_normal(ot_rng *rng);
/* A stateless hash of (seed, counter): random bits for dropout masks that any thread can compute for any element. It mixes seed + (counter + 1) * OT_RNG_STEP. */
#define OT_RNG_STEP 0x9E3779B97F4A7C15ULL
static inline uint64_t ot_rng_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}
static inline uint64_t ot_rng_hash(uint64_t seed, uint64_t counter) { return ot_rng_mix(seed + (counter + 1) * OT_RNG_STEP); }
/* Shuffle 0..n-1 into order (Fisher-Yates). */
void ot_rng_permutation(ot_rng *rng, int64_t *order, int64_t n);

#endif
