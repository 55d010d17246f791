"""``python -m dd.run``: one run, or with ``-m`` a sweep."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from dd.errors import ConfigError, DDError, RunsFailed, Stop
from dd.executors.server import warm_up
from dd.executors.signals import exit_code
from dd.task import conf_dir, task

USAGE, FAILED = 2, 1
"""Exit codes: bad input, a run failed."""


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
    if arguments is not None:
        sys.argv[1:] = list(arguments)
    if {"-h", "--help"} & set(sys.argv[1:]):
        from dd.help import help_text

        print(help_text())
        return 0
    warm_up(sys.argv[1:])
    verbose = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here instead of being printed by Hydra
    try:
        try:
            check_plugins(sys.argv[1:])
            hydra_main()
        except Stop as stop:
            raise stop.error from None
    except RunsFailed:
        return FAILED
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    except (DDError, HydraException, OmegaConfBaseException) as error:
        if verbose:
            raise
        print(f"dd: {one_line(error, sys.argv[1:])}", file=sys.stderr)
        return USAGE
    except ValueError as error:
        if verbose or "override must be a string" not in str(error):
            raise
        print(f"dd: a group takes a name, not null ({' '.join(str(error).split())})", file=sys.stderr)
        return USAGE
    finally:
        if not verbose:
            del os.environ["HYDRA_FULL_ERROR"]
    return 0


def check_plugins(arguments: Sequence[str]) -> None:
    """Refuse ``hydra.launcher=NAME``, on which Hydra fails without a word; a group is chosen with a slash.

    Raises:
        ConfigError: it is there.
    """
    for argument in arguments:
        key, equals, value = argument.partition("=")
        group = key.lstrip("+~")
        if equals and group in ("hydra.launcher", "hydra.sweeper"):
            raise ConfigError(group, value, f"is chosen by {group.replace('.', '/')}=NAME", "the command line")


def one_line(error: BaseException, arguments: Sequence[str]) -> str:
    """Tell an error of dd, Hydra or OmegaConf in one line that says what is allowed.

    Args:
        error: what was raised.
        arguments: the command line.
    """
    if isinstance(error, DDError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        choices = [option for option in error.options if not option.startswith("_")]  # those are shared parts of others
        return str(ConfigError(group, name, "must be one of " + ", ".join(choices), "the command line"))
    if isinstance(error, OverrideParseException):
        reason = " ".join(str(error).split("See https")[0].split())
        return f"{error.override} (from the command line): {reason}"
    text = " ".join(str(error).split())
    if "'scale'" in text and "No match in the defaults list" in text:
        allowed = "only presets of the study have one: with -m +experiment=iterations, for example"
        return str(ConfigError("scale", text.rpartition("scale=")[2], allowed, "the command line"))
    cause = error.__cause__
    for key in (a.split("=")[0].lstrip("+~") for a in arguments if "=" in a):
        if f"'{key}'" in text or f" {key}" in text or (cause is not None and key.split(".")[-1] in str(cause)):
            from dd.help import known_keys

            if key not in known_keys():
                near = difflib.get_close_matches(key, known_keys(), n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(near)}?" if near else "python -m dd.run --help lists the keys"
                return f"{key} (from the command line): no such key; {hint}"
    return text


if __name__ == "__main__":
    sys.exit(main())
