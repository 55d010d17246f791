/* Gradient and outputs of a network of RMT's width family; see dd/kernels/rmt.py.

Blocks of LANES samples go through the network one or a few at a time; only at a BatchNorm all must have arrived. So a
pass is a sequence of steps, each from one norm to the next. */

typedef struct {
    const NAME(Plan) *plan;
    const REAL *theta;
    int64_t samples, blocks, together; /* `together`: blocks that NORMS and, with keep, SAVED hold */
    int keep;
    vec *base[KINDS];
    int64_t held[KINDS], first[KINDS];
    double *sums[RMT_NORMS]; /* [2, channels] */
    REAL *mean[RMT_NORMS], *inverse[RMT_NORMS], *scale[RMT_NORMS], *shift[RMT_NORMS], *slope[RMT_NORMS];
    REAL *packed, *grad;
    vec *scratch;
} NAME(Call);

static NAME(Call) NAME(call)(const NAME(Plan) *p, void *memory, const REAL *theta, int64_t samples, int64_t blocks,
                             int keep) {
    NAME(Call) c = {.plan = p, .theta = theta, .samples = samples, .blocks = blocks, .keep = keep};
    vec *at = (vec *)(((uintptr_t)memory + 63) / 64 * 64);
    double *sums = (double *)at;
    REAL *numbers = (REAL *)(sums + 2 * p->steps * p->widest);
    for (int64_t k = 0; k < p->steps; k++) {
        c.sums[k] = sums + 2 * k * p->widest;
        c.mean[k] = numbers;
        c.inverse[k] = numbers + p->widest;
        c.scale[k] = numbers + 2 * p->widest;
        c.shift[k] = numbers + 3 * p->widest;
        c.slope[k] = numbers + 4 * p->widest; /* two of them */
        numbers += 6 * p->widest;
    }
    c.packed = numbers;
    c.grad = c.packed + p->packed_all;
    at += 64 + padded(p->packed_all + p->packed + 10 * p->steps * p->widest) / LANES;
    c.scratch = at;
    at += p->sums;
    c.base[NORMS] = at;
    c.held[NORMS] = blocks;
    at += (keep ? p->units[NORMS] : 2 * p->largest_z) * blocks;
    c.base[SAVED] = at;
    c.held[SAVED] = keep && blocks > p->maps ? blocks : p->maps;
    at += p->units[SAVED] * c.held[SAVED];
    c.base[SHORT] = at;
    c.held[SHORT] = p->maps;
    return c;
}

INLINE vec *NAME(at)(const NAME(Call) *c, RmtField f, int64_t block) {
    return c->base[f.kind] + f.at * c->held[f.kind] + (block - c->first[f.kind]) * f.size;
}
/* Inputs of a norm; without a way back only those of two norms are alive. */
INLINE vec *NAME(z_at)(const NAME(Call) *c, int64_t step, int64_t block) {
    RmtField f = c->plan->step[step].z;
    if (!c->keep) f.at = (step & 1) * c->plan->largest_z;
    return NAME(at)(c, f, block);
}
/* Lanes of a block that hold samples. */
INLINE NAME(mask) NAME(filled)(const NAME(Call) *c, int64_t block) {
    NAME(mask) out;
    for (int k = 0; k < LANES; k++) out[k] = block * LANES + k < c->samples ? -1 : 0;
    return out;
}

/* ---- parameters ---- */

static void NAME(pack_folded)(const REAL *w, const REAL *b, const REAL *gain, const REAL *shift, double scale,
                              int64_t outputs, int64_t inputs, REAL *to, REAL *bias) {
    for (int64_t o = 0; o < outputs; o++) {
        double sum = b[o];
        for (int64_t i = 0; i < inputs; i++) {
            if (shift) sum += (double)w[o * inputs + i] * shift[i];
            to[o * inputs + i] = (REAL)(scale * w[o * inputs + i] * (gain ? gain[i] : 1));
        }
        bias[o] = (REAL)(scale * sum);
    }
}
/* Adds to the gradients of gain and shift. */
static void NAME(unpack_folded)(const REAL *g, const REAL *g_bias, const REAL *w, const REAL *gain, const REAL *shift,
                                REAL scale, int64_t outputs, int64_t inputs, REAL *to, REAL *to_bias, REAL *to_gain,
                                REAL *to_shift) {
    for (int64_t o = 0; o < outputs; o++) {
        to_bias[o] = scale * g_bias[o];
        for (int64_t i = 0; i < inputs; i++) {
            const int64_t k = o * inputs + i;
            to[k] = scale * (gain ? g[k] * gain[i] + g_bias[o] * shift[i] : g[k]);
            if (gain) {
                to_gain[i] += scale * g[k] * w[k];
                to_shift[i] += scale * g_bias[o] * w[k];
            }
        }
    }
}

/* Depthwise kernels: with the residual in the centre, and turned round for the way back. */
static void NAME(pack_depthwise)(const REAL *w, int64_t channels, int64_t taps, REAL centre, REAL *to, REAL *back) {
    for (int64_t k = 0; k < channels; k++)
        for (int64_t q = 0; q < taps; q++) {
            const REAL x = w[k * taps + q] + (q == taps / 2 ? centre : 0);
            to[k * taps + q] = x;
            back[k * taps + taps - 1 - q] = x;
        }
}

static double NAME(key_scale)(const RmtShape *s, int64_t stage) { return 1 / sqrt((double)NAME(head_size)(s, stage)); }

