/* Private to src/tensor and without an include guard on purpose: rows.c includes it once for each instruction set, with
 *   KERNEL(name)   the name of this set's copy of a function
 *   KERNEL_TARGET  the attribute that selects the instruction set (empty for the baseline)
 * Only plain C loops with constant lengths over whole blocks, which compilers vectorise; every copy gives the same bits
 * because none of the sets is given fused multiply-add. Shapes: src holds n elements, dst (n). */

KERNEL_TARGET static void KERNEL(decode_bf16)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i] = half_float_of((uint32_t)load_u16(src + 2 * i) << 16);
}

KERNEL_TARGET static void KERNEL(decode_f16)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i] = half_to_f32(load_u16(src + 2 * i));
}

KERNEL_TARGET static void KERNEL(encode_bf16)(const float *restrict src, uint8_t *restrict dst, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = half_bits_of(src[i]);
        uint32_t rounded = (u + 0x7FFFU + ((u >> 16) & 1U)) >> 16, nan = (u >> 16) | 0x40U;
        store_u16(dst + 2 * i, (uint16_t)((u & 0x7FFFFFFFU) > 0x7F800000U ? nan : rounded));
    }
}

KERNEL_TARGET static void KERNEL(encode_f16)(const float *restrict src, uint8_t *restrict dst, int64_t n) {
    for (int64_t i = 0; i < n; i++) store_u16(dst + 2 * i, half_from_f32(src[i]));
}

KERNEL_TARGET static void KERNEL(decode_q4_0)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q4_0 *b = (const ot_block_q4_0 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d);
        for (int j = 0; j < QK / 2; j++) dst[j] = d * (float)((b->q[j] & 15) - 8);
        for (int j = 0; j < QK / 2; j++) dst[j + QK / 2] = d * (float)((b->q[j] >> 4) - 8);
    }
}

KERNEL_TARGET static void KERNEL(decode_q4_1)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q4_1 *b = (const ot_block_q4_1 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d), m = load_half(&b->m);
        for (int j = 0; j < QK / 2; j++) dst[j] = d * (float)(b->q[j] & 15) + m;
        for (int j = 0; j < QK / 2; j++) dst[j + QK / 2] = d * (float)(b->q[j] >> 4) + m;
    }
}

KERNEL_TARGET static void KERNEL(decode_q5_0)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q5_0 *b = (const ot_block_q5_0 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d);
        uint32_t high = load_u32(b->high);
        for (int j = 0; j < QK / 2; j++) dst[j] = d * (float)((int)((b->q[j] & 15U) | (((high >> j) << 4) & 16U)) - 16);
        high >>= QK / 2;
        for (int j = 0; j < QK / 2; j++) dst[j + QK / 2] = d * (float)((int)((b->q[j] >> 4) | (((high >> j) << 4) & 16U)) - 16);
    }
}

KERNEL_TARGET static void KERNEL(decode_q5_1)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q5_1 *b = (const ot_block_q5_1 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d), m = load_half(&b->m);
        uint32_t high = load_u32(b->high);
        for (int j = 0; j < QK / 2; j++) dst[j] = d * (float)(int)((b->q[j] & 15U) | (((high >> j) << 4) & 16U)) + m;
        high >>= QK / 2;
        for (int j = 0; j < QK / 2; j++) dst[j + QK / 2] = d * (float)(int)((b->q[j] >> 4) | (((high >> j) << 4) & 16U)) + m;
    }
}

KERNEL_TARGET static void KERNEL(decode_q8_0)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q8_0 *b = (const ot_block_q8_0 *)src;
    for (int64_t i = 0; i < n; i += QK, b++, dst += QK) {
        float d = load_half(&b->d);
        for (int j = 0; j < QK; j++) dst[j] = d * (float)b->q[j];
    }
}

