/* Private to src/tensor and without an include guard on purpose: rows.c includes it once for each instruction set, with
 *   KERNEL(name)   the name of this set's copy of a function
 *   KERNEL_TARGET  the attribute that selects the instruction set (empty for the baseline)
 *   KERNEL_F16C    1 when the set has the hardware's half to single conversion
 * Only plain C loops with constant lengths over whole blocks, which compilers vectorise; every copy gives the same bits
 * because none of the sets is given fused multiply-add. Shapes: src holds n elements, dst (n). */

KERNEL_TARGET static void KERNEL(decode_bf16)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i] = half_float_of((uint32_t)load_u16(src + 2 * i) << 16);
}

KERNEL_TARGET static void KERNEL(decode_f16)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    int64_t i = 0;
#if KERNEL_F16C
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + 2 * i))));
#endif
    for (; i < n; i++) dst[i] = half_to_f32(load_u16(src + 2 * i));
}

KERNEL_TARGET static void KERNEL(encode_bf16)(const float *restrict src, uint8_t *restrict dst, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = half_bits_of(src[i]);
        uint32_t rounded = (u + 0x7FFFU + ((u >> 16) & 1U)) >> 16, nan = (u >> 16) | 0x40U;
        store_u16(dst + 2 * i, (uint16_t)((u & 0x7FFFFFFFU) > 0x7F800000U ? nan : rounded));
    }
}

KERNEL_TARGET static void KERNEL(encode_f16)(const float *restrict src, uint8_t *restrict dst, int64_t n) {
    int64_t i = 0;
#if KERNEL_F16C
    for (; i + 8 <= n; i += 8) {
        __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(dst + 2 * i), halves);
    }
#endif
    for (; i < n; i++) store_u16(dst + 2 * i, half_from_f32(src[i]));
}

KERNEL_TARGET static void KERNEL(decode_q4_0)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q4_0 *b = (const ot_block_q4_0 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d);
        KEEP_LOOP
        for (int j = 0; j < QK / 2; j++) dst[j] = d * (float)((b->q[j] & 15) - 8);
        KEEP_LOOP
        for (int j = 0; j < QK / 2; j++) dst[j + QK / 2] = d * (float)((b->q[j] >> 4) - 8);
    }
}

KERNEL_TARGET static void KERNEL(decode_q4_1)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q4_1 *b = (const ot_block_q4_1 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d), m = load_half(&b->m);
        KEEP_LOOP
        for (int j = 0; j < QK / 2; j++) dst[j] = d * (float)(b->q[j] & 15) + m;
        KEEP_LOOP
        for (int j = 0; j < QK / 2; j++) dst[j + QK / 2] = d * (float)(b->q[j] >> 4) + m;
    }
}

KERNEL_TARGET static void KERNEL(decode_q5_0)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q5_0 *b = (const ot_block_q5_0 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d);
        uint32_t high = load_u32(b->high);
        KEEP_LOOP
        for (int j = 0; j < QK / 2; j++) dst[j] = d * (float)((int)((b->q[j] & 15U) | (((high >> j) << 4) & 16U)) - 16);
        KEEP_LOOP
        for (int j = 0; j < QK / 2; j++) dst[j + QK / 2] = d * (float)((int)((b->q[j] >> 4) | ((high >> (j + 12)) & 16U)) - 16);
    }
}

KERNEL_TARGET static void KERNEL(decode_q5_1)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q5_1 *b = (const ot_block_q5_1 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d), m = load_half(&b->m);
        uint32_t high = load_u32(b->high);
        KEEP_LOOP
        for (int j = 0; j < QK / 2; j++) dst[j] = d * (float)(int)((b->q[j] & 15U) | (((high >> j) << 4) & 16U)) + m;
        KEEP_LOOP
        for (int j = 0; j < QK / 2; j++) dst[j + QK / 2] = d * (float)(int)((b->q[j] >> 4) | ((high >> (j + 12)) & 16U)) + m;
    }
}

KERNEL_TARGET static void KERNEL(decode_q8_0)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q8_0 *b = (const ot_block_q8_0 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d);
        KEEP_LOOP
        for (int j = 0; j < QK; j++) dst[j] = d * (float)b->q[j];
    }
}

/* Element 128*half + 32*pair + l is bits 2*pair of q[32*half + l]. */
KERNEL_TARGET static void KERNEL(decode_q2_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q2_k *b = (const ot_block_q2_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float d = load_half(&b->d), dmin = load_half(&b->dmin);
        uint8_t codes[QK_K];
        split_pairs(b->q, codes);
        split_pairs(b->q + 32, codes + QK_K / 2);
        for (int group = 0; group < QK_K / 16; group++, dst += 16) {
            float scale = d * (float)(b->scales[group] & 15), min = dmin * (float)(b->scales[group] >> 4);
            KEEP_LOOP
            for (int l = 0; l < 16; l++) dst[l] = scale * (float)codes[16 * group + l] - min;
        }
    }
}

/* Low bits lie as in Q2_K; bit 2 of element 32*row + l is bit `row` of high[l]. */
KERNEL_TARGET static void KERNEL(decode_q3_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q3_k *b = (const ot_block_q3_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float d = load_half(&b->d);
        uint8_t codes[QK_K];
        split_pairs(b->q, codes);
        split_pairs(b->q + 32, codes + QK_K / 2);
        add_high_bits(b->high, 4, codes);
        for (int group = 0; group < QK_K / 16; group++, dst += 16) {
            int low4 = (b->scales[group % 8] >> (4 * (group / 8))) & 15;
            int high2 = (b->scales[8 + group % 4] >> (2 * (group / 4))) & 3;
            float scale = d * (float)((low4 | high2 << 4) - 32);
            KEEP_LOOP
            for (int l = 0; l < 16; l++) dst[l] = scale * (float)(codes[16 * group + l] - 4);
        }
    }
}

