/* Layers of RMT on [tokens][channels] of vectors, lanes over samples; several maps may follow each other. */

/* Depthwise convolution of maps with a border of `size / 2` zeros into dense ones. */
typedef struct {
    const vec *x;
    int64_t maps, height, width, channels;
    const REAL *w, *bias; /* [channels, size * size]; bias may be null */
    const vec *add, *times; /* dense, may be null: out = times * (convolution + bias + add) */
    vec *out;
} NAME(Depthwise);

INLINE void NAME(depthwise_tile)(const int size, const int n, const NAME(Depthwise) *p, const vec *x, int64_t at) {
    const int64_t c = p->channels, line = (p->width + size - 1) * c;
    const REAL *w = p->w, *const bias = p->bias;
    const vec *const add = p->add ? p->add + at : 0, *const times = p->times ? p->times + at : 0;
    vec *const out = p->out + at;
    for (int64_t k = 0; k < c; k++, w += size * size) {
        vec sum[4];
        for (int i = 0; i < n; i++) sum[i] = bias ? splat(bias[k]) : splat(0);
        if (add)
            for (int i = 0; i < n; i++) sum[i] += add[i * c + k];
        for (int a = 0; a < size; a++) {
            vec weight[5];
            for (int b = 0; b < size; b++) weight[b] = splat(w[a * size + b]);
            for (int b = 0; b < n + size - 1; b++) {
                const vec in = x[a * line + b * c + k];
                for (int i = 0; i < n; i++)
                    if (b - i >= 0 && b - i < size) sum[i] += weight[b - i] * in;
            }
        }
        if (times)
            for (int i = 0; i < n; i++) sum[i] *= times[i * c + k];
        for (int i = 0; i < n; i++) out[i * c + k] = sum[i];
    }
}

INLINE void NAME(depthwise)(const int size, const NAME(Depthwise) *p) {
    const int64_t c = p->channels, side = p->width + size - 1, map = side * (p->height + size - 1);
    for (int64_t m = 0; m < p->maps; m++)
        for (int64_t y = 0; y < p->height; y++) {
            const vec *x = p->x + (m * map + y * side) * c;
            const int64_t at = (m * p->height + y) * p->width * c;
            int64_t i = 0;
            for (; i + 4 <= p->width; i += 4) NAME(depthwise_tile)(size, 4, p, x + i * c, at + i * c);
            switch (p->width - i) {
            case 3: NAME(depthwise_tile)(size, 3, p, x + i * c, at + i * c); break;
            case 2: NAME(depthwise_tile)(size, 2, p, x + i * c, at + i * c); break;
            case 1: NAME(depthwise_tile)(size, 1, p, x + i * c, at + i * c); break;
            }
        }
}
static void NAME(depthwise3)(const NAME(Depthwise) *p) { NAME(depthwise)(3, p); }
static void NAME(depthwise5)(const NAME(Depthwise) *p) { NAME(depthwise)(5, p); }

/* Gradient of a depthwise convolution in its weights. */
typedef struct {
    const vec *r; /* gradient of the outputs, rows of a map `r_row` and maps `r_map` vectors apart */
    int64_t r_row, r_map;
    const vec *x; /* the input with its border */
    int64_t maps, height, width, channels;
    vec *sums; /* scratch, [channels, size * size + 1] */
    REAL *g, *bias;
} NAME(DepthwiseOuter);

INLINE void NAME(depthwise_outer_tile)(const int size, const int n, const NAME(DepthwiseOuter) *p, const vec *r,
                                       const vec *x) {
    const int64_t c = p->channels, line = (p->width + size - 1) * c, count = size * size + 1;
    for (int64_t k = 0; k < c; k++) {
        vec left[4], *sums = p->sums + k * count, bias = sums[count - 1];
        for (int i = 0; i < n; i++) bias += left[i] = r[i * c + k];
        sums[count - 1] = bias;
        for (int a = 0; a < size; a++) {
            vec sum[5];
            for (int b = 0; b < size; b++) sum[b] = sums[a * size + b];
            for (int b = 0; b < n + size - 1; b++) {
                const vec in = x[a * line + b * c + k];
                for (int i = 0; i < n; i++)
                    if (b - i >= 0 && b - i < size) sum[b - i] += left[i] * in;
            }
            for (int b = 0; b < size; b++) sums[a * size + b] = sum[b];
        }
    }
}

