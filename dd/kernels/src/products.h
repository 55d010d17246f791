/* The three thin matrix products of training, in tiles that keep their sums in registers.

Every loop's shape follows from the run alone, so the order of additions, and with it every bit, does too.

  panel_product   lanes over the samples of a batch:  out[j][i]  = sum_q w[j][q] panel[q][i]
  row_product     lanes over the columns:             out[i][c]  = sum_q rows[i][q] w[c][q]
  outer_tile      lanes over the columns:             g[j][q]    = sum_i r[j][i] rows[i][q]
*/

#define DEPTH 192       /* rows of a panel that stay in the first-level cache */
#define CHUNK 512       /* columns of a row product at a time */
#define BLOCK 4         /* vectors of a panel's column block */

/* One tile of a panel product: UNITS rows of w, VECTORS vectors of samples. */
INLINE void NAME(panel_tile)(const int units, const int vectors, const REAL *w, int64_t unit_stride,
                             int64_t depth_stride, const REAL *panel, int64_t stride, int64_t depth, REAL *out,
                             int64_t out_stride, int resume) {
    vec sum[8][BLOCK];
    for (int u = 0; u < units; u++)
        for (int v = 0; v < vectors; v++)
            sum[u][v] = resume ? load(out + u * out_stride + v * LANES) : splat(0);
    for (int64_t q = 0; q < depth; q++) {
        if (units < vectors) { /* whichever side is smaller stays in registers: sums and operands fill 16 */
            vec weight[8];
            for (int u = 0; u < units; u++) weight[u] = splat(w[u * unit_stride + q * depth_stride]);
            for (int v = 0; v < vectors; v++) {
                vec x = load(panel + q * stride + v * LANES);
                for (int u = 0; u < units; u++) sum[u][v] += weight[u] * x;
            }
        } else {
            vec x[BLOCK];
            for (int v = 0; v < vectors; v++) x[v] = load(panel + q * stride + v * LANES);
            for (int u = 0; u < units; u++) {
                vec weight = splat(w[u * unit_stride + q * depth_stride]);
                for (int v = 0; v < vectors; v++) sum[u][v] += weight * x[v];
            }
        }
    }
    for (int u = 0; u < units; u++)
        for (int v = 0; v < vectors; v++) store(out + u * out_stride + v * LANES, sum[u][v]);
}

#define PANEL(U, V)                                                                                              \
    NAME(panel_tile)(U, V, w + j * unit_stride + q * depth_stride, unit_stride, depth_stride, base + q * stride, \
                     stride, deep, out + j * out_stride + block * BLOCK * LANES, out_stride, q > 0)
#define PANEL_ROWS(U, V)                               \
    for (; j + U <= units; j += U) PANEL(U, V);        \
    switch (units - j) {                               \
    case 7: PANEL(7, V); break;                        \
    case 6: PANEL(6, V); break;                        \
    case 5: PANEL(5, V); break;                        \
    case 4: PANEL(4, V); break;                        \
    case 3: PANEL(3, V); break;                        \
    case 2: PANEL(2, V); break;                        \
    case 1: PANEL(1, V); break;                        \
    }

/* out[j][i] = sum_q w[j * unit_stride + q * depth_stride] panel[i / BLOCK][q][i % BLOCK].
   `stride` leads from one q to the next, `jump` from one block of BLOCK vectors to the next. */
INLINE void NAME(panel_any)(const REAL *w, int64_t unit_stride, int64_t depth_stride, int64_t units,
                            const REAL *panel, int64_t stride, int64_t jump, int64_t depth, int64_t vectors, REAL *out,
                            int64_t out_stride) {
    for (int64_t block = 0; block * BLOCK < vectors; block++) {
        const REAL *base = panel + block * jump;
        int64_t here = vectors - block * BLOCK;
        for (int64_t q = 0; q < depth; q += DEPTH) {
            int64_t deep = depth - q < DEPTH ? depth - q : DEPTH, j = 0;
            switch (here) {
            case 1: PANEL_ROWS(8, 1) break;
            case 2: PANEL_ROWS(6, 2) break;
            case 3: PANEL_ROWS(3, 3) break;
            default: PANEL_ROWS(3, 4) break;
            }
        }
    }
}

static void NAME(panel_product)(const REAL *w, int64_t unit_stride, int64_t units, const REAL *panel, int64_t stride,
                                int64_t jump, int64_t depth, int64_t vectors, REAL *out, int64_t out_stride) {
    NAME(panel_any)(w, unit_stride, 1, units, panel, stride, jump, depth, vectors, out, out_stride);
}

