"""The backbone against a second writing of it, torch's own layers and numerical derivatives.

Covers: dd/models/rmt/layers.py.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.nn import functional as F

from dd.models.rmt.architecture import Architecture
from dd.models.rmt.backbone import RMT
from dd.models.rmt.layers import BatchNorm, DropPath
from dd.models.rmt.variants import VARIANTS, width_variant

SIZE = (8, 8)


def digits(k: int = 4, **options: object) -> Architecture:
    return width_variant(k, channels=1, height=8, width=8, classes=3, depths=(1, 1), patch=1, **options)


TINY = Architecture(
    channels=2,
    classes=3,
    dims=(4, 6, 8),
    depths=(2, 1, 1),
    heads=(2, 3, 2),
    ratios=(3, 2, 2.5),
    stem_strides=(2, 1, 1, 1),
    decay_ranges=(4, 5, 6),
    whole=(False, True, True),
    projection=10,
    layer_scale=(None, 0.5, None),
)


def stirred(architecture: Architecture, size: tuple[int, int] | None = None, seed: int = 0) -> RMT:
    """A float64 model whose every parameter and running statistic is drawn, so that none hides behind 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    model = RMT(architecture, size).double().eval()
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point() and ".Relpos." not in name:
            drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.data = drawn + 0.5 if name.endswith("running_var") else 0.8 * (drawn - 0.5)
    return model


