/* What is fixed for a network of RMT's width family: tables, places of parameters and of what a pass remembers. */

#ifndef RMT_SHAPE
#define RMT_SHAPE
#define RMT_STAGES 4
#define RMT_NORMS (RMT_STAGES + 4)
enum { RMT_NONE, RMT_BATCH, RMT_LAYER };

/* `Shape` of dd/kernels/rmt.py; decay holds log gamma of the heads of stage 1, 2, ... */
typedef struct {
    int64_t height, width, channels, classes, stages, projection, rotary, norm;
    int64_t dims[RMT_STAGES], depths[RMT_STAGES], heads[RMT_STAGES], hidden[RMT_STAGES], whole[RMT_STAGES], strides[4];
    double eps, momentum;
    const double *decay;
} RmtShape;

/* Parameters of a block, in the order of the offsets. */
enum {
    POS_W, POS_B, NORM1_W, NORM1_B, Q_W, Q_B, K_W, K_B, V_W, V_B, OUT_W, OUT_B, LEPE_W, LEPE_B, NORM2_W, NORM2_B,
    FC1_W, FC1_B, DW_W, DW_B, FC2_W, FC2_B, BLOCK_TENSORS
};

/* Where something is kept, in vectors: NORMS across a whole pass (inputs of norms), SAVED for the way back,
   SHORT only while a group of maps is worked on. */
enum { NORMS, SAVED, SHORT, KINDS };
typedef struct {
    int64_t kind, at, size;
} RmtField;

/* A map size with position tables of `maps` maps: dense ones and ones with a border of a zero. */
typedef struct {
    int64_t height, width, tokens, bordered;
    int32_t *dense, *border;
} RmtGrid;

/* Input tokens of a 3x3 convolution that lie alike between its output tokens: what leads back to them is again a
   convolution, with a window of rows x columns output tokens. */
typedef struct {
    int64_t tokens, rows, columns, weights; /* tokens of one map */
    int64_t taps_y[3], taps_x[3];
    int32_t *in, *out;
} RmtParity;

typedef struct {
    int64_t from, to, inputs, outputs, stride; /* grids, channels */
    int64_t w, b, gain, shift;                 /* parameters; gain and shift of the norm behind it, or -1 */
    int64_t mean, var;                         /* running statistics */
    int64_t packed_w, packed_b;
    int32_t *window;
    int64_t parities;
    RmtParity parity[4];
    RmtField in, z, slope, inverse, z_grad, x_grad;
} RmtStep; /* a convolution or, the last one, the projection, and the norm behind it */

typedef struct {
    int64_t at[BLOCK_TENSORS];     /* parameters */
    int64_t packed[BLOCK_TENSORS]; /* the same, ready for use; norms are folded into the weights behind them */
    int64_t pos_back, lepe_back, dw_back;
    RmtField x, normal1, inverse1, q, k, v, first, rows, middle, mixed, normal2, inverse2, u, slope, w;
} RmtBlock;
#endif

#define RMT_GROUP 64 /* tokens that are worked on together at least, where maps are smaller */
#define RMT_MAPS 8   /* and maps at most */

typedef struct {
    RmtShape shape;
    int64_t steps, maps, block_count, readout;
    int64_t group[RMT_NORMS]; /* maps of a group in each step */
    RmtGrid grid[RMT_NORMS];
    RmtStep step[RMT_NORMS];
    RmtBlock *block;
    RmtField features;
    /* short-lived, for each stage */
    struct {
        RmtField x, v_border, grad, hidden, hidden_grad, normal_grad, mixed, mixed_border, q, k, v, middle, weights,
            x_grad;
    } scratch[RMT_STAGES];
    REAL *rotary[RMT_STAGES], *whole[RMT_STAGES], *row[RMT_STAGES], *column[RMT_STAGES];
    int64_t units[KINDS];   /* vectors a block of samples, by kind */
    int64_t largest_z;
    int64_t packed, packed_all; /* trained numbers when packed; with what only the way back uses */
    int64_t widest, sums;
    void *memory[128];
    int64_t memories, failed;
} NAME(Plan);

