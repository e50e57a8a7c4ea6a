/* Private to src/tensor: IEEE half <-> single for one value, written with selects instead of branches so that loops over
 * them vectorise on any instruction set. Both ways are exact to the last bit, subnormals and quieted NaNs included. */
#ifndef OT_TENSOR_HALF_H
#define OT_TENSOR_HALF_H

#include <stdint.h>
#include <string.h>

#define OT_INLINE static inline __attribute__((always_inline))

OT_INLINE uint32_t half_bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

OT_INLINE float half_float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

OT_INLINE float half_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000U) << 16, magnitude = (uint32_t)(h & 0x7FFFU) << 13;
    uint32_t normal = magnitude + (112U << 23);
    uint32_t nan = magnitude > 0x0F800000U ? 0x00400000U : 0U; /* quiet, as the hardware conversion does */
    uint32_t special = (magnitude + (224U << 23)) | nan;
    /* Zero or subnormal: put the fraction under the leading bit of 0.5, whose last place is 2^-24, and subtract that bit. */
    uint32_t tiny = half_bits_of(half_float_of(0x3F000000U | (h & 0x3FFU)) - 0.5F);
    uint32_t bits = magnitude < 0x00800000U ? tiny : magnitude < 0x0F800000U ? normal : special;
    return half_float_of(bits | sign);
}

OT_INLINE uint16_t half_from_f32(float f) {
    uint32_t u = half_bits_of(f), sign = (u >> 16) & 0x8000U, a = u & 0x7FFFFFFFU;
    uint32_t normal = (a + 0xFFFU + ((a >> 13) & 1U) - (112U << 23)) >> 13;
    /* Below 2^-14: the last place of 0.5 is 2^-24, the step of subnormal halves, so the addition rounds for us. */
    uint32_t tiny = half_bits_of(half_float_of(a) + 0.5F) - 0x3F000000U;
    uint32_t nan = 0x7E00U | ((a >> 13) & 0x3FFU);
    uint32_t special = a > 0x7F800000U ? nan : 0x7C00U; /* from 65520 on, half-way to 2^16, values round to infinity */
    uint32_t bits = a < 0x38800000U ? tiny : a < 0x477FF000U ? normal : special;
    return (uint16_t)(bits | sign);
}

#endif
