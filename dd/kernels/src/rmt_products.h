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

/* Tiles of some tokens x outputs, over outputs `from` ... `to` - 1 as far as whole tiles go, and tokens from `t` on.
   Returns the first token without a tile. */
INLINE int64_t NAME(product_tiles)(const int tokens, const int outputs, const NAME(Product) *p, int64_t t, int64_t from,
                                   int64_t to) {
    const int64_t unit = p->unit, step = p->step, deep = p->deep, jump = p->jump, rows = p->rows, last = p->tokens;
    const REAL *const weights = p->w, *const bias = p->bias;
    const vec *const add = p->add;
    for (; t + tokens <= last; t += tokens) {
        const vec *x[8], *extra[8];
        vec *out[8];
        for (int i = 0; i < tokens; i++) {
            x[i] = p->x + p->xt[t + i] * p->ldx;
            out[i] = p->out + p->ot[t + i] * p->ldo;
            if (add) extra[i] = add + p->at[t + i] * p->lda;
        }
        for (int64_t o = from; o + outputs <= to; o += outputs) {
            vec sum[8][4];
            for (int j = 0; j < outputs; j++) {
                const vec start = bias ? splat(bias[o + j]) : splat(0);
                for (int i = 0; i < tokens; i++) sum[i][j] = add ? start + extra[i][o + j] : start;
            }
            const REAL *w = weights + o * unit;
            for (int64_t row = 0; row < rows; row++)
                for (int64_t q = row * jump; q < row * jump + deep; q++, w += step) {
                    /* whichever side is smaller stays in registers: sums and operands must fit 16 */
                    if (tokens < outputs) {
                        vec a[8];
                        for (int i = 0; i < tokens; i++) a[i] = x[i][q];
                        for (int j = 0; j < outputs; j++) {
                            const vec weight = splat(w[j * unit]);
                            for (int i = 0; i < tokens; i++) sum[i][j] += a[i] * weight;
                        }
                    } else {
                        vec weight[4];
                        for (int j = 0; j < outputs; j++) weight[j] = splat(w[j * unit]);
                        for (int i = 0; i < tokens; i++) {
                            const vec a = x[i][q];
                            for (int j = 0; j < outputs; j++) sum[i][j] += a * weight[j];
                        }
                    }
                }
            for (int i = 0; i < tokens; i++)
                for (int j = 0; j < outputs; j++) out[i][o + j] = sum[i][j];
        }
    }
    return t;
}

/* Tiles hold eight to ten sums, which hide the latency of their additions without spilling: two tokens by four outputs
   where four divides the outputs, else three by three. */
static void NAME(product)(const NAME(Product) *p) {
    const int64_t outputs = p->outputs, thirds = outputs / 3 * 3;
    int64_t t = 0;
    if (outputs % 4 == 0) {
        t = NAME(product_tiles)(2, 4, p, t, 0, outputs);
        NAME(product_tiles)(1, 4, p, t, 0, outputs);
        return;
    }
    t = thirds ? NAME(product_tiles)(3, 3, p, 0, 0, outputs) : 0;
    if (thirds) NAME(product_tiles)(1, 3, p, t, 0, outputs);
    if (outputs - thirds == 2) {
        t = NAME(product_tiles)(5, 2, p, 0, thirds, outputs);
        NAME(product_tiles)(1, 2, p, t, thirds, outputs);
    }
    if (outputs - thirds == 1) {
        t = NAME(product_tiles)(8, 1, p, 0, thirds, outputs);
        NAME(product_tiles)(1, 1, p, t, thirds, outputs);
    }
}

#define OUTER_DEEP 32  /* columns at a time */
#define OUTER_PIECE 512 /* vectors of x that stay in the first-level cache */

/* g[o * unit + row * deep + q] += sum over tokens and lanes of r[rt[t] * ldr + o] x[xt[t] * ldx + row * jump + q] */
typedef struct {
    const vec *r;
    const int32_t *rt;
    int64_t ldr;
    const vec *x;
    const int32_t *xt;
    int64_t ldx, rows, jump, deep, tokens, outputs;
    vec *sums; /* scratch, [outputs, OUTER_DEEP] */
    REAL *g, *bias; /* bias[o] += sums of r */
    int64_t unit;
} NAME(Outer);

