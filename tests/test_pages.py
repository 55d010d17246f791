"""Pages at the front: links lead somewhere, and commands are ones that dd takes; test_readme.py runs the README's.

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
    """What follows ``python -m dd.run`` in the pages but the README, without the help and the user's own networks."""
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES[1:]]
    found = [match.strip() for text in texts for match in COMMAND.findall(text)]
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
