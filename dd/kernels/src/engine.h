/* Training and evaluation of the runs of a pack that share data and batch order; see dd/kernels/engine.py. */

/* What the runs of one call share. */
typedef struct {
    int64_t samples, columns, outputs, batch;
    const REAL *x; /* [samples, ldx]: inputs with their column of ones (two-layer) or features, padded by zeros */
    int64_t ldx;
    const REAL *y; /* [samples, outputs] */
} NAME(Data);

/* One run. A two-layer net has hidden [width, padded(columns)] and read-out [outputs, padded(width + bias)]; a linear
   model has read-out [outputs, padded(width)] on the first `width` columns and, with a bias, [padded(outputs)].

   With `start`, a linear model steps in function space: x is the kernel matrix of these samples and the training samples,
   theta has the training samples' coefficients [outputs, padded(width)] and, LANES further numbers, the share that is left
   of the initial weights, whose outputs `start` holds, [samples, outputs].

   With `start`, a two-layer net's hidden weights are base + coefficients X, with X the training inputs: x are the inner
   products of these samples with the training samples, theta has the latters' coefficients [width, padded(columns)] in
   place of the hidden weights, and `start` holds what the base gives on these samples, [width, padded(samples)]. */
typedef struct {
    int64_t width, bias, two_layer, tanh, cross_entropy, rule;
    REAL *theta, *first, *second;
    const REAL *start;
    double hyper[8];
    const double *factors; /* shares of the step size that steps taken + 1, taken + 2, ... have; null: all of it */
    int64_t taken;
} NAME(Run);

static NAME(Step) NAME(step_of)(const NAME(Run) *run, int64_t number) {
    const double factor = run->factors ? run->factors[number - run->taken - 1] : 1;
    return NAME(at_step)((int)run->rule, run->hyper, factor, number);
}

#define SAMPLES_AT_A_TIME 64 /* rows of a gradient that stay in the cache */
#define SIDE_BY_SIDE 5       /* tiles of a gradient that follow each other along a row */

/* A batch in both layouts: row pointers, and lanes over the samples in blocks of BLOCK vectors. */
typedef struct {
    int64_t size, vectors, jump;
    const int64_t *order;
    const REAL **rows;
    REAL *panel; /* [blocks, columns, BLOCK * LANES]; two-layer nets only */
    REAL *targets; /* [outputs, vectors * LANES] or [size, outputs] */
} NAME(Batch);

/* Scratch space of one run's step. */
typedef struct {
    REAL *hidden, *back, *out, *grad;
    const REAL **hidden_rows;
} NAME(Scratch);

static void *NAME(aligned)(int64_t count) {
    int64_t bytes = (count * (int64_t)sizeof(REAL) + 4095) / 4096 * 4096 + 4096;
    void *p = malloc(bytes + 64);
    if (!p) return NULL;
    void **out = (void **)(((uintptr_t)p + 64 + 63) / 64 * 64);
    out[-1] = p;
    memset(out, 0, bytes - 64);
    return out;
}
static void NAME(release)(void *p) {
    if (p) free(((void **)p)[-1]);
}

static int64_t NAME(blocks)(int64_t vectors) { return (vectors + BLOCK - 1) / BLOCK; }

/* Transpose rows, padded to whole vectors, into a panel; samples beyond `size` are zeros. */
static void NAME(fill_panel)(const REAL *const *rows, int64_t size, int64_t columns, int64_t vectors, REAL *panel) {
    const int64_t lanes = BLOCK * LANES, jump = columns * lanes;
    for (int64_t v = 0; v < vectors; v++) {
        REAL *base = panel + v / BLOCK * jump + v % BLOCK * LANES;
        for (int64_t q = 0; q < columns; q += LANES) {
            vec square[16];
            for (int64_t i = 0; i < LANES; i++)
                square[i] = v * LANES + i < size ? load(rows[v * LANES + i] + q) : splat(0);
            transpose(square);
            for (int64_t k = 0; k < LANES; k++)
                if (q + k < columns) store(base + (q + k) * lanes, square[k]);
        }
    }
}