/* Element 64*pair + 32*side + l is nibble `side` of q[32*pair + l]. */
KERNEL_TARGET static void KERNEL(decode_q4_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q4_k *b = (const ot_block_q4_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float scales[8], mins[8];
        split_scales(b->scales, load_half(&b->d), load_half(&b->dmin), scales, mins);
        for (int group = 0; group < 8; group += 2, dst += 64) {
            const uint8_t *q = b->q + 16 * group;
            float scale = scales[group], min = mins[group];
            KEEP_LOOP
            for (int l = 0; l < 32; l++) dst[l] = scale * (float)(q[l] & 15) - min;
            scale = scales[group + 1];
            min = mins[group + 1];
            KEEP_LOOP
            for (int l = 0; l < 32; l++) dst[l + 32] = scale * (float)(q[l] >> 4) - min;
        }
    }
}

/* As Q4_K; bit 4 of element 32*row + l is bit `row` of high[l]. */
KERNEL_TARGET static void KERNEL(decode_q5_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q5_k *b = (const ot_block_q5_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float scales[8], mins[8];
        uint8_t codes[QK_K];
        split_scales(b->scales, load_half(&b->d), load_half(&b->dmin), scales, mins);
        for (int pair = 0; pair < 4; pair++) split_nibbles(b->q + 32 * pair, codes + 64 * pair);
        add_high_bits(b->high, 16, codes);
        for (int group = 0; group < 8; group++, dst += 32) {
            float scale = scales[group], min = mins[group];
            KEEP_LOOP
            for (int l = 0; l < 32; l++) dst[l] = scale * (float)codes[32 * group + l] - min;
        }
    }
}

/* Element 128*half + 32*quarter + l: its low nibble is nibble quarter/2 of low[64*half + 32*(quarter%2) + l], its top bits are
 * bits 2*quarter of high[32*half + l]. */
KERNEL_TARGET static void KERNEL(decode_q6_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q6_k *b = (const ot_block_q6_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float d = load_half(&b->d);
        uint8_t codes[QK_K];
        for (int half = 0; half < 2; half++) {
            const uint8_t *low = b->low + 64 * half, *high = b->high + 32 * half;
            uint8_t *to = codes + 128 * half;
            KEEP_LOOP
            for (int l = 0; l < 32; l++) {
                to[l] = (uint8_t)((low[l] & 15) | ((high[l] & 3) << 4));
                to[l + 32] = (uint8_t)((low[l + 32] & 15) | ((high[l] & 12) << 2));
                to[l + 64] = (uint8_t)((low[l] >> 4) | (high[l] & 48));
                to[l + 96] = (uint8_t)((low[l + 32] >> 4) | ((high[l] & 192) >> 2));
            }
        }
        for (int group = 0; group < QK_K / 16; group++, dst += 16) {
            float scale = d * (float)b->scales[group];
            KEEP_LOOP
            for (int l = 0; l < 16; l++) dst[l] = scale * (float)(codes[16 * group + l] - 32);
        }
    }
}

KERNEL_TARGET static void KERNEL(scaled_int8)(const uint8_t *restrict codes, float scale, float *restrict dst, int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i] = (float)(int8_t)codes[i] * scale;
}

/* Through a table of bytes: interleaving the two nibbles as floats is what compilers do badly. */
KERNEL_TARGET static void KERNEL(scaled_int4)(const uint8_t *restrict codes, float scale, float *restrict dst, int64_t n) {
    enum { PIECE = 64 };
    int8_t wide[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t m = n - at < PIECE ? n - at : PIECE;
        const uint8_t *from = codes + at / 2;
        for (int64_t i = 0; i < m / 2; i++) {
            wide[2 * i] = (int8_t)((from[i] & 15) - 8);
            wide[2 * i + 1] = (int8_t)((from[i] >> 4) - 8);
        }
        if (m % 2 != 0) wide[m - 1] = (int8_t)((from[m / 2] & 15) - 8);
        for (int64_t i = 0; i < m; i++) dst[at + i] = (float)wide[i] * scale;
    }
}

static const ot_row_kernels KERNEL(kernels) = {
    .scaled_int8 = KERNEL(scaled_int8),
    .scaled_int4 = KERNEL(scaled_int4),
    .decode = {[OT_BF16] = KERNEL(decode_bf16),
               [OT_F16] = KERNEL(decode_f16),
               [OT_Q4_0] = KERNEL(decode_q4_0),
               [OT_Q4_1] = KERNEL(decode_q4_1),
               [OT_Q5_0] = KERNEL(decode_q5_0),
               [OT_Q5_1] = KERNEL(decode_q5_1),
               [OT_Q8_0] = KERNEL(decode_q8_0),
               [OT_Q2_K] = KERNEL(decode_q2_k),
               [OT_Q3_K] = KERNEL(decode_q3_k),
               [OT_Q4_K] = KERNEL(decode_q4_k),
               [OT_Q5_K] = KERNEL(decode_q5_k),
               [OT_Q6_K] = KERNEL(decode_q6_k)},
    .encode_bf16 = KERNEL(encode_bf16),
    .encode_f16 = KERNEL(encode_f16),
};