INLINE void NAME(depthwise_outer)(const int size, const NAME(DepthwiseOuter) *p) {
    const int64_t c = p->channels, side = p->width + size - 1, map = side * (p->height + size - 1);
    const int64_t count = size * size + 1;
    for (int64_t k = 0; k < c * count; k++) p->sums[k] = splat(0);
    for (int64_t m = 0; m < p->maps; m++)
        for (int64_t y = 0; y < p->height; y++) {
            const vec *x = p->x + (m * map + y * side) * c, *r = p->r + m * p->r_map + y * p->r_row;
            int64_t i = 0;
            for (; i + 4 <= p->width; i += 4) NAME(depthwise_outer_tile)(size, 4, p, r + i * c, x + i * c);
            switch (p->width - i) {
            case 3: NAME(depthwise_outer_tile)(size, 3, p, r + i * c, x + i * c); break;
            case 2: NAME(depthwise_outer_tile)(size, 2, p, r + i * c, x + i * c); break;
            case 1: NAME(depthwise_outer_tile)(size, 1, p, r + i * c, x + i * c); break;
            }
        }
    for (int64_t k = 0; k < c; k++) {
        for (int64_t q = 0; q < count - 1; q++) p->g[k * (count - 1) + q] += total(p->sums[k * count + q]);
        p->bias[k] += total(p->sums[k * count + count - 1]);
    }
}
static void NAME(depthwise_outer3)(const NAME(DepthwiseOuter) *p) { NAME(depthwise_outer)(3, p); }
static void NAME(depthwise_outer5)(const NAME(DepthwiseOuter) *p) { NAME(depthwise_outer)(5, p); }

/* Zeros on the border of maps of [height + 2 border][width + 2 border][channels]. */
static void NAME(clear_border)(vec *x, int64_t maps, int64_t height, int64_t width, int64_t border, int64_t channels) {
    const int64_t side = width + 2 * border, tall = height + 2 * border, ends = border * side * channels;
    for (int64_t m = 0; m < maps; m++, x += side * tall * channels) {
        memset(x, 0, (size_t)ends * sizeof(vec));
        memset(x + side * tall * channels - ends, 0, (size_t)ends * sizeof(vec));
        for (int64_t y = border; y < border + height; y++) {
            memset(x + y * side * channels, 0, (size_t)(border * channels) * sizeof(vec));
            memset(x + ((y + 1) * side - border) * channels, 0, (size_t)(border * channels) * sizeof(vec));
        }
    }
}

/* Dense maps into ones with a border of two. */
static void NAME(with_border)(const vec *x, vec *out, int64_t maps, int64_t height, int64_t width, int64_t channels) {
    const int64_t side = (width + 4) * channels, row = width * channels;
    NAME(clear_border)(out, maps, height, width, 2, channels);
    for (int64_t m = 0; m < maps; m++)
        for (int64_t y = 0; y < height; y++, x += row)
            memcpy(out + (m * (height + 4) + y + 2) * side + 2 * channels, x, (size_t)row * sizeof(vec));
}

/* (x - mean) / sqrt(var + eps) over the channels of each token; x and out may be the same. */
static void NAME(layer_norm)(const vec *x, int64_t tokens, int64_t channels, REAL eps, vec *out, vec *inverse) {
    const REAL share = (REAL)(1.0 / (double)channels);
    for (int64_t t = 0; t < tokens; t++, x += channels, out += channels) {
        vec mean = splat(0), var = splat(0);
        for (int64_t k = 0; k < channels; k++) mean += x[k];
        mean *= share;
        for (int64_t k = 0; k < channels; k++) var += (x[k] - mean) * (x[k] - mean);
        vec scale = 1 / root(var * share + eps);
        inverse[t] = scale;
        for (int64_t k = 0; k < channels; k++) out[k] = (x[k] - mean) * scale;
    }
}