static void NAME(fill_batch)(const NAME(Data) *data, const int64_t *order, int two_layer, NAME(Batch) *b) {
    const int64_t width = b->vectors * LANES;
    for (int64_t i = 0; i < b->size; i++) b->rows[i] = data->x + order[i] * data->ldx;
    b->order = order;
    if (!two_layer) {
        for (int64_t i = 0; i < b->size; i++)
            for (int64_t c = 0; c < data->outputs; c++)
                b->targets[i * data->outputs + c] = data->y[order[i] * data->outputs + c];
        return;
    }
    NAME(fill_panel)(b->rows, b->size, data->columns, b->vectors, b->panel);
    for (int64_t c = 0; c < data->outputs; c++)
        for (int64_t i = 0; i < width; i++)
            b->targets[c * width + i] = i < b->size ? data->y[order[i] * data->outputs + c] : 0;
}

/* From outputs to the loss's gradient in them, in place. `count` entries, padding included, are laid out as targets. */
static void NAME(loss_gradient)(int cross_entropy, REAL *out, const REAL *targets, int64_t count, int64_t size,
                                int64_t outputs, int64_t sample_stride, int64_t output_stride) {
    if (!cross_entropy) {
        const REAL scale = (REAL)(2.0 / ((double)size * (double)outputs));
        for (int64_t k = 0; k < count; k++) out[k] = (out[k] - targets[k]) * scale;
        return;
    }
    const REAL scale = (REAL)(1.0 / (double)size);
    for (int64_t i = 0; i < size; i++) {
        REAL *o = out + i * sample_stride;
        const REAL *t = targets + i * sample_stride;
        REAL top = o[0], sum = 0;
        for (int64_t c = 1; c < outputs; c++) top = o[c * output_stride] > top ? o[c * output_stride] : top;
        for (int64_t c = 0; c < outputs; c++) sum += o[c * output_stride] = EXP(o[c * output_stride] - top);
        for (int64_t c = 0; c < outputs; c++)
            o[c * output_stride] = (o[c * output_stride] / sum - t[c * output_stride]) * scale;
    }
}

/* Hidden activations [width (+ 1), vectors * LANES] of a panel; padded samples stay 0.
   Two samples beyond whole vectors, say, cost less by rows than a vector that is mostly padding. */
static void NAME(hidden_layer)(const NAME(Data) *data, const NAME(Run) *run, const REAL *panel,
                               const REAL *const *rows, const int64_t *order,
                               int64_t size, int64_t vectors, REAL *hidden) {
    const int64_t columns = data->columns, ldx = padded(columns), stride = padded(data->samples);
    const int64_t lanes = vectors * LANES, block = BLOCK * LANES;
    const int64_t whole = size / LANES, left = size % LANES, by_rows = left && whole && left * 3 <= LANES;
    NAME(panel_product)(run->theta, ldx, run->width, panel, block, columns * block, columns, by_rows ? whole : vectors,
                        hidden, lanes);
    if (by_rows) {
        for (int64_t j = 0; j < run->width; j++) store(hidden + j * lanes + whole * LANES, splat(0));
        NAME(row_product)(rows + whole * LANES, left, run->theta, ldx, run->width, ldx, hidden + whole * LANES, 1,
                          lanes);
    }
    if (run->start)
        for (int64_t j = 0; j < run->width; j++)
            for (int64_t i = 0; i < size; i++) hidden[j * lanes + i] += run->start[j * stride + order[i]];
    if (run->tanh) {
        for (int64_t k = 0; k < run->width * lanes; k++) hidden[k] = TANH(hidden[k]);
    } else {
        for (int64_t k = 0; k < run->width * lanes; k += LANES) {
            vec h = load(hidden + k);
            store(hidden + k, select(h > 0, h));
        }
    }
    if (run->bias)
        for (int64_t i = 0; i < lanes; i++) hidden[run->width * lanes + i] = i < size ? 1 : 0;
}

/* Gradient of one matrix in tiles, each followed at once by its update: the gradient is never written out where the
   batch is small. `valid` columns count, those up to the padding get no gradient. */
