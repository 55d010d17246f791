"""Hydra's composition apart from Hydra's global state, and what it refuses told in one line.

``hydra.compose`` needs ``GlobalHydra``, of which a process has one: another Hydra application's, if dd is called inside
one. The loader beneath it needs none, so that any number of them work side by side.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString, Sweep
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import setup_globals
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.types import RunMode
from hydra.version import VersionBase, setbase
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dd.cli.conf import conf_dir
from dd.errors import ConfigError, DDError, printable

LOCK = threading.Lock()
"""Held while Hydra looks for plugins: it executes their modules, once a process."""

FOREIGN = ("hydra", "omegaconf", "antlr4", "yaml")
"""Packages that read what the user typed. Whatever they raise is about that, and no fault of dd."""

COMMAND_LINE = "the command line"

REFUSED = re.compile(r"Could not override '([^']+)'")
"""How Hydra names the key that the configuration does not have."""


class NotComposedError(ConfigError):
    """Input that Hydra or OmegaConf refuse, told in one line."""

    def __init__(self, line: str) -> None:
        Exception.__init__(self, line)
        self.key, self.value, self.allowed, self.origin = "", None, line, COMMAND_LINE


def own_loader() -> ConfigLoader:
    """A loader of dd's configuration that shares nothing with other Hydra applications of this process."""
    with LOCK:
        Plugins.instance()
        if hydra.__version__ < "1.4" and VersionBase not in Singleton._instances:
            setbase("1.3")  # Hydra 1.3 takes version 1.1's habits where nobody has said a version
        setup_globals()
        search_path = create_config_search_path(str(conf_dir()))
    return ConfigLoaderImpl(search_path)


def load(loader: ConfigLoader, overrides: Sequence[str]) -> DictConfig:
    """Compose dd's configuration, its ``hydra`` node included.

    Args:
        loader: see :func:`own_loader`.
        overrides: ``key=value``, no sweeps.
    """
    config = loader.load_configuration("config", list(overrides), RunMode.RUN, from_shell=False)
    assert isinstance(config, DictConfig)
    return config


@contextmanager
def told(typed: Sequence[str]) -> Iterator[None]:
    """Whatever is raised here by Hydra and what it is built on is a ConfigError of one line.

    Args:
        typed: the command line.
    """
    try:
        yield
    except DDError:
        raise
    except Exception as error:
        if not is_foreign(error):
            raise
        # in a notebook, sixty lines of what Hydra did would hide the one that counts
        raise NotComposedError(one_line(error, typed)) from None


def is_foreign(error: BaseException) -> bool:
    """Whether an error was raised by Hydra or what it is built on (or deeper down, on their behalf), not by dd."""
    foreign = False
    trace = error.__traceback__
    while trace is not None:
        package = trace.tb_frame.f_globals.get("__name__", "").split(".")[0]
        foreign = package in FOREIGN or (foreign and package != "dd")
        trace = trace.tb_next
    return foreign


def one_line(error: BaseException, arguments: Sequence[str]) -> str:
    """Tell an error of dd, Hydra or OmegaConf in one line that says what is allowed.

    Args:
        error: what was raised.
        arguments: the command line.
    """
    if isinstance(error, DDError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        choices = [option for option in error.options or _files(group) if not option.startswith("_")]
        if choices:
            return str(ConfigError(group, name, "must be one of " + ", ".join(choices), COMMAND_LINE))
    if isinstance(error, OverrideParseException):
        reason = _words(str(error).split("See https")[0])
        if "LexerNoViableAlt" in reason:
            reason = "cannot be read; put quotes around what is no plain word or number"
        return f"{printable(error.override) or repr('')} (from {COMMAND_LINE}): {reason}"
    if isinstance(error, RecursionError):
        return f"{printable(' '.join(arguments))} (from {COMMAND_LINE}): nested too deeply"
    if wrong := _wrong_choice(arguments):
        return wrong
    text = _words(str(error)) or type(error).__name__
    if "'scale'" in text and "No match in the defaults list" in text:
        allowed = "only presets of the study have one: with -m +experiment=iterations, for example"
        return str(ConfigError("scale", text.rpartition("scale=")[2], allowed, COMMAND_LINE))
    given = [a for a in arguments if "=" in a]
    if isinstance(error, OmegaConfBaseException):
        # the key whose value cannot be followed; the only reference if OmegaConf does not know
        at = [a for a in given if a.split("=")[0].lstrip("+~") == error.full_key] or [a for a in given if "${" in a]
        return f"{printable(at[0])} (from {COMMAND_LINE}): {text}" if len(at) == 1 else text
    cause = error.__cause__
    if cause is not None:
        text = f"{text}: {_words(str(cause))}" if str(error).strip() else _words(str(cause))
    if refused := REFUSED.search(text):
        given = [a for a in given if a.split("=")[0].lstrip("+~") == refused[1]]
    for argument in given:
        key = argument.split("=")[0].lstrip("+~")
        if f"'{key}'" in text or f" {key}" in text or (cause is not None and key.split(".")[-1] in str(cause)):
            from dd.cli.choices import hint, known_keys
            from dd.runs.registry import owners

            if key == "experiment":
                return str(ConfigError(key, argument.partition("=")[2], f"a preset is +{argument}", COMMAND_LINE))
            if key not in known_keys() and not key.startswith("hydra"):
                return f"{printable(key) or repr('')} (from {COMMAND_LINE}): no such key; {hint(key)}"
            if refused and owners(key):
                return f"{printable(key)} (from {COMMAND_LINE}): {hint(key)}"
            if argument not in text:
                return f"{printable(argument)} (from {COMMAND_LINE}): {text}"
    return text


def _files(group: str) -> list[str]:
    """Names of the files of a group; empty where there is no such group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("[!_]*.yaml")) if group else []


def _wrong_choice(arguments: Sequence[str]) -> str | None:
    """A group that was given something else than a name, on which Hydra fails in its own ways; else None."""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        group = key.lstrip("+")
        if not equals or not group.isidentifier() or not (conf_dir() / group).is_dir():
            continue
        try:
            parsed = OverridesParser.create().parse_override(argument)
        except Exception:
            continue  # told by whoever parses it
        listed = parsed.value()
        found = listed.list if isinstance(listed, ChoiceSweep) else [listed]
        if any(not isinstance(one, str | QuotedString | dict) and not isinstance(one, Sweep | Glob) for one in found):
            return str(ConfigError(group, value, "must be one of " + ", ".join(_files(group)), COMMAND_LINE))
    return None


def _words(text: str) -> str:
    """A message in one line, without what OmegaConf adds about its classes."""
    lines = [
        line
        for line in text.splitlines()
        if not line.strip().startswith(("full_key:", "object_type=", "reference_type="))
    ]
    return printable(" ".join(" ".join(lines).split()))
