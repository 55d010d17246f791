"""RMT through timm's registry; skipped where timm (or torchvision, which it imports) is missing."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

timm = pytest.importorskip("timm")
importlib.import_module("dd.models.rmt.timm_models")


def test_the_published_sizes_are_registered() -> None:
    assert set(timm.list_models("rmt_*")) == {"rmt_t", "rmt_s", "rmt_b", "rmt_l"}
    with torch.device("meta"):
        model = timm.create_model("rmt_s")
    assert sum(p.numel() for p in model.parameters()) == 26_967_240
    assert model.default_cfg["input_size"] == (3, 224, 224)
    assert getattr(model, model.pretrained_cfg["classifier"]) is model.get_classifier()


def test_timms_arguments_are_understood() -> None:
    model = timm.create_model("rmt_t", num_classes=10, in_chans=1, img_size=32, drop_path_rate=0.2).eval()
    x = torch.randn(2, 1, 32, 32)
    assert (model.num_classes, model.architecture.drop_path) == (10, 0.2)
    assert model(x).shape == (2, 10)
    torch.testing.assert_close(model.forward_head(model.forward_features(x)), model(x))
    pooled = model.forward_head(model.forward_features(x), pre_logits=True)
    assert isinstance(model.get_classifier(), nn.Linear)
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), pooled)
    model.reset_classifier(7)
    assert model(x).shape == (2, 7)


def test_no_classes_give_the_pooled_features() -> None:
    with torch.device("meta"):
        model = timm.create_model("rmt_t", num_classes=0, img_size=(32, 64))
        assert model(torch.empty(2, 3, 32, 64)).shape == (2, model.num_features)


def test_what_is_not_offered_is_refused() -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match="features_only=True: is not offered"):
            timm.create_model("rmt_t", features_only=True)
        with pytest.raises(ValueError, match="global_pool='max': must be 'avg'"):
            timm.create_model("rmt_t").reset_classifier(3, "max")