static void NAME(pack)(const NAME(Call) *c) {
    const NAME(Plan) *p = c->plan;
    const RmtShape *s = &p->shape;
    const REAL *theta = c->theta;
    REAL *to = c->packed;
    for (int64_t stage = 0, n = 0; stage < s->stages; stage++)
        for (int64_t j = 0; j < s->depths[stage]; j++, n++) {
            const RmtBlock *b = &p->block[n];
            const int64_t ch = s->dims[stage], f = s->hidden[stage];
            const REAL *norm[4] = {0};
            for (int k = 0; k < 4; k++) {
                const int64_t at = b->at[(k < 2 ? NORM1_W : NORM2_W - 2) + k];
                if (s->norm != RMT_NONE) norm[k] = theta + at;
            }
#define FOLDED(W, K, SCALE, OUT, IN)                                                                              \
    NAME(pack_folded)(theta + b->at[W], theta + b->at[W + 1], norm[K], norm[K + 1], SCALE, OUT, IN, to + b->packed[W], \
                      to + b->packed[W + 1])
#define PLAIN(W, OUT, IN)                                                                                  \
    NAME(pack_folded)(theta + b->at[W], theta + b->at[W + 1], 0, 0, 1, OUT, IN, to + b->packed[W], to + b->packed[W + 1])
            FOLDED(Q_W, 0, 1, ch, ch);
            FOLDED(K_W, 0, NAME(key_scale)(s, stage), ch, ch);
            FOLDED(V_W, 0, 1, ch, ch);
            PLAIN(OUT_W, ch, ch);
            FOLDED(FC1_W, 2, 1, f, ch);
            PLAIN(FC2_W, ch, f);
            NAME(pack_depthwise)(theta + b->at[POS_W], ch, 9, 1, to + b->packed[POS_W], to + b->pos_back);
            NAME(pack_depthwise)(theta + b->at[LEPE_W], ch, 25, 0, to + b->packed[LEPE_W], to + b->lepe_back);
            NAME(pack_depthwise)(theta + b->at[DW_W], f, 9, 1, to + b->packed[DW_W], to + b->dw_back);
            memcpy(to + b->packed[POS_B], theta + b->at[POS_B], (size_t)ch * sizeof(REAL));
            memcpy(to + b->packed[LEPE_B], theta + b->at[LEPE_B], (size_t)ch * sizeof(REAL));
            memcpy(to + b->packed[DW_B], theta + b->at[DW_B], (size_t)f * sizeof(REAL));
        }
    for (int64_t k = 0; k < p->steps; k++) {
        const RmtStep *t = &p->step[k];
        const REAL *w = theta + t->w;
        memcpy(to + t->packed_b, theta + t->b, (size_t)t->outputs * sizeof(REAL));
        if (k == p->steps - 1) {
            memcpy(to + t->packed_w, w, (size_t)(t->inputs * t->outputs) * sizeof(REAL));
            break;
        }
        for (int64_t o = 0; o < t->outputs; o++)
            for (int64_t i = 0; i < t->inputs; i++)
                for (int64_t q = 0; q < 9; q++)
                    to[t->packed_w + (o * 9 + q) * t->inputs + i] = w[(o * t->inputs + i) * 9 + q];
        if (!c->keep || !k) continue;
        for (int64_t m = 0; m < t->parities; m++) {
            const RmtParity *a = &t->parity[m];
            REAL *back = to + a->weights;
            for (int64_t i = 0; i < t->inputs; i++)
                for (int64_t y = 0; y < a->rows; y++)
                    for (int64_t x = 0; x < a->columns; x++)
                        for (int64_t o = 0; o < t->outputs; o++)
                            *back++ = w[(o * t->inputs + i) * 9 + a->taps_y[y] * 3 + a->taps_x[x]];
        }
    }
}

static void NAME(unpack)(const NAME(Call) *c, REAL *out) {
    const NAME(Plan) *p = c->plan;
    const RmtShape *s = &p->shape;
    const REAL *theta = c->theta, *g = c->grad;
    for (int64_t stage = 0, n = 0; stage < s->stages; stage++)
        for (int64_t j = 0; j < s->depths[stage]; j++, n++) {
            const RmtBlock *b = &p->block[n];
            const int64_t ch = s->dims[stage], f = s->hidden[stage];
            const REAL *norm[4] = {0};
            REAL *to_norm[4] = {0};
            if (s->norm != RMT_NONE)
                for (int k = 0; k < 4; k++) {
                    const int64_t at = b->at[(k < 2 ? NORM1_W : NORM2_W - 2) + k];
                    norm[k] = theta + at;
                    to_norm[k] = out + at;
                    for (int64_t i = 0; i < ch; i++) to_norm[k][i] = 0;
                }
#define UNFOLDED(W, K, SCALE, OUT, IN)                                                                                \
    NAME(unpack_folded)(g + b->packed[W], g + b->packed[W + 1], theta + b->at[W], norm[K], norm[K + 1], (REAL)SCALE,   \
                        OUT, IN, out + b->at[W], out + b->at[W + 1], to_norm[K], to_norm[K + 1])
#define COPIED(W, SIZE) memcpy(out + b->at[W], g + b->packed[W], (size_t)(SIZE) * sizeof(REAL))
            UNFOLDED(Q_W, 0, 1, ch, ch);
            UNFOLDED(K_W, 0, NAME(key_scale)(s, stage), ch, ch);
            UNFOLDED(V_W, 0, 1, ch, ch);
            UNFOLDED(FC1_W, 2, 1, f, ch);
            COPIED(POS_W, 9 * ch);
            COPIED(POS_B, ch);
            COPIED(OUT_W, ch * ch);
            COPIED(OUT_B, ch);
            COPIED(LEPE_W, 25 * ch);
            COPIED(LEPE_B, ch);
            COPIED(DW_W, 9 * f);
            COPIED(DW_B, f);
            COPIED(FC2_W, ch * f);
            COPIED(FC2_B, ch);
        }
    for (int64_t k = 0; k < p->steps; k++) {
        const RmtStep *t = &p->step[k];
        memcpy(out + t->b, g + t->packed_b, (size_t)t->outputs * sizeof(REAL));
        for (int64_t o = 0; o < t->outputs; o++) {
            if (t->shift >= 0) out[t->shift + o] = (REAL)c->sums[k][o];
            if (t->gain >= 0) out[t->gain + o] = (REAL)c->sums[k][t->outputs + o];
        }
        if (k == p->steps - 1) {
            memcpy(out + t->w, g + t->packed_w, (size_t)(t->inputs * t->outputs) * sizeof(REAL));
            break;
        }
        for (int64_t o = 0; o < t->outputs; o++)
            for (int64_t i = 0; i < t->inputs; i++)
                for (int64_t q = 0; q < 9; q++)
                    out[t->w + (o * t->inputs + i) * 9 + q] = g[t->packed_w + (o * 9 + q) * t->inputs + i];
    }
}

