"""The compiled engine of RMT's width family against plain PyTorch.

Covers: dd/models/rmt/compiled.py.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor
from torch.nn import functional

from dd.kernels import rmt
from dd.kernels.library import library
from dd.kernels.rmt import Engine, Shape, packed_offsets, workspace_bytes

pytestmark = [
    pytest.mark.rounding,
    pytest.mark.skipif(not rmt.available(), reason="the engine was not compiled"),
]


def family(k: int, *, size: int = 8, channels: int = 1, stages: int = 2, patch: int = 1, **changes: object) -> Shape:
    """A network of the width family, depths 1."""
    dims = tuple(k * 2**s for s in range(stages))
    heads = (2, 2, 4, 8)[:stages]
    ranges = (4, 4, 6, 6)[:stages]
    shape = Shape(
        height=size, width=size, channels=channels, classes=10, dims=dims, depths=(1,) * stages, heads=heads,
        hidden=tuple(3 * c for c in dims), stem_strides={1: (1, 1, 1, 1), 2: (2, 1, 1, 1), 4: (2, 1, 2, 1)}[patch],
        log_decay=tuple(
            tuple(math.log(1 - 2 ** (-2 - r * j / h)) for j in range(h)) for h, r in zip(heads, ranges, strict=True)
        ),
        whole=(False,) * (stages - 1) + (True,), projection=2 * dims[-1],
    )  # fmt: skip
    return replace(shape, **changes)


@dataclass
class Case:
    """Parameters, running statistics and samples of one network, all float64."""

    shape: Shape
    theta: Tensor
    buffers: Tensor
    x: Tensor
    y: Tensor

    def engine(self, dtype: torch.dtype = torch.float64, max_batch: int = 64, functions: object = None) -> Engine:
        offsets = packed_offsets(self.shape.tensors)[0]
        return Engine(self.shape, offsets, packed_offsets(self.shape.statistics)[0], dtype, max_batch, functions)

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        places = packed_offsets(self.shape.tensors)[0]
        sizes = self.shape.tensors
        return {k: flat[at : at + sizes[k][0] * sizes[k][1]].view(sizes[k]) for k, at in places.items()}

    def running(self, flat: Tensor) -> dict[str, Tensor]:
        places = packed_offsets(self.shape.statistics)[0]
        return {k: flat[at : at + self.shape.statistics[k]] for k, at in places.items()}


def case(shape: Shape, samples: int = 40) -> Case:
    """Random numbers of a size at which every part of the network matters."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    parts = []
    for name, (rows, columns) in shape.tensors.items():
        is_norm = rows == 1 and name.endswith("weight")
        values = (
            1 + 0.3 * normal(rows, columns) if is_norm else normal(rows, columns) * (columns if rows > 1 else 4) ** -0.5
        )
        parts.append(values.flatten())
    buffers = [0.5 + torch.rand(n, generator=generator, dtype=torch.float64) for n in shape.statistics.values()]
    x = normal(samples, shape.channels * shape.height * shape.width)
    classes = torch.randint(0, shape.classes, (samples,), generator=generator)
    return Case(
        shape,
        torch.cat(parts),
        torch.cat([*buffers, normal(0)]),
        x,
        functional.one_hot(classes, shape.classes).double(),
    )