static void NAME(descend)(const NAME(Step) *step, const REAL *r, int64_t unit_stride, int64_t sample_stride,
                          int64_t units, const REAL *const *rows, int64_t size, int64_t valid, REAL *theta, REAL *first,
                          REAL *second, REAL *grad) {
    const int64_t ld = padded(valid), vectors = ld / LANES;
    const int few = units <= 16 && units % 5 == 0 && vectors > 1;
    /* tiles of nearly equal width; some side by side, so that rows of parameters are read in longer pieces */
    const int64_t tiles = few ? (vectors + 1) / 2 : (vectors + BLOCK - 1) / BLOCK;
    const int64_t narrow = vectors / tiles, wider = vectors % tiles;
    const int64_t widest = narrow + (wider > 0), at_once = widest >= 3 ? 3 : widest == 2 ? 5 : 8;
    REAL tile[8 * BLOCK * LANES] __attribute__((aligned(64)));
    for (int64_t from = 0; from < size; from += SAMPLES_AT_A_TIME) {
        const int64_t to = size < from + SAMPLES_AT_A_TIME ? size : from + SAMPLES_AT_A_TIME;
        const int last = to == size, resume = from > 0, whole = last && !resume;
        for (int64_t side = 0; side < tiles; side += SIDE_BY_SIDE)
            for (int64_t j = 0; j < units; j += at_once)
                for (int64_t t = side; t < tiles && t < side + SIDE_BY_SIDE; t++) {
                    const int64_t take = narrow + (t < wider);
                    const int64_t column = (t * narrow + (t < wider ? t : wider)) * LANES;
                    const int64_t left = units - j, here = left < at_once ? left : at_once;
                    const int64_t ldg = whole ? take * LANES : ld;
                    REAL *g = whole ? tile : grad + j * ld + column;
                    if (last && j + at_once < units)
                        for (int64_t u = at_once; u < 2 * at_once && j + u < units; u++) {
                            __builtin_prefetch(theta + (j + u) * ld + column, 1);
                            if (first) __builtin_prefetch(first + (j + u) * ld + column, 1);
                            if (second) __builtin_prefetch(second + (j + u) * ld + column, 1);
                        }
#define OUTER(U, V)                                                                                                \
    case 8 * V + U:                                                                                                \
        NAME(outer_tile)(U, V, r + j * unit_stride, unit_stride, sample_stride, rows, from, to, column, g, ldg, resume); \
        break;
                    switch (8 * take + here) {
                        OUTER(3, 4) OUTER(2, 4) OUTER(1, 4)
                        OUTER(3, 3) OUTER(2, 3) OUTER(1, 3)
                        OUTER(5, 2) OUTER(4, 2) OUTER(3, 2) OUTER(2, 2) OUTER(1, 2)
                        OUTER(7, 1) OUTER(6, 1) OUTER(5, 1) OUTER(4, 1) OUTER(3, 1) OUTER(2, 1) OUTER(1, 1)
                    case 16: /* eight units of one vector */
                        NAME(outer_tile)(8, 1, r + j * unit_stride, unit_stride, sample_stride, rows, from, to, column,
                                         g, ldg, resume);
                        break;
                    }
                    if (last)
                        for (int64_t u = 0; u < here; u++) {
                            const int64_t at = (j + u) * ld + column;
                            for (int64_t k = valid > column ? valid - column : 0; k < take * LANES; k++)
                                g[u * ldg + k] = 0;
                            NAME(update)(step, theta + at, first ? first + at : 0, second ? second + at : 0,
                                         g + u * ldg, take * LANES);
                        }
                }
    }
}

/* The same for coefficients of the training samples, whose gradient has entries for the batch's samples only. */
static void NAME(descend_coefficients)(const NAME(Step) *step, const NAME(Run) *run, const NAME(Batch) *b, int64_t ld,
                                       const REAL *back, REAL *grad) {
    const int64_t lanes = b->vectors * LANES;
    memset(grad, 0, (size_t)ld * sizeof(REAL));
    for (int64_t j = 0; j < run->width; j++) {
        for (int64_t i = 0; i < b->size; i++) grad[b->order[i]] = back[j * lanes + i];
        NAME(update)(step, run->theta + j * ld, run->first ? run->first + j * ld : 0, 0, grad, ld);
        for (int64_t i = 0; i < b->size; i++) grad[b->order[i]] = 0;
    }
}

