/* dd's compiled engine: each function once for float (suffix _f32) and once for double (_f64). */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Checksum of the sources, so that a library of older ones is not called. */
int dd_sources(void) { return DD_SOURCES; }

#define AHEAD_BYTES (1 << 22) /* batches laid out ahead: a part of a usual third-level cache */

#define NAME(n) n##_f32
#define REAL float
#define SINGLE 1
#define WORD int32_t
#define SQRT sqrtf
#define EXP expf
#define TANH tanhf
#include "vectors.h"
#include "products.h"
#include "rules.h"
#include "engine.h"
#include "rmt_math.h"
#include "rmt_products.h"
#include "rmt_layers.h"
#include "rmt_plan.h"
#include "rmt.h"

#undef NAME
#undef REAL
#undef SINGLE
#undef WORD
#undef SQRT
#undef EXP
#undef TANH

#define NAME(n) n##_f64
#define REAL double
#define SINGLE 0
#define WORD int64_t
#define SQRT sqrt
#define EXP exp
#define TANH tanh
#include "vectors.h"
#include "products.h"
#include "rules.h"
#include "engine.h"
#include "rmt_math.h"
#include "rmt_products.h"
#include "rmt_layers.h"
#include "rmt_plan.h"
#include "rmt.h"