INLINE void NAME(outer_part)(const int outputs, const int deep, const NAME(Outer) *p, const vec *r, const vec *x,
                             int64_t from, int64_t to, vec *sums) {
    vec sum[3][4];
    for (int i = 0; i < outputs; i++)
        for (int j = 0; j < deep; j++) sum[i][j] = from ? sums[i * OUTER_DEEP + j] : splat(0);
    const int32_t *rt = p->rt, *xt = p->xt;
    const int64_t ldr = p->ldr, ldx = p->ldx;
    for (int64_t t = from; t < to; t++) {
        const vec *a = r + rt[t] * ldr, *b = x + xt[t] * ldx;
        vec left[3];
        for (int i = 0; i < outputs; i++) left[i] = a[i];
        for (int j = 0; j < deep; j++) {
            const vec right = b[j];
            for (int i = 0; i < outputs; i++) sum[i][j] += left[i] * right;
        }
    }
    for (int i = 0; i < outputs; i++)
        for (int j = 0; j < deep; j++) sums[i * OUTER_DEEP + j] = sum[i][j];
}

#define OUTER_ROW(U)                                                                                  \
    for (; q + 4 <= deep; q += 4) NAME(outer_part)(U, 4, p, p->r + o, x + q, from, to, sums + q);     \
    switch (deep - q) {                                                                               \
    case 3: NAME(outer_part)(U, 3, p, p->r + o, x + q, from, to, sums + q); break;                    \
    case 2: NAME(outer_part)(U, 2, p, p->r + o, x + q, from, to, sums + q); break;                    \
    case 1: NAME(outer_part)(U, 1, p, p->r + o, x + q, from, to, sums + q); break;                    \
    }

INLINE void NAME(outer_bias)(const int outputs, const NAME(Outer) *p, int64_t o) {
    vec sum[8];
    for (int i = 0; i < outputs; i++) sum[i] = splat(0);
    for (int64_t t = 0; t < p->tokens; t++)
        for (int i = 0; i < outputs; i++) sum[i] += p->r[p->rt[t] * p->ldr + o + i];
    for (int i = 0; i < outputs; i++) p->bias[o + i] += total(sum[i]);
}

static void NAME(outer)(const NAME(Outer) *p) {
    for (int64_t row = 0; row < p->rows; row++)
        for (int64_t start = 0; start < p->deep; start += OUTER_DEEP) {
            const int64_t deep = p->deep - start < OUTER_DEEP ? p->deep - start : OUTER_DEEP;
            const int64_t piece = OUTER_PIECE / deep;
            const vec *x = p->x + row * p->jump + start;
            for (int64_t from = 0; from < p->tokens; from += piece) {
                const int64_t to = from + piece < p->tokens ? from + piece : p->tokens;
                for (int64_t o = 0; o < p->outputs;) {
                    const int64_t left = p->outputs - o, take = left >= 3 && left != 4 ? 3 : left == 4 ? 2 : left;
                    vec *sums = p->sums + o * OUTER_DEEP;
                    int64_t q = 0;
                    switch (take) {
                    case 3: OUTER_ROW(3) break;
                    case 2: OUTER_ROW(2) break;
                    default: OUTER_ROW(1) break;
                    }
                    o += take;
                }
            }
            for (int64_t o = 0; o < p->outputs; o++) {
                REAL *g = p->g + o * p->unit + row * p->deep + start;
                for (int64_t q = 0; q < deep; q++) g[q] += total(p->sums[o * OUTER_DEEP + q]);
            }
        }
    int64_t o = 0;
    for (; o + 8 <= p->outputs; o += 8) NAME(outer_bias)(8, p, o);
    for (; o + 4 <= p->outputs; o += 4) NAME(outer_bias)(4, p, o);
    for (; o < p->outputs; o++) NAME(outer_bias)(1, p, o);
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