static void *NAME(plan_memory)(NAME(Plan) *p, int64_t bytes) {
    void *memory = p->memories < 128 ? malloc((size_t)(bytes > 0 ? bytes : 1)) : NULL;
    if (memory) p->memory[p->memories++] = memory;
    else p->failed = 1;
    return memory;
}

static RmtField NAME(field)(NAME(Plan) *p, int64_t kind, int64_t size) {
    RmtField f = {kind, p->units[kind], size};
    p->units[kind] += size;
    return f;
}

static void NAME(plan_grid)(NAME(Plan) *p, RmtGrid *g, int64_t height, int64_t width) {
    g->height = height;
    g->width = width;
    g->tokens = height * width;
    g->bordered = (height + 2) * (width + 2);
    g->dense = NAME(plan_memory)(p, p->maps * g->tokens * 4);
    g->border = NAME(plan_memory)(p, p->maps * g->tokens * 4);
    if (p->failed) return;
    for (int64_t m = 0; m < p->maps; m++)
        for (int64_t t = 0; t < g->tokens; t++) {
            g->dense[m * g->tokens + t] = (int32_t)(m * g->tokens + t);
            g->border[m * g->tokens + t] = (int32_t)(m * g->bordered + (t / width + 1) * (width + 2) + t % width + 1);
        }
}

/* Kernel taps k that lead from input position `at` (mod stride) to outputs (at + 1 - k) / stride, by rising output. */
static int64_t NAME(taps_of)(int64_t at, int64_t stride, int64_t *taps) {
    int64_t count = 0;
    for (int64_t k = 2; k >= 0; k--)
        if ((at + 1 - k + 2 * stride) % stride == 0) taps[count++] = k;
    return count;
}

static void NAME(plan_convolution)(NAME(Plan) *p, RmtStep *c) {
    const RmtGrid *from = &p->grid[c->from], *to = &p->grid[c->to];
    const int64_t s = c->stride;
    c->window = NAME(plan_memory)(p, p->maps * to->tokens * 4);
    if (p->failed) return;
    for (int64_t m = 0; m < p->maps; m++)
        for (int64_t t = 0; t < to->tokens; t++)
            c->window[m * to->tokens + t] =
                (int32_t)(m * from->bordered + t / to->width * s * (from->width + 2) + t % to->width * s);
    c->parities = s * s;
    for (int64_t k = 0; k < c->parities; k++) {
        RmtParity *a = &c->parity[k];
        const int64_t py = k / s, px = k % s;
        a->rows = NAME(taps_of)(py, s, a->taps_y);
        a->columns = NAME(taps_of)(px, s, a->taps_x);
        a->tokens = ((from->height - py + s - 1) / s) * ((from->width - px + s - 1) / s);
        a->weights = p->packed_all;
        p->packed_all += c->inputs * c->outputs * a->rows * a->columns;
        a->in = NAME(plan_memory)(p, p->maps * a->tokens * 4);
        a->out = NAME(plan_memory)(p, p->maps * a->tokens * 4);
        if (p->failed) return;
        int64_t at = 0;
        for (int64_t m = 0; m < p->maps; m++)
            for (int64_t y = py; y < from->height; y += s)
                for (int64_t x = px; x < from->width; x += s, at++) {
                    const int64_t oy = (y + 1 - a->taps_y[0]) / s, ox = (x + 1 - a->taps_x[0]) / s;
                    a->in[at] = (int32_t)(m * to->bordered + (oy + 1) * (to->width + 2) + ox + 1);
                    a->out[at] = (int32_t)(m * from->tokens + y * from->width + x);
                }
    }
}

static int64_t NAME(head_size)(const RmtShape *s, int64_t stage) { return s->dims[stage] / s->heads[stage]; }

