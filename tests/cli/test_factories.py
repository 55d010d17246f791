"""Factories given from Python, from files, notebooks and scripts."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from dd.cli.factories import path_of
from dd.errors import ConfigError, StoreError
from dd.models._factory import factory
from tests.models import networks

CELL = """
import math
import torch.nn.functional as F
from torch import nn
from torch.nn import Linear as Layer

SCALES = {"a": (1, 2.5), "b": None}

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = Layer(width, width)

    def forward(self, x):
        return scaled(F.relu(self.layer(x)))

def scaled(x):
    return x * SCALES["a"][1] / math.pi

def make(width, inputs, outputs):
    return nn.Sequential(Layer(inputs, width), Block(width), Layer(width, outputs))

def closing(depth):
    def made(width, inputs, outputs):
        return nn.Sequential(*[Layer(inputs, outputs)] * depth)
    return made

closed, thing = closing(2), object()
nameless = lambda width, inputs, outputs: Layer(inputs, outputs)

def hidden(width, inputs, outputs):
    return thing
"""


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module as a notebook's ``__main__`` is: its source is known, and it is in no file."""
    module = ModuleType("__main__")
    linecache.cache["<cell>"] = (len(CELL), None, CELL.splitlines(keepends=True), "<cell>")
    monkeypatch.setitem(sys.modules, "__main__", module)
    module.__file__ = "<cell>"
    exec(compile(CELL, "<cell>", "exec"), vars(module))
    return module


def test_a_function_of_a_notebook_is_written_with_what_it_uses(cell: ModuleType, tmp_path: Path) -> None:
    path = path_of(cell.make, tmp_path / "models")
    text = Path(path.rpartition(":")[0]).read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if "import" in line] == [
        "from torch.nn.modules.linear import Linear as Layer", "import math", "import torch.nn as nn",
        "import torch.nn.functional as F",
    ]  # fmt: skip
    assert "hidden" not in text
    torch.manual_seed(0)
    theirs = factory(path)(3, 4, 5)
    torch.manual_seed(0)
    ours = cell.make(3, 4, 5)
    x = torch.randn(2, 4)
    assert torch.equal(ours(x), theirs(x))
    assert path_of(cell.make, tmp_path / "models") == path
    assert len(list((tmp_path / "models").glob("*.py"))) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("closed", r"model=made: uses variables of a function around it \(depth\); put the function into a file"),
        ("nameless", "a lambda: has no name"),
        ("hidden", "uses thing, a object, which dd cannot write down"),
        ("SCALES", "model=dict: must be a function"),
    ],
)
def test_what_cannot_be_written_down(cell: ModuleType, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        path_of(getattr(cell, name), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_function_of_a_file_is_named_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(networks.__file__).parent)
    assert path_of(networks.mlp, tmp_path) == "networks.py:mlp"
    monkeypatch.chdir(tmp_path)
    assert path_of(networks.mlp, tmp_path) == f"{networks.__file__}:mlp"
    assert path_of("mine.py:make", tmp_path) == "mine.py:make"


def test_a_folder_that_cannot_be_made_is_one_line(cell: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file", encoding="utf-8")
    with pytest.raises(StoreError, match=r"^results_dir: cannot write the network to .*models"):
        path_of(cell.make, tmp_path / "models")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