/* ---- norms between the steps ---- */

/* Scale and shift of a norm from mean and inverse deviation. */
static void NAME(norm_affine)(const NAME(Call) *c, int64_t step) {
    const RmtStep *t = &c->plan->step[step];
    for (int64_t k = 0; k < t->outputs; k++) {
        c->scale[step][k] = c->inverse[step][k] * (t->gain >= 0 ? c->theta[t->gain + k] : 1);
        c->shift[step][k] = t->shift >= 0 ? c->theta[t->shift + k] : 0;
    }
}

/* BatchNorm's statistics of all samples, or the running ones; other norms take each token as it is. */
static void NAME(norm_statistics)(const NAME(Call) *c, int64_t step, REAL *running, int running_only) {
    const NAME(Plan) *p = c->plan;
    const RmtStep *t = &p->step[step];
    const int64_t channels = t->outputs, tokens = p->grid[t->to].tokens;
    REAL *mean = c->mean[step], *inverse = c->inverse[step];
    for (int64_t k = 0; k < channels; k++) {
        mean[k] = 0;
        inverse[k] = 1;
    }
    if (p->shape.norm == RMT_BATCH && running_only) {
        for (int64_t k = 0; k < channels; k++) {
            mean[k] = running[t->mean + k];
            inverse[k] = (REAL)(1 / sqrt((double)running[t->var + k] + p->shape.eps));
        }
    } else if (p->shape.norm == RMT_BATCH) {
        const double count = (double)c->samples * (double)tokens;
        double *sums = c->sums[step];
        for (int moment = 0; moment < 2; moment++) {
            for (int64_t k = 0; k < channels; k++) sums[k] = 0;
            for (int64_t block = 0; block < c->blocks; block++) {
                const vec *z = NAME(z_at)(c, step, block);
                const NAME(mask) filled = NAME(filled)(c, block);
                vec *part = c->scratch;
                for (int64_t k = 0; k < channels; k++) part[k] = splat(0);
                for (int64_t i = 0; i < tokens; i++, z += channels)
                    for (int64_t k = 0; k < channels; k++) {
                        vec d = z[k] - mean[k];
                        part[k] += moment ? d * d : d;
                    }
                for (int64_t k = 0; k < channels; k++) sums[k] += (double)total(select(filled, part[k]));
            }
            for (int64_t k = 0; k < channels && !moment; k++) mean[k] = (REAL)(sums[k] / count);
        }
        for (int64_t k = 0; k < channels; k++) {
            const double var = sums[k] / count;
            inverse[k] = (REAL)(1 / sqrt(var + p->shape.eps));
            if (!running) continue;
            const double m = p->shape.momentum, unbiased = var * count / (count - 1);
            running[t->mean + k] = (REAL)((1 - m) * (double)running[t->mean + k] + m * (double)mean[k]);
            running[t->var + k] = (REAL)((1 - m) * (double)running[t->var + k] + m * unbiased);
        }
    }
    NAME(norm_affine)(c, step);
}

/* Normalised values of some blocks into positions `ot`; with `gelu` its derivative is kept in `slope`. */
static void NAME(norm_forward)(const NAME(Call) *c, int64_t step, int64_t block, int64_t maps, int gelu, vec *out,
                               const int32_t *ot) {
    const NAME(Plan) *p = c->plan;
    const RmtStep *t = &p->step[step];
    const int64_t channels = t->outputs, tokens = p->grid[t->to].tokens * maps;
    const REAL *mean = c->mean[step], *scale = c->scale[step], *shift = c->shift[step];
    vec *z = NAME(z_at)(c, step, block), *slope = NAME(at)(c, t->slope, block);
    if (p->shape.norm == RMT_LAYER)
        NAME(layer_norm)(z, tokens, channels, (REAL)p->shape.eps, z, NAME(at)(c, t->inverse, block));
    for (int64_t i = 0; i < tokens; i++, z += channels, slope += channels) {
        vec *to = out + ot[i] * channels;
        if (gelu)
            for (int64_t k = 0; k < channels; k++)
                to[k] = NAME(gelu)((z[k] - mean[k]) * scale[k] + shift[k], slope + k);
        else
            for (int64_t k = 0; k < channels; k++) to[k] = (z[k] - mean[k]) * scale[k] + shift[k];
    }
}

/* Sums that a norm's gradient needs: of the gradient, held in `slope`, and of its product with normalised values. */
static void NAME(norm_sums)(const NAME(Call) *c, int64_t step, int64_t block, int64_t maps) {
    const NAME(Plan) *p = c->plan;
    const RmtStep *t = &p->step[step];
    const int64_t channels = t->outputs, tokens = p->grid[t->to].tokens * maps;
    const REAL *mean = c->mean[step], *inverse = c->inverse[step];
    const vec *z = NAME(z_at)(c, step, block), *grad = NAME(at)(c, t->slope, block);
    vec *a = c->scratch, *b = a + channels;
    for (int64_t k = 0; k < 2 * channels; k++) a[k] = splat(0);
    for (int64_t i = 0; i < tokens; i++, z += channels, grad += channels)
        for (int64_t k = 0; k < channels; k++) {
            a[k] += grad[k];
            b[k] += grad[k] * (z[k] - mean[k]);
        }
    for (int64_t k = 0; k < channels; k++) {
        c->sums[step][k] += (double)total(a[k]);
        c->sums[step][channels + k] += (double)total(b[k]) * (double)inverse[k];
    }
}