/* Elements 128*half + 32*pair + 16*side + l are bits 2*pair of q[32*half + 16*side + l]. */
KERNEL_TARGET static void KERNEL(decode_q2_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q2_k *b = (const ot_block_q2_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float d = load_half(&b->d), dmin = load_half(&b->dmin);
        for (int group = 0; group < 16; group++, dst += 16) {
            const uint8_t *q = b->q + 32 * (group / 8) + 16 * (group % 2);
            int shift = 2 * (group % 8 / 2);
            float scale = d * (float)(b->scales[group] & 15), min = dmin * (float)(b->scales[group] >> 4);
            for (int l = 0; l < 16; l++) dst[l] = scale * (float)((q[l] >> shift) & 3) - min;
        }
    }
}

/* Groups lie as in Q2_K; bit 2 of a group's elements is bit group / 2 of high[16*side + l], set meaning "do not subtract 4". */
KERNEL_TARGET static void KERNEL(decode_q3_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q3_k *b = (const ot_block_q3_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float d = load_half(&b->d);
        for (int group = 0; group < 16; group++, dst += 16) {
            const uint8_t *q = b->q + 32 * (group / 8) + 16 * (group % 2), *high = b->high + 16 * (group % 2);
            int shift = 2 * (group % 8 / 2), bit = group / 2;
            int low4 = (b->scales[group % 8] >> (4 * (group / 8))) & 15;
            int high2 = (b->scales[8 + group % 4] >> (2 * (group / 4))) & 3;
            float scale = d * (float)((low4 | high2 << 4) - 32);
            for (int l = 0; l < 16; l++) dst[l] = scale * (float)((((q[l] >> shift) & 3) | (((high[l] >> bit) & 1) << 2)) - 4);
        }
    }
}

/* Elements 64*pair + 32*side + l are nibble `side` of q[32*pair + l]. */
KERNEL_TARGET static void KERNEL(decode_q4_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q4_k *b = (const ot_block_q4_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float d = load_half(&b->d), dmin = load_half(&b->dmin);
        for (int group = 0; group < 8; group++, dst += 32) {
            const uint8_t *q = b->q + 32 * (group / 2);
            int shift = 4 * (group % 2);
            float scale = d * (float)scale_of_group(b->scales, group), min = dmin * (float)min_of_group(b->scales, group);
            for (int l = 0; l < 32; l++) dst[l] = scale * (float)((q[l] >> shift) & 15) - min;
        }
    }
}

KERNEL_TARGET static void KERNEL(decode_q5_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q5_k *b = (const ot_block_q5_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float d = load_half(&b->d), dmin = load_half(&b->dmin);
        for (int group = 0; group < 8; group++, dst += 32) {
            const uint8_t *q = b->q + 32 * (group / 2);
            int shift = 4 * (group % 2);
            float scale = d * (float)scale_of_group(b->scales, group), min = dmin * (float)min_of_group(b->scales, group);
            for (int l = 0; l < 32; l++) {
                int v = ((q[l] >> shift) & 15) | (((b->high[l] >> group) & 1) << 4);
                dst[l] = scale * (float)v - min;
            }
        }
    }
}

/* Elements 128*half + 32*quarter + l: low nibbles of low[64*half + 32*(quarter%2) + l] for quarters 0 and 1, high ones for 2
 * and 3; the two top bits are bits 2*quarter of high[32*half + l]. */
KERNEL_TARGET static void KERNEL(decode_q6_k)(const uint8_t *restrict src, float *restrict dst, int64_t n) {
    const ot_block_q6_k *b = (const ot_block_q6_k *)src;
    for (int64_t i = 0; i < n; i += QK_K, b++) {
        float d = load_half(&b->d);
        for (int group = 0; group < 16; group++, dst += 16) {
            int quarter = group % 8 / 2, side = group % 2;
            const uint8_t *low = b->low + 64 * (group / 8) + 32 * (quarter % 2) + 16 * side;
            const uint8_t *high = b->high + 32 * (group / 8) + 16 * side;
            int low_shift = 4 * (quarter / 2), high_shift = 2 * quarter;
            float scale = d * (float)b->scales[group];
            for (int l = 0; l < 16; l++) {
                int v = ((low[l] >> low_shift) & 15) | (((high[l] >> high_shift) & 3) << 4);
                dst[l] = scale * (float)(v - 32);
            }
        }
    }
}

static const ot_row_kernels KERNEL(kernels) = {
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
