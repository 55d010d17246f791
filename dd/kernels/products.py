"""Thin matrix products, blocked so that accumulators stay in registers and operands in the cache.

``rows`` are indices of samples: batches are read where they lie. The shape of every loop follows from the run alone, so
the order of additions, and with it every bit, does too. Inner loops run from 0 over slices and write one array: only
then does the compiler prove that it may use vector instructions.
"""
# mypy: ignore-errors

from numba import njit

CHUNK = 512
"""Columns handled at a time."""


@njit(fastmath=True, cache=True, error_model="numpy")
def dots(x, rows, w, columns, out):
    """out[i, j] += <x[rows[i], :columns], w[j, :columns]> for all i, j.

    Args:
        x: [samples, at least columns].
        rows: [batch].
        w: [units, at least columns].
        columns: columns that take part.
        out: [batch, at least units]; the products are added.
    """
    zero = x.dtype.type(0)
    batch, units = rows.shape[0], w.shape[0]
    paired, fives = batch - batch % 2, units - units % 5
    for start in range(0, columns, CHUNK):
        stop = min(start + CHUNK, columns)
        size = stop - start
        for j in range(0, fives, 5):
            w0, w1, w2 = w[j, start:stop], w[j + 1, start:stop], w[j + 2, start:stop]
            w3, w4 = w[j + 3, start:stop], w[j + 4, start:stop]
            for i in range(0, paired, 2):
                x0, x1 = x[rows[i], start:stop], x[rows[i + 1], start:stop]
                a0 = a1 = a2 = a3 = a4 = b0 = b1 = b2 = b3 = b4 = zero
                for q in range(size):
                    u, v = x0[q], x1[q]
                    a0 += u * w0[q]
                    a1 += u * w1[q]
                    a2 += u * w2[q]
                    a3 += u * w3[q]
                    a4 += u * w4[q]
                    b0 += v * w0[q]
                    b1 += v * w1[q]
                    b2 += v * w2[q]
                    b3 += v * w3[q]
                    b4 += v * w4[q]
                out[i, j] += a0
                out[i, j + 1] += a1
                out[i, j + 2] += a2
                out[i, j + 3] += a3
                out[i, j + 4] += a4
                out[i + 1, j] += b0
                out[i + 1, j + 1] += b1
                out[i + 1, j + 2] += b2
                out[i + 1, j + 3] += b3
                out[i + 1, j + 4] += b4
            for i in range(paired, batch):
                x0 = x[rows[i], start:stop]
                a0 = a1 = a2 = a3 = a4 = zero
                for q in range(size):
                    u = x0[q]
                    a0 += u * w0[q]
                    a1 += u * w1[q]
                    a2 += u * w2[q]
                    a3 += u * w3[q]
                    a4 += u * w4[q]
                out[i, j] += a0
                out[i, j + 1] += a1
                out[i, j + 2] += a2
                out[i, j + 3] += a3
                out[i, j + 4] += a4
        for j in range(fives, units):
            w0 = w[j, start:stop]
            for i in range(0, paired, 2):
                x0, x1 = x[rows[i], start:stop], x[rows[i + 1], start:stop]
                a0 = b0 = zero
                for q in range(size):
                    a0 += x0[q] * w0[q]
                    b0 += x1[q] * w0[q]
                out[i, j] += a0
                out[i + 1, j] += b0
            for i in range(paired, batch):
                x0 = x[rows[i], start:stop]
                a0 = zero
                for q in range(size):
                    a0 += x0[q] * w0[q]
                out[i, j] += a0


@njit(fastmath=True, cache=True, error_model="numpy")
def outer_sums(r, x, rows, columns, out):
    """out[j, :columns] = sum over i of r[i, j] · x[rows[i], :columns].

    Args:
        r: [batch, at least units].
        x: [samples, at least columns].
        rows: [batch].
        columns: columns that take part.
        out: [units, at least columns], overwritten.
    """
    batch, units = rows.shape[0], out.shape[0]
    sixes = batch - batch % 6
    for start in range(0, columns, CHUNK):
        stop = min(start + CHUNK, columns)
        size = stop - start
        for j in range(units):
            g = out[j, start:stop]
            for q in range(size):
                g[q] = 0
            for i in range(0, sixes, 6):
                x0, x1, x2 = x[rows[i], start:stop], x[rows[i + 1], start:stop], x[rows[i + 2], start:stop]
                x3, x4, x5 = x[rows[i + 3], start:stop], x[rows[i + 4], start:stop], x[rows[i + 5], start:stop]
                r0, r1, r2, r3, r4, r5 = r[i, j], r[i + 1, j], r[i + 2, j], r[i + 3, j], r[i + 4, j], r[i + 5, j]
                for q in range(size):
                    g[q] += r0 * x0[q] + r1 * x1[q] + r2 * x2[q] + r3 * x3[q] + r4 * x4[q] + r5 * x5[q]
            for i in range(sixes, batch):
                x0 = x[rows[i], start:stop]
                r0 = r[i, j]
                for q in range(size):
                    g[q] += r0 * x0[q]