def reference(
    c: Case, theta: Tensor, x: Tensor, *, training: bool, buffers: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Features and outputs by PyTorch's own layers; in training, ``buffers`` are updated."""
    shape, p = c.shape, c.named(theta)
    running = c.running(buffers if buffers is not None else c.buffers.clone())

    def norm(x: Tensor, name: str) -> Tensor:
        gain, shift = (p[f"{name}.{k}"][0] if f"{name}.{k}" in p else None for k in ("weight", "bias"))
        if shape.norm == "none":
            return x
        if shape.norm == "layer":
            last = functional.layer_norm(x.movedim(1, -1), x.shape[1:2], gain, shift, shape.norm_eps)
            return last.movedim(-1, 1)
        return functional.batch_norm(
            x, running[f"{name}.running_mean"], running[f"{name}.running_var"], gain, shift, training,
            shape.norm_momentum, shape.norm_eps,
        )  # fmt: skip

    def block_norm(x: Tensor, name: str) -> Tensor:
        if shape.norm == "none":
            return x
        return functional.layer_norm(x, x.shape[-1:], p[f"{name}.weight"][0], p[f"{name}.bias"][0], 1e-6)

    def conv(x: Tensor, name: str, stride: int = 1, *, depthwise: bool = False) -> Tensor:
        w = p[f"{name}.weight"]
        side = math.isqrt(w.shape[1]) if depthwise else 3
        groups = len(w) if depthwise else 1
        return functional.conv2d(
            x, w.view(len(w), -1, side, side), p[f"{name}.bias"][0], stride, side // 2, groups=groups
        )

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, p[f"{name}.weight"], p[f"{name}.bias"][0])

    def channels_last(x: Tensor, name: str) -> Tensor:
        return conv(x.permute(0, 3, 1, 2), name, depthwise=True).permute(0, 2, 3, 1)

    def rotated(x: Tensor, width: int) -> Tensor:
        """[batch, height, width, heads, e]."""
        half = x.shape[-1] // 2
        if not shape.rotary or half == 0:
            return x
        position = torch.arange(x.shape[1] * width, dtype=torch.float64).view(x.shape[1], width, 1, 1)
        theta = 10000 ** -torch.linspace(0, 1, half, dtype=torch.float64)
        turn = torch.polar(torch.ones(half, dtype=torch.float64), position * theta)
        pairs = torch.view_as_complex(x[..., : 2 * half].unflatten(-1, (half, 2)).contiguous())
        return torch.cat([torch.view_as_real(pairs * turn).flatten(-2), x[..., 2 * half :]], dim=-1)

    def attention(x: Tensor, name: str, stage: int) -> Tensor:
        batch, height, width, dim = x.shape
        heads = shape.heads[stage]
        decay = torch.tensor(shape.log_decay[stage], dtype=torch.float64)
        v = linear(x, f"{name}.v_proj")
        split = (batch, height, width, heads, dim // heads)
        q = rotated(linear(x, f"{name}.q_proj").view(split), width)
        k = rotated(linear(x, f"{name}.k_proj").view(split), width) / math.sqrt(dim // heads)
        o = v.view(split)
        ys, xs = torch.arange(height), torch.arange(width)
        far_y, far_x = (ys[:, None] - ys).abs(), (xs[:, None] - xs).abs()
        if shape.whole[stage]:
            distance = far_y[:, None, :, None] + far_x[None, :, None, :]
            logits = torch.einsum("byxhe,bYXhe->bhyxYX", q, k) + decay[:, None, None, None, None] * distance
            weights = logits.flatten(4).softmax(-1).view_as(logits)
            o = torch.einsum("bhyxYX,bYXhe->byxhe", weights, o)
        else:
            rows = torch.einsum("byxhe,byXhe->byhxX", q, k) + decay[:, None, None] * far_x
            o = torch.einsum("byhxX,byXhe->byxhe", rows.softmax(-1), o)
            columns = torch.einsum("byxhe,bYxhe->bxhyY", q, k) + decay[:, None, None] * far_y
            o = torch.einsum("bxhyY,bYxhe->byxhe", columns.softmax(-1), o)
        return linear(o.flatten(3) + channels_last(v, f"{name}.lepe.conv"), f"{name}.out_proj")

    x = x.view(-1, shape.channels, shape.height, shape.width)
    for i in range(4):
        x = norm(conv(x, f"patch_embed.proj.{3 * i}", shape.stem_strides[i]), f"patch_embed.proj.{3 * i + 1}")
        x = functional.gelu(x) if i < 3 else x
    for s, depth in enumerate(shape.depths):
        x = x.permute(0, 2, 3, 1)
        for b in range(depth):
            block = f"layers.{s}.blocks.{b}"
            x = x + channels_last(x, f"{block}.pos.conv")
            x = x + attention(block_norm(x, f"{block}.retention_layer_norm"), f"{block}.retention", s)
            u = functional.gelu(linear(block_norm(x, f"{block}.final_layer_norm"), f"{block}.ffn.fc1"))
            x = x + linear(u + channels_last(u, f"{block}.ffn.dwconv.conv"), f"{block}.ffn.fc2")
        x = x.permute(0, 3, 1, 2)
        if s + 1 < len(shape.dims):
            x = norm(conv(x, f"layers.{s}.downsample.reduction", 2), f"layers.{s}.downsample.norm")
    x = linear(x.permute(0, 2, 3, 1), "proj").permute(0, 3, 1, 2)
    features = functional.silu(norm(x, "norm")).mean(dim=(2, 3))
    return features, functional.linear(features, p["readout"][:, :-1], p["readout"][:, -1])


def reference_gradient(c: Case, order: Tensor, loss: str) -> tuple[float, Tensor, Tensor]:
    """Loss, gradient and running statistics afterwards."""
    theta, buffers = c.theta.clone().requires_grad_(), c.buffers.clone()
    _, outputs = reference(c, theta, c.x[order], training=True, buffers=buffers)
    y = c.y[order]
    value = functional.mse_loss(outputs, y) if loss == "mse" else functional.cross_entropy(outputs, y)
    value.backward()
    assert theta.grad is not None
    return value.item(), theta.grad, buffers


def engine_gradient(c: Case, engine: Engine, order: Tensor, loss: str) -> tuple[float, Tensor, Tensor]:
    dtype = engine.dtype
    theta, buffers, x, y = (t.to(dtype) for t in (c.theta, c.buffers.clone(), c.x, c.y))
    out = torch.full_like(theta, math.nan)
    return engine.gradient(theta, buffers, x, y, order, loss, out), out, buffers


SHAPES = {
    "digits k=2": family(2),
    "digits k=6": family(6),
    "digits k=8": family(8),
    "28x28": family(4, size=28, stages=3, patch=2),
    "32x32x3": family(4, size=32, channels=3, stages=4, patch=4),
    "deep, stride 2, not square": family(4, depths=(2, 1), height=9, width=6, patch=2),
    "whole": family(4, whole=(True, True)),
    "decomposed": family(4, whole=(False, False)),
    "no rotary": family(4, rotary=False),
    "layer": family(6, norm="layer", norm_eps=1e-3),
    "layer, no affine": family(4, norm="layer", norm_affine=False),
    "batch, no affine": family(4, norm_affine=False, norm_eps=1e-2, norm_momentum=0.3),
    "none": family(4, norm="none"),
    "one stage": family(4, stages=1, depths=(1,)),
    "a last map of one pixel": family(4, size=4, stages=3),
    "one row": family(4, height=1, width=8),
    "odd sizes": family(
        6, hidden=(7, 5), projection=9, classes=3, heads=(3, 1), log_decay=((-0.1, -0.2, -0.3), (-0.4,))
    ),
}


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("name", SHAPES)
def test_gradients_are_those_of_autograd(name: str, loss: str) -> None:
    c = case(SHAPES[name])
    batch = 7 if c.shape.height > 9 else 21  # not a multiple of the lanes
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:batch]
    value, gradient, buffers = engine_gradient(c, c.engine(), order, loss)
    expected_value, expected, expected_buffers = reference_gradient(c, order, loss)
    assert value == pytest.approx(expected_value, rel=1e-12)
    torch.testing.assert_close(buffers, expected_buffers, rtol=1e-11, atol=1e-13)
    largest = float(expected.abs().max())
    for key, part in c.named(expected).items():
        # biases before a BatchNorm have a gradient of exactly zero, rounding apart
        scale = max(float(part.abs().max()), 1e-5 * largest)
        error = float((c.named(gradient)[key] - part).abs().max())
        assert error <= 1e-9 * scale, f"{key}: {error / scale}"


@pytest.mark.parametrize("variant", ["baseline", "avx2"])
@pytest.mark.parametrize("k", [6, 8])
def test_single_precision_is_near_double_precision_on_every_instruction_set(k: int, variant: str) -> None:
    found = library()
    assert found is not None
    paths = sorted(Path(rmt.__file__).parent.glob(f"engine_{variant}.*"))
    if not paths or torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip(f"no {variant} library here")
    c, order = case(family(k)), torch.arange(33)
    expected_value, expected, expected_buffers = engine_gradient(c, c.engine(), order, "cross_entropy")
    engine = c.engine(torch.float32, functions=ctypes.CDLL(str(paths[0])))
    value, gradient, buffers = engine_gradient(c, engine, order, "cross_entropy")
    assert value == pytest.approx(expected_value, rel=1e-5)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-5
    torch.testing.assert_close(buffers.double(), expected_buffers, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_statistics", [False, True])
@pytest.mark.parametrize("name", ["digits k=6", "28x28", "32x32x3", "layer", "none"])
def test_features_and_outputs_are_those_of_pytorch(name: str, batch_statistics: bool) -> None:
    c = case(SHAPES[name], samples=5 if name in ("28x28", "32x32x3") else 75)
    before = c.buffers.clone()
    features, outputs = c.engine().outputs(c.theta, c.buffers, c.x, batch_statistics=batch_statistics)
    assert torch.equal(c.buffers, before)
    with torch.no_grad():
        expected = reference(c, c.theta, c.x, training=batch_statistics)
    torch.testing.assert_close(features, expected[0], rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(outputs, expected[1], rtol=1e-10, atol=1e-11)


def test_outputs_of_a_sample_are_the_same_bits_in_any_company() -> None:
    c = case(SHAPES["digits k=6"], samples=75)
    engine = c.engine()
    _, together = engine.outputs(c.theta, c.buffers, c.x)
    _, alone = engine.outputs(c.theta, c.buffers, c.x[70:71].contiguous())
    assert torch.equal(together[70:71], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["digits k=6", "layer", "decomposed"])
def test_calls_before_change_no_bit(name: str, dtype: torch.dtype) -> None:
    c, order = case(SHAPES[name]), torch.arange(13)
    first = engine_gradient(c, c.engine(dtype), order, "mse")
    engine = c.engine(dtype, max_batch=40)
    c.x[30] = math.nan  # what the workspace then holds must not matter
    engine_gradient(c, engine, torch.arange(40), "cross_entropy")
    engine.outputs(c.theta.to(dtype), c.buffers.to(dtype), c.x.to(dtype))
    again = engine_gradient(c, engine, order, "mse")
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[2], again[2])


def test_parameters_may_lie_in_any_order_with_gaps() -> None:
    c, order = case(SHAPES["digits k=6"]), torch.arange(17)
    _, expected, _ = engine_gradient(c, c.engine(), order, "mse")
    names = list(c.shape.tensors)[::-1]
    places, size = packed_offsets({name: (1, math.prod(c.shape.tensors[name]) + 1) for name in names})
    theta, out = (torch.full((size,), math.nan, dtype=torch.float64) for _ in range(2))
    for name, part in c.named(c.theta).items():
        theta[places[name] : places[name] + part.numel()] = part.flatten()
    engine = Engine(c.shape, places, packed_offsets(c.shape.statistics)[0], torch.float64, 17)
    engine.gradient(theta, c.buffers, c.x, c.y, order, "mse", out)
    for name, part in c.named(expected).items():
        assert torch.equal(out[places[name] : places[name] + part.numel()], part.flatten())
    assert int(out.isnan().sum()) == len(names), "gaps are left alone"


FUNCTIONS = {
    "exponential": (0, np.exp),
    "normal": (1, scipy.special.ndtr),
    "gelu": (2, lambda x: x * scipy.special.ndtr(x)),
    "silu": (3, lambda x: x * scipy.special.expit(x)),
}
DENSITY = math.sqrt(1 / (2 * math.pi))
SLOPES = {
    "exponential": np.exp,
    "normal": lambda x: DENSITY * np.exp(-0.5 * x * x),
    "gelu": lambda x: scipy.special.ndtr(x) + x * DENSITY * np.exp(-0.5 * x * x),
    "silu": lambda x: scipy.special.expit(x) * (1 + x * scipy.special.expit(-x)),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 4e-7), (np.float64, 2e-15)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_vectors_are_accurate(name: str, dtype: type, tolerance: float) -> None:
    number, function = FUNCTIONS[name]
    x = np.linspace(-12, 12, 64000, dtype=dtype)
    out, slope = np.empty_like(x), np.empty_like(x)
    compiled = getattr(library(), f"dd_rmt_function_f{8 * x.itemsize}")
    compiled(
        ctypes.c_int64(number), ctypes.c_void_p(x.ctypes.data), ctypes.c_int64(len(x)),
        ctypes.c_void_p(out.ctypes.data), ctypes.c_void_p(slope.ctypes.data),
    )  # fmt: skip
    exact = x.astype(np.float64)
    for got, expected in ((out, function(exact)), (slope, SLOPES[name](exact))):
        assert np.all(np.abs(got - expected) <= tolerance * np.maximum(1, np.abs(expected)))


def test_functions_let_overflow_and_nan_through() -> None:
    x = np.array([math.nan, math.inf, -math.inf, 1e30, -1e30, 0, -0.0, 200] * 2, dtype=np.float32)
    out, slope = np.empty_like(x), np.empty_like(x)
    compiled = library()
    assert compiled is not None
    for number in (0, 2, 3):
        compiled.dd_rmt_function_f32(
            ctypes.c_int64(number), ctypes.c_void_p(x.ctypes.data), ctypes.c_int64(len(x)),
            ctypes.c_void_p(out.ctypes.data), ctypes.c_void_p(slope.ctypes.data),
        )  # fmt: skip
        assert math.isnan(out[0])
        assert out[3] > 1e29
        assert abs(out[4]) < 1e-6


def test_memory_of_outputs_does_not_hold_what_only_gradients_need() -> None:
    shape = family(8)
    gradient, outputs = (workspace_bytes(shape, 10_000, torch.float64, gradient=g) for g in (True, False))
    assert gradient > 5 * outputs
    assert workspace_bytes(shape, 20_000, torch.float32, gradient=True) == pytest.approx(gradient, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": (3, 6)}, "first must be even"),
        ({"heads": (2, 5)}, "heads="),
        ({"depths": (1,)}, "depths="),
        ({"norm": "group"}, "norm=group"),
        ({"stem_strides": (3, 1, 1, 1)}, "stem_strides="),
        ({"projection": 0}, "positive"),
    ],
)
def test_shapes_that_make_no_network_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(4, **changes)


def test_arguments_that_do_not_fit_are_refused() -> None:
    c = case(family(2))
    engine, order, out = c.engine(max_batch=5), torch.arange(5), torch.empty_like(c.theta)

    def refused(message: str, **changes: object) -> None:
        arguments = {
            "theta": c.theta, "buffers": c.buffers, "x": c.x, "y": c.y, "order": order, "loss": "mse", "out": out,
        } | changes  # fmt: skip
        with pytest.raises(ValueError, match=message):
            engine.gradient(**arguments)

    refused("theta is float32", theta=c.theta.float())
    refused("theta has", theta=c.theta[:-1].clone(), out=out[:-1])
    refused("not contiguous", x=c.x.T.contiguous().T)
    refused("y is", y=c.y[1:])
    refused("order is", order=order.int())
    refused("order names rows", order=order + 38)
    refused("max_batch=5", order=torch.arange(6))
    refused("loss=hinge", loss="hinge")
    with pytest.raises(ValueError, match="no offset of readout"):
        Engine(c.shape, {k: 0 for k in c.shape.tensors if k != "readout"}, {}, torch.float32, 5)
    tiny = case(replace(c.shape, height=1, width=1))
    with pytest.raises(ValueError, match="no variance"):
        engine_gradient(tiny, tiny.engine(), torch.arange(1), "mse")
