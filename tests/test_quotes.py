"""docs/command_line.md, "Quotes": each shell's line gives the same arguments, by the rules that its maker publishes.

No Windows is at hand here: the rules are written down below, and the lines are read by them.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

PAGE = Path(__file__).parents[1] / "docs" / "command_line.md"


def c_runtime(line: str) -> list[str]:
    """Arguments that a program gets on Windows.

    "Parsing C command-line arguments" of Microsoft's C reference: spaces and tabs part arguments outside double quotes;
    2n backslashes before a double quote are n of them, one more makes the quote literal; two double quotes within
    quotes are a literal one.
    """
    found, current, started, quoted, at = [], "", False, False, 0
    while at < len(line):
        slashes, quote = re.match(r'(\\*)("?)', line[at:]).groups()  # type: ignore[union-attr]
        if quote:
            current += "\\" * (len(slashes) // 2)
            at += len(slashes) + 1
            if len(slashes) % 2:
                current += '"'
            elif quoted and line[at : at + 1] == '"':
                current, at = current + '"', at + 1
            else:
                quoted = not quoted
            started = True
        elif slashes:
            current, at, started = current + slashes, at + len(slashes), True
        elif line[at] in " \t" and not quoted:
            found += [current] * started
            current, started, at = "", False, at + 1
        else:
            current, started, at = current + line[at], True, at + 1
    assert not quoted, f"a quote is not closed: {line}"
    return found + [current] * started


def cmd(line: str) -> list[str]:
    """Arguments of a line typed in cmd.exe.

    "cmd" of Microsoft's command reference: ``& | < > ^`` are its own outside double quotes, ``%name%`` everywhere. It
    hands the rest to the program as it stands.
    """
    assert "%" not in line
    assert not re.search(r"[&|<>^]", re.sub(r'"[^"]*"', "", line)), f"cmd takes a character for itself: {line}"
    return c_runtime(line)


def powershell(line: str) -> list[str]:
    """Arguments of a line typed in PowerShell 7.

    "about_Parsing" and "about_Quoting_Rules", argument mode: single quotes keep everything, double quotes all but ``$``
    and the backtick; outside of quotes ``, ; ( ) { } | & < >`` have meanings, and so have ``@`` and ``#`` where a word
    begins. PowerShell then writes a line of its own for the program ("about_Parsing", "Passing arguments to native
    commands").
    """
    found, rest = [], line.strip()
    while rest:
        word = re.match(
            r"'((?:[^']|'')*)'(?=\s|$)|\"([^\"$`]*)\"(?=\s|$)|(?![@#])([^\s'\"$`,;(){}|&<>]+)(?=\s|$)", rest
        )
        assert word, f"PowerShell reads more than words at the start of: {rest}"
        single, double, bare = word.groups()
        found.append(single.replace("''", "'") if single is not None else double if double is not None else bare)
        rest = rest[word.end() :].lstrip()
    return c_runtime(subprocess.list2cmdline(found))


SHELLS = {"bash, zsh, fish": shlex.split, "PowerShell": powershell, "cmd": cmd}


def lines() -> dict[str, str]:
    """The line of each shell in the page's table."""
    text = PAGE.read_text(encoding="utf-8").partition("## Quotes")[2]
    cells = [token for token in MarkdownIt("commonmark").enable("table").parse(text) if token.type == "inline"]
    return {
        shell.content: next(part.content for part in line.children or () if part.type == "code_inline")
        for shell, line in pairwise(cells)
        if shell.content in SHELLS
    }


def test_every_shell_gives_the_same_arguments() -> None:
    typed = lines()
    assert typed.keys() == SHELLS.keys()
    expected = ["python", "-m", "dd.run", "-m", "width=range(10,2000,50)", "optimizer=sgd,adam"]
    assert {shell: SHELLS[shell](line) for shell, line in typed.items()} == dict.fromkeys(SHELLS, expected)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_value_with_quotes_is_the_same_in_all(shell: str) -> None:
    (typed,) = re.findall(r"In all shells, .+: `(.+)`", PAGE.read_text(encoding="utf-8"))
    assert SHELLS[shell](f"python -m dd.run {typed}")[-1] == "data.path='my data.csv'"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('a "b c" d', ["a", "b c", "d"]),
        (r'a\\\b d"e f"g h', [r"a\\\b", "de fg", "h"]),
        (r"a\\\"b c d", [r"a\"b", "c", "d"]),
        (r'a\\\\"b c" d e', [r"a\\b c", "d", "e"]),
        ('a"b"" c d"', ['ab" c d']),
        ('"" b', ["", "b"]),
    ],
)
def test_the_rules_of_the_c_runtime_are_those_of_its_page(line: str, words: list[str]) -> None:
    """The examples of "Parsing C command-line arguments", the last with its quotes closed, and an empty one."""
    assert c_runtime(line) == words


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("PowerShell", "python -m dd.run -m width=range(10,2000,50)"),
        ("PowerShell", "python -m dd.run -m optimizer=sgd,adam"),
        ("PowerShell", 'python -m dd.run "data.seed=${seed}"'),
        ("cmd", "python -m dd.run -m a=b&c"),
    ],
)
def test_a_line_that_a_shell_reads_otherwise_is_found(shell: str, line: str) -> None:
    with pytest.raises(AssertionError):
        SHELLS[shell](line)


def test_single_quotes_do_not_quote_in_cmd() -> None:
    assert cmd("python 'a b'") == ["python", "'a", "b'"]