/* Gradient in a norm's inputs, of some blocks, to positions `ot`. */
static void NAME(norm_backward)(const NAME(Call) *c, int64_t step, int64_t block, int64_t maps, vec *out,
                                const int32_t *ot) {
    const NAME(Plan) *p = c->plan;
    const RmtStep *t = &p->step[step];
    const int64_t channels = t->outputs, each = p->grid[t->to].tokens;
    const vec *z = NAME(z_at)(c, step, block), *grad = NAME(at)(c, t->slope, block);
    if (p->shape.norm == RMT_LAYER) {
        NAME(layer_norm_backward)(grad, z, NAME(at)(c, t->inverse, block), t->gain >= 0 ? c->theta + t->gain : 0,
                                  each * maps, channels, 0, out, ot);
        return;
    }
    if (p->shape.norm == RMT_NONE) {
        for (int64_t i = 0; i < each * maps; i++)
            memcpy(out + ot[i] * channels, grad + i * channels, (size_t)channels * sizeof(vec));
        return;
    }
    const REAL *mean = c->mean[step], *scale = c->scale[step], *level = c->slope[step], *slope = level + p->widest;
    for (int64_t m = 0; m < maps; m++) {
        const NAME(mask) filled = NAME(filled)(c, block + m);
        for (int64_t i = 0; i < each; i++, z += channels, grad += channels) {
            vec *to = out + *ot++ * channels;
            for (int64_t k = 0; k < channels; k++)
                to[k] = select(filled, scale[k] * (grad[k] - level[k] - (z[k] - mean[k]) * slope[k]));
        }
    }
}

/* ---- blocks ---- */

/* Attention of some maps: backward where `grad` is given. Matrices lie map by map, head by head, line by line. */
static void NAME(attention)(const NAME(Call) *c, const RmtBlock *b, int64_t stage, int64_t block, int64_t maps,
                            const vec *grad) {
    const NAME(Plan) *p = c->plan;
    const RmtShape *s = &p->shape;
    const RmtGrid *g = &p->grid[4 + stage];
    const int64_t ch = s->dims[stage], e = NAME(head_size)(s, stage), n = g->tokens;
    const int64_t height = g->height, width = g->width;
#define IN(FIELD) NAME(at)(c, FIELD, block)
    vec *q = IN(b->q), *k = IN(b->k), *v = IN(b->v), *mixed = IN(b->mixed), *first = IN(b->first);
    vec *dq = IN(p->scratch[stage].q), *dk = IN(p->scratch[stage].k), *dv = IN(p->scratch[stage].v);
    vec *weights = c->base[SHORT] + p->scratch[stage].weights.at * c->held[SHORT];
    if (s->whole[stage]) {
        for (int64_t m = 0; m < maps; m++)
            for (int64_t h = 0; h < s->heads[stage]; h++, first += n * n) {
                const int64_t at = m * n * ch + h * e;
                if (grad)
                    NAME(attend_backward)(n, e, ch, q + at, k + at, v + at, first, grad + at, dq + at, dk + at,
                                          dv + at, 0, 1, weights);
                else
                    NAME(attend)(n, e, ch, q + at, k + at, v + at, p->whole[stage] + h * n * n, first, mixed + at);
            }
        return;
    }
    vec *rows = IN(b->rows), *middle = IN(b->middle), *d_middle = IN(p->scratch[stage].middle);
    for (int pass = 0; pass < 2; pass++) {
        const int down = grad ? !pass : pass; /* rows first, on the way back columns first */
        const int64_t lines = down ? width : height, length = down ? height : width;
        const int64_t stride = down ? width * ch : ch, next = down ? ch : width * ch;
        for (int64_t m = 0; m < maps; m++)
            for (int64_t h = 0; h < s->heads[stage]; h++)
                for (int64_t i = 0; i < lines; i++) {
                    const int64_t at = m * n * ch + h * e + i * next;
                    const int64_t matrix = ((m * s->heads[stage] + h) * lines + i) * length * length;
                    if (!grad && !down)
                        NAME(attend)(length, e, stride, q + at, k + at, v + at, p->row[stage] + h * length * length,
                                     first + matrix, middle + at);
                    else if (!grad)
                        NAME(attend)(length, e, stride, q + at, k + at, middle + at,
                                     p->column[stage] + h * length * length, rows + matrix, mixed + at);
                    else if (down)
                        NAME(attend_backward)(length, e, stride, q + at, k + at, middle + at, rows + matrix,
                                              grad + at, dq + at, dk + at, d_middle + at, 0, 0, weights);
                    else
                        NAME(attend_backward)(length, e, stride, q + at, k + at, v + at, first + matrix,
                                              d_middle + at, dq + at, dk + at, dv + at, 1, 1, weights);
                }
    }
}

/* 1x1 convolution; `transposed` takes gradients of outputs to gradients of inputs. */
static void NAME(pointwise)(const REAL *w, const REAL *bias, int64_t outputs, int64_t inputs, int transposed,
                            const vec *x, const int32_t *xt, int64_t tokens, const vec *add, const int32_t *at,
                            vec *out, const int32_t *ot) {
    NAME(Product) a = {.x = x, .xt = xt, .ldx = transposed ? outputs : inputs, .rows = 1, .w = w, .bias = bias,
                       .deep = transposed ? outputs : inputs, .unit = transposed ? 1 : inputs,
                       .step = transposed ? inputs : 1, .add = add, .at = at, .lda = transposed ? inputs : outputs,
                       .out = out, .ot = ot, .ldo = transposed ? inputs : outputs, .tokens = tokens,
                       .outputs = transposed ? inputs : outputs};
    NAME(product)(&a);
}

static void NAME(pointwise_outer)(const vec *r, const int32_t *rt, const vec *x, const int32_t *xt, int64_t tokens,
                                  int64_t outputs, int64_t inputs, vec *sums, REAL *g, REAL *bias) {
    NAME(Outer) a = {.r = r, .rt = rt, .ldr = outputs, .x = x, .xt = xt, .ldx = inputs, .rows = 1, .deep = inputs,
                     .tokens = tokens, .outputs = outputs, .sums = sums, .g = g, .bias = bias, .unit = inputs};
    NAME(outer)(&a);
}

