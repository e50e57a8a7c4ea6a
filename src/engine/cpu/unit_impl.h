/* The 32-bit unit of a product's depth, included once with UNIT_BF16 0 (one float) and once with 1 (a pair of bf16, which the instruction
 * multiplies and sums into a float). No include guard on purpose; NAME(x) is this copy's name of x. */

#if UNIT_BF16
enum { NAME(UNITS) = 2 }; /* elements in a unit */
typedef ot_bf16 NAME(element);
#else
enum { NAME(UNITS) = 1 };
typedef float NAME(element);
#endif

/* e^x for x <= 0, as exactly as the product that follows deserves */
VEC_INLINE vf NAME(weight)(vf x) {
#if UNIT_BF16
    return vf_exp_coarse(x);
#else
    return vf_exp(x);
#endif
}

/* sum + a * b for one unit of a and LANES units of b */
VEC_INLINE vf NAME(step)(vf sum, const char *a, vf b) {
#if UNIT_BF16
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)b);
#else
    float x;
    memcpy(&x, a, sizeof x);
    return vf_fma(vf_set(x), b, sum);
#endif
}
