"""The version: pyproject.toml, dd, the command line, CITATION.cff and CHANGELOG.md agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import dd
from tests.helpers import started

ROOT = Path(__file__).parents[1]
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
RELEASE = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def test_every_place_has_the_newest_version_of_the_changelog() -> None:
    version, date = RELEASE.findall(CHANGES)[0]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert dd.__version__ == project["version"] == cited["version"] == version
    assert str(cited["date-released"]) == date


@pytest.mark.parametrize(
    ("module", "text"), [("dd.run", f"dd {dd.__version__} "), ("dd_lab", f"dd-lab {dd.__version__}")]
)
def test_the_command_line_says_it(module: str, text: str, tmp_path: Path) -> None:
    done = started(module, "--version", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(text)


def test_what_is_not_released_comes_first_and_releases_fall() -> None:
    first, *rest = re.findall(r"^## .*$", CHANGES, re.MULTILINE)
    assert first == "## Unreleased"
    assert rest
    assert all(RELEASE.fullmatch(heading) for heading in rest)
    released = [tuple(map(int, version.split("."))) for version, _ in RELEASE.findall(CHANGES)]
    assert released == sorted(set(released), reverse=True)


def test_links_of_the_changelog_lead_to_its_sections() -> None:
    titles = re.findall(r"^### (.*)$", CHANGES, re.MULTILINE)
    sections = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}  # as GitHub names them
    linked = re.findall(r"\]\(#([\w-]+)\)", CHANGES)
    assert linked
    assert set(linked) <= sections
