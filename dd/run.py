"""``python -m dd.run``: one run, or with ``-m`` a sweep."""

from __future__ import annotations

from dd.workers.signals import exit_code, leave, leave_at_once

if __name__ == "__main__":
    leave_at_once()  # before the imports below, which take a while

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from dd.cli.conf import conf_dir
from dd.cli.grammar import as_typed
from dd.cli.loading import COMMAND_LINE, is_foreign, one_line
from dd.cli.task import TYPED, task
from dd.cli.terminal import steady
from dd.errors import FAILED, USAGE, ConfigError, DDError, RunsFailed, Stop, printable, say
from dd.workers.server import warm_up


def hydra_main() -> None:
    """Let Hydra parse the command line, compose and call the task or the launcher."""
    # Hydra 1.4 deprecates version_base, 1.3 changes the working directory without it
    version = tuple(int(part) for part in hydra.__version__.split(".")[:2])
    base = {"version_base": "1.3"} if version < (1, 4) else {}
    hydra.main(config_path=str(conf_dir()), config_name="config", **base)(task)()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; ``sys.argv`` if None.

    Returns:
        0; 1 if any run failed; 2 for bad input, before any run starts; 128 and the signal's number
        after an interruption (130: Ctrl-C).
    """
    typed = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(typed):
        from dd.cli.help import help_text

        print(help_text(typed))
        return 0
    if "--version" in typed:
        from dd import __version__

        print(f"dd {__version__} (Hydra {hydra.__version__})")
        return 0
    warm_up(typed)
    verbose = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        with _own_hydra(typed):
            try:
                check_options(typed)
                hydra_main()
            except Stop as stop:
                raise stop.error from None
    except RunsFailed:
        return FAILED
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    except Exception as error:
        if verbose or not (isinstance(error, DDError | HydraException | OmegaConfBaseException) or is_foreign(error)):
            raise
        say(one_line(error, typed))
        return USAGE
    return 0


@contextmanager
def _own_hydra(typed: Sequence[str]) -> Iterator[None]:
    """Hydra's global state, the program's arguments, logging and argparse are the caller's again afterwards.

    Args:
        typed: the command line.
    """
    spelled = [*map(as_typed, typed)]
    this, node = GlobalHydra.instance(), HydraConfig.instance()
    root = logging.getLogger()
    before = this.hydra, node.cfg, sys.argv, os.environ.get("HYDRA_FULL_ERROR"), root.handlers[:], root.level
    token = TYPED.set(typed)
    this.clear()
    node.cfg = None
    sys.argv = [*sys.argv[:1], *spelled]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here instead of being printed by Hydra
    try:
        with _unchecked_help():
            yield
    finally:
        this.hydra, node.cfg, sys.argv, full, root.handlers[:], level = before
        root.setLevel(level)
        TYPED.reset(token)
        os.environ.pop("HYDRA_FULL_ERROR")
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full


@contextmanager
def _unchecked_help() -> Iterator[None]:
    """From Python 3.14 argparse checks every help string; Hydra 1.3 has a help that becomes text only when printed."""
    place, name = argparse._ActionsContainer, "_check_help"
    check = getattr(place, name, None)
    if check is None:  # before 3.14
        yield
        return

    def check_text(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        if isinstance(action.help, str):
            check(parser, action)

    setattr(place, name, check_text)
    try:
        yield
    finally:
        setattr(place, name, check)


def check_options(arguments: Sequence[str]) -> None:
    """Refuse options that Hydra does not have, and what it fails on without a word.

    Raises:
        ConfigError: an unknown option; ``hydra.launcher=NAME`` (a group is chosen with a slash).
    """
    for argument in arguments:
        key, equals, value = argument.partition("=")
        group = key.lstrip("+~")
        if equals and group in ("hydra.launcher", "hydra.sweeper"):
            raise ConfigError(group, value, f"is chosen by {group.replace('.', '/')}=NAME", COMMAND_LINE)
    parser = get_args_parser()

    def refuse(message: str) -> None:
        # argparse takes no option between two overrides
        hint = "write -m and other options first" if "=" in message else "python -m dd.run --help lists what there is"
        raise DDError(f"{printable(' '.join(message.split()))}; {hint}")

    parser.error = refuse  # type: ignore[assignment,method-assign]
    parser.parse_args(list(arguments))


if __name__ == "__main__":
    steady()
    leave(main())
