#include "task/python_random.h"

enum { N = 624, M = 397 };

/* init_by_array with one key. */
void ot_python_random_seed(ot_python_random *r, uint32_t seed) {
    uint32_t *s = r->state;
    s[0] = 19650218;
    for (uint32_t i = 1; i < N; i++) s[i] = 1812433253U * (s[i - 1] ^ (s[i - 1] >> 30)) + i;
    uint32_t i = 1;
    for (int k = 0; k < N; k++) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525U)) + seed;
        if (++i == N) {
            s[0] = s[N - 1];
            i = 1;
        }
    }
    for (int k = 0; k < N - 1; k++) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941U)) - i;
        if (++i == N) {
            s[0] = s[N - 1];
            i = 1;
        }
    }
    s[0] = 0x80000000U;
    r->next = N;
}

static void twist(uint32_t *s) {
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000U) | (s[(i + 1) % N] & 0x7FFFFFFFU);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ ((y & 1) != 0 ? 0x9908B0DFU : 0);
    }
}

uint32_t ot_python_random_u32(ot_python_random *r) {
    if (r->next == N) {
        twist(r->state);
        r->next = 0;
    }
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9D2C5680U;
    y ^= (y << 15) & 0xEFC60000U;
    return y ^ (y >> 18);
}

/* randbelow(n) for 0 < n < 2^32: as many bits as n has, drawn again until they are below n. */
static int64_t below(ot_python_random *r, int64_t n) {
    int bits = 64 - __builtin_clzll((unsigned long long)n);
    for (;;) {
        int64_t x = ot_python_random_u32(r) >> (32 - bits);
        if (x < n) return x;
    }
}

/* Python draws from a list of all where that list is small beside the set it would keep otherwise. */
static int64_t list_limit(int64_t k) {
    int64_t limit = 21;
    if (k <= 5) return limit;
    int64_t power = 4;
    while (power < 3 * k) power *= 4;
    return limit + power;
}

ot_status ot_python_random_sample(ot_python_random *r, int64_t n, int64_t k, int64_t *out, ot_error *err) {
    if (n > INT32_MAX || k > n || k < 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%lld examples cannot be drawn from %lld rows: lower --num-fewshot", (long long)k, (long long)n);
    }
    if (n > list_limit(k)) {
        for (int64_t i = 0; i < k; i++) {
            bool again = true;
            while (again) {
                out[i] = below(r, n);
                again = false;
                for (int64_t j = 0; j < i; j++) again = again || out[j] == out[i];
            }
        }
        return OT_OK;
    }
    int64_t *pool = NULL;
    OT_TRY(ot_malloc(n, sizeof *pool, "a sample", (void **)&pool, err));
    for (int64_t i = 0; i < n; i++) pool[i] = i;
    for (int64_t i = 0; i < k; i++) {
        int64_t j = below(r, n - i);
        out[i] = pool[j];
        pool[j] = pool[n - i - 1];
    }
    ot_free(pool);
    return OT_OK;
}