/* One block, from its bordered input to bordered `out`. */
static void NAME(block_forward)(const NAME(Call) *c, const RmtBlock *b, int64_t stage, int64_t block, int64_t maps,
                                vec *out) {
    const NAME(Plan) *p = c->plan;
    const RmtShape *s = &p->shape;
    const RmtGrid *g = &p->grid[4 + stage];
    const int64_t ch = s->dims[stage], f = s->hidden[stage], tokens = g->tokens * maps, h = s->heads[stage];
    const int64_t height = g->height, width = g->width, e = NAME(head_size)(s, stage);
    const REAL *w = c->packed;
    vec *x = IN(p->scratch[stage].x), *normal = IN(b->normal1), *v_border = IN(p->scratch[stage].v_border);
    vec *slope = IN(b->slope), *u = IN(b->u);
    NAME(Depthwise) pos = {.x = IN(b->x), .maps = maps, .height = height, .width = width, .channels = ch,
                           .w = w + b->packed[POS_W], .bias = w + b->packed[POS_B], .out = x};
    NAME(depthwise3)(&pos);
    if (s->norm == RMT_NONE) memcpy(normal, x, (size_t)(tokens * ch) * sizeof(vec));
    else NAME(layer_norm)(x, tokens, ch, (REAL)1e-6, normal, IN(b->inverse1));
#define TO(W, OUT, IN_, FROM, WHERE) \
    NAME(pointwise)(w + b->packed[W], w + b->packed[W + 1], OUT, IN_, 0, FROM, g->dense, tokens, 0, 0, WHERE, g->dense)
    TO(Q_W, ch, ch, normal, IN(b->q));
    TO(K_W, ch, ch, normal, IN(b->k));
    TO(V_W, ch, ch, normal, IN(b->v));
    if (s->rotary) {
        NAME(rotate)(IN(b->q), p->rotary[stage], maps, g->tokens, h, e, 1);
        NAME(rotate)(IN(b->k), p->rotary[stage], maps, g->tokens, h, e, 1);
    }
    NAME(attention)(c, b, stage, block, maps, 0);
    NAME(with_border)(IN(b->v), v_border, maps, height, width, ch);
    NAME(Depthwise) lepe = {.x = v_border, .maps = maps, .height = height, .width = width, .channels = ch,
                            .w = w + b->packed[LEPE_W], .bias = w + b->packed[LEPE_B], .add = IN(b->mixed),
                            .out = IN(b->mixed)};
    NAME(depthwise5)(&lepe);
    NAME(pointwise)(w + b->packed[OUT_W], w + b->packed[OUT_B], ch, ch, 0, IN(b->mixed), g->dense, tokens, x, g->dense,
                    x, g->dense);
    normal = IN(b->normal2);
    if (s->norm == RMT_NONE) memcpy(normal, x, (size_t)(tokens * ch) * sizeof(vec));
    else NAME(layer_norm)(x, tokens, ch, (REAL)1e-6, normal, IN(b->inverse2));
    TO(FC1_W, f, ch, normal, slope);
    NAME(clear_border)(u, maps, height, width, 1, f);
    for (int64_t t = 0; t < tokens; t++) {
        vec *to = u + g->border[t] * f, *from = slope + t * f;
        for (int64_t k = 0; k < f; k++) to[k] = NAME(gelu)(from[k], from + k);
    }
    NAME(Depthwise) dw = {.x = u, .maps = maps, .height = height, .width = width, .channels = f,
                          .w = w + b->packed[DW_W], .bias = w + b->packed[DW_B], .out = IN(b->w)};
    NAME(depthwise3)(&dw);
    NAME(clear_border)(out, maps, height, width, 1, ch);
    NAME(pointwise)(w + b->packed[FC2_W], w + b->packed[FC2_B], ch, f, 0, IN(b->w), g->dense, tokens, x, g->dense, out,
                    g->border);
}

