"""``dd-lab``: every command of dd under one name, for an installed dd in any working folder."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

COMMANDS = {
    "run": ("dd.run", "one run; with -m a sweep"),
    "presets": ("dd.presets", "the presets: questions, sizes, times"),
    "experiments": ("dd.experiments", "presets one after the other"),
    "figures": ("analysis.figures", "draw every table, and write the report"),
    "peaks": ("analysis.peaks", "judge the peak of every curve of a table"),
    "claim": ("analysis.claim", "the verdict on the claim, in words"),
    "export": ("analysis.export", "curves to trackers and CSV; a table as a Hugging Face data set"),
    "theory": ("dd.theory", "predictions of random-matrix theory as CSV"),
    "results": ("dd.results", "verify, mend, compact and merge tables"),
    "reproduce": ("dd.reproduce", "whether this machine gives the numbers that come with dd"),
}
"""Command -> module, and what it does."""

USAGE = 2
"""Exit code for bad input."""


def ours() -> Path | None:
    """Folder of the packages ``dd`` and ``analysis`` that this file belongs to; None where ``dd`` is another's."""
    spec = find_spec("dd")
    found = [str(place) for place in (spec and spec.submodule_search_locations) or ()]
    for place in (*map(Path, found), Path(__file__).parent / "dd"):
        if (place / "cli" / "sweeps.py").is_file():
            return place.parent
    return None


def usage() -> str:
    """What ``dd-lab --help`` prints."""
    lines = [f"    dd-lab {name:<12} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["dd-lab: a laboratory for double descent", "", *lines, "", "dd-lab COMMAND --help tells more."])


def main() -> int:
    """Run a command as ``python -m`` would, whatever packages the working folder has.

    Returns:
        2 for a command that there is not; commands end the program with their own exit code.
    """
    name, arguments = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    place = ours()
    if place is None:
        spec = find_spec("dd")
        where = spec.origin if spec else "nowhere"
        print(
            f"dd-lab: the package dd at {where} is another one of this name, and has replaced dd-lab's; "
            "pip uninstall dd, then pip install --force-reinstall --no-deps dd-lab",
            file=sys.stderr,
        )
        return USAGE
    sys.path.insert(0, str(place))  # a folder named analysis or dd in the working folder is not ours
    if name == "--version":
        from dd import __version__

        print(f"dd-lab {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"dd-lab: no command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return USAGE
    module, _ = COMMANDS[name]
    sys.argv = [f"dd-lab {name}", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