static void NAME(step_two_layer)(const NAME(Data) *data, const NAME(Run) *run, const NAME(Batch) *b,
                                 NAME(Scratch) *s, int64_t number) {
    const NAME(Step) step = NAME(step_of)(run, number);
    const int64_t lanes = b->vectors * LANES, width = run->width, outputs = data->outputs, block = BLOCK * LANES;
    const int64_t columns = width + run->bias, ldx = padded(data->columns), ldr = padded(columns);
    const int64_t split = width * ldx;
    REAL *readout = run->theta + split;
    NAME(hidden_layer)(data, run, b->panel, b->rows, b->order, b->size, b->vectors, s->hidden);
    NAME(panel_product)(readout, ldr, outputs, s->hidden, lanes, block, columns, b->vectors, s->out, lanes);
    NAME(loss_gradient)((int)run->cross_entropy, s->out, b->targets, outputs * lanes, b->size, outputs, 1, lanes);
    NAME(panel_product_transposed)(readout, ldr, width, s->out, lanes, block, outputs, b->vectors, s->back, lanes);
    if (run->tanh) {
        for (int64_t k = 0; k < width * lanes; k++) s->back[k] *= 1 - s->hidden[k] * s->hidden[k];
    } else {
        for (int64_t k = 0; k < width * lanes; k += LANES)
            store(s->back + k, select(load(s->hidden + k) > 0, load(s->back + k)));
    }
    for (int64_t c = 0; c < outputs; c++)
        for (int64_t k = columns; k < ldr; k++) s->grad[c * ldr + k] = 0;
    NAME(row_product)(s->hidden_rows, columns, s->out, lanes, outputs, lanes, s->grad, 1, ldr);
    NAME(update)(&step, readout, run->first ? run->first + split : 0, run->second ? run->second + split : 0, s->grad,
                 outputs * ldr);
    if (run->start)
        NAME(descend_coefficients)(&step, run, b, ldx, s->back, s->grad);
    else
        NAME(descend)(&step, s->back, lanes, 1, width, b->rows, b->size, data->columns, run->theta, run->first,
                      run->second, s->grad);
}

static void NAME(step_linear)(const NAME(Data) *data, const NAME(Run) *run, const NAME(Batch) *b, NAME(Scratch) *s,
                              int64_t number) {
    const NAME(Step) step = NAME(step_of)(run, number);
    const int64_t outputs = data->outputs, ld = padded(run->width), split = outputs * ld;
    REAL *bias = run->theta + split;
    NAME(row_product)(b->rows, b->size, run->theta, ld, outputs, ld, s->out, outputs, 1);
    if (run->bias)
        for (int64_t i = 0; i < b->size; i++)
            for (int64_t c = 0; c < outputs; c++) s->out[i * outputs + c] += bias[c];
    NAME(loss_gradient)((int)run->cross_entropy, s->out, b->targets, b->size * outputs, b->size, outputs, outputs, 1);
    NAME(descend)(&step, s->out, 1, outputs, outputs, b->rows, b->size, run->width, run->theta, run->first, run->second,
                  s->grad);
    if (run->bias) {
        const int64_t size = padded(outputs);
        for (int64_t c = 0; c < size; c++) s->grad[c] = 0;
        for (int64_t i = 0; i < b->size; i++)
            for (int64_t c = 0; c < outputs; c++) s->grad[c] += s->out[i * outputs + c];
        NAME(update)(&step, bias, run->first ? run->first + split : 0, run->second ? run->second + split : 0, s->grad,
                     size);
    }
}