def images(samples: int, channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randn(samples, channels, height, width, generator=generator, dtype=torch.float64)


def reference(state: dict[str, Tensor], a: Architecture, x: Tensor) -> Tensor:
    """Evaluation of the network written with torch's functions in channels-first order, released form."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, state[f"{name}.bias"], stride, weight.shape[-1] // 2, groups=groups)

    def batch_norm(x: Tensor, name: str) -> Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys), eps=a.norm_eps)

    def tokens(x: Tensor) -> Tensor:
        return x.flatten(2).mT

    def layer_norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(tokens(x), x.shape[1:2], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(z: Tensor, name: str) -> Tensor:
        return F.linear(z, state[f"{name}.weight"], state[f"{name}.bias"])

    def turned(z: Tensor) -> Tensor:
        pairs = z.shape[-1] // 2
        theta = torch.tensor([10000 ** (-m / (pairs - 1)) if pairs > 1 else 1.0 for m in range(pairs)]).to(z)
        phase = torch.exp(1j * torch.arange(z.shape[-2])[:, None] * theta)
        even, odd = z[..., 0 : 2 * pairs : 2], z[..., 1 : 2 * pairs : 2]
        return torch.cat([torch.view_as_real((even + 1j * odd) * phase).flatten(-2), z[..., 2 * pairs :]], dim=-1)

    def attention(z: Tensor, name: str, stage: int, height: int, width: int) -> Tensor:
        heads, dim = a.heads[stage], a.dims[stage]
        q, k, v = (linear(z, f"{name}.{letter}_proj") for letter in "qkv")
        local = tokens(conv(v.mT.unflatten(-1, (height, width)), f"{name}.lepe.conv"))
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        q, k = turned(q), turned(k) / math.sqrt(dim // heads)
        row, column = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
        dy, dx = (row[:, None] - row).abs(), (column[:, None] - column).abs()
        gammas = [1 - 2 ** -(a.decay_start + a.decay_ranges[stage] * j / heads) for j in range(heads)]
        log_gamma = torch.tensor(gammas, dtype=torch.float64).log()[:, None, None]
        logits = q @ k.mT + log_gamma * (dx + dy)
        if a.whole[stage]:
            v = logits.softmax(-1) @ v
        else:  # of all pixels, those of the own row, then those of the own column
            v = logits.masked_fill(dy > 0, -math.inf).softmax(-1) @ v
            v = logits.masked_fill(dx > 0, -math.inf).softmax(-1) @ v
        return linear(v.transpose(1, 2).flatten(-2) + local, f"{name}.out_proj")

    for i, stride in enumerate(a.stem_strides):
        x = batch_norm(conv(x, f"patch_embed.proj.{3 * i}", stride), f"patch_embed.proj.{3 * i + 1}")
        x = F.gelu(x) if i < 3 else x
    for stage, depth in enumerate(a.depths):
        height, width = x.shape[2:]
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}"
            x = x + conv(x, f"{name}.pos.conv")
            one = state.get(f"{name}.gamma_1", torch.ones(1, 1, 1, 1).double())[0]
            two = state.get(f"{name}.gamma_2", torch.ones(1, 1, 1, 1).double())[0]
            z = attention(layer_norm(x, f"{name}.retention_layer_norm"), f"{name}.retention", stage, height, width)
            x = x + (one * z).mT.unflatten(-1, (height, width))
            z = F.gelu(linear(layer_norm(x, f"{name}.final_layer_norm"), f"{name}.ffn.fc1"))
            z = z + tokens(conv(z.mT.unflatten(-1, (height, width)), f"{name}.ffn.dwconv.conv"))
            x = x + (two * linear(z, f"{name}.ffn.fc2")).mT.unflatten(-1, (height, width))
        if stage + 1 < len(a.depths):
            x = batch_norm(conv(x, f"layers.{stage}.downsample.reduction", 2), f"layers.{stage}.downsample.norm")
    z = F.silu(batch_norm(linear(tokens(x), "proj").mT, "norm"))
    return linear(z.mean(-1), "head")


@pytest.mark.parametrize("architecture", [TINY, replace(TINY, dims=(4, 8, 8), heads=(2, 2, 4)), digits(6)])
def test_the_backbone_equals_a_second_writing_of_it(architecture: Architecture) -> None:
    model = stirred(architecture)
    x = images(2, architecture.channels, 9, 12)
    torch.testing.assert_close(model(x), reference(model.state_dict(), architecture, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("architecture", [TINY, digits(8)])
def test_float32_equals_float64(architecture: Architecture) -> None:
    model = stirred(architecture)
    x = images(3, architecture.channels, 16, 16)
    expected = model(x)
    torch.testing.assert_close(model.float()(x.float()).double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.write_out_attention()(x.float()).double(), expected, rtol=1e-4, atol=1e-4)


def test_kept_tables_change_nothing() -> None:
    kept, none = stirred(TINY, (12, 20)), stirred(TINY)
    for shape in ((12, 20), (20, 12), (16, 16)):
        x = images(2, 2, *shape)
        assert torch.equal(kept(x), none(x))


def test_logits_are_the_head_of_the_features() -> None:
    model = stirred(TINY)
    x = images(2, 2, 12, 12)
    features = model.forward_features(x)
    assert features.shape == (2, 10)
    torch.testing.assert_close(features, model.forward_map(x).mean(dim=(1, 2)))
    torch.testing.assert_close(model(x), F.linear(features, model.head.weight, model.head.bias))


BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "lepe.conv")
BLOCK = ["retention_layer_norm", "final_layer_norm", "ffn.fc1", "ffn.fc2", "ffn.dwconv.conv", "pos.conv"]
BLOCK += [f"retention.{layer}" for layer in LAYERS]


def released_keys(a: Architecture) -> set[str]:
    """Entries of the released files' state dicts."""
    keys = {f"patch_embed.proj.{i}.{e}" for i in (0, 3, 6, 9) for e in ("weight", "bias")}
    keys |= {f"patch_embed.proj.{i}.{e}" for i in (1, 4, 7, 10) for e in BATCH_NORM}
    for s, depth in enumerate(a.depths):
        keys |= {f"layers.{s}.Relpos.angle", f"layers.{s}.Relpos.decay"}
        for b in range(depth):
            keys |= {f"layers.{s}.blocks.{b}.{name}.{e}" for name in BLOCK for e in ("weight", "bias")}
            if a.layer_scale[s] is not None:
                keys |= {f"layers.{s}.blocks.{b}.gamma_{i}" for i in (1, 2)}
        if s + 1 < len(a.depths):
            keys |= {f"layers.{s}.downsample.reduction.{e}" for e in ("weight", "bias")}
            keys |= {f"layers.{s}.downsample.norm.{e}" for e in BATCH_NORM}
    keys |= {f"{name}.{e}" for name in ("proj", "head") for e in ("weight", "bias")}
    return keys | {f"norm.{e}" for e in BATCH_NORM}


@pytest.mark.parametrize("name", VARIANTS)
def test_state_dicts_have_the_released_entries(name: str) -> None:
    a = VARIANTS[name]
    with torch.device("meta"):
        state = RMT(a, (224, 224)).state_dict()
    assert set(state) == released_keys(a)
    c, f = a.dims[2], a.hidden[2]
    shapes = {
        "patch_embed.proj.3.weight": (a.dims[0] // 2, a.dims[0] // 2, 3, 3),
        "layers.2.Relpos.angle": (32,),
        "layers.2.Relpos.decay": (a.heads[2],),
        "layers.2.blocks.0.retention.lepe.conv.weight": (c, 1, 5, 5),
        "layers.2.blocks.0.ffn.dwconv.conv.weight": (f, 1, 3, 3),
        "layers.2.blocks.0.pos.conv.weight": (c, 1, 3, 3),
        "proj.weight": (1024, a.dims[3]),
        "head.weight": (1000, 1024),
        "norm.num_batches_tracked": (),
    }
    if a.layer_scale[2] is not None:
        shapes["layers.2.blocks.0.gamma_1"] = (1, 1, 1, c)
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


def test_other_norms_keep_the_places_of_the_keys() -> None:
    batch, layer, none = (set(RMT(replace(TINY, norm=norm)).state_dict()) for norm in ("batch", "layer", "none"))
    statistics = {key for key in batch if key.endswith(BATCH_NORM[2:])}
    assert layer == batch - statistics
    assert none == {key for key in layer if "norm" not in key and ".proj." not in key} | {
        key for key in layer if ".proj." in key and int(key.split(".")[2]) % 3 == 0
    }
    bare = set(RMT(replace(TINY, norm_affine=False)).state_dict())
    assert batch - bare == {
        key for key in batch - none if "layer_norm" not in key and key.endswith((".weight", ".bias"))
    }


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_equals_torchs(affine: bool) -> None:
    ours, theirs = BatchNorm(5, 1e-5, 0.1, affine).double(), nn.BatchNorm2d(5, affine=affine).double()
    if affine:
        nn.init.normal_(theirs.weight)
        nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    for step in range(3):
        x = images(4, 5, 3 + step, 2).requires_grad_()
        y = x.detach().clone().requires_grad_()
        found, expected = ours(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), theirs(y)
        torch.testing.assert_close(found, expected)
        for output in (found, expected):
            output.pow(3).sum().backward()
        torch.testing.assert_close(x.grad, y.grad)
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), theirs(x))


