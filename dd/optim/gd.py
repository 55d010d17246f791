"""Full-batch gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

from dd.optim.sgd import SGD


@dataclass(frozen=True)
class GD(SGD):
    """theta -= lr · g with the gradient of the whole training set."""

    full_batch = True
    dual = False
