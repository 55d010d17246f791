"""The model family ``rmt``: width variants RMT-W of the backbone, trained and measured as the other families are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from dd.components.module import CompiledNetwork, ModuleModel
from dd.components.normalization import AffineNormalization
from dd.errors import ConfigError
from dd.models.rmt.architecture import Architecture
from dd.models.rmt.backbone import RMT
from dd.models.rmt.compiled import compiled, suits
from dd.models.rmt.layers import BatchNorm
from dd.models.rmt.variants import width_variant
from dd.runs.axis import axis
from dd.runs.run import OriginOf, Run

NORMS = {"batch_norm": "batch", "layer_norm": "layer", "none": "none"}
"""``normalization`` -> what stands in the stem, the mergings and the head."""

GEOMETRIES = ((16, "1-1", 1), (31, "1-1-1", 2), (64, "2-2-2-2", 2))
"""Images up to this side, depths and patch that ``auto`` stands for; larger ones: as the last, patch 4."""


@dataclass(frozen=True)
class RMTWidth(ModuleModel):
    """RMT-W(k; depths, patch): maps of k, 2k, 4k, ... channels, heads fixed, projection 2 dims_S (``docs/rmt.md``).

    features = mean over the last map's tokens of SiLU(norm(projection)); ``normalization=batch_norm`` is the released
    network (BatchNorm in stem, mergings and head, LayerNorm in the blocks), ``layer_norm`` puts LayerNorm in the place
    of BatchNorm, ``none`` leaves out both.
    """

    default_init = "fixed"
    images = True
    layers = (nn.Linear,)
    normalizations = tuple(NORMS)
    norms = (BatchNorm,)

    depths: str = axis("auto", "blocks of each stage, as 1-1 or 2-2-2-2; auto: by the images' size")
    patch: int | str = axis("auto", "total stride of the stem: 1, 2 or 4", low=1, high=4, words=("auto",))
    attention: str = axis(
        "released",
        "log-decay added to the logits, or softmax times decay (the paper's)",
        choices=("released", "product"),
    )
    rotary: bool = axis(True, "rotate queries and keys by their position")

    def settle(self, run: Run, origin: OriginOf) -> Run:
        """Depths and patch by the images' size."""
        side = max(self.image(run, origin)[1:])
        chosen = next((row for row in GEOMETRIES if side <= row[0]), (side, GEOMETRIES[-1][1], 4))
        depths = chosen[1] if self.depths == "auto" else self.depths
        if all(part.isascii() and part.isdecimal() for part in depths.split("-")):
            depths = "-".join(str(int(part)) for part in depths.split("-"))
        return run.replace(model=replace(self, depths=depths, patch=chosen[2] if self.patch == "auto" else self.patch))

    def check(self, run: Run, origin: OriginOf) -> None:
        """Refuse what cannot be built, with the reason."""
        self.check_normalization(run, origin)
        zero = run.init is not None and run.init.name == "zero"
        for key, value, bad in (("init", "zero", zero), ("init.scale", 0, run.init_scale == 0)):
            if bad:
                text = "linear layers of zeros pass no gradient: of model=rmt only the last biases would move"
                raise ConfigError(key, value, text, origin(key))
        if run.width % 2 or run.width < 2:
            raise ConfigError(
                "width", run.width, "must be even and >= 2 for model=rmt (half of it are the stem's channels)",
                origin("width"),
            )  # fmt: skip
        depths = self.depths.split("-")
        if not 1 <= len(depths) <= 4 or not all(d.isascii() and d.isdecimal() and int(d) > 0 for d in depths):
            raise ConfigError(
                "model.depths",
                self.depths,
                "must be blocks of one to four stages, as 1-1 or 2-2-8-2",
                origin("model.depths"),
            )
        if self.patch == 3:
            raise ConfigError("model.patch", 3, "must be 1, 2 or 4", origin("model.patch"))
        try:
            last = self._sizes(run)[-1]
        except ValueError as error:
            raise ConfigError(
                "model.depths",
                self.depths,
                f"with model.patch={self.patch}: {error}",
                origin("model.depths"),
            ) from None
        lonely = run.batch_size == 1 or run.n_train % (run.batch_size or 1) == 1
        if run.normalization.batch_dependent and lonely and math.prod(last) == 1:
            text = "batch_norm has no variance of one sample whose last map is one pixel: every batch needs two"
            raise ConfigError("batch_size", run.batch_size, text, origin("batch_size"))

    def architecture(self, run: Run) -> Architecture:
        """The run's network; its classifier is not used, the family has its own read-out."""
        channels, height, width = self.image(run)
        norm = run.normalization
        return _variant(
            run.width, channels=channels, height=height, width=width, classes=run.outputs,
            depths=tuple(int(d) for d in self.depths.split("-")), patch=int(self.patch), form=self.attention,
            rotary=self.rotary, norm=NORMS[norm.name], norm_affine=norm.trains,
            norm_eps=norm.eps if isinstance(norm, AffineNormalization) else 1e-5,
            norm_momentum=0.1 if norm.memory is None else norm.memory,
        )  # fmt: skip

    def _sizes(self, run: Run) -> tuple[tuple[int, int], ...]:
        """Height and width of each stage's map."""
        return self.architecture(run).stage_sizes(*self.image(run)[1:])

    def module(self, run: Run) -> nn.Module:
        """The network without its classifier.

        Attention is written out: fused kernels take no heads as narrow as these, and derivatives of every kind are
        needed.
        """
        trunk = RMT(self.architecture(run), size=self.image(run)[1:]).write_out_attention()
        trunk.head = nn.Identity()
        return trunk

    def feature_count(self, run: Run) -> int:
        """Width of the projection."""
        return self.architecture(run).projection

    def parameter_count(self, run: Run) -> int:
        """Exact."""
        return self.architecture(run).parameters()

    def multiply_adds(self, run: Run) -> float:
        """Convolutions, linear layers and attention of one image."""
        return float(self.architecture(run).multiply_adds(*self.image(run)[1:]))

    def activation_bytes(self, run: Run) -> float:
        """About forty maps a block and nine before the first, float32."""
        a = self.architecture(run)
        maps = (40 * depth * math.prod(size) * dim
                for size, dim, depth in zip(self._sizes(run), a.dims, a.depths, strict=True))  # fmt: skip
        return 4.0 * (sum(maps) + 9 * math.prod(self.image(run)[1:]) * a.dims[0])

    def map_bytes(self, run: Run) -> float:
        """Four times the largest map, inside a feed-forward layer."""
        hidden = self.architecture(run).hidden
        return 4 * 8.0 * max(math.prod(size) * n for size, n in zip(self._sizes(run), hidden, strict=True))

    def interpolation_width(self, run: Run, inputs: int, outputs: int) -> float:
        """Width at which the trained parameters number samples times outputs.

        Parameters are a quadratic in k, known from three widths.
        """
        widths = (self.architecture(run.replace(width=k)) for k in (2, 4, 6))
        counts = [replace(architecture, classes=outputs).parameters() for architecture in widths]
        a, b, c = np.polyfit([2, 4, 6], counts, 2)
        c -= run.n_train * outputs
        root = b * b - 4 * a * c
        return float((-b + math.sqrt(root)) / (2 * a)) if root >= 0 else 0.0

    def draws(self, run: Run) -> bool:
        """Never: it has no dropout."""
        return False

    def has_compiled(self, run: Run) -> bool:
        """See :meth:`ModuleModel.has_compiled`."""
        return suits(self.architecture(run))

    def compiled(self, run: Run, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> CompiledNetwork | None:
        """See :meth:`ModuleModel.compiled`."""
        architecture = replace(self.architecture(run), classes=shapes["readout"][0])
        if not suits(architecture):
            return None
        tensors = tuple((name, math.prod(shape)) for name, shape in shapes.items())
        return compiled(architecture, self.image(run)[1:], tensors, dtype)


_variant = lru_cache(maxsize=256)(width_variant)