/* A batch's gradient in function space has entries for its own samples only. */
static void NAME(step_dual)(const NAME(Data) *data, const NAME(Run) *run, const NAME(Batch) *b, NAME(Scratch) *s,
                            int64_t number) {
    const NAME(Step) step = NAME(step_of)(run, number);
    const int64_t outputs = data->outputs, ld = padded(run->width), size = outputs * ld + LANES;
    const REAL share = run->theta[outputs * ld];
    NAME(row_product)(b->rows, b->size, run->theta, ld, outputs, ld, s->out, outputs, 1);
    for (int64_t i = 0; i < b->size; i++)
        for (int64_t c = 0; c < outputs; c++)
            s->out[i * outputs + c] += share * run->start[b->order[i] * outputs + c];
    NAME(loss_gradient)(0, s->out, b->targets, b->size * outputs, b->size, outputs, outputs, 1);
    memset(s->grad, 0, (size_t)size * sizeof(REAL));
    for (int64_t i = 0; i < b->size; i++)
        for (int64_t c = 0; c < outputs; c++) s->grad[c * ld + b->order[i]] = s->out[i * outputs + c];
    NAME(update)(&step, run->theta, run->first, run->second, s->grad, size);
}

static int NAME(new_scratch)(const NAME(Data) *data, const NAME(Run) *runs, int64_t count, int64_t samples,
                             NAME(Scratch) *s) {
    int64_t width = 0, lanes = padded(samples);
    for (int64_t k = 0; k < count; k++) width = runs[k].width > width ? runs[k].width : width;
    int64_t hidden = runs[0].two_layer ? (width + 1) * lanes : 1, columns = runs[0].two_layer ? data->columns : width;
    int64_t units = runs[0].two_layer ? width : data->outputs;
    int64_t grad = data->outputs * padded(width + 1) + (samples > SAMPLES_AT_A_TIME ? units : 1) * padded(columns);
    s->hidden = NAME(aligned)(hidden);
    s->back = NAME(aligned)(hidden);
    s->out = NAME(aligned)(data->outputs * lanes);
    s->grad = NAME(aligned)(grad + padded(data->outputs));
    s->hidden_rows = malloc((size_t)(width + 1) * sizeof(REAL *));
    return s->hidden && s->back && s->out && s->grad && s->hidden_rows;
}
static void NAME(free_scratch)(NAME(Scratch) *s) {
    NAME(release)(s->hidden);
    NAME(release)(s->back);
    NAME(release)(s->out);
    NAME(release)(s->grad);
    free((void *)s->hidden_rows);
}

static int64_t NAME(state_bytes)(const NAME(Data) *data, const NAME(Run) *run) {
    const int64_t hidden = run->two_layer ? run->width * padded(data->columns) : 0;
    const int64_t tensors = 1 + (run->first != NULL) + (run->second != NULL);
    return (hidden + data->outputs * padded(run->width + run->bias)) * tensors * (int64_t)sizeof(REAL);
}

static void NAME(take_step)(const NAME(Data) *data, const NAME(Run) *run, const NAME(Batch) *b, NAME(Scratch) *s,
                            int64_t number) {
    if (run->two_layer) {
        for (int64_t j = 0; j <= run->width; j++) s->hidden_rows[j] = s->hidden + j * b->vectors * LANES;
        NAME(step_two_layer)(data, run, b, s, number);
    } else if (run->start) {
        NAME(step_dual)(data, run, b, s, number);
    } else {
        NAME(step_linear)(data, run, b, s, number);
    }
}

/* Take steps first + 1 ... last of every run. `orders`: order of the samples in each epoch from the one of step
   `first` on, [epochs, samples]. Returns 0, or 1 where memory is short.

   Batches are laid out once, as many ahead as AHEAD_BYTES hold, and serve all runs. The order of runs changes no bit. */
