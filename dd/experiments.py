"""``python -m dd.experiments``: presets one after the other in one process, what ``make experiments`` does."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from dd.cli.compose import compose_jobs
from dd.cli.conf import conf_dir
from dd.cli.task import command_of
from dd.cli.terminal import steady
from dd.errors import FAILED, USAGE, ConfigError, DDError
from dd.executors.server import warm_up
from dd.executors.signals import exit_code, leave_at_once

HELP = """\
python -m dd.experiments [preset ...] [key=value ...]

Run presets one after the other; without names all but the long ones below. Overrides go to each. What the
tables have is not computed again, so a stopped run goes on by the same command.
    python -m dd.experiments                            every preset but the long ones
    python -m dd.experiments iterations optimizer       two of them
    python -m dd.experiments claim scale=full           one at the full scale
    python -m dd.experiments rmt_width_digits           a long one
"""

LONG = ("rmt_", "liu_", "nakkiran_", "tuned_")
"""Presets whose names begin so take long, or need files that are not everywhere; they run only by name."""


def presets() -> list[str]:
    """Names of all presets, in alphabetical order."""
    return sorted(path.stem for path in (conf_dir() / "experiment").glob("[!_]*.yaml"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 if any run failed; 2 for bad input; 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(arguments):
        short = [name for name in presets() if not name.startswith(LONG)]
        print(HELP + "\npresets: " + ", ".join(short))
        print("\nlong ones: " + ", ".join(name for name in presets() if name.startswith(LONG)))
        return 0
    names = [a for a in arguments if "=" not in a]
    overrides = [a for a in arguments if "=" in a]
    start, failed = time.monotonic(), 0
    warm_up(["-m", *overrides])
    from dd.cli.sweeps import run_sweep

    try:
        for name in names:
            if name not in presets():
                raise ConfigError("preset", name, "must be one of " + ", ".join(presets()), "the command line")
        names = names or [name for name in presets() if not name.startswith(LONG)]
        for i, name in enumerate(names, 1):
            print(f"== {name} ({i}/{len(names)}, {time.monotonic() - start:.0f} s)", flush=True)
            line = [f"+experiment={name}", *overrides]
            runs, settings = compose_jobs(line)
            failed += run_sweep(runs, settings, command_of(["-m", *line])).failed
    except DDError as error:
        print(f"dd: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    print(f"== done, {time.monotonic() - start:.0f} s" + (f", {failed} runs failed" if failed else ""))
    return FAILED if failed else 0


if __name__ == "__main__":
    leave_at_once()
    steady()
    sys.exit(main())
