"""Gradient of a two-layer net's training loss, and products with its Hessian, written out by hand.

With inputs X, hidden activations H = act(X W1ᵀ), design matrix D = [H, 1] and outputs O = D W2ᵀ, let G be the loss's
gradient in O. Along a direction (V1, V2) of the weights

    dH = act'(X W1ᵀ) ∘ X V1ᵀ        dO = dH W2ᵀ + D V2ᵀ        dG: the loss's Hessian in O times dO

and the Hessian's product with the direction is (Pearlmutter 1994)

    (act' ∘ (dG W2 + G V2) + act'' ∘ (G W2) ∘ X V1ᵀ)ᵀ X   for W1        dGᵀ D + Gᵀ [dH, 0]   for W2

A product costs two large matrix products, half of automatic differentiation's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dd import losses
from dd.components.model import with_ones
from dd.models.two_layer import is_two_layer
from dd.network import Network, Parameters, read_out

Shape = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor] | None]

SHAPES: dict[str, Shape] = {
    "relu": (lambda h: (h > 0).to(h.dtype), None),
    "tanh": (lambda h: 1 - h * h, lambda h: -2 * h * (1 - h * h)),
}
"""First and second derivative of an activation, from its value; None: zero almost everywhere."""

IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh_}

LOSSES = ("mse", "cross_entropy")


def knows(network: Network) -> bool:
    """Whether the formulas are those of a network."""
    model, loss = network.model, network.run.loss
    plain = is_two_layer(model) and model.activation in SHAPES
    return plain and loss in LOSSES and not network.normalization.fitted


def design(network: Network, theta: Parameters, x: Tensor) -> Tensor:
    """D of a network that :func:`knows` admits, [runs, samples, width (+ 1)]: its column of ones is one more unit.

    Args:
        network: the net.
        theta: its parameters.
        x: inputs, [1, samples, columns]; the last column holds ones if there are biases.
    """
    assert is_two_layer(network.model)
    hidden, width = theta.named["hidden"], network.run.width
    if network.bias:
        unit = torch.zeros_like(hidden[:, :1])
        unit[:, :, -1] = 1.0
        hidden = torch.cat([hidden, unit], dim=1)
    found = x @ hidden.mT
    IN_PLACE[network.model.activation](found[:, :, :width])
    return found


def gradient(network: Network, theta: Parameters, x: Tensor, design: Tensor, residual: Tensor) -> Tensor:
    """Gradient of the training loss of a network that :func:`knows` admits, [runs, parameters].

    Args:
        network: the net.
        theta: its parameters.
        x: inputs, [1, samples, columns].
        design: D, [runs, samples, width (+ 1)].
        residual: the loss's gradient in the outputs, [runs, samples, outputs].
    """
    assert is_two_layer(network.model)
    readout, width = theta.named["readout"], network.run.width
    upstream = (residual @ readout[:, :, :width]).mul_(SHAPES[network.model.activation][0](design[:, :, :width]))
    return torch.cat([(upstream.mT @ x).flatten(1), (residual.mT @ design).flatten(1)], dim=1)


class TwoLayerHessian:
    """v -> H v at the start of a network of one run.

    Args:
        network: the net; see :func:`knows`.
        samples: the first so many training samples make the loss; None: all.
        dtype: precision of the products.
    """

    def __init__(self, network: Network, samples: int | None = None, dtype: torch.dtype = torch.float64) -> None:
        model, self.named, self.dtype = network.model, network.named, dtype
        assert is_two_layer(model)
        train = network.exact_train.first(samples)
        self.x = train.inputs[0].to(dtype)
        theta = self.named(network.theta.to(dtype)).named
        slope, bend = SHAPES[model.activation]
        hidden = model.features(network.run, {}, theta, self.x[None])
        outputs = read_out(with_ones(hidden) if network.bias else hidden, theta["readout"])
        self.softmax = outputs[0].softmax(dim=1).T if network.run.loss == "cross_entropy" else None
        # from here on a unit or an output is a row, a sample a column
        self.gradient = losses.gradient(network.run.loss, outputs, train.targets.to(dtype))[0].T.contiguous()
        design = hidden[0].T.contiguous()
        self.slope, self.weights = slope(design), theta["readout"][0, :, : len(design)]
        self.bend = None if bend is None else bend(design).mul_(self.weights.T @ self.gradient)
        self.design = torch.cat([design, torch.ones_like(design[:1])]) if network.bias else design
        self._along, self._change, self._upstream = (torch.empty_like(self.slope) for _ in range(3))

    def __call__(self, vector: Tensor) -> Tensor:
        """The Hessian times a direction of the flat parameters, [parameters], float64."""
        named = self.named(vector.to(self.dtype)[None]).named
        first, second = named["hidden"][0], named["readout"][0]
        width = len(self.slope)
        along = torch.mm(first, self.x.T, out=self._along)
        change = torch.mul(self.slope, along, out=self._change)
        curved = self._curved((self.weights @ change).addmm_(second, self.design))
        upstream = torch.mm(self.weights.T, curved, out=self._upstream)
        upstream.addmm_(second[:, :width].T, self.gradient).mul_(self.slope)
        if self.bend is not None:
            upstream.addcmul_(self.bend, along)
        readout = curved @ self.design.T
        readout[:, :width].addmm_(self.gradient, change.T)
        return torch.cat([(upstream @ self.x).flatten(), readout.flatten()]).double()

    def _curved(self, outputs: Tensor) -> Tensor:
        """The loss's Hessian in the outputs times a change of them, [outputs, samples]."""
        if self.softmax is None:
            return outputs.mul_(2.0 / outputs.numel())
        outputs = self.softmax * outputs
        return outputs.sub_(self.softmax * outputs.sum(dim=0, keepdim=True)).div_(outputs.shape[1])