int NAME(dd_advance)(const NAME(Data) *data, const NAME(Run) *runs, int64_t count, const int64_t *orders, int64_t first,
                     int64_t last) {
    const int64_t per_epoch = (data->samples + data->batch - 1) / data->batch, epoch = first / per_epoch;
    const int64_t vectors = padded(data->batch) / LANES, two_layer = runs[0].two_layer;
    const int64_t panel = two_layer ? NAME(blocks)(vectors) * BLOCK * LANES * data->columns : 1;
    const int64_t footprint = (panel + data->batch * data->ldx) * (int64_t)sizeof(REAL);
    int64_t ahead = AHEAD_BYTES / footprint;
    if (ahead < 1) ahead = 1;
    if (ahead > per_epoch) ahead = per_epoch;
    NAME(Scratch) s;
    NAME(Batch) *batches = calloc((size_t)ahead, sizeof(NAME(Batch)));
    int ok = NAME(new_scratch)(data, runs, count, data->batch, &s) && batches;
    for (int64_t k = 0; ok && k < ahead; k++) {
        batches[k].rows = malloc((size_t)data->batch * sizeof(REAL *));
        batches[k].panel = NAME(aligned)(panel);
        batches[k].targets = NAME(aligned)(data->outputs * vectors * LANES);
        ok = batches[k].rows && batches[k].panel && batches[k].targets;
    }
    for (int64_t at = first; ok && at < last;) {
        int64_t take = 0;
        for (; take < ahead && at + take < last; take++) {
            const int64_t number = at + take, start = number % per_epoch * data->batch, left = data->samples - start;
            NAME(Batch) *b = batches + take;
            if (data->batch == data->samples && number > first) continue; /* the same batch every time */
            b->size = left < data->batch ? left : data->batch;
            b->vectors = padded(b->size) / LANES;
            NAME(fill_batch)(data, orders + (number / per_epoch - epoch) * data->samples + start, (int)two_layer, b);
        }
        /* runs smaller than a batch take turns at each batch; larger ones stay while they are in the cache */
        for (int64_t t = 0; t < take; t++)
            for (int64_t k = 0; k < count; k++)
                if (NAME(state_bytes)(data, runs + k) < footprint)
                    NAME(take_step)(data, runs + k, batches + t, &s, at + t + 1);
        for (int64_t k = 0; k < count; k++)
            if (NAME(state_bytes)(data, runs + k) >= footprint)
                for (int64_t t = 0; t < take; t++) NAME(take_step)(data, runs + k, batches + t, &s, at + t + 1);
        at += take;
    }
    for (int64_t k = 0; batches && k < ahead; k++) {
        free((void *)batches[k].rows);
        NAME(release)(batches[k].panel);
        NAME(release)(batches[k].targets);
    }
    free(batches);
    NAME(free_scratch)(&s);
    return !ok;
}

#define EVALUATE_AT_A_TIME 64

/* Losses and errors of every run on the first `samples` samples of `data`, summed in double.
   `classes`: [samples], or null; `loss`, `wrong`: [count]. Returns 0, or 1 where memory is short. */
