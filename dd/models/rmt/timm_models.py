"""RMT in timm's registry: after ``import dd.models.rmt.timm_models``, ``timm.create_model("rmt_s", num_classes=10)``.

Needs the extra ``timm`` (``pip install 'dd-lab[timm]'``). There are no weights to fetch: ``pretrained=True`` has no
source, see :mod:`dd.models.rmt.checkpoint` for files at hand.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from dd.models.rmt.backbone import RMT
from dd.models.rmt.variants import VARIANTS, published

default_cfgs = generate_default_cfgs(
    {
        name: {
            "url": "",
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "patch_embed.proj.0",
            "classifier": "head",
        }
        for name in VARIANTS
    }
)


class TimmRMT(RMT):
    """A published size with the methods that timm's users expect.

    Args:
        variant: ``rmt_t``, ``rmt_s``, ``rmt_b`` or ``rmt_l``.
        num_classes: outputs; 0 for a model that ends on the pooled features.
        in_chans: channels of the images.
        img_size: side, or height and width, of the images for which position tables are kept; others pass as well.
        drop_path_rate: of the last block; None: the published one.
    """

    output_fmt = "NHWC"

    def __init__(
        self,
        variant: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        drop_path_rate: float | None = None,
    ) -> None:
        architecture = published(variant, max(num_classes, 1), in_chans)
        if drop_path_rate is not None:
            architecture = replace(architecture, drop_path=drop_path_rate)
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        super().__init__(architecture, (height, width))
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = architecture.projection
        if num_classes == 0:
            self.reset_classifier(0)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images [samples, channels, height, width] -> the map before pooling, [samples, height', width', 1024]."""
        return self.forward_map(images)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """A map [samples, height', width', 1024] -> logits [samples, classes], or its mean [samples, 1024]."""
        pooled = features.mean(dim=(1, 2))
        return pooled if pre_logits else self.head(pooled)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new last layer in place, none for 0 classes.

        Raises:
            ValueError: a pooling other than the mean.
        """
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool={global_pool!r}: must be 'avg'")
        self.num_classes = num_classes
        if num_classes == 0:
            self.head = nn.Identity()
            return
        at = self.proj.weight
        head = nn.Linear(self.num_features, num_classes, device=at.device, dtype=at.dtype)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        self.head = head


def _create(variant: str, pretrained: bool, **kwargs: object) -> TimmRMT:
    if kwargs.get("features_only"):
        raise ValueError("features_only=True: is not offered for RMT; forward_features returns the last map")
    model: TimmRMT = build_model_with_cfg(partial(TimmRMT, variant), variant, pretrained, **kwargs)
    return model


@register_model
def rmt_t(pretrained: bool = False, **kwargs: object) -> TimmRMT:
    """RMT-T, 14 million parameters."""
    return _create("rmt_t", pretrained, **kwargs)


@register_model
def rmt_s(pretrained: bool = False, **kwargs: object) -> TimmRMT:
    """RMT-S, 27 million parameters."""
    return _create("rmt_s", pretrained, **kwargs)


@register_model
def rmt_b(pretrained: bool = False, **kwargs: object) -> TimmRMT:
    """RMT-B, 54 million parameters."""
    return _create("rmt_b", pretrained, **kwargs)


@register_model
def rmt_l(pretrained: bool = False, **kwargs: object) -> TimmRMT:
    """RMT-L, 95 million parameters."""
    return _create("rmt_l", pretrained, **kwargs)
