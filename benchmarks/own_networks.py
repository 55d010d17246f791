"""Networks as a user's file has them, for ``own.py``."""

from torch import nn


def mlp(width: int, inputs: int, outputs: int) -> nn.Module:
    """Three layers."""
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


def cnn(width: int, image: tuple[int, int, int], outputs: int) -> nn.Module:
    """Two convolutions, one of them normalised."""
    first = [nn.Conv2d(image[0], width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU()]
    second = [nn.Conv2d(width, 2 * width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*first, *second, nn.Linear(2 * width, outputs))
