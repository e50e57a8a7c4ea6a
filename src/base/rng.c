#include "base/rng.h"

#include <math.h>

void ot_rng_seed(ot_rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) rng->s[i] = ot_rng_hash(seed, (uint64_t)i);
}

static uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

uint64_t ot_rng_u64(ot_rng *rng) {
    uint64_t *s = rng->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t ot_rng_below(ot_rng *rng, uint64_t n) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do x = ot_rng_u64(rng);
    while (x >= limit);
    return x % n;
}

double ot_rng_uniform(ot_rng *rng) { return (double)(ot_rng_u64(rng) >> 11) * 0x1.0p-53; }

double ot_rng_normal(ot_rng *rng) {
    double u, v, s;
    do {
        u = 2.0 * ot_rng_uniform(rng) - 1.0;
        v = 2.0 * ot_rng_uniform(rng) - 1.0;
        s = u * u + v * v;
    } while (s >= 1.0 || s == 0.0);
    return u * sqrt(-2.0 * log(s) / s);
}

void ot_rng_permutation(ot_rng *rng, int64_t *order, int64_t n) {
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)ot_rng_below(rng, (uint64_t)i + 1);
        int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}
