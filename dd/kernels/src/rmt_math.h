/* Exponential, Gaussian distribution function and the activations of RMT on vectors.

Single precision has polynomials of its own, fitted in the least-maximum sense (errors about 2e-7); double precision
calls the C library lane by lane. */

INLINE vec NAME(blend)(NAME(mask) where, vec x, vec y) {
    return (vec)(((NAME(mask))x & where) | ((NAME(mask))y & ~where));
}

#if SINGLE
/* e^x = 2^n e^r with |r| <= log(2) / 2; NaN stays NaN, the result is never denormal. */
INLINE vec NAME(exponential)(vec x) {
    const vec shift = splat(12582912.0f); /* 1.5 * 2^23: the sum's last bits are the rounded integer */
    x = NAME(blend)(x < -87.3f, splat(-87.3f), NAME(blend)(x > 88.3f, splat(88.3f), x));
    vec t = x * 1.44269504f + shift, n = t - shift;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f; /* log(2) in two parts */
    vec p = splat(0.0013836742f);
    p = p * r + 0.0083748987f;
    p = p * r + 0.0416682325f;
    p = p * r + 0.1666641980f;
    p = p * r + 0.4999999106f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    NAME(mask) power = ((NAME(mask))t - (NAME(mask))shift + 127) << 23;
    return p * (vec)power;
}
/* Distribution function of the standard normal distribution and its density, at once:
   Phi(-|x|) = e^(-x^2 / 2) h(|x|), h a polynomial in s = 1 / (1 + 0.3 |x|). */
INLINE vec NAME(normal)(vec x, vec *density) {
    vec u = (vec)((NAME(mask))x & 0x7FFFFFFF);
    vec e = NAME(exponential)(u * u * -0.5f);
    vec s = 1.0f / (1.0f + 0.3f * u);
    vec p = splat(-0.0206128322f);
    p = p * s + 0.1123757958f;
    p = p * s - 0.2280675471f;
    p = p * s + 0.1915817410f;
    p = p * s - 0.0792473778f;
    p = p * s + 0.0960578471f;
    p = p * s + 0.0784255788f;
    p = p * s + 0.1102273241f;
    p = p * s + 0.1195728406f;
    p = p * s + 0.1196866333f;
    p = p * s * e;
    *density = e * 0.3989422804f;
    return NAME(blend)(x < 0, p, 1.0f - p);
}
#else
INLINE vec NAME(exponential)(vec x) {
    for (int k = 0; k < LANES; k++) x[k] = EXP(x[k]);
    return x;
}
INLINE vec NAME(normal)(vec x, vec *density) {
    vec out = x;
    for (int k = 0; k < LANES; k++) {
        out[k] = 0.5 * erfc(-x[k] * 0.70710678118654752440);
        (*density)[k] = 0.39894228040143267794 * EXP(-0.5 * x[k] * x[k]);
    }
    return out;
}
#endif

/* x Phi(x) and its derivative. */
INLINE vec NAME(gelu)(vec x, vec *slope) {
    vec density, phi = NAME(normal)(x, &density);
    *slope = phi + x * density;
    return x * phi;
}
/* x / (1 + e^-x) and its derivative. */
INLINE vec NAME(silu)(vec x, vec *slope) {
    const NAME(mask) negative = x < 0;
    vec e = NAME(exponential)(NAME(blend)(negative, x, -x));
    vec near = 1 / (1 + e), far = e * near; /* of |x| and -|x| */
    vec s = NAME(blend)(negative, far, near);
    *slope = s * (1 + x * NAME(blend)(negative, near, far));
    return x * s;
}

/* The functions above on `count` numbers, a multiple of LANES: 0 exponential, 1 normal, 2 gelu, 3 silu. */
void NAME(dd_rmt_function)(int64_t which, const REAL *x, int64_t count, REAL *out, REAL *slope) {
    for (int64_t k = 0; k < count; k += LANES) {
        vec d = splat(0), v = load(x + k);
        switch (which) {
        case 0: v = d = NAME(exponential)(v); break;
        case 1: v = NAME(normal)(v, &d); break;
        case 2: v = NAME(gelu)(v, &d); break;
        default: v = NAME(silu)(v, &d); break;
        }
        store(out + k, v);
        store(slope + k, d);
    }
}