def test_batch_norm_refuses_to_train_on_one_value_a_channel() -> None:
    with pytest.raises(ValueError, match="needs more than one value a channel"):
        BatchNorm(5, 1e-5, 0.1, True)(torch.zeros(1, 1, 1, 5))


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("form", ["released", "product"])
@pytest.mark.parametrize("train", [True, False])
def test_derivatives_equal_numerical_ones(norm: str, form: str, train: bool) -> None:
    model = stirred(replace(TINY, norm=norm, form=form)).train(train)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def logits(x: Tensor, vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes.values()])
        parameters = {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        return functional_call(model, (parameters, buffers), (x,))

    vector = nn.utils.parameters_to_vector(model.parameters()).detach().requires_grad_()
    arguments = (images(2, 2, 6, 8).requires_grad_(), vector)
    torch.autograd.gradcheck(logits, arguments, fast_mode=True, check_forward_ad=True)
    if not train:
        torch.autograd.gradgradcheck(logits, arguments, fast_mode=True)


def stack(models: list[RMT]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers with a leading axis of runs, copies."""
    parameters, buffers = stack_module_state(models)
    return {k: v.detach() for k, v in parameters.items()}, {k: v.clone() for k, v in buffers.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("train", [True, False])
def test_stacked_models_equal_the_loop(dtype: torch.dtype, train: bool) -> None:
    models = [stirred(digits(6), SIZE, seed).to(dtype).train(train) for seed in range(3)]
    x = torch.stack([images(4, 1, 8, 8) + seed for seed in range(3)]).to(dtype)
    parameters, buffers = stack(models)
    template = RMT(digits(6), SIZE).train(train)

    def loss(p: dict[str, Tensor], b: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(template, (p, b), (x,)).square().mean()

    gradients = vmap(grad(loss))(parameters, buffers, x)
    exact = {"rtol": 1e-9, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-4}
    for i, model in enumerate(models):
        model(x[i]).square().mean().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name][i], parameter.grad, **exact)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffers[name][i], buffer, **exact)
    assert buffers["norm.num_batches_tracked"].tolist() == [int(train)] * 3


def test_forward_mode_through_a_gradient_is_the_hessian_times_a_vector() -> None:
    model = stirred(digits(2), SIZE)
    parameters = {k: v.detach() for k, v in model.named_parameters()}
    x = images(2, 1, 8, 8)

    def loss(p: dict[str, Tensor]) -> Tensor:
        return functional_call(model, p, (x,)).square().mean()

    tangent = {k: torch.randn(v.shape, dtype=v.dtype) for k, v in parameters.items()}
    found = jvp(grad(loss), (parameters,), (tangent,))[1]
    step = 1e-5
    ahead, behind = (grad(loss)({k: v + sign * step * tangent[k] for k, v in parameters.items()}) for sign in (1, -1))
    for name in parameters:
        torch.testing.assert_close(found[name], (ahead[name] - behind[name]) / (2 * step), rtol=1e-4, atol=1e-6)


def test_compilation_has_no_graph_break() -> None:
    model = RMT(digits(), SIZE)
    x = images(4, 1, 8, 8).float()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    found = compiled(x)
    assert int(model.norm.num_batches_tracked) == 1
    torch.testing.assert_close(found, model(x))


def test_autocast_runs_in_bfloat16() -> None:
    model = stirred(digits(8), SIZE).float().train()
    x = images(16, 1, 8, 8).float()
    expected = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    assert found.dtype == torch.bfloat16
    assert model.norm.running_var.dtype == torch.float32
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)
    found.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_drop_path_leaves_out_samples_and_keeps_the_mean() -> None:
    drop = DropPath(0.25)
    x = torch.rand(4000, 1, 2, 3) + 1
    torch.manual_seed(0)
    ratio = drop(x) / x
    kept = ratio[:, 0, 0, 0] > 0
    torch.testing.assert_close(ratio, kept[:, None, None, None].expand_as(x) / 0.75)
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.02)
    assert drop.eval()(x) is x


def test_drop_path_rates_rise_linearly_over_all_blocks() -> None:
    rates = [m.rate for m in RMT(replace(TINY, drop_path=0.3)).modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


def test_training_without_drop_path_draws_nothing() -> None:
    model = RMT(digits(), SIZE).train()
    before = torch.get_rng_state()
    model(images(2, 1, 8, 8).float())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_start_is_the_released_one() -> None:
    torch.manual_seed(0)
    model = RMT(digits(32, anchor=True))
    weights = torch.cat([m.weight.detach().flatten() for m in model.modules() if isinstance(m, nn.Linear)])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
    assert all(not m.bias.any() for m in model.modules() if isinstance(m, nn.Linear))
    filters = model.layers[1].blocks[0].retention.lepe.conv.weight
    assert 0.19 < float(filters.detach().abs().max()) <= 1 / 5  # torch's default: uniform within 1 / sqrt(25)
    scaled = RMT(replace(TINY, layer_scale=(None, 1e-6, None)))
    assert torch.equal(scaled.layers[1].blocks[0].gamma_2, torch.full((1, 1, 1, 6), 1e-6))


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ((2, 1, 8, 8), r"images of shape \(2, 1, 8, 8\): must be \[samples, 2, height, width\]"),
        ((2, 8, 8), r"must be \[samples, 2, height, width\]"),
        ((2, 2, 3, 3), "image size=3 x 3: stage 3 would halve a map of one pixel"),
    ],
)
def test_bad_images_are_refused_in_one_line(shape: tuple[int, ...], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        RMT(TINY)(torch.zeros(shape))


def test_a_size_at_which_images_vanish_is_refused() -> None:
    with pytest.raises(ValueError, match="stage 3 would halve"):
        RMT(TINY, (3, 3))
