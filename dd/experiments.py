"""``python -m dd.experiments``: presets one after the other in one process, what ``make experiments`` does."""

from __future__ import annotations

import fnmatch
import sys
import time
from collections.abc import Sequence

from dd.cli.compose import compose_jobs
from dd.cli.conf import conf_dir
from dd.cli.terminal import command_of, steady
from dd.errors import FAILED, USAGE, ConfigError, DDError, say
from dd.workers.server import warm_up
from dd.workers.signals import exit_code, leave_at_once

HELP = """\
python -m dd.experiments [preset ...] [key=value ...]

Run presets one after the other; without names all but the long ones below. A name may be a pattern. Overrides go to
each. What the tables have is not computed again, so a stopped run goes on by the same command. python -m dd.presets
says what each asks, and how long it takes.
    python -m dd.experiments                            every preset but the long ones
    python -m dd.experiments iterations optimizer       two of them
    python -m dd.experiments claim scale=full           one at the full scale
    python -m dd.experiments rmt_width_digits           a long one
    python -m dd.experiments 'claim_*' 'nets_*'         those whose names begin so
"""

STUDY = ("claim_", "nets_", "tuned_")
"""Presets whose names begin so are the hour that the verdict asks for beside the others: ``make study``."""

LONG = ("rmt_", "liu_", "nakkiran_", *STUDY)
"""Presets whose names begin so take long, or need files that are not everywhere; they run only by name."""


def presets() -> list[str]:
    """Names of all presets, in alphabetical order."""
    return sorted(path.stem for path in (conf_dir() / "experiment").glob("[!_]*.yaml"))


def chosen(patterns: Sequence[str]) -> list[str]:
    """Presets that the patterns name, in their order and each once; without patterns all but the long ones.

    Raises:
        ConfigError: a pattern that names none.
    """
    if not patterns:
        return [name for name in presets() if not name.startswith(LONG)]
    found: list[str] = []
    for pattern in patterns:
        named = fnmatch.filter(presets(), pattern)
        if not named:
            raise ConfigError("preset", pattern, "must be one of " + ", ".join(presets()), "the command line")
        found += [name for name in named if name not in found]
    return found


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
    patterns = [a for a in arguments if "=" not in a]
    overrides = [a for a in arguments if "=" in a]
    start, failed = time.monotonic(), 0
    warm_up(["-m", *overrides])
    from dd.cli.sweeps import run_sweep

    try:
        names = chosen(patterns)
        for i, name in enumerate(names, 1):
            print(f"== {name} ({i}/{len(names)}, {time.monotonic() - start:.0f} s)", flush=True)
            line = [f"+experiment={name}", *overrides]
            runs, settings = compose_jobs(line)
            failed += run_sweep(runs, settings, command_of(["-m", *line])).failed
    except DDError as error:
        say(str(error))
        return USAGE
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    print(f"== done, {time.monotonic() - start:.0f} s" + (f", {failed} runs failed" if failed else ""))
    return FAILED if failed else 0


if __name__ == "__main__":
    leave_at_once()
    steady()
    sys.exit(main())
