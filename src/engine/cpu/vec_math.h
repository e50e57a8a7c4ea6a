/* exp, log, the normal distribution and the logistic function on vectors: polynomials fitted for this file (weighted least maximum of the relative
 * error), about 1 to 2 units in the last place. Included after vec.h. */
#ifndef OT_ENGINE_CPU_VEC_MATH_H
#define OT_ENGINE_CPU_VEC_MATH_H

#include "engine/cpu/vec.h"

/* p * 2^n for whole n in [-150, 128], by two exact steps so that subnormal results are right. */
VEC_INLINE vf vf_ldexp(vf p, vf n) {
#if OT_ISA >= OT_ISA_AVX512
    return _mm512_scalef_ps(p, n);
#else
    vi k = __builtin_convertvector(n, vi), a = k >> 1, b = k - a;
    return p * (vf)((a + 127) << 23) * (vf)((b + 127) << 23);
#endif
}

/* x = n ln 2 + r, e^r = 1 + r + r^2 Q(r). Zero below -104, infinite above 88.73. */
VEC_INLINE vf vf_exp(vf x) {
    const vf magic = vf_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    x = vf_min(vf_set(89.0f), vf_max(vf_set(-104.0f), x));
    vf n = vf_fma(x, vf_set(1.44269504f), magic) - magic;
    vf r = vf_fnma(n, vf_set(-2.12194440e-4f), vf_fnma(n, vf_set(0.693359375f), x));
    vf q = vf_fma(vf_set(1.381461316e-3f), r, vf_set(8.368709825e-3f));
    q = vf_fma(q, r, vf_set(4.166838736e-2f));
    q = vf_fma(q, r, vf_set(1.666652069e-1f));
    q = vf_fma(q, r, vf_set(4.999999345e-1f));
    return vf_ldexp(vf_fma(q, r * r, r) + vf_set(1.0f), n);
}

/* e^x for x <= 0, to 3e-6: enough for weights that are rounded to bf16. */
VEC_INLINE vf vf_exp_coarse(vf x) {
    const vf magic = vf_set(12582912.0f);
    x = vf_max(vf_set(-104.0f), x);
    vf n = vf_fma(x, vf_set(1.44269504f), magic) - magic;
    vf r = vf_fnma(n, vf_set(0.693147181f), x);
    vf q = vf_fma(vf_set(4.151384746e-2f), r, vf_set(1.678747333e-1f));
    q = vf_fma(q, r, vf_set(5.000301364e-1f));
    q = vf_fma(q, r, vf_set(9.999668366e-1f));
    return vf_ldexp(vf_fma(q, r, vf_set(1.0f)), n);
}

/* Natural logarithm of a positive normal number. */
VEC_INLINE vf vf_log(vf x) {
    vi bits = (vi)x, e = (bits - 0x3F3504F3) >> 23; /* mantissa in [sqrt(1/2), sqrt(2)) */
    vf f = (vf)(bits - (e << 23)) - vf_set(1.0f), n = vf_from_int(e);
    vf g = vf_fma(vf_set(-7.634498635e-2f), f, vf_set(1.276157789e-1f));
    g = vf_fma(g, f, vf_set(-1.316018199e-1f));
    g = vf_fma(g, f, vf_set(1.420175786e-1f));
    g = vf_fma(g, f, vf_set(-1.662335737e-1f));
    g = vf_fma(g, f, vf_set(2.000122688e-1f));
    g = vf_fma(g, f, vf_set(-2.500082103e-1f));
    g = vf_fma(g, f, vf_set(3.333333171e-1f));
    vf z = f * f;
    vf low = vf_fma(n, vf_set(-2.12194440e-4f), vf_fma(g * z, f, vf_set(-0.5f) * z));
    return vf_fma(n, vf_set(0.693359375f), f + low);
}

VEC_INLINE vf vf_sigmoid(vf x) { return vf_set(1.0f) / (vf_set(1.0f) + vf_exp(-x)); }

/* The normal distribution's cdf(x) = erfc(-x / sqrt 2) / 2, and *gauss = e^(-x^2 / 2). With a = |x| / sqrt 2: below 1 from
 * erf a = a + a E(a^2), above from erfc a = e^(-a^2) t Q(t), t = 1 / (1 + a / 2). */
VEC_INLINE vf vf_normal_cdf(vf x, vf *gauss) {
    vf a = vf_min(vf_set(13.0f), vf_abs(x) * vf_set(0.707106781f)), z = a * a, half = vf_set(0.5f);
    vf e = vf_fma(vf_set(7.853861186e-5f), z, vf_set(-8.010193574e-4f));
    e = vf_fma(e, z, vf_set(5.188327680e-3f));
    e = vf_fma(e, z, vf_set(-2.685381193e-2f));
    e = vf_fma(e, z, vf_set(1.128358515e-1f));
    e = vf_fma(e, z, vf_set(-3.761262582e-1f));
    e = vf_fma(e, z, vf_set(1.283791657e-1f));
    vf t = vf_set(1.0f) / vf_fma(a, half, vf_set(1.0f));
    vf q = vf_fma(vf_set(9.421592852e-2f), t, vf_set(-2.289677030e-1f));
    q = vf_fma(q, t, vf_set(8.648525461e-2f));
    q = vf_fma(q, t, vf_set(5.787678112e-2f));
    q = vf_fma(q, t, vf_set(1.801559022e-1f));
    q = vf_fma(q, t, vf_set(2.466206297e-1f));
    q = vf_fma(q, t, vf_set(2.820845410e-1f));
    q = vf_fma(q, t, vf_set(2.820960241e-1f));
    *gauss = vf_exp(x * x * vf_set(-0.5f));
    vf lower = vf_less(a, vf_set(1.0f), vf_fnma(half, vf_fma(a, e, a), half), half * *gauss * t * q); /* cdf(-|x|) */
    return vf_less(x, vf_zero(), lower, vf_set(1.0f) - lower);
}

#endif
