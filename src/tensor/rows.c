/* Owns the row kernels: the same C loops compiled for the baseline and, on x86-64, for AVX2, chosen at run time so that one
 * binary runs everywhere. */
#include <stddef.h>
#include <string.h>

#include "tensor/blocks.h"
#include "tensor/half.h"

#ifdef __clang__
/* aarch64 and -march=native have fused multiply-add; clang would contract d * q + m and change the last bit. gcc does not in
 * ISO mode. */
#pragma STDC FP_CONTRACT OFF
#endif

OT_INLINE uint16_t load_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

OT_INLINE void store_u16(uint8_t *p, uint16_t v) {
    memcpy(p, &v, sizeof v);
}

OT_INLINE uint32_t load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

OT_INLINE float load_half(const ot_half_bytes *h) { return half_to_f32(load_u16(h->byte)); }

/* Q4_K and Q5_K pack eight 6-bit scales and eight 6-bit minima into 12 bytes: groups 0..3 lie whole in bytes 0..3 and 4..7,
 * whose two top bits are the top bits of groups 4..7; the nibbles of bytes 8..11 are the rest of those. */
OT_INLINE int scale_of_group(const uint8_t *s, int group) {
    return group < 4 ? s[group] & 63 : (s[group + 4] & 15) | (s[group - 4] >> 6) << 4;
}

OT_INLINE int min_of_group(const uint8_t *s, int group) {
    return group < 4 ? s[group + 4] & 63 : s[group + 4] >> 4 | (s[group] >> 6) << 4;
}

#define KERNEL(name) name##_baseline
#define KERNEL_TARGET
#include "tensor/row_kernels.h"
#undef KERNEL
#undef KERNEL_TARGET

#if defined(__x86_64__) && !defined(__AVX2__)
#define OFFSITE_ROWS_AVX2 1
#define KERNEL(name) name##_avx2
#define KERNEL_TARGET __attribute__((target("avx2")))
#include "tensor/row_kernels.h"
#undef KERNEL
#undef KERNEL_TARGET
#endif

const ot_row_kernels *ot_row_kernels_get(void) {
#ifdef OFFSITE_ROWS_AVX2
    if (__builtin_cpu_supports("avx2")) return &kernels_avx2;
#endif
    return &kernels_baseline;
}