/* `grad`, dense, is the gradient of the outputs and becomes that of the inputs. */
static void NAME(block_backward)(const NAME(Call) *c, const RmtBlock *b, int64_t stage, int64_t block, int64_t maps,
                                 vec *grad) {
    const NAME(Plan) *p = c->plan;
    const RmtShape *s = &p->shape;
    const RmtGrid *g = &p->grid[4 + stage];
    const int64_t ch = s->dims[stage], f = s->hidden[stage], tokens = g->tokens * maps, h = s->heads[stage];
    const int64_t height = g->height, width = g->width, e = NAME(head_size)(s, stage);
    const REAL *w = c->packed;
    REAL *to = c->grad;
    vec *hidden = IN(p->scratch[stage].hidden), *hidden_grad = IN(p->scratch[stage].hidden_grad);
    vec *normal_grad = IN(p->scratch[stage].normal_grad), *mixed = IN(p->scratch[stage].mixed);
    vec *border = IN(p->scratch[stage].mixed_border), *x_grad = IN(p->scratch[stage].x_grad);
    vec *dq = IN(p->scratch[stage].q), *dk = IN(p->scratch[stage].k), *dv = IN(p->scratch[stage].v);
#define BACK(W, OUT, IN_, R, X)                                                                                   \
    NAME(pointwise_outer)(R, g->dense, X, g->dense, tokens, OUT, IN_, c->scratch, to + b->packed[W], \
                          to + b->packed[W + 1])
#define FROM(W, OUT, IN_, R, ADD, WHERE, TABLE) \
    NAME(pointwise)(w + b->packed[W], 0, OUT, IN_, 1, R, g->dense, tokens, ADD, g->dense, WHERE, TABLE)
    BACK(FC2_W, ch, f, grad, IN(b->w));
    NAME(clear_border)(hidden, maps, height, width, 1, f);
    FROM(FC2_W, ch, f, grad, 0, hidden, g->border);
    NAME(DepthwiseOuter) dw = {.r = hidden + g->border[0] * f, .r_row = (width + 2) * f, .r_map = g->bordered * f,
                               .x = IN(b->u), .maps = maps, .height = height, .width = width, .channels = f,
                               .sums = c->scratch, .g = to + b->packed[DW_W], .bias = to + b->packed[DW_B]};
    NAME(depthwise_outer3)(&dw);
    NAME(Depthwise) dw_back = {.x = hidden, .maps = maps, .height = height, .width = width, .channels = f,
                               .w = w + b->dw_back, .times = IN(b->slope), .out = hidden_grad};
    NAME(depthwise3)(&dw_back);
    BACK(FC1_W, f, ch, hidden_grad, IN(b->normal2));
    if (s->norm == RMT_NONE) FROM(FC1_W, f, ch, hidden_grad, grad, grad, g->dense);
    else {
        FROM(FC1_W, f, ch, hidden_grad, 0, normal_grad, g->dense);
        NAME(layer_norm_backward)(normal_grad, IN(b->normal2), IN(b->inverse2), 0, tokens, ch, grad, grad, g->dense);
    }
    BACK(OUT_W, ch, ch, grad, IN(b->mixed));
    FROM(OUT_W, ch, ch, grad, 0, mixed, g->dense);
    NAME(with_border)(IN(b->v), border, maps, height, width, ch);
    NAME(DepthwiseOuter) lepe = {.r = mixed, .r_row = width * ch, .r_map = g->tokens * ch, .x = border, .maps = maps,
                                 .height = height, .width = width, .channels = ch, .sums = c->scratch,
                                 .g = to + b->packed[LEPE_W], .bias = to + b->packed[LEPE_B]};
    NAME(depthwise_outer5)(&lepe);
    NAME(with_border)(mixed, border, maps, height, width, ch);
    NAME(Depthwise) lepe_back = {.x = border, .maps = maps, .height = height, .width = width, .channels = ch,
                                 .w = w + b->lepe_back, .out = dv};
    NAME(depthwise5)(&lepe_back);
    NAME(attention)(c, b, stage, block, maps, mixed);
    if (s->rotary) {
        NAME(rotate)(dq, p->rotary[stage], maps, g->tokens, h, e, -1);
        NAME(rotate)(dk, p->rotary[stage], maps, g->tokens, h, e, -1);
    }
    BACK(Q_W, ch, ch, dq, IN(b->normal1));
    BACK(K_W, ch, ch, dk, IN(b->normal1));
    BACK(V_W, ch, ch, dv, IN(b->normal1));
    const int32_t *table = g->dense;
    vec *where = normal_grad;
    FROM(Q_W, ch, ch, dq, 0, where, table);
    FROM(K_W, ch, ch, dk, where, where, table);
    NAME(clear_border)(x_grad, maps, height, width, 1, ch);
    FROM(V_W, ch, ch, dv, where, where, table);
    if (s->norm == RMT_NONE) {
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t k = 0; k < ch; k++) x_grad[g->border[t] * ch + k] = grad[t * ch + k] + where[t * ch + k];
    } else
        NAME(layer_norm_backward)(where, IN(b->normal1), IN(b->inverse1), 0, tokens, ch, grad, x_grad, g->border);
    NAME(DepthwiseOuter) pos = {.r = x_grad + g->border[0] * ch, .r_row = (width + 2) * ch, .r_map = g->bordered * ch,
                                .x = IN(b->x), .maps = maps, .height = height, .width = width, .channels = ch,
                                .sums = c->scratch, .g = to + b->packed[POS_W], .bias = to + b->packed[POS_B]};
    NAME(depthwise_outer3)(&pos);
    NAME(Depthwise) pos_back = {.x = x_grad, .maps = maps, .height = height, .width = width, .channels = ch,
                                .w = w + b->pos_back, .out = grad};
    NAME(depthwise3)(&pos_back);
}

/* ---- steps ---- */

/* Samples that a call takes: rows order[first], order[first + 1], ..., or first, first + 1, ... where order is null. */
typedef struct {
    const REAL *x, *y;
    const int64_t *order;
    int64_t first;
} NAME(Rows);

/* Row of a lane; lanes without a sample repeat the last one, so that their numbers stay ordinary. */
INLINE int64_t NAME(row_of)(const NAME(Call) *c, const NAME(Rows) *rows, int64_t i) {
    const int64_t k = rows->first + (i < c->samples ? i : c->samples - 1);
    return rows->order ? rows->order[k] : k;
}

static void NAME(read_images)(const NAME(Call) *c, const NAME(Rows) *rows, int64_t block, int64_t maps, vec *out) {
    const NAME(Plan) *p = c->plan;
    const RmtGrid *g = &p->grid[0];
    const int64_t channels = p->shape.channels;
    NAME(clear_border)(out, maps, g->height, g->width, 1, channels);
    for (int64_t m = 0; m < maps; m++)
        for (int64_t lane = 0; lane < LANES; lane++) {
            const REAL *x = rows->x + NAME(row_of)(c, rows, (block + m) * LANES + lane) * channels * g->tokens;
            for (int64_t k = 0; k < channels; k++)
                for (int64_t t = 0; t < g->tokens; t++)
                    ((REAL *)(out + g->border[m * g->tokens + t] * channels + k))[lane] = *x++;
        }
}

static void NAME(step_forward)(NAME(Call) *c, const NAME(Rows) *rows, int64_t step, int64_t block, int64_t maps) {
    const NAME(Plan) *p = c->plan;
    const RmtStep *t = &p->step[step];
    const RmtGrid *g = &p->grid[t->from];
    const int64_t stage = step - 4;
    const RmtBlock *b = p->block;
    for (int64_t k = 0; k < stage; k++) b += p->shape.depths[k];
    vec *in = NAME(at)(c, t->in, block), *x = stage >= 0 ? NAME(at)(c, b->x, block) : in;
    if (step) {
        NAME(clear_border)(x, maps, g->height, g->width, 1, t->inputs);
        NAME(norm_forward)(c, step - 1, block, maps, step < 4, x, g->border);
    } else
        NAME(read_images)(c, rows, block, maps, x);
    for (int64_t j = 0; stage >= 0 && j < p->shape.depths[stage]; j++)
        NAME(block_forward)(c, b + j, stage, block, maps,
                            j + 1 < p->shape.depths[stage] ? NAME(at)(c, b[j + 1].x, block) : in);
    const int last = step == p->steps - 1;
    NAME(Product) a = {.x = in, .xt = last ? g->border : t->window, .ldx = t->inputs, .rows = last ? 1 : 3,
                       .jump = (g->width + 2) * t->inputs, .deep = t->inputs * (last ? 1 : 3), .step = 1,
                       .unit = t->inputs * (last ? 1 : 9), .w = c->packed + t->packed_w,
                       .bias = c->packed + t->packed_b, .out = NAME(z_at)(c, step, block),
                       .ot = p->grid[t->to].dense, .ldo = t->outputs, .tokens = p->grid[t->to].tokens * maps,
                       .outputs = t->outputs};
    NAME(product)(&a);
}

