"""The model family ``rmt``: width variants RMT-W of the backbone, trained and measured as the other families are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from dd import registry
from dd.axis import Axis
from dd.config import OriginOf, RunConfig
from dd.errors import ConfigError
from dd.models._base import Tensors, initialization
from dd.models._deep import Compiled, DeepModel
from dd.models.rmt.architecture import Architecture
from dd.models.rmt.backbone import RMT
from dd.models.rmt.compiled import compiled, suits
from dd.models.rmt.layers import BatchNorm
from dd.models.rmt.variants import width_variant
from dd.streams import stream

if TYPE_CHECKING:
    from dd.initializations._base import Initialization

NORMS = {"batch_norm": "batch", "layer_norm": "layer", "none": "none"}
"""``normalization`` -> what stands in the stem, the mergings and the head."""

GEOMETRIES = ((16, "1-1", 1), (31, "1-1-1", 2), (64, "2-2-2-2", 2))
"""Images up to this side, depths and patch that ``auto`` stands for; larger ones: as the last, patch 4."""

STATISTICS = ("running_mean", "running_var")


class RMTWidth(DeepModel):
    """RMT-W(k; depths, patch): maps of k, 2k, 4k, ... channels, heads fixed, projection 2 dims_S (``docs/rmt.md``).

    features = mean over the last map's tokens of SiLU(norm(projection)); ``normalization=batch_norm`` is the released
    network (BatchNorm in stem, mergings and head, LayerNorm in the blocks), ``layer_norm`` puts LayerNorm in the place
    of BatchNorm, ``none`` leaves out both. ``init`` is the law of the linear layers; convolutions keep torch's
    (U(-a, a), a = 1/sqrt(fan_in), biases too), gains are 1, biases 0.
    """

    default_init = "fixed"
    options = (
        Axis("depths", str, "auto", "blocks of each stage, as 1-1 or 2-2-2-2; auto: by the images' size"),
        Axis("patch", int, "auto", "total stride of the stem: 1, 2 or 4", low=1, high=4, words=("auto",)),
        Axis("attention", str, "released", "log-decay added to the logits, or softmax times decay (the paper's)",
             choices=("released", "product")),
        Axis("rotary", bool, True, "rotate queries and keys by their position"),
    )  # fmt: skip

    def has_bias(self, run: RunConfig) -> bool:
        """The classifier has one."""
        return True

    def settle(self, run: RunConfig, origin: OriginOf) -> RunConfig:
        """Depths and patch by the images' size."""
        _, height, width = _image(run, origin)
        side = max(height, width)
        chosen = next((row for row in GEOMETRIES if side <= row[0]), (side, GEOMETRIES[-1][1], 4))
        options = dict(run.options)
        for key, value in (("model.depths", chosen[1]), ("model.patch", chosen[2])):
            options[key] = value if options[key] == "auto" else options[key]
        given = options["model.depths"].split("-")
        if all(part.isascii() and part.isdecimal() for part in given):
            options["model.depths"] = "-".join(str(int(part)) for part in given)
        return run.replace(options=tuple(sorted(options.items())))

    def check(self, run: RunConfig, origin: OriginOf) -> None:
        """Refuse what cannot be built, with the reason."""
        if run.normalization not in NORMS:
            raise ConfigError(
                "normalization",
                run.normalization,
                "model=rmt normalises inside, on every level: use batch_norm (as released), layer_norm or none",
                origin("normalization"),
            )
        for key, value in (("init", run.init), ("init.scale", run.init_scale)):
            if value in ("zero", 0):
                text = "linear layers of zeros pass no gradient: of model=rmt only the last biases would move"
                raise ConfigError(key, value, text, origin(key))
        if run.width % 2 or run.width < 2:
            raise ConfigError(
                "width", run.width, "must be even and >= 2 for model=rmt (half of it are the stem's channels)",
                origin("width"),
            )  # fmt: skip
        options = run.group_options("model")
        depths = options["depths"].split("-")
        if not 1 <= len(depths) <= 4 or not all(d.isascii() and d.isdecimal() and int(d) > 0 for d in depths):
            raise ConfigError(
                "model.depths",
                options["depths"],
                "must be blocks of one to four stages, as 1-1 or 2-2-8-2",
                origin("model.depths"),
            )
        if options["patch"] == 3:
            raise ConfigError("model.patch", 3, "must be 1, 2 or 4", origin("model.patch"))
        _, height, width = _image(run, origin)
        try:
            last = self.architecture(run).stage_sizes(height, width)[-1]
        except ValueError as error:
            raise ConfigError(
                "model.depths",
                options["depths"],
                f"with model.patch={options['patch']}: {error}",
                origin("model.depths"),
            ) from None
        lonely = run.batch_size == 1 or run.n_train % (run.batch_size or 1) == 1
        if run.normalization == "batch_norm" and lonely and math.prod(last) == 1:
            text = "batch_norm has no variance of one sample whose last map is one pixel: every batch needs two"
            raise ConfigError("batch_size", run.batch_size, text, origin("batch_size"))

    def architecture(self, run: RunConfig) -> Architecture:
        """The run's network; its classifier is not used, the family has its own read-out."""
        return _architecture(run)

    def feature_count(self, run: RunConfig) -> int:
        """Width of the projection."""
        return self.architecture(run).projection

    def parameter_count(self, run: RunConfig) -> int:
        """Exact."""
        return self.architecture(run).parameters()

    def multiply_adds(self, run: RunConfig) -> float:
        """Convolutions, linear layers and attention of one image."""
        _, height, width = _image(run)
        return float(self.architecture(run).multiply_adds(height, width))

    def activation_bytes(self, run: RunConfig) -> float:
        """About forty maps a block and nine before the first, float32."""
        architecture = self.architecture(run)
        _, height, width = _image(run)
        sizes = architecture.stage_sizes(height, width)
        maps = (40 * depth * math.prod(size) * dim
                for size, dim, depth in zip(sizes, architecture.dims, architecture.depths, strict=True))  # fmt: skip
        return 4.0 * (sum(maps) + 9 * height * width * architecture.dims[0])

    def map_bytes(self, run: RunConfig) -> float:
        """Four times the largest map, inside a feed-forward layer."""
        architecture = self.architecture(run)
        _, height, width = _image(run)
        sizes = architecture.stage_sizes(height, width)
        return 4 * 8.0 * max(math.prod(size) * n for size, n in zip(sizes, architecture.hidden, strict=True))

    def interpolation_width(self, run: RunConfig, inputs: int, outputs: int) -> float:
        """Width at which the trained parameters number samples times outputs.

        Parameters are a quadratic in k, known from three widths.
        """
        widths = (self.architecture(run.replace(width=k)) for k in (2, 4, 6))
        counts = [replace(architecture, classes=outputs).parameters() for architecture in widths]
        a, b, c = np.polyfit([2, 4, 6], counts, 2)
        c -= run.n_train * outputs
        root = b * b - 4 * a * c
        return float((-b + math.sqrt(root)) / (2 * a)) if root >= 0 else 0.0

    def build(self, run: RunConfig, device: torch.device, dtype: torch.dtype) -> None:
        """The module that all forward passes call."""
        own = torch.empty(0, device=device).device  # cuda is cuda:0
        _trunk(self.architecture(run), _image(run)[1:], own, dtype)

    def buffers(self, run: RunConfig, inputs: int) -> Tensors:
        """Running means 0 and variances 1."""
        return {
            name: buffer.new_full((1, 1, buffer.numel()), float(name.endswith("running_var")), device="cpu").double()
            for name, buffer in _empty(self.architecture(run)).named_buffers()
            if name.endswith(STATISTICS)
        }

    def _draw(self, run: RunConfig, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        scheme = initialization(run, self.default_init)
        conv: Initialization = registry.get("init", "torch")
        drawn: dict[str, np.ndarray] = {}
        for name, module in _empty(self.architecture(run)).named_modules():
            if name == "head" or not isinstance(getattr(module, "weight", None), nn.Parameter):
                continue
            weight = module.weight
            assert isinstance(weight, Tensor)
            size = len(weight)
            if weight.ndim == 1:
                drawn[f"{name}.weight"], drawn[f"{name}.bias"] = np.ones((1, size)), np.zeros((1, size))
                continue
            linear, fan_in = weight.ndim == 2, math.prod(weight.shape[1:])
            law, scale = (scheme, 1.0 if run.init_scale is None else run.init_scale) if linear else (conv, 1.0)
            generators = (stream(run.seed, f"init.{name}{end}") for end in ("", ".bias"))
            drawn[f"{name}.weight"] = law.weight(next(generators), size, fan_in, fan_in, size) * scale
            drawn[f"{name}.bias"] = law.bias(next(generators), size, fan_in)[None] * scale
        order = [name for name, _ in _empty(self.architecture(run)).named_parameters() if name in drawn]
        readout = self._draw_readout(run, self.feature_count(run), outputs)
        return {name: np.ascontiguousarray(drawn[name]) for name in order} | {"readout": readout}

    def split(self, run: RunConfig, named: Mapping[str, Tensor]) -> list[Tensor]:
        """Linear layers and dense convolutions are matrices; depthwise kernels, biases and gains are vectors."""
        depthwise = {f"{n}.weight" for n, m in _empty(self.architecture(run)).named_modules() if _depthwise(m)}
        out: list[Tensor] = []
        for name, view in named.items():
            if name == "readout":
                out += [view[:, :, :-1], view[:, :, -1]]
            else:
                out.append(view.flatten(1) if name in depthwise or view.shape[1] == 1 else view)
        return out

    def compiled(self, run: RunConfig, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> Compiled | None:
        """See :meth:`DeepModel.compiled`."""
        architecture = replace(self.architecture(run), classes=shapes["readout"][0])
        if not suits(architecture):
            return None
        tensors = tuple((name, math.prod(shape)) for name, shape in shapes.items())
        return compiled(architecture, _image(run)[1:], tensors, dtype)

    def normalised_features(
        self,
        run: RunConfig,
        trained: Mapping[str, Tensor],
        x: Tensor,
        buffers: Mapping[str, Tensor],
        *,
        training: bool,
    ) -> Tensor:
        """See :meth:`DeepModel.normalised_features`; a stack is one call under ``torch.func.vmap``."""
        channels, height, width = _image(run)
        architecture = self.architecture(run)
        trunk = _trunk(architecture, (height, width), x.device, x.dtype).train(training)
        for module in trunk.modules():
            if isinstance(module, BatchNorm):
                module.track_running_stats = bool(buffers)
        shapes = _shapes(architecture)
        parameters = {k: v.view(len(v), *shapes[k]) for k, v in trained.items() if k in shapes}
        memory = {k: v[:, 0] for k, v in buffers.items()}
        images = x.view(*x.shape[:2], channels, height, width)

        def one(own: Tensors, statistics: Tensors, image: Tensor) -> Tensor:
            features: Tensor = torch.func.functional_call(trunk, (own, statistics), (image,))
            return features

        runs = len(trained["readout"])
        if runs == 1 and len(images) == 1:
            own, statistics = ({k: v[0] for k, v in each.items()} for each in (parameters, memory))
            return one(own, statistics, images[0])[None]
        shared = len(images) == 1
        return torch.func.vmap(one, in_dims=(0, 0, None if shared else 0))(
            parameters, memory, images[0] if shared else images
        )


def _depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups > 1


def _image(run: RunConfig, origin: OriginOf = lambda key: "") -> tuple[int, int, int]:
    """Channels, height and width of the run's images."""
    image: tuple[int, int, int] | None = run.component("data").image(run)
    if image is None:
        sets = [name for name in registry.names("data") if registry.get("data", name).image(run)]
        raise ConfigError(
            "data", run.data, "model=rmt needs images: use one of " + ", ".join(sets), origin("data") or origin("model")
        )
    return image


def _architecture(run: RunConfig) -> Architecture:
    options, norm = run.group_options("model"), run.group_options("normalization")
    channels, height, width = _image(run)
    return _variant(
        run.width,
        (channels, height, width),
        run.component("data").outputs,
        tuple(int(d) for d in options["depths"].split("-")),
        options["patch"],
        options["attention"],
        options["rotary"],
        (NORMS[run.normalization], norm.get("eps", 1e-5), norm.get("affine", True), norm.get("momentum", 0.1)),
    )


@lru_cache(maxsize=256)
def _variant(
    k: int,
    image: tuple[int, int, int],
    classes: int,
    depths: Sequence[int],
    patch: int,
    form: str,
    rotary: bool,
    norm: tuple[str, float, bool, float],
) -> Architecture:
    channels, height, width = image
    kind, eps, affine, momentum = norm
    return width_variant(
        k, channels=channels, height=height, width=width, classes=classes, depths=tuple(depths), patch=patch, form=form,
        rotary=rotary, norm=kind, norm_eps=eps, norm_affine=affine, norm_momentum=momentum,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _empty(architecture: Architecture) -> RMT:
    """The network without storage, for names and shapes."""
    with torch.device("meta"):
        return RMT(architecture)


@lru_cache(maxsize=256)
def _shapes(architecture: Architecture) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in _empty(architecture).named_parameters()}


@lru_cache(maxsize=64)
def _trunk(architecture: Architecture, size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> RMT:
    """The network that turns images into features; its own weights are never used.

    Attention is written out: fused kernels take no heads as narrow as these, and derivatives of every kind are needed.
    """
    trunk = RMT(architecture, size=size).write_out_attention()
    trunk.head = nn.Identity()
    return trunk.to(device, dtype).requires_grad_(False)
