/* Products of RMT, lanes over samples: maps are [positions][channels] of vectors, weights are single numbers.

A position table says where the tokens of a map lie among its positions, borders of zeros included. A 3x3 convolution
is a product whose depth comes in `rows` pieces, one for each row of the window; 1x1 ones have a single piece. */

typedef struct {
    const vec *x; /* tokens' entries: rows x deep vectors at x[xt[t] * ldx + row * jump] */
    const int32_t *xt;
    int64_t ldx, rows, jump, deep;
    const REAL *w; /* w[output * unit + entry * step], entries counted over all rows */
    int64_t unit, step;
    const REAL *bias; /* or null */
    const vec *add;   /* added at add[at[t] * lda + output], or null */
    const int32_t *at;
    int64_t lda;
    vec *out; /* out[ot[t] * ldo + output] */
    const int32_t *ot;
    int64_t ldo, tokens, outputs;
} NAME(Product);

INLINE void NAME(product_tile)(const int tokens, const int outputs, const NAME(Product) *p, int64_t t, int64_t o) {
    vec sum[8][4];
    const vec *x[8];
    for (int i = 0; i < tokens; i++) {
        x[i] = p->x + p->xt[t + i] * p->ldx;
        for (int j = 0; j < outputs; j++) sum[i][j] = p->bias ? splat(p->bias[o + j]) : splat(0);
    }
    if (p->add)
        for (int i = 0; i < tokens; i++)
            for (int j = 0; j < outputs; j++) sum[i][j] += p->add[p->at[t + i] * p->lda + o + j];
    const REAL *w = p->w + o * p->unit;
    const int64_t unit = p->unit, step = p->step, deep = p->deep, jump = p->jump;
    for (int64_t row = 0; row < p->rows; row++) {
        for (int64_t q = 0; q < deep; q++, w += step) {
            vec weight[4];
            for (int j = 0; j < outputs; j++) weight[j] = splat(w[j * unit]);
            for (int i = 0; i < tokens; i++) {
                vec a = x[i][row * jump + q];
                for (int j = 0; j < outputs; j++) sum[i][j] += a * weight[j];
            }
        }
    }
    for (int i = 0; i < tokens; i++)
        for (int j = 0; j < outputs; j++) p->out[p->ot[t + i] * p->ldo + o + j] = sum[i][j];
}

/* Tiles hold up to twelve sums: three tokens by four outputs where four divides the outputs, else four by three. */
static void NAME(product)(const NAME(Product) *p) {
    int64_t t = 0, o;
    const int64_t tokens = p->tokens, outputs = p->outputs;
    if (outputs % 4 == 0) {
        for (; t + 3 <= tokens; t += 3)
            for (o = 0; o < outputs; o += 4) NAME(product_tile)(3, 4, p, t, o);
        if (t + 2 == tokens)
            for (o = 0; o < outputs; o += 4) NAME(product_tile)(2, 4, p, t, o);
        if (t + 1 == tokens)
            for (o = 0; o < outputs; o += 4) NAME(product_tile)(1, 4, p, t, o);
        return;
    }
    if (outputs == 1)
        for (; t + 8 <= tokens; t += 8) NAME(product_tile)(8, 1, p, t, 0);
    if (outputs == 2)
        for (; t + 5 <= tokens; t += 5) NAME(product_tile)(5, 2, p, t, 0);
    for (; t + 4 <= tokens; t += 4) {
        for (o = 0; o + 3 <= outputs; o += 3) NAME(product_tile)(4, 3, p, t, o);
        if (outputs - o == 2) NAME(product_tile)(4, 2, p, t, o);
        if (outputs - o == 1) NAME(product_tile)(4, 1, p, t, o);
    }
    for (; t < tokens; t++) {
        for (o = 0; o + 3 <= outputs; o += 3) NAME(product_tile)(1, 3, p, t, o);
        if (outputs - o == 2) NAME(product_tile)(1, 2, p, t, o);
        if (outputs - o == 1) NAME(product_tile)(1, 1, p, t, o);
    }
}

/* g[o * unit + row * deep + q] += sum over tokens and lanes of r[rt[t] * ldr + o] x[xt[t] * ldx + row * jump + q] */
typedef struct {
    const vec *r;
    const int32_t *rt;
    int64_t ldr;
    const vec *x;
    const int32_t *xt;
    int64_t ldx, rows, jump, deep, tokens, outputs;
    REAL *g, *bias; /* bias[o] += sums of r; null for none */
    int64_t unit;
} NAME(Outer);

