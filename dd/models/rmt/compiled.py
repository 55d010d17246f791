"""RMT's width family in compiled code: from an architecture to calls of :mod:`dd.kernels.rmt`."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dd.components.model import Tensors
from dd.kernels import rmt
from dd.models.rmt.architecture import Architecture
from dd.models.rmt.position import log_decays


def suits(architecture: Architecture) -> bool:
    """Whether there is compiled code for a network: the released attention, on a machine with the engine."""
    plain = architecture.form == "released" and not any(architecture.layer_scale) and architecture.drop_path == 0
    return plain and rmt.available()


class CompiledRMT:
    """One architecture with its parameters in one flat vector; see :class:`dd.components.module.CompiledNetwork`.

    Args:
        architecture: of the network; :func:`suits`.
        size: height and width of the images.
        tensors: names of the trained tensors with their entries, in the order in which they lie in the vector.
        dtype: float32 or float64.
    """

    def __init__(
        self,
        architecture: Architecture,
        size: tuple[int, int],
        tensors: tuple[tuple[str, int], ...],
        dtype: torch.dtype,
    ) -> None:
        a = architecture
        decays = tuple(
            tuple(log_decays(heads, a.decay_start, span).tolist())
            for heads, span in zip(a.heads, a.decay_ranges, strict=True)
        )
        strides = a.stem_strides
        self._shape = rmt.Shape(
            height=size[0], width=size[1], channels=a.channels, classes=a.classes, dims=a.dims, depths=a.depths,
            heads=a.heads, hidden=a.hidden, stem_strides=(strides[0], strides[1], strides[2], strides[3]),
            log_decay=decays, whole=a.whole, projection=a.projection, rotary=a.rotary, norm=a.norm,
            norm_affine=a.norm_affine, norm_eps=a.norm_eps, norm_momentum=a.norm_momentum,
        )  # fmt: skip
        self._dtype = dtype
        self._offsets = rmt.packed_offsets(dict(tensors))[0]
        self._memory, length = rmt.packed_offsets(self._shape.statistics)
        self._nothing = torch.zeros(length, dtype=dtype)
        self._engine: rmt.Engine | None = None

    def _sized(self, batch: int) -> rmt.Engine:
        """The engine, with room for a batch."""
        if self._engine is None or self._engine.max_batch < batch:
            self._engine = rmt.Engine(self._shape, self._offsets, self._memory, self._dtype, batch)
            self._order = torch.arange(batch)
        return self._engine

    def _flat(self, buffers: Tensors) -> Tensor:
        """Running statistics as one vector, a copy."""
        if not buffers:
            return self._nothing.clone()
        return torch.cat([buffers[name].flatten() for name in self._memory]) if self._memory else self._nothing

    def gradient(
        self, theta: Tensor, buffers: Tensors, inputs: Tensor, targets: Tensor, out: Tensor, *, loss: str
    ) -> None:
        """See :meth:`dd.components.module.CompiledNetwork.gradient`."""
        engine, memory = self._sized(len(inputs)), self._flat(buffers)
        engine.gradient(
            theta.contiguous(), memory, inputs.contiguous(), targets.contiguous(), self._order[: len(inputs)], loss, out
        )
        for name, buffer in buffers.items():
            start = self._memory[name]
            buffer.view(-1).copy_(memory[start : start + buffer.numel()])

    def features(self, theta: Tensor, buffers: Tensors, inputs: Tensor, *, training: bool) -> Tensor:
        """See :meth:`dd.components.module.CompiledNetwork.features`."""
        engine = self._sized(1)
        return engine.outputs(
            theta.contiguous(), self._flat(buffers), inputs.contiguous(), batch_statistics=training
        )[0]  # fmt: skip


@lru_cache(maxsize=4)
def compiled(
    architecture: Architecture, size: tuple[int, int], tensors: tuple[tuple[str, int], ...], dtype: torch.dtype
) -> CompiledRMT:
    """CompiledNetwork code of an architecture, made once; the last few are kept, with the memory that they work in."""
    return CompiledRMT(architecture, size, tensors, dtype)