/* Rotary table and decay masks of one stage. */
static void NAME(plan_attention)(NAME(Plan) *p, int64_t stage, const double *decay) {
    const RmtShape *s = &p->shape;
    const RmtGrid *g = &p->grid[4 + stage];
    const int64_t e = NAME(head_size)(s, stage), half = e / 2, h = s->heads[stage], n = g->tokens;
    REAL *table = p->rotary[stage] = NAME(plan_memory)(p, n * half * 2 * (int64_t)sizeof(REAL));
    if (p->failed) return;
    for (int64_t t = 0; t < n; t++)
        for (int64_t m = 0; m < half; m++) {
            const double theta = half > 1 ? pow(10000.0, -(double)m / (double)(half - 1)) : 1.0;
            table[(t * half + m) * 2] = (REAL)cos((double)t * theta);
            table[(t * half + m) * 2 + 1] = (REAL)sin((double)t * theta);
        }
    if (s->whole[stage]) {
        REAL *mask = p->whole[stage] = NAME(plan_memory)(p, h * n * n * (int64_t)sizeof(REAL));
        if (p->failed) return;
        for (int64_t j = 0; j < h; j++)
            for (int64_t a = 0; a < n; a++)
                for (int64_t b = 0; b < n; b++, mask++)
                    *mask = (REAL)(decay[j] * (double)(labs((long)(a / g->width - b / g->width)) +
                                                       labs((long)(a % g->width - b % g->width))));
        return;
    }
    for (int64_t side = 0; side < 2; side++) {
        const int64_t length = side ? g->height : g->width;
        REAL *mask = NAME(plan_memory)(p, h * length * length * (int64_t)sizeof(REAL));
        if (p->failed) return;
        *(side ? &p->column[stage] : &p->row[stage]) = mask;
        for (int64_t j = 0; j < h; j++)
            for (int64_t a = 0; a < length; a++)
                for (int64_t b = 0; b < length; b++, mask++) *mask = (REAL)(decay[j] * (double)labs((long)(a - b)));
    }
}

static void NAME(plan_block)(NAME(Plan) *p, RmtBlock *b, int64_t stage, const RmtGrid *g, const int64_t *offsets) {
    const RmtShape *s = &p->shape;
    const int64_t c = s->dims[stage], f = s->hidden[stage], n = g->tokens, h = s->heads[stage];
    const int64_t sizes[BLOCK_TENSORS] = {
        [POS_W] = 9 * c, [POS_B] = c, [Q_W] = c * c, [Q_B] = c, [K_W] = c * c, [K_B] = c, [V_W] = c * c, [V_B] = c,
        [OUT_W] = c * c, [OUT_B] = c, [LEPE_W] = 25 * c, [LEPE_B] = c, [FC1_W] = f * c, [FC1_B] = f, [DW_W] = 9 * f,
        [DW_B] = f, [FC2_W] = c * f, [FC2_B] = c,
    };
    for (int k = 0; k < BLOCK_TENSORS; k++) {
        b->at[k] = offsets[k];
        b->packed[k] = p->packed;
        p->packed += sizes[k];
    }
    b->normal1 = NAME(field)(p, SAVED, n * c);
    b->inverse1 = NAME(field)(p, SAVED, n);
    b->q = NAME(field)(p, SAVED, n * c);
    b->k = NAME(field)(p, SAVED, n * c);
    b->v = NAME(field)(p, SAVED, n * c);
    if (s->whole[stage]) b->first = NAME(field)(p, SAVED, h * n * n);
    else {
        b->first = NAME(field)(p, SAVED, h * n * g->width);
        b->rows = NAME(field)(p, SAVED, h * n * g->height);
        b->middle = NAME(field)(p, SAVED, n * c);
    }
    b->mixed = NAME(field)(p, SAVED, n * c);
    b->normal2 = NAME(field)(p, SAVED, n * c);
    b->inverse2 = NAME(field)(p, SAVED, n);
    b->u = NAME(field)(p, SAVED, g->bordered * f);
    b->slope = NAME(field)(p, SAVED, n * f);
    b->w = NAME(field)(p, SAVED, n * f);
}