/* Gradient through it: of normalised values into those of x, plus `add` (dense, may be null), to positions `ot`.
   With `gain`, `grad` is that of gain * normalised. */
static void NAME(layer_norm_backward)(const vec *grad, const vec *normalised, const vec *inverse, const REAL *gain,
                                      int64_t tokens, int64_t channels, const vec *add, vec *out, const int32_t *ot) {
    const REAL share = (REAL)(1.0 / (double)channels);
    for (int64_t t = 0; t < tokens; t++, grad += channels, normalised += channels) {
        vec mean = splat(0), slope = splat(0), *to = out + ot[t] * channels;
        for (int64_t k = 0; k < channels; k++) {
            vec d = gain ? grad[k] * gain[k] : grad[k];
            mean += d;
            slope += d * normalised[k];
        }
        mean *= share;
        slope *= share;
        for (int64_t k = 0; k < channels; k++) {
            vec d = gain ? grad[k] * gain[k] : grad[k];
            d = inverse[t] * (d - mean - normalised[k] * slope);
            to[k] = add ? add[t * channels + k] + d : d;
        }
    }
}

/* Rotate pairs of channels of each head in place; `turn` is 1, or -1 for the way back. The table holds the cosines and
   sines of a map's tokens, [tokens, e / 2, 2]. */
static void NAME(rotate)(vec *x, const REAL *table, int64_t maps, int64_t tokens, int64_t heads, int64_t e, REAL turn) {
    const int64_t half = e / 2;
    for (int64_t m = 0; m < maps; m++)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t h = 0; h < heads; h++, x += e) {
                const REAL *angle = table + t * half * 2;
                for (int64_t k = 0; k < half; k++, angle += 2) {
                    vec a = x[2 * k], b = x[2 * k + 1], s = splat(angle[1] * turn);
                    x[2 * k] = a * angle[0] - b * s;
                    x[2 * k + 1] = b * angle[0] + a * s;
                }
            }
}

/* Attention of one line of n tokens, `stride` vectors apart: weights [n][n] and out = weights v. */
static void NAME(attend)(int64_t n, int64_t e, int64_t stride, const vec *q, const vec *k, const vec *v,
                         const REAL *decay, vec *weights, vec *out) {
    NAME(pairs)(q, stride, 1, n, k, stride, 1, n, e, weights, n, 0);
    for (int64_t i = 0; i < n; i++) {
        vec *row = weights + i * n, top = row[0] + decay[i * n], sum = splat(0);
        for (int64_t j = 0; j < n; j++) {
            row[j] += decay[i * n + j];
            top = NAME(blend)(row[j] > top, row[j], top);
        }
        for (int64_t j = 0; j < n; j++) sum += row[j] = NAME(exponential)(row[j] - top);
        sum = 1 / sum;
        for (int64_t j = 0; j < n; j++) row[j] *= sum;
    }
    NAME(pairs)(weights, n, 1, n, v, 1, stride, e, n, out, stride, 0);
}

/* Gradients of one line; `resume` adds to dq and dk, `resume_v` to dv; scratch [n][n]. */
static void NAME(attend_backward)(int64_t n, int64_t e, int64_t stride, const vec *q, const vec *k, const vec *v,
                                  const vec *weights, const vec *grad, vec *dq, vec *dk, vec *dv, int resume,
                                  int resume_v, vec *scratch) {
    NAME(pairs)(grad, stride, 1, n, v, stride, 1, n, e, scratch, n, 0);
    NAME(pairs)(weights, 1, n, n, grad, 1, stride, e, n, dv, stride, resume_v);
    for (int64_t i = 0; i < n; i++) {
        const vec *w = weights + i * n;
        vec *d = scratch + i * n, sum = splat(0);
        for (int64_t j = 0; j < n; j++) sum += w[j] * d[j];
        for (int64_t j = 0; j < n; j++) d[j] = w[j] * (d[j] - sum);
    }
    NAME(pairs)(scratch, n, 1, n, k, 1, stride, e, n, dq, stride, resume);
    NAME(pairs)(scratch, 1, n, n, q, 1, stride, e, n, dk, stride, resume);
}
