"""What a model family must offer.

A family maps inputs to *features*, the outputs of its last hidden layer. The read-out behind them is common to all:
outputs = [normalised features, 1] · readoutᵀ, the column of ones only where ``model.bias`` is true. Weights are stored
as torch's linear layers store them, [outputs of the layer, inputs of the layer (+ 1 for the bias)], which is also the
layout in which thin products are fast. Shapes carry a leading ``runs`` axis; a 1 there stands for a tensor that all
runs share.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dd.components.initialization import Initialization
from dd.runs import registry
from dd.runs.component import Component
from dd.runs.run import Run
from dd.streams import stream

BIAS = "add biases (for frozen features: a column of ones)"

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "erf": torch.erf,
}

Tensors = dict[str, Tensor]


def with_ones(x: Tensor) -> Tensor:
    """Append a column of ones: [..., features] -> [..., features + 1].

    Where inputs are the first columns of a matrix whose last one holds ones (:func:`dd.problems.problem.load` lays
    large data out so), the result is that matrix: no copy.
    """
    rows, columns = (*x.shape, 0)[:2]
    if x.ndim == 2 and x.stride() == (columns + 1, 1):
        room = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
        if room >= rows * (columns + 1):
            wide = x.as_strided((rows, columns + 1), x.stride())
            if bool((wide[:, -1] == 1).all()):
                return wide
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


def initialization(run: Run, default: str) -> Initialization:
    """Return the run's initialization, ``default`` standing for the family's own."""
    return scheme_of(default) if run.init is None or run.init.name == "default" else run.init


def scheme_of(name: str) -> Initialization:
    """Return the initialization of a name."""
    scheme = registry.kind("init", name)()
    assert isinstance(scheme, Initialization)
    return scheme


def scale_of(run: Run) -> float:
    """Factor of all weights that the run's initialization draws."""
    return 1.0 if run.init_scale is None else run.init_scale


class Model(Component):
    """Base of the model families.

    Attributes:
        default_init: name of the scheme that ``init=default`` stands for.
        frozen_features: whether the features never change in training; they are then computed once.
        nested: whether the frozen features of a narrow run are the first of a wide one's, so that runs may share them;
            a subclass with other features says it again, or it does not hold.
        biased: trained tensors whose last column holds biases, where :attr:`has_bias`.
        deep: whether the normalisation acts inside the family, on several layers (:meth:`normalised_features`), and
            Jacobians of the whole training set are out of reach.
    """

    default_init: ClassVar[str] = "fan_in"
    frozen_features: ClassVar[bool] = True
    nested: ClassVar[bool] = False
    biased: ClassVar[tuple[str, ...]] = ("readout",)
    deep: ClassVar[bool] = False

    def __init_subclass__(cls, name: str | None = None) -> None:
        super().__init_subclass__(name)
        cls.withdraw({"nested": False}, ("features", "draw_frozen", "prepare", "feature_count"))

    def init(self, runs: Sequence[Run], inputs: int, outputs: int) -> Tensors:
        """Draw the trained weights of a stack of runs of one width.

        Args:
            runs: runs that share the family, its options and the width.
            inputs: input dimension.
            outputs: outputs of the read-out.

        Returns:
            Trained tensors by name, each [runs, rows, columns], float64; the last one is ``readout``,
            [runs, outputs, features (+ 1 for the bias)].
        """
        drawn = [self.draw(run, inputs, outputs) for run in runs]
        return {k: torch.stack([torch.from_numpy(d[k]) for d in drawn]) for k in drawn[0]}

    def draw_frozen(self, run: Run, inputs: int) -> dict[str, NDArray[np.float64]]:
        """Frozen weights of a run by name, float64; here none."""
        return {}

    def draw(self, run: Run, inputs: int, outputs: int) -> dict[str, NDArray[np.float64]]:
        """Trained weights of one run by name, [rows, columns]; here a read-out."""
        return {"readout": self.draw_readout(run, self.feature_count(run), outputs)}

    def draw_readout(self, run: Run, features: int, outputs: int) -> NDArray[np.float64]:
        """[outputs, features (+ 1)], times ``init.scale``."""
        scheme = initialization(run, self.default_init)
        weight = scheme.weight(stream(run.seed, "init.readout"), features, outputs, features, outputs).T
        if self.has_bias:
            bias = scheme.bias(stream(run.seed, "init.readout.bias"), outputs, features)
            weight = np.concatenate([weight, bias[:, None]], axis=1)
        return np.ascontiguousarray(weight) * scale_of(run)

    @property
    def takes_images(self) -> bool:
        """Whether it sees [samples, channels, height, width] in place of [samples, inputs]."""
        return False

    @property
    def has_bias(self) -> bool:
        """Whether the read-out sees a column of ones: as the option ``bias`` says, where there is one."""
        return bool(getattr(self, "bias", True))

    def batch_dependent(self, run: Run) -> bool:
        """Whether training uses the statistics of each batch, so that its samples are tied together."""
        return run.normalization.batch_dependent

    def feature_count(self, run: Run) -> int:
        """Number of features that the read-out sees, the column of ones not counted."""
        return run.width

    def prepare(self, run: Run, x: Tensor) -> Tensor:
        """What :meth:`features` takes for inputs [samples, inputs], computed once: here [1, samples, inputs]."""
        return x[None]

    @abstractmethod
    def features(self, run: Run, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Features of inputs.

        Args:
            run: any run of the stack (they share the options).
            frozen: tensors of :meth:`draw_frozen`.
            trained: trained tensors of :meth:`init`.
            x: prepared inputs, [1 or runs, samples, columns].

        Returns:
            [runs, samples, features]; of a ``nested`` family those of a narrow run are, bit for bit, the first of a
            wide one's.
        """

    def split(self, run: Run, named: Mapping[str, Tensor]) -> list[Tensor]:
        """Weight matrices [runs, rows, columns] and vectors [runs, size] (biases, gain, shift) as views.

        Args:
            run: any run of the stack.
            named: trained tensors, or what else has their shapes.
        """
        out = []
        for name, view in named.items():
            if name not in self.biased:
                out.append(view[:, 0] if view.shape[1] == 1 else view)
            elif self.has_bias:
                out += [view[:, :, :-1], view[:, :, -1]]
            else:
                out.append(view)
        return out

    def parameter_count(self, run: Run) -> int:
        """Trained parameters of a run, for plans: give or take biases."""
        below = 0 if self.frozen_features else run.data.input_count + 1
        return (run.outputs + below) * run.width

    def multiply_adds(self, run: Run) -> float:
        """Of one sample's forward pass, for plans."""
        return float(self.parameter_count(run))

    def activation_bytes(self, run: Run) -> float:
        """What training keeps of one sample between the forward and the backward pass, for plans."""
        return 4.0 * run.width

    def map_bytes(self, run: Run) -> float:
        """What a forward pass in float64 holds of one sample at once."""
        return 8.0 * run.width

    @abstractmethod
    def interpolation_width(self, run: Run, inputs: int, outputs: int) -> float:
        """Width at which the model can just fit the training set, the peak's expected place."""
