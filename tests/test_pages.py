"""README.md and docs/faq.md: their commands are ones that dd takes, and their links lead somewhere.

The site itself is built by ``make docs``, where any warning is an error.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dd.cli.compose import compose_runs

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/faq.md", "docs/index.md")
COMMAND = re.compile(r"python -m dd\.run((?:'[^']*'|[^`#'\n])*)")


def commands() -> list[str]:
    """What follows ``python -m dd.run`` in the pages, without the help and the user's own networks."""
    found = [match.strip() for page in PAGES for match in COMMAND.findall((ROOT / page).read_text(encoding="utf-8"))]
    return sorted({command for command in found if "--help" not in command and "model.path" not in command})


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_pages_is_one_that_dd_takes(command: str) -> None:
    words = shlex.split(command)
    runs = compose_runs(*(word for word in words if word != "-m"))
    assert len(runs) == 1 or "-m" in words


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target
