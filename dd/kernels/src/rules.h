/* Update rules on a stretch of parameters; the arithmetic is that of dd/optim. */

#ifndef RULES
#define RULES
enum { SGD, MOMENTUM, NESTEROV, ADAM, ADAMW, RMSPROP, ADAGRAD, LION, SIGNSGD };
#endif

/* A rule with the numbers of one step, rounded from double. */
typedef struct {
    int kind;
    REAL lr, decay, keep, a, b, c, d, eps;
} NAME(Step);

/* Numbers of step `number` (from 1). `hyper`: lr, weight_decay and the rule's own options as dd/trainers/rules.py
   lists them; `factor`: the schedule's share of lr at this step. */
static NAME(Step) NAME(at_step)(int kind, const double *hyper, double factor, int64_t number) {
    const double lr = hyper[0] * factor;
    NAME(Step) s = {.kind = kind, .lr = (REAL)lr, .decay = (REAL)hyper[1], .keep = 1};
    switch (kind) {
    case MOMENTUM:
    case NESTEROV: s.a = (REAL)hyper[2]; break;
    case ADAMW:
        s.keep = (REAL)(1 - lr * hyper[1]);
        s.decay = 0;
        /* fall through */
    case ADAM:
        s.lr = (REAL)(lr / (1 - pow(hyper[2], (double)number)));
        s.a = (REAL)(1 - hyper[2]);
        s.b = (REAL)hyper[3];
        s.c = (REAL)(1 - hyper[3]);
        s.d = (REAL)(1 / sqrt(1 - pow(hyper[3], (double)number)));
        s.eps = (REAL)hyper[4];
        break;
    case RMSPROP:
        s.a = (REAL)hyper[2];
        s.b = (REAL)(1 - hyper[2]);
        s.c = (REAL)hyper[3];
        s.eps = (REAL)hyper[4];
        break;
    case ADAGRAD:
        s.lr = (REAL)(lr / (1 + (double)(number - 1) * hyper[2]));
        s.eps = (REAL)hyper[3];
        break;
    case LION:
        s.keep = (REAL)(1 - lr * hyper[1]);
        s.decay = 0;
        s.a = (REAL)hyper[2];
        s.b = (REAL)(1 - hyper[2]);
        s.c = (REAL)hyper[3];
        s.d = (REAL)(1 - hyper[3]);
        break;
    case SIGNSGD:
        s.a = (REAL)hyper[2];
        s.b = (REAL)(1 - hyper[2]);
        break;
    }
    return s;
}

#define EACH for (int64_t k = 0; k < size; k += LANES)

/* One step on `size` parameters, a multiple of LANES. `first` and `second` are state (unused ones may be null). */
static void NAME(update)(const NAME(Step) *s, REAL *theta, REAL *first, REAL *second, const REAL *gradient,
                         int64_t size) {
    const REAL lr = s->lr, a = s->a, b = s->b, c = s->c, d = s->d, eps = s->eps, keep = s->keep, decay = s->decay;
#define LOAD_ALL vec t = load(theta + k) * keep, g = load(gradient + k) + decay * t
    switch (s->kind) {
    case SGD:
        EACH {
            LOAD_ALL;
            store(theta + k, t - lr * g);
        }
        break;
    case MOMENTUM:
        EACH {
            LOAD_ALL;
            vec v = a * load(first + k) + g;
            store(first + k, v);
            store(theta + k, t - lr * v);
        }
        break;
    case NESTEROV:
        EACH {
            LOAD_ALL;
            vec v = a * load(first + k) + g;
            store(first + k, v);
            store(theta + k, t - lr * (g + a * v));
        }
        break;
    case ADAM:
    case ADAMW:
        EACH {
            LOAD_ALL;
            vec m = load(first + k), v = b * load(second + k) + c * g * g;
            m += a * (g - m);
            store(first + k, m);
            store(second + k, v);
            store(theta + k, t - lr * m / (root(v) * d + eps));
        }
        break;
    case RMSPROP:
        EACH {
            LOAD_ALL;
            vec v = a * load(first + k) + b * g * g, m = c * load(second + k) + g / (root(v) + eps);
            store(first + k, v);
            store(second + k, m);
            store(theta + k, t - lr * m);
        }
        break;
    case ADAGRAD:
        EACH {
            LOAD_ALL;
            vec v = load(first + k) + g * g;
            store(first + k, v);
            store(theta + k, t - lr * g / (root(v) + eps));
        }
        break;
    case LION:
        EACH {
            LOAD_ALL;
            vec m = load(first + k);
            store(theta + k, t - lr * sign(a * m + b * g));
            store(first + k, c * m + d * g);
        }
        break;
    case SIGNSGD:
        EACH {
            LOAD_ALL;
            vec v = a * load(first + k) + b * g;
            store(first + k, v);
            store(theta + k, t - lr * sign(v));
        }
        break;
    }
}
