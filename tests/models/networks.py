"""Networks as users write them, good and bad; the tests name them by ``networks.py:FUNCTION``."""

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(width: int, inputs: int, outputs: int) -> nn.Module:
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


def cnn(width: int, image: tuple[int, int, int], outputs: int) -> nn.Module:
    first = [nn.Conv2d(image[0], width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, nn.Conv2d(width, width, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(outputs))


class Masked(nn.Module):
    """Inputs to a layer of which two never change."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.arange(width) > 1).float())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


def masked(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, width), Masked(width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, outputs)
    )


class OwnNorm(nn.BatchNorm1d):
    """Batch norm, and what nobody knows."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def own_norm(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, width), OwnNorm(width), nn.ReLU(), nn.Linear(width, outputs))


def dropout(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, outputs))


def normed_dropout(width: int, inputs: int, outputs: int) -> nn.Module:
    first = [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*first, nn.Linear(width, outputs, bias=False))


class Deciding(nn.Module):
    """Looks at values, shares weights, and registers its read-out first."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, outputs)
        self.first, self.shared, self.tied = nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, width)
        self.tied.weight = self.shared.weight

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if float(self.first.weight.detach().sum()) > 0:
            h = 1.5 * h
        return self.head(F.dropout(self.tied(torch.relu(self.shared(h))), 0.1, self.training))


def deciding(width: int, inputs: int, outputs: int) -> nn.Module:
    return Deciding(inputs, width, outputs)


def linear(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs, bias=False)


def no_module(width: int, inputs: int, outputs: int) -> int:
    return 3


def other_arguments(width: int, depth: int) -> nn.Module:
    return nn.Linear(width, depth)


def unseeded(width: int, inputs: int, outputs: int) -> nn.Module:
    net = mlp(width, inputs, outputs)
    nn.init.constant_(net[0].weight, random.random())
    return net


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ x.T


def no_linear_layer(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, inputs)), nn.Conv1d(1, outputs, inputs), nn.Flatten())


def changing_shape(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(Product(), nn.LazyLinear(outputs))


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def mixing(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, width), Centred(), nn.Linear(width, outputs))


def softmax(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(mlp(width, inputs, outputs), nn.LogSoftmax(1))


def other_outputs(width: int, inputs: int, outputs: int) -> nn.Module:
    return mlp(width, inputs, outputs + 1)


def flat_images(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.Flatten(), nn.LazyLinear(outputs))


def frozen(width: int, inputs: int, outputs: int) -> nn.Module:
    net = mlp(width, inputs, outputs)
    net[0].requires_grad_(False)
    return net


def tied_readout(width: int, inputs: int, outputs: int) -> nn.Module:
    net = nn.Sequential(nn.Linear(inputs, outputs), nn.Linear(outputs, outputs), nn.Linear(outputs, outputs))
    net[2].weight = net[1].weight
    return net


def misspelt(width: int, inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, widht)  # noqa: F821
