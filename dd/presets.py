"""``python -m dd.presets``: which presets there are, and what each sweeps."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

from dd.cli import presets
from dd.cli.terminal import ended, shell_line, steady
from dd.errors import ConfigError
from dd.packs.overview import axes_of_sweep, lasting

HELP = """\
python -m dd.presets [preset ...]

List the presets: what each asks, its runs, and the estimated time on one core. With names: of each its axes, its
command and its figures.
    python -m dd.presets
    python -m dd.presets iterations
    python -m dd.presets --write                        for those who change dd: plan all, and write what comes with it
"""


def listing() -> str:
    """One line a preset."""
    asked = presets.questions()
    sizes = {name: presets.size(name) for name in asked}
    wide = max(map(len, asked))
    lines = [f"{'preset'.ljust(wide)}    runs  one core  question"]
    for name, question in asked.items():
        time = lasting(sizes[name].seconds)
        lines.append(f"{name.ljust(wide)}  {sizes[name].runs:6d}  {time:>8}  {question}")
    page, sweep = shell_line("dd.presets", ["NAME"]), shell_line("dd.run", ["-m", "+experiment=NAME"])
    return "\n".join([*lines, "", f"{page} shows axes and command; {sweep} runs one"])


def page(name: str) -> str:
    """Everything about one preset.

    Raises:
        ConfigError: there is none of that name.
    """
    asked = presets.questions()
    if name not in asked:
        near = difflib.get_close_matches(name, asked, n=3)
        allowed = f"did you mean {' or '.join(near)}?" if near else f"{shell_line('dd.presets', [])} lists them"
        raise ConfigError("preset", name, allowed, "the command line")
    size, grids = presets.size(name), presets.grids(name)
    lines = [f"{name}: {asked[name]}", "", *presets.notes(name)]
    lines += [""] * (lines[-1] != "")
    lines.append(f"{size.runs} runs, about {lasting(size.seconds)} on one core")
    for number, grid in enumerate(grids, 1):
        lines += [f"grid {number}"] * (len(grids) > 1)
        pairs = (axis.partition("=") for axis in grid)
        lines += axes_of_sweep({key: values for key, _, values in pairs})
    lines += ["", f"command  {shell_line('dd.run', ['-m', f'+experiment={name}'])}"]
    lines.append(f"figures  {shell_line('analysis.figures', [])}: figures/{name}*.png and figures/index.html")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 2 for bad input; 130 after Ctrl-C.
    """
    typed = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(typed):
        print(HELP)
        return 0
    return ended(lambda: _run(typed))


def _run(typed: Sequence[str]) -> int:
    """Do what the arguments ask for; returns the exit code."""
    if "--write" in typed:
        presets.write()
        return 0
    print("\n\n".join(map(page, typed)) if typed else listing())
    return 0


if __name__ == "__main__":
    steady()
    sys.exit(main())