int NAME(dd_evaluate)(const NAME(Data) *data, const NAME(Run) *runs, int64_t count, int64_t samples,
                      const int64_t *classes, double *loss, double *wrong) {
    const int64_t two_layer = runs[0].two_layer, outputs = data->outputs;
    int64_t size = samples < EVALUATE_AT_A_TIME ? samples : EVALUATE_AT_A_TIME;
    NAME(Scratch) s;
    const REAL **rows = malloc((size_t)size * sizeof(REAL *));
    int64_t order[EVALUATE_AT_A_TIME];
    const int64_t most = padded(size) / LANES;
    REAL *panel = NAME(aligned)(two_layer ? NAME(blocks)(most) * BLOCK * LANES * data->columns : 1);
    int ok = NAME(new_scratch)(data, runs, count, size, &s) && rows && panel;
    for (int64_t k = 0; k < count; k++) loss[k] = wrong[k] = 0;
    for (int64_t from = 0; ok && from < samples; from += size) {
        if (samples - from < size) size = samples - from;
        const int64_t vectors = padded(size) / LANES, lanes = vectors * LANES;
        for (int64_t i = 0; i < size; i++) {
            order[i] = from + i;
            rows[i] = data->x + order[i] * data->ldx;
        }
        if (two_layer) NAME(fill_panel)(rows, size, data->columns, vectors, panel);
        for (int64_t k = 0; k < count; k++) {
            const NAME(Run) *run = runs + k;
            const int64_t si = two_layer ? 1 : outputs, sc = two_layer ? lanes : 1;
            if (two_layer) {
                const int64_t columns = run->width + run->bias;
                NAME(hidden_layer)(data, run, panel, rows, order, size, vectors, s.hidden);
                NAME(panel_product)(run->theta + run->width * padded(data->columns), padded(columns), outputs,
                                    s.hidden, lanes, BLOCK * LANES, columns, vectors, s.out, lanes);
            } else {
                const int64_t ld = padded(run->width);
                NAME(row_product)(rows, size, run->theta, ld, outputs, ld, s.out, outputs, 1);
                if (run->bias)
                    for (int64_t i = 0; i < size; i++)
                        for (int64_t c = 0; c < outputs; c++) s.out[i * outputs + c] += run->theta[outputs * ld + c];
                if (run->start)
                    for (int64_t i = 0; i < size; i++)
                        for (int64_t c = 0; c < outputs; c++)
                            s.out[i * outputs + c] += run->theta[outputs * ld] * run->start[(from + i) * outputs + c];
            }
            for (int64_t i = 0; i < size; i++) {
                const REAL *o = s.out + i * si, *y = data->y + (from + i) * outputs;
                REAL top = o[0];
                int64_t best = 0;
                for (int64_t c = 1; c < outputs; c++)
                    if (o[c * sc] > top) {
                        top = o[c * sc];
                        best = c;
                    }
                if (classes) wrong[k] += best != classes[from + i];
                if (run->cross_entropy) {
                    double sum = 0, inner = 0, whole = 0;
                    for (int64_t c = 0; c < outputs; c++) {
                        sum += exp((double)o[c * sc] - (double)top);
                        inner += (double)y[c] * ((double)o[c * sc] - (double)top);
                        whole += (double)y[c];
                    }
                    loss[k] += whole * log(sum) - inner;
                } else {
                    double sum = 0;
                    for (int64_t c = 0; c < outputs; c++) {
                        const double gap = (double)o[c * sc] - (double)y[c];
                        sum += gap * gap;
                    }
                    loss[k] += sum / (double)outputs;
                }
            }
        }
    }
    for (int64_t k = 0; k < count; k++) {
        loss[k] /= (double)samples;
        wrong[k] /= (double)samples;
    }
    free((void *)rows);
    NAME(release)(panel);
    NAME(free_scratch)(&s);
    return !ok;
}

/* Add coefficients X of a run to hidden weights, [width, padded(columns)]. `data` has the training samples.
   Returns 0, or 1 where memory is short. */
int NAME(dd_unfold)(const NAME(Data) *data, const NAME(Run) *run, REAL *weights) {
    const int64_t n = data->samples, ldx = padded(data->columns);
    const double hyper[8] = {-1};
    const NAME(Step) add = NAME(at_step)(SGD, hyper, 1, 1);
    const REAL **rows = malloc((size_t)n * sizeof(REAL *));
    REAL *grad = NAME(aligned)(n > SAMPLES_AT_A_TIME ? run->width * ldx : 1);
    const int ok = rows && grad;
    for (int64_t i = 0; ok && i < n; i++) rows[i] = data->x + i * data->ldx;
    if (ok)
        NAME(descend)(&add, run->theta, padded(n), 1, run->width, rows, n, data->columns, weights, NULL, NULL, grad);
    free((void *)rows);
    NAME(release)(grad);
    return !ok;
}

/* What hidden weights give on the first `samples` samples of `data`: columns of [width, padded(data's samples)]. */
void NAME(dd_preactivations)(const NAME(Data) *data, int64_t samples, int64_t width, const REAL *weights, REAL *out) {
    const int64_t ldx = padded(data->columns);
    const REAL *rows[EVALUATE_AT_A_TIME];
    for (int64_t from = 0; from < samples; from += EVALUATE_AT_A_TIME) {
        int64_t size = 0;
        for (; size < EVALUATE_AT_A_TIME && from + size < samples; size++)
            rows[size] = data->x + (from + size) * data->ldx;
        NAME(row_product)(rows, size, weights, ldx, width, ldx, out + from, 1, padded(data->samples));
    }
}

int64_t NAME(dd_lanes)(void) { return LANES; }