static void NAME(plan_stage)(NAME(Plan) *p, int64_t stage, const RmtGrid *g) {
    const RmtShape *s = &p->shape;
    const int64_t c = s->dims[stage], f = s->hidden[stage], n = g->tokens;
    const int64_t side = g->height > g->width ? g->height : g->width, line = s->whole[stage] ? n : side;
    const int64_t twice = (g->height + 4) * (g->width + 4);
    p->scratch[stage].x = NAME(field)(p, SHORT, n * c);
    p->scratch[stage].v_border = NAME(field)(p, SHORT, twice * c);
    p->scratch[stage].grad = NAME(field)(p, SHORT, n * c);
    p->scratch[stage].hidden = NAME(field)(p, SHORT, g->bordered * f);
    p->scratch[stage].hidden_grad = NAME(field)(p, SHORT, n * f);
    p->scratch[stage].normal_grad = NAME(field)(p, SHORT, n * c);
    p->scratch[stage].mixed = NAME(field)(p, SHORT, n * c);
    p->scratch[stage].mixed_border = NAME(field)(p, SHORT, twice * c);
    p->scratch[stage].q = NAME(field)(p, SHORT, n * c);
    p->scratch[stage].k = NAME(field)(p, SHORT, n * c);
    p->scratch[stage].v = NAME(field)(p, SHORT, n * c);
    p->scratch[stage].middle = NAME(field)(p, SHORT, n * c);
    p->scratch[stage].weights = NAME(field)(p, SHORT, line * line);
    p->scratch[stage].x_grad = NAME(field)(p, SHORT, g->bordered * c);
}

void NAME(dd_rmt_free)(void *plan) {
    NAME(Plan) *p = plan;
    if (!p) return;
    for (int64_t k = 0; k < p->memories; k++) free(p->memory[k]);
    free(p);
}

/* Offsets of parameters (-1: there is none) in the order of `Shape.tensors`, of running statistics in that of
   `Shape.statistics`; null when memory is short. */
