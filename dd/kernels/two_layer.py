"""Two-layer nets: forward pass, gradients and update of a whole stretch of steps in one compiled call."""
# mypy: ignore-errors

from __future__ import annotations

import math

import numpy as np
from numba import njit

from dd.kernels.products import dots, outer_sums
from dd.kernels.rules import update


@njit(fastmath=True, cache=True, error_model="numpy")
def advance(x, y, orders, epoch, first_step, last_step, batch, theta, width, bias, relu, cross_entropy, rule, hyper,
            first, second):  # fmt: skip
    """Take steps ``first_step`` + 1 ... ``last_step`` of one run, in place.

    Args:
        x: training inputs, [samples, inputs (+ 1 for the bias)].
        y: targets, [samples, outputs].
        orders: order of the samples in each epoch from ``epoch`` on, [epochs, samples].
        epoch: number of the first row of ``orders``.
        first_step: steps taken before.
        last_step: steps taken after.
        batch: samples of a step; an epoch's last one may have fewer.
        theta: hidden [width, inputs (+ 1)] and read-out [outputs, width (+ 1)], one after the other.
        width: hidden units.
        bias: whether both layers have biases.
        relu: rectifier, else tanh.
        cross_entropy: loss, else mean squared error.
        rule: number of the update rule.
        hyper: its step size and options.
        first: its first state tensor, [parameters].
        second: its second state tensor, [parameters].
    """
    number = theta.dtype.type
    samples, inputs, outputs = x.shape[0], x.shape[1], y.shape[1]
    columns = width + 1 if bias else width
    split = width * inputs
    hidden = theta[:split].reshape(width, inputs)
    readout = theta[split:].reshape(outputs, columns)
    grad = np.empty_like(theta)
    grad_hidden = grad[:split].reshape(width, inputs)
    grad_readout = grad[split:].reshape(outputs, columns)
    h = np.empty((batch, columns), theta.dtype)
    d = np.empty((batch, width), theta.dtype)
    r = np.empty((batch, outputs), theta.dtype)
    here = np.arange(batch)
    per_epoch = (samples + batch - 1) // batch
    for step in range(first_step, last_step):
        order = orders[step // per_epoch - epoch]
        start = (step % per_epoch) * batch
        rows = order[start : min(start + batch, samples)]
        size = rows.shape[0]
        own = here[:size]
        for i in range(size):
            for j in range(width):
                h[i, j] = 0
            for c in range(outputs):
                r[i, c] = 0
        dots(x, rows, hidden, inputs, h)
        for i in range(size):
            if relu:
                for j in range(width):
                    h[i, j] = max(h[i, j], number(0))
            else:
                for j in range(width):
                    h[i, j] = math.tanh(h[i, j])
            if bias:
                h[i, width] = 1
        dots(h, own, readout, columns, r)
        scale = number(1.0 / size) if cross_entropy else number(2.0 / (size * outputs))
        for i in range(size):
            if cross_entropy:
                top = r[i, 0]
                for c in range(1, outputs):
                    top = max(top, r[i, c])
                total = number(0)
                for c in range(outputs):
                    r[i, c] = math.exp(r[i, c] - top)
                    total += r[i, c]
                for c in range(outputs):
                    r[i, c] /= total
            target = y[rows[i]]
            for c in range(outputs):
                r[i, c] = (r[i, c] - target[c]) * scale
            for j in range(width):
                d[i, j] = 0
            for c in range(outputs):
                weight, back = readout[c], r[i, c]
                for j in range(width):
                    d[i, j] += back * weight[j]
            if relu:
                for j in range(width):
                    d[i, j] = d[i, j] if h[i, j] > 0 else number(0)
            else:
                for j in range(width):
                    d[i, j] *= 1 - h[i, j] * h[i, j]
        outer_sums(r, h, own, columns, grad_readout)
        outer_sums(d, x, rows, inputs, grad_hidden)
        update(rule, theta, grad, first, second, hyper, step + 1)
