"""Losses, gradients and errors against torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from dd import losses

GENERATOR = torch.Generator().manual_seed(0)
OUTPUTS = torch.randn(3, 40, 10, generator=GENERATOR, dtype=torch.float64)
CLASSES = torch.randint(0, 10, (40,), generator=GENERATOR)
TARGETS = functional.one_hot(CLASSES, 10).double()
TORCH = {"mse": functional.mse_loss, "cross_entropy": functional.cross_entropy}


@pytest.mark.parametrize("name", TORCH)
def test_value_and_gradient_are_torchs(name: str) -> None:
    leaf = OUTPUTS.clone().requires_grad_(True)
    expected = torch.stack([TORCH[name](leaf[i], TARGETS) for i in range(3)])
    torch.testing.assert_close(losses.value(name, OUTPUTS, TARGETS), expected.detach())
    expected.sum().backward()
    torch.testing.assert_close(losses.gradient(name, OUTPUTS, TARGETS), leaf.grad)


@pytest.mark.parametrize("layout", ["samples first", "outputs first"])
def test_error_is_the_share_of_wrong_largest_outputs(layout: str) -> None:
    outputs = OUTPUTS if layout == "samples first" else OUTPUTS.mT.contiguous().mT
    expected = (OUTPUTS.argmax(dim=2) != CLASSES).double().mean(dim=1)
    torch.testing.assert_close(losses.error(outputs, CLASSES), expected)
    tied = torch.zeros(1, 40, 10)
    torch.testing.assert_close(losses.error(tied, CLASSES)[0], (CLASSES != 0).double().mean())
