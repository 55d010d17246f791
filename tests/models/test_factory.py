"""Factories by their paths: arguments, sources, digests."""

from __future__ import annotations

from pathlib import Path

import pytest

from dd.models._factory import digest, factory, sources


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "given", "images"),
    [
        ("width, inputs, outputs", (3, 4, 5), False),
        ("outputs, width, inputs", (5, 3, 4), False),
        ("*, width, inputs, outputs, depth=2", (3, 4, 5), False),
        ("k, d, classes", (3, 4, 5), False),
        ("k, image, classes", (3, 4, 5), True),
        ("outputs, image, width", (5, 4, 3), True),
    ],
)
def test_arguments_by_name_or_in_order(tmp_path: Path, arguments: str, given: tuple[int, ...], images: bool) -> None:
    names = [name.split("=")[0] for name in arguments.replace("*, ", "").split(", ")][:3]
    path = write(tmp_path, "net.py", f"def make({arguments}): return ({', '.join(names)})\n")
    found = factory(f"{path}:make")
    assert found(3, 4, 5) == given
    assert found.images is images


@pytest.mark.parametrize(
    "arguments", ["width", "width, inputs", "width, inputs, outputs, depth", "*args", "a, *, b, c"]
)
def test_other_arguments_are_refused(tmp_path: Path, arguments: str) -> None:
    path = write(tmp_path, "net.py", f"def make({arguments}): return None\n")
    with pytest.raises(ValueError, match="it must be a function of"):
        factory(f"{path}:make")


def test_sources_are_those_of_the_folder(tmp_path: Path) -> None:
    main = write(
        tmp_path, "net.py", "import torch\nimport dd\nfrom parts import head\nfrom . import absent\nimport extra.deep"
    )
    write(tmp_path, "parts/__init__.py", "")
    write(tmp_path, "parts/head.py", "import net\n")
    write(tmp_path, "extra/deep.py", "x = 1\n")
    write(tmp_path, "unused.py", "x = 1\n")
    assert list(sources(main)) == ["extra/deep.py", "net.py", "parts/__init__.py", "parts/head.py"]


def test_a_digest_is_of_function_and_source(tmp_path: Path) -> None:
    text = "def make(width, inputs, outputs): return None\n\n\ndef other(width, inputs, outputs): return None\n"
    path = write(tmp_path, "net.py", text)
    first = digest(f"{path}:make")
    assert first == digest(f"{write(tmp_path, 'else/net.py', text)}:make")
    assert first != digest(f"{path}:other")
    write(tmp_path, "net.py", text.replace("None", "0"))
    assert first != digest(f"{path}:make")
    assert factory(f"{path}:make")(1, 2, 3) == 0, "the new version"
    assert factory(f"{path}:make").source == digest(f"{path}:make")