void *NAME(dd_rmt_new)(const RmtShape *shape, const int64_t *offsets, const int64_t *statistics) {
    NAME(Plan) *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    const RmtShape *s = &p->shape;
    p->shape = *shape;
    p->shape.decay = NULL; /* the caller's */
    p->steps = 4 + s->stages;
    p->maps = RMT_MAPS;
    int64_t blocks = 0, height = s->height, width = s->width, largest = 0;
    const double *decay = shape->decay;
    for (int64_t k = 0; k < s->stages; k++) blocks += s->depths[k];
    p->block = NAME(plan_memory)(p, blocks * (int64_t)sizeof(RmtBlock));
    for (int64_t k = 0; k < p->steps; k++) { /* grid k is the map that step k starts from */
        NAME(plan_grid)(p, &p->grid[k], height, width);
        const int64_t stride = k < 4 ? s->strides[k] : 2;
        height = (height - 1) / stride + 1;
        width = (width - 1) / stride + 1;
    }
    if (p->failed) goto failed;
    for (int64_t k = 0, b = 0; k < p->steps; k++) {
        RmtStep *c = &p->step[k];
        const int64_t stage = k - 4, last = k == p->steps - 1, c1 = s->dims[0];
        const RmtGrid *g = &p->grid[k];
        c->from = k;
        c->to = last ? k : k + 1;
        c->inputs = k == 0 ? s->channels : k < 3 ? c1 / 2 : k == 3 ? c1 : s->dims[stage];
        c->outputs = k < 2 ? c1 / 2 : k < 4 ? c1 : last ? s->projection : s->dims[stage + 1];
        c->stride = k < 4 ? s->strides[k] : 2;
        p->group[k] = g->tokens >= RMT_GROUP ? 1 : (RMT_GROUP + g->tokens - 1) / g->tokens;
        if (p->group[k] > p->maps) p->group[k] = p->maps;
        const int64_t short_units = p->units[SHORT];
        p->units[SHORT] = 0;
        if (stage >= 0) {
            NAME(plan_attention)(p, stage, decay);
            decay += s->heads[stage];
            NAME(plan_stage)(p, stage, g);
            for (int64_t j = 0; j < s->depths[stage]; j++, b++, offsets += BLOCK_TENSORS) {
                p->block[b].x = NAME(field)(p, SAVED, g->bordered * c->inputs);
                NAME(plan_block)(p, &p->block[b], stage, g, offsets);
            }
        }
        c->w = *offsets++;
        c->b = *offsets++;
        c->gain = *offsets++;
        c->shift = *offsets++;
        c->mean = *statistics++;
        c->var = *statistics++;
        c->packed_w = p->packed;
        c->packed_b = c->packed_w + c->inputs * c->outputs * (last ? 1 : 9);
        p->packed = c->packed_b + c->outputs;
        const RmtGrid *to = &p->grid[c->to];
        c->in = NAME(field)(p, SAVED, g->bordered * c->inputs);
        c->z = NAME(field)(p, NORMS, to->tokens * c->outputs);
        c->slope = NAME(field)(p, SAVED, to->tokens * c->outputs);
        c->inverse = NAME(field)(p, SAVED, to->tokens);
        c->z_grad = NAME(field)(p, SHORT, to->bordered * c->outputs);
        c->x_grad = NAME(field)(p, SHORT, g->tokens * c->inputs);
        if (c->z.size > p->largest_z) p->largest_z = c->z.size;
        if (p->units[SHORT] < short_units) p->units[SHORT] = short_units;
        largest = c->outputs > largest ? c->outputs : largest;
        largest = c->inputs > largest ? c->inputs : largest;
    }
    p->block_count = blocks;
    p->readout = *offsets;
    p->features = NAME(field)(p, SAVED, s->projection);
    p->packed_all = p->packed;
    for (int64_t k = 0; k < p->steps - 1; k++) NAME(plan_convolution)(p, &p->step[k]);
    p->sums = OUTER_DEEP * largest + 2 * s->classes;
    p->widest = largest;
    for (int64_t k = 0, b = 0; k < s->stages; k++) {
        const int64_t c = s->dims[k], f = s->hidden[k];
        const int64_t most = OUTER_DEEP * (c > f ? c : f); /* more than depthwise kernels have */
        p->sums = p->sums > most ? p->sums : most;
        for (int64_t j = 0; j < s->depths[k]; j++, b++) {
            p->block[b].pos_back = p->packed_all;
            p->block[b].lepe_back = p->block[b].pos_back + 9 * c;
            p->block[b].dw_back = p->block[b].lepe_back + 25 * c;
            p->packed_all = p->block[b].dw_back + 9 * f;
        }
    }
    if (!p->failed) return p;
failed:
    NAME(dd_rmt_free)(p);
    return NULL;
}

/* Vectors of a call's memory; `samples` is what the norms see together, `keep` whether a gradient follows. */
static int64_t NAME(call_vectors)(const NAME(Plan) *p, int64_t samples, int keep) {
    const int64_t blocks = (samples + LANES - 1) / LANES, numbers = p->packed_all + p->packed + 10 * p->steps * p->widest;
    return 64 + padded(numbers) / LANES + p->sums + (keep ? p->units[NORMS] : 2 * p->largest_z) * blocks +
           p->units[SAVED] * (keep && blocks > p->maps ? blocks : p->maps) + p->units[SHORT] * p->maps;
}
int64_t NAME(dd_rmt_bytes)(const void *plan, int64_t samples, int64_t keep) {
    return NAME(call_vectors)(plan, samples, (int)keep) * (int64_t)sizeof(vec) + 64;
}
