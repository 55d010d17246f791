"""The blocks of docs/extending.md: new files, edits and commands."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of the page.

    Attributes:
        kind: ``python``, ``yaml``, ``diff`` or ``sh``.
        path: of a new file; empty for edits and commands.
        text: the new file, the edit, or the commands.
    """

    kind: str
    path: str
    text: str


def blocks() -> list[Block]:
    """All blocks of the page, in order."""
    found = []
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind in ("python", "yaml"):
            first, _, rest = text.partition("\n")
            assert re.fullmatch(r"# \S+\.(py|yaml)", first), f"the first line of a block is the file's path: {first}"
            found.append(Block(kind, first.removeprefix("# "), rest))
        else:
            found.append(Block(kind, "", text))
    return found


def example(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A new file of the page as a module of that name, for as long as the test lasts."""
    (text,) = (block.text for block in blocks() if block.path == path)
    module = ModuleType(path.removesuffix(".py").replace("/", "."))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, path, "exec"), vars(module))
    return module
