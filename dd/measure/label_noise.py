"""Losses and errors of the training samples with clean and with noisy labels, apart."""

from __future__ import annotations

import torch
from torch import Tensor

from dd import losses
from dd.network import Samples

PARTS = ("clean", "noisy")


class CleanAndNoisy:
    """Losses and errors of two parts of the training set, added up piece by piece.

    The losses are against the labels that were trained on. So the losses of the parts, weighted by their shares of the
    samples, make the training loss.

    Args:
        loss: name of the loss.
        noisy: whether the label of a sample is another than the given one, [samples].
    """

    def __init__(self, loss: str, noisy: Tensor) -> None:
        self.loss, self._noisy, self._done = loss, noisy, 0
        self._losses, self._wrong = [0.0, 0.0], [0.0, 0.0]

    def add(self, outputs: Tensor, samples: Samples) -> None:
        """Take the next samples.

        Args:
            outputs: of one run, [1, samples, outputs].
            samples: their targets and classes.
        """
        assert samples.classes is not None
        noisy = self._noisy[self._done : self._done + len(samples.targets)].to(outputs.device)
        self._done += len(noisy)
        for part, chosen in enumerate((~noisy, noisy)):
            index = torch.nonzero(chosen)[:, 0]
            if not len(index):
                continue
            own = outputs.index_select(1, index)
            self._losses[part] += len(index) * float(losses.value(self.loss, own, samples.targets[index]))
            self._wrong[part] += len(index) * float(losses.error(own, samples.classes[index]))

    def columns(self) -> dict[str, float]:
        """The columns ``train_loss_clean``, ``train_error_clean``, and the same of ``noisy``; none of an empty part."""
        found = {}
        noisy = int(self._noisy.sum())
        for part, count in enumerate((len(self._noisy) - noisy, noisy)):
            if count:
                found[f"train_loss_{PARTS[part]}"] = self._losses[part] / count
                found[f"train_error_{PARTS[part]}"] = self._wrong[part] / count
        return found