static void NAME(step_backward)(NAME(Call) *c, int64_t step, int64_t block, int64_t maps) {
    const NAME(Plan) *p = c->plan;
    const RmtStep *t = &p->step[step];
    const RmtGrid *g = &p->grid[t->from], *to = &p->grid[t->to];
    const int64_t stage = step - 4, tokens = to->tokens * maps;
    const int last = step == p->steps - 1;
    vec *in = NAME(at)(c, t->in, block), *z_grad = NAME(at)(c, t->z_grad, block);
    vec *x_grad = NAME(at)(c, t->x_grad, block);
    if (!last) NAME(clear_border)(z_grad, maps, to->height, to->width, 1, t->outputs);
    NAME(norm_backward)(c, step, block, maps, z_grad, last ? to->dense : to->border);
    NAME(Outer) weights = {.r = z_grad, .rt = last ? to->dense : to->border, .ldr = t->outputs, .x = in,
                           .xt = last ? g->border : t->window, .ldx = t->inputs, .rows = last ? 1 : 3,
                           .jump = (g->width + 2) * t->inputs, .deep = t->inputs * (last ? 1 : 3), .tokens = tokens,
                           .outputs = t->outputs, .sums = c->scratch, .g = c->grad + t->packed_w, .bias = c->grad + t->packed_b,
                           .unit = t->inputs * (last ? 1 : 9)};
    NAME(outer)(&weights);
    if (!step) return;
    if (last)
        NAME(pointwise)(c->packed + t->packed_w, 0, t->outputs, t->inputs, 1, z_grad, to->dense, tokens, 0, 0, x_grad,
                        g->dense);
    for (int64_t k = 0; k < t->parities; k++) {
        const RmtParity *a = &t->parity[k];
        NAME(Product) back = {.x = z_grad, .xt = a->in, .ldx = t->outputs, .rows = a->rows,
                              .jump = (to->width + 2) * t->outputs, .deep = a->columns * t->outputs, .step = 1,
                              .unit = a->rows * a->columns * t->outputs, .w = c->packed + a->weights, .out = x_grad,
                              .ot = a->out, .ldo = t->inputs, .tokens = a->tokens * maps, .outputs = t->inputs};
        NAME(product)(&back);
    }
    if (stage >= 0) {
        const RmtBlock *b = p->block;
        for (int64_t k = 0; k < stage; k++) b += p->shape.depths[k];
        for (int64_t j = p->shape.depths[stage] - 1; j >= 0; j--)
            NAME(block_backward)(c, b + j, stage, block, maps, x_grad);
    }
    const int64_t count = g->tokens * maps * t->inputs;
    vec *slope = NAME(at)(c, p->step[step - 1].slope, block);
    for (int64_t k = 0; k < count; k++) slope[k] = step < 4 ? slope[k] * x_grad[k] : x_grad[k];
    NAME(norm_sums)(c, step - 1, block, maps);
}

/* Features of one block, [projection]; with a way back SiLU's derivative is left in `slope`. */
static void NAME(head_features)(const NAME(Call) *c, int64_t block, vec *features) {
    const NAME(Plan) *p = c->plan;
    const int64_t step = p->steps - 1;
    const RmtStep *t = &p->step[step];
    const RmtGrid *g = &p->grid[t->to];
    vec *slope = NAME(at)(c, t->slope, block);
    const REAL share = (REAL)(1.0 / (double)g->tokens);
    NAME(norm_forward)(c, step, block, 1, 0, slope, g->dense);
    for (int64_t k = 0; k < t->outputs; k++) features[k] = splat(0);
    for (int64_t i = 0; i < g->tokens; i++)
        for (int64_t k = 0; k < t->outputs; k++) {
            vec *z = slope + i * t->outputs + k;
            features[k] += NAME(silu)(*z, z);
        }
    for (int64_t k = 0; k < t->outputs; k++) features[k] *= share;
}

/* Outputs of one block from its features. */
INLINE vec NAME(head_output)(const NAME(Call) *c, int64_t output, const vec *features) {
    const int64_t n = c->plan->shape.projection;
    const REAL *w = c->theta + c->plan->readout + output * (n + 1);
    vec sum = splat(w[n]);
    for (int64_t k = 0; k < n; k++) sum += features[k] * w[k];
    return sum;
}

/* Loss of one block's samples and the way back to the gradient of the last norm's outputs; adds to that of the
   read-out. */
static double NAME(head_backward)(const NAME(Call) *c, const NAME(Rows) *rows, int64_t block, int cross_entropy,
                                  REAL *readout) {
    const NAME(Plan) *p = c->plan;
    const int64_t step = p->steps - 1, n = p->shape.projection, classes = p->shape.classes;
    const RmtGrid *g = &p->grid[p->step[step].to];
    const NAME(mask) filled = NAME(filled)(c, block);
    vec *features = NAME(at)(c, p->features, block), *slope = NAME(at)(c, p->step[step].slope, block);
    vec *out = c->scratch, *grad = out + 2 * classes, loss = splat(0), top, sum = splat(0);
    const double scale = cross_entropy ? 1.0 / (double)c->samples : 2.0 / ((double)c->samples * (double)classes);
    NAME(head_features)(c, block, features);
    for (int64_t o = 0; o < classes; o++) {
        out[o] = NAME(head_output)(c, o, features);
        for (int lane = 0; lane < LANES; lane++)
            out[classes + o][lane] = rows->y[NAME(row_of)(c, rows, block * LANES + lane) * classes + o];
        top = o ? NAME(blend)(out[o] > top, out[o], top) : out[0];
    }
    if (cross_entropy) {
        for (int64_t o = 0; o < classes; o++) {
            loss -= (out[o] - top) * out[classes + o];
            sum += out[o] = NAME(exponential)(out[o] - top);
        }
        vec share = splat(0);
        for (int64_t o = 0; o < classes; o++) share += out[classes + o];
        for (int lane = 0; lane < LANES; lane++) loss[lane] += share[lane] * (REAL)log((double)sum[lane]);
        for (int64_t o = 0; o < classes; o++) out[o] = out[o] / sum - out[classes + o];
    } else
        for (int64_t o = 0; o < classes; o++) {
            out[o] -= out[classes + o];
            loss += out[o] * out[o];
        }
    for (int64_t o = 0; o < classes; o++) out[o] = select(filled, out[o] * (REAL)scale);
    for (int64_t k = 0; k < n; k++) grad[k] = splat(0);
    for (int64_t o = 0; o < classes; o++) {
        const REAL *w = c->theta + p->readout + o * (n + 1);
        REAL *to = readout + o * (n + 1);
        for (int64_t k = 0; k < n; k++) {
            grad[k] += out[o] * w[k];
            to[k] += total(out[o] * features[k]);
        }
        to[n] += total(out[o]);
    }
    for (int64_t k = 0; k < n; k++) grad[k] *= (REAL)(1.0 / (double)g->tokens);
    for (int64_t i = 0; i < g->tokens; i++)
        for (int64_t k = 0; k < n; k++) slope[i * n + k] *= grad[k];
    NAME(norm_sums)(c, step, block, 1);
    return (double)total(select(filled, loss)) * (cross_entropy ? scale : scale / 2);
}

