/* Vectors of the machine's width, by the compiler's vector extensions (GCC, Clang). REAL is float or double. */
#if defined(VECTOR_BYTES) /* chosen at compilation, to test one machine's code on another */
#elif defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#define LANES ((int64_t)(VECTOR_BYTES / sizeof(REAL)))
#define INLINE static inline __attribute__((always_inline))

typedef REAL NAME(vec) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL NAME(loose) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef WORD NAME(mask) __attribute__((vector_size(VECTOR_BYTES)));
#define vec NAME(vec)

INLINE vec NAME(load)(const REAL *p) { return *(const NAME(loose) *)p; }
INLINE void NAME(store)(REAL *p, vec x) { *(NAME(loose) *)p = x; }
INLINE vec NAME(splat)(REAL x) { return x - (vec){0}; }
INLINE REAL NAME(total)(vec x) {
#if VECTOR_BYTES == 64 /* halves are added until one lane is left */
    typedef REAL half __attribute__((vector_size(32), may_alias));
    half h = *(half *)&x + *((half *)&x + 1);
#elif VECTOR_BYTES == 32
    vec h = x;
#endif
#if VECTOR_BYTES > 16
    typedef REAL quarter __attribute__((vector_size(16), may_alias));
    quarter q = *(quarter *)&h + *((quarter *)&h + 1);
#else
    vec q = x;
#endif
    return sizeof(REAL) == 8 ? q[0] + q[1] : (q[0] + q[2 % (16 / sizeof(REAL))]) + (q[1] + q[3 % (16 / sizeof(REAL))]);
}
INLINE vec NAME(root)(vec x) {
    for (int k = 0; k < LANES; k++) x[k] = SQRT(x[k]);
    return x;
}
INLINE vec NAME(select)(NAME(mask) where, vec x) { return (vec)(where & (NAME(mask))x); }
INLINE vec NAME(sign)(vec x) {
    return NAME(select)(x > 0, NAME(splat)(1)) - NAME(select)(x < 0, NAME(splat)(1));
}
/* Lanes of two vectors in turn, of their lower or of their upper halves. */
#undef LOWER
#undef UPPER
#if VECTOR_BYTES / (SINGLE ? 4 : 8) == 16
#define LOWER 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define UPPER 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VECTOR_BYTES / (SINGLE ? 4 : 8) == 8
#define LOWER 0, 8, 1, 9, 2, 10, 3, 11
#define UPPER 4, 12, 5, 13, 6, 14, 7, 15
#elif VECTOR_BYTES / (SINGLE ? 4 : 8) == 4
#define LOWER 0, 4, 1, 5
#define UPPER 2, 6, 3, 7
#else
#define LOWER 0, 2
#define UPPER 1, 3
#endif
/* A square of LANES vectors; every round halves the distance at which rows meet. */
INLINE void NAME(transpose)(vec *x) {
    vec y[16];
    for (int64_t round = 1; round < LANES; round *= 2) {
        for (int64_t k = 0; k < LANES / 2; k++) {
            y[2 * k] = __builtin_shufflevector(x[k], x[k + LANES / 2], LOWER);
            y[2 * k + 1] = __builtin_shufflevector(x[k], x[k + LANES / 2], UPPER);
        }
        for (int64_t k = 0; k < LANES; k++) x[k] = y[k];
    }
}
INLINE int64_t NAME(padded)(int64_t n) { return (n + LANES - 1) / LANES * LANES; }
#define load NAME(load)
#define store NAME(store)
#define splat NAME(splat)
#define total NAME(total)
#define root NAME(root)
#define select NAME(select)
#define sign NAME(sign)
#define transpose NAME(transpose)
#define padded NAME(padded)
