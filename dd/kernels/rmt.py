"""Gradients and outputs of RMT's width family on a CPU, by the compiled engine.

The network is that of "Retentive Networks Meet Vision Transformers" (arXiv 2309.11523) in its released form without
LayerScale and drop path, with a narrow stem, any depths and widths, and the linear read-out that all models have.
``src/rmt.h`` lays a batch out with lanes over samples, so that every layer is plain arithmetic on whole vectors,
however narrow the network is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dd.kernels.library import library

NORMS = ("none", "batch", "layer")
LOSSES = ("mse", "cross_entropy")
STAGES = 4
_SUFFIX = {torch.float32: "_f32", torch.float64: "_f64"}


class _Shape(ctypes.Structure):
    """``RmtShape`` of ``src/rmt_plan.h``."""

    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in ("height", "width", "channels", "classes", "stages", "projection", "rotary", "norm")
        ),
        *((name, ctypes.c_int64 * STAGES) for name in ("dims", "depths", "heads", "hidden", "whole")),
        ("strides", ctypes.c_int64 * 4),
        ("eps", ctypes.c_double),
        ("momentum", ctypes.c_double),
        ("decay", ctypes.POINTER(ctypes.c_double)),
    )


@dataclass(frozen=True)
class Shape:
    """All that fixes a network but its parameters.

    Attributes:
        height: of the images.
        width: of the images.
        channels: of the images.
        classes: outputs of the read-out.
        dims: channels of each stage; the first even.
        depths: blocks of each stage.
        heads: heads of each stage; each divides the stage's channels.
        hidden: width of each stage's feed-forward layer, int(ratio * channels).
        stem_strides: strides of the stem's four convolutions, 1 or 2.
        log_decay: log gamma of each head, stage by stage.
        whole: whether a stage attends over the whole map, or first along rows and then along columns.
        projection: features, width of the layer before the read-out.
        rotary: whether queries and keys are rotated.
        norm: ``batch`` as released, ``layer``: LayerNorm over channels in place of every BatchNorm, ``none``: no norm
            at all, nor in the blocks.
        norm_affine: whether norms outside the blocks have gain and shift.
        norm_eps: added to variances outside the blocks.
        norm_momentum: share of a batch in BatchNorm's running statistics.

    Raises:
        ValueError: numbers that do not fit each other.
    """

    height: int
    width: int
    channels: int
    classes: int
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    hidden: tuple[int, ...]
    stem_strides: tuple[int, int, int, int]
    log_decay: tuple[tuple[float, ...], ...]
    whole: tuple[bool, ...]
    projection: int
    rotary: bool = True
    norm: str = "batch"
    norm_affine: bool = True
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1

    def __post_init__(self) -> None:
        stages = len(self.dims)
        if not 1 <= stages <= STAGES:
            raise ValueError(f"dims={self.dims}: 1 to {STAGES} stages")
        for name in ("depths", "heads", "hidden", "log_decay", "whole"):
            if len(getattr(self, name)) != stages:
                raise ValueError(f"{name}={getattr(self, name)}: one entry for each of {stages} stages")
        if len(self.stem_strides) != 4 or set(self.stem_strides) - {1, 2}:
            raise ValueError(f"stem_strides={self.stem_strides}: four strides of 1 or 2")
        numbers = (self.height, self.width, self.channels, self.classes, self.projection)
        if min(*numbers, *self.dims, *self.depths, *self.heads, *self.hidden) < 1:
            raise ValueError(f"{self}: sizes must be positive")
        if self.dims[0] % 2:
            raise ValueError(f"dims={self.dims}: the first must be even, the stem starts with half of it")
        for dim, heads, decay in zip(self.dims, self.heads, self.log_decay, strict=True):
            if dim % heads or len(decay) != heads:
                raise ValueError(f"heads={self.heads}: each must divide its dim of {self.dims} and have its log_decay")
        if self.norm not in NORMS:
            raise ValueError(f"norm={self.norm}: one of {', '.join(NORMS)}")

    @property
    def _norms(self) -> tuple[tuple[str, int], ...]:
        """Name and channels of every norm outside the blocks, in network order."""
        c, last = self.dims[0], len(self.dims) - 1
        stem = zip((1, 4, 7, 10), (c // 2, c // 2, c, c), strict=True)
        merging = ((f"layers.{s}.downsample.norm", self.dims[s + 1]) for s in range(last))
        return (*((f"patch_embed.proj.{i}", n) for i, n in stem), *merging, ("norm", self.projection))

    @cached_property
    def _all_tensors(self) -> dict[str, tuple[int, int]]:
        """As :attr:`tensors`, in the engine's order and with all norms."""
        out: dict[str, tuple[int, int]] = {}

        def layer(name: str, rows: int, columns: int) -> None:
            out[f"{name}.weight"] = (rows, columns)
            out[f"{name}.bias"] = (1, rows)

        def norm(name: str, channels: int) -> None:
            out[f"{name}.weight"] = out[f"{name}.bias"] = (1, channels)

        c = self.dims[0]
        for i, (inputs, outputs) in enumerate(((self.channels, c // 2), (c // 2, c // 2), (c // 2, c), (c, c))):
            layer(f"patch_embed.proj.{3 * i}", outputs, inputs * 9)
            norm(f"patch_embed.proj.{3 * i + 1}", outputs)
        for s, (c, f) in enumerate(zip(self.dims, self.hidden, strict=True)):
            for b in range(self.depths[s]):
                block = f"layers.{s}.blocks.{b}"
                layer(f"{block}.pos.conv", c, 9)
                norm(f"{block}.retention_layer_norm", c)
                for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    layer(f"{block}.retention.{name}", c, c)
                layer(f"{block}.retention.lepe.conv", c, 25)
                norm(f"{block}.final_layer_norm", c)
                layer(f"{block}.ffn.fc1", f, c)
                layer(f"{block}.ffn.dwconv.conv", f, 9)
                layer(f"{block}.ffn.fc2", c, f)
            if s + 1 < len(self.dims):
                layer(f"layers.{s}.downsample.reduction", self.dims[s + 1], c * 9)
                norm(f"layers.{s}.downsample.norm", self.dims[s + 1])
        layer("proj", self.projection, self.dims[-1])
        norm("norm", self.projection)
        out["readout"] = (self.classes, self.projection + 1)
        return out

    @cached_property
    def tensors(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every trained tensor, in network order; vectors have one row."""
        outer = {name for name, _ in self._norms}

        def there(name: str) -> bool:
            owner = name.rpartition(".")[0]
            if owner in outer:
                return self.norm != "none" and self.norm_affine
            return self.norm != "none" or not owner.endswith("layer_norm")

        return {name: size for name, size in self._all_tensors.items() if there(name)}

    @cached_property
    def statistics(self) -> dict[str, int]:
        """Channels of every running statistic, in network order; none without BatchNorm."""
        if self.norm != "batch":
            return {}
        return {f"{name}.{kind}": n for name, n in self._norms for kind in ("running_mean", "running_var")}

    @cached_property
    def fewest_tokens(self) -> int:
        """Tokens of the last stage's map, the smallest."""
        height, width = self.height, self.width
        for stride in (*self.stem_strides, *[2] * (len(self.dims) - 1)):
            height, width = (height - 1) // stride + 1, (width - 1) // stride + 1
        return height * width


def packed_offsets(sizes: Mapping[str, tuple[int, int]] | Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Offsets of tensors that follow each other without gaps in a flat vector, and the vector's length."""
    out, at = {}, 0
    for name, size in sizes.items():
        out[name] = at
        at += size if isinstance(size, int) else size[0] * size[1]
    return out, at


def available() -> bool:
    """Whether the engine was compiled for this machine."""
    return library() is not None


class _Plan:
    """The engine's tables for a network; frees them with itself."""

    def __init__(
        self,
        shape: Shape,
        offsets: Mapping[str, int],
        buffer_offsets: Mapping[str, int],
        dtype: torch.dtype,
        functions: Any = None,
    ) -> None:
        self.handle = None
        functions = library() if functions is None else functions
        if functions is None:
            raise ValueError("the engine was not compiled")
        if dtype not in _SUFFIX:
            raise ValueError(f"dtype={dtype}: float32 or float64")
        names = ("new", "free", "bytes", "gradient", "outputs")
        self.new, self.free, self.bytes, self.gradient, self.outputs = (
            getattr(functions, f"dd_rmt_{name}{_SUFFIX[dtype]}") for name in names
        )
        self.lanes = getattr(functions, f"dd_lanes{_SUFFIX[dtype]}")()
        self.new.restype = ctypes.c_void_p
        self.bytes.restype = ctypes.c_int64
        self.gradient.restype = ctypes.c_double
        self.outputs.restype = self.free.restype = None
        stages = len(shape.dims)
        decay = [value for heads in shape.log_decay for value in heads]

        def four(values: tuple[int, ...]) -> Any:
            return (ctypes.c_int64 * STAGES)(*values)

        struct = _Shape(
            shape.height, shape.width, shape.channels, shape.classes, stages, shape.projection, shape.rotary,
            NORMS.index(shape.norm), four(shape.dims), four(shape.depths), four(shape.heads), four(shape.hidden),
            four(shape.whole), four(shape.stem_strides), shape.norm_eps, shape.norm_momentum,
            (ctypes.c_double * len(decay))(*decay),
        )  # fmt: skip
        places = [offsets[name] if name in shape.tensors else -1 for name in shape._all_tensors]
        norms = [f"{name}.{kind}" for name, _ in shape._norms for kind in ("running_mean", "running_var")]
        statistics = [buffer_offsets[name] if shape.norm == "batch" else -1 for name in norms]
        self.handle = self.new(
            ctypes.byref(struct),
            (ctypes.c_int64 * len(places))(*places),
            (ctypes.c_int64 * len(statistics))(*statistics),
        )
        if not self.handle:
            raise MemoryError("no memory for the engine's tables")
        self.handle = ctypes.c_void_p(self.handle)

    def __del__(self) -> None:
        if self.handle:
            self.free(self.handle)

    def memory(self, samples: int, *, gradient: bool) -> int:
        """Bytes of a call's workspace."""
        return int(self.bytes(self.handle, ctypes.c_int64(samples), ctypes.c_int64(gradient)))


def workspace_bytes(shape: Shape, samples: int, dtype: torch.dtype, *, gradient: bool) -> int:
    """Bytes that a call on ``samples`` samples at once takes.

    Args:
        shape: the network.
        samples: batch of a gradient, or samples whose statistics are taken together.
        dtype: float32 or float64.
        gradient: of the loss, or outputs alone.

    Raises:
        ValueError: no engine, or another dtype.
    """
    plan = _Plan(shape, packed_offsets(shape.tensors)[0], packed_offsets(shape.statistics)[0], dtype)
    return plan.memory(samples, gradient=gradient)


class Engine:
    """Gradient and outputs of one network; no call depends on the calls before it.

    Args:
        shape: the network.
        offsets: place of each of ``shape.tensors`` in the flat parameters, row-major.
        buffer_offsets: place of each of ``shape.statistics`` in the flat buffers.
        dtype: float32 or float64.
        max_batch: samples of the largest batch; its workspace is kept.
        functions: the library to call; by default that of this machine.

    Raises:
        ValueError: no engine, another dtype, or a tensor without a place.
        MemoryError: no memory for the tables.
    """

    def __init__(
        self,
        shape: Shape,
        offsets: Mapping[str, int],
        buffer_offsets: Mapping[str, int],
        dtype: torch.dtype,
        max_batch: int,
        functions: Any = None,
    ) -> None:
        for given, wanted in ((offsets, shape.tensors), (buffer_offsets, shape.statistics)):
            missing = [name for name in wanted if name not in given]
            if missing:
                raise ValueError(f"no offset of {', '.join(missing)}")
        self.shape, self.dtype, self.max_batch = shape, dtype, max_batch
        self._plan = _Plan(shape, offsets, buffer_offsets, dtype, functions)
        ends = [offsets[name] + rows * columns for name, (rows, columns) in shape.tensors.items()]
        self._parameters = max(ends)
        self._buffers = max((buffer_offsets[name] + n for name, n in shape.statistics.items()), default=0)
        self._pixels = shape.channels * shape.height * shape.width
        self._gradient_memory: Tensor | None = None

    def _check(self, name: str, x: Tensor, dtype: torch.dtype, *size: int | None) -> None:
        """Raise ValueError unless x is a contiguous CPU tensor of a dtype and size; None allows any length."""
        fits = x.dim() == len(size) and all(n is None or n == m for n, m in zip(size, x.shape, strict=True))
        if not fits or x.dtype != dtype or x.device.type != "cpu" or not x.is_contiguous():
            shown = ", ".join("any" if n is None else str(n) for n in size)
            raise ValueError(
                f"{name} is {x.dtype} {tuple(x.shape)} on {x.device}{'' if x.is_contiguous() else ', not contiguous'}: "
                f"a contiguous {dtype} CPU tensor [{shown}] is needed".replace("torch.", "")
            )

    def _check_state(self, theta: Tensor, buffers: Tensor) -> None:
        for name, x, least in (("theta", theta, self._parameters), ("buffers", buffers, self._buffers)):
            self._check(name, x, self.dtype, None)
            if len(x) < least:
                raise ValueError(f"{name} has {len(x)} entries: at least {least} by the offsets")

    def gradient(
        self, theta: Tensor, buffers: Tensor, x: Tensor, y: Tensor, order: Tensor, loss: str, out: Tensor
    ) -> float:
        """Gradient of a batch's training loss; BatchNorm takes the batch's statistics and updates the running ones.

        Args:
            theta: flat parameters.
            buffers: flat running statistics, updated in place; empty without BatchNorm.
            x: samples, [samples, channels * height * width], channel by channel.
            y: targets, [samples, classes]; for cross-entropy each row sums to 1.
            order: rows of x and y in the batch, [batch], int64.
            loss: ``mse`` (mean over samples and outputs) or ``cross_entropy`` (mean over samples).
            out: the gradient, laid out as theta; entries of no tensor are left alone.

        Returns:
            The batch's loss.

        Raises:
            ValueError: tensors of the wrong kind, rows that do not exist, an unknown loss, or a batch of one sample
                whose last map is a single token, where BatchNorm has no variance.
        """
        shape, batch = self.shape, len(order)
        self._check_state(theta, buffers)
        self._check("x", x, self.dtype, None, self._pixels)
        self._check("y", y, self.dtype, len(x), shape.classes)
        self._check("order", order, torch.int64, None)
        self._check("out", out, self.dtype, len(theta))
        if loss not in LOSSES:
            raise ValueError(f"loss={loss}: one of {', '.join(LOSSES)}")
        if not 1 <= batch <= self.max_batch:
            raise ValueError(f"order has {batch} rows: 1 to max_batch={self.max_batch}")
        least, most = (int(v) for v in torch.aminmax(order))
        if least < 0 or most >= len(x):
            raise ValueError(f"order names rows {least} to {most}: x has rows 0 to {len(x) - 1}")
        if shape.norm == "batch" and batch * shape.fewest_tokens == 1:
            raise ValueError("BatchNorm over one sample of one token: there is no variance")
        if self._gradient_memory is None:
            size = self._plan.memory(self.max_batch, gradient=True)
            self._gradient_memory = torch.empty(size, dtype=torch.uint8)
        value = self._plan.gradient(
            self._plan.handle, _pointer(self._gradient_memory), _pointer(theta), _pointer(buffers), _pointer(x),
            _pointer(y), _pointer(order), ctypes.c_int64(batch), ctypes.c_int64(loss == "cross_entropy"),
            _pointer(out),
        )  # fmt: skip
        return float(value)

    def outputs(
        self, theta: Tensor, buffers: Tensor, x: Tensor, *, batch_statistics: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Features and outputs of samples; the buffers are left alone.

        Args:
            theta: flat parameters.
            buffers: flat running statistics.
            x: samples, [samples, channels * height * width].
            batch_statistics: whether BatchNorm takes the statistics of these samples, which then need
                :func:`workspace_bytes` of memory, or the running ones, for which few samples at a time are laid out.

        Returns:
            Features [samples, projection] and outputs [samples, classes].

        Raises:
            ValueError: tensors of the wrong kind.
        """
        self._check_state(theta, buffers)
        self._check("x", x, self.dtype, None, self._pixels)
        together = batch_statistics and self.shape.norm == "batch"
        at_once = max(len(x), 1) if together else 8 * self._plan.lanes
        memory = torch.empty(self._plan.memory(at_once, gradient=False), dtype=torch.uint8)
        features, outputs = x.new_empty(len(x), self.shape.projection), x.new_empty(len(x), self.shape.classes)
        self._plan.outputs(
            self._plan.handle, _pointer(memory), _pointer(theta), _pointer(buffers), _pointer(x),
            ctypes.c_int64(len(x)), ctypes.c_int64(at_once), ctypes.c_int64(together), _pointer(features),
            _pointer(outputs),
        )  # fmt: skip
        return features, outputs


def _pointer(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())