static void NAME(panel_product_transposed)(const REAL *w, int64_t depth_stride, int64_t units, const REAL *panel,
                                           int64_t stride, int64_t jump, int64_t depth, int64_t vectors, REAL *out,
                                           int64_t out_stride) {
    NAME(panel_any)(w, 1, depth_stride, units, panel, stride, jump, depth, vectors, out, out_stride);
}

/* One tile of a row product; columns are a multiple of LANES. */
INLINE void NAME(row_tile)(const int samples, const int units, const REAL *const *rows, const REAL *w, int64_t ldw,
                           int64_t start, int64_t stop, REAL *out, int64_t row_stride, int64_t unit_stride,
                           int resume) {
    vec sum[8][8];
    const REAL *x[8];
    for (int i = 0; i < samples; i++) x[i] = rows[i];
    for (int i = 0; i < samples; i++)
        for (int c = 0; c < units; c++) sum[i][c] = splat(0);
    for (int64_t q = start; q < stop; q += LANES) {
        vec a[8];
        for (int i = 0; i < samples; i++) a[i] = load(x[i] + q);
        for (int c = 0; c < units; c++) {
            vec b = load(w + c * ldw + q);
            for (int i = 0; i < samples; i++) sum[i][c] += a[i] * b;
        }
    }
    for (int i = 0; i < samples; i++)
        for (int c = 0; c < units; c++) {
            REAL *to = out + i * row_stride + c * unit_stride;
            *to = total(sum[i][c]) + (resume ? *to : 0);
        }
}

#define ROW(S, U)                                                                                                    \
    NAME(row_tile)(S, U, rows + i, w + c * ldw, ldw, start, stop, out + i * row_stride + c * unit_stride, row_stride, \
                   unit_stride, start > 0)
#define ROW_UNITS(S, U)                              \
    for (; i + S <= samples; i += S) ROW(S, U);      \
    for (; i < samples; i++) ROW(1, U)

/* out[i * row_stride + c * unit_stride] = sum_q rows[i][q] w[c * ldw + q] over `columns`, padding included. */
static void NAME(row_product)(const REAL *const *rows, int64_t samples, const REAL *w, int64_t ldw, int64_t units,
                              int64_t columns, REAL *out, int64_t row_stride, int64_t unit_stride) {
    for (int64_t start = 0; start < columns; start += CHUNK) {
        int64_t stop = columns < start + CHUNK ? columns : start + CHUNK;
        for (int64_t c = 0; c < units;) {
            int64_t i = 0, left = units - c, take = left >= 10 || left == 5 ? 5 : left >= 8 || left == 4 ? 4 : left;
            if (left == 6) take = 3;
            if (left == 7) take = 4;
            if (left == 9) take = 5;
            switch (take) {
            case 1: ROW_UNITS(8, 1); break;
            case 2: ROW_UNITS(4, 2); break;
            case 3: ROW_UNITS(3, 3); break;
            case 4: ROW_UNITS(2, 4); break;
            default: ROW_UNITS(2, 5); break;
            }
            c += take;
        }
    }
}

/* One tile of a sum of outer products over samples `from` ... `to` - 1. */
INLINE void NAME(outer_tile)(const int units, const int vectors, const REAL *r, int64_t unit_stride,
                             int64_t sample_stride, const REAL *const *rows, int64_t from, int64_t to, int64_t column,
                             REAL *g, int64_t ldg, int resume) {
    vec sum[8][BLOCK];
    for (int u = 0; u < units; u++)
        for (int v = 0; v < vectors; v++) sum[u][v] = resume ? load(g + u * ldg + v * LANES) : splat(0);
    for (int64_t i = from; i < to; i++) {
        if (units < vectors) {
            vec weight[8];
            for (int u = 0; u < units; u++) weight[u] = splat(r[u * unit_stride + i * sample_stride]);
            for (int v = 0; v < vectors; v++) {
                vec x = load(rows[i] + column + v * LANES);
                for (int u = 0; u < units; u++) sum[u][v] += weight[u] * x;
            }
        } else {
            vec x[BLOCK];
            for (int v = 0; v < vectors; v++) x[v] = load(rows[i] + column + v * LANES);
            for (int u = 0; u < units; u++) {
                vec weight = splat(r[u * unit_stride + i * sample_stride]);
                for (int v = 0; v < vectors; v++) sum[u][v] += weight * x[v];
            }
        }
    }
    for (int u = 0; u < units; u++)
        for (int v = 0; v < vectors; v++) store(g + u * ldg + v * LANES, sum[u][v]);
}