static void NAME(group_at)(NAME(Call) *c, int64_t block) {
    if (!c->keep) c->first[SAVED] = block;
    c->first[SHORT] = block;
}

/* All steps forward; `running` are the statistics to update, or with `running_only` to use. */
static void NAME(pass_forward)(NAME(Call) *c, const NAME(Rows) *rows, REAL *running, int running_only) {
    const NAME(Plan) *p = c->plan;
    for (int64_t step = 0; step < p->steps; step++) {
        for (int64_t block = 0; block < c->blocks; block += p->group[step]) {
            const int64_t left = c->blocks - block;
            NAME(group_at)(c, block);
            NAME(step_forward)(c, rows, step, block, left < p->group[step] ? left : p->group[step]);
        }
        NAME(norm_statistics)(c, step, running, running_only);
    }
}

/* Loss of a batch, rows order[0 ... batch) of x and y, and its gradient in all parameters; running statistics are
   brought up to date. `memory` has dd_rmt_bytes(plan, batch, 1) bytes. */
double NAME(dd_rmt_gradient)(const void *plan, void *memory, const REAL *theta, REAL *running, const REAL *x,
                             const REAL *y, const int64_t *order, int64_t batch, int64_t cross_entropy, REAL *grad) {
    const NAME(Plan) *p = plan;
    NAME(Call) c = NAME(call)(p, memory, theta, batch, (batch + LANES - 1) / LANES, 1);
    const NAME(Rows) rows = {x, y, order, 0};
    double loss = 0;
    NAME(pack)(&c);
    memset(c.grad, 0, (size_t)p->packed * sizeof(REAL));
    NAME(pass_forward)(&c, &rows, running, 0);
    for (int64_t k = 0; k < p->steps; k++)
        for (int64_t q = 0; q < 2 * p->step[k].outputs; q++) c.sums[k][q] = 0;
    memset(grad + p->readout, 0, (size_t)(p->shape.classes * (p->shape.projection + 1)) * sizeof(REAL));
    for (int64_t block = 0; block < c.blocks; block++)
        loss += NAME(head_backward)(&c, &rows, block, (int)cross_entropy, grad + p->readout);
    for (int64_t step = p->steps - 1; step >= 0; step--) {
        const RmtStep *t = &p->step[step];
        const double count = (double)batch * (double)p->grid[t->to].tokens;
        for (int64_t k = 0; k < t->outputs; k++) {
            c.slope[step][k] = (REAL)(c.sums[step][k] / count);
            c.slope[step][p->widest + k] =
                (REAL)(c.sums[step][t->outputs + k] / count * (double)c.inverse[step][k]);
        }
        for (int64_t block = 0; block < c.blocks; block += p->group[step]) {
            const int64_t left = c.blocks - block;
            NAME(group_at)(&c, block);
            NAME(step_backward)(&c, step, block, left < p->group[step] ? left : p->group[step]);
        }
    }
    NAME(unpack)(&c, grad);
    return loss;
}

/* Features [samples, projection] and outputs [samples, classes] of all rows of x, with running statistics or those of
   these samples. `memory` has dd_rmt_bytes(plan, n, 0) bytes, n samples at a time; statistics of the samples themselves
   need all at once. */
void NAME(dd_rmt_outputs)(const void *plan, void *memory, const REAL *theta, REAL *running, const REAL *x,
                          int64_t samples, int64_t at_once, int64_t batch_statistics, REAL *features, REAL *outputs) {
    const NAME(Plan) *p = plan;
    const int64_t n = p->shape.projection, classes = p->shape.classes;
    for (int64_t from = 0; from < samples; from += at_once) {
        const int64_t count = samples - from < at_once ? samples - from : at_once;
        NAME(Call) c = NAME(call)(p, memory, theta, count, (count + LANES - 1) / LANES, 0);
        const NAME(Rows) rows = {x, NULL, NULL, from};
        if (!from) NAME(pack)(&c);
        NAME(pass_forward)(&c, &rows, batch_statistics ? NULL : running, !batch_statistics);
        for (int64_t block = 0; block < c.blocks; block++) {
            NAME(group_at)(&c, block);
            vec *f = NAME(at)(&c, p->features, block);
            NAME(head_features)(&c, block, f);
            for (int64_t lane = 0; lane < LANES && block * LANES + lane < count; lane++)
                for (int64_t k = 0; k < n; k++) features[(from + block * LANES + lane) * n + k] = f[k][lane];
            for (int64_t o = 0; o < classes; o++) {
                const vec out = NAME(head_output)(&c, o, f);
                for (int64_t lane = 0; lane < LANES && block * LANES + lane < count; lane++)
                    outputs[(from + block * LANES + lane) * classes + o] = out[lane];
            }
        }
    }
}