INLINE void NAME(outer_sum)(const int outputs, const int deep, const NAME(Outer) *p, int64_t o, int64_t offset,
                            REAL *g) {
    vec sum[4][4];
    for (int i = 0; i < outputs; i++)
        for (int j = 0; j < deep; j++) sum[i][j] = splat(0);
    const vec *r = p->r + o, *x = p->x + offset;
    for (int64_t t = 0; t < p->tokens; t++) {
        const vec *a = r + p->rt[t] * p->ldr, *b = x + p->xt[t] * p->ldx;
        vec left[4];
        for (int i = 0; i < outputs; i++) left[i] = a[i];
        for (int j = 0; j < deep; j++) {
            vec right = b[j];
            for (int i = 0; i < outputs; i++) sum[i][j] += left[i] * right;
        }
    }
    for (int i = 0; i < outputs; i++)
        for (int j = 0; j < deep; j++) g[i * p->unit + j] += total(sum[i][j]);
}

#define OUTER_DEEP(U)                                                                                     \
    for (; q + 4 <= p->deep; q += 4) NAME(outer_sum)(U, 4, p, o, row * p->jump + q, g + q);               \
    switch (p->deep - q) {                                                                                \
    case 3: NAME(outer_sum)(U, 3, p, o, row * p->jump + q, g + q); break;                                 \
    case 2: NAME(outer_sum)(U, 2, p, o, row * p->jump + q, g + q); break;                                 \
    case 1: NAME(outer_sum)(U, 1, p, o, row * p->jump + q, g + q); break;                                 \
    }

static void NAME(outer)(const NAME(Outer) *p) {
    for (int64_t o = 0; o < p->outputs;) {
        const int64_t left = p->outputs - o, take = left >= 3 && left != 4 ? 3 : left == 4 ? 2 : left;
        for (int64_t row = 0; row < p->rows; row++) {
            REAL *g = p->g + o * p->unit + row * p->deep;
            int64_t q = 0;
            switch (take) {
            case 3: OUTER_DEEP(3) break;
            case 2: OUTER_DEEP(2) break;
            default: OUTER_DEEP(1) break;
            }
        }
        o += take;
    }
    if (p->bias)
        for (int64_t o = 0; o < p->outputs; o++) {
            vec sum = splat(0);
            for (int64_t t = 0; t < p->tokens; t++) sum += p->r[p->rt[t] * p->ldr + o];
            p->bias[o] += total(sum);
        }
}

/* c[i * ci + j] (+)= sum_q a[i * ai + q * aq] b[j * bj + q * bq], all vectors: attention of one line of tokens. */
INLINE void NAME(pair_tile)(const int m, const int n, const vec *a, int64_t ai, int64_t aq, const vec *b, int64_t bj,
                            int64_t bq, int64_t depth, vec *c, int64_t ci, int resume) {
    vec sum[4][3];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) sum[i][j] = resume ? c[i * ci + j] : splat(0);
    for (int64_t q = 0; q < depth; q++) {
        vec right[3];
        for (int j = 0; j < n; j++) right[j] = b[j * bj + q * bq];
        for (int i = 0; i < m; i++) {
            vec left = a[i * ai + q * aq];
            for (int j = 0; j < n; j++) sum[i][j] += left * right[j];
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) c[i * ci + j] = sum[i][j];
}

#define PAIR_ROWS(N)                                                                                              \
    for (i = 0; i + 4 <= m; i += 4)                                                                               \
        NAME(pair_tile)(4, N, a + i * ai, ai, aq, b + j * bj, bj, bq, depth, c + i * ci + j, ci, resume);         \
    for (; i + 2 <= m; i += 2)                                                                                    \
        NAME(pair_tile)(2, N, a + i * ai, ai, aq, b + j * bj, bj, bq, depth, c + i * ci + j, ci, resume);         \
    if (i < m) NAME(pair_tile)(1, N, a + i * ai, ai, aq, b + j * bj, bj, bq, depth, c + i * ci + j, ci, resume);

static void NAME(pairs)(const vec *a, int64_t ai, int64_t aq, int64_t m, const vec *b, int64_t bj, int64_t bq,
                        int64_t n, int64_t depth, vec *c, int64_t ci, int resume) {
    for (int64_t i, j = 0; j < n;) {
        const int64_t left = n - j, take = left > 4 || left == 3 ? 3 : left == 4 ? 2 : left;
        switch (take) {
        case 3: PAIR_ROWS(3) break;
        case 2: PAIR_ROWS(2) break;
        default: PAIR_ROWS(1) break;
        }
        j += take;
    }
}
