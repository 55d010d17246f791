"""Every source file has tests: tests/<room>/test_<file>.py, or a line ``Covers: <path>, ...`` in another test file."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def covered() -> set[str]:
    """Paths named by the lines ``Covers:`` of all test files; a folder stands for the files in it."""
    found: set[str] = set()
    for test in (ROOT / "tests").rglob("test_*.py"):
        for names in re.findall(r"^Covers: (.+)$", test.read_text(encoding="utf-8"), re.MULTILINE):
            for name in names.rstrip(".").split(", "):
                path = ROOT / name
                assert path.exists(), f"{test.relative_to(ROOT)} covers {name}, which is not there"
                files = path.glob("*.py") if path.is_dir() else [path]
                found |= {file.relative_to(ROOT).as_posix() for file in files}
    return found


def test_every_source_file_has_its_tests() -> None:
    named, missing = covered(), []
    for source in sorted([*(ROOT / "dd").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")]):
        path = source.relative_to(ROOT)
        folder = path.parent.relative_to("dd") if path.parts[0] == "dd" else path.parent
        own = ROOT / "tests" / folder / f"test_{source.stem.strip('_')}.py"
        if source.name != "__init__.py" and not own.is_file() and path.as_posix() not in named:
            missing.append(path.as_posix())
    assert not missing, f"no tests/…/test_<file>.py and no line 'Covers:' for {', '.join(missing)}"
